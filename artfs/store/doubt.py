"""Whether what reads well in this volume may not be on its disk: after a flush that failed.

Owns ``objects/doubt``. Linux tells a failed write-back once and then takes the pages for clean: the next
fsync succeeds, reads go on giving the bytes, and the disk hasn't got them. So from a failure on no object is
trusted that isn't written anew, by any process, until gc has removed what no version needs. Must not know
objects. Any thread may call it.
"""

from __future__ import annotations

import contextlib
import logging
import os

from artfs.store import durable

_FILE = b"doubt"

log = logging.getLogger(__name__)


class Doubt:
    def __init__(self, objects_fd: int) -> None:
        """``objects_fd`` is the directory of objects; it must stay open while this is used."""
        self._fd = objects_fd
        self._raised = False
        self.there = False
        #: How often it arose in this process, or was found to have arisen in another.
        self.times = 0
        self.look()

    def look(self) -> bool:
        """Looks whether there is doubt now, in whichever process it arose; :attr:`there` is as of then."""
        before = self.there
        try:
            os.stat(_FILE, dir_fd=self._fd, follow_symlinks=False)
            self.there = True
        except FileNotFoundError:
            # Where it could not even be noted, this process knows.
            self.there = self._raised
        if self.there and not before:
            self.times += 1
        return self.there

    def arise(self, error: OSError) -> None:
        """Notes that something could not be made durable. Never raises."""
        log.error("a flush failed (%s): what is finished from now on is written anew", error.strerror)
        self.there = True
        self.times += 1
        try:
            durable.create(self._fd, _FILE, b"", label="doubt")
            self._raised = False
        except OSError:
            self._raised = True

    def end(self) -> None:
        """Takes the doubt away: the caller has removed what was in it, and keeps others from storing."""
        with contextlib.suppress(FileNotFoundError):
            durable.remove(self._fd, _FILE, label="doubt")
        self.there = self._raised = False
