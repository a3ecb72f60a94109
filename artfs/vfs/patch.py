"""The nodes of a patch: a pending tree that lies over a sealed one.

Owns when what of the lower tree becomes an entry of the pending one, and in which order; ``pending/overlay``
has the single steps, and how they lie on disk. Event loop's thread.

A node is in one of three states, and goes down this list only::

    lower      `entry` says what it is; the pending tree has nothing under its name
    stub       a lower file with another name, mode, owner or time: a symlink stands for it (files only)
    own        an inode of the pending tree, as all nodes of ``vfs/pending`` are; `entry` is None

Its number stays, since the kernel has one page cache for one number: who reads a file while it is copied up
sees what is written afterwards.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import stat
import time
from collections.abc import Iterator

from msgspec.structs import replace

from artfs.errors import NotEmpty, NotPermitted
from artfs.linux import syscalls
from artfs.model.digest import digest_of
from artfs.model.entry import DirEntry, Entry, FileEntry, ReferenceEntry, SymlinkEntry, mode_and_size
from artfs.pending import (
    overlay,
    reference_files,
)
from artfs.pending.backing_inodes import BackingInode
from artfs.pending.copy_up import CopyUp
from artfs.pending.overlay import Lower, Stub
from artfs.pending.tree import TREE, PendingTree
from artfs.store import durable, regular_files
from artfs.vfs.control.control_nodes import ControlDirectory
from artfs.vfs.lower_file import LowerHandle
from artfs.vfs.node import (
    FOREVER,
    LOWER,
    AttributeChanges,
    Attributes,
    Caller,
    Handle,
    Listing,
    NeedsWork,
    Node,
    NoSuchAttribute,
)
from artfs.vfs.patch_listing import PatchListing
from artfs.vfs.pending import Branch, PendingDirectory, PendingNode, Serving
from artfs.vfs.permissions import SETID, without_setid
from artfs.vfs.xattrs import is_own, no_such_xattr


class PatchBranch(Branch):
    """What the nodes of one patch have in common."""

    def __init__(self, tree: PendingTree, control: ControlDirectory, serving: Serving) -> None:
        super().__init__(tree, control, serving)
        self.store, self.reader = tree.store, tree.store.reader
        base = tree.base()
        #: Names may come by themselves then, when the alias that is the base has moved.
        self.follows = base is not None and base.follows
        self.born_ns = tree.pending_version.birth.created_ns
        with durable.directory(tree.pending_version.fd, TREE) as root:
            #: Once it was changed it keeps its base, if that is pinned.
            self.touched = not overlay.is_untouched(root)

    @property
    def staging(self) -> int:
        """Where what is to be part of the tree is made. Good inside the tree's gate."""
        return self.tree.pending_version.fd

    def _root(self, backing_ino: int) -> PendingDirectory:
        root = PatchDirectory(self, None, b"", backing_ino, None, self.tree.lower)
        self.tree.inodes.pin(root.ino, root)  # as it may be the number of the root before it had a base
        return root

    def found(self, status: os.stat_result, parent: BackingInode, name: bytes) -> PendingNode:
        if stat.S_ISDIR(status.st_mode):
            lower = overlay.lower_of(parent.directory(), name)
            return PatchDirectory(self, parent, name, status.st_ino, None, lower)
        node = PatchNode(self, parent, name, status.st_ino, None)
        if stat.S_ISLNK(status.st_mode):
            # Read once: each time sets the atime.
            stored = os.readlink(name, dir_fd=parent.directory())
            meant = overlay.read_target(stored)
            if isinstance(meant, Stub):
                node.stands_for(meant, overlay.stubbed(self.reader, meant))
            else:
                node.escape = len(stored) - len(meant)
        return node

    def lower(self, parent: PatchDirectory, lower: Lower, entry: Entry) -> PendingNode:
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


