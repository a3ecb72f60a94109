"""Marks of damaged blobs: one empty file each in ``damaged/``, under the text of the blob's id.

Owns: that directory. Must not know how damage is found. Any thread may call it, and other processes may
mark at the same time: a mark is seen at the next look.

Only blobs are marked, and only by check. A page of a tree is verified whenever it is read; which blobs are
verified when they are read is in `verified.py`.
"""

from __future__ import annotations

import contextlib
import os
import time

from artfs.model.digest import BlobId, parse_blob, text
from artfs.store import durable

# The directory's mtime moves in ticks of some ms; one that is so old is not written in its last tick.
_SETTLED_NS = 2_000_000_000


class DamagedBlobs:
    """The set of marks, re-read only after the directory changed: to ask costs one fstat(2)."""

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
        # One assignment of a pair, so that threads see both or neither.
        self._known = (found if found + _SETTLED_NS < now else -1, marks)
        return marks

    def __contains__(self, blob: BlobId) -> bool:
        return blob in self.all()

    def add(self, blob: BlobId) -> None:
        """Marks a blob durably; a second time does nothing."""
        durable.create(self._fd, text(blob).encode(), b"", label="mark-damaged")

    def remove(self, blob: BlobId) -> None:
        """Takes a mark away, if there is one."""
        with contextlib.suppress(FileNotFoundError):
            durable.remove(self._fd, text(blob).encode(), label="unmark-damaged")

    def _read(self) -> frozenset[BlobId]:
        marks = set()
        for name in durable.names(self._fd):
            with contextlib.suppress(ValueError):  # a temp, or what somebody else put there
                marks.add(parse_blob(name))
        return frozenset(marks)
