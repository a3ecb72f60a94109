"""Differences of random trees against those of two plain dicts; tiny pages exercise the alignment."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any, TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from artfs.model.diff import Change, diff, differing_entries
from artfs.model.digest import blob_id
from artfs.model.entry import DirEntry, Entry, FileEntry, SymlinkEntry
from artfs.model.manifest import describe, walk
from tests.page_store import XXH128, PageStore
from tests.property.pagesizes import REAL, pages_of

# A directory is a dict and its mode, a file its text, mode and time, a symlink its target.
Spec: TypeAlias = Any
Flat: TypeAlias = dict[bytes, Entry]

pytestmark = pytest.mark.usefixtures("tiny_pages")


class Store(PageStore):
    def made(self, name: bytes, spec: Spec) -> Entry:
        if isinstance(spec, bytes):
            return SymlinkEntry(name, 0, 0, 0, spec)
        if isinstance(spec[0], str):
            text, mode, mtime_ns = spec
            blob = blob_id(XXH128, XXH128.digest(text.encode()))
            return FileEntry(name, mode, 0, 0, mtime_ns, len(text), blob)
        return self.tree(name, *spec)

    def tree(self, name: bytes, children: dict[bytes, Spec], mode: int) -> DirEntry:
        entries = [self.made(child, children[child]) for child in sorted(children)]
        return self.directory_of(entries, name, mode=mode)


names = st.sampled_from([b"a", b"b", b"c", b"a.b", b"a-", b"\xff"]) | st.integers(0, 40).map(
    lambda i: b"%d" % i
)
modes = st.sampled_from([0o644, 0o600, 0o755])
leaves = st.tuples(st.sampled_from(["", "1", "2", "33"]), modes, st.integers(0, 1)) | st.sampled_from(
    [b"t", b"u"]
)


def directory_of(children: st.SearchStrategy[Spec]) -> st.SearchStrategy[Spec]:
    return st.tuples(st.dictionaries(names, children, max_size=9), st.sampled_from([0o755, 0o700]))


specs = st.recursive(leaves, directory_of, max_leaves=12)
roots = directory_of(specs)


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Spec, Spec]:
    """Two trees: unrelated ones, or one and the result of moves, removals and additions."""
    old = draw(roots)
    if draw(st.booleans()):
        return old, draw(roots)
    new = _copy(old)
    for _ in range(draw(st.integers(0, 4))):
        holders = [found for found in _directories(new) if found]
        if not holders:
            break
        source = holders[draw(st.integers(0, len(holders) - 1))]
        name = draw(st.sampled_from(sorted(source)))
        action = draw(st.sampled_from(["remove", "move", "set", "chmod"]))
        if action == "set":
            source[name] = draw(specs)
        elif action == "chmod":
            spec = source[name]
            if not isinstance(spec, bytes):
                source[name] = (spec[0], draw(modes), *spec[2:])
        else:
            spec = source.pop(name)
            if action == "move":
                targets = list(_directories(new))
                targets[draw(st.integers(0, len(targets) - 1))][draw(names)] = spec
    return old, new


def _copy(spec: Spec) -> Spec:
    if isinstance(spec, bytes) or isinstance(spec[0], str):
        return spec
    return ({name: _copy(child) for name, child in spec[0].items()}, spec[1])


def _directories(spec: Spec) -> Iterator[dict[bytes, Spec]]:
    if not isinstance(spec, bytes) and isinstance(spec[0], dict):
        yield spec[0]
        for child in spec[0].values():
            yield from _directories(child)


def key(line: dict[str, Any]) -> tuple[object, ...]:
    return tuple(line.get(k) for k in ("kind", "size", "digest", "target"))


def naive(old: Flat, new: Flat) -> dict[bytes, str]:
    """Returns the differences by path, without renames."""
    found = dict.fromkeys(old.keys() - new.keys(), "removed") | dict.fromkeys(
        new.keys() - old.keys(), "added"
    )
    for path in old.keys() & new.keys():
        one, other = describe(old[path]), describe(new[path])
        if one["kind"] != other["kind"]:
            found[path] = "kind"
        elif one["kind"] != "directory" and key(one) != key(other):
            found[path] = "changed"
        elif one.get("mode") != other.get("mode"):
            found[path] = "mode"
    return found


def unpaired(changes: list[Change], old: Flat, new: Flat) -> dict[bytes, str]:
    """Splits each rename into a removal and an addition; checks that the content is the same."""
    found: dict[bytes, str] = {change.path: change.change for change in changes if change.old_path is None}
    assert len(found) + sum(change.old_path is not None for change in changes) == len(changes)
    modes = {}
    for change in changes:
        before = change.old_path
        if before is None:
            continue
        if change.change == "mode":
            modes[change.path] = before
            continue
        assert change.change == "renamed"
        gone = {p.removeprefix(before): e for p, e in old.items() if (p + b"/").startswith(before + b"/")}
        come = {
            p.removeprefix(change.path): e
            for p, e in new.items()
            if (p + b"/").startswith(change.path + b"/")
        }
        assert gone.keys() == come.keys()
        for path, entry in gone.items():
            one, other = describe(entry), describe(come[path])
            assert key(one) == key(other)
            if path and one.get("mode") != other.get("mode"):
                assert modes.setdefault(change.path + path, before + path) == before + path
            for full, sort in ((before + path, "removed"), (change.path + path, "added")):
                assert full not in found
                found[full] = sort
    told = {change.path: change.old_path for change in changes if change.old_path and change.change == "mode"}
    assert told == modes
    return found


@settings(deadline=None, max_examples=100)
@given(pairs())
def test_differences_equal_those_of_two_dicts(both: tuple[Spec, Spec]) -> None:
    store = Store()
    roots = [store.tree(b"", *spec) for spec in both]
    old, new = (dict(walk(store.reader, root)) for root in roots)
    changes = list(diff(store.reader, *roots))
    paths = [change.path.split(b"/") for change in changes]
    assert paths == sorted(paths)
    # A path may occur twice only as the old one of a removed entry.
    assert len({change.path for change in changes}) == len(changes)
    assert unpaired(changes, old, new) == naive(old, new)
    left = [
        Counter(
            key(describe(side[change.path]))
            for change in changes
            if change.change == sort and not isinstance(side[change.path], DirEntry)
        )
        for sort, side in (("removed", old), ("added", new))
    ]
    assert not left[0] & left[1], "what is equal must have been paired"
    assert [Change.read(json.loads(json.dumps(change.json()))) for change in changes] == changes


@settings(deadline=None, max_examples=100)
@given(
    st.dictionaries(names | st.integers(0, 400).map(lambda i: b"%d" % i), leaves, max_size=150),
    st.dictionaries(st.integers(0, 400).map(lambda i: b"%d" % i), leaves | st.none(), max_size=12),
)
def test_entries_of_a_directory_are_compared(
    before: dict[bytes, Spec], edits: dict[bytes, Spec | None]
) -> None:
    store = Store()
    after = {name: spec for name, spec in (before | edits).items() if spec is not None}
    one, other = (store.tree(b"", children, 0o755) for children in (before, after))
    found = list(differing_entries(store.reader, one.tree, other.tree))
    expected = [
        (name, before.get(name), after.get(name))
        for name in sorted(before | after)
        if before.get(name) != after.get(name)
    ]
    made = [
        (None if a is None else store.made(n, a), None if b is None else store.made(n, b))
        for n, a, b in expected
    ]
    assert found == made


class Large:
    """A directory of real pages, made once."""

    def __init__(self) -> None:
        self.store = Store()
        spec = {b"%06d" % (7 * i): ("1", 0o644, i) for i in range(20_000)}
        self.root = self.store.tree(b"", spec, 0o755)


@pytest.fixture(scope="module")
def large() -> Large:
    with pages_of(REAL):
        return Large()


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 139_999), st.booleans())
def test_one_change_reads_a_handful_of_pages(large: Large, number: int, remove: bool) -> None:
    store = large.store
    name = b"%06d" % number
    before = store.reader.find(large.root.tree, name)
    entry = None if remove else store.made(name, ("changed", 0o644, 0))
    with pages_of(REAL):
        summary = store.reader.update(large.root.tree, {name: entry}, store.put)
    new = replace(large.root, tree=summary.tree, content=summary.content, entries=summary.entries)
    store.fetched.clear()
    found = [change.change for change in diff(store.reader, large.root, new)]
    if before is None:
        assert found == ([] if remove else ["added"])
    else:
        assert found == ["removed" if remove else "changed"]
    # Two roots, the leaf on both sides, and where a cut changed the pages up to the next unchanged cut.
    assert len(store.fetched) <= 10
