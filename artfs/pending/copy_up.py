"""Copies a lower file, so that it can be written.

Owns the copy until it has a name in the tree; it is durable before that, so that after a crash the tree has
the lower file or the whole copy. Must not know nodes. :meth:`CopyUp.run` may take long, and runs on a worker
thread; the rest is quick.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from typing import Protocol

from artfs.linux import syscalls
from artfs.linux.file_copy import copy_file
from artfs.model.entry import FileEntry, ReferenceEntry
from artfs.pending import overlay
from artfs.store import durable


class Staging(Protocol):
    """Holds the directory open in which files are made."""

    @property
    def fd(self) -> int: ...


class CopyUp:
    """The copy of one file. Shares extents where the filesystem can, and keeps holes."""

    def __init__(
        self, staging: Staging, entry: FileEntry | ReferenceEntry, source: Callable[[], int] | None
    ) -> None:
        """`source` opens the lower file; without one the copy is empty."""
        self.staging, self._entry, self._source = staging, entry, source
        self._lock = threading.Lock()
        self._name: bytes | None = None

    @property
    def ready(self) -> bool:
        return self._name is not None

    def run(self) -> None:
        """Makes the copy; a second caller waits for the first. Raises OSError, Damaged; can be run again."""
        with self._lock:
            if self._name is not None:
                return
            name = durable.temp_name()
            durable.step("copy-up:write")
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            fd = os.open(name, flags, 0o600, dir_fd=self.staging.fd)
            try:
                try:
                    self._fill(fd)
                finally:
                    os.close(fd)
            except Exception:
                with contextlib.suppress(OSError):
                    os.unlink(name, dir_fd=self.staging.fd)
                raise
            self._name = name

    def _fill(self, fd: int) -> None:
        overlay.set_xattrs(fd, self._entry.xattrs)
        if self._source is not None:
            source = self._source()
            try:
                copy_file(source, fd)
            finally:
                os.close(source)
            durable.sync_file(fd, label="copy-up")

    def set_attributes(self, uid: int, gid: int, mode: int, times: tuple[int, int]) -> bytes:
        """Sets owner, mode, atime and mtime; returns the copy's name. Then call :meth:`release`."""
        assert self._name is not None
        overlay.set_owner(self.staging.fd, self._name, uid, gid)
        os.chmod(self._name, mode, dir_fd=self.staging.fd)
        syscalls.utimensat(self.staging.fd, self._name, *times)
        return self._name

    def release(self) -> None:
        """Records that the copy has a name in the tree, or none, and must not be removed here."""
        self._name = None

    def __del__(self) -> None:
        # The change that needed the copy was refused.
        if self._name is not None:
            with contextlib.suppress(OSError):
                os.unlink(self._name, dir_fd=self.staging.fd)
