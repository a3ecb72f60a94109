"""The content of a control file when it was read from its beginning, which may be large. Any thread."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterable
from typing import TypeAlias

from artfs.limits.limit import Holding
from artfs.limits.numbers import SNAPSHOTS, SNAPSHOTS_IN_MEMORY

Content: TypeAlias = str | bytes | Iterable[str | bytes]

_IN_MEMORY = 1 << 20  # bytes; more go to an unnamed file, if the disk has room
_STEP = 1 << 16  # bytes that are collected before they are counted


class Snapshot:
    """Bytes that are held until :meth:`close`, and charged to their reader.

    They are charged piece by piece, so that no more are produced than the reader may have. The beginning is
    in the file; the end is in memory, and short unless the disk is full. tempfile.SpooledTemporaryFile loses
    what it holds when its file can't be written.
    """

    __slots__ = ("_directory", "_end", "_fd", "_held", "_in_file", "_taken")

    def __init__(self, content: Content, directory: str = "", reader: int = 0) -> None:
        """`directory`, on the volume, takes large content.

        Raises OSError (ENOMEM) for more than the reader may have, and what producing the content raises.
        """
        self._directory = directory
        self._fd, self._in_file, self._end = -1, 0, bytearray()
        self._taken, self._held = Holding(SNAPSHOTS, reader), Holding(SNAPSHOTS_IN_MEMORY, reader)
        try:
            self._gather((content,) if isinstance(content, str | bytes) else content)
        except BaseException:
            self.close()
            raise

    @classmethod
    def uncounted(cls, content: str) -> Snapshot:
        """Makes one of a short text, which is not charged."""
        self = cls(())
        self._end += content.encode("utf-8", "surrogateescape")
        return self

    def _gather(self, pieces: Iterable[str | bytes]) -> None:
        for piece in pieces:
            self._end += piece.encode("utf-8", "surrogateescape") if isinstance(piece, str) else piece
            if self._in_file + len(self._end) - self._taken.amount >= _STEP:
                self._count()
        self._count()
        with contextlib.suppress(OSError):  # more than the reader may hold in memory: it goes to the file
            self._hold()
            return
        self._write()
        self._hold()

    def _count(self) -> None:
        self._taken.take(self._in_file + len(self._end) - self._taken.amount)
        if len(self._end) > _IN_MEMORY:
            self._write()
            if len(self._end) > _IN_MEMORY:
                self._hold()

    def _hold(self) -> None:
        """Charges what is in memory."""
        more = len(self._end) - self._held.amount
        if more > 0:
            self._held.take(more)

    def _write(self) -> None:
        """Moves to the file as much as the disk takes."""
        with contextlib.suppress(OSError):
            if self._fd < 0:
                with tempfile.TemporaryFile(dir=self._directory, buffering=0) as file:
                    self._fd = os.dup(file.fileno())
            while self._end:
                written = os.write(self._fd, self._end)
                self._in_file += written
                del self._end[:written]

    def read(self, offset: int, size: int) -> bytes:
        found = os.pread(self._fd, size, offset) if offset < self._in_file else b""
        begin = offset + len(found) - self._in_file
        return found if begin < 0 else found + self._end[begin : begin + size - len(found)]

    def close(self) -> None:
        self._taken.close()
        self._held.close()
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
