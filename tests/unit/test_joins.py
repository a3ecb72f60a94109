"""Runs that join a pending version, each process for itself."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from artfs.errors import Busy
from artfs.pending.draft import Draft
from artfs.store import owners
from artfs.store.owners import Owner
from artfs.volume.volume import Volume

ELSEWHERE = Owner(pid=1, host="elsewhere", boot="another one")


@pytest.fixture
def draft(tmp_path: Path) -> Iterator[Draft]:
    with Volume.init(tmp_path / "volume") as volume:
        yield volume.start(volume.catalog.create("model"), b"job").draft


def dead() -> Owner:
    child = subprocess.Popen(["sleep", "60"])
    owner = owners.process(child.pid)
    child.kill()
    child.wait()
    return owner


def test_each_process_leaves_for_itself(draft: Draft) -> None:
    ours = owners.this_process()
    draft.join("run", ours)
    draft.join("run", ours)
    draft.join("run", ELSEWHERE)
    draft.leave("run", ours)
    assert draft.joined() == ["run"]
    draft.leave("run", ours)
    draft.leave("run", ELSEWHERE)
    assert draft.joined() == []
    assert draft.still_joined() is None


def test_by_hand_all_leave_that_are_not_known_to_run(draft: Draft) -> None:
    ours = owners.this_process()
    for process in (ours, ELSEWHERE, dead(), None):
        draft.join("run", process)
    draft.leave("run")
    assert draft.joined() == ["run"]
    with pytest.raises(Busy, match=f"goes on in process {ours.pid}"):
        draft.leave("run")
    draft.leave("run", ours)
    assert draft.joined() == []
    draft.join("run", ELSEWHERE)
    draft.leave("run")
    draft.leave("run")
    assert draft.joined() == []


def test_a_killed_process_is_told_until_its_run_goes_on(draft: Draft) -> None:
    sibling = subprocess.Popen(["sleep", "60"])
    time.sleep(0.05)  # the kernel counts starts in hundredths of a second
    killed = dead()
    draft.join("run", killed)
    refusal = draft.still_joined()
    assert refusal is not None
    assert refusal.killed == (f"run of {killed}",)
    # One that ran at the same time does not speak for it; one that began later does.
    draft.join("run", owners.process(sibling.pid))
    draft.leave("run", owners.process(sibling.pid))
    assert draft.joined() == ["run"]
    later = subprocess.Popen(["sleep", "60"])
    draft.join("run", owners.process(later.pid))
    draft.leave("run", owners.process(later.pid))
    assert draft.joined() == []
    for child in (sibling, later):
        child.kill()
        child.wait()
