"""Adapts the view to pyfuse3: requests to methods of nodes and handles, exceptions to errnos.

Owns the numbers of handles, and with the inode table those of nodes. Nodes and handles say what runs on a
worker thread; the rest ends within microseconds, on the event loop's thread. pyfuse3 ends the mount at any
exception but FUSEError, so a request raises nothing else.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import itertools
import logging
import os
import stat
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import pyfuse3
import trio
from pyfuse3 import EntryAttributes, FileInfo, FUSEError, ReaddirToken, RequestContext, SetattrFields

from artfs.errors import Interrupted, Sealing
from artfs.fuse.errnos import errno_of
from artfs.fuse.inode_table import InodeTable
from artfs.fuse.invalidation import Notifier
from artfs.fuse.workers import CachedReads, Workers
from artfs.limits import descriptors, numbers
from artfs.linux.procfs import is_signalled
from artfs.model.names import MAX_NAME
from artfs.vfs.catalog_nodes import VolumeRoot
from artfs.vfs.node import (
    BLOCK_SIZE,
    AttributeChanges,
    Attributes,
    Caller,
    Handle,
    Listing,
    NeedsWork,
    Node,
    Work,
)
from artfs.vfs.view import View

log = logging.getLogger(__name__)

F = TypeVar("F", bound=Callable[..., Awaitable[Any]])

_OPEN_PAUSE = 0.02  # seconds between looks at a seal that an open waits for
_DOTS = 2  # "." and "..", which offsets of a listing don't count


def _translating_errors(operation: F) -> F:
    """Turns an exception of an operation into an errno; an unexpected one into EIO and an entry of the log.

    What the operation needs first is prepared, and then the operation is called again.
    """

    @functools.wraps(operation)
    async def answer(self: Operations, *arguments: Any) -> Any:
        try:
            while True:
                try:
                    return await operation(self, *arguments)
                except NeedsWork as needed:
                    await self._workers.prepare(needed, self._caller_of(arguments).uid)
        except FUSEError:
            raise
        except Exception as error:
            number = errno_of(error)
            if number is None:
                log.exception("%s%r failed", operation.__name__, arguments[:2])
                number = errno.EIO
            raise FUSEError(number) from None

    return answer  # type: ignore[return-value]


class Operations(pyfuse3.Operations):
    """One mount's answers."""

    def __init__(self, view: View, notifier: Notifier) -> None:
        super().__init__()
        self._view, self._notifier = view, notifier
        root = VolumeRoot(view)
        self._nodes = InodeTable(view, root)
        # Each with its opener; a listing with the number by which it was opened, and the node.
        self._handles: dict[int, tuple[Handle, Caller]] = {}
        self._listings: dict[int, tuple[Listing, Caller, int, Node]] = {}
        self._numbers = itertools.count(1)
        self._workers = Workers(lambda: view.stopping)
        self._descriptors = descriptors.OpenFiles(view.volume.layout.fd)
        self._cached_read = CachedReads().read

    def _caller_of(self, arguments: Sequence[Any]) -> Caller:
        """Returns the caller of a request, which has a context last, or a handle first."""
        if isinstance(arguments[-1], RequestContext):
            return _caller(arguments[-1])
        fh = arguments[0]
        return (self._handles.get(fh) or self._listings[fh])[1]

    def stacktrace(self) -> None:
        """Does nothing: any user may call this hook of pyfuse3 (setxattr of fuse_stacktrace)."""

    # -- nodes

    @_translating_errors
    async def lookup(self, parent_inode: int, name: bytes, ctx: RequestContext) -> EntryAttributes:
        parent = self._nodes.node(parent_inode)
        if len(name) > MAX_NAME:
            raise FUSEError(errno.ENAMETOOLONG)
        if name in (b".", b".."):
            return self._introduce(parent if name == b"." else self._above(parent))
        node = parent.lookup(name)
        if node is not None:
            return self._introduce(node, cached=parent.ino == parent_inode)
        if not parent.absent_timeout or parent.ino != parent_inode:
            raise FUSEError(errno.ENOENT)
        absent = EntryAttributes()
        absent.st_ino = 0
        absent.entry_timeout = parent.absent_timeout
        return absent

    @staticmethod
    def _above(node: Node) -> Node:
        parent = getattr(node, "parent", None)
        if not isinstance(parent, Node):
            raise OSError(errno.ESTALE, "the parent directory is unknown")
        return parent

    def _introduce(self, node: Node, *, cached: bool = True) -> EntryAttributes:
        """Returns the entry that makes a node known to the kernel; the name may be one not to be `cached`."""
        entry = _entry(node.attributes())
        if not cached:
            entry.entry_timeout = 0
        self._nodes.remember(node)
        return entry

    def _changed(self, parent_inode: int, parent: Node, name: bytes) -> bool:
        """Tells whether the kernel may cache a name of a directory after a change.

        It may not if it knows the directory by an old number, too: then it forgets what it has cached of the
        name under the new one, which the change through the old one has made wrong.
        """
        if parent.ino == parent_inode:
            return True
        self._notifier.entry(parent.ino, name)
        return False

    def forget(self, inode_list: Sequence[tuple[int, int]]) -> None:  # type: ignore[override]
        try:
            self._nodes.forget(inode_list)
        except Exception:  # the kernel waits for no answer
            log.exception("forget failed")

    @_translating_errors
    async def getattr(self, inode: int, ctx: RequestContext) -> EntryAttributes:
        return _entry(self._nodes.node(inode).attributes())

    @_translating_errors
    async def setattr(
        self, inode: int, attr: EntryAttributes, fields: SetattrFields, fh: int | None, ctx: RequestContext
    ) -> EntryAttributes:
        changes = AttributeChanges(
            mode=attr.st_mode if fields.update_mode else None,
            uid=attr.st_uid if fields.update_uid else None,
            gid=attr.st_gid if fields.update_gid else None,
            size=attr.st_size if fields.update_size else None,
            atime_ns=attr.st_atime_ns if fields.update_atime else None,
            mtime_ns=attr.st_mtime_ns if fields.update_mtime else None,
        )
        handle = self._handles[fh][0] if fh in self._handles else None
        return _entry(self._nodes.node(inode).change_attributes(changes, handle, _caller(ctx)))

    @_translating_errors
    async def readlink(self, inode: int, ctx: RequestContext) -> bytes:
        return self._nodes.node(inode).target()

    @_translating_errors
    async def access(self, inode: int, mode: int, ctx: RequestContext) -> bool:
        return True  # default_permissions: the kernel has decided

    @_translating_errors
    async def statfs(self, ctx: RequestContext) -> pyfuse3.StatvfsData:
        found = os.fstatvfs(self._view.volume.layout.fd)
        data = pyfuse3.StatvfsData()
        for field in ("bsize", "frsize", "blocks", "bfree", "bavail", "files", "ffree", "favail"):
            # CephFS, for example, has -1 free inodes, which means "unknown".
            setattr(data, f"f_{field}", max(0, getattr(found, f"f_{field}")))
        data.f_namemax = MAX_NAME
        return data

    # -- names

    async def _run(self, node: Node, method: str, *arguments: Any) -> Any:
        """Calls a method of a node, the last argument of which is the caller."""
        call = getattr(node, method)
        if method in node.blocks:
            return await self._workers.run(Work.COMMAND, arguments[-1], call, *arguments)
        return call(*arguments)

    @_translating_errors
    async def mkdir(self, parent_inode: int, name: bytes, mode: int, ctx: RequestContext) -> EntryAttributes:
        parent = self._nodes.node(parent_inode)
        made = await self._run(parent, "mkdir", name, stat.S_IMODE(mode), _caller(ctx))
        return self._introduce(made, cached=self._changed(parent_inode, parent, name))

    @_translating_errors
    async def mknod(
        self, parent_inode: int, name: bytes, mode: int, rdev: int, ctx: RequestContext
    ) -> EntryAttributes:
        parent = self._nodes.node(parent_inode)
        made = parent.mknod(name, mode, rdev, _caller(ctx))
        return self._introduce(made, cached=self._changed(parent_inode, parent, name))

    @_translating_errors
    async def symlink(
        self, parent_inode: int, name: bytes, target: bytes, ctx: RequestContext
    ) -> EntryAttributes:
        parent = self._nodes.node(parent_inode)
        made = await self._run(parent, "symlink", name, target, _caller(ctx))
        return self._introduce(made, cached=self._changed(parent_inode, parent, name))

    @_translating_errors
    async def link(
        self, inode: int, new_parent_inode: int, new_name: bytes, ctx: RequestContext
    ) -> EntryAttributes:
        node, parent = self._nodes.node(inode), self._nodes.node(new_parent_inode)
        linked = parent.link(node, new_name, _caller(ctx))
        return self._introduce(linked, cached=self._changed(new_parent_inode, parent, new_name))

    @_translating_errors
    async def unlink(self, parent_inode: int, name: bytes, ctx: RequestContext) -> None:
        parent = self._nodes.node(parent_inode)
        await self._run(parent, "unlink", name, _caller(ctx))
        self._changed(parent_inode, parent, name)

    @_translating_errors
    async def rmdir(self, parent_inode: int, name: bytes, ctx: RequestContext) -> None:
        parent = self._nodes.node(parent_inode)
        await self._run(parent, "rmdir", name, _caller(ctx))
        self._changed(parent_inode, parent, name)

    @_translating_errors
    async def rename(
        self,
        parent_inode_old: int,
        name_old: bytes,
        parent_inode_new: int,
        name_new: bytes,
        flags: int,
        ctx: RequestContext,
    ) -> None:
        source, target = self._nodes.node(parent_inode_old), self._nodes.node(parent_inode_new)
        await self._run(source, "rename", name_old, target, name_new, flags, _caller(ctx))
        self._changed(parent_inode_old, source, name_old)
        self._changed(parent_inode_new, target, name_new)

    # -- extended attributes

    @_translating_errors
    async def getxattr(self, inode: int, name: bytes, ctx: RequestContext) -> bytes:
        return self._nodes.node(inode).xattr(name)

    @_translating_errors
    async def listxattr(self, inode: int, ctx: RequestContext) -> list[bytes]:
        return self._nodes.node(inode).xattrs()

    @_translating_errors
    async def setxattr(self, inode: int, name: bytes, value: bytes, ctx: RequestContext) -> None:
        self._nodes.node(inode).set_xattr(name, value)

    @_translating_errors
    async def removexattr(self, inode: int, name: bytes, ctx: RequestContext) -> None:
        self._nodes.node(inode).remove_xattr(name)

    # -- files

    def _opened(self, handle: Handle, caller: Caller) -> FileInfo:
        fh = next(self._numbers)
        self._handles[fh] = handle, caller
        self._descriptors.opened(caller.uid)
        return FileInfo(fh=fh, direct_io=handle.direct_io, keep_cache=handle.keep_cache)

    @_translating_errors
    async def open(self, inode: int, flags: int, ctx: RequestContext) -> FileInfo:
        caller = _caller(ctx)
        self._descriptors.check_open(caller.uid)
        try:
            return self._opened(self._nodes.node(inode).open(flags, caller), caller)
        except Sealing:
            pass
        # An open may wait for a seal, since the kernel holds no lock of a directory meanwhile.
        with numbers.WAITING_FOR_OTHERS.one(caller.uid):
            while not is_signalled(caller.pid):
                await trio.sleep(_OPEN_PAUSE)
                with contextlib.suppress(Sealing):
                    return self._opened(self._nodes.node(inode).open(flags, caller), caller)
        raise Interrupted

    @_translating_errors
    async def create(
        self, parent_inode: int, name: bytes, mode: int, flags: int, ctx: RequestContext
    ) -> tuple[FileInfo, EntryAttributes]:
        caller = _caller(ctx)
        self._descriptors.check_open(caller.uid)
        parent = self._nodes.node(parent_inode)
        node, handle = await self._run(parent, "create", name, flags, stat.S_IMODE(mode), caller)
        try:
            entry = self._introduce(node, cached=self._changed(parent_inode, parent, name))
        except BaseException:
            handle.release()
            raise
        return self._opened(handle, caller), entry

    @_translating_errors
    async def read(  # type: ignore[override]
        self, fh: int, off: int, size: int
    ) -> bytes | memoryview:
        handle, opener = self._handles[fh]
        found = handle.read_at_once(off, size, self._cached_read)
        if found is not None:
            return found
        return await self._workers.run(handle.reading(off), opener, handle.read, off, size)

    @_translating_errors
    async def write(self, fh: int, off: int, buf: bytes) -> int:
        handle, opener = self._handles[fh]
        if handle.writing is None:
            return handle.write(off, buf)
        return await self._workers.run(handle.writing, opener, handle.write, off, buf)

    @_translating_errors
    async def flush(self, fh: int) -> None:
        """Makes the kernel send no other flush: an error of a write is reported by the write, not by close.

        Dirty pages are written back nevertheless (fs/fuse/file.c, fuse_flush).
        """
        raise FUSEError(errno.ENOSYS)

    @_translating_errors
    async def fsync(self, fh: int, datasync: bool) -> None:
        handle, opener = self._handles[fh]
        await self._workers.run(Work.DISK, opener, handle.prepare_fsync(data_only=datasync))

    @_translating_errors
    async def release(self, fh: int) -> None:
        # On the loop and without an await: a finish that follows a close must find the file closed.
        handle, opener = self._handles.pop(fh)
        self._descriptors.closed(opener.uid)
        handle.release()

    # -- directories

    @_translating_errors
    async def opendir(self, inode: int, ctx: RequestContext) -> int:
        caller = _caller(ctx)
        self._descriptors.check_open(caller.uid)
        node = self._nodes.node(inode)
        fh = next(self._numbers)
        listing = node.listing(caller.uid)
        self._listings[fh] = listing, caller, inode, node
        self._descriptors.opened(caller.uid)
        return fh

    @_translating_errors
    async def readdir(self, fh: int, start_id: int, token: ReaddirToken) -> None:
        listing, opener, inode, node = self._listings[fh]
        if start_id == 0:
            if listing.blocks:
                await self._workers.run(Work.DISK, opener, listing.rewind)
            else:
                listing.rewind()
        for offset, name in enumerate((b".", b".."), 1):
            if start_id < offset and not pyfuse3.readdir_reply(token, name, _dot(node), offset):
                return
        for found in listing.entries(max(start_id - _DOTS, 0)):
            entry = _entry(found.attributes)
            if node.ino != inode:
                entry.entry_timeout = 0
            if not pyfuse3.readdir_reply(token, found.name, entry, found.offset + _DOTS):
                return
            self._nodes.remember(found.node)

    @_translating_errors
    async def fsyncdir(self, fh: int, datasync: bool) -> None:
        listing, opener, *_ = self._listings[fh]
        await self._workers.run(Work.DISK, opener, listing.prepare_fsync(data_only=datasync))

    @_translating_errors
    async def releasedir(self, fh: int) -> None:
        listing, opener, *_ = self._listings.pop(fh)
        self._descriptors.closed(opener.uid)
        listing.release()


def _caller(ctx: RequestContext) -> Caller:
    return Caller(ctx.uid, ctx.gid, ctx.pid)


def _entry(attributes: Attributes) -> EntryAttributes:
    entry = EntryAttributes()
    entry.st_ino = attributes.ino
    entry.st_mode = attributes.mode
    entry.st_nlink = attributes.nlink
    entry.st_uid = attributes.uid
    entry.st_gid = attributes.gid
    entry.st_rdev = attributes.rdev
    entry.st_size = attributes.size
    entry.st_blksize = BLOCK_SIZE
    entry.st_blocks = attributes.blocks
    entry.st_atime_ns = attributes.atime_ns
    entry.st_mtime_ns = attributes.mtime_ns
    entry.st_ctime_ns = attributes.ctime_ns
    entry.entry_timeout = attributes.entry_timeout
    entry.attr_timeout = attributes.attr_timeout
    return entry


def _dot(node: Node) -> EntryAttributes:
    """Returns what "." and ".." need: the kernel takes no lookup of them (fs/fuse/readdir.c)."""
    entry = EntryAttributes()
    entry.st_ino = node.ino
    entry.st_mode = stat.S_IFDIR
    return entry


__all__ = ["Operations"]
