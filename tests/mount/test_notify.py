"""Notifications of the kernel: their threads, and which errors they report."""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError

import pyfuse3
import pytest

from artfs.fuse.invalidation import Notifier
from tests.conformance.helpers import eventually


@pytest.fixture
def notifier() -> Iterator[Notifier]:
    made = Notifier()
    yield made
    made.close()


def test_notifications_run_in_their_own_threads(notifier: Notifier, monkeypatch: pytest.MonkeyPatch):
    calls: list[tuple[object, ...]] = []

    def note(*arguments: object) -> None:
        calls.append((threading.current_thread().name.rpartition("_")[0], *arguments))

    monkeypatch.setattr(pyfuse3, "invalidate_entry", note)
    monkeypatch.setattr(pyfuse3, "invalidate_inode", note)
    notifier.entry(1, b"name").result(10)
    notifier.inode(7, attributes_only=True).result(10)
    assert calls == [
        ("artfs-notify", 1, b"name"),
        ("artfs-notify", 7, True),
    ]


@pytest.mark.parametrize("code", [errno.ENOENT, errno.ENOTCONN])
def test_an_entry_unknown_to_the_kernel_is_no_error(
    notifier: Notifier, monkeypatch: pytest.MonkeyPatch, code: int
):
    def fail(*_: object) -> None:
        raise OSError(code, "text")

    monkeypatch.setattr(pyfuse3, "invalidate_entry", fail)
    notifier.entry(1, b"name").result(10)


def test_other_errors_reach_the_waiting_thread(notifier: Notifier, monkeypatch: pytest.MonkeyPatch):
    def fail(*_: object) -> None:
        raise OSError(errno.ENOMEM, "text")

    monkeypatch.setattr(pyfuse3, "invalidate_inode", fail)
    with pytest.raises(OSError, match="text"):
        notifier.inode(1).result(10)


def test_a_notification_that_blocks_delays_no_other(notifier: Notifier, monkeypatch: pytest.MonkeyPatch):
    released = threading.Event()
    monkeypatch.setattr(pyfuse3, "invalidate_entry", lambda *_: released.wait(30))
    monkeypatch.setattr(pyfuse3, "invalidate_inode", lambda *_: None)
    blocked = notifier.entry(1, b"name")
    notifier.inode(1).result(10)
    assert not blocked.done()
    released.set()
    blocked.result(10)


def test_a_user_whose_process_hangs_in_the_kernel_does_not_block_others(
    notifier: Notifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = threading.Event()
    done: list[int] = []

    def invalidate(parent: int, *_: object) -> None:
        if parent < 1000:
            released.wait(30)
        done.append(parent)

    monkeypatch.setattr(pyfuse3, "invalidate_entry", invalidate)
    futures = [notifier.entry(number, b"name", owner=1001) for number in range(100)]
    notifier.entry(1000, b"name", owner=1002).result(10)
    assert done == [1000]
    released.set()
    for future in futures:
        future.result(10)
    notifier.entry(1001, b"name", owner=1001).result(10)


def test_a_hanging_directory_blocks_one_thread(notifier: Notifier, monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()
    done: list[bytes] = []

    def invalidate(parent: int, name: bytes, *_: object) -> None:
        if parent == 1:
            released.wait(30)
            done.append(name)

    monkeypatch.setattr(pyfuse3, "invalidate_entry", invalidate)
    stuck = [notifier.entry(1, b"%d" % number) for number in range(100)]
    notifier.entry(2, b"name").result(10)
    assert sum(thread.name.startswith("artfs-notify") for thread in threading.enumerate()) <= 2
    released.set()
    stuck[-1].result(10)
    assert done == [b"%d" % number for number in range(100)]


def test_many_owners_need_few_threads(notifier: Notifier, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pyfuse3, "invalidate_entry", lambda *_: None)
    for owner in range(500):
        notifier.entry(1, b"name", owner=owner).result(10)
    eventually(
        lambda: sum(thread.name.startswith("artfs-notify") for thread in threading.enumerate()) <= 100,
        what="threads end",
    )


def test_close_cancels_waiting_notifications(monkeypatch: pytest.MonkeyPatch) -> None:
    notifier, released = Notifier(), threading.Event()
    monkeypatch.setattr(pyfuse3, "invalidate_entry", lambda *_: released.wait(30))
    runs, waits = notifier.entry(1, b"one"), notifier.entry(1, b"two")
    eventually(runs.running, what="it runs")
    notifier.close(wait=False)
    released.set()
    runs.result(10)
    with pytest.raises(CancelledError):
        waits.result(10)


def test_nothing_reaches_the_kernel_after_close(notifier: Notifier, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pyfuse3, "invalidate_inode", lambda *_: pytest.fail("called"))
    notifier.close()
    notifier.inode(1).result(10)