class PatchNode(PendingNode):
    """A file, symlink, fifo or socket of a patch."""

    __slots__ = ("_copy", "_floating", "entry", "escape", "origin")

    branch: PatchBranch

    def __init__(
        self,
        branch: PatchBranch,
        parent: BackingInode | None,
        name: bytes,
        backing_ino: int,
        entry: Entry | None,
    ) -> None:
        super().__init__(branch, parent, name, backing_ino)
        self.entry = entry
        self.origin: Stub | None = None  # what a stub says
        self.escape = 0  # bytes by which the stored target of a symlink is longer than the user's
        self._floating = False  # nameless, with attributes that nobody stores
        self._copy: CopyUp | None = None
        if entry is not None:
            self.setid = False  # nothing sealed has these bits

    def reference(self) -> ReferenceEntry | None:
        if self.entry is None:
            return super().reference()
        return self.entry if isinstance(self.entry, ReferenceEntry) else None

    def stands_for(self, stub: Stub, entry: Entry) -> None:
        """Notes that the inode is a stub, which shows `entry` but for owner and times."""
        self.origin, self.entry = stub, entry
        self.setid = bool(stub.mode & SETID)

    @property
    def is_lower(self) -> bool:
        """Tells whether the pending tree has nothing under this name."""
        return bool(self.backing_ino & LOWER)

    @property
    def gone(self) -> bool:
        return self.parent is None if self.is_lower else super().gone

    def detach(self) -> None:
        super().detach()
        self._floating = self.entry is not None  # what a stub says of it can't be asked any more

    def _nameless(self) -> int:
        # Those who have a lower file open have the blob: nothing of that is shown, or written.
        return super()._nameless() if self.entry is None else BackingInode._nameless(self)

    def vanish(self) -> None:
        """Notes that a lower entry shows no more: who has it open goes on with it."""
        self.parent = None

    # -- attributes

    def _own_attributes(self) -> Attributes:
        entry = self.entry
        if entry is None:
            own = super()._own_attributes()
            own.size -= self.escape
            return own
        uid, gid, links = entry.uid, entry.gid, int(self.parent is not None)
        atime_ns, mtime_ns, ctime_ns = entry.mtime_ns, entry.mtime_ns, self.branch.born_ns
        if not (self.is_lower or self._floating):
            status = self.stat()
            uid, gid = status.st_uid, status.st_gid
            atime_ns, mtime_ns, ctime_ns = status.st_atime_ns, status.st_mtime_ns, status.st_ctime_ns
        mode, size = mode_and_size(entry)
        return Attributes(
            self.ino,
            mode,
            nlink=links,
            uid=uid,
            gid=gid,
            size=size,
            blocks=self.branch.store.blocks(entry, size),
            atime_ns=atime_ns,
            mtime_ns=mtime_ns,
            ctime_ns=ctime_ns,
        )

    def change_attributes(
        self, changes: AttributeChanges, handle: Handle | None, caller: Caller
    ) -> Attributes:
        entry = self.entry
        fixed = self.twin() is not None or self.was_sealed
        if entry is not None and not fixed and not self.is_nothing(changes, caller):
            if changes.chowns and changes.mode is None and self.setid:
                # As chown(2) does with a file that has bytes of its own.
                now = self._own_attributes()
                kept = without_setid(stat.S_IMODE(now.mode), now.gid, caller)
                changes = dataclasses.replace(changes, mode=kept)
            if self.parent is None and changes.size is None:
                self._float(entry, changes)
                return self._own_attributes()
        return super().change_attributes(changes, handle, caller)

    def _float(self, entry: Entry, changes: AttributeChanges) -> None:
        """Changes what has no name any more: nothing of it is ever stored."""
        now = self._own_attributes()
        known = {
            "uid": now.uid if changes.uid is None else changes.uid,
            "gid": now.gid if changes.gid is None else changes.gid,
            "mtime_ns": now.mtime_ns if changes.mtime_ns is None else changes.mtime_ns,
        }
        if not isinstance(entry, SymlinkEntry):
            known["mode"] = stat.S_IMODE(now.mode if changes.mode is None else changes.mode)
        self.entry, self._floating = replace(entry, **known), True

    def _chmod(self, mode: int) -> None:
        if self.entry is None:
            super()._chmod(mode)
            return
        assert self.origin is not None
        status = self.stat()
        stub = self.origin._replace(mode=mode)
        times = status.st_atime_ns, status.st_mtime_ns
        staged = overlay.stage_stub(self.branch.staging, stub, status.st_uid, status.st_gid, times)
        assert isinstance(self.parent, PatchDirectory)
        self._placed(staged, self.parent, "stub")
        self.stands_for(stub, replace(self.entry, mode=mode))

    def xattr(self, name: bytes) -> bytes:
        if self.entry is None or self.twin() is not None:
            return super().xattr(name)
        if not name.startswith(b"user."):
            raise no_such_xattr(name)
        if is_own(name):
            return self._of_reference(self.reference(), name)
        for known, value in self._lower_xattrs():
            if known == name:
                return value
        raise NoSuchAttribute

    def xattrs(self) -> list[bytes]:
        if self.entry is None or self.twin() is not None:
            return super().xattrs()
        return [name for name, _ in self._lower_xattrs()]

    def _lower_xattrs(self) -> tuple[tuple[bytes, bytes], ...]:
        return () if self.entry is None or isinstance(self.entry, SymlinkEntry) else self.entry.xattrs

    # -- from the lower tree into the pending one

    def lift(self) -> None:
        entry = self.entry
        if entry is None or not self.is_lower or self.parent is None:
            return
        parent = self.parent
        assert isinstance(parent, PatchDirectory)
        parent.lift()
        if isinstance(entry, SymlinkEntry):
            self._placed(overlay.stage_symlink(self.branch.staging, entry), parent, "symlink")
            self.escape = len(overlay.escaped(entry.target)) - len(entry.target)
            self.entry = None
            return
        assert isinstance(entry, FileEntry | ReferenceEntry)
        assert parent.lower is not None
        stub = Stub(parent.lower.tree, self.name, entry.mode)
        staged = overlay.stage_stub(
            self.branch.staging, stub, entry.uid, entry.gid, (entry.mtime_ns, entry.mtime_ns)
        )
        self._placed(staged, parent, "stub")
        self.stands_for(stub, entry)

    def _placed(self, staged: bytes, parent: PatchDirectory, step: str) -> None:
        backing_ino = overlay.place(self.branch.staging, staged, parent.directory(), self.name, step=step)
        self.inodes.renumber(self, backing_ino)

    def lift_bytes(self, *, empty: bool = False) -> None:
        if self.entry is not None:
            self._copy_up(self.entry, empty=empty)
        super().lift_bytes(empty=empty)

    def lift_xattrs(self) -> None:
        if self.entry is not None:
            self._copy_up(self.entry)

    def lift_to_link(self) -> None:
        if isinstance(self.entry, SymlinkEntry):
            self.lift()
        else:
            self.lift_xattrs()

    def _copy_up(self, entry: Entry, *, empty: bool = False) -> None:
        """Raises NeedsWork until the copy is made."""
        if isinstance(entry, ReferenceEntry) and not empty:
            self._place_reference(entry)
            return
        assert isinstance(entry, FileEntry | ReferenceEntry)
        copy = self._copy
        if isinstance(entry, ReferenceEntry) or empty or entry.size == 0:
            copy = CopyUp(self.branch.tree.staging, entry, None)
            copy.run()
        elif copy is None or not copy.ready:
            if copy is None:
                copy = self._copy = CopyUp(self.branch.tree.staging, entry, lambda: self._verified(entry))
            raise NeedsWork(copy.run)
        self._copy = None
        staging = copy.staging.fd  # the tree's own, though that may have ended meanwhile
        attributes = self._own_attributes()
        if self.parent is not None:
            assert isinstance(self.parent, PatchDirectory)
            self.parent.lift()
        mode = stat.S_IMODE(attributes.mode)
        times = attributes.atime_ns, time.time_ns() if empty else attributes.mtime_ns
        staged = copy.dress(attributes.uid, attributes.gid, mode, times)
        if self.parent is not None:
            assert isinstance(self.parent, PatchDirectory)
            self._placed(staged, self.parent, "copy-up")
            self._move_readers(self.name, self.parent.directory())
        else:
            self._move_readers(staged, staging)
            fd = regular_files.hold_open(staging, staged)
            backing_ino = os.fstat(fd).st_ino
            os.unlink(staged, dir_fd=staging)
            self.hold_unlinked(fd, attributes.uid)
            self.inodes.renumber(self, backing_ino)
        copy.taken()
        self.entry = self.origin = None
        self._floating = False
        hashes = self.branch.tree.hashes
        hashes.forget(self.backing_ino)  # of another file that had this number before
        if isinstance(entry, FileEntry) and not empty:
            hashes.learn(self.backing_ino, entry.size, digest_of(entry.blob))

    def _place_reference(self, entry: ReferenceEntry) -> None:
        """Makes a reference of the lower tree one of the pending one."""
        if not isinstance(self.parent, PatchDirectory):
            raise NotPermitted("a reference without a name can't be changed")
        if not self.branch.tree.has_references:
            raise NeedsWork(self.branch.tree.expect_references)
        self.parent.lift()
        now = self._own_attributes()
        changed = replace(entry, uid=now.uid, gid=now.gid, mode=stat.S_IMODE(now.mode), mtime_ns=now.mtime_ns)
        self._placed(reference_files.stage(self.branch.staging, changed), self.parent, "reference")
        self.entry = self.origin = None

    def _move_readers(self, copy: bytes, directory: int) -> None:
        """Gives those who have the lower file open the copy instead, under the descriptors that they have."""
        readers = [handle for handle in self.handles or () if isinstance(handle, LowerHandle)]
        if not readers:
            return
        for handle in readers:
            flags = self.branch.passed_on(handle.flags) | os.O_NOFOLLOW | os.O_CLOEXEC
            fd = os.open(copy, flags, dir_fd=directory)
            try:
                os.dup2(fd, handle.fd, inheritable=False)
            finally:
                os.close(fd)
            handle.unverified = False

    def _verified(self, entry: FileEntry) -> int:
        """Opens the lower file to copy it. On a worker thread."""
        fd = self._lower_descriptor(entry)
        try:
            # Of what is over the blob may have no name, and others close and open descriptors meanwhile.
            if self.branch.over or self.branch.store.verified.needs_check(entry.blob, fd):
                self.branch.store.verified.check(entry.blob, fd)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def _lower_descriptor(self, entry: FileEntry) -> int:
        known = [handle.fd for handle in list(self.handles or ())]  # a copy: files are opened and closed
        return self.branch.store.open_blob(entry.blob, entry.size, known=known)

    # -- files and links

    def descriptor(self, flags: int) -> int:
        entry = self.entry
        if entry is None:
            return super().descriptor(flags)
        assert isinstance(entry, FileEntry)
        return self._lower_descriptor(entry)

    def _opened_to_read(self, flags: int, caller: Caller) -> Handle:
        if isinstance(self.entry, ReferenceEntry):
            return self._opened_reference(self.entry, caller)
        return (
            super()._opened_to_read(flags, caller) if self.entry is None else LowerHandle(self, flags, caller)
        )

    def target(self) -> bytes:
        twin = self.twin()
        if twin is not None:
            return twin.target()
        if isinstance(self.entry, SymlinkEntry):
            return self.entry.target
        target = overlay.read_target(super().target())
        assert isinstance(target, bytes)
        return target


