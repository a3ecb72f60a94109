"""Object stores and http, over obstore.

Owns: which store serves a URI, what a server's answers mean, how long is waited and how often tried. Must not
know caches and other schemes. Blocking; any thread.

Credentials and endpoints come from the environment, under the names that object stores' own tools use
(``AWS_...``, ``GOOGLE_...``, ``AZURE_...``). Nothing of a URI's query, of the text of an answer, or of
obstore's own messages, which quote both, gets into an error: those are made here of words that are known.

Redirects are followed by reqwest, which knows http and https only.
"""

from __future__ import annotations

import http
import os
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from artfs.errors import ArtfsError, Changed, RemoteMissing, Unreachable
from artfs.remote import uris
from artfs.remote.uris import Found, Taking
from artfs.store import durable

if TYPE_CHECKING:
    from obstore.store import ObjectStore

ETAG, VERSION = b"etag:", b"version:"
_LIST = 1000  # objects a chunk
_STORES = 128
# Set on a store, these options take the place of what obstore reads from the environment.
_ENVIRONMENT = {"s3": "AWS", "gs": "GOOGLE", "az": "AZURE"}
_INHERITED = (
    "allow_http",
    "allow_invalid_certificates",
    "proxy_url",
    "proxy_ca_certificate",
    "proxy_excludes",
)


@dataclass(frozen=True)
class Patience:
    """How long servers are waited for. Seconds, but for ``retries`` and ``pace`` (bytes a second)."""

    connect: float = 10.0  # for a connection
    silence: float = 30.0  # for the next bytes
    answer: float = 60.0  # for a whole answer to a question about an object
    transfer: float = 86400.0  # for a whole object
    grace: float = 60.0  # after which an object must have come at the pace
    pace: int = 8192
    retries: int = 3
    retry_for: float = 30.0  # after which nothing is tried again


class Meta(NamedTuple):
    """What a server says of an object. ``etag`` is without quotes, which some lists leave out."""

    size: int
    etag: bytes
    version: bytes

    @classmethod
    def of(cls, meta: Any) -> Meta:
        version = (meta.get("version") or "").encode()
        # "null" is S3's version of objects that are older than the versioning of their bucket.
        return cls(meta["size"], _unquoted(meta.get("e_tag") or ""), b"" if version == b"null" else version)

    @property
    def checksum(self) -> bytes:
        """The version where there is one, since it can be read even if a newer one came; else the ETag."""
        return VERSION + self.version if self.version else ETAG + self.etag if self.etag else b""

    def check(self, uri: str, size: int, checksum: bytes) -> None:
        """Raises Changed unless this is what was recorded. Without checksum, size 0 stands for unknown."""
        if self.size != size and (checksum or size):
            raise Changed(uri, f"{size} bytes", f"{self.size} bytes")
        if not checksum:
            return
        if checksum.startswith(ETAG):
            found = ETAG + self.etag
        elif checksum.startswith(VERSION):
            found = VERSION + self.version
        else:
            raise Unreachable(uri, "its checksum is neither an ETag nor a version")
        if found != checksum:
            raise Changed(uri, _shown(checksum), _shown(found))


def _shown(checksum: bytes) -> str:
    kind, _, value = checksum.decode("utf-8", "replace").partition(":")
    return f"{kind} {value[:100] or 'none'}"


def _unquoted(etag: str) -> bytes:
    weak, core = ("W/", etag[2:]) if etag.startswith("W/") else ("", etag)
    if len(core) >= 2 and core[0] == core[-1] == '"':
        core = core[1:-1]
    return (weak + core).encode("utf-8", "surrogateescape")


class Place(NamedTuple):
    """Where obstore finds an object."""

    store: ObjectStore
    path: str


