"""An open file of the sealed tree below a patch: reads the blob until the file is copied up, then the copy.

Event loop's thread, but for the call that `prepare_fsync` returns.
"""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from artfs.errors import Damaged, printable
from artfs.model.entry import FileEntry
from artfs.store import durable
from artfs.vfs.node import Caller
from artfs.vfs.pending_handle import PendingHandle
from artfs.vfs.verified_reads import VerifiedReads

if TYPE_CHECKING:
    from artfs.vfs.patch_node import PatchNode

log = logging.getLogger(__name__)


class LowerHandle(VerifiedReads, PendingHandle):
    """A lower file, open for reading, until it is copied up."""

    __slots__ = ("_blob", "flags", "unverified")

    node: PatchNode

    def __init__(self, node: PatchNode, flags: int, caller: Caller) -> None:
        super().__init__(node, node.descriptor(os.O_RDONLY), caller, writable=False)
        self.flags = flags  # for the copy: a sealed file has no atime
        assert isinstance(node.entry, FileEntry)
        self._blob = node.entry.blob
        self.unverified = node.mounted.store.verified.needs_check(self._blob, self.fd)

    def prepare_fsync(self, *, data_only: bool) -> Callable[[], None]:
        """Makes the attributes durable, which a stub has; the bytes are durable already."""
        node = self.node
        if node.entry is None:
            return super().prepare_fsync(data_only=data_only)
        if node.is_lower or node.parent is None or node.mounted.deleted:
            return lambda: None
        return functools.partial(_sync_and_close, durable.open_directory(node.parent.directory(), b"."))

    def verify(self, data: memoryview | None = None) -> None:
        try:
            self.node.mounted.store.verified.check(self._blob, self.fd, data)
        except Damaged as error:
            if not self.unverified:
                return  # copied up meanwhile: the descriptor now leads to the copy
            log.error("%s: %s: %s", self.node.mounted.tree.label, printable(self.node.path()), error)
            raise
        self.unverified = False


def _sync_and_close(fd: int) -> None:
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
