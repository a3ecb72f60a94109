"""Reads of a sealed file, whose bytes are compared with its digest before any are returned."""

from __future__ import annotations

import os

from artfs.vfs.node import CachedRead, Work

_HASHED_AT_ONCE = 1 << 18  # bytes that are hashed on the event loop's thread


class VerifiedReads:
    """What handles of sealed files have in common."""

    __slots__ = ()

    fd: int
    unverified: bool

    def verify(self, data: memoryview | None = None) -> None:
        """Compares the file with its digest; `data` is the whole of it, if it was read just now.

        Raises :class:`~artfs.errors.Damaged`. Waits for the disk unless `data` is given.
        """
        raise NotImplementedError

    def read_at_once(self, offset: int, size: int, cached: CachedRead) -> memoryview | None:
        found = cached(self.fd, offset, size)
        if found is not None and self.unverified:
            # One request reads most small files: then the bytes are at hand.
            if offset or len(found) > _HASHED_AT_ONCE or len(found) < os.fstat(self.fd).st_size:
                return None
            self.verify(found)
        return found

    def reading(self, offset: int) -> Work:
        return Work.VERIFYING if self.unverified else Work.DISK

    def read(self, offset: int, size: int) -> bytes:
        if self.unverified:
            self.verify()
        return os.pread(self.fd, size, offset)
