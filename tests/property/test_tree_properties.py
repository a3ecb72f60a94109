"""Directories as trees of pages against a plain sorted dict; tiny pages exercise every rule."""

from __future__ import annotations

from itertools import accumulate

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from artfs.errors import Damaged
from artfs.model import pages
from artfs.model.digest import Algorithm, ContentDigest, TreeId, blob_id
from artfs.model.entry import DirEntry, Entry, FileEntry, PageSummary, ReferenceEntry, SymlinkEntry
from artfs.model.pages import Index, Leaf, Page, decode
from artfs.model.tree import TreeReader, build

XXH128 = Algorithm.XXH128

pytestmark = pytest.mark.usefixtures("tiny_pages")


digests = st.integers(0, 5).map(lambda i: bytes([i]) * 16)
short_names = st.integers(0, 150).map(lambda i: b"%d" % i)
any_names = st.binary(min_size=1, max_size=12).filter(
    lambda name: name not in (b".", b"..") and not name.startswith(b".artfs") and not set(name) & {0, 0x2F}
)
names = short_names | any_names
modes = st.sampled_from([0o644, 0o600, 0o755, 0o700, 0o1777, 0])
owners = st.integers(0, 2) | st.just(2**32 - 1)
times = st.integers(-(2**63), 2**64 - 1)
sizes = st.integers(0, 1000) | st.just(2**63 - 1)
xattrs = st.dictionaries(st.sampled_from([b"user.a", b"user.b"]), st.binary(max_size=3), max_size=2).map(
    lambda found: tuple(sorted(found.items()))
)
blobs = st.builds(
    lambda digest, counter: blob_id(XXH128, digest, counter), digests, st.sampled_from([0, 0, 1, 256])
)
ids = digests.map(lambda digest: b"\x01" + digest)


def directories(name: st.SearchStrategy[bytes]) -> st.SearchStrategy[DirEntry]:
    def make(
        name: bytes, mode: int, uid: int, gid: int, raw: bytes, files: int, more: int, reach: int
    ) -> DirEntry:
        return DirEntry(
            name,
            mode,
            uid,
            gid,
            0,
            TreeId(raw),
            ContentDigest(raw),
            files + more,
            files,
            7 * files,
            reach & mode & 0o555,
        )

    return st.builds(
        make, name, modes, owners, owners, ids, st.integers(0, 9), st.integers(0, 9), st.integers(0, 0o777)
    )


def entries_of(name: st.SearchStrategy[bytes]) -> st.SearchStrategy[Entry]:
    return st.one_of(
        st.builds(FileEntry, name, modes, owners, owners, times, sizes, blobs, xattrs),
        directories(name),
        st.builds(SymlinkEntry, name, owners, owners, times, st.just(b"target")),
        st.builds(
            ReferenceEntry,
            name,
            modes,
            owners,
            owners,
            times,
            sizes,
            st.just(b"s3://b"),
            st.binary(max_size=2),
        ),
    )


plain_files = st.builds(FileEntry, names, modes, st.just(0), st.just(0), st.just(0), sizes, blobs)
# Many for the pages, few for the threshold below which a directory is one page.
lists = [st.lists(plain_files | entries_of(names), max_size=most) for most in (12, 120)]
some_entries = st.one_of(lists).map(lambda found: {entry.name: entry for entry in found})


@st.composite
def edits(draw: st.DrawFn) -> dict[bytes, Entry | None]:
    """A few names, or whole ranges of the short ones, to set or to remove."""
    changes: dict[bytes, Entry | None] = {
        entry.name: entry for entry in draw(st.lists(plain_files | entries_of(names), max_size=8))
    }
    changes.update(dict.fromkeys(draw(st.lists(names, max_size=8))))
    if draw(st.booleans()):
        first, last = draw(st.integers(0, 150)), draw(st.integers(0, 150))
        model = draw(st.none() | plain_files)
        for i in range(first, last):
            name = b"%d" % i
            changes[name] = replace(model, name=name) if model else None
    return changes


class Store:
    def __init__(self) -> None:
        self.pages: dict[TreeId, Page] = {}
        self.data: dict[TreeId, bytes] = {}
        self.reader = TreeReader(self.pages.__getitem__)

    def put(self, tree: TreeId, data: bytes) -> None:
        page = decode(data)
        assert not isinstance(page, Index) or all(item.tree in self.pages for item in page.items)
        self.pages[tree], self.data[tree] = page, data


def built(model: dict[bytes, Entry]) -> tuple[PageSummary, Store]:
    store = Store()
    return build([model[name] for name in sorted(model)], XXH128, store.put), store


@settings(max_examples=150, deadline=None)
@given(some_entries, st.lists(edits(), min_size=1, max_size=6))
def test_updates_and_building_give_the_same_pages(model, sequence):
    summary, store = built(model)
    for changes in sequence:
        for name, entry in changes.items():
            if entry is None:
                model.pop(name, None)
            else:
                model[name] = entry
        before = set(store.data)
        put: dict[TreeId, bytes] = {}

        def note(tree: TreeId, data: bytes, put: dict[TreeId, bytes] = put) -> None:
            assert tree not in put, "a page is put once"
            put[tree] = data
            store.put(tree, data)

        updated = store.reader.update(summary.tree, changes, note)
        expected, fresh = built(model)
        assert updated == expected
        assert put.items() <= fresh.data.items(), "no page is put that the result has not"
        assert fresh.data.items() <= store.data.items()
        assert set(put) | before >= set(fresh.data)
        summary = updated
    assert store.reader.summary(summary.tree) == summary


