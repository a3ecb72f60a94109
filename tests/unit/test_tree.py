"""Directories as trees of pages, in their real sizes: which pages there are, which are read and put."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
from msgspec.structs import replace
from xxhash import xxh3_64_intdigest

from artfs.errors import Damaged
from artfs.model.digest import Algorithm, TreeId, blob_id, tree_id
from artfs.model.entry import DirEntry, Entry, FileEntry, PageSummary
from artfs.model.pages import LEAF_MAX, LEAF_MIN, ONE_PAGE, Index, Leaf
from artfs.model.tree import build
from tests.page_store import XXH128, PageStore


class Store(PageStore):
    """Checks each page that is put, and keeps its bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.data: dict[TreeId, bytes] = {}

    def put(self, tree: TreeId, data: bytes) -> None:
        assert tree == tree_id(Algorithm.coded(tree[0]), data)
        super().put(tree, data)
        self.data[tree] = data
        if isinstance(page := self.pages[tree], Index):
            assert all(item.tree in self.pages for item in page.items)


@pytest.fixture
def store() -> Store:
    return Store()


def file(name: bytes, size: int = 1, mtime_ns: int = 0) -> FileEntry:
    return FileEntry(name, 0o644, 0, 0, mtime_ns, size, blob_id(XXH128, XXH128.digest(name + b"%d" % size)))


def files(count: int, pattern: bytes = b"file-%07d") -> list[Entry]:
    return [file(pattern % i) for i in range(count)]


def rebuilt(entries: Mapping[bytes, Entry]) -> tuple[PageSummary, Store]:
    fresh = Store()
    return build([entries[name] for name in sorted(entries)], XXH128, fresh.put), fresh


def test_an_empty_directory_is_one_empty_leaf(store):
    summary = build([], XXH128, store.put)
    assert list(store.data.values()) == [bytes.fromhex("920090")]
    assert (summary.names, summary.entries, summary.files, summary.bytes) == (0, 0, 0, 0)
    assert list(store.reader.entries(summary.tree)) == []
    assert store.reader.find(summary.tree, b"a") is None
    for offset in (-1, 0, 1):
        with pytest.raises(IndexError):
            store.reader.at(summary.tree, offset)


@pytest.mark.parametrize("algorithm", list(Algorithm))
def test_ids_contain_the_algorithm(store, algorithm):
    summary = build(files(2000), algorithm, store.put)
    assert {tree[0] for tree in store.data} == {algorithm.code} == {summary.content[0]}
    changed = store.reader.update(summary.tree, {b"new": file(b"new")}, store.put)
    assert (changed.tree[0], changed.content[0]) == (algorithm.code, algorithm.code)


def test_a_directory_of_up_to_a_thousand_entries_is_one_page(store):
    build(files(ONE_PAGE), XXH128, store.put)
    assert len(store.data) == 1
    assert ONE_PAGE == 1000


def test_a_large_directory_has_index_pages(store):
    summary = build(files(30_000), XXH128, store.put)
    root = store.pages[summary.tree]
    assert isinstance(root, Index)
    assert root.level == 1
    leaves = [page for page in store.pages.values() if isinstance(page, Leaf)]
    assert len(leaves) == len(root)
    assert sum(map(len, leaves)) == 30_000
    assert 30 <= len(leaves) <= 90
    assert all(LEAF_MIN <= len(leaf) <= LEAF_MAX for leaf in leaves if leaf.last != summary.last)


def test_entries_must_be_sorted_unique_and_valid(store):
    for entries in (
        [file(b"b"), file(b"a")],
        [file(b"a"), file(b"a")],
        [file(b"")],
        [file(b".artfs")],
        [*files(5000), file(b"file-0004999")],
        [*files(20_000), file(b"file-0000000")],
        [*files(5000, b"a-%05d"), *files(5000, b"a-%05d")],
        [replace(file(b"a"), mode=0o4755)],
        [replace(file(b"a"), mtime_ns=2**64)],
    ):
        with pytest.raises(ValueError):
            build(entries, XXH128, store.put)


def test_building_reads_entries_lazily(store):
    taken, most = 0, 0

    def source():
        nonlocal taken, most
        for taken, entry in enumerate(files(50_000), 1):
            most = max(most, taken - sum(map(len, (p for p in store.pages.values() if p.level == 0))))
            yield entry

    build(source(), XXH128, store.put)
    assert taken == 50_000
    assert most <= 4 * LEAF_MAX


