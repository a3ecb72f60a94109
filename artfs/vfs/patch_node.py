"""A file, symlink, fifo or socket of a patch: a pending tree over a sealed one.

Owns when a lower entry becomes one of the pending tree; :mod:`~artfs.pending.overlay_directory` has the
steps. Event loop's thread.

A node is in one of three states, and only moves down this list::

    lower      `entry` describes it; the pending tree has nothing under its name
    stub       a lower file with another name, mode, owner or time: a symlink represents it (files only)
    own        an inode of the pending tree, as all nodes of ``vfs/pending_node`` are; `entry` is None

Its number stays, since the kernel has one page cache for one number: a process that reads a file while it is
copied up sees what is written afterwards.
"""

from __future__ import annotations

import os
import stat
import time
from typing import TYPE_CHECKING, cast

from msgspec.structs import replace

from artfs.errors import NotPermitted
from artfs.model.digest import digest_of
from artfs.model.entry import DirEntry, Entry, FileEntry, ReferenceEntry, SymlinkEntry, mode_and_size
from artfs.pending import overlay, reference_files
from artfs.pending.backing_inodes import BackingInode
from artfs.pending.copy_up import CopyUp
from artfs.pending.overlay import Stub
from artfs.store import regular_files
from artfs.vfs.blob_handles import LowerHandle
from artfs.vfs.node import LOWER, AttributeChanges, Attributes, Caller, Handle, NeedsWork, NoSuchAttribute
from artfs.vfs.pending_node import PendingNode
from artfs.vfs.permissions import SETID, without_setid

if TYPE_CHECKING:
    from artfs.vfs.mounted_patch import MountedPatch
    from artfs.vfs.patch_directory import PatchDirectory


