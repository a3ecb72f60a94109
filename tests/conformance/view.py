"""The driver without FUSE: nodes of the view in memory, and a model of the kernel.

Does what Linux does before it asks a filesystem: walks paths and follows symlinks, caches names as long as it
may, refuses what needs no filesystem, applies the umask, and finds the end for an append. Without permissions
(tests that need them are ``real``), cached attributes and pages. For one thread.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import ParamSpec, TypeVar

from artfs.fuse.errnos import errno_of
from artfs.model.names import MAX_NAME
from artfs.pending.pending_tree import PendingTree
from artfs.seal.seal import Request
from artfs.vfs import view
from artfs.vfs.catalog_nodes import VolumeRoot
from artfs.vfs.node import AttributeChanges, Attributes, Caller, Handle, NeedsWork, Node
from artfs.vfs.view import View
from artfs.volume.volume import Volume
from tests.conformance.driver import RENAME_EXCHANGE, RENAME_NOREPLACE, Filesystem, Status, When

_P = ParamSpec("_P")
_T = TypeVar("_T")

_PATH_MAX = 4096
_SYMLINKS = 40  # MAXSYMLINKS
_XATTR_NAME_MAX = 255


def _refuse(code: int, path: bytes = b"") -> OSError:
    return OSError(code, os.strerror(code), path)


@contextmanager
def _answers() -> Iterator[None]:
    """Turns an exception into an errno, as fuse/operations does; one without an errno is a bug."""
    try:
        yield
    except Exception as error:
        code = errno_of(error)
        if code is None:
            raise
        raise OSError(code, os.strerror(code)) from error


def ready(call: Callable[_P, _T], *arguments: _P.args, **named: _P.kwargs) -> _T:
    """Calls a method of a node, and does the work that it needs first, as fuse/operations does."""
    while True:
        try:
            return call(*arguments, **named)
        except NeedsWork as work:
            work.prepare()


@dataclass
class _Found:
    """The end of a path: the directory, the last name, and its node."""

    parent: Node
    name: bytes
    node: Node | None
    dot: bytes = b""  # the last name, where that is "." or ".."


class Kernel(view.Kernel):
    """The kernel's cache of names and their nodes, by directory."""

    def __init__(self) -> None:
        self._names: dict[tuple[int, bytes], Node | None] = {}

    def lookup(self, directory: Node, name: bytes) -> Node | None:
        if len(name) > MAX_NAME:  # as fuse/operations does
            raise _refuse(errno.ENAMETOOLONG)
        key = directory.ino, name
        if key in self._names:
            return self._names[key]
        with _answers():
            node = directory.lookup(name)
            if node is None:
                if directory.absent_timeout:
                    self._names[key] = None
            elif node.attributes().entry_timeout:
                self._names[key] = node
        return node

    def made(self, directory: Node, name: bytes, node: Node) -> None:
        with _answers():
            if node.attributes().entry_timeout:
                self._names[directory.ino, name] = node

    def removed(self, directory: Node, name: bytes) -> None:
        self._names.pop((directory.ino, name), None)

    def forget_entry(self, parent: int, name: bytes, timeout: float, owner: int) -> None:
        self._names.pop((parent, name), None)

    def forget_all(self) -> None:
        """Drops all cached names, as memory pressure does; open files remain."""
        self._names.clear()