def test_a_change_rewrites_one_page_and_its_ancestors(store):
    entries = {entry.name: entry for entry in files(200_000)}
    summary, store = rebuilt(entries)
    root = store.pages[summary.tree]
    assert root.level == 2
    for name, entry in (
        (b"file-0100000", file(b"file-0100000", 7)),
        (b"file-0000000", file(b"file-0000000", mtime_ns=7)),
        (b"file-0199999", file(b"file-0199999", 7)),
    ):
        store.fetched.clear()
        store.put_pages.clear()
        changed = store.reader.update(summary.tree, {name: entry}, store.put)
        assert [store.pages[tree].level for tree in store.put_pages] == [0, 1, 2]
        assert len(set(store.fetched)) == 3
        assert changed == rebuilt(entries | {name: entry})[0]
    for name in (b"file-0100000x", b"a", b"z"):
        store.fetched.clear()
        store.put_pages.clear()
        store.reader.update(summary.tree, {name: file(name)}, store.put)
        assert len(store.put_pages) <= 3 + 2
        assert len(set(store.fetched)) <= 3 + 2


def test_an_update_without_changes_puts_nothing(store):
    for count in (0, 10, 5000):
        summary = build(files(count), XXH128, store.put)
        store.put_pages.clear()
        same = {entry.name: entry for entry in files(count)[:7]} | {b"none": None}
        assert store.reader.update(summary.tree, {}, store.put) == summary
        assert store.reader.update(summary.tree, same, store.put) == summary
        assert store.reader.summary(summary.tree) == summary
        assert store.put_pages == []


def test_missing_names_do_not_cause_reading_everything(store):
    summary = build(files(1500), XXH128, store.put)
    store.put_pages.clear()
    changes: dict[bytes, Entry | None] = {b"none-%d" % i: None for i in range(1000)}
    changes[b"file-0000000"] = file(b"file-0000000", 7)
    store.reader.update(summary.tree, changes, store.put)
    assert len(store.put_pages) == 2


@pytest.mark.parametrize("count", [ONE_PAGE - 1, ONE_PAGE, ONE_PAGE + 1, ONE_PAGE + 2])
def test_directories_can_grow_and_shrink_across_the_threshold(count):
    # Several of these names cut, once pages are cut.
    entries = {entry.name: entry for entry in files(count, b"n%04d")}
    summary, store = rebuilt(entries)
    assert (len(store.pages) > 1) == (count > ONE_PAGE)
    for changes in (
        {b"n0500": None},
        {b"n0500": None, b"n0998": None},
        {b"n0500": None, b"new": file(b"new")},
        {b"new": file(b"new")},
        {b"new": file(b"new"), b"other": file(b"other")},
        dict.fromkeys(entries),
        {**dict.fromkeys(entries), b"new": file(b"new")},
        {**dict.fromkeys(entries), **{entry.name: entry for entry in files(1200, b"new-%d")}},
    ):
        result = {name: entry for name, entry in {**entries, **changes}.items() if entry is not None}
        expected, fresh = rebuilt(result)
        assert store.reader.update(summary.tree, changes, store.put) == expected
        assert fresh.data.items() <= store.data.items()


def test_names_that_never_cut_make_full_pages():
    plain = [b"%07d" % i for i in range(3 * LEAF_MAX) if xxh3_64_intdigest(b"%07d" % i) % 512]
    entries = {name: file(name) for name in plain}
    summary, store = rebuilt(entries)
    for changes in ({plain[0]: None}, {b"0": file(b"0")}, {plain[LEAF_MAX]: None}, {plain[-1]: None}):
        result = {name: entry for name, entry in {**entries, **changes}.items() if entry is not None}
        assert store.reader.update(summary.tree, changes, store.put) == rebuilt(result)[0]


def test_names_that_always_cut_make_no_tiny_pages():
    cutting = [name for name in (b"%07d" % i for i in range(1_200_000)) if not xxh3_64_intdigest(name) % 512]
    entries = {name: file(name) for name in cutting}
    summary, store = rebuilt(entries)
    leaves = [page for page in store.pages.values() if isinstance(page, Leaf)]
    assert all(len(leaf) >= LEAF_MIN for leaf in leaves if leaf.last != summary.last)
    result = {name: entry for name, entry in entries.items() if name != cutting[3]}
    assert store.reader.update(summary.tree, {cutting[3]: None}, store.put) == rebuilt(result)[0]


