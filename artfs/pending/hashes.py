"""Digests of files that were hashed while they were written, so that a finish need not read the files.

A digest is valid only if every byte of the file was hashed here in order: each write and truncation of a file
must be reported. Knows only inode numbers of the backing filesystem. Called on the event loop's thread;
`take` on the sealing thread, when no file is written any more.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from artfs.model.digest import Algorithm, Hasher

LIMIT = 500_000  # files; any more are hashed at the finish


@dataclass(slots=True)
class _Stream:
    hasher: Hasher
    size: int = 0


class Hashes:
    """What is known of the files of one pending tree, by backing inode number."""

    def __init__(self, algorithm: Algorithm) -> None:
        self.algorithm = algorithm
        self._streams: dict[int, _Stream] = {}
        self._known: dict[int, tuple[int, bytes]] = {}
        self._learned: dict[int, tuple[int, int, bytes]] = {}  # with ctime: see `learned`

    def begin(self, ino: int) -> None:
        """Begins to hash a file that is new or was truncated to zero."""
        self._known.pop(ino, None)
        self._streams[ino] = _Stream(self.algorithm.hasher())

    def written(self, ino: int, offset: int, data: bytes, count: int) -> None:
        """`count` bytes of `data` went to `offset`."""
        stream = self._streams.get(ino)
        if stream is None:
            self._known.pop(ino, None)
        elif stream.size == offset:
            stream.hasher.update(data if count == len(data) else data[:count])
            stream.size += count
        else:
            del self._streams[ino]

    def closed(self, ino: int) -> None:
        """Keeps the digest of a file that is no longer open for writing, and drops the hasher's state."""
        stream = self._streams.pop(ino, None)
        if stream is not None and len(self._known) < LIMIT:
            self._known[ino] = (stream.size, stream.hasher.digest())

    def learn(self, ino: int, size: int, digest: bytes) -> None:
        """Sets the digest of a file that is a copy of known bytes."""
        if len(self._known) < LIMIT:
            self._known[ino] = (size, digest)

    def forget(self, ino: int) -> None:
        """Drops a file that was changed in another way, or deleted, so that its number may be used again."""
        self._streams.pop(ino, None)
        self._known.pop(ino, None)
        self._learned.pop(ino, None)

    def learned(self, status: os.stat_result, digest: bytes) -> None:
        """Sets the digest of a file that was written directly, by the only process that uses the tree.

        It is valid while the file's ctime is that of `status`, taken after the last write.
        """
        if len(self._learned) < LIMIT:
            self._learned[status.st_ino] = (status.st_size, status.st_ctime_ns, digest)

    def take(self, status: os.stat_result) -> bytes | None:
        """Returns the digest of the file's bytes; None if it is not known."""
        ino, size = status.st_ino, status.st_size
        if learned := self._learned.get(ino):
            return learned[2] if learned[:2] == (size, status.st_ctime_ns) else None
        known = self._known.get(ino)
        if known is None:
            stream = self._streams.get(ino)
            return stream.hasher.digest() if stream is not None and stream.size == size else None
        return known[1] if known[0] == size else None
