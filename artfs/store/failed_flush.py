"""Whether a flush of the objects failed, so that their files may read well and not be on the disk.

Owns: ``objects/doubt``. Linux reports a failed write-back once and then considers the pages clean: the next
fsync succeeds and reads return the bytes, though the disk does not have them. So after a failed flush no
process trusts an object that it did not write anew, until gc has removed what no version needs. Must not know
objects. Any thread may call it.
"""

from __future__ import annotations

import contextlib
import logging
import os

from artfs.store import durable

_FILE = b"doubt"

log = logging.getLogger(__name__)


class FailedFlush:
    """The record of a failed flush, which all processes on the volume share."""

    def __init__(self, objects_fd: int) -> None:
        """``objects_fd`` is the directory of objects; it must stay open as long as this is used."""
        self._fd = objects_fd
        self._unrecorded = False
        self.active = False
        #: How many failures this process has seen, its own and those that other processes recorded.
        self.count = 0
        self.refresh()

    def refresh(self) -> bool:
        """Updates and returns :attr:`active`, whichever process recorded the failure."""
        before = self.active
        try:
            os.stat(_FILE, dir_fd=self._fd, follow_symlinks=False)
            self.active = True
        except FileNotFoundError:
            # A failure that could not be recorded is known to this process alone.
            self.active = self._unrecorded
        if self.active and not before:
            self.count += 1
        return self.active

    def record(self, error: OSError) -> None:
        """Records durably that something could not be made durable. Never raises."""
        log.error("a flush failed (%s): every finish from now on writes its files anew", error.strerror)
        self.active = True
        self.count += 1
        try:
            durable.create(self._fd, _FILE, b"", label="doubt")
            self._unrecorded = False
        except OSError:
            self._unrecorded = True

    def clear(self) -> None:
        """Removes the record. The caller has removed all objects it concerns, and excludes new ones."""
        with contextlib.suppress(FileNotFoundError):
            durable.remove(self._fd, _FILE, label="doubt")
        self.active = self._unrecorded = False