class ViewFile:
    """An open file description."""

    def __init__(self, filesystem: ViewFilesystem, node: Node, handle: Handle | None, flags: int) -> None:
        self._fs, self._node, self._handle, self._flags = filesystem, node, handle, flags
        self._closed = False

    def _may(self, refused: int) -> Handle:
        """Returns the handle, unless its access mode is `refused` or it is a directory."""
        if self._flags & os.O_ACCMODE == refused:
            raise _refuse(errno.EBADF)
        if self._handle is None:
            raise _refuse(errno.EISDIR)
        return self._handle

    def pread(self, size: int, offset: int) -> bytes:
        handle = self._may(os.O_WRONLY)
        with _answers():
            return handle.read(offset, size)

    def pwrite(self, data: bytes, offset: int) -> int:
        handle = self._may(os.O_RDONLY)
        with self._fs.as_daemon(), _answers():
            return handle.write(offset, data)

    def append(self, data: bytes) -> int:
        assert self._flags & os.O_APPEND
        return self.pwrite(data, self.stat().size)

    def truncate(self, size: int) -> None:
        if self._flags & os.O_ACCMODE == os.O_RDONLY or size < 0:
            raise _refuse(errno.EINVAL)
        self._change(AttributeChanges(size=size))

    def chmod(self, mode: int) -> None:
        self._change(AttributeChanges(mode=mode & 0o7777))

    def _change(self, changes: AttributeChanges) -> None:
        with self._fs.as_daemon(), _answers():
            ready(self._node.change_attributes, changes, self._handle, self._fs.caller)

    def fsync(self, data_only: bool = False) -> None:
        with _answers():
            if self._handle is not None:
                self._handle.prepare_fsync(data_only=data_only)()

    def stat(self) -> Status:
        return self._fs.status(self._node)

    def setxattr(self, name: bytes, value: bytes) -> None:
        self._fs.set_xattr(self._node, name, value, 0)

    def getxattr(self, name: bytes) -> bytes:
        return self._fs.get_xattr(self._node, name)

    def close(self) -> None:
        if self._handle is not None and not self._closed:
            self._closed = True
            with _answers():
                self._handle.release()

    def __enter__(self) -> ViewFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class ViewFilesystem:
    """A pending tree. ``..`` of the root is the root, and absolute symlinks do not resolve."""

    def __init__(self, kernel: Kernel, root: Node, volume: Volume) -> None:
        self._kernel, self._root, self._volume = kernel, root, volume
        self.caller = Caller(os.geteuid(), os.getegid(), os.getpid())

    # Path walk

    def _walk(self, path: bytes, *, follow: bool) -> _Found:
        """Goes to the last name of a path; `follow` a symlink there."""
        if len(path) >= _PATH_MAX:
            raise _refuse(errno.ENAMETOOLONG, path)
        todo = [part for part in path.split(b"/") if part][::-1]
        above: list[Node] = [self._root]
        found = _Found(self._root, b"", self._root, b".")
        links = 0
        while todo:
            name = todo.pop()
            here = above[-1]
            if self._kind(here) != stat.S_IFDIR:
                raise _refuse(errno.ENOTDIR, path)
            if name in (b".", b".."):
                if name == b".." and len(above) > 1:
                    above.pop()
                found = _Found(above[max(len(above) - 2, 0)], name, above[-1], name)
                continue
            node = self._kernel.lookup(here, name)
            found = _Found(here, name, node)
            if node is None:
                if todo:
                    raise _refuse(errno.ENOENT, path)
                return found
            if self._kind(node) == stat.S_IFLNK and (todo or follow):
                links += 1
                if links > _SYMLINKS:
                    raise _refuse(errno.ELOOP, path)
                with _answers():
                    target = node.target()
                if target.startswith(b"/"):
                    raise _refuse(errno.ENOENT, path)
                todo += [part for part in target.split(b"/") if part][::-1]
                continue
            above.append(node)
        return found

    def _at(self, path: bytes, *, follow: bool) -> Node:
        node = self._walk(path, follow=follow).node
        if node is None:
            raise _refuse(errno.ENOENT, path)
        return node

    def _free(self, path: bytes) -> _Found:
        """Finds the directory and name of a new entry (filename_create in fs/namei.c)."""
        found = self._walk(path, follow=False)
        if found.dot or found.node is not None:
            raise _refuse(errno.EEXIST, path)
        return found

    @staticmethod
    def _kind(node: Node) -> int:
        with _answers():
            return stat.S_IFMT(node.attributes().mode)

    @contextmanager
    def as_daemon(self) -> Iterator[int]:
        """Runs the block with the daemon's umask, and yields the caller's."""
        umask = os.umask(0)
        try:
            yield umask
        finally:
            os.umask(umask)

    # Files

    def open(self, path: bytes, flags: int, mode: int = 0o644) -> ViewFile:
        exclusive = flags & os.O_CREAT and flags & os.O_EXCL
        found = self._walk(path, follow=not (flags & os.O_NOFOLLOW or exclusive))
        node = found.node
        if node is None:
            if not flags & os.O_CREAT:
                raise _refuse(errno.ENOENT, path)
            with self.as_daemon() as umask, _answers():
                made = ready(
                    found.parent.create,
                    found.name,
                    flags & ~os.O_NOFOLLOW,
                    mode & ~umask & 0o7777,
                    self.caller,
                )
            self._kernel.made(found.parent, found.name, made[0])
            return ViewFile(self, *made, flags)
        if exclusive:
            raise _refuse(errno.EEXIST, path)
        kind = self._kind(node)
        if flags & os.O_DIRECTORY and kind != stat.S_IFDIR:
            raise _refuse(errno.ENOTDIR, path)
        if kind == stat.S_IFLNK:
            raise _refuse(errno.ELOOP, path)
        if kind == stat.S_IFDIR:
            if flags & (os.O_CREAT | os.O_TRUNC) or flags & os.O_ACCMODE != os.O_RDONLY:
                raise _refuse(errno.EISDIR, path)
            return ViewFile(self, node, None, flags)
        with self.as_daemon(), _answers():
            handle = ready(node.open, flags & ~(os.O_CREAT | os.O_EXCL | os.O_NOCTTY), self.caller)
        return ViewFile(self, node, handle, flags)

    # Names

    def mkdir(self, path: bytes, mode: int = 0o755) -> None:
        found = self._free(path)
        with self.as_daemon() as umask, _answers():
            node = found.parent.mkdir(found.name, mode & ~umask & 0o1777, self.caller)
        self._kernel.made(found.parent, found.name, node)

    def rmdir(self, path: bytes) -> None:
        found = self._walk(path, follow=False)
        if found.dot:
            raise _refuse(errno.ENOTEMPTY if found.dot == b".." else errno.EINVAL, path)
        if found.node is None:
            raise _refuse(errno.ENOENT, path)
        if self._kind(found.node) != stat.S_IFDIR:
            raise _refuse(errno.ENOTDIR, path)
        with _answers():
            found.parent.rmdir(found.name, self.caller)
        self._kernel.removed(found.parent, found.name)

    def unlink(self, path: bytes) -> None:
        found = self._walk(path, follow=False)
        if found.dot:
            raise _refuse(errno.EISDIR, path)
        if found.node is None:
            raise _refuse(errno.ENOENT, path)
        if self._kind(found.node) == stat.S_IFDIR:
            raise _refuse(errno.EISDIR, path)
        with _answers():
            found.parent.unlink(found.name, self.caller)
        self._kernel.removed(found.parent, found.name)

    def rename(self, old: bytes, new: bytes, flags: int = 0) -> None:
        """do_renameat2 and vfs_rename of fs/namei.c, in their order."""
        exchange = bool(flags & RENAME_EXCHANGE)
        if exchange and flags & RENAME_NOREPLACE:
            raise _refuse(errno.EINVAL, old)
        ways = [path.rstrip(b"/").rpartition(b"/") for path in (old, new)]
        for way, _, _ in ways:
            self._walk(way + b"/.", follow=True)
        if any(name in (b"", b".", b"..") for _, _, name in ways):
            raise _refuse(errno.EBUSY, old)
        source = self._walk(old, follow=False)
        if source.node is None:
            raise _refuse(errno.ENOENT, old)
        target = self._walk(new, follow=False)
        if target.node is not None and flags & RENAME_NOREPLACE:
            raise _refuse(errno.EEXIST, new)
        if target.node is None and exchange:
            raise _refuse(errno.ENOENT, new)
        if self._lies_in(new, source.node):
            raise _refuse(errno.EINVAL, old)
        if target.node is not None and self._lies_in(old, target.node):
            raise _refuse(errno.EINVAL if exchange else errno.ENOTEMPTY, old)
        if target.node is not None and target.node.ino == source.node.ino:
            return
        if target.node is not None and not exchange:
            directory = self._kind(source.node) == stat.S_IFDIR
            if directory != (self._kind(target.node) == stat.S_IFDIR):
                raise _refuse(errno.ENOTDIR if directory else errno.EISDIR, old)
        with _answers():
            source.parent.rename(source.name, target.parent, target.name, flags, self.caller)
        self._kernel.removed(source.parent, source.name)
        self._kernel.removed(target.parent, target.name)
        self._kernel.made(target.parent, target.name, source.node)
        if exchange and target.node is not None:
            self._kernel.made(source.parent, source.name, target.node)

    def _lies_in(self, path: bytes, node: Node) -> bool:
        """Whether the directory of a path is `node` or below it."""
        parts = [part for part in path.split(b"/") if part][:-1]
        return any(
            self._at(b"/".join(parts[:length]), follow=True).ino == node.ino
            for length in range(len(parts) + 1)
        )

    def link(self, old: bytes, new: bytes) -> None:
        node = self._at(old, follow=False)
        found = self._free(new)
        if self._kind(node) == stat.S_IFDIR:
            raise _refuse(errno.EPERM, old)
        with _answers():
            linked = ready(found.parent.link, node, found.name, self.caller)
        assert linked.ino == node.ino
        self._kernel.made(found.parent, found.name, linked)

    def symlink(self, target: bytes, path: bytes) -> None:
        if not target or len(target) >= _PATH_MAX:
            raise _refuse(errno.ENAMETOOLONG if target else errno.ENOENT, target)
        found = self._free(path)
        with _answers():
            node = found.parent.symlink(found.name, target, self.caller)
        self._kernel.made(found.parent, found.name, node)

    def readlink(self, path: bytes) -> bytes:
        node = self._at(path, follow=False)
        if self._kind(node) != stat.S_IFLNK:
            raise _refuse(errno.EINVAL, path)
        with _answers():
            return node.target()

    def mknod(self, path: bytes, mode: int, device: int = 0) -> None:
        found = self._free(path)
        with self.as_daemon() as umask, _answers():
            node = found.parent.mknod(found.name, mode & ~umask, device, self.caller)
        self._kernel.made(found.parent, found.name, node)

    # Attributes

    def chmod(self, path: bytes, mode: int) -> None:
        self._change(path, AttributeChanges(mode=mode & 0o7777))

    def chown(self, path: bytes, uid: int, gid: int, follow: bool = True) -> None:
        changes = AttributeChanges(uid=None if uid == -1 else uid, gid=None if gid == -1 else gid)
        self._change(path, changes, follow=follow)

    def truncate(self, path: bytes, size: int) -> None:
        if size < 0:
            raise _refuse(errno.EINVAL, path)
        if self._kind(self._at(path, follow=True)) == stat.S_IFDIR:
            raise _refuse(errno.EISDIR, path)
        self._change(path, AttributeChanges(size=size))

    def utimens(self, path: bytes, atime: int | When, mtime: int | When, follow: bool = True) -> None:
        if atime is When.OMIT and mtime is When.OMIT:
            return  # without looking at the path
        now = time.time_ns()

        def given(moment: int | When) -> int | None:
            if isinstance(moment, When):
                return now if moment is When.NOW else None
            return moment

        self._change(path, AttributeChanges(atime_ns=given(atime), mtime_ns=given(mtime)), follow=follow)

    def _change(self, path: bytes, changes: AttributeChanges, *, follow: bool = True) -> None:
        node = self._at(path, follow=follow)
        with self.as_daemon(), _answers():
            ready(node.change_attributes, changes, None, self.caller)

    def stat(self, path: bytes, follow: bool = False) -> Status:
        return self.status(self._at(path, follow=follow))

    def status(self, node: Node) -> Status:
        """Returns the stat(2) status of a node."""
        with _answers():
            return _status(node.attributes())

    # Directories

    def listdir(self, path: bytes) -> list[bytes]:
        node = self._at(path, follow=True)
        if self._kind(node) != stat.S_IFDIR:
            raise _refuse(errno.ENOTDIR, path)
        names = []
        with _answers():
            listing = node.listing()
            try:
                listing.rewind()
                for entry in listing.entries(0):
                    # readdirplus: the kernel caches the entries.
                    names.append(entry.name)
                    if entry.attributes.entry_timeout:
                        self._kernel.made(node, entry.name, entry.node)
            finally:
                listing.release()
        return names

    def fsyncdir(self, path: bytes, data_only: bool = False) -> None:
        node = self._at(path, follow=True)
        if self._kind(node) != stat.S_IFDIR:
            raise _refuse(errno.ENOTDIR, path)
        with _answers():
            listing = node.listing()
            try:
                listing.prepare_fsync(data_only=data_only)()
            finally:
                listing.release()

    # Extended attributes

    def setxattr(self, path: bytes, name: bytes, value: bytes, flags: int = 0) -> None:
        self.set_xattr(self._at(path, follow=False), name, value, flags)

    def getxattr(self, path: bytes, name: bytes) -> bytes:
        return self.get_xattr(self._at(path, follow=False), name)

    def listxattr(self, path: bytes) -> list[bytes]:
        node = self._at(path, follow=False)
        with _answers():
            return node.xattrs()

    def removexattr(self, path: bytes, name: bytes) -> None:
        node = self._at(path, follow=False)
        self._check_xattr(node, name, errno.EPERM)
        with _answers():
            ready(node.remove_xattr, name)

    def set_xattr(self, node: Node, name: bytes, value: bytes, flags: int) -> None:
        """As setxattr(2) and then pyfuse3, which implements the flags by a getxattr first."""
        self._check_xattr(node, name, errno.EPERM)
        if flags:
            try:
                self.get_xattr(node, name)
            except OSError as error:
                if error.errno != errno.ENODATA or flags & os.XATTR_REPLACE:
                    raise
            else:
                if flags & os.XATTR_CREATE:
                    raise _refuse(errno.EEXIST, name)
        with _answers():
            ready(node.set_xattr, name, value)

    def get_xattr(self, node: Node, name: bytes) -> bytes:
        """As getxattr(2)."""
        self._check_xattr(node, name, errno.ENODATA)
        with _answers():
            return node.xattr(name)

    def _check_xattr(self, node: Node, name: bytes, refused: int) -> None:
        """Allows user.* for files and directories alone (xattr_permission in fs/xattr.c)."""
        if len(name) > _XATTR_NAME_MAX:
            raise _refuse(errno.ERANGE, name)
        if name.startswith(b"user.") and self._kind(node) not in (stat.S_IFREG, stat.S_IFDIR):
            raise _refuse(refused, name)

    def statvfs(self, path: bytes) -> os.statvfs_result:
        self._at(path, follow=True)
        return os.fstatvfs(self._volume.layout.fd)


