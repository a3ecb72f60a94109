"""Locks between threads and processes, and their owners."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest
from msgspec.structs import replace

from artfs.errors import Busy
from artfs.store import owners
from artfs.store.documents import timestamp
from artfs.store.locks import Lock
from artfs.store.owners import Owner
from tests.conformance.helpers import eventually
from tests.unit.stores import directory


@pytest.fixture
def lock(tmp_path: Path):
    with directory(tmp_path) as fd:
        yield Lock(fd, b"lock")


def test_shared_holders_exclude_an_exclusive_one(lock: Lock) -> None:
    with lock.shared(), lock.shared(blocking=False), pytest.raises(Busy):
        lock.exclusive(blocking=False)
    with lock.exclusive():
        for take in (lock.shared, lock.exclusive):
            with pytest.raises(Busy):
                take(blocking=False)
    lock.exclusive(blocking=False).release()


def test_a_waiting_caller_gets_the_lock(lock: Lock) -> None:
    held = lock.exclusive()
    got = threading.Event()

    def wait() -> None:
        with lock.shared():
            got.set()

    thread = threading.Thread(target=wait)
    thread.start()
    assert not got.wait(0.05)
    held.release()
    held.release()
    assert got.wait(10)
    thread.join()


def test_an_error_names_the_owner(lock: Lock) -> None:
    assert lock.read_owner() is None
    with lock.exclusive() as held:
        held.write_owner(owners.this_process("/mnt/art"))
        owner = lock.read_owner()
        assert owner is not None
        assert (owner.pid, owner.mountpoint, owner.alive()) == (os.getpid(), "/mnt/art", True)
        with pytest.raises(Busy, match=f"process {os.getpid()} on .*, mounted at /mnt/art"):
            lock.shared(blocking=False)
    assert lock.read_owner() is None
    with lock.shared() as shared, pytest.raises(ValueError):
        shared.write_owner(owners.this_process())


def test_a_dead_process_holds_no_lock(lock: Lock) -> None:
    child = os.fork()
    if child == 0:
        lock.exclusive().write_owner(owners.this_process())
        os._exit(0)
    os.waitpid(child, 0)
    owner = lock.read_owner()
    assert owner is not None
    assert owner.alive() is False
    lock.exclusive(blocking=False).release()


def test_processes_of_other_hosts_are_unknown() -> None:
    ours = owners.this_process()
    assert Owner(pid=1, host="elsewhere", boot="x").alive() is None
    assert Owner(pid=ours.pid, host=ours.host, boot=ours.boot, ticks=ours.ticks + 1).alive() is False


def test_processes_of_other_pid_namespaces_and_machines_are_unknown() -> None:
    ours = owners.this_process()
    assert ours.alive() is True
    assert replace(ours, space="pid:[1] time:[1]", ticks=1).alive() is None
    assert replace(ours, space="unknown").alive() is None
    # Two containers may have the same name: without a machine-id it may run on another machine.
    for machine in ("", "another"):
        assert replace(ours, machine=machine, boot="an earlier one").alive() is None


def test_a_process_of_an_earlier_boot_is_dead(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for text, dead in (("0123456789abcdef\n", False), ("", None)):
        path = tmp_path / "machine-id"
        path.write_text(text)
        monkeypatch.setattr(owners, "_MACHINE", str(path))
        ours = owners.this_process()
        assert ours.alive() is True
        assert replace(ours, boot="an earlier one").alive() is dead


def test_a_stopped_process_is_alive_and_a_zombie_is_dead() -> None:
    child = subprocess.Popen(["sleep", "60"])
    try:
        owner = owners.process(child.pid)
        assert owner.began_after("2001-01-01T00:00:00.000000Z")
        assert not owner.began_after("2999-01-01T00:00:00.000000Z")
        child.send_signal(signal.SIGSTOP)
        assert owner.alive() is True
    finally:
        child.kill()
        # A zombie until its parent waits for it.
        eventually(lambda: owner.alive() is False, what="it is dead")
        child.wait()
    assert owner.alive() is False


def test_a_process_is_younger_than_the_moment_before_its_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """This also holds if the process is preempted between the readings of two clocks."""
    clock, readings = time.clock_gettime, itertools.count()

    def preempted(which: int) -> float:
        if next(readings) in (0, 2):
            time.sleep(0.05)
        return clock(which)

    monkeypatch.setattr(time, "clock_gettime", preempted)
    for _ in range(10):
        moment = timestamp()
        with subprocess.Popen(["sleep", "60"]) as child:
            owner = owners.process(child.pid)
            child.kill()
        assert owner.began_after(moment)


def test_an_incomplete_owner_is_ignored(lock: Lock, tmp_path: Path) -> None:
    (tmp_path / "lock").write_text('{"pid": 1')
    assert lock.read_owner() is None
    with lock.exclusive(), pytest.raises(Busy, match="another process"):
        lock.shared(blocking=False)