class PatchDirectory(PatchNode, PendingDirectory):
    """A directory of a patch. `lower` is what it lies over; in the state lower, what it is."""

    __slots__ = ("lower",)

    def __init__(
        self,
        branch: PatchBranch,
        parent: BackingInode | None,
        name: bytes,
        backing_ino: int,
        entry: Entry | None,
        lower: Lower | None,
    ) -> None:
        super().__init__(branch, parent, name, backing_ino, entry)
        self.lower = lower
        if lower is not None:
            self.ino = lower.number

    @property
    def absent_timeout(self) -> float:
        return 0 if self.branch.follows or not self.branch.touched else FOREVER

    def _own_attributes(self) -> Attributes:
        own = super()._own_attributes()
        own.nlink = min(own.nlink, 1)  # "not counted": the directories below that only show through aren't
        return own

    # -- from the lower tree into the pending one

    def lift(self) -> None:
        """Makes sure that the directory is there, with all above it."""
        chain: list[PatchDirectory] = []
        directory: BackingInode | None = self
        while isinstance(directory, PatchDirectory) and directory.is_lower:
            if directory.parent is None:
                raise FileNotFoundError(errno.ENOENT, "the directory was removed")
            chain.append(directory)
            directory = directory.parent
        passed: PatchDirectory | None = None
        for one in reversed(chain):
            assert isinstance(one.entry, DirEntry)
            parent = one.parent
            assert isinstance(parent, PatchDirectory)
            assert one.lower is not None
            opened_here = parent.fd < 0
            one._placed(overlay.stage_directory(self.branch.staging, one.entry, one.lower), parent, "lift")
            one.entry = None
            # A long chain must not take all descriptors that there are.
            if passed is not None:
                passed.close_directory()
            passed = parent if opened_here else None

    def lift_xattrs(self) -> None:
        self.lift()

    def uncover(self) -> None:
        """Leaves the directory with its own entries, when nothing else shows in it."""
        if not self.is_lower:
            overlay.drop_lower(self.directory(), self.branch.staging)
            self.lower = None

    def _hide(self, directory: int, name: bytes) -> None:
        """Has the lower entry of a name show no more, now or when the own entry is gone."""
        if self.lower is not None and self.branch.reader.find(self.lower.tree, name) is not None:
            overlay.hide(directory, name)

    def check_empty(self) -> None:
        """Raises :class:`NotEmpty` if anything shows in the directory."""
        if isinstance(self.entry, DirEntry):
            empty = self.entry.entries == 0
        else:
            names = 0 if self.lower is None else self.branch.reader.page(self.lower.tree).names
            empty = overlay.shows_nothing(self.directory(), names)
        if not empty:
            raise NotEmpty("the directory is not empty")

    # -- entries

    def find(self, name: bytes) -> PendingNode | None:
        if not self.is_lower:
            own = super().find(name)
            if own is not None:
                return own
        entry = self._shining(name)
        if entry is None:
            return None
        assert self.lower is not None
        return self.branch.lower(self, self.lower, entry)

    def _shining(self, name: bytes) -> Entry | None:
        """Returns the lower entry of a name unless it is whited out; an own entry may cover it."""
        if self.lower is None or (not self.is_lower and overlay.is_gone(self.directory(), name)):
            return None
        found = self.branch.reader.find(self.lower.tree, name)
        return None if found is None else found[1]

    def _own_listing(self) -> Listing:
        return PatchListing(self)

    @contextlib.contextmanager
    def _change(self, name: bytes) -> Iterator[int]:
        with super()._change(name) as directory:
            self.branch.touched = True
            yield directory

    @contextlib.contextmanager
    def _making(self, name: bytes) -> Iterator[int]:
        with super()._making(name) as directory:
            if self._shining(name) is not None:
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name)
            yield directory

    def _stored_target(self, target: bytes) -> bytes:
        return overlay.escaped(target)

    def unlink(self, name: bytes, caller: Caller) -> None:
        with self._removing(name) as directory:
            node = self._needed(name)
            if isinstance(node, PendingDirectory):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), name)
            self._hide(directory, name)
            if not self._vanished(node, directory):
                self._remove(directory, name, os.unlink)

    def rmdir(self, name: bytes, caller: Caller) -> None:
        with self._removing(name) as directory:
            node = self._needed(name)
            if not isinstance(node, PatchDirectory):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), name)
            node.check_empty()
            self._hide(directory, name)
            if not self._vanished(node, directory):
                node.uncover()
                self._remove(directory, name, os.rmdir)

    def _needed(self, name: bytes) -> PendingNode:
        node = self.find(name)
        if node is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
        return node

    @staticmethod
    def _vanished(node: PendingNode, directory: int) -> bool:
        """Ends a lower entry that was whited out, which is all there is to do; False for any other."""
        if not isinstance(node, PatchNode) or not node.is_lower:
            return False
        node.vanish()
        with contextlib.suppress(OSError):  # the name has gone, whatever its directory's mtime is
            syscalls.touch(directory)
        return True

    def rename(self, name: bytes, target: Node, new_name: bytes, flags: int, caller: Caller) -> None:
        with self._renaming(name, target, new_name, flags) as (source, destination):
            assert isinstance(destination, PatchDirectory)
            node, other = self._needed(name), destination.find(new_name)
            if other is node:
                return  # two names of one file: rename(2) leaves both
            exchange = bool(flags & syscalls.RENAME_EXCHANGE)
            _check_kinds(node, other, flags)
            destination.lift()
            node.lift()
            if exchange:
                assert other is not None
                other.lift()
            else:
                self._hide(source, name)
                if isinstance(other, PatchDirectory):
                    other.uncover()
            self._rename(source, name, destination, new_name, flags)
            if not exchange and isinstance(other, PatchNode) and other.is_lower:
                other.vanish()


def _check_kinds(node: PendingNode, other: PendingNode | None, flags: int) -> None:
    """Refuses what rename(2) refuses, and can't see where what is in the way only shows through."""
    if other is None:
        if flags & syscalls.RENAME_EXCHANGE:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        return
    if flags & syscalls.RENAME_NOREPLACE:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
    if flags & syscalls.RENAME_EXCHANGE:
        return
    if isinstance(other, PatchDirectory):
        if not isinstance(node, PatchDirectory):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        other.check_empty()
    elif isinstance(node, PatchDirectory):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))


__all__ = ["PatchBranch", "PatchDirectory", "PatchNode"]
