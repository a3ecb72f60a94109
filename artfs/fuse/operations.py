"""Adapts the view to pyfuse3: requests to methods of nodes and handles, exceptions to errnos.

Owns the numbers of nodes and handles, and the decision what runs on the event loop's thread (whatever ends
within microseconds) and what on a worker thread (whatever may wait). pyfuse3 ends the mount at any exception
but FUSEError, so nothing else leaves a request.
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
from concurrent.futures import CancelledError
from typing import Any, TypeVar

import pyfuse3
import trio
from pyfuse3 import EntryAttributes, FileInfo, FUSEError, ReaddirToken, RequestContext, SetattrFields

from artfs.errors import Interrupted, Sealing
from artfs.fuse.errnos import errno_of
from artfs.fuse.inode_table import InodeTable
from artfs.fuse.reads import QuickReads
from artfs.fuse.session import MAX_TASKS, Session
from artfs.fuse.shares import OpenFiles, Waiting
from artfs.fuse.threads import Threads
from artfs.linux.procfs import is_signalled
from artfs.model.names import MAX_NAME
from artfs.vfs.catalog_nodes import VolumeRoot
from artfs.vfs.node import BLOCK_SIZE, AttributeChanges, Attributes, Caller, Handle, Listing, NeedsWork, Node
from artfs.vfs.view import View

log = logging.getLogger(__name__)

F = TypeVar("F", bound=Callable[..., Awaitable[Any]])
T = TypeVar("T")

_WAITING = MAX_TASKS // 2 - 512  # requests that wait for others, as a finish does for a run to leave
_SHARE = _WAITING // 3  # of these one user's
_THREADS = 128  # of these at the same time on threads, of one user: finishes, and what asks other machines
_DISK, _DISK_OF_ROOT = 16, 32  # reads, fsyncs, listings and copies at the same time, of one user
_HASHING, _HASHING_OF_ROOT = 2, 4  # files that are verified at the same time, of one user
_OPEN_PAUSE = 0.02  # seconds between looks at a seal that an open waits for
_LOOK = 0.2  # seconds between looks whether who waits for others still does
_HASHED_AT_ONCE = 1 << 18  # bytes that are hashed on the loop's thread
_DOTS = 2  # "." and ".." come before what the listing counts


def _answering(operation: F) -> F:
    """Turns what an operation raises into an errno, and what nobody foresaw into EIO and a log entry."""

    @functools.wraps(operation)
    async def answer(self: Operations, *arguments: Any) -> Any:
        try:
            while True:
                try:
                    return await operation(self, *arguments)
                except NeedsWork as unready:
                    await self._prepare(unready, self._asking(arguments))
        except FUSEError:
            raise
        except Exception as error:
            number = errno_of(error)
            if number is None:
                log.exception("%s%r failed", operation.__name__, arguments[:2])
                number = errno.EIO
            raise FUSEError(number) from None

    return answer  # type: ignore[return-value]


class KernelCaches:
    """Lets the view tell the kernel; called on sealing threads, which wait for it."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def forget_entry(self, parent: int, name: bytes, timeout: float, owner: int) -> None:
        with contextlib.suppress(CancelledError):  # the mount is at its end, and with it all names
            self._session.notifier.entry(parent, name, owner=owner).result(timeout)

    def forget_pages(self, ino: int, timeout: float, owner: int) -> None:
        self._session.notifier.inode(ino, owner=owner).result(timeout)

    def forget_attributes(self, ino: int, timeout: float, owner: int) -> None:
        with contextlib.suppress(CancelledError):
            self._session.notifier.inode(ino, owner=owner, attributes_only=True).result(timeout)