def _status(attributes: Attributes) -> Status:
    return Status(
        mode=attributes.mode,
        ino=attributes.ino,
        nlink=attributes.nlink,
        uid=attributes.uid,
        gid=attributes.gid,
        size=attributes.size,
        blocks=attributes.blocks,
        atime=attributes.atime_ns,
        mtime=attributes.mtime_ns,
        ctime=attributes.ctime_ns,
    )


class ViewInMemory:
    """A volume and its view, with a pending tree for each test."""

    def __init__(self, volume: Volume) -> None:
        self.volume, self.kernel = volume, Kernel()
        self.view = View(volume, self.kernel)
        self.root = VolumeRoot(self.view)
        self._collection = volume.catalog.create("suite")
        self._trees = 0

    def pending_tree(self) -> ViewFilesystem:
        """Returns a new pending tree."""
        return self._shown(self._started())

    def emptied_patch(self) -> ViewFilesystem:
        """Returns a patch whose base had entries of the most used names, all of which were removed."""
        if self._collection.newest() is None:
            fill(self._shown(tree := self._started()))
            self.volume.finish_tree(self._collection, tree, Request())
        tree = self.volume.set_base(self._collection, self._started(), "v0", Request())
        filesystem = self._shown(tree)
        empty(filesystem)
        return filesystem

    def discard(self) -> None:
        """Discards the last tree, and closes its descriptors."""
        tree = self.volume.trees.get(self._collection.name, b"test-%d" % self._trees)
        self.volume.discard(self._collection, tree)
        self.view.discarded(tree)
        self.kernel.forget_all()

    def _started(self) -> PendingTree:
        self._trees += 1
        return self.volume.start(self._collection, b"test-%d" % self._trees)

    def _shown(self, tree: PendingTree) -> ViewFilesystem:
        return ViewFilesystem(self.kernel, self.view.pending(tree), self.volume)


COMMON_NAMES = [
    b"a",
    b"b",
    b"c",
    b"d",
    b"dir",
    b"e",
    b"f",
    b"file",
    b"link",
    b"new",
    b"old",
    b"other",
    b"x",
    b"y",
]


def fill(fs: Filesystem) -> None:
    """Makes a file or a directory with files under each of the most used names."""
    for number, name in enumerate(COMMON_NAMES):
        if number % 2:
            fs.mkdir(name)
            for below in COMMON_NAMES[:4]:
                fs.open(name + b"/" + below, os.O_CREAT | os.O_WRONLY).close()
        else:
            with fs.open(name, os.O_CREAT | os.O_WRONLY) as file:
                file.pwrite(b"of the base", 0)


def empty(fs: Filesystem) -> None:
    """Removes everything that :func:`fill` made."""
    for number, name in enumerate(COMMON_NAMES):
        if number % 2:
            for below in COMMON_NAMES[:4]:
                fs.unlink(name + b"/" + below)
            fs.rmdir(name)
        else:
            fs.unlink(name)


__all__ = ["Kernel", "ViewFile", "ViewFilesystem", "ViewInMemory", "empty", "fill", "ready"]
