"""Compares two sealed trees: which entries differ, in which way, and which only moved.

Reads trees page by page through a reader. Must not know where pages are stored. Any thread that may use the
reader.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal, NamedTuple, TypeAlias, TypeVar

from msgspec import Struct, convert, to_builtins

from artfs.model.digest import TreeId
from artfs.model.entry import DirEntry, Entry, PageSummary
from artfs.model.manifest import describe
from artfs.model.pages import Index, Page
from artfs.model.tree import TreeReader

T = TypeVar("T")
Kind: TypeAlias = Literal["added", "removed", "changed", "mode", "kind", "renamed"]


class Item(Struct, frozen=True, omit_defaults=True):
    """What is compared of an entry: its line of the manifest, without times and runs."""

    kind: str
    size: int | None = None
    mode: str | None = None
    digest: str | None = None
    target: str | None = None
    uri: str | None = None

    @classmethod
    def of(cls, line: Mapping[str, Any]) -> Item:
        """Makes an item from an entry's line of the manifest."""
        get = line.get
        return cls(line["kind"], get("size"), get("mode"), get("digest"), get("target"), get("uri"))

    @property
    def content(self) -> tuple[object, ...]:
        """All but the permission bits."""
        return self.kind, self.size, self.digest, self.target, self.uri


class Change(Struct, frozen=True):
    """One entry that differs between the trees.

    ========= ==========================================================================================
    added     only in the new tree; each entry below it is a change of its own
    removed   only in the old tree; each entry below it is a change of its own
    changed   the bytes of a file, the target of a symlink, the URI of a reference; perhaps the mode too
    mode      only the permission bits
    kind      a file in one tree, a directory in the other, say; entries below it are removed or added
    renamed   the same content under another path; a directory with all that is below it
    ========= ==========================================================================================

    ``path`` is the path in the new tree, or in the old one if it was removed. ``old_path`` is the path in the
    old tree if it differs: of a renamed entry, and of a changed mode below a renamed directory.
    """

    change: Kind
    path: bytes
    old: Item | None
    new: Item | None
    old_path: bytes | None = None

    def json(self) -> dict[str, Any]:
        """Returns it as plain values; bytes are decoded with surrogateescape."""
        return {
            "change": self.change,
            "path": _decoded(self.path),
            "old_path": None if self.old_path is None else _decoded(self.old_path),
            "old": to_builtins(self.old),
            "new": to_builtins(self.new),
        }

    @classmethod
    def read(cls, plain: Mapping[str, Any]) -> Change:
        """Makes a change from what :meth:`json` returned. Raises msgspec.ValidationError."""
        known = convert(plain, _PlainChange)
        old_path = None if known.old_path is None else _encoded(known.old_path)
        return cls(known.change, _encoded(known.path), known.old, known.new, old_path)


class _PlainChange(Struct):
    """A change as plain values."""

    change: Kind
    path: str
    old: Item | None
    new: Item | None
    old_path: str | None


def diff(reader: TreeReader, old: DirEntry, new: DirEntry) -> Iterator[Change]:
    """Yields the differences below two directories, in the order of paths, name by name.

    Times, owners and xattrs are not compared, nor the modes of the two directories themselves. Equal trees,
    equal pages of directories, and directories that were only renamed are not read. Memory holds the
    differences, but each path only while its change is in use: all paths of a deep tree together are many
    times the tree. Raises Damaged, before the first change.

    A removed and an added entry of equal content are a rename. The largest directories are paired first, then
    the entries outside them; among several candidates equal names come first, then the order of paths
    decides.
    """
    yield from _Comparison(reader).run(
        _Node(root := _Path(None, b""), _item(old), old.entries, old.tree),
        _Node(root, _item(new), new.entries, new.tree),
    )


class _Path:
    """A path as its last name and the path of the directory above, which is None above the root.

    Equal paths are the same object: entries of equal path are met in both trees at once, and entries below a
    renamed directory are met under no other path.
    """

    __slots__ = ("above", "name")

    def __init__(self, above: _Path | None, name: bytes) -> None:
        self.above, self.name = above, name

    def text(self) -> bytes:
        found, at = [], self
        while at.above is not None:
            found.append(at.name)
            at = at.above
        return b"/".join(reversed(found))


class _Node(NamedTuple):
    """An entry of one side; ``entries`` counts those below a directory, ``tree`` is how to list it."""

    path: _Path
    item: Item
    entries: int = 0
    tree: TreeId | None = None


