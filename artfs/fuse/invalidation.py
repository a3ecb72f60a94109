"""Makes the kernel forget what it has cached.

Owns the threads that notify it. Any thread may call; only a thread that is not the loop's may wait for the
result.

A notification takes locks of inodes that a request under way may hold, or a process that waits for a page of
a slow reference: it blocks until that has its answer. So it never runs on the loop's thread, nor on threads
for the work of requests, all of which it could block. Notifications about one directory or file run one after
another, so that they block one thread. Each owner of pending versions has threads of their own: a user whose
process hangs in the kernel does not block other users. After ``close`` nothing reaches the kernel any more.
"""

from __future__ import annotations

import contextlib
import errno
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from typing import NamedTuple

import pyfuse3

from artfs.limits.limit import PerUser
from artfs.limits.numbers import NOTIFYING_THREADS
from artfs.vfs.view import Kernel

_RECENT = 64  # notifications whose owners keep their threads

# The kernel's answers about nodes and names that it doesn't have cached, and once the mount is gone.
_HARMLESS = {errno.ENOENT, errno.ENOTDIR, errno.ENOTCONN, errno.ENODEV, errno.EBADF, errno.EINVAL}

_Call = Callable[[], None]
_Key = tuple[int, str, int]  # owner, kind of notification, node


class _Line(NamedTuple):
    """Notifications about one node, of which the first is being sent."""

    pool: ThreadPoolExecutor
    calls: deque[tuple[Future[None], _Call]]


class Notifier(Kernel):
    """Sends notifications. ``owner`` owns the tree that a notification is about.

    ``entry`` and ``inode`` return at once; ``future.result(timeout)`` waits for the kernel. The others wait,
    and raise OSError, which a timeout is too. An entry or node that the kernel doesn't know is no error.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pools = PerUser(lambda _: ThreadPoolExecutor(NOTIFYING_THREADS, "artfs-notify"))
        self._recent: deque[ThreadPoolExecutor] = deque(maxlen=_RECENT)
        self._lines: dict[_Key, _Line] = {}
        self._closed = False

    def inode(self, node: int, *, owner: int = 0, attributes_only: bool = False) -> Future[None]:
        """Drops a node's cached attributes and, without ``attributes_only``, its pages (after writing dirty
        ones)."""
        return self._submit(
            (owner, "inode", node), lambda: pyfuse3.invalidate_inode(pyfuse3.InodeT(node), attributes_only)
        )

    def entry(self, parent: int, name: bytes, *, owner: int = 0) -> Future[None]:
        """Drops a name."""
        return self._submit(
            (owner, "entry", parent),
            lambda: pyfuse3.invalidate_entry(pyfuse3.InodeT(parent), pyfuse3.FileNameT(name)),
        )

    def forget_entry(self, parent: int, name: bytes, timeout: float, owner: int) -> None:
        with contextlib.suppress(CancelledError):  # the mount is at its end, and with it all names
            self.entry(parent, name, owner=owner).result(timeout)

    def forget_pages(self, ino: int, timeout: float, owner: int) -> None:
        self.inode(ino, owner=owner).result(timeout)

    def forget_attributes(self, ino: int, timeout: float, owner: int) -> None:
        with contextlib.suppress(CancelledError):
            self.inode(ino, owner=owner, attributes_only=True).result(timeout)

    def close(self, *, wait: bool = True) -> None:
        """Takes no more notifications; with ``wait`` returns when those under way have ended."""
        with self._lock:
            self._closed = True
            for line in self._lines.values():
                for future, _ in line.calls:
                    future.cancel()  # all but those that run
        for pool in self._pools.living():
            pool.shutdown(wait=wait, cancel_futures=True)

    def _submit(self, key: _Key, call: _Call) -> Future[None]:
        future: Future[None] = Future()
        with self._lock:
            if self._closed:
                future.set_result(None)
                return future
            line = self._lines.get(key)
            if line is not None:
                line.calls.append((future, call))
                return future
            pool = self._pools[key[0]]
            self._recent.append(pool)
            self._lines[key] = line = _Line(pool, deque([(future, call)]))
            pool.submit(self._send, key, line)
        return future

    def _send(self, key: _Key, line: _Line) -> None:
        """Sends what there is about one node. Runs in a thread of its owner."""
        while True:
            future, call = line.calls[0]
            if future.set_running_or_notify_cancel():
                _run(future, call)
            with self._lock:
                line.calls.popleft()
                if not line.calls:
                    del self._lines[key]
                    return


def _run(future: Future[None], call: _Call) -> None:
    try:
        call()
    except Exception as error:  # noqa: BLE001  (the caller that waits gets it)
        if not isinstance(error, OSError) or error.errno not in _HARMLESS:
            future.set_exception(error)
            return
    future.set_result(None)
