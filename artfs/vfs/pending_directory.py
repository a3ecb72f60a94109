"""A directory of a pending tree: what is looked up, made, renamed and removed in it.

Each change is a system call on the backing tree, made inside the tree's gate. Event loop's thread.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

from artfs.errors import CrossTree, NotPermitted, ReadOnly
from artfs.linux import syscalls
from artfs.model import names
from artfs.pending.backing_inodes import Unlinking
from artfs.pending.gate import State
from artfs.store import durable
from artfs.vfs.listings import EmptyListing, PendingListing
from artfs.vfs.node import FOREVER, Attributes, Caller, Handle, Listing, Node, check_no_control, may_write
from artfs.vfs.pending_handle import PendingHandle
from artfs.vfs.pending_node import PendingNode
from artfs.vfs.permissions import SETID

_MOST_ABSENT = 10_000  # names of a root that are remembered to be absent


class PendingDirectory(PendingNode):
    """A directory of a pending tree."""

    __slots__ = ()

    is_directory = True

    @property
    def removed(self) -> bool:
        """Tells whether the directory is gone: it is empty, and nothing can be made in it."""
        return self.mounted.deleted or (self.parent is None and self.fd < 0 and not self.is_root)

    def _own_attributes(self) -> Attributes:
        if self.removed:
            return Attributes(self.ino, stat.S_IFDIR | 0o755, nlink=0, uid=self.mounted.tree.owner)
        return super()._own_attributes()

    def _stored_xattrs(self) -> list[bytes]:
        return [] if self.removed else super()._stored_xattrs()

    @property
    def absent_timeout(self) -> float:
        """This kernel makes every change of a pending tree, except that an empty tree may get a base."""
        return 0 if self.is_root and len(self.mounted.absent) >= _MOST_ABSENT else FOREVER

    def lookup(self, name: bytes) -> Node | None:
        sealed = self.sealed_node()
        if sealed is not None:
            return sealed.lookup(name)
        if self.removed:
            return None
        if names.is_reserved(name):
            return self.mounted.control if self.is_root and name == names.CONTROL else None
        self.inodes.close_idle()
        found = self.find(name)
        if found is None and self.is_root and len(self.mounted.absent) < _MOST_ABSENT:
            self.mounted.absent.add(name)
        return found

    def own_fd(self) -> int:
        """Returns a descriptor of the directory in the pending tree; -1 if it has none."""
        return self.directory()

    def find(self, name: bytes) -> PendingNode | None:
        """Finds an entry while the tree is not sealed."""
        try:
            status = os.stat(name, dir_fd=self.directory(), follow_symlinks=False)
        except FileNotFoundError:
            return None
        return self.mounted.node(status, self, name)

    def listing(self, uid: int = 0) -> Listing:
        sealed = self.sealed_node()
        if sealed is not None:
            return sealed.listing(uid)
        return EmptyListing() if self.removed else self._own_listing(uid)

    def _own_listing(self, uid: int) -> Listing:
        return PendingListing(self, uid)

    # -- new entries

    @contextlib.contextmanager
    def _change(self, name: bytes) -> Iterator[int]:
        """Guards a change of `name` in this directory and yields the directory's descriptor."""
        if self.sealed_node() is not None:
            raise ReadOnly
        names.check_entry_name(name)
        if self.removed:
            raise FileNotFoundError(errno.ENOENT, "the directory was removed")
        self.inodes.close_idle()
        with self.mounted.tree.gate.change():
            self.materialize()
            yield self.directory()

    def _creating(self, name: bytes) -> AbstractContextManager[int]:
        """Guards the creation of an entry, and yields the directory's descriptor."""
        return self._change(name)

    def _give_to(self, caller: Caller, fd: int, mode: int, path: bytes | None = None) -> None:
        """Gives a new entry to its creator, with the group of a setgid directory."""
        if not self.mounted.mount.as_root:
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
        with self._creating(name) as directory:
            exclusive = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            fd = os.open(name, self.mounted.backing_flags(flags) | exclusive, mode & 0o7777, dir_fd=directory)
            try:
                with _removed_on_failure(os.unlink, name, directory):
                    self._give_to(caller, fd, mode)
                    status = os.fstat(fd)
            except BaseException:
                os.close(fd)
                raise
            self.mounted.tree.hashes.begin(status.st_ino)
            node = self.mounted.node(status, self, name)
            node.setid = bool(status.st_mode & SETID)
            return node, PendingHandle(node, fd, caller, writable=may_write(flags))

    def mkdir(self, name: bytes, mode: int, caller: Caller) -> Node:
        with self._creating(name) as directory:
            os.mkdir(name, mode & 0o7777, dir_fd=directory)
            return self._made(name, directory, mode, caller, os.rmdir)

    def mknod(self, name: bytes, mode: int, rdev: int, caller: Caller) -> Node:
        if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
            raise NotPermitted("cannot make a device node: versions hold none")
        with self._creating(name) as directory:
            os.mknod(name, mode & (stat.S_IFMT(mode) | 0o7777), dir_fd=directory)
            node = self._made(name, directory, mode, caller, os.unlink)
            if stat.S_ISREG(mode):
                self.mounted.tree.hashes.forget(node.backing_ino)
            return node

    def symlink(self, name: bytes, target: bytes, caller: Caller) -> Node:
        with self._creating(name) as directory:
            os.symlink(self._encoded_target(target), name, dir_fd=directory)
            return self._made(name, directory, 0, caller, os.unlink)

    def adopt(self, name: bytes, staged: bytes) -> PendingNode:
        """Gives a file that was staged in the pending version's own directory a name here."""
        with self._creating(name) as directory:
            durable.rename_noreplace(self.mounted.tree.pending_version.fd, staged, directory, name)
            return self._node_at(name, directory)

    def _encoded_target(self, target: bytes) -> bytes:
        """Returns what a symlink on the backing filesystem holds for a user's target."""
        return target

    def _made(
        self, name: bytes, directory: int, mode: int, caller: Caller, remove: Callable[..., None]
    ) -> PendingNode:
        """Returns the node of a new entry, once it has its owner; on errors `remove` removes the entry."""
        with _removed_on_failure(remove, name, directory):
            self._give_to(caller, directory, mode, name)
            return self._node_at(name, directory)

    def _node_at(self, name: bytes, directory: int) -> PendingNode:
        return self.mounted.node(os.stat(name, dir_fd=directory, follow_symlinks=False), self, name)

    def link(self, node: Node, name: bytes, caller: Caller) -> Node:
        if not isinstance(node, PendingNode) or node.mounted is not self.mounted:
            raise self._refusal_for(node)
        with self._creating(name) as directory:
            if node.parent is None:
                raise FileNotFoundError(errno.ENOENT, "the file has no name any more")
            node.prepare_link()
            source = node.parent.directory()
            os.link(node.name, name, src_dir_fd=source, dst_dir_fd=directory, follow_symlinks=False)
            node.add_name(self, name)
            if self.inodes.is_kept(node.ino):
                self.inodes.pin_number(node.backing_ino, node.ino)
            return node

    # -- removing and renaming

    def unlink(self, name: bytes, caller: Caller) -> None:
        with self._removing(name) as directory:
            self._remove(directory, name, os.unlink)

    def rmdir(self, name: bytes, caller: Caller) -> None:
        with self._removing(name) as directory:
            self._remove(directory, name, os.rmdir)

    def _removing(self, name: bytes) -> AbstractContextManager[int]:
        if self.is_root:
            check_no_control(name)
        return self._change(name)

    def _remove(self, directory: int, name: bytes, remove: Callable[..., None]) -> None:
        unlinking = self.inodes.before_unlink(self, name)
        try:
            remove(name, dir_fd=directory)
        except BaseException:
            if unlinking is not None:
                unlinking.failed()
            raise
        self._removed(unlinking)

    def _removed(self, unlinking: Unlinking | None) -> None:
        if unlinking is not None and unlinking.done():
            self.mounted.tree.hashes.forget(unlinking.backing_ino)

    def rename(self, name: bytes, target: Node, new_name: bytes, flags: int, caller: Caller) -> None:
        with self._renaming(name, target, new_name, flags) as (source, destination):
            self._rename(source, name, destination, new_name, flags)

    def _refusal_for(self, node: Node) -> Exception:
        """Returns why no name can be given to, or moved into, `node`, which is not of this tree."""
        if self.mounted.tree.gate.state in (State.COMMITTED, State.SEALED):
            return ReadOnly()  # then it may well be of this tree, as it was looked up since
        refusal = node.refusal()
        if isinstance(refusal, NotPermitted) and not isinstance(node, PendingNode):
            return refusal
        return CrossTree()

    @contextlib.contextmanager
    def _renaming(
        self, name: bytes, target: Node, new_name: bytes, flags: int
    ) -> Iterator[tuple[int, PendingDirectory]]:
        """Guards a rename; yields this directory's descriptor and the target directory."""
        if not isinstance(target, PendingDirectory) or target.mounted is not self.mounted:
            raise self._refusal_for(target)
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
        unlinking = None if exchange or other == moved else target.inodes.before_unlink(target, new_name)
        try:
            if flags == syscalls.RENAME_NOREPLACE:
                durable.rename_noreplace(source, name, destination, new_name)
            else:
                syscalls.renameat2(source, name, destination, new_name, flags)
        except BaseException:
            if unlinking is not None:
                unlinking.failed()
            raise
        if other == moved:
            return  # two names of one file: rename(2) leaves both
        self._removed(unlinking)
        for backing_ino, old, new in (
            (moved, (self, name), (target, new_name)),
            (other if exchange else None, (target, new_name), (self, name)),
        ):
            node = self.inodes.known(backing_ino) if backing_ino is not None else None
            if node is not None:
                node.move_name(*old, *new)


@contextlib.contextmanager
def _removed_on_failure(remove: Callable[..., None], name: bytes, directory: int) -> Iterator[None]:
    """Removes a new entry if an exception ends the block: the caller gets an error."""
    try:
        yield
    except Exception:
        with contextlib.suppress(OSError):
            remove(name, dir_fd=directory)
        raise


def _inode(directory: int, name: bytes) -> int | None:
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False).st_ino
    except FileNotFoundError:
        return None