class _Difference(NamedTuple):
    """A change before its paths are spelled out."""

    kind: Kind
    old: _Node | None
    new: _Node | None

    @property
    def path(self) -> _Path:
        node = self.new or self.old
        assert node is not None
        return node.path

    def plain(self) -> Change:
        old, new = self.old, self.new
        moved = old is not None and new is not None and old.path is not new.path
        return Change(
            self.kind,
            self.path.text(),
            None if old is None else old.item,
            None if new is None else new.item,
            old.path.text() if old is not None and moved else None,
        )


class _OneSided:
    """Unpaired entries of one side; directories by the number of entries below them."""

    def __init__(self) -> None:
        self.directories: defaultdict[int, list[_Node]] = defaultdict(list)
        self.others: list[_Node] = []


class _Comparison:
    """One comparison of two trees."""

    def __init__(self, reader: TreeReader) -> None:
        self._reader = reader
        self._changes: list[_Difference] = []
        self._removed, self._added = _OneSided(), _OneSided()
        self._counts: list[int] = []

    def run(self, old: _Node, new: _Node) -> Iterator[Change]:
        self._compare(old, new)
        # Equal directories have equally many entries below them, and a directory has more than each of its
        # subdirectories. So from the largest down, all candidates for a directory are known when it is its
        # turn.
        while self._counts:
            count = -heapq.heappop(self._counts)
            removed, added = (side.directories.pop(count, []) for side in (self._removed, self._added))
            for node in self._pair(removed, added):
                self._open(node, self._removed)
            for node in added:
                self._open(node, self._added)
        self._changes += (_removed(node) for node in self._pair(self._removed.others, self._added.others))
        self._changes += (_added(node) for node in self._added.others)
        return (change.plain() for change in _in_order(self._changes, lambda change: change.path))

    def _compare(self, old: _Node, new: _Node) -> None:
        todo = [(old, new)]
        while todo:
            for one, other in self._differing(*todo.pop()):
                if one is None or other is None:
                    self._put(one, self._removed)
                    self._put(other, self._added)
                elif one.item.kind != other.item.kind:
                    self._changes.append(_Difference("kind", one, other))
                    self._put_children(one, self._removed)
                    self._put_children(other, self._added)
                elif one.item.kind != "directory" and one.item.content != other.item.content:
                    self._changes.append(_Difference("changed", one, other))
                else:
                    if one.item.mode != other.item.mode:
                        self._changes.append(_Difference("mode", one, other))
                    if one.item.kind == "directory":
                        todo.append((one, other))

    def _differing(self, old: _Node, new: _Node) -> Iterator[tuple[_Node | None, _Node | None]]:
        """Yields pairs of entries of one name in two directories that may differ."""
        assert old.tree is not None
        assert new.tree is not None
        for one, other in differing_entries(self._reader, old.tree, new.tree):
            before = None if one is None else _node(old, one)
            after = None if other is None else _node(new, other)
            if before is not None and after is not None and old.path is new.path:
                after = after._replace(path=before.path)
            yield before, after

    def _put(self, node: _Node | None, side: _OneSided) -> None:
        if node is None:
            return
        if node.item.kind != "directory":
            side.others.append(node)
            return
        if node.entries not in self._removed.directories and node.entries not in self._added.directories:
            heapq.heappush(self._counts, -node.entries)
        side.directories[node.entries].append(node)

    def _put_children(self, node: _Node, side: _OneSided) -> None:
        if node.item.kind == "directory":
            assert node.tree is not None
            for _, entry in self._reader.entries(node.tree):
                self._put(_node(node, entry), side)

    def _open(self, node: _Node, side: _OneSided) -> None:
        """Records that a directory was removed or added, and goes through its entries."""
        self._changes.append(_removed(node) if side is self._removed else _added(node))
        self._put_children(node, side)

    def _pair(self, removed: list[_Node], added: list[_Node]) -> list[_Node]:
        """Records pairs of equal content as renamed; keeps the rest in `added`, returns that of `removed`."""
        if not removed or not added:
            return removed
        equal: defaultdict[tuple[object, ...], tuple[list[_Node], list[_Node]]]
        equal = defaultdict(lambda: ([], []))
        for at, nodes in enumerate((removed, added)):
            for node in _in_order(nodes, lambda node: node.path):
                equal[node.item.content][at].append(node)
        left: list[_Node] = []
        added.clear()
        for olds, news in equal.values():
            pairs = _paired(olds, news)
            for old, new in pairs:
                self._changes.append(_Difference("renamed", old, new))
                if new.item.kind == "directory":
                    self._compare(old, new)  # finds modes only
            left += _without(olds, [old for old, _ in pairs])
            added += _without(news, [new for _, new in pairs])
        return left


