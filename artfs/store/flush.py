"""Makes many files durable at once.

Owns: the files added since the last flush, and the choice between one syncfs(2) and many fsync(2). Must not
know what the files are. Any thread may call it.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator

from artfs.linux import syscalls
from artfs.store import durable, regular_files


class Flush:
    """Files below some directories, as paths of two parts, that are to become durable."""

    def __init__(self, roots: tuple[int, ...], failed: Callable[[OSError], None]) -> None:
        """``failed`` is called with the error of each fsync or syncfs that failed, before it is raised."""
        # The roots are on several filesystems only if one is mounted within the volume.
        self._filesystems = tuple({os.fstat(fd).st_dev: fd for fd in roots}.values())
        # Only there syncfs(2) is known to write data and names of all files, and to report every failure.
        local = syscalls.LOCAL_FILESYSTEMS
        self.by_syncfs = all(syscalls.filesystem_type(fd) in local for fd in self._filesystems)
        self._added: set[tuple[int, bytes]] = set()
        self._lock = threading.Lock()
        self._failed = failed

    def add(self, root: int, path: bytes) -> None:
        """Adds a file. A file that was found stored is added too: its writer may not have flushed it."""
        if not self.by_syncfs:
            with self._lock:
                self._added.add((root, path))

    def flush(self) -> None:
        """Makes durable all that was added before the call, by any thread. One call at a time.

        Raises OSError: then nothing is known to be durable, and a second call tries everything again.
        """
        if self.by_syncfs:
            for fd in self._filesystems:
                with self._reporting():
                    syscalls.syncfs(fd)
            return
        with self._lock:
            todo, self._added = self._added, set()
        try:
            self._fsync_each(todo)
        except BaseException:
            with self._lock:
                self._added |= todo
            raise

    def _fsync_each(self, todo: set[tuple[int, bytes]]) -> None:
        for root, path in sorted(todo):
            with contextlib.suppress(FileNotFoundError):
                fd = regular_files.open_regular(root, path)
                try:
                    with self._reporting():
                        os.fsync(fd)
                finally:
                    os.close(fd)
        directories = {(root, os.path.dirname(path)) for root, path in todo}
        # Deepest first: a new directory becomes durable before its own name.
        tops = [(root, b".") for root in sorted({root for root, _ in todo})]
        for root, parent in sorted(directories) + tops:
            with durable.directory(root, parent) as fd, self._reporting():
                durable.sync_dir(fd, label="objects")

    @contextlib.contextmanager
    def _reporting(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._failed(error)
            raise
