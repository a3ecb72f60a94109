"""What servers answer, whichever library asks them.

Owns: how long is waited, what is noted of an object, the ways in which asking fails, and what a library must
be able to do. Must not know URIs' schemes, caches and the libraries. Pure: any thread.
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
    """How long servers are waited for. Seconds, but for ``retries`` and ``pace`` (bytes a second)."""

    connect: float = 10.0  # for a connection
    silence: float = 30.0  # for the next bytes
    answer: float = 60.0  # for a whole answer to a question about an object
    transfer: float = 86400.0  # for a whole object
    grace: float = 60.0  # after which an object must have come at the pace
    pace: int = 8192
    retries: int = 3
    retry_for: float = 30.0  # after which nothing is tried again


class ObjectInfo(NamedTuple):
    """What a server says of an object. ``etag`` is without quotes, which some lists leave out."""

    size: int
    etag: bytes
    version: bytes

    @classmethod
    def of(cls, size: int, etag: str | None, version: str | None) -> ObjectInfo:
        # "null" is S3's version of objects that are older than the versioning of their bucket.
        return cls(size, _unquoted(etag or ""), b"" if version in (None, "null") else version.encode())

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


class RequestFailed(Exception):
    """A failure that may be answered here; whoever called from outside gets it as Unreachable."""

    def __init__(self, uri: str, why: str) -> None:
        super().__init__(uri, why)
        self.uri, self.why = uri, why


class NoObject(RequestFailed):
    """The server answered that there is none."""


class HeadRefused(RequestFailed):
    """The server answered in a way in which it may not answer a GET."""


class TransferBroken(RequestFailed):
    """The connection ended, or fell silent, amid the bytes."""


@contextmanager
def as_unreachable() -> Iterator[None]:
    """Makes Unreachable of what nobody has answered."""
    try:
        yield
    except RequestFailed as failure:
        raise Unreachable(failure.uri, failure.why) from None


class RemoteStore(Protocol):
    """A bucket, or an http server. ``uri`` is what errors name; every failure is Unreachable or Unanswered.

    An empty ``version`` stands for the newest.
    """

    partial: bool
    """Whether a prefix may end within a name."""

    def head(self, uri: str, path: str, version: str) -> ObjectInfo:
        """Asks for an object. Raises NoObject and NoAnswerToHead, too."""

    def get(self, uri: str, path: str, version: str) -> tuple[ObjectInfo, Iterator[bytes]]:
        """Asks for the bytes of an object, which raise BrokeOff. Raises NoObject."""

    def list(self, uri: str, prefix: str) -> Iterator[list[tuple[str, ObjectInfo]]]:
        """Lists all objects whose key begins with the prefix, some at a time."""


#: Of these answers to a HEAD a GET may have another one.
HEAD_REFUSED = (400, 403, 405, 501)


def status_text(status: int) -> str:
    try:
        return f"its server answers {status} {http.HTTPStatus(status).phrase}"
    except ValueError:
        return f"its server answers {status}"


__all__ = [
    "ETAG",
    "HEAD_REFUSED",
    "VERSION",
    "HeadRefused",
    "NoObject",
    "ObjectInfo",
    "RemoteStore",
    "RequestFailed",
    "Timeouts",
    "TransferBroken",
    "as_unreachable",
    "status_text",
]