class Stores:
    """Maps URIs to stores, which are kept with their connections. The seam for other stores, in tests."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, str, bool], ObjectStore] = OrderedDict()

    def place(self, uri: str, *, whole: bool) -> Place:
        """Tells where a URI leads; ``whole``: for the bytes of an object, which may take long.

        Raises InvalidCommand and RemoteMissing.
        """
        scheme = uris.scheme_of(uri)
        if scheme in uris.BUCKETS:
            where, path, _ = uris.bucket_key(uri)
        else:
            where, path = uris.http_address(uri)
        key = (scheme, where, whole)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return Place(self._kept[key], path)
        obstore = _obstore(uri)
        with _translated(obstore, uri):
            store = self.make(scheme, where, whole=whole)
        with self._lock:
            self._kept[key] = store
            if len(self._kept) > _STORES:
                self._kept.popitem(last=False)
        return Place(store, path)

    def make(self, scheme: str, where: str, *, whole: bool) -> ObjectStore:
        """Makes the store of a bucket, or of an http address."""
        from obstore import store

        patience = self._patience
        client: Any = {
            "connect_timeout": timedelta(seconds=patience.connect),
            "read_timeout": timedelta(seconds=patience.silence),
            "timeout": timedelta(seconds=patience.transfer if whole else patience.answer),
            "user_agent": "artfs",
        }
        retry: Any = {
            "max_retries": patience.retries,
            "retry_timeout": timedelta(seconds=patience.retry_for),
            "backoff": {
                "init_backoff": timedelta(milliseconds=100),
                "max_backoff": timedelta(seconds=2),
                "base": 2,
            },
        }
        if scheme in ("http", "https"):
            client["allow_http"] = scheme == "http"
            return store.HTTPStore(where, client_options=client, retry_config=retry)
        for option in _INHERITED:
            if value := os.environ.get(f"{_ENVIRONMENT[scheme]}_{option.upper()}"):
                client[option] = value
        if scheme == "s3":
            return store.S3Store(where, client_options=client, retry_config=retry)
        if scheme == "gs":
            return store.GCSStore(where, client_options=client, retry_config=retry)
        return store.AzureStore(container_name=where, client_options=client, retry_config=retry)

    def forget(self) -> None:
        with self._lock:
            self._kept.clear()


class _Unanswered(Exception):
    """A failure that may be answered here; whoever called from outside gets it as Unreachable."""

    def __init__(self, uri: str, why: str) -> None:
        super().__init__(uri, why)
        self.uri, self.why = uri, why


class _NoObject(_Unanswered):
    """The server answered that there is none."""


class _NoAnswerToHead(_Unanswered):
    """The server answered in a way in which it may not answer a GET."""


class _BrokeOff(_Unanswered):
    """The connection ended, or fell silent, amid the bytes."""


@contextmanager
def _final() -> Iterator[None]:
    try:
        yield
    except _Unanswered as failure:
        raise Unreachable(failure.uri, failure.why) from None


class Objects:
    """Looks at and fetches objects. Every failure is Unreachable, Changed or RemoteMissing."""

    def __init__(self, stores: Stores, patience: Patience) -> None:
        self._stores, self._patience = stores, patience

    @_final()
    def look(self, uri: str, *, checksum: bool, max_objects: int, taking: Taking) -> list[Found]:
        """Returns the object, or all below the prefix if the URI names none, sorted by name.

        Raises InvalidCommand for more than ``max_objects``, and for keys that can't stand in a tree.
        """
        scheme = uris.scheme_of(uri)
        if scheme not in uris.BUCKETS:
            meta, name = self._head(uri), uris.http_name(uri)
        else:
            bucket, key, prefix = uris.bucket_key(uri)
            try:
                if prefix:
                    raise _NoObject(uri, "")
                meta, name = self._head(uri), key.rpartition("/")[2].encode()
            except _NoObject:
                return self._below(uri, f"{scheme}://{bucket}/", key, checksum, max_objects, taking)
        if max_objects < 1:
            raise uris.too_many(uri, max_objects)
        return [Found(name, uri, meta.size, meta.checksum if checksum else b"")]

    def _below(
        self, uri: str, bucket: str, key: str, checksum: bool, most: int, taking: Taking
    ) -> list[Found]:
        obstore = _obstore(uri)
        store = self._stores.place(uri, whole=False).store
        start = f"{key}/" if key else ""
        found: dict[bytes, Found] = {}
        with _translated(obstore, uri):
            for chunk in obstore.list(store, key or None, chunk_size=_LIST):
                for item in chunk:
                    path, meta = item["path"], Meta.of(item)
                    if path == key or not path.startswith(start):
                        continue  # the marker that some tools make of a directory
                    name = uris.object_name(uri, path[len(start) :].encode())
                    found[name] = Found(name, bucket + path, meta.size, meta.checksum if checksum else b"")
                    taking(found[name].memory)
                if len(found) > most:
                    raise uris.too_many(uri, most)
        above = {name[:end] for name in found for end, byte in enumerate(name) if byte == 0x2F}
        # So are empty objects with the name of a directory that is there.
        kept = [item for name, item in found.items() if item.size or name not in above]
        if not kept:
            raise Unreachable(uri, "there is no such object, and none below it")
        return sorted(kept)

    @_final()
    def head(self, uri: str, checksum: bytes = b"") -> Meta:
        """Asks for an object: for the version that the checksum names, where it does."""
        return self._head(uri, checksum)

    def _head(self, uri: str, checksum: bytes = b"") -> Meta:
        obstore, place = _obstore(uri), self._stores.place(uri, whole=False)
        try:
            with _translated(obstore, uri):
                if options := _options(checksum):
                    return Meta.of(obstore.get(*place, options={**options, "head": True}).meta)
                return Meta.of(obstore.head(*place))
        except _NoAnswerToHead:
            # Servers that know no HEAD, and addresses that are signed for GET alone: the bytes are left.
            with _translated(obstore, uri):
                return Meta.of(obstore.get(*place).meta)

    @_final()
    def fetch(self, uri: str, size: int, checksum: bytes, fd: int) -> None:
        """Writes an object to an empty file, in the pieces in which it comes.

        Compares size, and ETag or version, of the very answer that brings the bytes. A transfer that breaks
        off soon is begun again a bounded number of times. Raises what writing raises, too.
        """
        started, tries = time.monotonic(), 1 + self._patience.retries
        while True:
            tries -= 1
            try:
                self._receive(uri, size, checksum, fd)
                return
            except _BrokeOff as error:
                if not tries or time.monotonic() - started > self._patience.retry_for:
                    raise Unreachable(uri, error.why) from None
            os.ftruncate(fd, 0)
            os.lseek(fd, 0, os.SEEK_SET)

    def _receive(self, uri: str, size: int, checksum: bytes, fd: int) -> None:
        obstore, place = _obstore(uri), self._stores.place(uri, whole=True)
        started, received = time.monotonic(), 0
        with _translated(obstore, uri):
            result = obstore.get(*place, options=_options(checksum))
        meta = Meta.of(result.meta)
        meta.check(uri, size, checksum)
        stream = iter(result.stream(min_chunk_size=1))
        while True:
            try:
                with _translated(obstore, uri):
                    chunk = next(stream, None)
            except (Unreachable, _Unanswered) as error:
                raise _BrokeOff(uri, error.why) from None
            if chunk is None:
                break
            durable.write_all(fd, chunk)
            received += len(chunk)
            took = time.monotonic() - started
            if took > self._patience.grace and received < (took - self._patience.grace) * self._patience.pace:
                raise Unreachable(uri, "it comes too slowly")
        if received != meta.size:
            raise _BrokeOff(uri, f"{received} bytes came instead of {meta.size}")


def _options(checksum: bytes) -> dict[str, str] | None:
    return {"version": checksum[len(VERSION) :].decode()} if checksum.startswith(VERSION) else None


def _obstore(uri: str) -> Any:
    """Imports obstore; raises RemoteMissing."""
    try:
        import obstore
        import obstore.exceptions
        import obstore.store
    except ImportError:
        raise RemoteMissing(uri) from None
    return obstore


# ---- what went wrong --------------------------------------------------------------------------------------

_STATUS = re.compile(r"status code: (\d{3})")
_SYSTEM = re.compile(r"Os \{\s*code: (\d+)")
# The names of Rust's variants in an error's debug text: they are code, and hold no data.
_VARIANT = re.compile(r"\b(?:source|kind|inner): ([A-Z][A-Za-z]+)")
_METADATA_SERVICE = re.compile(r"https?://(?:169\.254\.169\.254|169\.254\.170\.2|metadata\.google\.internal)")
_NO_HEAD = ("400", "403", "405", "501")
_WORDS = (
    ("MissingContentLength", "the server doesn't tell its size"),
    ("RangeNotSupported", "the transfer broke off"),
    ("dns error", "the name of its server is not known"),
    ("TimedOut", "its server doesn't answer in time"),
    ("IncompleteMessage", "the connection broke off"),
    ("UnexpectedEof", "the connection broke off"),
    ("ertificate", "the certificate of its server is not trusted"),
    ("BadScheme", "it leads to another scheme than http"),
    ("MissingAccount", "AZURE_STORAGE_ACCOUNT_NAME is not set"),
)


@contextmanager
def _translated(obstore: Any, uri: str) -> Iterator[None]:
    try:
        yield
    except ArtfsError:  # InvalidCommand is a ValueError too
        raise
    # What obstore raises: its own, FileNotFoundError and the like, ValueError for paths and addresses.
    except (obstore.exceptions.BaseError, OSError, ValueError) as error:
        text = str(error)
        asked_metadata = _METADATA_SERVICE.search(text) and not _METADATA_SERVICE.match(uri)
        status = None if asked_metadata else _STATUS.search(text)
        failure: Exception
        if asked_metadata:
            failure = Unreachable(uri, "no credentials for it are in the environment")
        elif (status and status[1] in _NO_HEAD) or "MissingContentLength" in text:
            failure = _NoAnswerToHead(uri, _why(text, status and status[1]))
        elif isinstance(error, FileNotFoundError):
            failure = _NoObject(uri, "there is no such object")
        elif isinstance(error, ValueError):
            failure = Unreachable(uri, "obstore can't use this address")
        else:
            failure = Unreachable(uri, _why(text, status and status[1]))
        # Not chained: the other's text may show what is secret.
        raise failure from None


def _why(text: str, status: str | None) -> str:
    if status:
        try:
            phrase = f"{status} {http.HTTPStatus(int(status)).phrase}"
        except ValueError:
            phrase = status
        return f"its server answers {phrase}"
    if code := _SYSTEM.search(text):
        return os.strerror(int(code[1])).lower()
    for word, meaning in _WORDS:
        if word in text:
            return meaning
    return f"the request failed ({', '.join(dict.fromkeys(_VARIANT.findall(text))) or 'no reason known'})"
