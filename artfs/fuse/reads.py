"""Reads that the backing filesystem's page cache can answer at once: without a thread, without a copy.

Event loop's thread only: there is one buffer, and an answer is good until the next read.
"""

from __future__ import annotations

import errno
import os

from artfs.fuse.handshake import MAX_WRITE


class QuickReads:
    """pread(2) that never waits for a disk (RWF_NOWAIT)."""

    def __init__(self) -> None:
        self._buffer = memoryview(bytearray(MAX_WRITE))
        self._flags = os.RWF_NOWAIT

    def read(self, fd: int, offset: int, size: int) -> memoryview | None:
        """Returns up to `size` bytes, fewer only at the end of the file; None if they have to be waited for.

        The answer is a part of the one buffer: pyfuse3 hands it to the kernel before it awaits anything.
        """
        if size > len(self._buffer):
            return None
        try:
            count = os.preadv(fd, [self._buffer[:size]], offset, self._flags)
        except BlockingIOError:
            return None
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP or not self._flags:
                raise
            self._flags = 0  # a filesystem that can't tell, tmpfs say: then it is asked to wait
            return self.read(fd, offset, size)
        if count < size and offset + count < os.fstat(fd).st_size:
            return None  # it stopped at a page that is not there; the kernel would take that for the end
        return self._buffer[:count]
