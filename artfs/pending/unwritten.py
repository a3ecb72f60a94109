"""Writes in the kernel's cache that the backing filesystem refused to store.

With ``mount --write-cache`` a write(2) returns before the daemon sees it. If it can't be stored (on a full
disk, say), close(2) or fsync(2) fails, but the kernel keeps showing the bytes and the size that it has in
memory. A seal would store other bytes than users see, so it checks here first.

Called with the gate's lock held, but for files that are no longer in the tree.
"""

from __future__ import annotations

from weakref import WeakKeyDictionary

from artfs.pending.backing_inodes import BackingInode


class Unwritten:
    """The files of one tree with unstored writes, each with the range that covers them."""

    def __init__(self) -> None:
        self._ranges: WeakKeyDictionary[BackingInode, tuple[int, int]] = WeakKeyDictionary()

    def refused(self, inode: BackingInode, start: int, end: int) -> None:
        """Records that a range could not be stored."""
        known = self._ranges.get(inode, (start, end))
        self._ranges[inode] = min(start, known[0]), max(end, known[1])

    def stored(self, inode: BackingInode, start: int, end: int) -> None:
        """Records that a range was stored, and cuts it off the unstored range if it is at one end."""
        if inode not in self._ranges:
            return
        first, last = self._ranges[inode]
        if start <= first < end:
            first = end
        if start < last <= end:
            last = start
        self._keep(inode, first, last)

    def cut(self, inode: BackingInode, size: int) -> None:
        """Records a new size of the file, which the kernel takes from the daemon's answer."""
        if inode in self._ranges:
            first, last = self._ranges[inode]
            self._keep(inode, first, min(last, size))

    def _keep(self, inode: BackingInode, first: int, last: int) -> None:
        if first < last:
            self._ranges[inode] = first, last
        else:
            del self._ranges[inode]

    def paths(self) -> list[bytes]:
        """Lists the files with unstored writes that are still in the tree."""
        return sorted(inode.path() for inode in [*self._ranges] if not inode.gone)
