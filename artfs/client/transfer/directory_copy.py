"""Copies one of the user's directories into a tree: large files by threads, attributes at the end.

Owns which thread does what. The thread that walks copies the small files itself: a call into the kernel that
takes microseconds costs more than that when the interpreter's lock changes hands at each. A large file is
copied by a worker, with a cursor of its own. Directories get their attributes when all else is done, the
innermost first: writing a file into one changes its times, and its mode may forbid it.
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
from artfs.client.writable_tree import TreeCursor
from artfs.errors import naming
from artfs.linux.walk import WalkEntry
from artfs.model.entry import SEALED_MODE

LARGE = 1 << 20
"""Bytes of a file that is worth a thread."""

_WORKERS = min(4, os.cpu_count() or 1)
_AHEAD = 2 * _WORKERS  # files that may wait: each holds a descriptor


@dataclass(frozen=True, slots=True)
class _Attributes:
    """What a directory gets once it has all its entries."""

    path: bytes
    mode: int
    mtime_ns: int
    xattrs: Sequence[tuple[bytes, bytes]]


class DirectoryCopy:
    """The target of one walk; ``at`` follows the walk. It belongs to the thread that walks.

    Used in a ``with`` statement, whose block calls :meth:`finish` at its end. When the statement ends, for
    whatever reason, no other thread works on the tree any more.
    """

    def __init__(self, writer: TreeWriter) -> None:
        self._writer = writer
        self.at: TreeCursor = writer.tree.cursor()
        self._complete: list[_Attributes] = []
        self._pool: ThreadPoolExecutor | None = None
        self._running: list[Future[None]] = []
        self._finished = False

    def __enter__(self) -> DirectoryCopy:
        return self

    def finish(self) -> None:
        """Waits for the files that are being copied, and sets the attributes of the directories."""
        while self._running:
            self._running.pop(0).result()
        with self._writer.tree.cursor() as at:
            for directory in self._complete:
                at.go_to(directory.path)
                self._writer.set_attributes(
                    at, mode=directory.mode, mtime_ns=directory.mtime_ns, xattrs=directory.xattrs
                )
        self._finished = True

    def __exit__(self, *_: object) -> None:
        if not self._finished:
            self._writer.stop()
        if self._pool is not None:
            _join(self._pool)
        self.at.close()

    def start_top(self, status: os.stat_result) -> None:
        """Begins with the directory of `status`, whose content is copied to the current directory.

        Meanwhile no other user sees what only the owner of the source may see.
        """
        self._writer.restrict(self.at, status.st_mode)

    def enter(self, name: bytes) -> None:
        self._writer.enter(self.at, name)

    def leave(self, entry: WalkEntry, xattrs: Sequence[tuple[bytes, bytes]]) -> None:
        """Leaves the directory `entry`, which has these user xattrs."""
        self._add(entry.status, xattrs)
        self.at.leave()

    def leave_top(self, source_fd: int) -> None:
        """Ends the walk of the directory `source_fd`, whose attributes the current directory gets."""
        self._add(os.fstat(source_fd), user_xattrs(source_fd))

    def _add(self, status: os.stat_result, xattrs: Sequence[tuple[bytes, bytes]]) -> None:
        mode = status.st_mode & SEALED_MODE
        self._complete.append(_Attributes(self.at.path, mode, status.st_mtime_ns, xattrs))

    def file(self, directory: SourceDirectories, entry: WalkEntry) -> None:
        """Copies a file of a source's directory, now or later."""
        with naming(entry.path):
            source = io.FileIO(directory.open(entry.name))
            if entry.status.st_size < LARGE or _WORKERS == 1:
                self._copy(self.at, entry, source)
                return
        if self._pool is None:
            self._pool = ThreadPoolExecutor(_WORKERS, "artfs-add")
        self._running.append(self._pool.submit(self._copy_in_worker, self.at.path, entry, source))
        while len(self._running) > _AHEAD:
            self._running.pop(0).result()

    def _copy(self, at: TreeCursor, entry: WalkEntry, source: io.FileIO) -> None:
        with source:
            self._writer.file(at, entry.name, source.fileno())

    def _copy_in_worker(self, directory: bytes, entry: WalkEntry, source: io.FileIO) -> None:
        with self._writer.tree.cursor() as at, naming(entry.path):
            at.go_to(directory)
            self._copy(at, entry, source)


def _join(pool: ThreadPoolExecutor) -> None:
    """Waits until no thread works any more, also if exceptions are raised meanwhile, as by a second Ctrl-C.

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
