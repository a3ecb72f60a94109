"""Closes descriptors, on a separate thread if that may take long.

Closing the last descriptor of an unlinked file frees its blocks: with some ten thousand extents that keeps
the backing filesystem busy for seconds. Closing a written file may start its write-back (ext4 after a
truncation), or wait for it (network filesystems). Knows only descriptors. Any thread.
"""

from __future__ import annotations

import logging
import os
import threading
from queue import SimpleQueue

log = logging.getLogger(__name__)

_LARGE = 1 << 20  # bytes on disk: at most 256 extents, which take some milliseconds
_LONG = 1 << 26  # bytes with holes, all of which may be pages in memory
_THREADS = 2  # so that one file of very many extents does not block the others


def is_large(status: os.stat_result) -> bool:
    """Tells whether freeing the blocks of a file may take long."""
    return status.st_blocks * 512 > _LARGE or status.st_size > _LONG


def close(fd: int, *, written: bool = False) -> None:
    """Closes a descriptor now, or later if it may take long. The caller must not use it any more.

    `written`: the file may have been written through it.
    """
    try:
        status = os.fstat(fd)
    except OSError:  # of an unlinked file, on a filesystem that forgot it
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
        self._descriptors.put(fd)  # first: if no thread can be started, the next call closes it
        if self._threads < _THREADS:
            threading.Thread(target=self._run, name="closing", daemon=True).start()
            self._threads += 1

    def _run(self) -> None:
        while True:
            try:
                os.close(self._descriptors.get())
            except OSError as error:
                log.error("a file that was closed may be incomplete: %r", error)


_closer = _Closer()

__all__ = ["close", "is_large"]
