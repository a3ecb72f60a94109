"""Differences of two trees: kinds of changes, renames, pages read; changes as plain values."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Mapping
from typing import Any

import pytest
from msgspec.structs import replace

from artfs.model.diff import Change, diff
from artfs.model.entry import DirEntry, Entry
from artfs.model.manifest import describe, walk
from artfs.model.tree import build
from tests.page_store import XXH128, PageStore, file, link, reference


@pytest.fixture
def store() -> PageStore:
    return PageStore()


def manifest(store: PageStore, root: DirEntry) -> dict[str, Any]:
    return {path.decode(): describe(entry) for path, entry in walk(store.reader, root)}


def changes(store: PageStore, old: DirEntry, new: DirEntry) -> list[Change]:
    found = list(diff(store.reader, old, new))
    assert found == [Change.read(json.loads(json.dumps(change.json()))) for change in found]
    return found


def described(store: PageStore, old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Returns the changes as `sort path`, with `old_path >` before the path if there is one."""
    found = changes(store, store.directory(old), store.directory(new))
    return [
        f"{change.change} {change.old_path.decode() + ' > ' if change.old_path else ''}{change.path.decode()}"
        for change in found
    ]


def test_equal_trees_are_not_read(store):
    root = store.directory({"a": "1", "d": {"b": "2"}})
    assert list(diff(store.reader, root, root)) == []
    assert store.fetched == []


def test_added_removed_and_changed_files_are_listed(store):
    old = {"a": "1", "d": {"b": "2", "c": "3"}, "same": {"x": "x"}}
    new = {"a": "11", "d": {"b": "2", "e": "5"}, "same": {"x": "x"}}
    assert described(store, old, new) == ["changed a", "removed d/c", "added d/e"]
    [changed, removed, added] = changes(store, store.directory(old), store.directory(new))
    assert changed.old
    assert changed.new
    assert (changed.old.size, changed.new.size) == (1, 2)
    assert (removed.new, added.old) == (None, None)
    assert added.json()["new"] == {
        "kind": "file",
        "size": 1,
        "mode": "0644",
        "digest": manifest(store, store.directory(new))["d/e"]["digest"],
    }


def test_entries_below_added_and_removed_directories_are_listed(store):
    assert described(store, {"d": {"a": {"b": "1"}}}, {"e": {"c": "2", "f": {}}}) == [
        "removed d",
        "removed d/a",
        "removed d/a/b",
        "added e",
        "added e/c",
        "added e/f",
    ]


def test_changes_are_in_the_order_of_a_walk(store):
    assert described(store, {}, {"a": {"z": "1"}, "a.b": "2", "a-": "3"}) == [
        "added a",
        "added a/z",
        "added a-",
        "added a.b",
    ]


def test_times_owners_and_xattrs_are_ignored(store):
    old = {"a": file("1"), "d": {"b": "1"}}
    other = replace(file("1", mtime_ns=5, uid=7), xattrs=((b"user.x", b"1"),))
    new = {"a": other, "d": replace(store.directory({"b": "1"}), mtime_ns=9)}
    assert described(store, old, new) == []


def test_modes_are_compared(store):
    old = {"a": file("1"), "d": {"b": "1"}, "x": file("x")}
    new = {
        "a": file("1", mode=0o755),
        "d": store.directory({"b": file("1", mode=0o600)}, mode=0o700),
        "x": file("y", mode=0o600),
    }
    assert described(store, old, new) == ["mode a", "mode d", "mode d/b", "changed x"]
    found = changes(store, store.directory(old), store.directory(new))
    assert [(change.old.mode, change.new.mode) for change in found if change.old and change.new] == [
        ("0644", "0755"),
        ("0755", "0700"),
        ("0644", "0600"),
        ("0644", "0600"),
    ]
    assert changes(store, store.directory(old), store.directory(old, mode=0o700)) == []


def test_symlinks_and_references_are_compared(store):
    old = {"l": link(b"a"), "r": reference(b"s3://a"), "moved": link(b"t"), "far": reference(b"s3://b")}
    new = {"l": link(b"b"), "r": reference(b"s3://c"), "to": link(b"t"), "away": reference(b"s3://b")}
    assert described(store, old, new) == [
        "renamed far > away",
        "changed l",
        "changed r",
        "renamed moved > to",
    ]


def test_another_kind_is_a_change(store):
    old = {"a": "1", "b": {"x": "2", "y": "3"}, "c": link(b"a")}
    new = {"a": {"z": "1"}, "b": "2", "c": {}}
    assert described(store, old, new) == [
        "kind a",
        "added a/z",
        "kind b",
        "removed b/x",
        "removed b/y",
        "kind c",
    ]


def test_renamed_files_are_paired(store):
    assert described(store, {"a": "1", "b": "2"}, {"c": "2", "d": "1"}) == ["renamed b > c", "renamed a > d"]
    assert described(store, {"a": "1"}, {"a": "1", "copy": "1"}) == ["added copy"]
    assert described(store, {"a": "1"}, {"b": file("1", mode=0o600)}) == ["renamed a > b"]


