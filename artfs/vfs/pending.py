"""A pending tree's directories, files and links, as the backing filesystem has them.

Each change is a system call on the backing tree, made inside the tree's gate. A node outlives the seal of its
tree (as somebody's working directory, or an open file): from then on it answers as the sealed entry at its
path does.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, cast

from artfs.errors import CrossTree, DraftNotFoundError, NotPermitted, ReadOnly
from artfs.linux import syscalls
from artfs.model import names
from artfs.model.entry import ReferenceEntry
from artfs.pending import reference_files
from artfs.pending.backing_inodes import (
    BackingInode,
    Unlinking,
)
from artfs.pending.gate import State
from artfs.pending.tree import PendingTree
from artfs.pending.unshare import unshare
from artfs.store import durable
from artfs.store.objects import full_blocks
from artfs.vfs.control.control_nodes import ControlDirectory
from artfs.vfs.cutting import cut_aside
from artfs.vfs.node import (
    FOREVER,
    LOWER,
    AttributeChanges,
    Attributes,
    Caller,
    EmptyListing,
    Handle,
    Listing,
    NeedsWork,
    Node,
    check_no_control,
    may_write,
    writes,
)
from artfs.vfs.open_files import PendingHandle, PendingListing
from artfs.vfs.permissions import SETID, without_setid
from artfs.vfs.reference_handle import ReferenceHandle
from artfs.vfs.sealed import SealedNode, SealedTree
from artfs.vfs.times import set_times
from artfs.vfs.xattrs import absent_is_told, is_own, no_such_xattr, of_reference, unsupported
from artfs.volume.volume_references import References

_LEVELS_AT_ONCE = 128  # of a sealed tree that one request goes down before others have their turn
_MOST_ABSENT = 10_000  # names of a root that are remembered not to be there
_SALT_DIGITS, _SALT_SHIFT = 5, 40  # 20 bits, above the inode numbers that ext4, xfs and btrfs come to


@dataclass(frozen=True, slots=True)
class Serving:
    """What is the same for all pending trees of a mount."""

    root_of: Callable[[PendingTree], PendingDirectory]  # to find a tree that took the place of another
    references: References
    as_root: bool  # then new files are given to whoever made them
    write_cache: bool


class OpenOnDisk(Protocol):
    """An open file; `fd` leads to the inode on the backing filesystem, as long as it is open."""

    fd: int


class Branch:
    """What the nodes of one pending tree have in common.

    Doesn't hold its nodes, since they hold it: so their descriptors go with the last who knows them.
    """

    def __init__(self, tree: PendingTree, control: ControlDirectory, serving: Serving) -> None:
        self.tree, self.control, self.serving = tree, control, serving
        self.sealed: SealedNode | None = None  # the root of the version that the tree became
        #: Names that are not in the root, as the kernel was told for good. They may come with a base.
        self.absent: set[bytes] = set()
        self._salt = int(tree.pending_version.birth.nonce[:_SALT_DIGITS], 16) << _SALT_SHIFT

    @property
    def over(self) -> bool:
        """Tells whether nothing is left of the tree: it was discarded, or the version deleted that it became.

        What is open goes on as a file that was unlinked, and directories as empty ones that were removed.
        """
        if self.sealed is not None:
            return self.sealed.tree.deleted
        return self.tree.gate.state is State.DISCARDED

    def become(self, tree: SealedTree) -> None:
        """Notes of which version the tree is from now on."""
        self.sealed = tree.root
        tree.outlived.add(self)

    def passed_on(self, flags: int) -> int:
        """Returns the open(2) flags for the backing file.

        With its write cache the kernel reads what surrounds a write, by whatever handle the write has. What
        the other flags ask for it does itself: it places an O_APPEND write, and sends an fsync after one of
        O_SYNC or O_DSYNC.
        """
        access = flags & os.O_ACCMODE
        if self.serving.write_cache and access == os.O_WRONLY:
            access = os.O_RDWR
        return access | flags & (os.O_TRUNC | os.O_NOATIME)

    def plant(self) -> PendingDirectory:
        """Makes the root of the tree; to be called once."""
        fd = self.tree.open_root()
        root = self._root(os.fstat(fd).st_ino)
        self.tree.inodes.set_root(root, fd)
        return root

    def _root(self, backing_ino: int) -> PendingDirectory:
        return PendingDirectory(self, None, b"", backing_ino)

    def number(self, backing_ino: int) -> int:
        """Returns the inode number of the node whose backing one is `serial`; it survives a remount.

        Nodes outlive their tree, and its directories' numbers are used again on the backing filesystem: the
        same number would put a process that still sits in one tree into the other.
        """
        if backing_ino & LOWER:  # of a lower entry: nothing on the backing filesystem has it
            return backing_ino
        settled = self.tree.inodes.pinned(backing_ino)
        if settled is not None:
            return settled
        # LOWER is the lowest of the bits that tell kinds of nodes.
        number = (backing_ino ^ self._salt) & (LOWER - 1)
        if number < 2 or self.tree.inodes.is_kept(number):  # by what had that inode before, or by the mount
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
        return self.tree.inodes.add(self.found(status, parent, name))

    def found(self, status: os.stat_result, parent: BackingInode, name: bytes) -> PendingNode:
        """Makes the node of what was just found for the first time."""
        kind = PendingDirectory if stat.S_ISDIR(status.st_mode) else PendingNode
        return kind(self, parent, name, status.st_ino)


class PendingNode(BackingInode, Node):
    """A file, symlink, fifo or socket of a pending tree."""

    __slots__ = ("_twin", "branch", "fenced", "handles", "setid", "was_sealed", "writers")

    def __init__(self, branch: Branch, parent: BackingInode | None, name: bytes, backing_ino: int) -> None:
        super().__init__(branch.tree.inodes, parent, name, backing_ino)
        self.branch = branch
        self.ino = branch.number(backing_ino)
        self.setid = True  # whether setuid or setgid may be set: True until a look says otherwise
        self.writers = 0
        self.fenced = False  # by a forced finish, on a mount with a write cache
        self._twin: Node | None = None  # the sealed entry, once it was looked for: it never changes
        self.handles: set[OpenOnDisk] | None = None  # who has it open
        self.was_sealed = False  # as a part of a version that was deleted: its inode may be a blob still

    def current(self) -> Node:
        """Returns the node at the same path of the tree that took the place of this one's, if one did."""
        # Each request asks this first, when it has no descriptor of a directory yet.
        self.inodes.close_idle()
        if self.branch.sealed is not None and not self.branch.over:
            with contextlib.suppress(OSError):  # raised again by what is asked
                self._find_twin(_LEVELS_AT_ONCE)
        if self.branch.tree.successor is None:
            return self
        path = self.names()
        if path is None and self.parent is None:
            return self  # whoever has it goes on with it, as before
        node: Node | None = None
        if path is not None:
            with contextlib.suppress(DraftNotFoundError):
                node = self.branch.serving.root_of(self.branch.tree.current())
                for name in path:
                    node = node.lookup(name) if node is not None else None
        is_directory = isinstance(self, PendingDirectory)
        replaced = self.handles and node is not None and node.ino != self.ino
        if node is not None and isinstance(node, PendingDirectory) == is_directory and not replaced:
            return node
        if not (self.handles or is_directory):
            # The kernel looks the path up again.
            raise OSError(errno.ESTALE, "the pending version got another base, which has no such entry")
        self.detach()
        return self

    def twin(self) -> Node | None:
        """Returns the sealed entry that stands for this node, once its tree is sealed; None before, and
        when nothing is left of the tree.

        Raises ESTALE if the sealed tree has nothing at this path.
        """
        if self.branch.over:
            if self.parent is not None:
                self.was_sealed = self.branch.sealed is not None
                self.detach()
            return None
        if self.branch.sealed is None:
            return None
        return self._find_twin(sys.maxsize)

    def _check_not_sealed(self) -> None:
        if self.twin() is not None or self.was_sealed:
            raise ReadOnly

    def _find_twin(self, most: int) -> Node | None:
        """Goes down to the sealed entry from the nearest directory above whose own is known.

        Raises NeedsWork after `most` levels; then the next call goes on from there.
        """
        way: list[PendingNode] = []
        place: PendingNode = self
        while place._twin is None and place.parent is not None:
            way.append(place)
            place = cast("PendingNode", place.parent)
        twin = self.branch.sealed if place.is_root else place._twin
        if twin is None:
            return None  # no name is known any more: most likely it is nobody's but its handles'
        for count, below in enumerate(reversed(way)):
            if count == most:
                raise NeedsWork(_nothing)
            found = twin.lookup(below.name)
            if found is None:
                raise OSError(errno.ESTALE, "the version is gone")
            twin = below._twin = found
        return twin

    # -- who has it open

    def opened(self, handle: OpenOnDisk) -> None:
        if self.handles is None:
            self.handles = set()
        self.handles.add(handle)

    def closed(self, handle: OpenOnDisk) -> None:
        if self.handles is not None:
            self.handles.discard(handle)

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
        twin = self.twin()
        if twin is None:
            return self._own_attributes()
        attributes = twin.attributes()
        attributes.ino = self.ino
        return attributes

    def _own_attributes(self) -> Attributes:
        return self.shown(self.stat())

    def shown(self, status: os.stat_result) -> Attributes:
        """Returns what stat(2) shows of what the backing filesystem says of this."""
        shown = Attributes.of(self.ino, status)
        if self.branch.over:
            shown.nlink = 0  # other names are a blob's, or are about to go
        holes = status.st_blocks * 512 < status.st_size and stat.S_ISREG(status.st_mode)
        if (
            holes
            and self.branch.tree.has_references
            and reference_files.origin_of(self.proc_path()) is not None
        ):
            # Nothing of it is stored here: tar -S would take all of it for a hole and not read it.
            shown.blocks = full_blocks(status.st_size)
        return shown

    def lift(self) -> None:
        """Makes sure that this has an inode of the tree's own: before its attributes or name change."""

    def lift_bytes(self, *, empty: bool = False) -> None:
        """Makes sure that this has bytes of its own: before they change, or with `empty` are thrown away.

        Raises :class:`~artfs.vfs.node.NeedsWork`.
        """
        if self.branch.tree.shares_blobs:
            unshare(self.branch.tree, self)
        if self.branch.tree.has_references and self.reference() is not None:
            if not empty:
                raise NotPermitted("the bytes of a reference are elsewhere: truncate it first, or remove it")
            reference_files.empty(self.proc_path())

    def reference(self) -> ReferenceEntry | None:
        """Returns what this stands for, if it is a reference; asked only in trees that may hold some."""
        status = self.stat()
        if not stat.S_ISREG(status.st_mode):
            return None
        return reference_files.entry_at(self.proc_path(), self.name, status.st_size)

    def change_attributes(
        self, changes: AttributeChanges, handle: Handle | None, caller: Caller
    ) -> Attributes:
        self._check_not_sealed()
        if self.is_nothing(changes, caller):
            return self._own_attributes()
        tree = self.branch.tree
        fd = handle.fd if isinstance(handle, PendingHandle) else -1
        with contextlib.nullcontext() if self.gone else tree.gate.change():
            if isinstance(handle, PendingHandle) and handle.fenced and changes.size is not None:
                raise ReadOnly
            self.lift()
            if changes.size is not None:
                self._truncate(fd, changes.size, caller)
            if changes.chowns:
                self._chown(_or_unchanged(changes.uid), _or_unchanged(changes.gid), caller)
            if changes.mode is not None:
                self.setid = bool(changes.mode & SETID)
                self._chmod(changes.mode & 0o7777)
            if changes.atime_ns is not None or changes.mtime_ns is not None:
                set_times(self, changes)
            return self._own_attributes()

    def is_nothing(self, changes: AttributeChanges, caller: Caller) -> bool:
        """Tells whether changes are none of the caller's: see :attr:`Changes.none`."""
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
            # The kernel looked at the daemon's groups, if at any.
            self._chmod(without_setid(stat.S_IMODE(before.st_mode), before.st_gid, caller))

    def _chmod(self, mode: int) -> None:
        fd = self.descriptor(os.O_PATH)
        try:
            os.chmod(b"/proc/self/fd/%d" % fd, mode)
        finally:
            os.close(fd)

    def _truncate(self, fd: int, size: int, caller: Caller) -> None:
        hashes = self.branch.tree.hashes
        own = -1
        if fd < 0:
            self.lift_bytes(empty=size == 0)
        cut_aside(self, size, fd)
        if fd < 0:
            fd = own = self.descriptor(os.O_WRONLY)
        try:
            os.ftruncate(fd, size)
        finally:
            if own >= 0:
                os.close(own)
        self.branch.tree.unwritten.cut(self, size)
        if size == 0 and self.writers:
            hashes.begin(self.backing_ino)
        else:
            hashes.forget(self.backing_ino)
        self.drop_setid(caller)

    def drop_setid(self, caller: Caller) -> None:
        """Clears setuid and setgid, as every write by an ordinary user does; the kernel left that to us."""
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
        twin = self.twin()
        if twin is not None:
            return twin.xattr(name)
        if not name.startswith(b"user."):
            raise no_such_xattr(name)
        if is_own(name):
            return self._of_reference(self.reference() if self.branch.tree.has_references else None, name)
        with absent_is_told():
            return os.getxattr(self.proc_path(), name, follow_symlinks=self.parent is None)

    def _of_reference(self, entry: ReferenceEntry | None, name: bytes) -> bytes:
        return of_reference(entry, name, self.branch.serving.references, self.branch.tree.label)

    def xattrs(self) -> list[bytes]:
        twin = self.twin()
        if twin is not None:
            return twin.xattrs()
        found = os.listxattr(self.proc_path(), follow_symlinks=self.parent is None)
        return [n for n in map(os.fsencode, found) if n.startswith(b"user.") and not is_own(n)]

    def set_xattr(self, name: bytes, value: bytes) -> None:
        with self._xattr_change(name):
            os.setxattr(self.proc_path(), name, value, follow_symlinks=self.parent is None)

    def remove_xattr(self, name: bytes) -> None:
        with self._xattr_change(name), absent_is_told():
            os.removexattr(self.proc_path(), name, follow_symlinks=self.parent is None)

    @contextlib.contextmanager
    def _xattr_change(self, name: bytes) -> Iterator[None]:
        self._check_not_sealed()
        if not name.startswith(b"user."):
            raise unsupported()
        if is_own(name):
            raise NotPermitted(f"'{name.decode(errors='replace')}' is artfs's own")
        with contextlib.nullcontext() if self.gone else self.branch.tree.gate.change():
            self.lift_xattrs()
            yield

    def lift_to_link(self) -> None:
        """Makes sure that this can get a second name."""

    def lift_xattrs(self) -> None:
        """Makes sure that xattrs can be set: those of a file go with its bytes."""

    # -- files and links

    def target(self) -> bytes:
        twin = self.twin()
        if twin is not None:
            return twin.target()
        if self.parent is None:
            return os.readlink(b"", dir_fd=self.fd)
        return os.readlink(self.name, dir_fd=self.parent.directory())

    def open(self, flags: int, caller: Caller) -> Handle:
        if not writes(flags):
            twin = self.twin()
            if twin is not None:
                return twin.open(flags, caller)
            return self._opened_to_read(flags, caller)
        self._check_not_sealed()
        tree = self.branch.tree
        with contextlib.nullcontext() if self.gone else tree.gate.change():
            self.lift_bytes(empty=bool(flags & os.O_TRUNC))
            if flags & os.O_TRUNC:
                cut_aside(self, 0)
            fd = self.descriptor(self.branch.passed_on(flags))
            handle = PendingHandle(self, fd, caller, writable=may_write(flags))
            if flags & os.O_TRUNC:
                tree.unwritten.cut(self, 0)
                tree.hashes.begin(self.backing_ino)
                self.drop_setid(caller)
            return handle

    def _opened_to_read(self, flags: int, caller: Caller) -> Handle:
        if self.branch.tree.has_references:
            entry = self.reference()
            if entry is not None:
                return self._opened_reference(entry, caller, self.descriptor(os.O_PATH))
        return PendingHandle(self, self.descriptor(self.branch.passed_on(flags)), caller, writable=False)

    def _opened_reference(self, entry: ReferenceEntry, caller: Caller, fd: int = -1) -> Handle:
        references, of = self.branch.serving.references, self.branch.tree.label
        return ReferenceHandle(references, entry, of, caller, node=self, fd=fd)


