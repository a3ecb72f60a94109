"""An open reference: its bytes are brought when they are first read.

So opening one never fails and never waits; a read that can't have the recorded bytes is EIO.
"""

from __future__ import annotations

import os
import threading

from artfs.errors import Interrupted
from artfs.model.entry import ReferenceEntry
from artfs.references import Brought, References
from artfs.view.node import Caller, Handle, Unready


class ReferenceHandle(Handle):
    """Event loop's thread, but for :meth:`read` and what brings the bytes."""

    __slots__ = (
        "_bringing",
        "_brought",
        "_caller",
        "_entry",
        "_lock",
        "_of",
        "_references",
        "_released",
        "keep_cache",
    )

    def __init__(self, references: References, entry: ReferenceEntry, of: str, caller: Caller) -> None:
        self._references, self._entry, self._of, self._caller = references, entry, of, caller
        #: Bytes that nothing is known of may be others for the next who opens the file.
        self.keep_cache = bool(entry.checksum)
        self._brought: Brought | None = None
        self._released = False
        self._bringing, self._lock = threading.Lock(), threading.Lock()

    def descriptor(self) -> int:
        if self._brought is None:
            raise Unready(self._bring, waiting=self._caller)
        return self._brought.fd if self._brought.stays else -1

    def read(self, offset: int, size: int) -> bytes:
        if self._brought is None:
            self._bring()
        assert self._brought is not None
        return self._brought.read(offset, size)

    def _bring(self) -> None:
        """Runs on a worker thread, for as long as somebody else's server takes."""
        with self._bringing:
            if self._brought is None and not self._keep(self._references.bring(self._entry, of=self._of)):
                raise Interrupted

    def _keep(self, brought: Brought) -> bool:
        with self._lock:
            if not self._released:
                self._brought = brought
                return True
        os.close(brought.fd)  # nobody waited for it
        return False

    def release(self) -> None:
        with self._lock:
            self._released = True
            if self._brought is not None:
                os.close(self._brought.fd)


__all__ = ["ReferenceHandle"]
