"""The syntax of URIs, and the objects found at one.

Owns: the schemes, what is legal after each, the names that a URI implies. Must not know how bytes are
fetched. Pure functions: any thread.

``file://`` is percent-encoded bytes (RFC 8089), and artfs records it in one canonical spelling. Keys of
object stores are literal, as in their own tools: ``%`` and ``?`` have no meaning, except that
``?versionId=V`` at the end of an ``s3://`` URI names a version. ``http(s)://`` is recorded as it was given.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple, TypeAlias
from urllib.parse import quote, unquote_to_bytes, urlsplit

from artfs.errors import InvalidCommand
from artfs.printing import printable_uri

SCHEMES = ("file", "http", "https", "s3", "gs", "az")
BUCKETS = ("s3", "gs", "az")
LONGEST = 65535  # the most bytes that an entry of a tree can hold

_KNOWN = ", ".join(f"{scheme}://" for scheme in (*SCHEMES, "artfs"))
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_BUCKET = re.compile(r"[A-Za-z0-9$][A-Za-z0-9._-]{0,254}")  # $web and $root are containers of Azure
_VERSION = re.compile(r"\?versionId=([^?&#/]+)\Z")
_PLAIN_PATH = re.compile(r"(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+")
_SAFE = "!$&'()*+,;=:@"  # RFC 3986, pchar; the unreserved ones are never quoted


class FoundObject(NamedTuple):
    """One object at a URI.

    ``name`` is its path relative to the URI's directory, the last component for a single object.
    ``checksum`` is tagged text: a digest (``xxh128:...``) for ``file://``, ``etag:...`` or ``version:...``
    elsewhere; it is empty if none was requested, or the server reports none.
    """

    name: bytes
    uri: str
    size: int
    checksum: bytes

    @property
    def memory(self) -> int:
        """About how many bytes it takes."""
        return 300 + len(self.name) + len(self.uri)


#: Called with each number of bytes of memory that a listing is about to take. LimitExceededError ends the
#: listing; another OSError would count as a failure to read the listed directory.
ChargeMemory: TypeAlias = Callable[[int], None]


def no_charge(_: int) -> None:
    """Does not limit the memory."""


def scheme_of(uri: str) -> str:
    """Returns the scheme, one of :data:`SCHEMES`; raises InvalidCommand, also for what is no URI."""
    scheme, separator, _ = uri.partition("://")
    scheme = scheme.lower()
    if not separator or scheme not in SCHEMES:
        raise InvalidCommand(
            f"'{printable_uri(uri)}' can't be a reference: it must begin with one of {_KNOWN}"
        )
    if _CONTROL.search(uri):
        raise InvalidCommand(f"'{printable_uri(uri)}' has control characters; percent-encode them, as in %0A")
    try:
        size = len(uri.encode("utf-8", "surrogateescape" if scheme == "file" else "strict"))
    except UnicodeEncodeError:
        raise InvalidCommand(f"'{printable_uri(uri)}' is not UTF-8; percent-encode such bytes") from None
    if size > LONGEST:
        raise InvalidCommand(f"a URI of {size} bytes is too long: {LONGEST} are possible")
    return scheme


def check(uri: str) -> None:
    """Raises InvalidCommand for a URI that can't be a reference."""
    scheme = scheme_of(uri)
    if scheme == "file":
        file_path(uri)
    elif scheme in BUCKETS:
        bucket_key(uri)
    else:
        http_address(uri)


def too_many(uri: str, most: int) -> InvalidCommand:
    return InvalidCommand(
        f"{printable_uri(uri)} has more than {most} objects: add a part of it, or raise max_objects"
    )


class FilePath(NamedTuple):
    """An absolute path, without ``.`` and empty components; ``directory``: it ends in a slash."""

    parts: tuple[bytes, ...]
    directory: bool


