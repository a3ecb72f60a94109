"""Which blobs this process has verified since it opened the volume.

Owns when a blob is verified before it is read: once, if it is small. A disk may return wrong bytes without an
error, and reading a small file whole costs hardly more than reading a part of it. Of a large file a program
may need only a little, so by default only check verifies those. A blob whose inode has changed since is
verified again. Any thread may call it.
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

#: Inode, size, mtime, ctime: equal if the file has not changed. No user can set ctime.
_State = tuple[int, int, int, int]


class VerifiedBlobs:
    """The blobs of one store that were verified, up to a number of them."""

    def __init__(self, algorithm: Algorithm, *, largest: int = LARGEST) -> None:
        """Blobs of up to ``largest`` bytes are verified before they are read."""
        self._algorithm, self._largest = algorithm, largest
        # Not a cachetools.LRUCache: its reads need the lock, and every open of a small file has one.
        self._known: OrderedDict[BlobId, _State] = OrderedDict()
        self._lock = threading.Lock()

    def needs_check(self, blob: BlobId, fd: int) -> bool:
        """Tells whether an open blob must be verified before its bytes are used."""
        state = _state(fd)
        return 0 < state[1] <= self._largest and self._known.get(blob) != state

    def check(self, blob: BlobId, fd: int, data: bytes | memoryview | None = None) -> None:
        """Compares an open blob with its digest. `data`, if given, is all of its bytes. Raises Damaged."""
        state = _state(fd)
        if data is None:
            if self._known.get(blob) == state:  # another thread has verified it meanwhile
                return
            digest = regular_files.hash_fd(self._algorithm, fd)
        else:
            hasher = self._algorithm.hasher()
            hasher.update(data)
            digest = hasher.digest()
        if digest != digest_of(blob):
            raise Damaged(f"blob {text(blob)}", "its bytes do not match its digest")
        with self._lock:
            self._known[blob] = state
            self._known.move_to_end(blob)
            if len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)


def _state(fd: int) -> _State:
    found = os.fstat(fd)
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
