"""One pending tree as a mount shows it: makes its nodes, one for each inode, and numbers them.

Event loop's thread, but for `become`.
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from artfs.pending.backing_inodes import BackingInode
from artfs.pending.gate import State
from artfs.pending.pending_tree import PendingTree
from artfs.vfs.control.control_nodes import ControlDirectory
from artfs.vfs.node import LOWER
from artfs.vfs.pending_directory import PendingDirectory
from artfs.vfs.pending_node import PendingNode
from artfs.vfs.sealed import SealedNode, SealedTree
from artfs.volume.volume_references import References

_SALT_DIGITS, _SALT_SHIFT = 5, 40  # 20 bits, above the inode numbers that ext4, xfs and btrfs reach


@dataclass(frozen=True, slots=True)
class MountContext:
    """What is the same for all pending trees of a mount."""

    root_of: Callable[[PendingTree], PendingDirectory]  # finds the root of a tree's successor
    references: References
    as_root: bool  # whether new files are given to the caller that made them
    write_cache: bool


class MountedTree:
    """What the nodes of one pending tree share.

    Does not hold its nodes, since they hold it: their descriptors are closed with their last user.
    """

    def __init__(self, tree: PendingTree, control: ControlDirectory, mount: MountContext) -> None:
        self.tree, self.control, self.mount = tree, control, mount
        self.version_root: SealedNode | None = None  # of the version that the tree became
        #: Names that the kernel remembers for good to be absent from the root; a base may have them.
        self.absent: set[bytes] = set()
        self._salt = int(tree.pending_version.birth.nonce[:_SALT_DIGITS], 16) << _SALT_SHIFT

    @property
    def deleted(self) -> bool:
        """Tells whether the tree was discarded, or the version that it became was deleted.

        Then open files go on as unlinked ones, and directories as empty ones that were removed.
        """
        if self.version_root is not None:
            return self.version_root.tree.deleted
        return self.tree.gate.state is State.DISCARDED

    def become(self, version: SealedTree) -> None:
        """Records the version that the tree became. On a sealing thread."""
        self.version_root = version.root
        version.former_pending.add(self)

    def backing_flags(self, flags: int) -> int:
        """Returns the open(2) flags for the backing file.

        With its write cache the kernel reads what surrounds a write, through whatever handle the write has.
        It implements the other flags itself: it positions an O_APPEND write, and sends an fsync after one of
        O_SYNC or O_DSYNC.
        """
        access = flags & os.O_ACCMODE
        if self.mount.write_cache and access == os.O_WRONLY:
            access = os.O_RDWR
        return access | flags & (os.O_TRUNC | os.O_NOATIME)

    def make_root(self) -> PendingDirectory:
        """Makes the root of the tree; called once."""
        fd = self.tree.open_root()
        root = self._root(os.fstat(fd).st_ino)
        self.tree.inodes.set_root(root, fd)
        return root

    def _root(self, backing_ino: int) -> PendingDirectory:
        return PendingDirectory(self, None, b"", backing_ino)

    def number(self, backing_ino: int) -> int:
        """Returns the inode number of the node whose backing inode is `backing_ino`; it survives a remount.

        Nodes outlive their tree, and the backing filesystem uses the numbers of its directories again: with
        the same number, a process whose working directory is in one tree would find itself in the other.
        """
        if backing_ino & LOWER:  # of a lower entry: nothing on the backing filesystem has it
            return backing_ino
        pinned = self.tree.inodes.pinned(backing_ino)
        if pinned is not None:
            return pinned
        # LOWER is the lowest of the bits that tell kinds of nodes.
        number = (backing_ino ^ self._salt) & (LOWER - 1)
        if number < 2 or self.tree.inodes.is_kept(number):  # by a node that had that inode, or by the mount
            number = LOWER | secrets.randbits(LOWER.bit_length() - 1)
            self.tree.inodes.pin_number(backing_ino, number)
        return number

    def node(self, status: os.stat_result, parent: BackingInode, name: bytes) -> PendingNode:
        """Returns the node of what was just found at `name`; there is one node for one inode."""
        known = cast("PendingNode | None", self.tree.inodes.known(status.st_ino))
        if known is not None:
            if known.parent is not parent or known.name != name:
                known.add_name(parent, name)
            return known
        return self.tree.inodes.add(self._new_node(status, parent, name))

    def _new_node(self, status: os.stat_result, parent: BackingInode, name: bytes) -> PendingNode:
        kind = PendingDirectory if stat.S_ISDIR(status.st_mode) else PendingNode
        return kind(self, parent, name, status.st_ino)
