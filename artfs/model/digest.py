"""Digests and the ids made of them, as bytes and as text.

An id is one byte for the algorithm, then the digest. Three kinds are distinct types, since they are not
interchangeable: a :data:`BlobId` names the bytes of a file, a :data:`TreeId` the bytes of a page
of a directory, a :data:`ContentDigest` says whether two trees are the same version.

Must not know where objects are stored. Pure functions: any thread may call them.
"""

from __future__ import annotations

import enum
import hashlib
import re
from typing import NewType, Protocol

import xxhash

BlobId = NewType("BlobId", bytes)
"""Names a blob: code byte, digest of its bytes, and the collision counter (big-endian, minimal) if not 0."""

TreeId = NewType("TreeId", bytes)
"""Names a page of a tree: code byte and digest of its bytes (also modes, times, owners, xattrs)."""

ContentDigest = NewType("ContentDigest", bytes)
"""Code byte and digest of the content by which versions are equal; it names no stored object."""

MAX_COUNTER = 2**32 - 1
LONGEST_ID = 1 + 32 + 4


class Hasher(Protocol):
    """Hashes the bytes of one object in order."""

    def update(self, data: bytes | bytearray | memoryview, /) -> object: ...

    def digest(self) -> bytes: ...


class Algorithm(enum.Enum):
    """The hash algorithms of a volume: label (in text and ``artfs.json``), code byte, size of a digest."""

    XXH128 = ("xxh128", 1, 16)
    SHA256 = ("sha256", 2, 32)

    def __init__(self, label: str, code: int, size: int) -> None:
        self.label = label
        self.code = code
        self.size = size
        self.prefix = bytes([code])

    def hasher(self) -> Hasher:
        """Starts a digest. xxh128 is XXH3's 128 bits with seed 0, in the canonical (big-endian) order."""
        return xxhash.xxh3_128() if self is Algorithm.XXH128 else hashlib.sha256()

    def digest(self, data: bytes) -> bytes:
        """Returns the digest of bytes."""
        if self is Algorithm.XXH128:
            return xxhash.xxh3_128_digest(data)
        return hashlib.sha256(data).digest()

    @classmethod
    def named(cls, label: str) -> Algorithm:
        """Returns the algorithm of a label; raises ValueError, whose text lists the known ones."""
        for algorithm in cls:
            if algorithm.label == label:
                return algorithm
        raise ValueError(f"{label!r} is not a hash algorithm; use one of {', '.join(a.label for a in cls)}")

    @classmethod
    def coded(cls, code: int) -> Algorithm:
        """Returns the algorithm of a code byte; raises ValueError."""
        try:
            return _BY_CODE[code]
        except KeyError:
            raise ValueError(f"{code} is not the code of a hash algorithm") from None


_BY_CODE = {algorithm.code: algorithm for algorithm in Algorithm}


def blob_id(algorithm: Algorithm, digest: bytes, counter: int = 0) -> BlobId:
    """Makes a blob's id. The counter distinguishes blobs of equal digests and different bytes."""
    if len(digest) != algorithm.size:
        raise ValueError(f"a {algorithm.label} digest has {algorithm.size} bytes, not {len(digest)}")
    if not 0 <= counter <= MAX_COUNTER:
        raise ValueError(f"{counter} is not a collision counter")
    return BlobId(algorithm.prefix + digest + counter.to_bytes((counter.bit_length() + 7) // 8, "big"))


def tree_id(algorithm: Algorithm, page: bytes) -> TreeId:
    """Names a page by its bytes."""
    return TreeId(algorithm.prefix + algorithm.digest(page))


def content_digest(algorithm: Algorithm, data: bytes) -> ContentDigest:
    """Hashes the content encoding of a page, which ``pages.py`` makes."""
    return ContentDigest(algorithm.prefix + algorithm.digest(data))


def algorithm_of(raw: BlobId | TreeId | ContentDigest) -> Algorithm:
    """Returns the algorithm of any id; raises ValueError for an empty id or an unknown code."""
    if not raw:
        raise ValueError("an id is never empty")
    return Algorithm.coded(raw[0])


def digest_of(raw: BlobId | TreeId | ContentDigest) -> bytes:
    """Returns the digest without code byte and counter."""
    return raw[1 : 1 + algorithm_of(raw).size]


def counter_of(raw: BlobId) -> int:
    """Returns the collision counter, 0 for nearly every blob."""
    return int.from_bytes(raw[1 + algorithm_of(raw).size :], "big")


def is_blob_id(raw: bytes) -> bool:
    """Tells whether the bytes are a blob's id in canonical form."""
    if not raw or raw[0] not in _SIZES:
        return False
    rest = len(raw) - 1 - _SIZES[raw[0]]
    return not rest or (0 < rest <= 4 and raw[-rest] != 0)


def is_plain_id(raw: bytes) -> bool:
    """Tells whether the bytes are a TreeId or ContentDigest: code and digest, nothing else."""
    return bool(raw) and len(raw) - 1 == _SIZES.get(raw[0])


def text(raw: BlobId | TreeId | ContentDigest) -> str:
    """Formats an id: ``xxh128:<hex>``, followed by ``-3`` if the collision counter is 3."""
    algorithm = algorithm_of(raw)
    end = 1 + algorithm.size
    counter = f"-{int.from_bytes(raw[end:], 'big')}" if len(raw) > end else ""
    return f"{algorithm.label}:{raw[1:end].hex()}{counter}"


def parse_blob(spelled: str) -> BlobId:
    """Parses exactly what :func:`text` returns for a BlobId; raises ValueError."""
    algorithm, digest, counter = _parse(spelled)
    return blob_id(algorithm, digest, counter)


def parse_tree(spelled: str) -> TreeId:
    """Parses exactly what :func:`text` returns for a TreeId; raises ValueError."""
    return TreeId(_parse_plain(spelled))


def parse_content(spelled: str) -> ContentDigest:
    """Parses exactly what :func:`text` returns for a ContentDigest; raises ValueError."""
    return ContentDigest(_parse_plain(spelled))


_SIZES = {algorithm.code: algorithm.size for algorithm in Algorithm}
_TEXT = re.compile(r"([a-z0-9]+):([0-9a-f]+)(?:-([1-9][0-9]{0,9}))?")


def _parse(spelled: str) -> tuple[Algorithm, bytes, int]:
    match = _TEXT.fullmatch(spelled)
    if match is None:
        raise ValueError(f"{spelled!r} is not an id: it must look like xxh128:<hex digits>")
    algorithm = Algorithm.named(match[1])
    if len(match[2]) != 2 * algorithm.size:
        raise ValueError(f"{spelled!r} is not an id: {algorithm.label} has {2 * algorithm.size} hex digits")
    return algorithm, bytes.fromhex(match[2]), int(match[3] or 0)


def _parse_plain(spelled: str) -> bytes:
    algorithm, digest, counter = _parse(spelled)
    if counter:
        raise ValueError(f"{spelled!r} has a collision counter, which only a blob's id may have")
    return algorithm.prefix + digest
