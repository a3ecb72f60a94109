"""A directory of a patch: its own entries, over those of a directory of the sealed tree.

:class:`~artfs.pending.overlay_directory.OverlayDirectory` has the rules of what shows, and in which order a
change is made; this module applies them to nodes. Event loop's thread.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from artfs.errors import NotEmpty
from artfs.linux import syscalls
from artfs.model.entry import DirEntry, Entry
from artfs.pending import overlay
from artfs.pending.backing_inodes import BackingInode
from artfs.pending.overlay import Lower
from artfs.pending.overlay_directory import OverlayDirectory
from artfs.vfs.listings import PatchListing
from artfs.vfs.node import FOREVER, LOWER, Attributes, Caller, Listing, Node
from artfs.vfs.patch_node import PatchNode
from artfs.vfs.pending_directory import PendingDirectory
from artfs.vfs.pending_node import PendingNode

if TYPE_CHECKING:
    from artfs.vfs.mounted_patch import MountedPatch


class PatchDirectory(PatchNode, OverlayDirectory, PendingDirectory):
    """A directory of a patch. While it only shows through, `entry` describes it."""

    __slots__ = ("lower", "reader")

    def __init__(
        self,
        mounted: MountedPatch,
        parent: BackingInode | None,
        name: bytes,
        backing_ino: int,
        entry: Entry | None,
        lower: Lower | None,
    ) -> None:
        super().__init__(mounted, parent, name, backing_ino, entry)
        self.lower = lower
        self.reader = mounted.reader  # type: ignore[misc]  # a slot here
        if lower is not None:
            self.ino = lower.number

    @property
    def staging(self) -> int:
        return self.mounted.staging

    def own_fd(self) -> int:
        return -1 if self.backing_ino & LOWER else self.directory()

    @property
    def absent_timeout(self) -> float:
        return 0 if self.mounted.follows or not self.mounted.touched else FOREVER

    def shown(self, status: os.stat_result) -> Attributes:
        shown = super().shown(status)
        shown.nlink = min(shown.nlink, 1)  # "not counted": directories that only show through aren't
        return shown

    # -- from the lower tree into the pending one

    def materialize(self) -> None:
        """Makes sure that the directory is in the pending tree, with all above it."""
        chain: list[PatchDirectory] = []
        directory: BackingInode | None = self
        while isinstance(directory, PatchDirectory) and directory.is_lower:
            if directory.parent is None:
                raise FileNotFoundError(errno.ENOENT, "the directory was removed")
            chain.append(directory)
            directory = directory.parent
        passed: PatchDirectory | None = None
        for below in reversed(chain):
            assert isinstance(below.entry, DirEntry)
            assert below.lower is not None
            above = below._directory_above()
            opened_here = above.fd < 0
            backing_ino = above.materialize_below(below.name, below.entry, below.lower)
            self.inodes.renumber(below, backing_ino)
            below.entry = None
            # A long chain must not take all descriptors that there are.
            if passed is not None:
                passed.close_directory()
            passed = above if opened_here else None

    def materialize_xattrs(self) -> None:
        self.materialize()

    def check_empty(self) -> None:
        """Raises :class:`NotEmpty` if anything shows in the directory."""
        if not self.is_empty():
            raise NotEmpty("the directory is not empty")

    # -- entries

    def find(self, name: bytes) -> PendingNode | None:
        if not self.backing_ino & LOWER:
            own = super().find(name)
            if own is not None:
                return own
        entry = self.lower_entry(name)
        if entry is None:
            return None
        assert self.lower is not None
        return self.mounted.lower_node(self, self.lower, entry)

    def _own_listing(self, uid: int) -> Listing:
        return PatchListing(self, uid)

    @contextlib.contextmanager
    def _change(self, name: bytes) -> Iterator[int]:
        with super()._change(name) as directory:
            self.mounted.touched = True
            yield directory

    @contextlib.contextmanager
    def _creating(self, name: bytes) -> Iterator[int]:
        with super()._creating(name) as directory:
            if self.lower_entry(name) is not None:
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name)
            yield directory

    def _encoded_target(self, target: bytes) -> bytes:
        return overlay.escape_target(target)

    def _remove(self, directory: int, name: bytes, remove: Callable[..., None]) -> None:
        node = self._existing(name)
        if remove is os.unlink:
            if node.is_directory:
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), name)
        elif not isinstance(node, PatchDirectory):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), name)
        else:
            node.check_empty()
        self.prepare_removal(name, node if isinstance(node, PatchDirectory) else None)
        if not isinstance(node, PatchNode) or not node.is_lower:
            super()._remove(directory, name, remove)
            return
        node.parent = None  # open files go on with it
        with contextlib.suppress(OSError):  # the name is gone, whatever the directory's mtime is
            syscalls.touch(directory)

    def _existing(self, name: bytes) -> PendingNode:
        node = self.find(name)
        if node is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
        return node

    def rename(self, name: bytes, target: Node, new_name: bytes, flags: int, caller: Caller) -> None:
        with self._renaming(name, target, new_name, flags) as (source, destination):
            assert isinstance(destination, PatchDirectory)
            node, other = self._existing(name), destination.find(new_name)
            if other is node:
                return  # two names of one file: rename(2) leaves both
            exchange = bool(flags & syscalls.RENAME_EXCHANGE)
            _check_kinds(node, other, flags)
            destination.materialize()
            node.materialize()
            if exchange:
                assert other is not None
                other.materialize()
            else:
                self.prepare_removal(name, None)
                if isinstance(other, PatchDirectory):
                    other.drop_lower()
            self._rename(source, name, destination, new_name, flags)
            if not exchange and isinstance(other, PatchNode) and other.is_lower:
                other.parent = None


def _check_kinds(node: PendingNode, other: PendingNode | None, flags: int) -> None:
    """Refuses what rename(2) refuses, but can't see where the target only shows through."""
    if other is None:
        if flags & syscalls.RENAME_EXCHANGE:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        return
    if flags & syscalls.RENAME_NOREPLACE:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
    if flags & syscalls.RENAME_EXCHANGE:
        return
    if isinstance(other, PatchDirectory):
        if not node.is_directory:
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        other.check_empty()
    elif node.is_directory:
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
