"""The JSON of versions: the record, written once; the labels, which may change; and what users see.

Owns the byte format of these files and the rules for their texts. Must not know directories. Pure; any
thread may call it. The formats are in ``store/FORMAT.md``.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import unquote_to_bytes

import msgspec
from msgspec import Meta, Struct

from artfs.errors import Damaged, InvalidCommand, InvalidName
from artfs.model import digest
from artfs.model.entry import MAX_INT, DirEntry
from artfs.model.names import check_distributed_id, version_name
from artfs.model.pages import fault_of_root
from artfs.printing import printable
from artfs.store.documents import nanoseconds, timestamp

METADATA_LIMIT = 16 << 20
"""Bytes of the JSON of one version's metadata."""

TEXT_LIMIT = 1 << 20
"""Bytes of a description."""

WORD_LIMIT = 256
"""Bytes of a tag, a type or the name of a run."""

SERIAL_BITS = 26
"""Bits of a serial number: an inode number on a mount has no room for more."""

_NOT_IN_A_LINE = re.compile("[\\0-\x1f\x7f-\x9f\u2028\u2029]")

Count = Annotated[int, Meta(ge=0, le=MAX_INT)]
Serial = Annotated[int, Meta(ge=0, lt=1 << SERIAL_BITS)]
Owner = Annotated[int, Meta(ge=0, le=2**32 - 1)]
VersionText = Annotated[str, Meta(pattern=r"^v(0|[1-9][0-9]*)\Z")]
OctalMode = Annotated[str, Meta(pattern=r"^[01][0-7]{3}\Z")]
OctalReach = Annotated[str, Meta(pattern=r"^0[0145]{3}\Z")]


class Root(Struct, frozen=True, kw_only=True):
    """The root directory of a version: a ``DirEntry`` without its (empty) name. Modes are octal text."""

    mode: OctalMode
    uid: Owner
    gid: Owner
    mtime_ns: Annotated[int, Meta(ge=-MAX_INT - 1, le=MAX_INT)]
    tree: str
    content: str
    entries: Count
    files: Count
    bytes: Count
    reach: OctalReach
    xattrs: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, entry: DirEntry) -> Root:
        return cls(
            mode=f"{entry.mode:04o}",
            uid=entry.uid,
            gid=entry.gid,
            mtime_ns=entry.mtime_ns,
            tree=digest.text(entry.tree),
            content=digest.text(entry.content),
            entries=entry.entries,
            files=entry.files,
            bytes=entry.bytes,
            reach=f"{entry.reach:04o}",
            xattrs=tuple((name.hex(), value.hex()) for name, value in entry.xattrs),
        )

    def entry(self) -> DirEntry:
        """Returns the entry. Raises ValueError for an invalid digest or xattr."""
        return DirEntry(
            name=b"",
            mode=int(self.mode, 8),
            uid=self.uid,
            gid=self.gid,
            mtime_ns=self.mtime_ns,
            tree=digest.parse_tree(self.tree),
            content=digest.parse_content(self.content),
            entries=self.entries,
            files=self.files,
            bytes=self.bytes,
            reach=int(self.reach, 8),
            xattrs=tuple((_unhexed(name), _unhexed(value)) for name, value in self.xattrs),
        )


