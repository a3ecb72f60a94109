"""An open reference: its bytes are brought when they are first read.

So opening one never fails and never waits; a read that can't have the recorded bytes is EIO. Runs on worker
threads.
"""

from __future__ import annotations

import os
import threading

from artfs.model.entry import ReferenceEntry
from artfs.references import References
from artfs.view.node import Handle


class ReferenceHandle(Handle):
    __slots__ = ("_entry", "_fd", "_lock", "_of", "_references")

    blocks = waits = True  # for as long as somebody else's server takes

    def __init__(self, references: References, entry: ReferenceEntry, of: str) -> None:
        self._references, self._entry, self._of = references, entry, of
        self._fd = -1
        self._lock = threading.Lock()

    def descriptor(self) -> int:
        return self._fd

    def read(self, offset: int, size: int) -> bytes:
        with self._lock:
            if self._fd < 0:
                self._fd = self._references.open(self._entry, of=self._of)
        return os.pread(self._fd, size, offset)

    def release(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)


__all__ = ["ReferenceHandle"]
