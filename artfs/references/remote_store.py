"""The interface of a store of remote objects, whichever library serves it.

Owns: the timeouts, what is recorded of an object, the ways in which a request fails, and what a library must
provide. Must not know the schemes of URIs, caches and the libraries. Pure: any thread.
"""

from __future__ import annotations

import http
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from artfs.errors import Changed, Unreachable

ETAG, VERSION = b"etag:", b"version:"


@dataclass(frozen=True)
class Timeouts:
    """How long to wait for servers. In seconds, except ``retries`` and ``min_rate`` (bytes a second)."""

    connect: float = 10.0  # for a connection
    read: float = 30.0  # for the next bytes
    answer: float = 60.0  # for the whole answer to a request about an object
    transfer: float = 86400.0  # for a whole object
    rate_after: float = 60.0  # from which on a transfer must have the minimum rate
    min_rate: int = 8192
    retries: int = 3
    retry_for: float = 30.0  # after which no request is repeated


class ObjectInfo(NamedTuple):
    """What a server reports about an object. ``etag`` is without quotes, which some listings omit."""

    size: int
    etag: bytes
    version: bytes

    @classmethod
    def of(cls, size: int, etag: str | None, version: str | None) -> ObjectInfo:
        # "null" is S3's version id of objects older than the versioning of their bucket.
        return cls(size, _unquoted(etag or ""), b"" if version in (None, "null") else version.encode())

    @property
    def checksum(self) -> bytes:
        """The version where there is one, since it stays readable after a newer one; else the ETag."""
        return VERSION + self.version if self.version else ETAG + self.etag if self.etag else b""

    def check(self, uri: str, size: int, checksum: bytes) -> None:
        """Raises Changed unless this is what was recorded. Without a checksum, size 0 means unknown."""
        if self.size != size and (checksum or size):
            raise Changed(uri, f"{size} bytes", f"{self.size} bytes")
        if not checksum:
            return
        if checksum.startswith(ETAG):
            found = ETAG + self.etag
        elif checksum.startswith(VERSION):
            found = VERSION + self.version
        else:
            raise Unreachable(uri, "its recorded checksum is neither an ETag nor a version")
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


class RequestFailed(Exception):
    """A failure that this package may handle; callers from outside get it as Unreachable."""

    def __init__(self, uri: str, why: str) -> None:
        super().__init__(uri, why)
        self.uri, self.why = uri, why


class NoObject(RequestFailed):
    """The server answered that there is no such object."""


class HeadRefused(RequestFailed):
    """The server refused a HEAD in a way in which it may not refuse a GET."""


class TransferBroken(RequestFailed):
    """The connection ended, or timed out, amid the bytes."""


@contextmanager
def as_unreachable() -> Iterator[None]:
    """Turns RequestFailed into Unreachable."""
    try:
        yield
    except RequestFailed as failure:
        raise Unreachable(failure.uri, failure.why) from None


@contextmanager
def transferring(uri: str) -> Iterator[None]:
    """Turns any failure into TransferBroken."""
    try:
        yield
    except (Unreachable, RequestFailed) as error:
        raise TransferBroken(uri, error.why) from None


class RemoteStore(Protocol):
    """A bucket, or an http server. Errors name ``uri``; a failure is Unreachable or RequestFailed.

    An empty ``version`` means the newest.
    """

    lists_partial_names: bool
    """Whether the prefix of a listing may end within a name."""

    def head(self, uri: str, path: str, version: str) -> ObjectInfo:
        """Returns what the server reports about an object. Raises NoObject and HeadRefused, too."""

    def get(self, uri: str, path: str, version: str) -> tuple[ObjectInfo, Iterator[bytes]]:
        """Returns the same and the object's bytes, which raise TransferBroken. Raises NoObject, too."""

    def list(self, uri: str, prefix: str) -> Iterator[list[tuple[str, ObjectInfo]]]:
        """Lists all objects whose key begins with the prefix, in parts."""


#: After these answers to a HEAD, a GET may succeed.
HEAD_REFUSED = (400, 403, 405, 501)

TIMED_OUT = "its server doesn't answer in time"
BROKEN = "the connection broke off"
UNKNOWN_HOST = "the name of its server is not known"


def status_text(status: int) -> str:
    try:
        return f"its server answers {status} {http.HTTPStatus(status).phrase}"
    except ValueError:
        return f"its server answers {status}"
