"""An open reference: its bytes are brought when they are first read.

So opening one never fails and never waits; a read that can't have the recorded bytes is EIO.
"""

from __future__ import annotations

import os
import threading
import time
from typing import Protocol

from artfs.errors import Interrupted
from artfs.linux.procfs import has_ended
from artfs.model.entry import ReferenceEntry
from artfs.references import Requester
from artfs.vfs.node import CachedRead, Caller, Handle, NeedsWork
from artfs.volume.volume_references import ReferenceFile, References

_LOOK = 0.5  # seconds between looks whether who opened the file is there still


class Opened(Protocol):
    """A node that knows by whom it is open."""

    def opened(self, handle: ReferenceHandle) -> None: ...
    def closed(self, handle: ReferenceHandle) -> None: ...


class ReferenceHandle(Handle):
    """Event loop's thread, but for :meth:`read` and what brings the bytes."""

    __slots__ = (
        "_bringing",
        "_brought",
        "_caller",
        "_deserted",
        "_entry",
        "_lock",
        "_look_at",
        "_node",
        "_of",
        "_references",
        "_released",
        "fd",
        "keep_cache",
    )

    def __init__(
        self,
        references: References,
        entry: ReferenceEntry,
        of: str,
        caller: Caller,
        *,
        node: Opened,
        fd: int = -1,
    ) -> None:
        """`fd` is a descriptor of what stands for the reference in a pending tree, to be closed with this."""
        self._node, self.fd = node, fd
        node.opened(self)
        self._references, self._entry, self._of, self._caller = references, entry, of, caller
        #: Bytes that nothing is known of may be others for the next who opens the file.
        self.keep_cache = bool(entry.checksum)
        self._brought: ReferenceFile | None = None
        self._released = self._deserted = False
        self._look_at = 0.0
        self._bringing, self._lock = threading.Lock(), threading.Lock()

    def read_at_once(self, offset: int, size: int, cached: CachedRead) -> bytes | memoryview | None:
        if self._brought is None:
            raise NeedsWork(self._bring, waiter=self._caller)
        return cached(self._brought.fd, offset, size) if self._brought.stays else None

    def read(self, offset: int, size: int) -> bytes:
        if self._brought is None:
            self._bring()
        assert self._brought is not None
        return self._brought.read(offset, size)

    def _bring(self) -> None:
        """Runs on a worker thread, for as long as somebody else's server takes."""
        requester = Requester(self._caller.uid, self._given_up)
        with self._bringing:
            if self._brought is None and not self._keep(
                self._references.open_file(self._entry, of=self._of, requester=requester)
            ):
                raise Interrupted

    def _given_up(self) -> bool:
        """Tells whether nobody waits for the bytes, as far as can be known.

        A read ahead goes on when its process has died, and the kernel releases no file before it is answered
        (fs/fuse/file.c, fuse_readpages_end): so it is, once. Who has the file of one who has ended reads
        again, and then it is brought however long that takes.
        """
        now = time.monotonic()
        if not self._deserted and now >= self._look_at:
            self._look_at = now + _LOOK
            if has_ended(self._caller.pid):
                self._deserted = True
                return True
        return self._released

    def _keep(self, brought: ReferenceFile) -> bool:
        with self._lock:
            if not self._released:
                self._brought = brought
                return True
        os.close(brought.fd)  # nobody waited for it
        return False

    def release(self) -> None:
        self._node.closed(self)
        if self.fd >= 0:
            os.close(self.fd)
        with self._lock:
            self._released = True
            if self._brought is not None:
                os.close(self._brought.fd)


__all__ = ["ReferenceHandle"]
