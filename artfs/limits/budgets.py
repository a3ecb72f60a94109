"""What all open handles of a mount may hold together, so that nobody fills memory or disk by opening many.

A user has a share, so that he leaves something to others.
"""

from __future__ import annotations

import errno
import threading
from collections import Counter


class Budget:
    """An amount of something, of which parts are taken and given back, for a user or for nobody (0)."""

    def __init__(self, most: int, share: int, why: str) -> None:
        """``share`` is what one user may have of it; `why` tells who gets no more. Any thread."""
        self._left, self._share, self._why = most, share, why
        self._of: Counter[int] = Counter()
        self._lock = threading.Lock()

    def take(self, amount: int, uid: int = 0) -> None:
        """Raises OSError (ENOMEM) if there is not so much left, for all or for this user."""
        with self._lock:
            if amount > self._left or (uid and self._of[uid] + amount > self._share):
                raise OSError(errno.ENOMEM, self._why)
            self._left -= amount
            self._of[uid] += amount

    def give(self, amount: int, uid: int = 0) -> None:
        with self._lock:
            self._left += amount
            self._of[uid] -= amount
            if not self._of[uid]:
                del self._of[uid]


#: Bytes of documents of which only a part was written.
DOCUMENTS = Budget(256 << 20, 64 << 20, "too many documents are being written at the same time")
#: Bytes of what control files said to those who read them; most of large ones lies on the volume's disk.
SNAPSHOTS = Budget(4 << 30, 1 << 30, "too many large control files are being read at the same time")
#: Those of them that lie in memory, as short ones do, and all that the disk doesn't take.
HELD = Budget(256 << 20, 64 << 20, "too many control files are being read, and the disk has no room for them")
#: Bytes in memory of what was found at URIs, until there are references to it.
FOUND = Budget(1 << 30, 1 << 29, "too many objects are being referred to at the same time")
#: Names in the listings of directories that are open.
NAMES = Budget(20_000_000, 10_000_000, "too many large directories are being read at the same time")
