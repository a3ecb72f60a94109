"""Makes many files durable at once.

Owns: what was noted since the last flush, and the choice between one syncfs(2) and many fsync(2). Must not
know what the files are. Any thread may call it.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator

from artfs.linux import syscalls
from artfs.store import durable, regular_files

# syncfs(2) is known to take data and names of all files, and to say so if it could not, on these alone.
_SYNCFS = (syscalls.EXT4_MAGIC, syscalls.XFS_MAGIC, syscalls.BTRFS_MAGIC)


class Flush:
    """Files below some directories, as paths of two parts, on their way to be durable."""

    def __init__(self, roots: tuple[int, ...], failed: Callable[[OSError], None]) -> None:
        """``failed`` is told of each fsync or syncfs that failed, before that is raised."""
        # One root stands for its filesystem; they differ only if somebody mounted one within the volume.
        self._filesystems = tuple({os.fstat(fd).st_dev: fd for fd in roots}.values())
        self.whole = all(syscalls.filesystem_type(fd) in _SYNCFS for fd in self._filesystems)
        self._noted: set[tuple[int, bytes]] = set()
        self._noted_lock = threading.Lock()
        self._failed = failed

    def note(self, root: int, path: bytes) -> None:
        """Remembers a file. One that was found is noted too: its maker may not have flushed."""
        if not self.whole:
            with self._noted_lock:
                self._noted.add((root, path))

    def flush(self) -> None:
        """Makes all durable that was noted before the call, by whichever thread. One call at a time.

        Raises OSError: then nothing is known to be durable, and a second call tries all again.
        """
        if self.whole:
            for fd in self._filesystems:
                with self._told():
                    syscalls.syncfs(fd)
            return
        with self._noted_lock:
            todo, self._noted = self._noted, set()
        try:
            self._fsync_each(todo)
        except BaseException:
            with self._noted_lock:
                self._noted |= todo
            raise

    def _fsync_each(self, todo: set[tuple[int, bytes]]) -> None:
        for root, path in sorted(todo):
            with contextlib.suppress(FileNotFoundError):
                fd = regular_files.open_regular(root, path)
                try:
                    with self._told():
                        os.fsync(fd)
                finally:
                    os.close(fd)
        directories = {(root, os.path.dirname(path)) for root, path in todo}
        # Deepest first: a new directory is durable before the name that leads to it.
        tops = [(root, b".") for root in sorted({root for root, _ in todo})]
        for root, parent in sorted(directories) + tops:
            with durable.directory(root, parent) as fd, self._told():
                durable.sync_dir(fd, label="objects")

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._failed(error)
            raise
