"""A patch as a mount shows it: makes the nodes of own, stub and lower entries. Event loop's thread."""

from __future__ import annotations

import os
import stat

from artfs.model.entry import DirEntry, Entry
from artfs.pending import overlay
from artfs.pending.backing_inodes import BackingInode
from artfs.pending.overlay import Lower, Stub
from artfs.pending.pending_tree import TREE, PendingTree
from artfs.store import durable
from artfs.vfs.control.control_nodes import ControlDirectory
from artfs.vfs.mounted_tree import MountContext, MountedTree
from artfs.vfs.patch_directory import PatchDirectory
from artfs.vfs.patch_node import PatchNode
from artfs.vfs.pending_directory import PendingDirectory
from artfs.vfs.pending_node import PendingNode


class MountedPatch(MountedTree):
    """What the nodes of one patch share."""

    def __init__(self, tree: PendingTree, control: ControlDirectory, mount: MountContext) -> None:
        super().__init__(tree, control, mount)
        self.store, self.reader = tree.store, tree.store.reader
        base = tree.base()
        #: Whether the base is an alias: when that moves, names appear without a change here.
        self.follows = base is not None and base.follows
        self.born_ns = tree.pending_version.birth.created_ns
        with durable.directory(tree.pending_version.fd, TREE) as root:
            #: Once it was changed, a patch of a pinned version keeps its base.
            self.touched = not overlay.is_untouched(root)

    @property
    def staging(self) -> int:
        """The directory in which new entries are built. Valid inside the tree's gate."""
        return self.tree.pending_version.fd

    def _root(self, backing_ino: int) -> PendingDirectory:
        root = PatchDirectory(self, None, b"", backing_ino, None, self.tree.lower)
        self.tree.inodes.pin(root.ino, root)  # it may be the number of the root before it had a base
        return root

    def _new_node(self, status: os.stat_result, parent: BackingInode, name: bytes) -> PendingNode:
        if stat.S_ISDIR(status.st_mode):
            lower = overlay.lower_of(parent.directory(), name)
            return PatchDirectory(self, parent, name, status.st_ino, None, lower)
        node = PatchNode(self, parent, name, status.st_ino, None)
        if stat.S_ISLNK(status.st_mode):
            # Read once: each readlink(2) sets the atime.
            stored = os.readlink(name, dir_fd=parent.directory())
            meaning = overlay.decode_target(stored)
            if isinstance(meaning, Stub):
                node.become_stub(meaning, overlay.entry_of_stub(self.reader, meaning))
            else:
                node.escape = len(stored) - len(meaning)
        return node

    def lower_node(self, parent: PatchDirectory, lower: Lower, entry: Entry) -> PendingNode:
        """Returns the node of a lower entry that shows through."""
        number = lower.number_of(entry)
        known = self.tree.inodes.known(number)
        if known is not None:
            assert isinstance(known, PendingNode)
            return known
        if isinstance(entry, DirEntry):
            own = Lower(entry.tree, number)
            return self.tree.inodes.add(PatchDirectory(self, parent, entry.name, number, entry, own))
        return self.tree.inodes.add(PatchNode(self, parent, entry.name, number, entry))
