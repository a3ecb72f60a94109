"""The entry point to bytes elsewhere: one object per volume that lists, opens and verifies.

Owns: which module serves a URI, and the way of an object from its server through the cache to a descriptor.
Must not know versions, pending trees and FUSE. Blocking; any thread.
"""

from __future__ import annotations

import hashlib
import os

from artfs.errors import InvalidCommand, Unreachable
from artfs.model.digest import Algorithm
from artfs.printing import printable
from artfs.references import uris
from artfs.references.local_files import LocalFile, LocalFiles
from artfs.references.object_cache import ObjectCache
from artfs.references.remote_objects import RemoteObjects, StorePool
from artfs.references.remote_store import Timeouts
from artfs.references.single_flight import THIS_PROCESS, Requester, SingleFlight
from artfs.references.uris import ChargeMemory, FoundObject, no_charge


class Resolver:
    """Reads the bytes of references.

    ``cache_fd`` is a directory that only this process's user may use (mode 0700); the caller closes it. With
    None nothing is kept, and objects are read through unnamed files in the directory for temporary files.
    ``limit`` bounds the sum of the cached objects, in bytes; a larger object is read through an unnamed file.

    ``world_readable_only`` is for a caller that serves several users: ``file://`` reads only files that every
    user may read.

    ``algorithm`` hashes the files that are listed; a recorded digest is checked with the algorithm it names.
    """

    def __init__(
        self,
        cache_fd: int | None,
        *,
        algorithm: Algorithm,
        limit: int = 1 << 30,
        world_readable_only: bool,
        timeouts: Timeouts | None = None,
        stores: StorePool | None = None,
    ) -> None:
        timeouts = timeouts or Timeouts()
        self._files = LocalFiles(algorithm, world_readable_only=world_readable_only)
        self._stores = stores or StorePool(timeouts)
        self._objects = RemoteObjects(self._stores, timeouts)
        self._cache = ObjectCache(cache_fd, limit)
        self._fetching: SingleFlight[bytes, int] = SingleFlight(os.close)

    def list_objects(
        self,
        uri: str,
        *,
        checksum: bool = True,
        max_objects: int = 10_000_000,
        charge: ChargeMemory = no_charge,
        requester: Requester = THIS_PROCESS,
    ) -> list[FoundObject]:
        """Returns what is at a URI: one object, or all below a directory or prefix, sorted by name.

        Without ``checksum`` files are not hashed, and only their sizes are verified later. An empty directory
        gives an empty list; a prefix with no object below it is Unreachable.

        Raises InvalidCommand (an unknown scheme, an illegal URI, more than ``max_objects``, before any file
        is hashed), Unreachable and RemoteMissing; Interrupted once the requester has gone.
        """
        if uris.scheme_of(uri) == "file":
            return self._files.list_objects(
                uri, checksum=checksum, max_objects=max_objects, charge=charge, requester=requester
            )
        return self._objects.list_objects(uri, checksum=checksum, max_objects=max_objects, charge=charge)

    def open(
        self, uri: str, size: int, checksum: bytes, requester: Requester = THIS_PROCESS
    ) -> int | LocalFile:
        """Opens the recorded bytes for reading; the caller closes the descriptor.

        Bytes from a server do not change. A file of this machine is read in place: after each read, the
        caller asks the LocalFile whether it still was the recorded one. With an empty checksum any bytes of
        the size are accepted, of any size if it is 0, and they are fetched anew each time.

        Raises only Unreachable, Changed and RemoteMissing, and Interrupted once the requester has gone.
        """
        try:
            if uris.scheme_of(uri) == "file":
                return self._files.open(uri, size, checksum, requester)
            if not checksum:
                return self._fetch(uri, size, checksum, None)
            name = hashlib.sha256(uri.encode() + b"\0" + checksum).hexdigest().encode()
            if (fd := self._cache.open(name, size)) is not None:
                return fd
            with self._fetching.share(
                name + b".%d" % size, lambda: self._fetch_into_cache(uri, size, checksum, name)
            ) as shared:
                return os.open(f"/proc/self/fd/{shared}", os.O_RDONLY | os.O_CLOEXEC)
        except InvalidCommand as error:
            raise Unreachable(uri, printable(str(error))) from None
        except OSError as error:
            raise Unreachable(uri, f"it can't be copied to this machine: {_reason(error)}") from None

    def verify(self, uri: str, size: int, checksum: bytes) -> None:
        """Compares what is at a URI now with what was recorded, without any cache.

        A file is read and hashed; of a server's object only the ETag or version is requested. Raises as
        :meth:`open` does.
        """
        try:
            if uris.scheme_of(uri) == "file":
                self._files.verify(uri, size, checksum)
            else:
                self._objects.head(uri, checksum).check(uri, size, checksum)
        except InvalidCommand as error:
            raise Unreachable(uri, printable(str(error))) from None

    def close(self) -> None:
        """Closes all but the cached objects. No other call may be under way, or follow."""
        self._files.forget()
        self._stores.forget()
        self._cache.close()

    def _fetch_into_cache(self, uri: str, size: int, checksum: bytes, name: bytes) -> int:
        # Another thread may have fetched it meanwhile.
        if (fd := self._cache.open(name, size)) is not None:
            return fd
        return self._fetch(uri, size, checksum, name)

    def _fetch(self, uri: str, size: int, checksum: bytes, name: bytes | None) -> int:
        meta = self._objects.head(uri, checksum)
        meta.check(uri, size, checksum)
        keep = name is not None and self._cache.fits(meta.size)
        with self._cache.incoming(named=keep) as incoming:
            self._objects.fetch(uri, size, checksum, incoming.fd)
            if keep and name is not None:
                self._cache.keep(incoming, name)
            return incoming.reopen()


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