class PatchNode(PendingNode):
    """A file, symlink, fifo or socket of a patch."""

    __slots__ = ("_copy", "_floating", "entry", "escape", "stub")

    mounted: MountedPatch

    def __init__(
        self,
        mounted: MountedPatch,
        parent: BackingInode | None,
        name: bytes,
        backing_ino: int,
        entry: Entry | None,
    ) -> None:
        super().__init__(mounted, parent, name, backing_ino)
        self.entry = entry
        self.stub: Stub | None = None  # in the state stub, what it is on disk
        self.escape = 0  # bytes by which the stored target of a symlink is longer than the user's
        self._floating = False  # without a name, with attributes that are stored nowhere
        self._copy: CopyUp | None = None
        if entry is not None:
            self.setid = False  # nothing sealed has these bits

    def reference(self) -> ReferenceEntry | None:
        if self.entry is None:
            return super().reference()
        return self.entry if isinstance(self.entry, ReferenceEntry) else None

    def become_stub(self, stub: Stub, entry: Entry) -> None:
        """Records that the inode is a stub, which shows `entry` except for owner and times."""
        self.stub, self.entry = stub, entry
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
        self._floating = self.entry is not None  # a stub can't be read any more

    def _nameless(self) -> int:
        # Handles of a lower file have the blob, whose inode is neither shown nor written.
        return super()._nameless() if self.entry is None else BackingInode._nameless(self)

    # -- attributes

    def _own_attributes(self) -> Attributes:
        entry = self.entry
        if entry is None or not (self.backing_ino & LOWER or self._floating):
            return super()._own_attributes()
        times = entry.mtime_ns, entry.mtime_ns, self.mounted.born_ns
        return self._of_entry(entry, entry.uid, entry.gid, times)

    def shown(self, status: os.stat_result) -> Attributes:
        if self.entry is not None:
            times = status.st_atime_ns, status.st_mtime_ns, status.st_ctime_ns
            return self._of_entry(self.entry, status.st_uid, status.st_gid, times)
        shown = super().shown(status)
        shown.size -= self.escape
        return shown

    def _of_entry(self, entry: Entry, uid: int, gid: int, times: tuple[int, int, int]) -> Attributes:
        mode, size = mode_and_size(entry)
        return Attributes(
            self.ino,
            mode,
            nlink=int(self.parent is not None),
            uid=uid,
            gid=gid,
            size=size,
            blocks=self.mounted.store.blocks(entry, size),
            atime_ns=times[0],
            mtime_ns=times[1],
            ctime_ns=times[2],
        )

    def change_attributes(
        self, changes: AttributeChanges, handle: Handle | None, caller: Caller
    ) -> Attributes:
        entry = self.entry
        fixed = self.sealed_node() is not None or self.was_sealed
        if entry is not None and not fixed and not self.is_ignored(changes, caller):
            if changes.chowns and changes.mode is None and self.setid:
                # As chown(2) does with a file that has its own bytes.
                now = self._own_attributes()
                kept = without_setid(stat.S_IMODE(now.mode), now.gid, caller)
                changes = changes._replace(mode=kept)
            if self.parent is None and changes.size is None:
                self._float(entry, changes)
                return self._own_attributes()
        return super().change_attributes(changes, handle, caller)

    def _float(self, entry: Entry, changes: AttributeChanges) -> None:
        """Changes a file without a name, of which nothing is ever stored."""
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
        assert self.stub is not None
        status = self.stat()
        stub, times = self.stub._replace(mode=mode), (status.st_atime_ns, status.st_mtime_ns)
        above = self._directory_above()
        backing_ino = above.place_stub(self.name, stub, status.st_uid, status.st_gid, times)
        self.inodes.renumber(self, backing_ino)
        self.become_stub(stub, replace(self.entry, mode=mode))

    def _stored_xattr(self, name: bytes) -> bytes:
        if self.entry is None:
            return super()._stored_xattr(name)
        for known, value in () if isinstance(self.entry, SymlinkEntry) else self.entry.xattrs:
            if known == name:
                return value
        raise NoSuchAttribute

    def _stored_xattrs(self) -> list[bytes]:
        if self.entry is None:
            return super()._stored_xattrs()
        return [] if isinstance(self.entry, SymlinkEntry) else [name for name, _ in self.entry.xattrs]

    # -- from the lower tree into the pending one

    def _directory_above(self) -> PatchDirectory:
        return cast("PatchDirectory", self.parent)

    def materialize(self) -> None:
        entry = self.entry
        if entry is None or not self.is_lower or self.parent is None:
            return
        assert not isinstance(entry, DirEntry)
        above = self._directory_above()
        above.materialize()
        backing_ino, stub = above.materialize_file(self.name, entry)
        self.inodes.renumber(self, backing_ino)
        if stub is not None:
            self.become_stub(stub, entry)
        elif isinstance(entry, SymlinkEntry):
            self.escape = len(overlay.escape_target(entry.target)) - len(entry.target)
            self.entry = None

    def _place(self, staged: bytes, step: str) -> None:
        """Gives what was staged this node's name, in the place of what is there."""
        self.inodes.renumber(self, self._directory_above().place(staged, self.name, step))

    def materialize_bytes(self, *, empty: bool = False) -> None:
        if self.entry is not None:
            self._copy_up(self.entry, empty=empty)
        super().materialize_bytes(empty=empty)

    def materialize_xattrs(self) -> None:
        if self.entry is not None:
            self._copy_up(self.entry)

    def prepare_link(self) -> None:
        if isinstance(self.entry, SymlinkEntry):
            self.materialize()
        else:
            self.materialize_xattrs()

    def _copy_up(self, entry: Entry, *, empty: bool = False) -> None:
        """Gives a lower file its own bytes. Raises NeedsWork while the copy is not made."""
        if isinstance(entry, ReferenceEntry) and not empty:
            self._place_reference(entry)
            return
        assert isinstance(entry, FileEntry | ReferenceEntry)
        copy = self._copy
        if isinstance(entry, ReferenceEntry) or empty or entry.size == 0:
            copy = CopyUp(self.mounted.tree.staging, entry, None)
            copy.run()
        elif copy is None or not copy.ready:
            if copy is None:
                copy = self._copy = CopyUp(self.mounted.tree.staging, entry, lambda: self._verified(entry))
            raise NeedsWork(copy.run)
        self._copy = None
        staging = copy.staging.fd  # the tree's, even if that has ended meanwhile
        attributes = self._own_attributes()
        if self.parent is not None:
            self._directory_above().materialize()
        mode = stat.S_IMODE(attributes.mode)
        times = attributes.atime_ns, time.time_ns() if empty else attributes.mtime_ns
        staged = copy.set_attributes(attributes.uid, attributes.gid, mode, times)
        if self.parent is not None:
            self._place(staged, "copy-up")
            self._move_readers(self.name, self.parent.directory())
        else:
            self._move_readers(staged, staging)
            fd = regular_files.hold_open(staging, staged)
            backing_ino = os.fstat(fd).st_ino
            os.unlink(staged, dir_fd=staging)
            self.hold_unlinked(fd, attributes.uid)
            self.inodes.renumber(self, backing_ino)
        copy.release()
        self.entry = self.stub = None
        self._floating = False
        hashes = self.mounted.tree.hashes
        hashes.forget(self.backing_ino)  # what is known of another file that had this number
        if isinstance(entry, FileEntry) and not empty:
            hashes.learn(self.backing_ino, entry.size, digest_of(entry.blob))

    def _place_reference(self, entry: ReferenceEntry) -> None:
        """Makes a reference of the lower tree one of the pending tree."""
        if self.parent is None:
            raise NotPermitted("cannot change a reference that was removed")
        if not self.mounted.tree.has_references:
            raise NeedsWork(self.mounted.tree.expect_references)
        self._directory_above().materialize()
        now = self._own_attributes()
        changed = replace(entry, uid=now.uid, gid=now.gid, mode=stat.S_IMODE(now.mode), mtime_ns=now.mtime_ns)
        self._place(reference_files.stage(self.mounted.staging, changed), "reference")
        self.entry = self.stub = None

    def _move_readers(self, copy: bytes, directory: int) -> None:
        """Makes the descriptors of handles that read the lower file lead to the copy."""
        for handle in self.handles or ():
            if not isinstance(handle, LowerHandle):
                continue
            flags = self.mounted.backing_flags(handle.flags) | os.O_NOFOLLOW | os.O_CLOEXEC
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
            # Of a deleted version the blob may have no name, and other threads open and close descriptors.
            if self.mounted.deleted or self.mounted.store.verified.needs_check(entry.blob, fd):
                self.mounted.store.verified.check(entry.blob, fd)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def _lower_descriptor(self, entry: FileEntry) -> int:
        known = [handle.fd for handle in list(self.handles or ())]  # a copy: the loop opens and closes files
        return self.mounted.store.open_blob(entry.blob, entry.size, known=known)

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
        if self.entry is None:
            return super()._opened_to_read(flags, caller)
        return LowerHandle(self, flags, caller)

    def _stored_target(self) -> bytes:
        if isinstance(self.entry, SymlinkEntry):
            return self.entry.target
        target = overlay.decode_target(super()._stored_target())
        assert isinstance(target, bytes)
        return target