@settings(max_examples=150, deadline=None)
@given(some_entries, st.lists(names, max_size=10), st.data())
def test_reading_agrees_with_a_sorted_dict(model, others, data):
    summary, store = built(model)
    ordered = [model[name] for name in sorted(model)]
    ends = list(accumulate((1 + (e.entries if isinstance(e, DirEntry) else 0) for e in ordered), initial=1))
    total = ends[-1] - 1
    expected = list(zip(ends, ordered, strict=False))
    reader = store.reader

    assert list(reader.entries(summary.tree)) == expected
    assert (summary.names, summary.entries) == (len(model), total)
    assert summary.files == sum(
        e.files if isinstance(e, DirEntry) else not isinstance(e, SymlinkEntry) for e in ordered
    )
    for offset, entry in expected:
        assert reader.find(summary.tree, entry.name) == (offset, entry)
    for name in others:
        assert (reader.find(summary.tree, name) is not None) == (name in model)
    for start in data.draw(st.lists(st.integers(-2, total + 2), max_size=5)):
        assert list(reader.entries(summary.tree, start)) == [pair for pair in expected if pair[0] >= start]
    for offset in range(1, total + 1):
        owner = max(pair for pair in ((o, i) for i, (o, _) in enumerate(expected)) if pair[0] <= offset)
        assert reader.at(summary.tree, offset) == expected[owner[1]]
    for offset in (-1, 0, total + 1):
        with pytest.raises(IndexError):
            reader.at(summary.tree, offset)


@settings(max_examples=100, deadline=None)
@given(some_entries)
def test_pages_are_cut_as_the_format_says(model):
    summary, store = built(model)
    if len(model) <= 6:
        assert isinstance(store.pages[summary.tree], Leaf)
        assert len(store.pages) == 1
        return
    root = store.pages[summary.tree]
    assert len(root) > 1 or isinstance(root, Leaf)
    row: list[Page] = [root]
    while True:
        for page in row:
            most, least = (8, 2) if page.level == 0 else (4, 2)
            assert len(page) <= most
            assert len(page) >= least or page.last == summary.last
        if isinstance(row[0], Leaf):
            break
        row = [store.reader.below(p, i) for p in row if isinstance(p, Index) for i in range(len(p))]


@settings(max_examples=100, deadline=None)
@given(some_entries)
def test_the_content_digest_ignores_insignificant_fields(model):
    def bare(entry: Entry) -> Entry:
        if isinstance(entry, SymlinkEntry):
            return replace(entry, uid=7, gid=8, mtime_ns=9)
        entry = replace(entry, uid=7, gid=8, mtime_ns=9, xattrs=((b"user.z", b""),))
        if isinstance(entry, FileEntry):
            return replace(entry, mode=entry.mode & 0o111)
        if isinstance(entry, DirEntry):
            return replace(entry, mode=0, reach=0, tree=TreeId(b"\x01" + b"x" * 16))
        return replace(entry, mode=0)

    assume(model)
    summary, _ = built(model)
    stripped, _ = built({name: bare(entry) for name, entry in model.items()})
    assert stripped.content == summary.content
    assert stripped.tree != summary.tree


@settings(max_examples=200, deadline=None)
@given(some_entries, st.data())
def test_the_content_digest_covers_significant_fields(model, data):
    assume(model)
    name = data.draw(st.sampled_from(sorted(model)))
    entry = model[name]
    other: dict[bytes, Entry] = dict(model)
    options: list[Entry | None] = [None, replace(entry, name=name + b"x")]
    if isinstance(entry, FileEntry):
        options += [replace(entry, mode=entry.mode ^ bit) for bit in (0o100, 0o010, 0o001)]
        options += [replace(entry, blob=blob_id(XXH128, b"z" * 16)), SymlinkEntry(name, 0, 0, 0, b"t")]
    elif isinstance(entry, DirEntry):
        options += [replace(entry, content=ContentDigest(entry.content[:-1] + b"z"))]
    elif isinstance(entry, SymlinkEntry):
        options += [replace(entry, target=b"t2")]
    else:
        options += [
            replace(entry, uri=b"u"),
            replace(entry, checksum=b"abc"),
            replace(entry, size=entry.size ^ 1),
        ]
    chosen = data.draw(st.sampled_from(options))
    del other[name]
    if chosen is not None:
        assume(chosen.name not in other)
        other[chosen.name] = chosen
    assert built(other)[0].content != built(model)[0].content


some_pages = some_entries.map(lambda model: list(built(model)[1].data.values()))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_mutated_page_is_refused_or_valid(data):
    page = bytearray(data.draw(st.sampled_from(data.draw(some_pages))))
    original = bytes(page)
    for _ in range(data.draw(st.integers(1, 3))):
        position = data.draw(st.integers(0, len(page) - 1))
        how = data.draw(st.sampled_from(["set", "drop", "insert", "cut"]))
        if how == "set":
            page[position] = data.draw(st.integers(0, 255))
        elif how == "drop" and len(page) > 1:
            del page[position]
        elif how == "insert":
            page.insert(position, data.draw(st.integers(0, 255)))
        elif len(page) > position > 0:
            del page[position:]
    mutated = bytes(page)
    assume(mutated != original)
    try:
        again = decode(mutated)
    except Damaged:
        return
    assert again.encode() == mutated
    # A decoded page can be built with: encode() refuses what a tree cannot hold.
    pages.encode(again, XXH128)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_are_decoded_or_refused(raw):
    try:
        page = decode(b"\x92" + raw)
    except Damaged:
        return
    assert page.encode() == b"\x92" + raw
