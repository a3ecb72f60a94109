"""Brings one directory of the user's into a tree: large files by threads, directories' attributes at the end.

Owns which thread does what. The thread that walks copies the small files itself: a call into the kernel that
takes microseconds costs more than that when the interpreter's lock changes hands at each. A large file is
copied by a worker, with a cursor of its own. Directories get their attributes when all else is done, the
innermost first: bringing a file into one changes its times, and a mode may forbid it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from artfs.access.copier import Copier
from artfs.access.copying import user_xattrs
from artfs.access.directories import Found, naming
from artfs.access.trees import Cursor, descend
from artfs.model.entry import SEALED_MODE

READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
LARGE = 1 << 20
"""Bytes of a file that is worth a thread."""

_WORKERS = min(4, os.cpu_count() or 1)
_AHEAD = 2 * _WORKERS  # files that may wait: each holds a descriptor


@dataclass(frozen=True, slots=True)
class _Left:
    """A directory that has all its entries, and the attributes that it gets."""

    way: tuple[bytes, ...]
    mode: int
    mtime_ns: int
    xattrs: Sequence[tuple[bytes, bytes]]


class Bringing:
    """The target of one walk; ``at`` stands where the walk does. It belongs to the thread that walks."""

    def __init__(self, copier: Copier) -> None:
        self._copier = copier
        self.at: Cursor = copier.tree.cursor()
        self._left: list[_Left] = []
        self._pool: ThreadPoolExecutor | None = None
        self._running: list[Future[None]] = []

    def __enter__(self) -> Bringing:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                while self._running:
                    self._running.pop(0).result()
                self._dress()
        finally:
            if self._pool is not None:
                self._pool.shutdown(cancel_futures=kind is not None)
            self.at.close()

    def enter(self, name: bytes) -> None:
        self._copier.enter(self.at, name)

    def leave(self, source_fd: int, found: Found) -> None:
        """Leaves the directory `found`, which is an entry of the one at `source_fd`."""
        self._leave(found.status, user_xattrs(b"/proc/self/fd/%d/%s" % (source_fd, found.name)))
        self.at.leave()

    def leave_top(self, source_fd: int) -> None:
        """Gives where the walk began the attributes of the directory that it went through."""
        self._leave(os.fstat(source_fd), user_xattrs(source_fd))

    def file(self, source_fd: int, found: Found, *, follow: bool) -> None:
        """Copies a file of the directory at `source_fd`, now or by and by."""
        with naming(found.path):
            fd = os.open(found.name, READ & ~os.O_NOFOLLOW if follow else READ, dir_fd=source_fd)
            if found.status.st_size < LARGE or _WORKERS == 1:
                self._copy(self.at, found, fd)
                return
        if self._pool is None:
            self._pool = ThreadPoolExecutor(_WORKERS, "artfs-add")
        self._running.append(self._pool.submit(self._copy_elsewhere, self._way(), found, fd))
        while len(self._running) > _AHEAD:
            self._running.pop(0).result()

    # -- inside

    def _way(self) -> tuple[bytes, ...]:
        path = self.at.path
        return tuple(path.split(b"/")) if path else ()

    def _copy(self, at: Cursor, found: Found, fd: int) -> None:
        try:
            self._copier.file(at, found.name, fd)
        finally:
            os.close(fd)

    def _copy_elsewhere(self, way: Sequence[bytes], found: Found, fd: int) -> None:
        with self._copier.tree.cursor() as at, naming(found.path):
            descend(at, way)
            self._copy(at, found, fd)

    def _leave(self, status: os.stat_result, xattrs: Sequence[tuple[bytes, bytes]]) -> None:
        self._left.append(_Left(self._way(), status.st_mode & SEALED_MODE, status.st_mtime_ns, xattrs))

    def _dress(self) -> None:
        here: tuple[bytes, ...] = ()
        with self._copier.tree.cursor() as at:
            for left in self._left:
                _go(at, here, left.way)
                here = left.way
                at.dress(mode=left.mode, mtime_ns=left.mtime_ns, xattrs=left.xattrs)


def _go(at: Cursor, here: Sequence[bytes], there: Sequence[bytes]) -> None:
    shared = 0
    while shared < min(len(here), len(there)) and here[shared] == there[shared]:
        shared += 1
    for _ in range(len(here) - shared):
        at.leave()
    descend(at, there[shared:])
