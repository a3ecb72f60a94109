"""Marks of damaged blobs: one empty file each in ``damaged/``, under the text of the blob's id.

Owns: that directory. Must not know how damage is found. Any thread may call it, also while other processes
add marks: each access sees the present ones.

Only check marks blobs, and nothing else is marked. A page of a tree is verified whenever it is read;
`verified_blobs.py` decides which blobs are verified when they are read.
"""

from __future__ import annotations

import contextlib
import os
import time

from artfs.model.digest import BlobId, parse_blob, text
from artfs.store import durable

# The directory's mtime moves in ticks of some ms; after this time no more changes have the same mtime.
_SETTLED_NS = 2_000_000_000


class DamagedBlobs:
    """The set of marked blobs, re-read only after the directory changed: an access costs one fstat(2)."""

    def __init__(self, dir_fd: int) -> None:
        self._fd = dir_fd
        self._known: tuple[int, frozenset[BlobId]] = (-1, frozenset())

    def all(self) -> frozenset[BlobId]:
        stamp, marks = self._known
        found = os.fstat(self._fd).st_mtime_ns
        if found == stamp:
            return marks
        now = time.time_ns()
        marks = self._read()
        # One assignment of a pair: other threads see both or neither.
        self._known = (found if found + _SETTLED_NS < now else -1, marks)
        return marks

    def __contains__(self, blob: BlobId) -> bool:
        return blob in self.all()

    def add(self, blob: BlobId) -> None:
        """Marks a blob durably; a second time does nothing."""
        durable.create(self._fd, text(blob).encode(), b"", label="mark-damaged")

    def remove(self, blob: BlobId) -> None:
        """Removes a mark, if there is one."""
        with contextlib.suppress(FileNotFoundError):
            durable.remove(self._fd, text(blob).encode(), label="unmark-damaged")

    def _read(self) -> frozenset[BlobId]:
        marks = set()
        for name in durable.names(self._fd):
            with contextlib.suppress(ValueError):  # a temp or a foreign file
                marks.add(parse_blob(name))
        return frozenset(marks)
