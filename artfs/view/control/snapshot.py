"""What a control file said when it was read from its beginning, which may be much. Any thread."""

from __future__ import annotations

import contextlib
import os
import tempfile

from artfs.view.budget import SNAPSHOTS

_IN_MEMORY = 1 << 20  # bytes; more lie in a file without a name, if there is room for one


class Snapshot:
    """Bytes that stay until :meth:`close`, and count among what their reader has of them."""

    __slots__ = ("_content", "_fd", "_reader", "_taken")

    def __init__(self, content: bytes, trash: str = "", reader: int = 0) -> None:
        """``trash`` is a directory on the volume, for what is large. Raises OSError (ENOMEM)."""
        self._content, self._fd, self._reader, self._taken = content, -1, reader, len(content)
        SNAPSHOTS.take(self._taken, reader)
        if len(content) > _IN_MEMORY:
            with contextlib.suppress(OSError), tempfile.TemporaryFile(dir=trash, buffering=0) as file:
                left = memoryview(content)
                while left:
                    left = left[file.write(left) :]
                self._fd = os.dup(file.fileno())
                self._content = b""

    def read(self, offset: int, size: int) -> bytes:
        if self._fd >= 0:
            return os.pread(self._fd, size, offset)
        return self._content[offset : offset + size]

    def close(self) -> None:
        SNAPSHOTS.give(self._taken, self._reader)
        self._taken = 0
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
