"""Runs that join a pending version, each process on its own."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from artfs.errors import Busy
from artfs.pending.pending_version import PendingVersion
from artfs.store import owners
from artfs.store.owners import Owner
from artfs.volume.volume import Volume

ELSEWHERE = Owner(pid=1, host="elsewhere", boot="another one")


@pytest.fixture
def pending_version(tmp_path: Path) -> Iterator[PendingVersion]:
    with Volume.init(tmp_path / "volume") as volume:
        yield volume.start(volume.catalog.create("model"), b"job").pending_version


def dead() -> Owner:
    child = subprocess.Popen(["sleep", "60"])
    owner = owners.process(child.pid)
    child.kill()
    child.wait()
    return owner


def test_each_process_leaves_on_its_own(pending_version: PendingVersion) -> None:
    ours = owners.this_process()
    pending_version.join("run", ours)
    pending_version.join("run", ours)
    pending_version.join("run", ELSEWHERE)
    pending_version.leave("run", ours)
    assert pending_version.joined() == ["run"]
    pending_version.leave("run", ours)
    pending_version.leave("run", ELSEWHERE)
    assert pending_version.joined() == []
    assert pending_version.still_joined() is None


def test_leave_by_hand_removes_all_processes_not_known_to_run(pending_version: PendingVersion) -> None:
    ours = owners.this_process()
    for process in (ours, ELSEWHERE, dead(), None):
        pending_version.join("run", process)
    pending_version.leave("run")
    assert pending_version.joined() == ["run"]
    with pytest.raises(Busy, match=f"is running in process {ours.pid}"):
        pending_version.leave("run")
    pending_version.leave("run", ours)
    assert pending_version.joined() == []
    pending_version.join("run", ELSEWHERE)
    pending_version.leave("run")
    pending_version.leave("run")
    assert pending_version.joined() == []


def test_a_killed_process_is_reported_until_its_run_continues(pending_version: PendingVersion) -> None:
    sibling = subprocess.Popen(["sleep", "60"])
    time.sleep(0.05)  # the kernel counts starts in hundredths of a second
    killed = dead()
    pending_version.join("run", killed)
    refusal = pending_version.still_joined()
    assert refusal is not None
    assert refusal.killed == (f"run of {killed}",)
    # A process that ran at the same time does not replace it; one that started later does.
    pending_version.join("run", owners.process(sibling.pid))
    pending_version.leave("run", owners.process(sibling.pid))
    assert pending_version.joined() == ["run"]
    later = subprocess.Popen(["sleep", "60"])
    pending_version.join("run", owners.process(later.pid))
    pending_version.leave("run", owners.process(later.pid))
    assert pending_version.joined() == []
    for child in (sibling, later):
        child.kill()
        child.wait()
