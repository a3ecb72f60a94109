"""What a kernel's write cache shows of files and the backing filesystem refused to store.

With ``mount --write-cache`` a write(2) is answered before the daemon sees it. If it can't be stored then (a
full disk, a file that gets too large), close(2) or fsync(2) says so, but the kernel goes on showing the bytes
and the size that it has in memory, and has no way to be told others. A seal would take what is stored, which
is not what everybody sees: so it asks here first.

Every call is made with the gate's lock held, but for files that are no longer in the tree.
"""

from __future__ import annotations

from weakref import WeakKeyDictionary

from artfs.pending.place import Place


class Unwritten:
    """The files of one tree that show what is not stored, each with the range that holds all of it."""

    def __init__(self) -> None:
        self._ranges: WeakKeyDictionary[Place, tuple[int, int]] = WeakKeyDictionary()

    def refused(self, place: Place, start: int, end: int) -> None:
        """Notes that a range could not be stored."""
        known = self._ranges.get(place, (start, end))
        self._ranges[place] = min(start, known[0]), max(end, known[1])

    def stored(self, place: Place, start: int, end: int) -> None:
        """Notes that a range was stored; what begins or ends the range that is missing no longer is."""
        if place not in self._ranges:
            return
        first, last = self._ranges[place]
        if start <= first < end:
            first = end
        if start < last <= end:
            last = start
        self._keep(place, first, last)

    def cut(self, place: Place, size: int) -> None:
        """Notes that the file was given a size: the kernel takes that from the daemon's answer."""
        if place in self._ranges:
            first, last = self._ranges[place]
            self._keep(place, first, min(last, size))

    def _keep(self, place: Place, first: int, last: int) -> None:
        if first < last:
            self._ranges[place] = first, last
        else:
            del self._ranges[place]

    def paths(self) -> list[bytes]:
        """Lists the files that are still in the tree."""
        return sorted(place.path() for place in [*self._ranges] if not place.gone)
