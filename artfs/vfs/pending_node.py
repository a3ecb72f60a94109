"""A file, symlink, fifo or socket of a pending tree, as the backing filesystem has it.

Each change is a system call on the backing tree, made inside the tree's gate. A node outlives the seal of its
tree, as a working directory or an open file: from then on it answers as the sealed entry at its path does.
Event loop's thread.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, cast

from artfs.errors import DraftNotFoundError, NotPermitted, ReadOnly
from artfs.model.entry import ReferenceEntry
from artfs.pending import reference_files
from artfs.pending.backing_inodes import BackingInode
from artfs.pending.unshare import unshare
from artfs.store.objects import full_blocks
from artfs.vfs.node import AttributeChanges, Attributes, Caller, Handle, NeedsWork, Node, may_write, writes
from artfs.vfs.pending_attributes import set_times, truncate_large
from artfs.vfs.pending_handle import PendingHandle
from artfs.vfs.permissions import SETID, without_setid
from artfs.vfs.reference_handle import ReferenceHandle
from artfs.vfs.xattrs import (
    enodata_as_absent,
    is_reserved_xattr,
    no_such_xattr,
    of_reference,
    reserved_xattr,
    unsupported,
)

if TYPE_CHECKING:
    from artfs.vfs.mounted_tree import MountedTree

_LEVELS_AT_ONCE = 128  # of a sealed tree that one request goes down before others have their turn


class PendingNode(BackingInode, Node):
    """A file, symlink, fifo or socket of a pending tree."""

    __slots__ = ("_sealed_node", "fenced", "handles", "mounted", "setid", "was_sealed", "writers")

    is_directory = False

    def __init__(
        self, mounted: MountedTree, parent: BackingInode | None, name: bytes, backing_ino: int
    ) -> None:
        super().__init__(mounted.tree.inodes, parent, name, backing_ino)
        self.mounted = mounted
        self.ino = mounted.number(backing_ino)
        self.setid = True  # whether setuid or setgid may be set; True until stat(2) says otherwise
        self.writers = 0
        self.fenced = False  # by a forced finish, on a mount with a write cache
        self._sealed_node: Node | None = None  # the sealed entry, once it was found: it never changes
        self.handles: set[PendingHandle | ReferenceHandle] | None = None  # those that have it open
        self.was_sealed = False  # as a part of a version that was deleted: its inode may still be a blob

    def current(self) -> Node:
        """Returns the node at the same path of the successor of this one's tree, if there is one."""
        # Each request asks this first, when it has no descriptor of a directory yet.
        self.inodes.close_idle()
        if self.mounted.version_root is not None and not self.mounted.deleted:
            with contextlib.suppress(OSError):  # raised again by the request itself
                self._find_sealed_node(_LEVELS_AT_ONCE)
        if self.mounted.tree.successor is None:
            return self
        path = self.names()
        if path is None and self.parent is None:
            return self  # open files without a name go on as before
        node: Node | None = None
        if path is not None:
            with contextlib.suppress(DraftNotFoundError):
                node = self.mounted.mount.root_of(self.mounted.tree.current())
                for name in path:
                    node = node.lookup(name) if node is not None else None
        replaced = self.handles and node is not None and node.ino != self.ino
        is_directory = isinstance(node, PendingNode) and node.is_directory
        if node is not None and is_directory == self.is_directory and not replaced:
            return node
        if not (self.handles or self.is_directory):
            # The kernel looks the path up again.
            raise OSError(errno.ESTALE, "the pending version got another base, which has no such entry")
        self.detach()
        return self

    def sealed_node(self) -> Node | None:
        """Returns the sealed entry that answers for this node, once its tree is sealed.

        None before, and when the version is deleted. Raises ESTALE if it has nothing at this path.
        """
        if self.mounted.deleted:
            if self.parent is not None:
                self.was_sealed = self.mounted.version_root is not None
                self.detach()
            return None
        if self.mounted.version_root is None:
            return None
        return self._find_sealed_node(sys.maxsize)

    def _check_not_sealed(self) -> None:
        if self.sealed_node() is not None or self.was_sealed:
            raise ReadOnly

    def _find_sealed_node(self, most: int) -> Node | None:
        """Goes down to the sealed entry from the nearest directory above whose own is known.

        Raises NeedsWork after `most` levels, to let other requests run; the next call goes on from there.
        """
        way: list[PendingNode] = []
        above: PendingNode = self
        while above._sealed_node is None and above.parent is not None:
            way.append(above)
            above = cast("PendingNode", above.parent)
        node = self.mounted.version_root if above.is_root else above._sealed_node
        if node is None:
            return None  # no name is known any more: most likely only handles are left of it
        for count, below in enumerate(reversed(way)):
            if count == most:
                raise NeedsWork(lambda: None)
            found = node.lookup(below.name)
            if found is None:
                raise OSError(errno.ESTALE, "the version is gone")
            node = below._sealed_node = found
        return node

    def _nameless(self) -> int:
        if self.fd < 0:
            for handle in self.handles or ():
                if handle.fd >= 0:
                    return handle.fd
        return super()._nameless()

    # -- attributes

    def attributes(self) -> Attributes:
        if self.fenced:
            # With the kernel's write cache a write(2) asks for attributes first: this is how it is refused.
            raise ReadOnly
        sealed = self.sealed_node()
        if sealed is None:
            return self._own_attributes()
        attributes = sealed.attributes()
        attributes.ino = self.ino
        return attributes

    def _own_attributes(self) -> Attributes:
        return self.shown(self.stat())

    def shown(self, status: os.stat_result) -> Attributes:
        """Returns what stat(2) shows, given the status on the backing filesystem."""
        shown = Attributes.of(self.ino, status)
        if self.mounted.deleted:
            shown.nlink = 0  # other names are a blob's, or are about to go
        holes = status.st_blocks * 512 < status.st_size and stat.S_ISREG(status.st_mode)
        if (
            holes
            and self.mounted.tree.has_references
            and reference_files.read_xattr(self.proc_path()) is not None
        ):
            # None of its bytes are stored here: tar -S would take all of it for a hole and not read it.
            shown.blocks = full_blocks(status.st_size)
        return shown

    def materialize(self) -> None:
        """Makes sure that this has an inode in the tree, before its attributes or name change."""

    def materialize_bytes(self, *, empty: bool = False) -> None:
        """Makes sure that this has bytes of its own, before they change or, with `empty`, are thrown away.

        Raises :class:`~artfs.vfs.node.NeedsWork`.
        """
        if self.mounted.tree.shares_blobs:
            unshare(self.mounted.tree, self)
        if self.mounted.tree.has_references and self.reference() is not None:
            if not empty:
                raise NotPermitted(
                    "cannot write into a reference, whose bytes are elsewhere; truncate or remove it first"
                )
            reference_files.empty(self.proc_path())

    def materialize_xattrs(self) -> None:
        """Makes sure that xattrs can be set: those of a file belong to its bytes."""

    def prepare_link(self) -> None:
        """Makes sure that this can get a second name."""

    def reference(self) -> ReferenceEntry | None:
        """Returns the reference that this is, if it is one."""
        if not self.mounted.tree.has_references:
            return None
        status = self.stat()
        if not stat.S_ISREG(status.st_mode):
            return None
        return reference_files.entry_at(self.proc_path(), self.name, status.st_size)

    def _changing(self) -> AbstractContextManager[None]:
        """Guards a change of the file itself, which a finish need not wait for once it is unlinked."""
        return contextlib.nullcontext() if self.gone else self.mounted.tree.gate.change()

    def change_attributes(
        self, changes: AttributeChanges, handle: Handle | None, caller: Caller
    ) -> Attributes:
        self._check_not_sealed()
        if self.is_ignored(changes, caller):
            return self._own_attributes()
        fd = handle.fd if isinstance(handle, PendingHandle) else -1
        with self._changing():
            if isinstance(handle, PendingHandle) and handle.fenced and changes.size is not None:
                raise ReadOnly
            self.materialize()
            if changes.size is not None:
                self._truncate(fd, changes.size, caller)
            if changes.chowns:
                uid = -1 if changes.uid is None else changes.uid
                self._chown(uid, -1 if changes.gid is None else changes.gid, caller)
            if changes.mode is not None:
                self.setid = bool(changes.mode & SETID)
                self._chmod(changes.mode & 0o7777)
            if changes.atime_ns is not None or changes.mtime_ns is not None:
                set_times(self, changes)
            return self._own_attributes()

    def is_ignored(self, changes: AttributeChanges, caller: Caller) -> bool:
        """Tells whether a chown(2) to (-1, -1) changes nothing: see :attr:`AttributeChanges.none`."""
        return changes.none and caller.uid not in (0, self._own_attributes().uid)

    @property
    def is_root(self) -> bool:
        return self.inodes.root is self

    def _chown(self, uid: int, gid: int, caller: Caller) -> None:
        before = self.stat() if self.setid else None
        if self.parent is None:
            os.chown(self.proc_path(), uid, gid)
        else:
            os.chown(self.name, uid, gid, dir_fd=self.parent.directory(), follow_symlinks=False)
        if before is not None and stat.S_ISREG(before.st_mode) and before.st_mode & SETID:
            # The kernel decided by the daemon's groups, if by any.
            self._chmod(without_setid(stat.S_IMODE(before.st_mode), before.st_gid, caller))

    def _chmod(self, mode: int) -> None:
        fd = self.descriptor(os.O_PATH)
        try:
            os.chmod(b"/proc/self/fd/%d" % fd, mode)
        finally:
            os.close(fd)

    def _truncate(self, fd: int, size: int, caller: Caller) -> None:
        hashes = self.mounted.tree.hashes
        own = -1
        if fd < 0:
            self.materialize_bytes(empty=size == 0)
        truncate_large(self, size, fd)
        if fd < 0:
            fd = own = self.descriptor(os.O_WRONLY)
        try:
            os.ftruncate(fd, size)
        finally:
            if own >= 0:
                os.close(own)
        self.mounted.tree.unwritten.cut(self, size)
        if size == 0 and self.writers:
            hashes.begin(self.backing_ino)
        else:
            hashes.forget(self.backing_ino)
        self.drop_setid(caller)

    def drop_setid(self, caller: Caller) -> None:
        """Clears setuid and setgid, as every write by an ordinary user does (HANDLE_KILLPRIV_V2)."""
        if not self.setid or caller.uid == 0:
            return
        status = self.stat()
        mode = stat.S_IMODE(status.st_mode)
        self.setid = bool(mode & SETID)
        if self.setid and stat.S_ISREG(status.st_mode):
            kept = without_setid(mode, status.st_gid, caller)
            if kept != mode:
                self._chmod(kept)

    # -- extended attributes

    def xattr(self, name: bytes) -> bytes:
        sealed = self.sealed_node()
        if sealed is not None:
            return sealed.xattr(name)
        if not name.startswith(b"user."):
            raise no_such_xattr(name)
        if is_reserved_xattr(name):
            references, of = self.mounted.mount.references, self.mounted.tree.label
            return of_reference(self.reference(), name, references, of)
        return self._stored_xattr(name)

    def xattrs(self) -> list[bytes]:
        sealed = self.sealed_node()
        return self._stored_xattrs() if sealed is None else sealed.xattrs()

    def _stored_xattr(self, name: bytes) -> bytes:
        try:
            return os.getxattr(self.proc_path(), name, follow_symlinks=self.parent is None)
        except OSError as error:
            raise enodata_as_absent(error) from None

    def _stored_xattrs(self) -> list[bytes]:
        found = os.listxattr(self.proc_path(), follow_symlinks=self.parent is None)
        return [n for n in map(os.fsencode, found) if n.startswith(b"user.") and not is_reserved_xattr(n)]

    def set_xattr(self, name: bytes, value: bytes) -> None:
        with self._xattr_change(name):
            os.setxattr(self.proc_path(), name, value, follow_symlinks=self.parent is None)

    def remove_xattr(self, name: bytes) -> None:
        with self._xattr_change(name):
            try:
                os.removexattr(self.proc_path(), name, follow_symlinks=self.parent is None)
            except OSError as error:
                raise enodata_as_absent(error) from None

    @contextlib.contextmanager
    def _xattr_change(self, name: bytes) -> Iterator[None]:
        self._check_not_sealed()
        if not name.startswith(b"user."):
            raise unsupported()
        if is_reserved_xattr(name):
            raise reserved_xattr(name)
        with self._changing():
            self.materialize_xattrs()
            yield

    # -- files and links

    def target(self) -> bytes:
        sealed = self.sealed_node()
        return self._stored_target() if sealed is None else sealed.target()

    def _stored_target(self) -> bytes:
        if self.parent is None:
            return os.readlink(b"", dir_fd=self.fd)
        return os.readlink(self.name, dir_fd=self.parent.directory())

    def open(self, flags: int, caller: Caller) -> Handle:
        if not writes(flags):
            sealed = self.sealed_node()
            if sealed is not None:
                return sealed.open(flags, caller)
            return self._opened_to_read(flags, caller)
        self._check_not_sealed()
        tree = self.mounted.tree
        with contextlib.nullcontext() if self.gone else tree.gate.change():  # as `_changing` does
            self.materialize_bytes(empty=bool(flags & os.O_TRUNC))
            if flags & os.O_TRUNC:
                truncate_large(self, 0)
            fd = self.descriptor(self.mounted.backing_flags(flags))
            handle = PendingHandle(self, fd, caller, writable=may_write(flags))
            if flags & os.O_TRUNC:
                tree.unwritten.cut(self, 0)
                tree.hashes.begin(self.backing_ino)
                self.drop_setid(caller)
            return handle

    def _opened_to_read(self, flags: int, caller: Caller) -> Handle:
        if self.mounted.tree.has_references:
            entry = self.reference()
            if entry is not None:
                return self._opened_reference(entry, caller, self.descriptor(os.O_PATH))
        return PendingHandle(self, self.descriptor(self.mounted.backing_flags(flags)), caller, writable=False)

    def _opened_reference(self, entry: ReferenceEntry, caller: Caller, fd: int = -1) -> Handle:
        references, of = self.mounted.mount.references, self.mounted.tree.label
        return ReferenceHandle(references, entry, of, caller, node=self, fd=fd)
