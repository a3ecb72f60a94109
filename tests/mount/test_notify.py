"""Notifications: where they run, and what they don't complain about."""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterator

import pyfuse3
import pytest

from artfs.mount.notify import Notifier


@pytest.fixture
def notifier() -> Iterator[Notifier]:
    made = Notifier()
    yield made
    made.close()


def test_they_run_in_threads_of_their_own(notifier: Notifier, monkeypatch: pytest.MonkeyPatch):
    calls: list[tuple[object, ...]] = []

    def note(*arguments: object) -> None:
        calls.append((threading.current_thread().name.rpartition("_")[0], *arguments))

    monkeypatch.setattr(pyfuse3, "invalidate_entry", note)
    monkeypatch.setattr(pyfuse3, "invalidate_inode", note)
    notifier.entry(1, b"name").result(10)
    notifier.entry(1, b"name", deleted=7).result(10)
    notifier.inode(7, attributes_only=True).result(10)
    assert calls == [
        ("artfs-notify", 1, b"name", 0),
        ("artfs-notify", 1, b"name", 7),
        ("artfs-notify", 7, True),
    ]


@pytest.mark.parametrize("code", [errno.ENOENT, errno.ENOTCONN])
def test_what_the_kernel_does_not_know_is_no_error(
    notifier: Notifier, monkeypatch: pytest.MonkeyPatch, code: int
):
    def fail(*_: object) -> None:
        raise OSError(code, "text")

    monkeypatch.setattr(pyfuse3, "invalidate_entry", fail)
    notifier.entry(1, b"name").result(10)


def test_other_errors_reach_who_waits(notifier: Notifier, monkeypatch: pytest.MonkeyPatch):
    def fail(*_: object) -> None:
        raise OSError(errno.ENOMEM, "text")

    monkeypatch.setattr(pyfuse3, "invalidate_inode", fail)
    with pytest.raises(OSError, match="text"):
        notifier.inode(1).result(10)


def test_one_that_blocks_holds_up_no_other(notifier: Notifier, monkeypatch: pytest.MonkeyPatch):
    released = threading.Event()
    monkeypatch.setattr(pyfuse3, "invalidate_entry", lambda *_: released.wait(30))
    monkeypatch.setattr(pyfuse3, "invalidate_inode", lambda *_: None)
    blocked = notifier.entry(1, b"name")
    notifier.inode(1).result(10)
    assert not blocked.done()
    released.set()
    blocked.result(10)


def test_after_the_end_nothing_reaches_the_kernel(notifier: Notifier, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pyfuse3, "invalidate_inode", lambda *_: pytest.fail("called"))
    notifier.close()
    notifier.inode(1).result(10)
