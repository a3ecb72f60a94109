"""Tells the kernel to forget what it has cached.

Owns the threads that do it. Any thread may call; only a thread that is not the loop's may wait for the
result.

A notification takes locks of inodes that a request under way may hold, or a process that waits for a page of
a slow reference: it blocks until that has its answer. So it never runs on the loop's thread, and never in the
pool that requests' work runs in, which it could fill. What is about one directory or file runs one after
another, so that it blocks one thread, and each owner of pending versions has threads of his own: who has the
kernel hang has nobody else wait. After ``close`` nothing reaches the kernel any more.
"""

from __future__ import annotations

import errno
import threading
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import pyfuse3

_THREADS = 32  # of one owner
_IDLE_OWNERS = 64  # whose threads are kept

# What the kernel says of nodes and names that it doesn't have cached, and once the mount is gone.
_HARMLESS = {errno.ENOENT, errno.ENOTDIR, errno.ENOTCONN, errno.ENODEV, errno.EBADF, errno.EINVAL}

_Call = Callable[[], None]
_Line = tuple[int, str, int]  # owner, what is done, and to which node


class Notifier:
    """Sends invalidations, each in a thread.

    The methods return at once. ``future.result(timeout)`` waits until the kernel has done it; call that from
    a worker thread, or through ``trio.to_thread.run_sync``. An entry or node that the kernel doesn't know is
    no error. ``owner`` is who has the tree that it is about.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pools: dict[int, ThreadPoolExecutor] = {}
        self._busy: Counter[int] = Counter()  # lines of each owner that have a thread, or will
        self._lines: dict[_Line, deque[tuple[Future[None], _Call]]] = {}
        self._closed = False

    def inode(self, node: int, *, owner: int = 0, attributes_only: bool = False) -> Future[None]:
        """Drops a node's cached attributes and, without ``attributes_only``, its pages (dirty ones are
        written)."""
        return self._submit(
            (owner, "inode", node), lambda: pyfuse3.invalidate_inode(pyfuse3.InodeT(node), attributes_only)
        )

    def entry(self, parent: int, name: bytes, *, owner: int = 0, deleted: int = 0) -> Future[None]:
        """Drops a name; with ``deleted``, the node that it led to, watchers are told that it was removed."""
        directory, gone = pyfuse3.InodeT(parent), pyfuse3.InodeT(deleted)
        return self._submit(
            (owner, "entry", parent),
            lambda: pyfuse3.invalidate_entry(directory, pyfuse3.FileNameT(name), gone),
        )

    def close(self, *, wait: bool = True) -> None:
        """Takes no more notifications; with ``wait`` returns when those under way have ended."""
        with self._lock:
            self._closed = True
            pools = list(self._pools.values())
            for line in self._lines.values():
                for future, _ in line:
                    future.cancel()  # all but those that run
        for pool in pools:
            pool.shutdown(wait=wait, cancel_futures=True)

    def _submit(self, key: _Line, call: _Call) -> Future[None]:
        future: Future[None] = Future()
        with self._lock:
            if self._closed:
                future.set_result(None)
                return future
            line = self._lines.setdefault(key, deque())
            line.append((future, call))
            if len(line) == 1:
                owner = key[0]
                self._busy[owner] += 1
                self._pool(owner).submit(self._serve, key)
        return future

    def _pool(self, owner: int) -> ThreadPoolExecutor:
        pool = self._pools.get(owner)
        if pool is None:
            if len(self._pools) >= _IDLE_OWNERS:
                for idle in [known for known in self._pools if not self._busy[known]]:
                    self._pools.pop(idle).shutdown(wait=False)
            pool = self._pools[owner] = ThreadPoolExecutor(_THREADS, thread_name_prefix="artfs-notify")
        return pool

    def _serve(self, key: _Line) -> None:
        """Sends what there is about one node. Runs in a thread of its owner."""
        line = self._lines[key]
        while True:
            future, call = line[0]
            if future.set_running_or_notify_cancel():
                _run(future, call)
            with self._lock:
                line.popleft()
                if not line:
                    del self._lines[key]
                    self._busy[key[0]] -= 1
                    return


def _run(future: Future[None], call: _Call) -> None:
    try:
        call()
    except Exception as error:  # noqa: BLE001  (for who waits)
        if not isinstance(error, OSError) or error.errno not in _HARMLESS:
            future.set_exception(error)
            return
    future.set_result(None)
