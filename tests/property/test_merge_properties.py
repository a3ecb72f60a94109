"""Merges of random trees against a merge of nested dicts; tiny pages exercise the updates of pages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from artfs.model.digest import blob_id
from artfs.model.entry import DirEntry, Entry, FileEntry, ReferenceEntry, SymlinkEntry, Xattrs
from artfs.model.manifest import walk
from artfs.model.merge import Conflict, Merged, merge, never
from artfs.model.tree import build
from tests.page_store import XXH128, PageStore
from tests.property.merging import Node, Oracle

pytestmark = pytest.mark.usefixtures("tiny_pages")


# -- trees


class Store(PageStore):
    def root(self, node: Node) -> DirEntry:
        made = self.made(b"", node)
        assert isinstance(made, DirEntry)
        return made

    def made(self, name: bytes, node: Node) -> Entry:
        content, uid, gid, mtime_ns = node.content, node.uid, node.gid, node.mtime_ns
        if isinstance(content, bytes):
            return SymlinkEntry(name, uid, gid, mtime_ns, content)
        xattrs: Xattrs = ((b"user.artfs.run", node.run),) if node.run else ()
        if node.xattr:
            xattrs += ((b"user.b", node.xattr),)
        if isinstance(content, dict):
            entries = [self.made(child, content[child]) for child in sorted(content)]
            return build(entries, XXH128, self.put).directory(name, node.mode, uid, gid, mtime_ns, xattrs)
        if node.is_reference:
            uri = b"s3://" + content.encode()
            return ReferenceEntry(name, node.mode, uid, gid, mtime_ns, 3, uri, b"", xattrs)
        blob = blob_id(XXH128, XXH128.digest(content.encode()))
        return FileEntry(name, node.mode, uid, gid, mtime_ns, len(content), blob, xattrs)

    def merge(self, *sides: Node, ours_wins: Callable[[Conflict], bool] = never) -> Merged:
        base, ours, theirs = map(self.root, sides)
        return merge(self.reader, base, ours, theirs, self.put, ours_wins=ours_wins)


common_names = [b"a", b"b", b"c"]
names = st.sampled_from([*common_names, b"a-", b"\xff"]) | st.integers(0, 25).map(lambda i: b"%d" % i)
modes = st.sampled_from([0o755, 0o700, 0o644])
xattrs = st.sampled_from([b"", b"", b"1", b"2"])
owners = st.sampled_from([0, 0, 1, 2])
times = st.integers(0, 3)
runs = st.sampled_from([b"", b"", b"run-1", b"run-2"])
rest = {"uid": owners, "gid": owners, "mtime_ns": times, "run": runs}
texts = st.sampled_from(["", "1", "2"])
links = st.builds(Node, st.sampled_from([b"t", b"u"]), uid=owners, gid=owners, mtime_ns=times)
leaves = st.builds(Node, texts, modes, xattrs, st.sampled_from([False, False, True]), **rest) | links


def directory_of(children: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
    # Few names, so that the sides collide, and many for the pages.
    few = st.dictionaries(st.sampled_from(common_names), children, max_size=3)
    many = st.dictionaries(names, children, min_size=4, max_size=12)
    return st.builds(Node, few | few | many, modes, xattrs, **rest)


low = directory_of(leaves)
middle = directory_of(leaves | low)
nodes = leaves | low | middle
# All common names, so that both sides have something to change.
roots = st.builds(
    lambda root, children: replace(root, content={**(root.children or {}), **children}),
    directory_of(leaves),
    st.fixed_dictionaries({b"a": middle, b"b": middle | low, b"c": nodes}),
)

some_names = st.lists(st.sampled_from([b"a", b"a", *common_names]) | names, max_size=3)
values: dict[str, st.SearchStrategy[Any]] = {"mode": modes, "xattr": xattrs, **rest}
changes = st.sampled_from([*values]).flatmap(lambda name: values[name].map(lambda value: (name, value)))
Edit: TypeAlias = tuple[list[bytes], Node | tuple[str, Any] | None]
edits: st.SearchStrategy[Edit] = st.tuples(some_names, changes | leaves | nodes | st.none())


def edited(node: Node, edit: Edit) -> Node:
    """Sets, removes or changes the entry at a path, or at its longest existing prefix."""
    path, change = edit
    children = node.children
    if not path or children is None:
        # A symlink has no mode and no xattrs, and the root stays a directory.
        if isinstance(change, tuple) and (change[0] in ("uid", "gid", "mtime_ns") or node.marks):
            return replace(node, **{change[0]: change[1]})
        return node
    name, *below = path
    child = children.get(name)
    without = {other: node for other, node in children.items() if other != name}
    if child is not None and (isinstance(change, tuple) or (below and child.children is not None)):
        return replace(node, content={**without, name: edited(child, (below, change))})
    return replace(node, content={**without, name: change} if isinstance(change, Node) else without)


@st.composite
def sides(draw: st.DrawFn, most: int = 3) -> list[Node]:
    """A base, and its changed copies on some sides; some edits are made on all sides."""
    base = draw(roots)
    found = [base] * most
    for edit in draw(st.lists(edits, max_size=2)):
        found[1:] = [edited(side, edit) for side in found[1:]]
    for i in range(1, most):
        for edit in draw(st.lists(edits, min_size=1, max_size=6)):
            found[i] = edited(found[i], edit)
    return found


insignificant_edits = st.lists(
    st.tuples(
        some_names,
        st.sampled_from([*rest]).flatmap(lambda name: rest[name].map(lambda value: (name, value))),
    ),
    max_size=6,
)


def agree(store: Store, root: DirEntry, expected: Node) -> None:
    fresh = Store()
    assert root == fresh.root(expected)
    assert dict(walk(store.reader, root)) == dict(walk(fresh.reader, root))


@settings(deadline=None, max_examples=150)
@given(sides())
def test_merges_equal_those_of_the_oracle(three: list[Node]) -> None:
    store, oracle = Store(), Oracle()
    found = store.merge(*three)
    expected = oracle.merged([], *three)
    assert [conflict.path for conflict in found.conflicts] == [path for path, _ in oracle.conflicts]
    if not found.conflicts:
        assert expected is not None
        agree(store, found.root, expected)


@settings(deadline=None, max_examples=150)
@given(sides(), st.sampled_from(["all", "some"]), st.data())
def test_ours_wins_where_allowed(three: list[Node], which: str, data: st.DataObject) -> None:
    all_of_them = Oracle()
    all_of_them.merged([], *three)
    paths = [path for path, _ in all_of_them.conflicts]
    won = paths if which == "all" or not paths else data.draw(st.lists(st.sampled_from(paths)))
    oracle = Oracle(lambda path: path in won)
    expected = oracle.merged([], *three)
    store = Store()
    asked: list[bytes] = []

    def ours_wins(conflict: Conflict) -> bool:
        asked.append(conflict.path)
        return conflict.path in won

    found = store.merge(*three, ours_wins=ours_wins)
    assert asked == paths
    assert [conflict.path for conflict in found.conflicts] == [path for path in paths if path not in won]
    if not found.conflicts:
        assert expected is not None
        agree(store, found.root, expected)


@settings(deadline=None, max_examples=50)
@given(sides())
def test_changes_of_one_side_and_equal_changes_are_kept(three: list[Node]) -> None:
    store = Store()
    base, ours, _ = three
    for sides in ((base, ours, base), (base, base, ours), (base, ours, ours), (ours, ours, ours)):
        assert store.merge(*sides) == (store.root(ours), [])


@settings(deadline=None, max_examples=80)
@given(sides())
def test_swapping_the_sides_swaps_the_conflicts(three: list[Node]) -> None:
    store = Store()
    base, ours, theirs = three
    one, other = store.merge(base, ours, theirs), store.merge(base, theirs, ours)
    assert [(c.path, c.ours, c.theirs) for c in one.conflicts] == [
        (c.path, c.theirs, c.ours) for c in other.conflicts
    ]
    if not one.conflicts:
        assert one.root.content == other.root.content


@settings(deadline=None, max_examples=80)
@given(sides())
def test_merging_again_changes_nothing(three: list[Node]) -> None:
    store = Store()
    base, ours, theirs = map(store.root, three)
    merged = merge(store.reader, base, ours, theirs, store.put)
    if not merged.conflicts:
        assert merge(store.reader, base, merged.root, theirs, store.put) == merged


@settings(deadline=None, max_examples=80)
@given(sides(), insignificant_edits, insignificant_edits)
def test_insignificant_fields_do_not_change_conflicts(
    three: list[Node], of_ours: list[Edit], of_theirs: list[Edit]
) -> None:
    store = Store()
    base, ours, theirs = three
    conflicts = store.merge(base, ours, theirs).conflicts
    for edit in of_ours:
        ours = edited(ours, edit)
    for edit in of_theirs:
        theirs = edited(theirs, edit)
    assert store.merge(base, ours, theirs).conflicts == conflicts


@settings(deadline=None, max_examples=80)
@given(sides(4))
def test_a_conflict_is_recognized_by_significant_fields(four: list[Node]) -> None:
    store = Store()
    base, ours, *theirs = four
    found: list[tuple[str, Any]] = []
    for side in theirs:
        oracle = Oracle()
        oracle.merged([], base, ours, side)
        conflicts = store.merge(base, ours, side).conflicts
        found += [
            (conflict.entry, identity)
            for conflict, (_, identity) in zip(conflicts, oracle.conflicts, strict=True)
        ]
    for entry, identity in found:
        assert (entry == "") == (identity is None)
        for other, another in found:
            assert (entry == other) == (identity == another)