def test_renames_pair_equal_names_first_then_by_order(store):
    old = {"1": {"x": "same"}, "2": {"y": "same", "k": ""}, "p": "same"}
    new = {"3": {"y": "same", "l": "1"}, "4": {"z": "same", "m": "2"}}
    assert described(store, old, new) == [
        "removed 1",
        "removed 2",
        "removed 2/k",
        "added 3",
        "added 3/l",
        "renamed 2/y > 3/y",
        "added 4",
        "added 4/m",
        "renamed 1/x > 4/z",
        "removed p",
    ]


def test_a_renamed_directory_is_one_change_and_is_not_read(store):
    big = {f"{i}": f"{i}" for i in range(3000)}
    old = store.directory({"a": big, "k": "1"})
    new = store.directory({"b": big, "k": "1"})
    store.fetched.clear()
    [change] = diff(store.reader, old, new)
    assert (change.change, change.old_path, change.path) == ("renamed", b"a", b"b")
    assert store.fetched == [old.tree, new.tree]
    assert [change] == changes(store, old, new)


def test_directories_moved_into_and_out_of_others_are_renames(store):
    deep = {"x": {"y": "1", "z": "2"}, "w": "3"}
    assert described(store, {"a": deep}, {"new": {"a": deep, "more": "4"}}) == [
        "added new",
        "renamed a > new/a",
        "added new/more",
    ]
    assert described(store, {"old": {"a": deep, "gone": "4"}}, {"b": deep}) == [
        "renamed old/a > b",
        "removed old",
        "removed old/gone",
    ]


def test_a_renamed_and_changed_directory_is_listed_by_entries(store):
    old = {"a": {"x": "1", "y": "2", "s": {"t": "3"}}}
    new = {"b": {"x": "1", "y": "changed", "s": {"t": "3"}}}
    assert described(store, old, new) == [
        "removed a",
        "removed a/y",
        "added b",
        "renamed a/s > b/s",
        "renamed a/x > b/x",
        "added b/y",
    ]


def test_modes_below_a_renamed_directory_are_changes(store):
    old = {"a": {"s": {"x": "1", "y": "2"}}}
    new = {"b": store.directory({"s": {"x": file("1", mode=0o600), "y": "2"}}, mode=0o700)}
    assert described(store, old, new) == ["renamed a > b", "mode a/s/x > b/s/x"]


def test_names_need_not_be_utf8(store: PageStore):
    def root(text: str) -> DirEntry:
        return store.directory_of([file(text, name=b"caf\xe9")])

    [change] = diff(store.reader, root("1"), root("2"))
    assert change.json()["path"] == "caf\udce9"
    assert Change.read(change.json()) == change


def flat(store: PageStore, count: int) -> DirEntry:
    return store.directory_of([file(str(i), name=b"file-%07d" % i) for i in range(count)])


@pytest.mark.parametrize(
    "edit",
    [
        {b"file-0012345": file("changed", name=b"file-0012345")},
        {b"file-0012345": None},
        {b"file-0012345x": file("more", name=b"file-0012345x")},
        {b"": None, b"a": file("first", name=b"a")},
        {b"z": file("last", name=b"z")},
    ],
)
def test_few_pages_of_a_large_directory_are_read(store, edit):
    old = flat(store, 40_000)
    edited = store.reader.update(old.tree, edit, store.put).directory(b"", 0o755, 0, 0, 0)
    store.fetched.clear()
    [change] = diff(store.reader, old, edited)
    assert change.path in edit
    assert len(store.pages) > 50
    assert len(store.fetched) <= 8


def test_few_pages_of_a_deep_tree_are_read(store):
    tree = {
        f"d{i}": {f"e{j}": {f"f{k}": f"{i}{j}{k}" for k in range(10)} for j in range(10)} for i in range(10)
    }
    old = store.directory(tree)
    tree["d5"]["e5"]["f5"] = "changed"
    new = store.directory(tree)
    store.fetched.clear()
    assert [change.path for change in diff(store.reader, old, new)] == [b"d5/e5/f5"]
    assert len(store.fetched) == 6


def test_one_page_and_many_pages_are_compared(store):
    small, large = flat(store, 1000), flat(store, 3000)
    assert [change.change for change in diff(store.reader, small, large)] == ["added"] * 2000
    assert [change.change for change in diff(store.reader, large, small)] == ["removed"] * 2000
    empty = flat(store, 0)
    assert len(list(diff(store.reader, empty, large))) == len(list(diff(store.reader, large, empty))) == 3000


def test_a_deep_tree_takes_bounded_memory() -> None:
    levels, name, store = 600, b"d" * 250, PageStore()

    def chain(text: str) -> DirEntry:
        below = build([file(text, name=b"f")], XXH128, store.put)
        for _ in range(levels):
            entries: list[Entry] = [below.directory(name, 0o755, 0, 0, 0), file(text, name=b"f")]
            below = build(entries, XXH128, store.put)
        return below.directory(b"", 0o755, 0, 0, 0)

    none, one, other = store.directory({}), chain("one"), chain("other")
    store.pages = dict(store.pages)
    tracemalloc.start()
    try:
        for old, new in ((none, one), (one, none), (one, other)):
            count = (levels if new is other else 2 * levels) + 1
            assert sum(1 for _ in diff(store.reader, old, new)) == count
        assert sum(1 for _ in walk(store.reader, one)) == 2 * levels + 1
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
