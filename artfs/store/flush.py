"""Makes many files durable at once.

Owns: what was noted since the last flush, and the choice between one syncfs(2) and many fsync(2). Must not
know what the files are. Any thread may call it.
"""

from __future__ import annotations

import contextlib
import os
import threading

from artfs.store import durable, files, syscalls

# syncfs(2) is known to take data and names of all files, and to say so if it could not, on these alone.
_SYNCFS = (syscalls.EXT4_MAGIC, syscalls.XFS_MAGIC, syscalls.BTRFS_MAGIC)


class Flush:
    """Files below some directories, as paths of two parts, on their way to be durable."""

    def __init__(self, roots: tuple[int, ...]) -> None:
        # One root stands for its filesystem; they differ only if somebody mounted one within the volume.
        self._filesystems = tuple({os.fstat(fd).st_dev: fd for fd in roots}.values())
        self.whole = all(syscalls.filesystem_type(fd) in _SYNCFS for fd in self._filesystems)
        self._noted: set[tuple[int, bytes]] = set()
        self._noted_lock = threading.Lock()
        self._flush_lock = threading.Lock()

    def note(self, root: int, path: bytes) -> None:
        """Remembers a file. One that was found is noted too: its maker may not have flushed."""
        if not self.whole:
            with self._noted_lock:
                self._noted.add((root, path))

    def flush(self) -> None:
        """Makes all durable that was noted before the call, by whichever thread.

        Raises OSError: then nothing is known to be durable, and a second call tries all again.
        """
        if self.whole:
            # Always: another thread's flush that is under way may have begun before the last note.
            for fd in self._filesystems:
                syscalls.syncfs(fd)
            return
        # One at a time: who finds nothing left to do must have waited for who took it.
        with self._flush_lock:
            with self._noted_lock:
                todo, self._noted = self._noted, set()
            try:
                _fsync_each(todo)
            except BaseException:
                with self._noted_lock:
                    self._noted |= todo
                raise


def _fsync_each(todo: set[tuple[int, bytes]]) -> None:
    for root, path in sorted(todo):
        with contextlib.suppress(FileNotFoundError):
            fd = files.open_regular(root, path)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
    directories = {(root, os.path.dirname(path)) for root, path in todo}
    # Deepest first: a new directory is durable before the name that leads to it.
    for root, parent in sorted(directories) + [(root, b".") for root in sorted({root for root, _ in todo})]:
        with durable.directory(root, parent) as fd:
            durable.sync_dir(fd, label="objects")