class VersionRecord(Struct, frozen=True, kw_only=True):
    """One version, as it was committed. It never changes until a tombstone replaces it.

    ``distributed_id`` is percent-encoded (see ``encode_id``). ``seal`` is the nonce of the seal that made
    the version: a recovering seal knows its own commit by it. ``serial`` is unique in the volume.
    ``base`` is the version that this one is a patch of, ``link`` the one that it is a link to.
    ``metadata``, ``tags`` and ``description`` are the first labels.
    """

    version: VersionText
    serial: Serial
    digest: str
    size: Count
    file_count: Count
    created_at: str
    created_by: str
    distributed_id: str
    seal: str
    root: Root
    base: str | None = None
    link: str | None = None
    runs: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    description: str = ""
    metadata: dict[str, Any] = {}

    @classmethod
    def make(
        cls,
        *,
        number: int,
        serial: int,
        root: DirEntry,
        distributed_id: bytes,
        seal: str,
        created_by: str,
        created_at: str | None = None,
        base: str | None = None,
        link: str | None = None,
        runs: Sequence[str] = (),
        aliases: Sequence[str] = (),
        tags: Sequence[str] = (),
        description: str = "",
        metadata: dict[str, Any] | None = None,
    ) -> VersionRecord:
        """Builds the record of a version from its root; sizes and digest are the root's."""
        return cls(
            version=version_name(number),
            serial=serial,
            digest=digest.text(root.content),
            size=root.bytes,
            file_count=root.files,
            created_at=created_at or timestamp(),
            created_by=created_by,
            distributed_id=encode_id(distributed_id),
            seal=seal,
            root=Root.of(root),
            base=base,
            link=link,
            runs=tuple(runs),
            aliases=tuple(aliases),
            tags=tuple(tags),
            description=description,
            metadata=metadata or {},
        )

    @property
    def number(self) -> int:
        return int(self.version[1:])

    @property
    def id(self) -> bytes:
        """The distributed id as it is on the mount."""
        return decode_id(self.distributed_id)


class Tombstone(Struct, frozen=True, kw_only=True):
    """What replaces the record of a deleted version, so that its number is never used again."""

    version: VersionText
    deleted_at: str


class Labels(Struct, frozen=True, kw_only=True):
    """What may be changed of a version. It is not part of its content.

    ``ttl`` is whole seconds, ``"none"`` for ever, or null for that of the collection. ``used_by`` are the
    runs that read the version, ``runs`` those that produced the same content again after it was committed.
    """

    description: str = ""
    tags: tuple[str, ...] = ()
    ttl: Count | Literal["none"] | None = None
    metadata: dict[str, Any] = {}
    used_by: tuple[str, ...] = ()
    runs: tuple[str, ...] = ()
    updated_at: str | None = None


def initial_labels(record: VersionRecord) -> Labels:
    """Returns the labels of a version that was not changed yet. They share the record's metadata."""
    return Labels(description=record.description, tags=record.tags, metadata=record.metadata)


def lightened(record: VersionRecord) -> VersionRecord:
    """Returns the record without metadata and description, which may be large, to be kept in memory."""
    return msgspec.structs.replace(record, metadata={}, description="")


def describe(
    record: VersionRecord,
    labels: Labels,
    aliases: Sequence[str],
    *,
    collection: str,
    collection_type: str,
    collection_ttl: int | None = None,
) -> dict[str, Any]:
    """Returns what users see of a version: the keys of its ``status`` and of a line of ``versions``.

    ``ttl`` is the effective one, the version's own or the collection's; None for ever.

    ``distributed_id`` is text decoded with surrogateescape, so it is not always valid UTF-8.
    """
    return {
        "state": "sealed",
        "version": record.version,
        "collection": collection,
        "type": collection_type,
        "digest": record.digest,
        "size": record.size,
        "file_count": record.file_count,
        "created_at": record.created_at,
        "created_by": record.created_by,
        "distributed_id": record.id.decode("utf-8", "surrogateescape"),
        "base": record.base,
        "link": record.link,
        "runs": list(dict.fromkeys((*record.runs, *labels.runs))),
        "used_by": list(labels.used_by),
        "aliases": list(aliases),
        "tags": list(labels.tags),
        "ttl": effective_ttl(labels, collection_ttl),
    }


def effective_ttl(labels: Labels, collection_ttl: int | None) -> int | None:
    """Returns the ttl of a version in seconds; None for ever."""
    if labels.ttl == "none":
        return None
    return collection_ttl if labels.ttl is None else labels.ttl


def has_expired(created_at: str, ttl: int | None, now: float) -> bool:
    """Tells whether the effective ttl of a version has passed at a time, in seconds since the epoch."""
    return ttl is not None and nanoseconds(created_at) / 1e9 + ttl <= now


