"""Objects on servers: which store serves a URI, what is below a prefix, how an object is fetched.

Owns: the open stores, the names that keys get in a tree, the repetition of transfers. Must not know caches,
other schemes, and the libraries. Blocking; any thread.
"""

from __future__ import annotations

import os
import threading
import time
from typing import Any, NamedTuple

from cachetools import LRUCache

from artfs.errors import InvalidCommand, Unreachable
from artfs.printing import printable_uri
from artfs.references import boto3_store, obstore_store, uris
from artfs.references.remote_store import (
    VERSION,
    HeadRefused,
    NoObject,
    ObjectInfo,
    RemoteStore,
    Timeouts,
    TransferBroken,
    as_unreachable,
)
from artfs.references.uris import ChargeMemory, FoundObject
from artfs.store import durable

_STORES = 128


class Location(NamedTuple):
    """The store of an object, its name there, and its version, empty for the newest."""

    store: RemoteStore
    path: str
    version: str


class StorePool:
    """Maps URIs to stores, which stay open with their connections. Tests replace it."""

    def __init__(self, timeouts: Timeouts) -> None:
        self._timeouts = timeouts
        self._lock = threading.Lock()
        self._open_stores: LRUCache[tuple[str, str, bool], RemoteStore] = LRUCache(_STORES)
        self._s3: Any = None

    def locate(self, uri: str, *, whole: bool) -> Location:
        """Returns where a URI leads; ``whole``: for the bytes of an object, with the timeout of a transfer.

        Raises InvalidCommand, Unreachable and RemoteMissing.
        """
        scheme, version = uris.scheme_of(uri), ""
        if scheme in uris.BUCKETS:
            where, path, _, version = uris.bucket_key(uri)
        else:
            where, path = uris.http_address(uri)
        key = (scheme, where, whole)
        with self._lock:
            if key in self._open_stores:
                return Location(self._open_stores[key], path, version)
        store = self.make(uri, scheme, where, whole=whole)
        with self._lock:
            self._open_stores[key] = store
        return Location(store, path, version)

    def make(self, uri: str, scheme: str, where: str, *, whole: bool) -> RemoteStore:
        """Opens the store of a bucket, or of an http address. Raises Unreachable and RemoteMissing."""
        if scheme != "s3":
            return obstore_store.make(uri, scheme, where, self._timeouts, whole=whole)
        if self._s3 is None:  # two threads may both make one; the last stays
            self._s3 = boto3_store.client(uri, self._timeouts)
        return boto3_store.Boto3Store(self._s3, where)

    def forget(self) -> None:
        with self._lock:
            self._open_stores.clear()
            if self._s3 is not None:
                self._s3.close()
            self._s3 = None


