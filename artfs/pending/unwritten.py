"""What a kernel's write cache shows of files and the backing filesystem refused to store.

With ``mount --write-cache`` a write(2) is answered before the daemon sees it. If it can't be stored then (a
full disk, a file that gets too large), close(2) or fsync(2) says so, but the kernel goes on showing the bytes
and the size that it has in memory, and has no way to be told others. A seal would take what is stored, which
is not what everybody sees: so it asks here first.

Every call is made with the gate's lock held, but for files that are no longer in the tree.
"""

from __future__ import annotations

from weakref import WeakKeyDictionary

from artfs.pending.backing_inodes import BackingInode


class Unwritten:
    """The files of one tree that show what is not stored, each with the range that holds all of it."""

    def __init__(self) -> None:
        self._ranges: WeakKeyDictionary[BackingInode, tuple[int, int]] = WeakKeyDictionary()

    def refused(self, inode: BackingInode, start: int, end: int) -> None:
        """Notes that a range could not be stored."""
        known = self._ranges.get(inode, (start, end))
        self._ranges[inode] = min(start, known[0]), max(end, known[1])

    def stored(self, inode: BackingInode, start: int, end: int) -> None:
        """Notes that a range was stored; what begins or ends the range that is missing no longer is."""
        if inode not in self._ranges:
            return
        first, last = self._ranges[inode]
        if start <= first < end:
            first = end
        if start < last <= end:
            last = start
        self._keep(inode, first, last)

    def cut(self, inode: BackingInode, size: int) -> None:
        """Notes that the file was given a size: the kernel takes that from the daemon's answer."""
        if inode in self._ranges:
            first, last = self._ranges[inode]
            self._keep(inode, first, min(last, size))

    def _keep(self, inode: BackingInode, first: int, last: int) -> None:
        if first < last:
            self._ranges[inode] = first, last
        else:
            del self._ranges[inode]

    def paths(self) -> list[bytes]:
        """Lists the files that are still in the tree."""
        return sorted(inode.path() for inode in [*self._ranges] if not inode.gone)
