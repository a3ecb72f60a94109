"""What all open handles of a mount may hold in memory together, so that nobody fills it by opening many."""

from __future__ import annotations

import errno
import threading


class Budget:
    """An amount of something, of which parts are taken and given back. Any thread."""

    def __init__(self, most: int, why: str) -> None:
        """`why` tells whoever gets nothing what there is too much of."""
        self._left, self._why = most, why
        self._lock = threading.Lock()

    def take(self, amount: int) -> None:
        """Raises OSError (ENOMEM) if there is not so much left."""
        with self._lock:
            if amount > self._left:
                raise OSError(errno.ENOMEM, self._why)
            self._left -= amount

    def give(self, amount: int) -> None:
        with self._lock:
            self._left += amount


#: Bytes of documents of which only a part was written.
DOCUMENTS = Budget(256 << 20, "too many documents are being written at the same time")
#: Names in the listings of directories that are open.
NAMES = Budget(20_000_000, "too many large directories are being read at the same time")