def _paired(olds: list[_Node], news: list[_Node]) -> list[tuple[_Node, _Node]]:
    """Pairs two sorted lists up to the length of the shorter one, equal names first."""
    if not olds or not news:
        return []
    named: dict[bytes, list[_Node]] = defaultdict(list)
    for old in reversed(olds):
        named[old.path.name].append(old)
    pairs = [(named[new.path.name].pop(), new) for new in news if named.get(new.path.name)]
    olds = _without(olds, [old for old, _ in pairs])
    news = _without(news, [new for _, new in pairs])
    return pairs + list(zip(olds, news, strict=False))


def _without(nodes: list[_Node], taken: list[_Node]) -> list[_Node]:
    paths = {node.path for node in taken}
    return [node for node in nodes if node.path not in paths]


def _removed(node: _Node) -> _Difference:
    return _Difference("removed", node, None)


def _added(node: _Node) -> _Difference:
    return _Difference("added", None, node)


def _in_order(things: Iterable[T], path_of: Callable[[T], _Path]) -> Iterator[T]:
    """Yields changes in the order of their paths, name by name; those of one path in the given order.

    It descends from the root: comparing long paths with each other would take a step for each name of each
    pair.
    """
    at: defaultdict[_Path, list[T]] = defaultdict(list)
    below: defaultdict[_Path | None, list[_Path]] = defaultdict(list)
    known: set[_Path] = set()
    for thing in things:
        path: _Path | None = path_of(thing)
        assert path is not None
        at[path].append(thing)
        while path is not None and path not in known:
            known.add(path)
            below[path.above].append(path)
            path = path.above
    todo = below.pop(None, [])
    while todo:
        path = todo.pop()
        yield from at.get(path, ())
        todo += sorted(below.get(path, ()), key=lambda path: path.name, reverse=True)


def differing_entries(
    reader: TreeReader, old: TreeId, new: TreeId
) -> Iterator[tuple[Entry | None, Entry | None]]:
    """Yields pairs of direct entries of two directories that differ in anything, by name.

    Names decide where a directory is cut into pages. So after a difference the pages of both soon begin at
    the
    same names again and are equal: these are skipped unread.
    """
    if old == new:
        return
    one, other = _Cursor(reader, reader.page(old)), _Cursor(reader, reader.page(new))
    while True:
        left, right = one.head, other.head
        if left is None and right is None:
            return
        if isinstance(left, PageSummary) and isinstance(right, PageSummary) and left.tree == right.tree:
            one.skip()
            other.skip()
        elif isinstance(left, PageSummary) or isinstance(right, PageSummary):
            # Pages of one level may be equal; of two levels, the upper one may contain an equal of the lower
            # one.
            level = max(one.level, other.level)
            for cursor in (one, other):
                if cursor.level == level:
                    cursor.enter()
        elif right is None or (left is not None and left.name < right.name):
            yield left, None
            one.skip()
        elif left is None or right.name < left.name:
            yield None, right
            other.skip()
        else:
            if left != right:
                yield left, right
            one.skip()
            other.skip()


class _Cursor:
    """A position before an entry, or before an unread page; it moves right or down."""

    def __init__(self, reader: TreeReader, page: Page) -> None:
        self._reader = reader
        self._way: list[tuple[Page, int]] = [(page, 0)]
        self._settle()

    def _settle(self) -> None:
        while self._way and self._way[-1][1] == len(self._way[-1][0]):
            self._way.pop()

    @property
    def head(self) -> Entry | PageSummary | None:
        """The entry, or the summary of the page; None at the end."""
        if not self._way:
            return None
        page, position = self._way[-1]
        return page.items[position]

    @property
    def level(self) -> int:
        """0 before an entry, else one more than the level of the page; -1 at the end."""
        return self._way[-1][0].level if self._way else -1

    def skip(self) -> None:
        page, position = self._way[-1]
        self._way[-1] = page, position + 1
        self._settle()

    def enter(self) -> None:
        """Reads the page, and moves before its first item."""
        page, position = self._way[-1]
        assert isinstance(page, Index)
        child = self._reader.below(page, position)
        self._way[-1] = page, position + 1
        self._way.append((child, 0))


def _node(above: _Node, entry: Entry) -> _Node:
    path = _Path(above.path, entry.name)
    if isinstance(entry, DirEntry):
        return _Node(path, _item(entry), entry.entries, entry.tree)
    return _Node(path, _item(entry))


def _item(entry: Entry) -> Item:
    return Item.of(describe(entry))


def _decoded(path: bytes) -> str:
    return path.decode("utf-8", "surrogateescape")


def _encoded(path: str) -> bytes:
    return path.encode("utf-8", "surrogateescape")