class PendingDirectory(PendingNode):
    """A directory of a pending tree."""

    __slots__ = ()

    @property
    def removed(self) -> bool:
        """Tells whether the directory is gone: whoever has it finds it empty, and can make nothing in it."""
        return self.branch.over or (self.parent is None and self.fd < 0 and not self.is_root)

    def _own_attributes(self) -> Attributes:
        if self.removed:
            return Attributes(self.ino, stat.S_IFDIR | 0o755, nlink=0, uid=self.branch.tree.owner)
        return super()._own_attributes()

    def xattrs(self) -> list[bytes]:
        return [] if self.removed else super().xattrs()

    @property
    def absent_timeout(self) -> float:
        """Every change of a pending tree passes through this kernel, but that an empty one may get a base."""
        return 0 if self.is_root and len(self.branch.absent) >= _MOST_ABSENT else FOREVER

    def lookup(self, name: bytes) -> Node | None:
        twin = self.twin()
        if twin is not None:
            return twin.lookup(name)
        if self.removed:
            return None
        if names.is_reserved(name):
            return self.branch.control if self.is_root and name == names.CONTROL else None
        self.inodes.close_idle()
        found = self.find(name)
        if found is None and self.is_root and len(self.branch.absent) < _MOST_ABSENT:
            self.branch.absent.add(name)
        return found

    def find(self, name: bytes) -> PendingNode | None:
        """Finds an entry of the tree that is not sealed."""
        try:
            status = os.stat(name, dir_fd=self.directory(), follow_symlinks=False)
        except FileNotFoundError:
            return None
        return self.branch.node(status, self, name)

    def listing(self) -> Listing:
        twin = self.twin()
        if twin is not None:
            return twin.listing()
        return EmptyListing() if self.removed else self._own_listing()

    def _own_listing(self) -> Listing:
        return PendingListing(self)

    @contextlib.contextmanager
    def _change(self, name: bytes) -> Iterator[int]:
        """Guards a change of `name` in this directory and yields the directory's descriptor."""
        if self.twin() is not None:
            raise ReadOnly
        names.check_entry_name(name)
        if self.removed:
            raise FileNotFoundError(errno.ENOENT, "the directory was removed")
        self.inodes.close_idle()
        with self.branch.tree.gate.change():
            self.lift()
            yield self.directory()

    @contextlib.contextmanager
    def _making(self, name: bytes) -> Iterator[int]:
        """Guards the making of an entry, and yields the directory's descriptor."""
        with self._change(name) as directory:
            yield directory

    def _own(self, fd: int, mode: int, caller: Caller, path: bytes | None = None) -> None:
        """Gives what was just made to its maker, with the group of a setgid directory."""
        if not self.branch.serving.as_root:
            return
        parent = os.fstat(self.directory())
        gid = parent.st_gid if parent.st_mode & stat.S_ISGID else caller.gid
        if path is None:
            if (caller.uid, gid) != (0, 0):
                os.fchown(fd, caller.uid, gid)
            if mode & SETID:
                os.fchmod(fd, mode & 0o7777)
        elif (caller.uid, gid) != (0, 0):
            os.chown(path, caller.uid, gid, dir_fd=fd, follow_symlinks=False)
            if mode & SETID:  # which the change of owner has cleared
                os.chmod(path, mode & 0o7777, dir_fd=fd)

    def create(self, name: bytes, flags: int, mode: int, caller: Caller) -> tuple[Node, Handle]:
        with self._making(name) as directory:
            made = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            fd = os.open(name, self.branch.passed_on(flags) | made, mode & 0o7777, dir_fd=directory)
            try:
                with _whole(os.unlink, name, directory):
                    self._own(fd, mode, caller)
                    status = os.fstat(fd)
            except BaseException:
                os.close(fd)
                raise
            self.branch.tree.hashes.begin(status.st_ino)
            node = self.branch.node(status, self, name)
            node.setid = bool(status.st_mode & SETID)
            return node, PendingHandle(node, fd, caller, writable=may_write(flags))

    def mkdir(self, name: bytes, mode: int, caller: Caller) -> Node:
        with self._making(name) as directory:
            os.mkdir(name, mode & 0o7777, dir_fd=directory)
            with _whole(os.rmdir, name, directory):
                self._own(directory, mode, caller, name)
                return self._made(name, directory)

    def mknod(self, name: bytes, mode: int, rdev: int, caller: Caller) -> Node:
        if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
            raise NotPermitted("artfs holds no device nodes")
        with self._making(name) as directory:
            os.mknod(name, mode & (stat.S_IFMT(mode) | 0o7777), dir_fd=directory)
            with _whole(os.unlink, name, directory):
                self._own(directory, mode, caller, name)
                if stat.S_ISREG(mode):
                    self.branch.tree.hashes.forget(os.stat(name, dir_fd=directory).st_ino)
                return self._made(name, directory)

    def symlink(self, name: bytes, target: bytes, caller: Caller) -> Node:
        with self._making(name) as directory:
            os.symlink(self._stored_target(target), name, dir_fd=directory)
            with _whole(os.unlink, name, directory):
                self._own(directory, 0, caller, name)
                return self._made(name, directory)

    def adopt(self, name: bytes, staged: bytes) -> PendingNode:
        """Gives what was made in the pending version's own directory a name here."""
        with self._making(name) as directory:
            durable.rename_noreplace(self.branch.tree.pending_version.fd, staged, directory, name)
            return self._made(name, directory)

    def _stored_target(self, target: bytes) -> bytes:
        """Returns what a symlink of the backing filesystem holds for a target of the user's."""
        return target

    def _made(self, name: bytes, directory: int) -> PendingNode:
        return self.branch.node(os.stat(name, dir_fd=directory, follow_symlinks=False), self, name)

    def link(self, node: Node, name: bytes, caller: Caller) -> Node:
        if not isinstance(node, PendingNode) or node.branch is not self.branch:
            raise self._elsewhere(node)
        with self._making(name) as directory:
            if node.parent is None:
                raise FileNotFoundError(errno.ENOENT, "the file has no name any more")
            node.lift_to_link()
            source = node.parent.directory()
            os.link(node.name, name, src_dir_fd=source, dst_dir_fd=directory, follow_symlinks=False)
            node.add_name(self, name)
            if self.inodes.is_kept(node.ino):
                self.inodes.pin_number(node.backing_ino, node.ino)
            return node

    def unlink(self, name: bytes, caller: Caller) -> None:
        with self._removing(name) as directory:
            self._remove(directory, name, os.unlink)

    def rmdir(self, name: bytes, caller: Caller) -> None:
        with self._removing(name) as directory:
            self._remove(directory, name, os.rmdir)

    @contextlib.contextmanager
    def _removing(self, name: bytes) -> Iterator[int]:
        if self.is_root:
            check_no_control(name)
        with self._change(name) as directory:
            yield directory

    def _remove(self, directory: int, name: bytes, remove: Callable[..., None]) -> None:
        about = self.inodes.before_unlink(self, name)
        try:
            remove(name, dir_fd=directory)
        except BaseException:
            if about is not None:
                about.failed()
            raise
        self._removed(about)

    def _removed(self, about: Unlinking | None) -> None:
        if about is not None and about.done():
            self.branch.tree.hashes.forget(about.backing_ino)

    def rename(self, name: bytes, target: Node, new_name: bytes, flags: int, caller: Caller) -> None:
        with self._renaming(name, target, new_name, flags) as (source, destination):
            self._rename(source, name, destination, new_name, flags)

    def _elsewhere(self, node: Node) -> Exception:
        """Returns why nothing can be renamed or linked to or from `node`: it is no tree's, or another's."""
        if self.branch.tree.gate.state in (State.COMMITTED, State.SEALED):
            return ReadOnly()  # then it may well be this tree's, as it was looked up since
        refusal = node.refusal()
        if isinstance(refusal, NotPermitted) and not isinstance(node, PendingNode):
            return refusal
        return CrossTree()

    @contextlib.contextmanager
    def _renaming(
        self, name: bytes, target: Node, new_name: bytes, flags: int
    ) -> Iterator[tuple[int, PendingDirectory]]:
        """Guards a rename, and yields this directory's descriptor and the directory that is the target."""
        if not isinstance(target, PendingDirectory) or target.branch is not self.branch:
            raise self._elsewhere(target)
        for root, entry in ((self.is_root, name), (target.is_root, new_name)):
            if root:
                check_no_control(entry)
        names.check_entry_name(new_name)
        if flags & ~(syscalls.RENAME_NOREPLACE | syscalls.RENAME_EXCHANGE):
            # RENAME_WHITEOUT would leave a device node.
            raise OSError(errno.EINVAL, "only RENAME_NOREPLACE and RENAME_EXCHANGE are known")
        with self._change(name) as source:
            yield source, target

    def _rename(
        self, source: int, name: bytes, target: PendingDirectory, new_name: bytes, flags: int
    ) -> None:
        destination = target.directory()
        moved = os.stat(name, dir_fd=source, follow_symlinks=False).st_ino
        other = _inode(destination, new_name)
        exchange = bool(flags & syscalls.RENAME_EXCHANGE)
        about = None if exchange or other == moved else target.inodes.before_unlink(target, new_name)
        try:
            if flags == syscalls.RENAME_NOREPLACE:
                durable.rename_noreplace(source, name, destination, new_name)
            else:
                syscalls.renameat2(source, name, destination, new_name, flags)
        except BaseException:
            if about is not None:
                about.failed()
            raise
        if other == moved:
            return  # two names of one file: rename(2) leaves both
        self._removed(about)
        for backing_ino, old, new in (
            (moved, (self, name), (target, new_name)),
            (other if exchange else None, (target, new_name), (self, name)),
        ):
            place = self.inodes.known(backing_ino) if backing_ino is not None else None
            if place is not None:
                place.move_name(*old, *new)


@contextlib.contextmanager
def _whole(remove: Callable[..., None], name: bytes, directory: int) -> Iterator[None]:
    """Removes what was just made if an exception ends the block: its maker is told that nothing was made."""
    try:
        yield
    except Exception:
        with contextlib.suppress(OSError):
            remove(name, dir_fd=directory)
        raise


def _nothing() -> None:
    """Is what has to be done first by who only lets others have their turn."""


def _inode(directory: int, name: bytes) -> int | None:
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False).st_ino
    except FileNotFoundError:
        return None


def _or_unchanged(owner: int | None) -> int:
    return -1 if owner is None else owner


__all__ = ["Branch", "PendingDirectory", "PendingHandle", "PendingNode", "Serving"]