def _unhexed(text: str) -> bytes:
    value = bytes.fromhex(text)
    if value.hex() != text:  # upper case, blanks
        raise ValueError(f"'{printable(text[:40])}' is no hex text")
    return value


# --- bytes ---


def encode(value: Struct) -> bytes:
    """Returns the file of a record, tombstone, labels or run: pretty JSON with a newline at its end.

    Raises InvalidCommand for a text that is not valid Unicode or a number that JSON does not have.
    """
    return dump(msgspec.to_builtins(value)).encode() + b"\n"


def dump(document: object, *, indent: int | None = 2) -> str:
    """Returns a document as JSON. Raises InvalidCommand where :func:`encode` does."""
    try:
        text = json.dumps(document, ensure_ascii=False, allow_nan=False, indent=indent)
        text.encode()
    except (ValueError, TypeError, RecursionError) as error:
        # UnicodeEncodeError is a ValueError: a lone surrogate.
        raise InvalidCommand(f"not representable as JSON: {error}") from None
    return text


AnyStruct = TypeVar("AnyStruct", bound=Struct)


def decode(data: bytes, kind: type[AnyStruct], what: str) -> AnyStruct:
    """Reads such a file; unknown keys are left out. Raises Damaged, naming ``what``."""
    return _convert(_load(data, what), kind, what)


def decode_labels(data: bytes, what: str) -> Labels:
    """Reads labels, and checks them as if a user had set them. Raises Damaged, naming ``what``."""
    labels = decode(data, Labels, what)
    try:
        check_labels(labels)
    except InvalidCommand as error:
        raise Damaged(what, str(error)) from None
    return labels


def decode_version(data: bytes, number: int, what: str) -> VersionRecord | Tombstone:
    """Reads a record or tombstone, and checks that it is of ``number`` and consistent.

    Raises Damaged, naming ``what``.
    """
    document = _load(data, what)
    found: VersionRecord | Tombstone
    if isinstance(document, dict) and "deleted_at" in document:
        found = _convert(document, Tombstone, what)
    else:
        found = _convert(document, VersionRecord, what)
    if found.version != version_name(number):
        raise Damaged(what, f"it is the record of {found.version}")
    if isinstance(found, VersionRecord):
        root = found.root
        if (found.digest, found.size, found.file_count) != (root.content, root.bytes, root.files):
            raise Damaged(what, "its digest or sizes are not those of its root")
        try:
            fault = fault_of_root(root.entry())
            check_distributed_id(found.id)
            nanoseconds(found.created_at)
        except (ValueError, OverflowError, InvalidName) as error:
            raise Damaged(what, str(error)) from None
        if fault:
            raise Damaged(what, fault)
    return found


def load_metadata(data: bytes, what: str) -> dict[str, Any]:
    """Reads the metadata of a pending version. Raises Damaged, naming ``what``."""
    document = _load(data, what)
    if not isinstance(document, dict):
        raise Damaged(what, "it is no JSON object")
    return document


def _load(data: bytes, what: str) -> Any:
    try:
        document = json.loads(data.decode(), parse_constant=_refuse_constant, parse_float=_finite)
        if b"\\u" in data:  # a lone surrogate, which is not a character
            json.dumps(document, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise Damaged(what, f"it is not JSON ({error})") from None
    return document


def _convert(document: Any, kind: type[AnyStruct], what: str) -> AnyStruct:
    try:
        return msgspec.convert(document, kind)
    except (msgspec.ValidationError, RecursionError) as error:
        raise Damaged(what, str(error)) from None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:20]} is too large a number")
    return number


# --- distributed ids ---


def encode_id(distributed_id: bytes) -> str:
    """Returns the id as text in valid UTF-8: unprintable characters and ``%`` become %XX."""
    return "".join(
        char if char.isprintable() and char != "%" else _percent(char)
        for char in distributed_id.decode("utf-8", "surrogateescape")
    )


def decode_id(text: str) -> bytes:
    """Reverses ``encode_id``. Raises ValueError for a text that it can't have returned."""
    distributed_id = unquote_to_bytes(text)
    if encode_id(distributed_id) != text:
        raise ValueError(f"'{printable(text)}' is not an encoded distributed id")
    return distributed_id