def test_an_entry_has_its_own_name(store):
    summary = build([], XXH128, store.put)
    with pytest.raises(ValueError, match="was given for"):
        store.reader.update(summary.tree, {b"a": file(b"b")}, store.put)


def test_an_illegal_entry_puts_nothing(store):
    summary = build(files(5000), XXH128, store.put)
    store.put_pages.clear()
    changes: dict[bytes, Entry | None] = {entry.name: None for entry in files(10)}
    with pytest.raises(ValueError, match="artfs"):
        store.reader.update(summary.tree, changes | {b".artfs": file(b".artfs")}, store.put)
    assert store.put_pages == []


def test_offsets_leave_room_for_what_is_below(store):
    below = build(files(3), XXH128, store.put)
    directory = below.directory(b"b", 0o755, 0, 0, 0)
    summary = build([file(b"a"), directory, file(b"c")], XXH128, store.put)
    assert (summary.names, summary.entries, summary.files, summary.bytes) == (3, 6, 5, 5)
    assert [offset for offset, _ in store.reader.entries(summary.tree)] == [1, 2, 6]
    assert [store.reader.at(summary.tree, offset)[0] for offset in range(1, 7)] == [1, 2, 2, 2, 2, 6]
    assert store.reader.find(summary.tree, b"c") == (6, file(b"c"))
    assert [offset for offset, _ in store.reader.entries(summary.tree, 2)] == [2, 6]
    assert [offset for offset, _ in store.reader.entries(summary.tree, 3)] == [6]
    assert list(store.reader.entries(summary.tree, 7)) == []


def test_reading_one_entry_reads_one_page_of_each_level(store):
    summary = build(files(30_000), XXH128, store.put)
    store.fetched.clear()
    assert store.reader.find(summary.tree, b"file-0012345") == (12346, file(b"file-0012345"))
    assert store.reader.at(summary.tree, 12346) == (12346, file(b"file-0012345"))
    assert next(store.reader.entries(summary.tree, 12346)) == (12346, file(b"file-0012345"))
    assert len(store.fetched) == 6
    assert store.reader.find(summary.tree, b"z") is None
    assert store.reader.find(summary.tree, b"file-0012345x") is None


Change = Callable[[PageSummary], PageSummary]


@pytest.mark.parametrize(
    "change",
    [
        lambda item: replace(item, last=item.last + b"x"),
        lambda item: replace(item, names=item.names - 1),
        lambda item: replace(item, entries=item.entries + 1),
    ],
)
def test_a_page_that_differs_from_its_parents_record_is_damaged(store, change: Change):
    summary = build(files(3000), XXH128, store.put)
    root = store.pages[summary.tree]
    assert isinstance(root, Index)
    lie = Index(1, [change(root.items[0]), *root.items[1:]])
    store.pages[summary.tree] = lie
    for read in (
        lambda: store.reader.find(summary.tree, b"a"),
        lambda: list(store.reader.entries(summary.tree)),
        lambda: store.reader.at(summary.tree, 1),
        lambda: store.reader.update(summary.tree, {b"a": file(b"a")}, store.put),
    ):
        with pytest.raises(Damaged, match="page above"):
            read()


def test_a_page_of_the_wrong_level_is_damaged(store):
    summary = build(files(3000), XXH128, store.put)
    upside_down = Index(2, store.pages[summary.tree].items)
    store.pages[summary.tree] = upside_down
    with pytest.raises(Damaged):
        store.reader.find(summary.tree, b"a")


def test_the_content_digest_of_a_tree_sees_through_directories(store):
    def version(mode: int, mtime_ns: int, size: int) -> DirEntry:
        inner = build([replace(file(b"f", size), mode=mode, mtime_ns=mtime_ns)], XXH128, store.put)
        outer = build([inner.directory(b"d", mode | 0o100, 5, 5, mtime_ns)], XXH128, store.put)
        return outer.directory(b"", 0o755, 0, 0, mtime_ns)

    one = version(0o644, 1, 1)
    assert version(0o600, 2, 1).content == one.content
    assert version(0o600, 2, 1).tree != one.tree
    assert version(0o644, 1, 2).content != one.content
    assert version(0o744, 1, 1).content != one.content