class RemoteObjects:
    """Lists and fetches objects. Every failure is Unreachable, Changed or RemoteMissing."""

    def __init__(self, stores: StorePool, timeouts: Timeouts) -> None:
        self._stores, self._timeouts = stores, timeouts

    @as_unreachable()
    def list_objects(
        self, uri: str, *, checksum: bool, max_objects: int, charge: ChargeMemory
    ) -> list[FoundObject]:
        """Returns the object, or all below the prefix if the URI names none, sorted by name.

        If there is neither, and the server lists partial names, it returns the objects whose key begins with
        the URI's, with names relative to the last slash of that.

        Raises InvalidCommand for more than ``max_objects``, and for keys that can't be paths in a tree.
        """
        if uris.scheme_of(uri) not in uris.BUCKETS:
            meta, name = self._head(uri), uris.http_name(uri)
        else:
            _, key, prefix, version = uris.bucket_key(uri)
            if prefix:
                return self._below(uri, key, prefix, checksum, max_objects, charge)
            try:
                meta, name = self._head(uri), uris.object_name(uri, key.rpartition("/")[2])
            except NoObject:
                if version:
                    raise
                return self._below(uri, key, prefix, checksum, max_objects, charge)
        if max_objects < 1:
            raise uris.too_many(uri, max_objects)
        return [FoundObject(name, uri, meta.size, meta.checksum if checksum else b"")]

    def _below(
        self, uri: str, key: str, prefix: bool, checksum: bool, most: int, charge: ChargeMemory
    ) -> list[FoundObject]:
        store = self._stores.locate(uri, whole=False).store
        start = key if prefix else f"{key}/"
        kept = self._listed(store, uri, start, len(start), checksum, most, charge)
        if not kept and not prefix and store.lists_partial_names:
            kept = self._listed(store, uri, key, key.rfind("/") + 1, checksum, most, charge)
        if not kept:
            raise Unreachable(uri, "there is no such object, and no object below it")
        return kept

    def _listed(
        self,
        store: RemoteStore,
        uri: str,
        start: str,
        cut: int,
        checksum: bool,
        most: int,
        charge: ChargeMemory,
    ) -> list[FoundObject]:
        """Returns the objects whose key begins with ``start``; names are keys from ``cut`` on."""
        scheme, bucket = uris.scheme_of(uri), uris.bucket_key(uri).bucket
        found: dict[bytes, FoundObject] = {}
        for chunk in store.list(uri, start):
            for key, meta in chunk:
                if key == start or (key.endswith("/") and not meta.size):
                    continue  # the marker by which some tools represent a directory
                one = f"{scheme}://{bucket}/{key}"
                name = uris.object_name(one, key[cut:])
                if name in found:
                    raise InvalidCommand(
                        f"{printable_uri(one)} and {printable_uri(found[name].uri)}"
                        " would have the same name in a tree: add a reference to each of them"
                    )
                found[name] = FoundObject(name, one, meta.size, meta.checksum if checksum else b"")
                charge(found[name].memory)
            if len(found) > most:
                raise uris.too_many(uri, most)
        above = {name[:end] for name in found for end, byte in enumerate(name) if byte == 0x2F}
        # Empty objects with the name of a directory are markers, too.
        return sorted(item for name, item in found.items() if item.size or name not in above)

    @as_unreachable()
    def head(self, uri: str, checksum: bytes = b"") -> ObjectInfo:
        """Returns what the server reports about an object, in the version that the checksum may name."""
        return self._head(uri, checksum)

    def _head(self, uri: str, checksum: bytes = b"") -> ObjectInfo:
        location = self._stores.locate(uri, whole=False)
        version = _version(location, checksum)
        try:
            return location.store.head(uri, location.path, version)
        except HeadRefused:
            # The server does not support HEAD, or the address is signed for GET only. The bytes are not read.
            return location.store.get(uri, location.path, version)[0]

    @as_unreachable()
    def fetch(self, uri: str, size: int, checksum: bytes, fd: int) -> None:
        """Writes an object to an empty file, in the pieces in which it arrives.

        Compares the size, and the ETag or version, of the answer that has the bytes. A transfer that breaks
        off soon is repeated a bounded number of times. Also raises what writing raises.
        """
        started, tries = time.monotonic(), 1 + self._timeouts.retries
        while True:
            tries -= 1
            try:
                self._receive(uri, size, checksum, fd)
                return
            except TransferBroken:
                if not tries or time.monotonic() - started > self._timeouts.retry_for:
                    raise
            os.ftruncate(fd, 0)
            os.lseek(fd, 0, os.SEEK_SET)

    def _receive(self, uri: str, size: int, checksum: bytes, fd: int) -> None:
        location = self._stores.locate(uri, whole=True)
        started, received = time.monotonic(), 0
        meta, chunks = location.store.get(uri, location.path, _version(location, checksum))
        meta.check(uri, size, checksum)
        for chunk in chunks:
            durable.write_all(fd, chunk)
            received += len(chunk)
            took = time.monotonic() - started
            if (
                took > self._timeouts.rate_after
                and received < (took - self._timeouts.rate_after) * self._timeouts.min_rate
            ):
                raise Unreachable(uri, "its server sends it too slowly")
        if received != meta.size:
            raise TransferBroken(uri, f"{received} bytes arrived instead of {meta.size}")


def _version(location: Location, checksum: bytes) -> str:
    if location.version or not checksum.startswith(VERSION):
        return location.version
    return checksum[len(VERSION) :].decode()
