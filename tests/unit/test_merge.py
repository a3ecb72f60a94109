"""Merges of three trees: precedence, conflicts, ours_wins; pages read, and trees of any depth."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from msgspec.structs import replace

from artfs.model.entry import DirEntry, Entry
from artfs.model.manifest import find
from artfs.model.merge import Conflict, Merged, merge, never
from tests.page_store import PageStore, file, link, reference


class Store(PageStore):
    def merge(self, *sides: DirEntry, ours_wins: Callable[[Conflict], bool] = never) -> Merged:
        """Merges; records from here on what is fetched and put."""
        self.fetched.clear()
        self.put_pages.clear()
        base, ours, theirs = sides
        return merge(self.reader, base, ours, theirs, self.put, ours_wins=ours_wins)


def xattrs(**values: str) -> tuple[tuple[bytes, bytes], ...]:
    return tuple(sorted((b"user." + name.encode(), value.encode()) for name, value in values.items()))


RUN = b"user.artfs.run"


@pytest.fixture
def store() -> Store:
    return Store()


def described(conflicts: list[Conflict]) -> list[str]:
    return [f"{c.path.decode()}: {c.ours} / {c.theirs}" for c in conflicts]


def always(_: Conflict) -> bool:
    return True


# -- without conflicts


@pytest.mark.parametrize(
    ("base", "ours", "theirs", "expected"),
    [
        ("1", "1", "2", "2"),
        ("1", "2", "1", "2"),
        ("1", "2", "2", "2"),
        ("1", None, "1", None),
        ("1", "1", None, None),
        ("1", None, None, None),
        (None, "1", None, "1"),
        (None, None, "1", "1"),
        (None, "1", "1", "1"),
        ("1", "1", {"x": "2"}, {"x": "2"}),
        ({"x": "2"}, "1", {"x": "2"}, "1"),
        ({"x": "2"}, {"x": "2"}, None, None),
        ("1", {"x": "2"}, {"x": "2"}, {"x": "2"}),
        (file("1"), file("1", mode=0o755), file("1"), file("1", mode=0o755)),
        (file("1"), file("1"), file("1", xattrs=xattrs(a="1")), file("1", xattrs=xattrs(a="1"))),
        (link(b"a"), link(b"a"), link(b"b"), link(b"b")),
        (reference(), reference(b"s3://b"), reference(), reference(b"s3://b")),
    ],
)
@pytest.mark.parametrize("more", [False, True])
def test_changes_of_one_side_and_equal_changes_are_merged(store: Store, base, ours, theirs, expected, more):
    """They are merged alone, and together with other changes on both sides."""
    others = [{"o": "1", "t": "1"}, {"o": "2", "t": "1"}, {"o": "1", "t": "2"}, {"o": "2", "t": "2"}]
    sides = [
        store.directory({"k": "k", "p": entry, **(other if more else {})})
        for entry, other in zip((base, ours, theirs, expected), others, strict=True)
    ]
    assert store.merge(*sides[:3]) == (sides[3], [])


def test_directories_are_merged_by_name(store: Store):
    base = {"a": "1", "b": "1", "c": "1", "d": {"e": {"f": "1", "g": "1"}, "h": "1"}, "k": {"l": "1"}}
    ours = {"a": "2", "b": "1", "new": "1", "d": {"e": {"f": "2", "g": "1"}}, "k": {"l": "1"}, "c": "1"}
    theirs = {"a": "1", "b": "2", "d": {"e": {"f": "1", "g": "2"}, "h": "1", "i": {}}, "k": {"l": "2"}}
    merged = {"a": "2", "b": "2", "new": "1", "d": {"e": {"f": "2", "g": "2"}, "i": {}}, "k": {"l": "2"}}
    found = store.merge(*map(store.directory, (base, ours, theirs)))
    assert found == (store.directory(merged), [])


def test_directories_that_both_added_are_merged(store: Store):
    ours = {"d": {"a": "1", "same": "1", "e": {"x": "1"}}}
    theirs = {"d": {"b": "1", "same": "1", "e": {"y": "1"}}}
    merged = {"d": {"a": "1", "b": "1", "same": "1", "e": {"x": "1", "y": "1"}}}
    found = store.merge(*map(store.directory, ({}, ours, theirs)))
    assert found == (store.directory(merged), [])


def test_a_directory_that_becomes_empty_is_kept(store: Store):
    found = store.merge(
        *map(store.directory, ({"d": {"a": "1", "b": "1"}}, {"d": {"a": "1"}}, {"d": {"b": "1"}}))
    )
    assert found == (store.directory({"d": {}}), [])


def test_attributes_of_a_directory_are_merged_apart_from_its_content(store: Store):
    def root(entries: dict[str, str], **attributes: Any) -> DirEntry:
        return store.directory({"d": store.directory(entries, **attributes)}, **attributes)

    marks: dict[str, Any] = {"mode": 0o700, "xattrs": xattrs(a="1")}
    base, both = root({"a": "1", "b": "1"}), root({"a": "2", "b": "2"}, **marks)
    one, other = {"a": "2", "b": "1"}, {"a": "1", "b": "2"}
    assert store.merge(base, root(one, **marks), root(other)) == (both, [])
    assert store.merge(base, root(one), root(other, **marks)) == (both, [])
    assert store.merge(base, root(one, **marks), root(other, **marks)) == (both, [])
    # One side changed the attributes alone, the other the content alone.
    only = root({"a": "1", "b": "1"}, **marks)
    assert store.merge(base, root(one), only) == (root(one, **marks), [])
    assert store.merge(base, only, root(one)) == (root(one, **marks), [])


def test_the_reach_of_a_merged_directory_follows_its_mode_and_owner(store: Store):
    """Who can list a directory depends on whose mode and owner it gets."""
    below = {"d": store.directory({"x": "1"}, uid=7)}
    base, ours = store.directory({**below, "a": "1"}), store.directory({**below, "a": "1"}, uid=7, mode=0o750)
    theirs = store.directory({**below, "a": "2"})
    expected = store.directory({**below, "a": "2"}, uid=7, mode=0o750)
    assert store.merge(base, ours, theirs) == (expected, [])
    assert store.merge(base, theirs, ours) == (expected, [])
    assert expected.reach not in (base.reach, theirs.reach)
    group = store.directory({**below, "a": "1"}, gid=7)
    assert store.merge(base, group, theirs) == (store.directory({**below, "a": "2"}, gid=7), [])


# -- what is not significant


@pytest.mark.parametrize("field", ["uid", "gid", "mtime_ns"])
@pytest.mark.parametrize("make", [file, link, reference])
def test_insignificant_fields_come_from_the_changed_side_else_from_ours(store: Store, make, field):
    content = {file: "1", link: b"1", reference: b"1"}[make]

    def root(value: int) -> DirEntry:
        return store.directory({"p": make(content, **{field: value})})

    for base, ours, theirs, expected in ((0, 0, 1, 1), (0, 1, 0, 1), (0, 1, 2, 1), (0, 2, 1, 2)):
        assert store.merge(root(base), root(ours), root(theirs)) == (root(expected), [])
    for ours, theirs in ((1, 2), (2, 1)):
        assert store.merge(store.directory({}), root(ours), root(theirs)) == (root(ours), [])


def test_runs_do_not_conflict(store: Store):
    def root(run: bytes | None, *more: tuple[bytes, bytes]) -> DirEntry:
        runs = ((RUN, run),) if run is not None else ()
        return store.directory({"p": file("1", xattrs=(*runs, *more))})

    for base, ours, theirs, expected in (
        (None, b"1", b"2", b"1"),
        (None, None, b"2", b"2"),
        (b"0", None, b"0", None),
        (b"0", None, b"2", None),
        (b"0", b"0", None, None),
    ):
        assert store.merge(root(base), root(ours), root(theirs)) == (root(expected), [])
    # Other xattrs of one side are kept with its run.
    more = (b"user.x", b"1")
    assert store.merge(root(None), root(b"1"), root(b"2", more)) == (root(b"2", more), [])
    assert store.merge(root(b"0"), root(b"1"), root(b"0", more)) == (root(b"0", more), [])


def test_mtime_and_run_but_not_the_owner_follow_a_change(store: Store):
    base = store.directory({"p": file("1", mtime_ns=1)})
    changed = file("2", mtime_ns=2, xattrs=((RUN, b"1"),), gid=3)
    touched = file("1", mtime_ns=9, xattrs=((RUN, b"9"),), uid=9, gid=9)
    one, other = store.directory({"p": changed}), store.directory({"p": touched})
    assert store.merge(base, one, other) == (store.directory({"p": replace(changed, uid=9)}), [])
    assert store.merge(base, other, one) == (store.directory({"p": replace(changed, uid=9, gid=9)}), [])
    # This holds also if the changed side kept the old time.
    kept = store.directory({"p": file("2", mtime_ns=1)})
    assert store.merge(base, kept, other).root == store.directory({"p": file("2", mtime_ns=1, uid=9, gid=9)})


@pytest.mark.parametrize("make", [file, link, reference])
def test_insignificant_fields_are_merged_separately(store: Store, make):
    content = {file: "1", link: b"1", reference: b"1"}[make]
    base, one, other, both = (
        store.directory({"p": make(content, **fields)})
        for fields in ({}, {"uid": 1}, {"gid": 2, "mtime_ns": 3}, {"uid": 1, "gid": 2, "mtime_ns": 3})
    )
    assert store.merge(base, one, other) == (both, [])
    assert store.merge(base, other, one) == (both, [])


def test_equal_directories_in_place_of_a_file_are_no_conflict(store: Store):
    def root(mtime_ns: int) -> DirEntry:
        below = store.directory({"x": file("1", mtime_ns=mtime_ns)}, uid=mtime_ns)
        return store.directory({"d": below})

    base = store.directory({"d": "1"})
    for ours, theirs in ((1, 2), (2, 1)):
        assert store.merge(base, root(ours), root(theirs)) == (root(ours), [])


def test_equal_changes_get_the_later_time(store: Store):
    base = store.directory({"p": file("1")})
    one, other = store.directory({"p": file("2", mtime_ns=1)}), store.directory({"p": file("2", mtime_ns=2)})
    assert store.merge(base, one, other) == (one, [])
    assert store.merge(base, other, one) == (other, [])


@pytest.mark.parametrize(
    ("base", "ours", "theirs", "expected"),
    [(5, 5, 6, 6), (5, 6, 5, 6), (5, 3, 5, 3), (5, 7, 6, 7), (5, 6, 7, 7), (5, 3, 4, 4)],
)
def test_a_merged_directory_has_the_later_time(store: Store, base, ours, theirs, expected):
    def root(a: str, b: str, mtime_ns: int) -> DirEntry:
        return store.directory({"d": store.directory({"a": a, "b": b}, mtime_ns=mtime_ns)}, mtime_ns=mtime_ns)

    sides = root("1", "1", base), root("2", "1", ours), root("1", "2", theirs)
    assert store.merge(*sides) == (root("2", "2", expected), [])


def test_a_directory_that_both_added_has_the_later_time(store: Store):
    def root(mtime_ns: int, **entries: str) -> DirEntry:
        return store.directory({"d": store.directory(entries, mtime_ns=mtime_ns)})

    for ours, theirs in ((1, 2), (2, 1)):
        sides = store.directory({}), root(ours, a="1"), root(theirs, b="1")
        assert store.merge(*sides) == (root(2, a="1", b="1"), [])


def test_a_directory_that_one_side_changed_has_the_time_of_that_side(store: Store):
    def root(a: str, mtime_ns: int) -> DirEntry:
        return store.directory({"a": a}, mtime_ns=mtime_ns)

    for ours, theirs in ((root("2", 1), root("1", 9)), (root("1", 9), root("2", 1))):
        assert store.merge(root("1", 0), ours, theirs) == (root("2", 1), [])
    touched, moded = root("1", 9), replace(root("1", 1), mode=0o775)
    assert moded == store.directory({"a": "1"}, mode=0o775, mtime_ns=1)
    assert store.merge(root("1", 0), touched, moded) == (moded, [])
    assert store.merge(root("1", 0), moded, touched) == (moded, [])


def test_only_touched_entries_can_be_removed_and_replaced(store: Store):
    def touched(mtime_ns: int) -> DirEntry:
        below = store.directory({"x": file("1", mtime_ns=mtime_ns, uid=mtime_ns), "y": {}})
        return store.directory({"d": store.directory({"e": below}), "f": file("1", mtime_ns=mtime_ns)})

    for entries in ({}, {"d": "1"}, {"d": link(b"d"), "f": {"d": {}}}):
        gone = store.directory(entries)
        assert store.merge(touched(0), gone, touched(5)) == (gone, [])
        assert store.merge(touched(0), touched(5), gone) == (gone, [])


# -- conflicts


@pytest.mark.parametrize(
    ("base", "ours", "theirs", "expected"),
    [
        ("1", "2", "3", "changed / changed"),
        ("1", "2", None, "changed / removed"),
        ("1", None, "2", "removed / changed"),
        (None, "1", "2", "added / added"),
        (None, "1", {}, "added / added"),
        ("1", {}, "2", "replaced by a directory / changed"),
        ("1", "2", link(b"x"), "changed / replaced by a symlink"),
        ("1", reference(), None, "replaced by a reference / removed"),
        ({"x": "1"}, "1", {"x": "2"}, "replaced by a file / changed"),
        ({"x": "1"}, {"x": "1", "y": "1"}, "1", "changed / replaced by a file"),
        ({"x": "1"}, None, "1", "removed / replaced by a file"),
        ({"x": "1"}, "1", {"x": file("1", mode=0o600)}, "replaced by a file / changed"),
        ({"x": "1"}, "1", {"x": file("1", xattrs=xattrs(a="1"))}, "replaced by a file / changed"),
        ("1", {"x": "1"}, {"x": "2"}, "replaced by a directory / replaced by a directory"),
        ("1", {"x": "1"}, {"x": file("1", mode=0o600)}, "replaced by a directory / replaced by a directory"),
        (file("1"), file("1", mode=0o600), file("1", mode=0o640), "mode changed / mode changed"),
        (file("1"), file("2"), file("1", mode=0o640), "changed / mode changed"),
        (file("1"), file("1", xattrs=xattrs(a="1")), file("1", mode=0o600), "xattrs changed / mode changed"),
        (link(b"a"), link(b"b"), link(b"c"), "changed / changed"),
        (reference(), reference(b"s3://b"), reference(b"s3://c"), "changed / changed"),
        (reference(), reference(checksum=b"1"), reference(size=4), "changed / changed"),
        # The same bytes as another kind of entry.
        ("1", link(file("2").blob), file("2", mode=0o777), "replaced by a symlink / changed"),
    ],
)
def test_conflicting_changes_collide(store: Store, base, ours, theirs, expected):
    sides = [store.directory({"d": {"p": entry}}) for entry in (base, ours, theirs)]
    assert described(store.merge(*sides).conflicts) == [f"d/p: {expected}"]
    assert store.put_pages == []
    assert store.merge(*sides, ours_wins=always) == (sides[1], [])


def test_modes_and_xattrs_of_directories_conflict_at_their_path(store: Store):
    def root(mode: int, content: str, attributes: tuple[tuple[bytes, bytes], ...] = ()) -> DirEntry:
        below = store.directory({"x": content}, mode=mode, xattrs=attributes)
        return store.directory({"d": below}, mode=mode, xattrs=attributes)

    sides = root(0o755, "1"), root(0o700, "1"), root(0o750, "2")
    assert described(store.merge(*sides).conflicts) == [
        ": mode changed / mode changed",
        "d: mode changed / mode changed",
    ]
    assert store.merge(*sides, ours_wins=always) == (root(0o700, "2"), [])
    sides = root(0o755, "1"), root(0o700, "1"), root(0o755, "2", xattrs(a="1"))
    assert described(store.merge(*sides).conflicts)[1] == "d: mode changed / xattrs changed"
    only = store.directory({})
    assert described(store.merge(only, root(0o700, "1"), root(0o750, "1")).conflicts) == [
        ": mode changed / mode changed",
        "d: added with another mode / added with another mode",
    ]
    found = store.merge(only, root(0o755, "1", xattrs(a="1")), root(0o755, "2", xattrs(a="2")))
    assert described(found.conflicts) == [
        ": xattrs changed / xattrs changed",
        "d: added with other xattrs / added with other xattrs",
        "d/x: added / added",
    ]


def test_changes_in_a_replaced_directory_collide(store: Store):
    def did(directory: DirEntry) -> str:
        base, ours = store.directory({"d": {"x": "1"}}), store.directory({"d": "1"})
        [conflict] = store.merge(base, ours, store.directory({"d": directory})).conflicts
        return conflict.theirs

    assert did(store.directory({"x": "1"}, mode=0o700)) == "mode changed"
    assert did(store.directory({"x": file("1", mtime_ns=5)}, mode=0o700)) == "mode changed"
    assert did(store.directory({"x": "1"}, xattrs=xattrs(a="1"))) == "xattrs changed"
    assert did(store.directory({"x": "2"}, mode=0o700)) == "changed"
    assert did(store.directory({"x": file("1", mode=0o600)})) == "changed"


def test_conflicts_are_in_the_order_of_paths(store: Store):
    def root(content: str) -> DirEntry:
        return store.directory({"a": {"z": content}, "a-": content, "a.b": content, "b": {"a": content}})

    found = store.merge(root("1"), root("2"), root("3")).conflicts
    assert [conflict.path for conflict in found] == [b"a/z", b"a-", b"a.b", b"b/a"]


# -- removed directories

_BASE = {
    "d": {"a": "1", "b": "1", "gone": "1", "e": {"f": "1", "g": "1"}, "same": {"x": "1"}, "k": {"l": "1"}}
}
_CHANGED = {
    "d": {"a": "2", "b": "1", "e": {"f": "1", "g": "1", "n": {"o": "1"}}, "same": {"x": "1"}, "k": "1"}
}
_PATHS = {"d/a": "changed", "d/e/n": "added", "d/k": "replaced by a file"}


def test_each_change_in_a_directory_that_ours_removed_is_a_conflict(store: Store):
    base, ours, theirs = map(store.directory, (_BASE, {}, _CHANGED))
    found = store.merge(base, ours, theirs)
    assert described(found.conflicts) == [f"{path}: removed / {did}" for path, did in _PATHS.items()]
    assert all(conflict.entry for conflict in found.conflicts)
    assert store.merge(base, ours, theirs, ours_wins=always) == (ours, [])


def test_each_change_in_a_directory_that_theirs_removed_is_a_conflict(store: Store):
    base, ours, theirs = map(store.directory, (_BASE, _CHANGED, {}))
    found = store.merge(base, ours, theirs)
    assert described(found.conflicts) == [f"{path}: {did} / removed" for path, did in _PATHS.items()]
    assert {conflict.entry for conflict in found.conflicts} == {""}


def test_a_directory_that_theirs_removed_keeps_only_our_changes(store: Store):
    attributes: dict[str, Any] = {"uid": 5, "mtime_ns": 7, "xattrs": ((RUN, b"r"),)}
    ours = store.directory({"d": store.directory(_CHANGED["d"], **attributes), "k": "1"})
    base, theirs = store.directory({**_BASE, "k": "1"}), store.directory({"k": "2"})
    left = store.directory({"a": "2", "e": {"n": {"o": "1"}}, "k": "1"}, **attributes)
    assert store.merge(base, ours, theirs, ours_wins=always) == (store.directory({"d": left, "k": "2"}), [])


def test_lost_changes_in_a_removed_directory_are_listed(store: Store):
    def all_but_a(conflict: Conflict) -> bool:
        return conflict.path != b"d/a"

    base, changed, empty = map(store.directory, (_BASE, _CHANGED, {}))
    found = store.merge(base, changed, empty, ours_wins=all_but_a)
    assert described(found.conflicts) == ["d/a: changed / removed"]
    assert store.put_pages == []
    found = store.merge(base, empty, changed, ours_wins=all_but_a)
    assert described(found.conflicts) == ["d/a: removed / changed"]


def test_a_changed_mode_of_a_removed_directory_collides(store: Store):
    def root(mode: int) -> DirEntry:
        return store.directory({"d": {"e": store.directory({"x": "1"}, mode=mode), "y": "1"}})

    base, changed, empty = root(0o755), root(0o700), store.directory({})
    assert described(store.merge(base, changed, empty).conflicts) == ["d/e: mode changed / removed"]
    assert described(store.merge(base, empty, changed).conflicts) == ["d/e: removed / mode changed"]
    assert store.merge(base, changed, empty).conflicts[0].entry == ""
    more = store.directory({"d": {"e": store.directory({"x": "2"}, mode=0o700), "y": "1"}})
    assert store.merge(base, empty, more).conflicts[0] == store.merge(base, empty, changed).conflicts[0]
    kept = store.directory({"d": {"e": store.directory({}, mode=0o700)}})
    assert store.merge(base, changed, empty, ours_wins=always) == (kept, [])
    assert store.merge(base, empty, changed, ours_wins=always) == (empty, [])


def test_entries_that_both_removed_are_no_conflict(store: Store):
    base, less = store.directory({"d": {"a": "1", "e": {"b": "1"}}}), store.directory({"d": {"a": "1"}})
    empty = store.directory({})
    assert store.merge(base, less, empty) == (empty, [])
    assert store.merge(base, empty, less) == (empty, [])


# -- ours_wins


def test_ours_wins_is_called_once_for_each_conflict(store: Store):
    def root(content: str) -> DirEntry:
        return store.directory({"a": content, "d": {"b": content}})

    asked: list[Conflict] = []

    def ours_wins(conflict: Conflict) -> bool:
        asked.append(conflict)
        return conflict.path == b"a"

    sides = root("1"), root("2"), root("3")
    found = store.merge(*sides, ours_wins=ours_wins)
    assert asked == store.merge(*sides).conflicts
    assert found.conflicts == asked[1:]


def test_won_conflicts_and_other_changes_are_merged(store: Store):
    base = {"a": "1", "b": "1", "c": "1", "d": {"x": "1", "y": "1"}}
    ours = {"a": "2", "b": "2", "c": "1", "d": {"x": "2", "y": "1"}}
    theirs = {"a": "3", "b": "1", "c": "3", "d": {"x": "3", "y": "3"}}
    merged = {"a": "2", "b": "2", "c": "3", "d": {"x": "2", "y": "3"}}
    found = store.merge(*map(store.directory, (base, ours, theirs)), ours_wins=always)
    assert found == (store.directory(merged), [])


# -- the other side in a conflict


def test_entries_of_conflicts_compare_significant_fields(store: Store):
    def entry(theirs: Any) -> str:
        base, ours = store.directory({"p": "base"}), store.directory({"p": "ours"})
        [conflict] = store.merge(base, ours, store.directory({"p": theirs})).conflicts
        return conflict.entry

    marked = xattrs(a="1")
    run = ((RUN, b"r"),)
    blob = file("1").blob
    directories = [
        store.directory({"x": child}) for child in ("1", file("1", mode=0o600), file("1", xattrs=marked))
    ]
    different: list[Any] = [
        None,
        "1",
        "2",
        file("1", mode=0o600),
        file("1", xattrs=marked),
        file("1", xattrs=xattrs(a="2")),
        link(b"1"),
        link(b"2"),
        file("1", mode=0o777),
        link(blob),
        reference(),
        reference(b"1"),
        reference(checksum=b"1"),
        reference(size=4),
        reference(mode=0o600),
        *directories,
        {},
        {"x": "2"},
        {"y": "1"},
        {"x": file("1", mode=0o777)},
        {"x": link(blob)},
        {"x": {}},
        {"x": {}, "y": {}},
        {"x": {"y": {}}},
        store.directory({"x": "1"}, mode=0o700),
        store.directory({"x": "1"}, xattrs=marked),
    ]
    assert len({entry(value) for value in different}) == len(different)
    touched = store.directory({"x": file("1", mtime_ns=5, gid=3, xattrs=run)}, uid=3, mtime_ns=8, xattrs=run)
    for one, other in (
        (file("1"), file("1", mtime_ns=7, uid=3, gid=4, xattrs=run)),
        (file("1", xattrs=marked), file("1", xattrs=(*marked, *run))),
        (link(b"1"), link(b"1", uid=3, mtime_ns=9)),
        (directories[0], touched),
    ):
        assert entry(one) == entry(other)


def test_a_conflict_of_modes_omits_the_directorys_content(store: Store):
    base, ours = store.directory({}), store.directory({}, mode=0o700)
    [one], [other], [another] = (
        store.merge(base, ours, theirs).conflicts
        for theirs in (
            store.directory({"x": "1"}, mode=0o750),
            store.directory({"x": "2"}, mode=0o750),
            store.directory({"x": "2"}, mode=0o710),
        )
    )
    assert one == other
    assert other != another


# -- cost


def test_equal_sides_are_not_read(store: Store):
    base, other = store.directory({"a": "1", "d": {"b": "1"}}), store.directory({"a": "2", "d": {"b": "1"}})
    touched = store.directory({"a": "1", "d": {"b": "1"}}, mtime_ns=5)
    for sides in ((base, base, other), (base, other, base), (base, other, other), (base, other, touched)):
        assert store.merge(*sides).conflicts == []
        assert store.fetched == []
        assert store.put_pages == []


def test_only_directories_that_both_changed_are_read(store: Store):
    def root(a: str, b: str, c: str, d: str) -> DirEntry:
        return store.directory(
            {"one": {"a": a}, "other": {"b": b}, "both": {"c": c, "d": d}, "none": {"e": "1"}}
        )

    base, ours, theirs = root("1", "1", "1", "1"), root("2", "1", "2", "1"), root("1", "2", "1", "2")
    assert store.merge(base, ours, theirs) == (root("2", "2", "2", "2"), [])
    found = [find(store.reader, side, b"both") for side in (base, ours, theirs)]
    wanted = {
        base.tree,
        ours.tree,
        theirs.tree,
        *(entry.tree for entry in found if isinstance(entry, DirEntry)),
    }
    store.merge(base, ours, theirs)
    assert set(store.fetched) == wanted


def test_a_directory_that_one_side_left_unchanged_is_not_read(store: Store):
    def root(a: str, mode: int) -> DirEntry:
        return store.directory({"d": store.directory({"a": a}, mode=mode)})

    old = store.directory({"a": "1"})
    base, moded, changed, both = root("1", 0o755), root("1", 0o775), root("2", 0o755), root("2", 0o775)
    for sides in (
        (base, moded, changed),
        (base, changed, moded),
        (base, changed, both),
        (base, both, changed),
    ):
        assert store.merge(*sides) == (both, [])
        # The other side's content may be read, to find who can list it.
        assert old.tree not in store.fetched


def test_a_directory_that_changed_and_was_replaced_is_not_compared(store: Store):
    base, ours, theirs = (store.directory({"d": d}) for d in ({"a": "1"}, {"a": "2"}, "1"))
    assert described(store.merge(base, ours, theirs).conflicts) == ["d: changed / replaced by a file"]
    assert {*store.fetched} == {base.tree, ours.tree, theirs.tree}


def flat(store: Store, count: int, changes: Mapping[int, str | None] = {}) -> DirEntry:
    entries: list[Entry] = [
        file(content, name=b"file-%07d" % i)
        for i in range(count)
        if (content := changes.get(i, f"{i}")) is not None
    ]
    return store.directory_of(entries)


@pytest.mark.parametrize("one", ["changed", None])
@pytest.mark.parametrize("other", ["changed too", None])
def test_few_pages_of_a_large_directory_are_read(store: Store, one, other):
    count = 40_000
    base, ours, theirs = (
        flat(store, count),
        flat(store, count, {5000: one}),
        flat(store, count, {35_000: other}),
    )
    expected = flat(store, count, {5000: one, 35_000: other})
    pages = len(store.pages)
    assert pages > 60
    found = store.merge(base, ours, theirs)
    assert found == (expected, [])
    # Three roots, and two leaves of the base and of a side, twice; then a root and a leaf to update.
    assert len(store.fetched) <= 16
    assert len(store.put_pages) <= 4
    assert len(store.pages) == pages


def test_the_smaller_set_of_changes_is_applied(store: Store):
    base = flat(store, 40_000)
    many: dict[int, str | None] = dict.fromkeys(range(0, 40000, 100), "many")
    few: dict[int, str | None] = {7: "few"}
    one, other, both = flat(store, 40_000, many), flat(store, 40_000, few), flat(store, 40_000, many | few)
    for sides in ((base, one, other), (base, other, one)):
        assert store.merge(*sides) == (both, [])
        assert len(store.put_pages) == 2
    # Equal changes are not among them.
    for sides in ((base, both, one), (base, one, both)):
        assert store.merge(*sides) == (both, [])
        assert store.put_pages == []
        assert store.fetched.count(both.tree) == 1


def test_equal_pages_of_added_directories_are_not_read(store: Store):
    empty = store.directory({"k": "1"})
    one, other = flat(store, 40_000, {5000: None}), flat(store, 40_000, {35_000: None})
    both = flat(store, 40_000)
    sides = [store.directory({"d": entry}) for entry in (one, other, both)]
    assert store.merge(empty, *sides[:2]) == (store.directory({"d": both}), [])
    assert len({*store.fetched}) <= 16


def test_added_and_removed_large_directories_are_not_read(store: Store):
    large = flat(store, 3000)
    base, ours, theirs, merged = (
        store.directory({"k": k, "d": d}) for k, d in (("1", None), ("2", None), ("1", large), ("2", large))
    )
    assert store.merge(base, ours, theirs) == (merged, [])
    assert large.tree not in store.fetched
    assert store.merge(theirs, merged, base) == (ours, [])
    assert large.tree not in store.fetched


# -- depth

DEPTH = 10_000


def chain(store: Store, below: Mapping[str, Any], name: bytes = b"", **attributes: Any) -> DirEntry:
    """Makes a directory below 10,000 others."""
    found = store.directory(below, b"d")
    for _ in range(DEPTH - 1):
        found = store.directory_of([found], b"d")
    return store.directory({"d": found}, name, **attributes)


BOTTOM = b"/".join([b"d"] * DEPTH)


def test_trees_may_have_any_depth(store: Store):
    sides = [chain(store, {"a": a, "b": b}) for a, b in (("1", "1"), ("2", "1"), ("1", "2"), ("2", "2"))]
    assert store.merge(*sides[:3]) == (sides[3], [])
    assert [c.path for c in store.merge(*sides[1:]).conflicts] == []
    third = chain(store, {"a": "3", "b": "1"})
    [conflict] = store.merge(sides[0], sides[1], third).conflicts
    assert conflict.path == BOTTOM + b"/a"


def test_a_removed_directory_may_have_any_depth(store: Store):
    base, changed, empty = (
        chain(store, {"a": "1", "b": "1"}),
        chain(store, {"a": "2", "b": "1"}),
        store.directory({}),
    )
    for sides in ((base, changed, empty), (base, empty, changed)):
        [conflict] = store.merge(*sides).conflicts
        assert conflict.path == BOTTOM + b"/a"
    assert store.merge(base, changed, empty, ours_wins=always) == (chain(store, {"a": "2"}), [])
    assert store.merge(base, empty, changed, ours_wins=always) == (empty, [])


def test_a_replaced_directory_may_have_any_depth(store: Store):
    base, moded = chain(store, {"a": "1"}), chain(store, {"a": file("1", mode=0o600)})
    other = store.directory({"d": "1"})
    [conflict] = store.merge(base, other, moded).conflicts
    assert described([conflict]) == ["d: replaced by a file / changed"]
    [again] = store.merge(base, other, chain(store, {"a": file("1", mode=0o640)})).conflicts
    assert again.entry != conflict.entry
