"""Tells the kernel to forget what it has cached.

Owns the threads that do it. Any thread may call; only a thread that is not the loop's may wait for the
result.

A notification takes locks of inodes that a request under way may hold: it blocks until the loop has answered
that request. So it never runs on the loop's thread, and never in the pool that requests' work runs in, which
it could fill. After ``close`` nothing reaches the kernel any more.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import pyfuse3

_THREADS = 16

# What the kernel says of nodes and names that it doesn't have cached, and once the mount is gone.
_HARMLESS = {errno.ENOENT, errno.ENOTDIR, errno.ENOTCONN, errno.ENODEV, errno.EBADF, errno.EINVAL}


class Notifier:
    """Sends invalidations, each in a thread of its own.

    The methods return at once. ``future.result(timeout)`` waits until the kernel has done it; call that from
    a worker thread, or through ``trio.to_thread.run_sync``. An entry or node that the kernel doesn't know is
    no error.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="artfs-notify")
        self._closed = False

    def inode(self, node: int, *, attributes_only: bool = False) -> Future[None]:
        """Drops a node's cached attributes and, without ``attributes_only``, its pages (dirty ones are
        written)."""
        return self._submit(lambda: pyfuse3.invalidate_inode(pyfuse3.InodeT(node), attributes_only))

    def entry(self, parent: int, name: bytes, *, deleted: int = 0) -> Future[None]:
        """Drops a name; with ``deleted``, the node that it led to, watchers are told that it was removed."""
        directory, gone = pyfuse3.InodeT(parent), pyfuse3.InodeT(deleted)
        return self._submit(lambda: pyfuse3.invalidate_entry(directory, pyfuse3.FileNameT(name), gone))

    def close(self, *, wait: bool = True) -> None:
        """Takes no more notifications; with ``wait`` returns when those under way have ended."""
        self._closed = True
        self._pool.shutdown(wait=wait, cancel_futures=True)

    def _submit(self, call: Callable[[], None]) -> Future[None]:
        if self._closed:
            done: Future[None] = Future()
            done.set_result(None)
            return done
        return self._pool.submit(_run, call)


def _run(call: Callable[[], None]) -> None:
    try:
        call()
    except OSError as error:
        if error.errno not in _HARMLESS:
            raise
