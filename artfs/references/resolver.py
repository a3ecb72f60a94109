"""The door to bytes elsewhere: one object a volume that looks, opens and verifies.

Owns: which module serves a URI, and the way of an object from its server through the cache to a descriptor.
Must not know versions, pending trees and FUSE. Blocking; any thread.
"""

from __future__ import annotations

import hashlib
import os

from artfs.errors import InvalidCommand, Unreachable, printable
from artfs.model.digest import Algorithm
from artfs.references import uris
from artfs.references.asker import OURSELVES, Asker
from artfs.references.local_files import LocalFile, LocalFiles
from artfs.references.object_cache import ObjectCache
from artfs.references.remote_objects import RemoteObjects, StorePool
from artfs.references.remote_store import Timeouts
from artfs.references.single_flight import SingleFlight
from artfs.references.uris import ChargeMemory, FoundObject, no_charge


class Resolver:
    """Reads what references stand for.

    ``cache_fd`` is a directory that only this process's user may use (mode 0700); it stays the caller's.
    None: nothing is kept, and what is read comes through unnamed files in the directory for temporary ones.
    ``limit`` bounds the sum of the cached objects, in bytes; a larger object comes through an unnamed file.

    ``careful``: the caller serves several users. Then ``file://`` reads only what everybody may read.

    ``algorithm`` hashes the files that are looked at; recorded digests are checked by the one they name.
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
        self._coming: SingleFlight[bytes, int] = SingleFlight(os.close)

    def list_objects(
        self,
        uri: str,
        *,
        checksum: bool = True,
        max_objects: int = 10_000_000,
        charge: ChargeMemory = no_charge,
        asker: Asker = OURSELVES,
    ) -> list[FoundObject]:
        """Tells what is at a URI: one object, or all below a directory or prefix, sorted by name.

        Sizes are asked for in any case; without ``checksum`` files are not hashed, and nothing is verified
        later but the size. An empty directory has none; a prefix with nothing below it is Unreachable.

        Raises InvalidCommand (an unknown scheme, an illegal URI, more than ``max_objects``, before any file
        is hashed), Unreachable and RemoteMissing; Interrupted once the asker has given up.
        """
        if uris.scheme_of(uri) == "file":
            return self._files.list_objects(
                uri, checksum=checksum, max_objects=max_objects, charge=charge, asker=asker
            )
        return self._objects.list_objects(uri, checksum=checksum, max_objects=max_objects, charge=charge)

    def open(self, uri: str, size: int, checksum: bytes) -> int:
        """Opens the recorded bytes for reading; the caller closes the descriptor.

        They were the recorded ones when it was opened; see :meth:`open_checked`. Raises what that does.
        """
        opened = self.open_checked(uri, size, checksum)
        return opened if isinstance(opened, int) else opened.fd

    def open_checked(self, uri: str, size: int, checksum: bytes, asker: Asker = OURSELVES) -> int | LocalFile:
        """Opens the recorded bytes for reading; the caller closes the descriptor.

        What comes from a server stays as it is. A file of this machine is read where it is: whoever reads it
        is to ask afterwards whether it was still the recorded one. With an empty checksum any bytes of the
        size will do, or of any size if it is 0, and they are fetched anew each time.

        Raises Unreachable, Changed and RemoteMissing, and Interrupted once the asker has given up; nothing
        else.
        """
        try:
            if uris.scheme_of(uri) == "file":
                return self._files.open(uri, size, checksum, asker)
            if not checksum:
                return self._bring(uri, size, checksum, None)
            name = hashlib.sha256(uri.encode() + b"\0" + checksum).hexdigest().encode()
            if (fd := self._cache.open(name, size)) is not None:
                return fd
            with self._coming.share(
                name + b".%d" % size, lambda: self._kept(uri, size, checksum, name)
            ) as shared:
                return os.open(f"/proc/self/fd/{shared}", os.O_RDONLY | os.O_CLOEXEC)
        except InvalidCommand as error:
            raise Unreachable(uri, printable(str(error))) from None
        except OSError as error:
            raise Unreachable(uri, f"it can't be brought here: {_reason(error)}") from None

    def verify(self, uri: str, size: int, checksum: bytes) -> None:
        """Compares what is at a URI with what was recorded, without the cache and all that is remembered.

        A file is read and hashed; a server is asked, and its object not fetched. Raises as :meth:`open` does.
        """
        try:
            if uris.scheme_of(uri) == "file":
                self._files.verify(uri, size, checksum)
            else:
                self._objects.head(uri, checksum).check(uri, size, checksum)
        except InvalidCommand as error:
            raise Unreachable(uri, printable(str(error))) from None

    def close(self) -> None:
        """Forgets everything but the cached objects. No other call may be under way, and none comes after."""
        self._files.forget()
        self._stores.forget()
        self._cache.close()

    def _kept(self, uri: str, size: int, checksum: bytes, name: bytes) -> int:
        # Another thread may have brought it since this one looked.
        if (fd := self._cache.open(name, size)) is not None:
            return fd
        return self._bring(uri, size, checksum, name)

    def _bring(self, uri: str, size: int, checksum: bytes, name: bytes | None) -> int:
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
