"""An open file of a pending tree: it reads and writes the backing file, and the tree's gate counts it.

Event loop's thread, but for `fsync` and for what the gate calls.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from artfs.errors import ReadOnly, Writer
from artfs.linux import syscalls
from artfs.linux.procfs import process_of
from artfs.pending import deferred_close
from artfs.vfs.node import CachedRead, Caller, Handle

if TYPE_CHECKING:
    from artfs.vfs.pending_node import PendingNode


class PendingHandle(Handle):
    """An open file of a pending tree."""

    __slots__ = ("caller", "fd", "fenced", "node", "writable")

    def __init__(self, node: PendingNode, fd: int, caller: Caller, *, writable: bool) -> None:
        self.node, self.fd, self.caller, self.writable, self.fenced = node, fd, caller, writable, False
        node.opened(self)
        if writable:
            node.writers += 1
            node.mounted.tree.gate.enter(self)

    def read_at_once(self, offset: int, size: int, cached: CachedRead) -> bytes | memoryview | None:
        if self.fenced:
            # A mapping must not read pages again that it could then change unseen.
            raise OSError(errno.EIO, "the handle was fenced by a forced finish")
        return cached(self.fd, offset, size)

    def read(self, offset: int, size: int) -> bytes:
        if self.fenced:
            raise OSError(errno.EIO, "the handle was fenced by a forced finish")
        return os.pread(self.fd, size, offset)

    def write(self, offset: int, data: bytes) -> int:
        node = self.node
        with node.mounted.tree.gate.writing():
            if self.fenced:
                raise ReadOnly
            count = self._stored(offset, data)
            # Before a fence can be set: a forced seal must not use the digest of the bytes before this write.
            node.mounted.tree.hashes.written(node.backing_ino, offset, data, count)
        if node.setid:
            node.drop_setid(self.caller)
        return count

    def _stored(self, offset: int, data: bytes) -> int:
        mounted = self.node.mounted
        if not mounted.mount.write_cache:
            return os.pwrite(self.fd, data, offset)
        # The kernel regards an answered write-back as complete, and keeps the file's mtime itself: it sends
        # that when it has changed by its own, coarser clock.
        unwritten, end, done = mounted.tree.unwritten, offset + len(data), offset
        mtime_ns = os.fstat(self.fd).st_mtime_ns
        try:
            while done < end:
                done += os.pwrite(self.fd, data[done - offset :], done)
        except OSError:
            mounted.tree.hashes.forget(self.node.backing_ino)
            unwritten.refused(self.node, done, end)
            raise
        finally:
            syscalls.futimens(self.fd, None, mtime_ns)
        unwritten.stored(self.node, offset, end)
        return len(data)

    def fsync(self, *, data_only: bool) -> None:
        try:
            (os.fdatasync if data_only else os.fsync)(self.fd)
        except OSError as error:
            # The next fsync would succeed, and a finish would conclude that the bytes are on the disk.
            self.node.mounted.tree.store.failed_flush.record(error)
            raise

    def release(self) -> None:
        node = self.node
        node.closed(self)  # first: the descriptor's number may be used again
        if self.writable:
            node.writers -= 1
            if not node.writers:
                node.fenced = False
                node.mounted.tree.hashes.closed(node.backing_ino)
            node.mounted.tree.gate.leave(self)
        # The descriptor may be closed later than the gate and the digests know: nothing is written any more.
        deferred_close.close(self.fd, written=self.writable)

    # -- what the gate calls

    def counts(self) -> bool:
        return not self.node.gone

    def writer(self) -> Writer:
        pid, command = process_of(self.caller.pid)
        return Writer(self.node.path(), pid, command)

    def fence(self) -> None:
        self.fenced = True

    def unfence(self) -> None:
        # An inode with one name is only the tree's; a second name may be a blob's, which never changes.
        if not self.node.mounted.tree.shares_blobs or os.fstat(self.fd).st_nlink == 1:
            self.fenced = self.node.fenced = False
