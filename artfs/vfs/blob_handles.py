"""Open blobs: files of a version, and of the sealed tree below a patch.

The bytes are compared with their digest before any are returned, unless that was done before. Event loop's
thread, but for `read`, and for the call that `prepare_fsync` returns.
"""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from artfs.errors import Damaged
from artfs.model.digest import BlobId
from artfs.model.entry import FileEntry
from artfs.pending import deferred_close
from artfs.printing import printable
from artfs.store import durable
from artfs.store.objects import ObjectStore
from artfs.vfs.node import CachedRead, Caller, Handle, Work
from artfs.vfs.pending_handle import PendingHandle

if TYPE_CHECKING:
    from artfs.vfs.patch_node import PatchNode
    from artfs.vfs.sealed import SealedNode

log = logging.getLogger(__name__)

_HASHED_AT_ONCE = 1 << 18  # bytes that are hashed on the event loop's thread


class _BlobHandle(Handle):
    """What handles of blobs share."""

    __slots__ = ()

    fd: int
    unverified: bool
    _blob: BlobId
    _store: ObjectStore

    def _record(self, error: Damaged) -> None:
        """Logs that the bytes are damaged."""
        raise NotImplementedError

    def _is_outdated(self) -> bool:
        """Tells whether the descriptor leads to another file by now."""
        return False

    def verify(self, data: memoryview | None = None) -> None:
        """Compares the file with its digest; `data` is all of it, if it was read just now.

        Raises :class:`~artfs.errors.Damaged`. Waits for the disk unless `data` is given.
        """
        try:
            self._store.verified.check(self._blob, self.fd, data)
        except Damaged as error:
            if self._is_outdated():
                return
            self._record(error)
            raise
        self.unverified = False  # type: ignore[misc]

    def read_at_once(self, offset: int, size: int, cached: CachedRead) -> memoryview | None:
        found = cached(self.fd, offset, size)
        if found is not None and self.unverified:
            # One request reads most small files: then the bytes are at hand.
            if offset or len(found) > _HASHED_AT_ONCE or len(found) < os.fstat(self.fd).st_size:
                return None
            self.verify(found)
        return found

    def reading(self, offset: int) -> Work:
        return Work.VERIFYING if self.unverified else Work.DISK

    def read(self, offset: int, size: int) -> bytes:
        if self.unverified:
            self.verify()
        return os.pread(self.fd, size, offset)


class SealedHandle(_BlobHandle):
    """An open file of a version."""

    __slots__ = ("_blob", "_node", "_store", "fd", "unverified")

    def __init__(self, node: SealedNode, fd: int) -> None:
        self._node, self.fd = node, fd
        node.opened(self)
        store, entry = node.tree.store, node.entry
        assert isinstance(entry, FileEntry)
        self._store, self._blob = store, entry.blob
        self.unverified = store.verified.needs_check(entry.blob, fd)

    def _record(self, error: Damaged) -> None:
        self._node.record_damage(error)

    def release(self) -> None:
        self._node.closed(self)  # first: the descriptor's number may be used again
        deferred_close.close(self.fd)  # gc may have taken the blob's name


class LowerHandle(_BlobHandle, PendingHandle):
    """A lower file of a patch, open for reading: it reads the blob until copy-up, and then the copy."""

    __slots__ = ("_blob", "_store", "flags", "unverified")

    node: PatchNode

    def __init__(self, node: PatchNode, flags: int, caller: Caller) -> None:
        super().__init__(node, node.descriptor(os.O_RDONLY), caller, writable=False)
        self.flags = flags  # to open the copy with
        store, entry = node.mounted.store, node.entry
        assert isinstance(entry, FileEntry)
        self._store, self._blob = store, entry.blob
        self.unverified = store.verified.needs_check(entry.blob, self.fd)

    def _is_outdated(self) -> bool:
        return not self.unverified  # copied up meanwhile

    def _record(self, error: Damaged) -> None:
        log.error("%s: %s: %s", self.node.mounted.tree.label, printable(self.node.path()), error)

    def prepare_fsync(self, *, data_only: bool) -> Callable[[], None]:
        """Makes the attributes durable, which a stub has; the bytes are durable already."""
        node = self.node
        if node.entry is None:
            return super().prepare_fsync(data_only=data_only)
        if node.is_lower or node.parent is None or node.mounted.deleted:
            return lambda: None
        return functools.partial(_sync_and_close, durable.open_directory(node.parent.directory(), b"."))


def _sync_and_close(fd: int) -> None:
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
