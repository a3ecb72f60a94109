"""Brings one directory of the user's into a tree: large files by threads, directories' attributes at the end.

Owns which thread does what. The thread that walks copies the small files itself: a call into the kernel that
takes microseconds costs more than that when the interpreter's lock changes hands at each. A large file is
copied by a worker, with a cursor of its own. Directories get their attributes when all else is done, the
innermost first: bringing a file into one changes its times, and a mode may forbid it.
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from artfs.client.file_attributes import user_xattrs
from artfs.client.transfer.symlink_policy import SourceDirectories
from artfs.client.transfer.tree_writer import TreeWriter
from artfs.client.writable_tree import (
    TreeCursor,
    descend,
)
from artfs.errors import naming
from artfs.linux.walk import WalkEntry
from artfs.model.entry import SEALED_MODE

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


class DirectoryCopy:
    """The target of one walk; ``at`` stands where the walk does. It belongs to the thread that walks.

    Used in a ``with`` statement, whose block calls :meth:`finish` at its end. When the statement ends,
    however it does, no other thread works on the tree any more.
    """

    def __init__(self, writer: TreeWriter) -> None:
        self._writer = writer
        self.at: TreeCursor = writer.tree.cursor()
        self._left: list[_Left] = []
        self._pool: ThreadPoolExecutor | None = None
        self._running: list[Future[None]] = []
        self._finished = False

    def __enter__(self) -> DirectoryCopy:
        return self

    def finish(self) -> None:
        """Waits for the files that are being copied, and gives the directories their attributes."""
        while self._running:
            self._running.pop(0).result()
        self._dress()
        self._finished = True

    def __exit__(self, *_: object) -> None:
        if not self._finished:
            self._writer.stop()
        if self._pool is not None:
            _join(self._pool)
        self.at.close()

    def start_top(self, status: os.stat_result) -> None:
        """Begins with the directory of `status`, whose content comes to where the walk begins.

        What only its owner may see of the source, nobody else sees meanwhile either.
        """
        self._writer.restrict(self.at, status.st_mode)

    def enter(self, name: bytes) -> None:
        self._writer.enter(self.at, name)

    def leave(self, found: WalkEntry, xattrs: Sequence[tuple[bytes, bytes]]) -> None:
        """Leaves the directory `found`, which has these user xattrs."""
        self._leave(found.status, xattrs)
        self.at.leave()

    def leave_top(self, source_fd: int) -> None:
        """Gives where the walk began the attributes of the directory that it went through."""
        self._leave(os.fstat(source_fd), user_xattrs(source_fd))

    def file(self, directory: SourceDirectories, found: WalkEntry) -> None:
        """Copies a file of a source's directory, now or by and by."""
        with naming(found.path):
            source = io.FileIO(directory.open(found.name))
            if found.status.st_size < LARGE or _WORKERS == 1:
                self._copy(self.at, found, source)
                return
        if self._pool is None:
            self._pool = ThreadPoolExecutor(_WORKERS, "artfs-add")
        self._running.append(self._pool.submit(self._copy_elsewhere, self._way(), found, source))
        while len(self._running) > _AHEAD:
            self._running.pop(0).result()

    # -- inside

    def _way(self) -> tuple[bytes, ...]:
        path = self.at.path
        return tuple(path.split(b"/")) if path else ()

    def _copy(self, at: TreeCursor, found: WalkEntry, source: io.FileIO) -> None:
        with source:
            self._writer.file(at, found.name, source.fileno())

    def _copy_elsewhere(self, way: Sequence[bytes], found: WalkEntry, source: io.FileIO) -> None:
        with self._writer.tree.cursor() as at, naming(found.path):
            descend(at, way)
            self._copy(at, found, source)

    def _leave(self, status: os.stat_result, xattrs: Sequence[tuple[bytes, bytes]]) -> None:
        self._left.append(_Left(self._way(), status.st_mode & SEALED_MODE, status.st_mtime_ns, xattrs))

    def _dress(self) -> None:
        here: tuple[bytes, ...] = ()
        with self._writer.tree.cursor() as at:
            for left in self._left:
                _go(at, here, left.way)
                here = left.way
                self._writer.dress(at, mode=left.mode, mtime_ns=left.mtime_ns, xattrs=left.xattrs)


def _join(pool: ThreadPoolExecutor) -> None:
    """Waits until no thread works any more, also where exceptions come meanwhile, as of a second Ctrl-C.

    The caller closes the directories of the tree next: a thread that still used them might write into what
    gets their descriptors' numbers.
    """
    interrupted: BaseException | None = None
    while True:
        try:
            pool.shutdown(cancel_futures=True)
            break
        except BaseException as error:  # noqa: BLE001  (it is raised below)
            interrupted = error
    if interrupted is not None:
        raise interrupted


def _go(at: TreeCursor, here: Sequence[bytes], there: Sequence[bytes]) -> None:
    shared = 0
    while shared < min(len(here), len(there)) and here[shared] == there[shared]:
        shared += 1
    for _ in range(len(here) - shared):
        at.leave()
    descend(at, there[shared:])
