"""The pages of a directory: their bytes, where a directory is cut into pages, and which pages are legal.

A directory is one leaf page, or leaf pages below index pages (a prolly tree). The names in a directory alone
determine its pages, never the order of edits. ``artfs/store/FORMAT.md`` has the bytes.

Must not know where pages are stored, nor read any. Pages are immutable: any thread may use them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate, islice
from operator import lt
from typing import TypeAlias

import msgspec
from msgspec import Struct
from xxhash import xxh3_64_intdigest

from artfs.errors import Damaged
from artfs.model.digest import Algorithm, TreeId, content_digest, is_blob_id, is_plain_id, tree_id
from artfs.model.entry import (
    MAX_INT,
    NONE,
    DirEntry,
    Entry,
    FileEntry,
    Listable,
    PageSummary,
    ReferenceEntry,
    SymlinkEntry,
    Xattrs,
)
from artfs.model.names import CONTROL, MAX_NAME, PRIVATE, is_reserved

ONE_PAGE = 1000
"""A directory of at most so many entries is one leaf, whatever its names."""

LEAF_BITS, LEAF_MIN, LEAF_MAX = 9, 64, 2048
INDEX_BITS, INDEX_MIN, INDEX_MAX = 7, 16, 1024
MAX_LEVEL = 7
MAX_XATTR_VALUE = 65536


class _LeafBytes(Struct, frozen=True, array_like=True, tag=0, gc=False):
    entries: tuple[Entry, ...]


class _IndexBytes(Struct, frozen=True, array_like=True, tag=1, gc=False):
    level: int
    items: tuple[PageSummary, ...]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_LeafBytes | _IndexBytes)


class Leaf:
    """A leaf page: entries in the order of their names.

    ``offsets[i]`` is the offset of entry i if the leaf were the whole directory: 1 for the first, and one
    more than all entries up to and below its predecessor for every other. ``total`` counts all entries, at
    every depth.
    """

    __slots__ = ("items", "keys", "offsets", "total")
    level = 0

    def __init__(self, items: Sequence[Entry], keys: list[bytes] | None = None) -> None:
        self.items = items
        self.keys = [entry.name for entry in items] if keys is None else keys
        sizes = [entry.entries + 1 if type(entry) is DirEntry else 1 for entry in items]
        ends = list(accumulate(sizes, initial=1))
        self.total = ends.pop() - 1
        self.offsets = ends

    @property
    def last(self) -> bytes:
        """The last name; ``b""`` if the directory is empty."""
        return self.keys[-1] if self.keys else b""

    @property
    def names(self) -> int:
        """The number of direct entries."""
        return len(self.keys)

    def __len__(self) -> int:
        return len(self.items)

    def encode(self) -> bytes:
        """Returns the bytes of the page."""
        return _encoder.encode(_LeafBytes(tuple(self.items)))

    def content(self) -> bytes:
        """Returns the bytes of the content digest: those by which versions are equal, nothing else."""
        return _encoder.encode((0, [_content(entry) for entry in self.items]))

    def summary(self, tree: TreeId, algorithm: Algorithm) -> PageSummary:
        """Returns the summary of the page, with the id of its bytes."""
        files = size = 0
        below = Listable()
        for entry in self.items:
            kind = type(entry)
            if kind is FileEntry or kind is ReferenceEntry:
                files += 1
                size += entry.size  # type: ignore[union-attr]
            elif kind is DirEntry:
                files += entry.files  # type: ignore[union-attr]
                size += entry.bytes  # type: ignore[union-attr]
                below.add(entry.reach, entry.uid, entry.gid)  # type: ignore[union-attr]
        return PageSummary(
            self.last,
            tree,
            content_digest(algorithm, self.content()),
            len(self.items),
            self.total,
            files,
            min(size, MAX_INT),
            below.reach,
            below.uid,
            below.gid,
        )


class Index:
    """An index page: the summaries of the pages one level below, in the order of their names.

    ``starts[i]`` counts all entries, at every depth, before those of item i; ``ends[i]`` those up to and
    with them. So the offsets in item i are those over ``starts[i]``, up to ``ends[i]``.
    """

    __slots__ = ("ends", "items", "keys", "level", "names", "starts", "total")

    def __init__(self, level: int, items: Sequence[PageSummary], keys: list[bytes] | None = None) -> None:
        self.level = level
        self.items = items
        self.keys = [item.last for item in items] if keys is None else keys
        self.ends = list(accumulate(item.entries for item in items))
        self.starts = [0, *self.ends[:-1]]
        self.total = self.ends[-1]
        self.names = sum(item.names for item in items)

    @property
    def last(self) -> bytes:
        """The last name of the directory that is below this page."""
        return self.keys[-1]

    def __len__(self) -> int:
        return len(self.items)

    def encode(self) -> bytes:
        """Returns the bytes of the page."""
        return _encoder.encode(_IndexBytes(self.level, tuple(self.items)))

    def content(self) -> bytes:
        """Returns the bytes of the content digest: the content digests of the pages below."""
        return _encoder.encode((1, [item.content for item in self.items]))

    def summary(self, tree: TreeId, algorithm: Algorithm) -> PageSummary:
        """Returns the summary of the page, with the id of its bytes."""
        below = Listable()
        for item in self.items:
            below.add(item.reach, item.uid, item.gid)
        return PageSummary(
            self.last,
            tree,
            content_digest(algorithm, self.content()),
            self.names,
            self.total,
            sum(item.files for item in self.items),
            min(sum(item.bytes for item in self.items), MAX_INT),
            below.reach,
            below.uid,
            below.gid,
        )


Page: TypeAlias = Leaf | Index


def cuts(keys: Sequence[bytes], level: int) -> list[int]:
    """Returns where the items that follow a cut are cut: the exclusive ends of the pages, in rising order.

    ``keys`` are the names of entries (level 0) or the last names of pages. The items after the last cut are a
    page only if nothing follows them. A cut depends only on the items of the page before it, so an edit moves
    cuts only up to the next one that stays: updates are local, and independent of history.
    """
    if level == 0:
        shift, mask, least, most = 0, (1 << LEAF_BITS) - 1, LEAF_MIN, LEAF_MAX
    else:
        shift, mask = LEAF_BITS + INDEX_BITS * (level - 1), (1 << INDEX_BITS) - 1
        least, most = INDEX_MIN, INDEX_MAX
    mask <<= shift
    start, found = 0, []
    for end in [i for i, key in enumerate(keys, 1) if not xxh3_64_intdigest(key) & mask]:
        while end - start > most:
            start += most
            found.append(start)
        if end - start >= least:
            start = end
            found.append(start)
    while len(keys) - start >= most:
        start += most
        found.append(start)
    return found


def encode(page: Page, algorithm: Algorithm) -> tuple[bytes, PageSummary]:
    """Returns a page's bytes and its summary.

    Raises ValueError if :func:`decode` would refuse the bytes.
    """
    try:
        data = page.encode()
        reason = _fault(_decoder.decode(data), page.keys)
    except (msgspec.DecodeError, OverflowError) as error:
        data, reason = b"", str(error)
    if reason:
        raise ValueError(f"not a legal page of a tree: {reason}")
    return data, page.summary(tree_id(algorithm, data), algorithm)


def decode(data: bytes, what: str = "a page of a tree") -> Page:
    """Reads a page. ``what`` names it in the error.

    Accepts exactly the bytes that :func:`encode` can return, and raises Damaged with the reason for all
    others. So a page has no name, count or mode that a tree can't have. The bytes are not compared with a
    digest, nor a summary with its page.
    """
    try:
        raw = _decoder.decode(data)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Damaged(what, str(error)) from error
    if isinstance(raw, _LeafBytes):
        keys = [entry.name for entry in raw.entries]
    else:
        keys = [item.last for item in raw.items]
    if reason := _fault(raw, keys):
        raise Damaged(what, reason)
    if _encoder.encode(raw) != data:
        raise Damaged(what, "it is not in the canonical encoding")
    return Leaf(raw.entries, keys) if isinstance(raw, _LeafBytes) else Index(raw.level, raw.items, keys)


def fault_of_root(entry: DirEntry) -> str:
    """Returns why the root of a version is illegal, beyond the checks of the types; empty if it is legal."""
    return _fault_of_entry(entry)


def _content(entry: Entry) -> tuple[object, ...]:
    kind = type(entry)
    if kind is FileEntry:
        return (0, entry.name, entry.mode & 0o111, entry.blob)  # type: ignore[union-attr]
    if kind is DirEntry:
        return (1, entry.name, entry.content)  # type: ignore[union-attr]
    if kind is SymlinkEntry:
        return (2, entry.name, entry.target)  # type: ignore[union-attr]
    assert isinstance(entry, ReferenceEntry)
    return (3, entry.name, entry.size, entry.uri, entry.checksum)


def _fault(raw: _LeafBytes | _IndexBytes, keys: Sequence[bytes]) -> str:
    """Returns why a page is illegal, beyond the checks of the types; empty if it is legal."""
    if reason := _fault_of_names(keys):
        return reason
    if isinstance(raw, _LeafBytes):
        if len(raw.entries) > LEAF_MAX:
            return "a leaf has too many entries"
        for entry in raw.entries:
            if type(entry) is FileEntry and not entry.xattrs and is_blob_id(entry.blob):
                continue  # nearly all, in nearly all trees
            if reason := _fault_of_entry(entry):
                return reason
        return ""
    if not 1 <= raw.level <= MAX_LEVEL:
        return f"there is no level {raw.level}"
    if not 1 <= len(raw.items) <= INDEX_MAX:
        return "an index page has no or too many items"
    if sum(item.entries for item in raw.items) > MAX_INT:
        return "the counts are impossible"
    return next(filter(None, map(_fault_of_item, raw.items)), "")


def _fault_of_names(keys: Sequence[bytes]) -> str:
    # Each check is one call for the whole page, since it runs for every page that is read.
    if not keys:
        return ""
    if not all(map(lt, keys, islice(keys, 1, None))):
        return "its names are not sorted, or not unique"
    together = b"/".join(keys)
    if not keys[0] or together.count(b"/") != len(keys) - 1 or b"\0" in together:
        return "a name is empty, or has '/' or NUL"
    if max(map(len, keys)) > MAX_NAME:
        return "a name is too long"
    if b"." in keys or b".." in keys:
        return "'.' and '..' are not names"
    for reserved in (CONTROL, PRIVATE):
        place = bisect_left(keys, reserved)
        if place < len(keys) and is_reserved(keys[place]):
            return "a name is .artfs, or begins with .artfs@"
    return ""


def _fault_of_entry(entry: Entry) -> str:
    kind = type(entry)
    if kind is FileEntry:
        if not is_blob_id(entry.blob):  # type: ignore[union-attr]
            return "the id of a blob is illegal"
    elif kind is DirEntry:
        assert isinstance(entry, DirEntry)
        if not (is_plain_id(entry.tree) and is_plain_id(entry.content)):
            return "the id of a tree is illegal"
        if entry.files > entry.entries or entry.reach & ~(entry.mode & 0o555):
            return "the counts or the reach of a directory are impossible"
    elif isinstance(entry, SymlinkEntry):
        return "the target of a link has NUL" if b"\0" in entry.target else ""
    elif isinstance(entry, ReferenceEntry) and b"\0" in entry.uri:
        return "a URI holds NUL"
    xattrs = entry.xattrs  # type: ignore[union-attr]
    return _fault_of_xattrs(xattrs) if xattrs else ""


def _fault_of_xattrs(xattrs: Xattrs) -> str:
    names = [name for name, _ in xattrs]
    if not all(map(lt, names, islice(names, 1, None))):
        return "xattrs are not sorted, or not unique"
    if not all(0 < len(name) <= MAX_NAME and b"\0" not in name for name in names):
        return "the name of an xattr is illegal"
    if any(len(value) > MAX_XATTR_VALUE for _, value in xattrs):
        return "an xattr is too long"
    return ""


def _fault_of_item(item: PageSummary) -> str:
    if not (is_plain_id(item.tree) and is_plain_id(item.content)):
        return "the id of a page is illegal"
    if not 1 <= item.names <= item.entries or item.files > item.entries:
        return "the counts of a page are impossible"
    if item.reach & ~0o555:
        return "the reach of a page is impossible"
    childless = item.uid == NONE
    if childless != (item.gid == NONE) or (childless and item.reach != 0o555):
        return "the owners of a page are impossible"
    return ""
