"""Runs that join a pending version, each process separately."""

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


def test_each_process_leaves_separately(pending_version: PendingVersion) -> None:
    ours = owners.this_process()
    pending_version.runs.join("run", ours)
    pending_version.runs.join("run", ours)
    pending_version.runs.join("run", ELSEWHERE)
    pending_version.runs.leave("run", ours)
    assert pending_version.runs.names() == ["run"]
    pending_version.runs.leave("run", ours)
    pending_version.runs.leave("run", ELSEWHERE)
    assert pending_version.runs.names() == []
    assert pending_version.runs.refusal() is None


def test_leave_by_hand_removes_all_processes_not_known_to_run(pending_version: PendingVersion) -> None:
    ours = owners.this_process()
    for process in (ours, ELSEWHERE, dead(), None):
        pending_version.runs.join("run", process)
    pending_version.runs.leave("run")
    assert pending_version.runs.names() == ["run"]
    with pytest.raises(Busy, match=f"is running in process {ours.pid}"):
        pending_version.runs.leave("run")
    pending_version.runs.leave("run", ours)
    assert pending_version.runs.names() == []
    pending_version.runs.join("run", ELSEWHERE)
    pending_version.runs.leave("run")
    pending_version.runs.leave("run")
    assert pending_version.runs.names() == []


def test_a_killed_process_is_reported_until_its_run_continues(pending_version: PendingVersion) -> None:
    sibling = subprocess.Popen(["sleep", "60"])
    time.sleep(0.05)  # the kernel counts starts in hundredths of a second
    killed = dead()
    pending_version.runs.join("run", killed)
    refusal = pending_version.runs.refusal()
    assert refusal is not None
    assert refusal.killed == (f"run of {killed}",)
    # A concurrent process does not replace it; one that started later does.
    pending_version.runs.join("run", owners.process(sibling.pid))
    pending_version.runs.leave("run", owners.process(sibling.pid))
    assert pending_version.runs.names() == ["run"]
    later = subprocess.Popen(["sleep", "60"])
    pending_version.runs.join("run", owners.process(later.pid))
    pending_version.runs.leave("run", owners.process(later.pid))
    assert pending_version.runs.names() == []
    for child in (sibling, later):
        child.kill()
        child.wait()