class Operations(pyfuse3.Operations):
    """One mount's answers."""

    def __init__(self, session: Session, view: View) -> None:
        super().__init__()
        self._session, self._view = session, view
        root = VolumeRoot(view)
        self._nodes = InodeTable(view, root)
        self._handles: dict[int, Handle] = {}
        self._listings: dict[int, tuple[int, Node, Listing]] = {}
        self._numbers = itertools.count(1)
        self._commands = Threads()
        # Nothing here is refused: what a write(2) or a command has begun goes on to its end.
        self._disk = Waiting(MAX_TASKS, MAX_TASKS, _DISK, of_root=_DISK_OF_ROOT)
        self._hashing = Waiting(MAX_TASKS, MAX_TASKS, _HASHING, of_root=_HASHING_OF_ROOT)
        # Beside each other: whoever waits for another machine must keep nobody from a finish.
        self._waiting = Waiting(_WAITING, _SHARE, _THREADS)
        self._elsewhere = Waiting(_WAITING, _SHARE, _THREADS)
        self._open = OpenFiles(view.volume.layout.fd)
        view.volume.before_holding = self._open.check_for_tree
        self._reads = QuickReads()

    def init(self) -> None:
        self._session.answer_init()

    def _asking(self, arguments: Sequence[Any]) -> int:
        """Returns whose request it is, by what came with it: a context at the end, or a handle first."""
        context = arguments[-1]
        return context.uid if isinstance(context, RequestContext) else self._open.opener(arguments[0]).uid

    async def _on_disk(self, uid: int, call: Callable[..., T], *arguments: Any) -> T:
        """Does what waits for the backing filesystem; each user has some threads for it."""
        with self._disk.one(uid) as limiter:
            return await trio.to_thread.run_sync(call, *arguments, limiter=limiter)

    async def _prepare(self, unready: NeedsWork, uid: int) -> None:
        """Has done what a request needs first."""
        if unready.waiting is not None:
            await self._prepare_elsewhere(unready, unready.waiting)
        else:
            await self._on_disk(uid, unready.prepare)

    async def _prepare_elsewhere(self, unready: NeedsWork, caller: Caller) -> None:
        outcome: list[Exception | None] = []

        def prepare() -> None:
            try:
                unready.prepare()
                outcome.append(None)
            except Exception as error:  # noqa: BLE001  (raised below)
                outcome.append(error)

        try:
            with self._elsewhere.one(caller.uid) as limiter:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._watch, caller, nursery.cancel_scope)
                    await trio.to_thread.run_sync(prepare, limiter=limiter, abandon_on_cancel=True)
                    nursery.cancel_scope.cancel()
        except OSError as too_many:
            unready.given_up(too_many)
            return
        if not outcome:
            unready.given_up(Interrupted())
        elif outcome[0] is not None:
            raise outcome[0]

    async def _watch(self, caller: Caller, waiting: trio.CancelScope) -> None:
        """Ends a wait when its caller wants to end, or the mount does."""
        while not (self._view.stopping or is_signalled(caller.pid)):
            await trio.sleep(_LOOK)
        waiting.cancel()

    def stacktrace(self) -> None:
        """Anyone may pull this hook of pyfuse3 (setxattr of fuse_stacktrace): it tells nobody anything."""

    # -- nodes

    @_answering
    async def lookup(self, parent_inode: int, name: bytes, ctx: RequestContext) -> EntryAttributes:
        parent = self._nodes.node(parent_inode)
        if len(name) > MAX_NAME:
            raise FUSEError(errno.ENAMETOOLONG)
        if name in (b".", b".."):
            return self._told(parent if name == b"." else self._above(parent))
        node = parent.lookup(name)
        if node is not None:
            return self._told(node, fleeting=parent.ino != parent_inode)
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
            raise OSError(errno.ESTALE, "the directory above is not known")
        return parent

    def _told(self, node: Node, *, fleeting: bool = False) -> EntryAttributes:
        """Tells the kernel of a node; a `fleeting` name it must not remember."""
        entry = _entry(node.attributes())
        if fleeting:
            entry.entry_timeout = 0
        self._nodes.remember(node)
        return entry

    def _renewed(self, parent_inode: int, parent: Node, name: bytes) -> bool:
        """Tells whether a directory is known to the kernel under two numbers: one that it had before, too.

        Then others may remember under the new one what a change through the old one made wrong.
        """
        if parent.ino == parent_inode:
            return False
        self._session.notifier.entry(parent.ino, name)
        return True

    def forget(self, inode_list: Sequence[tuple[int, int]]) -> None:  # type: ignore[override]
        try:
            self._nodes.forget(inode_list)
        except Exception:  # nobody waits for an answer that could tell
            log.exception("forget failed")

    @_answering
    async def getattr(self, inode: int, ctx: RequestContext) -> EntryAttributes:
        return _entry(self._nodes.node(inode).attributes())

    @_answering
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
        handle = None if fh is None else self._handles.get(fh)
        return _entry(self._nodes.node(inode).change_attributes(changes, handle, _caller(ctx)))

    @_answering
    async def readlink(self, inode: int, ctx: RequestContext) -> bytes:
        return self._nodes.node(inode).target()

    @_answering
    async def access(self, inode: int, mode: int, ctx: RequestContext) -> bool:
        return True  # default_permissions: the kernel has decided

    @_answering
    async def statfs(self, ctx: RequestContext) -> pyfuse3.StatvfsData:
        found = os.fstatvfs(self._view.volume.layout.fd)
        data = pyfuse3.StatvfsData()
        for field in ("bsize", "frsize", "blocks", "bfree", "bavail", "files", "ffree", "favail"):
            # Some count below zero, as CephFS does with free inodes: there it stands for "unknown".
            setattr(data, f"f_{field}", max(0, getattr(found, f"f_{field}")))
        data.f_namemax = MAX_NAME
        return data

    # -- names

    async def _run(self, node: Node, method: str, *arguments: Any) -> Any:
        """Calls a method of a node, whose last argument is the caller."""
        call = getattr(node, method)
        if method in node.blocks:
            return await self._commands.run(arguments[-1], call, *arguments)
        return call(*arguments)

    @_answering
    async def mkdir(self, parent_inode: int, name: bytes, mode: int, ctx: RequestContext) -> EntryAttributes:
        parent = self._nodes.node(parent_inode)
        made = await self._run(parent, "mkdir", name, stat.S_IMODE(mode), _caller(ctx))
        return self._told(made, fleeting=self._renewed(parent_inode, parent, name))

    @_answering
    async def mknod(
        self, parent_inode: int, name: bytes, mode: int, rdev: int, ctx: RequestContext
    ) -> EntryAttributes:
        parent = self._nodes.node(parent_inode)
        made = parent.mknod(name, mode, rdev, _caller(ctx))
        return self._told(made, fleeting=self._renewed(parent_inode, parent, name))

    @_answering
    async def symlink(
        self, parent_inode: int, name: bytes, target: bytes, ctx: RequestContext
    ) -> EntryAttributes:
        parent = self._nodes.node(parent_inode)
        made = await self._run(parent, "symlink", name, target, _caller(ctx))
        return self._told(made, fleeting=self._renewed(parent_inode, parent, name))

    @_answering
    async def link(
        self, inode: int, new_parent_inode: int, new_name: bytes, ctx: RequestContext
    ) -> EntryAttributes:
        node, parent = self._nodes.node(inode), self._nodes.node(new_parent_inode)
        linked = parent.link(node, new_name, _caller(ctx))
        return self._told(linked, fleeting=self._renewed(new_parent_inode, parent, new_name))

    @_answering
    async def unlink(self, parent_inode: int, name: bytes, ctx: RequestContext) -> None:
        parent = self._nodes.node(parent_inode)
        await self._run(parent, "unlink", name, _caller(ctx))
        self._renewed(parent_inode, parent, name)

    @_answering
    async def rmdir(self, parent_inode: int, name: bytes, ctx: RequestContext) -> None:
        parent = self._nodes.node(parent_inode)
        await self._run(parent, "rmdir", name, _caller(ctx))
        self._renewed(parent_inode, parent, name)

    @_answering
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
        self._renewed(parent_inode_old, source, name_old)
        self._renewed(parent_inode_new, target, name_new)

    # -- extended attributes

    @_answering
    async def getxattr(self, inode: int, name: bytes, ctx: RequestContext) -> bytes:
        return self._nodes.node(inode).xattr(name)

    @_answering
    async def listxattr(self, inode: int, ctx: RequestContext) -> list[bytes]:
        return self._nodes.node(inode).xattrs()

    @_answering
    async def setxattr(self, inode: int, name: bytes, value: bytes, ctx: RequestContext) -> None:
        self._nodes.node(inode).set_xattr(name, value)

    @_answering
    async def removexattr(self, inode: int, name: bytes, ctx: RequestContext) -> None:
        self._nodes.node(inode).remove_xattr(name)

    # -- files

    def _opened(self, handle: Handle, caller: Caller) -> FileInfo:
        fh = next(self._numbers)
        self._handles[fh] = handle
        self._open.opened(fh, caller)
        return FileInfo(fh=fh, direct_io=handle.direct_io, keep_cache=handle.keep_cache)

    @_answering
    async def open(self, inode: int, flags: int, ctx: RequestContext) -> FileInfo:
        caller = _caller(ctx)
        self._open.check(caller.uid)
        try:
            return self._opened(self._nodes.node(inode).open(flags, caller), caller)
        except Sealing:
            pass
        # The one change that may wait: no lock of a directory is held meanwhile. See node.open.
        with self._waiting.one(caller.uid):
            while not is_signalled(caller.pid):
                await trio.sleep(_OPEN_PAUSE)
                with contextlib.suppress(Sealing):
                    return self._opened(self._nodes.node(inode).open(flags, caller), caller)
        raise Interrupted

    @_answering
    async def create(
        self, parent_inode: int, name: bytes, mode: int, flags: int, ctx: RequestContext
    ) -> tuple[FileInfo, EntryAttributes]:
        caller = _caller(ctx)
        self._open.check(caller.uid)
        parent = self._nodes.node(parent_inode)
        node, handle = await self._run(parent, "create", name, flags, stat.S_IMODE(mode), caller)
        try:
            entry = self._told(node, fleeting=self._renewed(parent_inode, parent, name))
        except BaseException:
            handle.release()
            raise
        return self._opened(handle, caller), entry

    @_answering
    async def read(  # type: ignore[override]
        self, fh: int, off: int, size: int
    ) -> bytes | memoryview:
        handle = self._handles[fh]
        fd = handle.descriptor()
        if fd >= 0:
            found = self._reads.read(fd, off, size)
            if found is not None and handle.unverified:
                # Mostly a small file is read by one request: then its bytes are at hand.
                if off == 0 and len(found) <= _HASHED_AT_ONCE and len(found) == os.fstat(fd).st_size:
                    handle.verify(found)
                else:
                    found = None
            if found is not None:
                return found
        if handle.unverified:
            # Few at once: who waits for a large file to be hashed must keep nobody from the disk.
            with self._hashing.one(self._open.opener(fh).uid) as limiter:
                return await trio.to_thread.run_sync(handle.read, off, size, limiter=limiter)
        if handle.direct_io:
            computes = handle.computes and off == 0
            return await self._commands.run(self._open.opener(fh), handle.read, off, size, computes=computes)
        return await self._on_disk(self._open.opener(fh).uid, handle.read, off, size)

    @_answering
    async def write(self, fh: int, off: int, buf: bytes) -> int:
        handle = self._handles[fh]
        if not handle.blocks:
            return handle.write(off, buf)
        caller = self._open.opener(fh)
        if not handle.waits:
            return await self._commands.run(caller, handle.write, off, buf)
        with self._waiting.one(caller.uid) as limiter:
            while limiter.available_tokens < 1:  # its user has as many finishes under way
                if self._view.stopping or is_signalled(caller.pid):
                    raise Interrupted
                await trio.sleep(_LOOK)
            return await trio.to_thread.run_sync(handle.write, off, buf, limiter=limiter)

    @_answering
    async def flush(self, fh: int) -> None:
        """Has the kernel send no flush again: nothing is refused at a close that was not at the write before.

        Dirty pages are written back all the same (fs/fuse/file.c, fuse_flush).
        """
        raise FUSEError(errno.ENOSYS)

    @_answering
    async def fsync(self, fh: int, datasync: bool) -> None:
        sync = self._handles[fh].syncing(data_only=datasync)
        await self._on_disk(self._open.opener(fh).uid, sync)

    @_answering
    async def release(self, fh: int) -> None:
        # Inline and without an await before it: a finish that follows a close must find the file closed.
        self._open.closed(fh)
        self._handles.pop(fh).release()

    # -- directories

    @_answering
    async def opendir(self, inode: int, ctx: RequestContext) -> int:
        caller = _caller(ctx)
        self._open.check(caller.uid)
        node = self._nodes.node(inode)
        fh = next(self._numbers)
        listing = node.listing()
        listing.uid = caller.uid
        self._listings[fh] = inode, node, listing
        self._open.opened(fh, caller)
        return fh

    @_answering
    async def readdir(self, fh: int, start_id: int, token: ReaddirToken) -> None:
        inode, node, listing = self._listings[fh]
        if start_id == 0:
            if listing.blocks:
                await self._on_disk(self._open.opener(fh).uid, listing.rewind)
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

    @_answering
    async def fsyncdir(self, fh: int, datasync: bool) -> None:
        sync = self._listings[fh][2].syncing(data_only=datasync)
        await self._on_disk(self._open.opener(fh).uid, sync)

    @_answering
    async def releasedir(self, fh: int) -> None:
        self._open.closed(fh)
        self._listings.pop(fh)[2].release()


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
    """Returns what "." and ".." need: the kernel takes no lookup from them (fs/fuse/readdir.c)."""
    entry = EntryAttributes()
    entry.st_ino = node.ino
    entry.st_mode = stat.S_IFDIR
    return entry


__all__ = ["KernelCaches", "Operations"]
