"""Closes descriptors, on a thread of its own where that may take long.

The last descriptor of a file without a name takes the file along: with some ten thousand extents that keeps
the backing filesystem busy for seconds. Closing one that was written may start to write all of it back
(ext4 after a truncation), or wait for that (network filesystems). Knows nothing but descriptors. Any thread.
"""

from __future__ import annotations

import logging
import os
import threading
from queue import SimpleQueue

log = logging.getLogger(__name__)

_LARGE = 1 << 20  # bytes on the disk: 256 extents at the most, which take some milliseconds
_LONG = 1 << 26  # bytes with holes, all of which may be pages in memory
_THREADS = 2  # so that one file of very many extents keeps nobody's from going


def is_large(status: os.stat_result) -> bool:
    """Tells whether it may take long to free a file's bytes."""
    return status.st_blocks * 512 > _LARGE or status.st_size > _LONG


def close(fd: int, *, written: bool = False) -> None:
    """Closes a descriptor, later if it may take long; it is not to be used any more in either case.

    `written` says that the file may have been written through it.
    """
    try:
        status = os.fstat(fd)
    except OSError:  # of what has no name any more, on a filesystem that forgot it
        os.close(fd)
        return
    if (written or not status.st_nlink) and is_large(status):
        _closer.take(fd)
    else:
        os.close(fd)


class _Closer:
    def __init__(self) -> None:
        self._descriptors: SimpleQueue[int] = SimpleQueue()
        self._threads = 0

    def take(self, fd: int) -> None:
        self._descriptors.put(fd)  # first: where no thread can be had, the next one closes it
        if self._threads < _THREADS:
            threading.Thread(target=self._run, name="closing", daemon=True).start()
            self._threads += 1

    def _run(self) -> None:
        while True:
            try:
                os.close(self._descriptors.get())
            except OSError as error:
                log.error("a file that was closed may not be whole: %r", error)


_closer = _Closer()

__all__ = ["close", "is_large"]
