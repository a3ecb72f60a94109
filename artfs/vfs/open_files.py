"""Open files and directories of a pending tree.

A file's handle reads and writes the backing file, and is what the tree's gate counts; a directory's listing
goes on across a seal. Event loop's thread, but for `fsync` and `rewind`, and for what the gate asks.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from artfs.errors import ReadOnly, Writer
from artfs.limits.numbers import LISTED_NAMES
from artfs.linux import syscalls
from artfs.linux.procfs import process_of
from artfs.pending import deferred_close
from artfs.vfs.node import CachedRead, Caller, Handle, Listed, Listing

if TYPE_CHECKING:
    from artfs.vfs.pending import PendingDirectory, PendingNode

LARGE_DIRECTORY = 1 << 18  # bytes of st_size: some thousand names, a few milliseconds


class PendingHandle(Handle):
    """An open file of a pending tree: reads and writes go to the backing file."""

    __slots__ = ("caller", "fd", "fenced", "node", "writable")

    def __init__(self, node: PendingNode, fd: int, caller: Caller, *, writable: bool) -> None:
        self.node, self.fd, self.caller, self.writable, self.fenced = node, fd, caller, writable, False
        node.opened(self)
        if writable:
            node.writers += 1
            node.branch.tree.gate.enter(self)

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
        with node.branch.tree.gate.writing():
            if self.fenced:
                raise ReadOnly
            count = self._stored(offset, data)
            # Before a fence can pass: a forced seal must not take the digest of what was there before.
            node.branch.tree.hashes.written(node.backing_ino, offset, data, count)
        if node.setid:
            node.drop_setid(self.caller)
        return count

    def _stored(self, offset: int, data: bytes) -> int:
        branch = self.node.branch
        if not branch.serving.write_cache:
            return os.pwrite(self.fd, data, offset)
        # The kernel takes an answered write-back for whole, and keeps the file's mtime itself: it sends that
        # when it has moved by its own, coarser clock.
        unwritten, end, done = branch.tree.unwritten, offset + len(data), offset
        mtime_ns = os.fstat(self.fd).st_mtime_ns
        try:
            while done < end:
                done += os.pwrite(self.fd, data[done - offset :], done)
        except OSError:
            branch.tree.hashes.forget(self.node.backing_ino)
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
            # The next one would succeed, and a finish would take it that the bytes are on the disk.
            self.node.branch.tree.store.failed_flush.record(error)
            raise

    def release(self) -> None:
        node = self.node
        node.closed(self)  # first: the number of the descriptor may be used again
        if self.writable:
            node.writers -= 1
            if not node.writers:
                node.fenced = False
                node.branch.tree.hashes.closed(node.backing_ino)
            node.branch.tree.gate.leave(self)
        # It may be closed later than the gate and the digests know: nothing is written any more.
        deferred_close.close(self.fd, written=self.writable)

    # -- what the gate asks

    def counts(self) -> bool:
        return not self.node.gone

    def writer(self) -> Writer:
        pid, command = process_of(self.caller.pid)
        return Writer(self.node.path(), pid, command)

    def fence(self) -> None:
        self.fenced = True

    def unfence(self) -> None:
        # With one name the inode is the tree's alone; another may be that of a blob, which never changes.
        if not self.node.branch.tree.shares_blobs or os.fstat(self.fd).st_nlink == 1:
            self.fenced = self.node.fenced = False


def check_not_replaced(directory: PendingDirectory) -> None:
    """Raises ESTALE once the tree has got another base: what an open directory held is no longer there."""
    if directory.branch.tree.successor is not None:
        raise OSError(errno.ESTALE, "the pending version got another base")


def sealed_entries(directory: PendingDirectory, offset: int) -> Iterator[Listed]:
    """Yields the entries of the version that the directory's tree became, by the offsets of that."""
    twin = directory.twin()
    if twin is not None:
        yield from twin.listing().entries(offset)


class PendingListing(Listing):
    """The names that a directory had when it was rewound, looked up one by one as they are asked for."""

    def __init__(self, directory: PendingDirectory) -> None:
        self._directory = directory
        self._names: list[bytes] = []
        self._sealed = False
        self.blocks = directory.stat().st_size > LARGE_DIRECTORY
        # An O_PATH descriptor lists nothing; and this one must outlive the directory's place in the cache.
        self._fd = os.open(b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=directory.directory())

    def rewind(self) -> None:
        check_not_replaced(self._directory)
        self._hold([os.fsencode(name) for name in os.listdir(self._fd)])
        # Asked after the look: once a tree is sealed its files go from here, and the version has the names.
        self._sealed = self._directory.branch.sealed is not None

    def _hold(self, names: list[bytes]) -> None:
        LISTED_NAMES.give(self.uid, len(self._names))
        self._names = []
        LISTED_NAMES.take(self.uid, len(names))
        self._names = names

    def entries(self, offset: int) -> Iterator[Listed]:
        check_not_replaced(self._directory)
        if self._directory.removed:
            return
        if self._sealed:
            yield from sealed_entries(self._directory, offset)
            return
        branch = self._directory.branch
        for index in range(offset, len(self._names)):
            name = self._names[index]
            try:
                status = os.stat(name, dir_fd=self._fd, follow_symlinks=False)
            except FileNotFoundError:
                status = None
            # Asked after the stat: a tree that is sealed has the same names, and its files go from here.
            twin = self._directory.twin()
            if twin is not None:
                sealed = twin.lookup(name)
                if sealed is not None:
                    yield Listed(name, sealed, sealed.attributes(), index + 1)
            elif status is not None:
                node = branch.node(status, self._directory, name)
                yield Listed(name, node, node.shown(status), index + 1)

    def fsync(self, *, data_only: bool) -> None:
        os.fsync(self._fd)

    def release(self) -> None:
        LISTED_NAMES.give(self.uid, len(self._names))
        deferred_close.close(self._fd)
