"""An open reference, whose bytes are fetched when they are first read.

So open(2) never fails and never waits; a read that can't get the recorded bytes is EIO.
"""

from __future__ import annotations

import os
import threading
import time

from artfs.errors import Interrupted
from artfs.linux.procfs import has_ended
from artfs.model.entry import ReferenceEntry
from artfs.references import Requester
from artfs.vfs.node import CachedRead, Caller, Handle, NeedsWork, Node
from artfs.volume.volume_references import ReferenceFile, References

_LOOK = 0.5  # seconds between looks whether the process that opened the file has ended


class ReferenceHandle(Handle):
    """Event loop's thread, but for :meth:`read` and the work of NeedsWork."""

    __slots__ = (
        "_abandoned", "_caller", "_entry", "_fetching", "_file", "_lock", "_look_at", "_node", "_of",
        "_references", "_released", "fd", "keep_cache",
    )  # fmt: skip

    def __init__(
        self,
        references: References,
        entry: ReferenceEntry,
        of: str,
        caller: Caller,
        *,
        node: Node,
        fd: int = -1,
    ) -> None:
        """`of` is a version or pending version; `fd` is of a file in the latter, and closed with this."""
        self._node, self.fd = node, fd
        node.opened(self)
        self._references, self._entry, self._of, self._caller = references, entry, of, caller
        #: Without a checksum the bytes may be others at the next open.
        self.keep_cache = bool(entry.checksum)
        self._file: ReferenceFile | None = None
        self._released = self._abandoned = False
        self._look_at = 0.0
        self._fetching, self._lock = threading.Lock(), threading.Lock()

    def read_at_once(self, offset: int, size: int, cached: CachedRead) -> bytes | memoryview | None:
        if self._file is None:
            raise NeedsWork(self._fetch, waiter=self._caller)
        return cached(self._file.fd, offset, size) if self._file.immutable else None

    def read(self, offset: int, size: int) -> bytes:
        if self._file is None:
            self._fetch()
        assert self._file is not None
        return self._file.read(offset, size)

    def _fetch(self) -> None:
        """Runs on a worker thread, for as long as another machine takes."""
        requester = Requester(self._caller.uid, self._gave_up)
        with self._fetching:
            if self._file is None and not self._keep(
                self._references.open_file(self._entry, of=self._of, requester=requester)
            ):
                raise Interrupted

    def _gave_up(self) -> bool:
        """Tells whether no process waits for the bytes, as far as is known.

        A readahead goes on after its process has ended, and the kernel releases no file before it is answered
        (fs/fuse/file.c, fuse_readpages_end). So the fetch is abandoned once. A process that inherited the
        file reads again, and then the fetch goes on however long it takes.
        """
        now = time.monotonic()
        if not self._abandoned and now >= self._look_at:
            self._look_at = now + _LOOK
            if has_ended(self._caller.pid):
                self._abandoned = True
                return True
        return self._released

    def _keep(self, file: ReferenceFile) -> bool:
        with self._lock:
            if not self._released:
                self._file = file
                return True
        os.close(file.fd)
        return False

    def release(self) -> None:
        self._node.closed(self)
        if self.fd >= 0:
            os.close(self.fd)
        with self._lock:
            self._released = True
            if self._file is not None:
                os.close(self._file.fd)
