"""Which blobs were found to have the bytes of their digest since this process opened the volume.

Owns when a blob that is about to be read is verified first: once, if it is small. A disk gives wrong bytes
without a word, and reading a small file whole costs hardly more than a part of it; of a large one a program
may want a little, so that check alone reads those, unless it is said otherwise. A file that was changed
since, as its inode tells, is verified again. Any thread may call it.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict

from artfs.errors import Damaged
from artfs.model.digest import Algorithm, BlobId, digest_of, text
from artfs.store import regular_files

LARGEST = 1 << 20  # bytes
_REMEMBERED = 100_000

#: Inode, size, mtime, ctime: what tells that nobody has changed a file. Nobody can set ctime.
_State = tuple[int, int, int, int]


class VerifiedBlobs:
    """The blobs of one store that were read and found sound, those that were asked for last."""

    def __init__(self, algorithm: Algorithm) -> None:
        self._algorithm = algorithm
        #: The size up to which blobs are verified before they are read. To be set before the first is.
        self.largest = LARGEST
        self._known: OrderedDict[BlobId, _State] = OrderedDict()
        self._lock = threading.Lock()

    def needs_check(self, blob: BlobId, fd: int) -> bool:
        """Tells whether an open blob is to be verified before its bytes are given to anybody."""
        state = _state(fd)
        return 0 < state[1] <= self.largest and self._known.get(blob) != state

    def check(self, blob: BlobId, fd: int, data: bytes | memoryview | None = None) -> None:
        """Compares an open blob with its digest; `data`, if given, is all of its bytes, as they were read.

        Raises :class:`Damaged`.
        """
        state = _state(fd)
        if data is None:
            if self._known.get(blob) == state:  # somebody else did it since this was asked for
                return
            digest = regular_files.hash_fd(self._algorithm, fd)
        else:
            hasher = self._algorithm.hasher()
            hasher.update(data)
            digest = hasher.digest()
        if digest != digest_of(blob):
            raise Damaged(f"blob {text(blob)}", "it has other bytes than its digest says")
        with self._lock:
            self._known[blob] = state
            self._known.move_to_end(blob)
            if len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)


def _state(fd: int) -> _State:
    found = os.fstat(fd)
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