def _percent(char: str) -> str:
    return "".join(f"%{byte:02X}" for byte in char.encode("utf-8", "surrogateescape"))


# --- rules for texts; each function returns what it was given ---


def check_word(what: str, word: str) -> str:
    """Checks a non-empty word without white space or control characters, of at most 256 bytes."""
    data = _utf8(what, word)
    if not word or len(data) > WORD_LIMIT:
        raise InvalidCommand(f"{what} has 1 to {WORD_LIMIT} bytes, not {len(data)}")
    if any(char.isspace() or not char.isprintable() for char in word):
        raise InvalidCommand(f"{what} holds no white space or control characters: '{printable(word)}'")
    return word


def check_tags(tags: Iterable[str]) -> tuple[str, ...]:
    """Checks tags and drops repeated ones; the order stays."""
    return tuple(dict.fromkeys(map(_check_tag, tags)))


def _check_tag(tag: str) -> str:
    """Checks any text of 1 to 256 bytes that is one line."""
    data = _utf8("a tag", tag)
    if not tag or len(data) > WORD_LIMIT:
        raise InvalidCommand(f"a tag has 1 to {WORD_LIMIT} bytes, not {len(data)}")
    if _NOT_IN_A_LINE.search(tag):
        raise InvalidCommand(f"a tag is one line without control characters: '{printable(tag)}'")
    return tag


def check_description(text: str) -> str:
    data = _utf8("a description", text)
    if "\0" in text:
        raise InvalidCommand("a description holds no NUL")
    if len(data) > TEXT_LIMIT:
        raise InvalidCommand(f"a description has at most {TEXT_LIMIT} bytes, not {len(data)}")
    return text


def check_type(text: str) -> str:
    """Checks the type of a collection; it may be empty."""
    return check_line("a type", text)


def check_line(what: str, text: str) -> str:
    """Checks one line of at most 256 bytes, without control characters and without blanks around it."""
    data = _utf8(what, text)
    if len(data) > WORD_LIMIT or text != text.strip() or not text.isprintable():
        raise InvalidCommand(f"{what} is one line of at most {WORD_LIMIT} bytes: '{printable(text)}'")
    return text


def check_ttl(ttl: int | Literal["none"] | None) -> int | Literal["none"] | None:
    if ttl is not None and ttl != "none" and (type(ttl) is not int or not 0 <= ttl < 1 << 63):
        raise InvalidCommand("a ttl is a number of whole seconds, 'none' for ever, or null: the collection's")
    return ttl


def check_metadata(metadata: dict[str, Any]) -> dict[str, Any]:
    """Checks that metadata is a JSON object of at most 16 MiB, with texts that are valid Unicode."""
    given: Any = metadata  # Callers may pass on any object that a user gave them.
    if not isinstance(given, dict) or not all(isinstance(key, str) for key in given):
        raise InvalidCommand("metadata is a JSON object")
    size = len(dump(metadata).encode())
    if size > METADATA_LIMIT:
        raise InvalidCommand(f"metadata has at most {METADATA_LIMIT} bytes of JSON, not {size}")
    return metadata


def check_fields(names: Iterable[str]) -> None:
    """Raises InvalidCommand for a field of labels that does not exist, or that users can't set."""
    if not {*names} <= {*Labels.__struct_fields__} - {"updated_at"}:
        raise InvalidCommand(f"no such labels: {', '.join(sorted(names))}")


def check_labels(labels: Labels) -> Labels:
    """Checks all fields of labels that users set."""
    check_description(labels.description)
    check_ttl(labels.ttl)
    check_metadata(labels.metadata)
    for run in (*labels.used_by, *labels.runs):
        check_word("a run", run)
    return msgspec.structs.replace(labels, tags=check_tags(labels.tags))


def _utf8(what: str, text: str) -> bytes:
    given: Any = text
    if not isinstance(given, str):
        raise InvalidCommand(f"{what} is text")
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise InvalidCommand(f"{what} is valid UTF-8: '{printable(text)}'") from None