def file_path(uri: str) -> FilePath:
    """Returns the path that a ``file://`` URI names; raises InvalidCommand."""
    host, slash, path = uri.partition("://")[2].partition("/")
    if not slash or host.lower() not in ("", "localhost"):
        raise InvalidCommand(f"'{printable_uri(uri)}' must be file:///ABSOLUTE/PATH")
    if "?" in path or "#" in path:
        raise InvalidCommand(f"'{printable_uri(uri)}': write ? and # in a path as %3F and %23")
    raw = unquote_to_bytes(path.encode("utf-8", "surrogateescape"))
    parts = tuple(part for part in raw.split(b"/") if part not in (b"", b"."))
    if b"\0" in raw or b".." in parts:
        raise InvalidCommand(f"'{printable_uri(uri)}' has .. or %00 in its path, which is not allowed")
    return FilePath(parts, not parts or raw.endswith((b"/", b"/.")))


def file_uri(parts: tuple[bytes, ...]) -> str:
    """Returns the canonical URI of a path: ASCII, three slashes, none at its end."""
    return "file:///" + "/".join(quote(part, safe=_SAFE) for part in parts)


def quoted(path: bytes) -> str:
    """Returns a relative path as a URI has it: ASCII, percent-encoded."""
    return "/".join(quote(part, safe=_SAFE) for part in path.split(b"/"))


def names_object(uri: str, found: str) -> bool:
    """Tells whether an object ``found`` at ``uri`` is the one that it names, and not one below it."""
    if scheme_of(uri) == "file":
        return found == file_uri(file_path(uri).parts)
    return found == uri


class Key(NamedTuple):
    """An object of a bucket; or a prefix, which ends in a slash or is empty for the whole bucket."""

    bucket: str
    key: str
    prefix: bool
    version: str


def bucket_key(uri: str) -> Key:
    """Parses the URI of an object store; raises InvalidCommand."""
    bucket, _, key = uri.partition("://")[2].partition("/")
    if not _BUCKET.fullmatch(bucket):
        raise InvalidCommand(f"'{printable_uri(uri)}' has no legal bucket name after ://")
    s3, version = scheme_of(uri) == "s3", ""
    if s3 and (named := _VERSION.search(key)):
        key, version = key[: named.start()], named[1]
    stem = key.removesuffix("/")
    parts = stem.split("/")
    if "\0" in stem or not {".", ".."}.isdisjoint(parts) or (key and not s3 and "" in parts):
        components = ". or .." if s3 else "empty, . or .."
        raise InvalidCommand(f"'{printable_uri(uri)}': its key must not have {components} components")
    prefix = stem != key or not key
    if version and prefix:
        raise InvalidCommand(f"'{printable_uri(uri)}' names a version, but no object")
    return Key(bucket, key, prefix, version)


def object_name(uri: str, path: str) -> bytes:
    """Returns an object's name in a tree, without empty components; raises InvalidCommand."""
    parts = [part for part in path.split("/") if part]
    if not parts or "\0" in path or path.endswith("/") or not {".", ".."}.isdisjoint(parts):
        raise InvalidCommand(
            f"'{printable_uri(uri)}' can't be in a tree: its key has a . or .. component, or ends in a slash"
        )
    return "/".join(parts).encode()


class Address(NamedTuple):
    """An http address: ``path`` follows ``base``, for which one connection can serve many paths.

    ``path`` is empty if only a request for the whole address sends it unchanged.
    """

    base: str
    path: str


def http_address(uri: str) -> Address:
    """Parses an address; raises InvalidCommand."""
    try:
        parts = urlsplit(uri)
        legal = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        legal = False
    if not legal:
        raise InvalidCommand(
            f"'{printable_uri(uri)}' is not a legal address: write {uri.partition(':')[0]}://HOST/PATH"
        )
    if _PLAIN_PATH.fullmatch(parts.path) and not ("?" in uri or "#" in uri):
        return Address(f"{parts.scheme}://{parts.netloc}", parts.path[1:])
    return Address(uri, "")


def http_name(uri: str) -> bytes:
    """Returns the last component of an address's path, percent-decoded; the host if there is none."""
    parts = urlsplit(uri)
    raw = unquote_to_bytes(parts.path.rstrip("/")).rpartition(b"/")[2]
    return (parts.hostname or "").encode() if raw in (b"", b".", b"..") or b"\0" in raw else raw
