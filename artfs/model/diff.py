"""Owns what is different between two sealed trees: which entries, in which way, and what only moved.

Compares trees page by page through a reader, or the manifests of two versions where there are no trees to
read; both give the same changes. Must not know where pages lie. Any thread that may use the reader.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Generic, Literal, NamedTuple, Protocol, TypeAlias, TypeVar

from msgspec import Struct, to_builtins

from artfs.model.digest import TreeId
from artfs.model.entry import DirEntry, Entry, Summary
from artfs.model.manifest import describe
from artfs.model.pages import Index, Page
from artfs.model.tree import TreeReader

Kind: TypeAlias = Literal["added", "removed", "changed", "mode", "kind", "renamed"]


class Item(Struct, frozen=True, omit_defaults=True):
    """An entry as far as it is compared: what its line of the manifest says, without times and runs."""

    kind: str
    size: int | None = None
    mode: str | None = None
    digest: str | None = None
    target: str | None = None
    uri: str | None = None

    @classmethod
    def of(cls, line: Mapping[str, Any]) -> Item:
        """Makes it of an entry's line of the manifest."""
        get = line.get
        return cls(line["kind"], get("size"), get("mode"), get("digest"), get("target"), get("uri"))

    @property
    def content(self) -> tuple[object, ...]:
        """All but the permission bits."""
        return self.kind, self.size, self.digest, self.target, self.uri


class Change(Struct, frozen=True):
    """One entry that is not in both trees as it is in the other.

    ========= ==========================================================================================
    added     only in the new tree; so is all that is below it, as changes of their own
    removed   only in the old tree; likewise
    changed   a file's bytes, a symlink's target, what a reference says; perhaps its mode too
    mode      the permission bits, nothing else
    kind      a file in one, a directory in the other, say; what is below the directory is removed or added
    renamed   the same content under another path; a directory with all that is below it
    ========= ==========================================================================================

    ``path`` is the path in the new tree, in the old one for what was removed. ``old_path`` is the one in the
    old tree if that is another: of what was renamed, and of a mode that differs below a renamed directory.
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


def diff(reader: TreeReader, old: DirEntry, new: DirEntry) -> Iterator[Change]:
    """Yields what differs below two directories, in the order of paths, name by name.

    Times, owners and xattrs make no difference, nor does the mode of the two directories themselves. Never
    reads what both have in common: equal trees, equal pages of directories that differ, and directories
    that were renamed as they are. Holds what differs. Raises Damaged, before the first change.

    Of what is removed here and added there, equal contents are paired, the largest directories first, then
    what is in none of these. Among several, equal names come first, then the order of paths decides.
    """
    yield from _Comparison(_Trees(reader)).run(
        _Node(b"", _item(old), old.entries, old.tree), _Node(b"", _item(new), new.entries, new.tree)
    )


def diff_manifests(
    old: Mapping[str, Mapping[str, Any]], new: Mapping[str, Mapping[str, Any]]
) -> Iterator[Change]:
    """Yields what :func:`diff` does, from the manifests of two versions."""
    wanted: set[str] = set()
    for path in (*old, *(path for path in new if path not in old)):
        if old.get(path) != new.get(path):
            while path and path not in wanted:
                wanted.add(path)
                path = path.rpartition("/")[0]
    yield from _Comparison(_Manifests()).run(_nodes(old, wanted), _nodes(new, wanted))


_T = TypeVar("_T")


class _Node(NamedTuple, Generic[_T]):
    """An entry of one side; ``entries`` counts those below a directory, ``tree`` is how to list it."""

    path: bytes
    item: Item
    entries: int = 0
    tree: _T | None = None

    @property
    def name(self) -> bytes:
        return self.path.rpartition(b"/")[2]


class _Source(Protocol[_T]):
    """Where nodes come from. Both methods are for directories."""

    def children(self, node: _Node[_T]) -> Iterable[_Node[_T]]: ...

    def differing(
        self, old: _Node[_T], new: _Node[_T]
    ) -> Iterable[tuple[_Node[_T] | None, _Node[_T] | None]]:
        """Yields the children that may differ, each beside the one of the same name."""


class _OneSided(Generic[_T]):
    """What only one side has, not yet paired; directories by the number of entries below them."""

    def __init__(self) -> None:
        self.directories: defaultdict[int, list[_Node[_T]]] = defaultdict(list)
        self.others: list[_Node[_T]] = []


class _Comparison(Generic[_T]):
    """One comparison of two trees."""

    def __init__(self, source: _Source[_T]) -> None:
        self._source = source
        self._changes: list[Change] = []
        self._removed, self._added = _OneSided[_T](), _OneSided[_T]()
        self._counts: list[int] = []

    def run(self, old: _Node[_T], new: _Node[_T]) -> Iterator[Change]:
        self._compare(old, new)
        # Equal directories have equally many entries below them, and a directory has more than each one
        # in it. So from the largest down, all that can be a directory's equal are known when it is come to.
        while self._counts:
            count = -heapq.heappop(self._counts)
            gone, come = (side.directories.pop(count, []) for side in (self._removed, self._added))
            for node in self._pair(gone, come):
                self._open(node, self._removed)
            for node in come:
                self._open(node, self._added)
        self._changes += (_removed(node) for node in self._pair(self._removed.others, self._added.others))
        self._changes += (_added(node) for node in self._added.others)
        return iter(sorted(self._changes, key=lambda change: change.path.split(b"/")))

    def _compare(self, old: _Node[_T], new: _Node[_T]) -> None:
        todo = [(old, new)]
        while todo:
            for one, other in self._source.differing(*todo.pop()):
                if one is None or other is None:
                    self._put(one, self._removed)
                    self._put(other, self._added)
                elif one.item.kind != other.item.kind:
                    self._changes.append(_change("kind", one, other))
                    self._put_children(one, self._removed)
                    self._put_children(other, self._added)
                elif one.item.kind != "directory" and one.item.content != other.item.content:
                    self._changes.append(_change("changed", one, other))
                else:
                    if one.item.mode != other.item.mode:
                        self._changes.append(_change("mode", one, other))
                    if one.item.kind == "directory":
                        todo.append((one, other))

    def _put(self, node: _Node[_T] | None, side: _OneSided[_T]) -> None:
        if node is None:
            return
        if node.item.kind != "directory":
            side.others.append(node)
            return
        if node.entries not in self._removed.directories and node.entries not in self._added.directories:
            heapq.heappush(self._counts, -node.entries)
        side.directories[node.entries].append(node)

    def _put_children(self, node: _Node[_T], side: _OneSided[_T]) -> None:
        if node.item.kind == "directory":
            for child in self._source.children(node):
                self._put(child, side)

    def _open(self, node: _Node[_T], side: _OneSided[_T]) -> None:
        """Takes a directory as removed or added itself, and looks at what is in it."""
        self._changes.append(_removed(node) if side is self._removed else _added(node))
        self._put_children(node, side)

    def _pair(self, gone: list[_Node[_T]], come: list[_Node[_T]]) -> list[_Node[_T]]:
        """Takes pairs of equal content as renamed, out of `come` too; returns what is left of `gone`."""
        if not gone or not come:
            return gone
        equal: defaultdict[tuple[object, ...], tuple[list[_Node[_T]], list[_Node[_T]]]]
        equal = defaultdict(lambda: ([], []))
        for at, nodes in enumerate((gone, come)):
            for node in sorted(nodes, key=lambda node: node.path.split(b"/")):
                equal[node.item.content][at].append(node)
        left: list[_Node[_T]] = []
        come.clear()
        for olds, news in equal.values():
            pairs = _paired(olds, news)
            for old, new in pairs:
                self._changes.append(_change("renamed", old, new))
                if new.item.kind == "directory":
                    self._compare(old, new)  # finds modes only
            left += _without(olds, [old for old, _ in pairs])
            come += _without(news, [new for _, new in pairs])
        return left


def _paired(olds: list[_Node[_T]], news: list[_Node[_T]]) -> list[tuple[_Node[_T], _Node[_T]]]:
    """Pairs two lists, which are in order, as far as both go: equal names first."""
    if not olds or not news:
        return []
    named: dict[bytes, list[_Node[_T]]] = defaultdict(list)
    for old in reversed(olds):
        named[old.name].append(old)
    pairs = [(named[new.name].pop(), new) for new in news if named.get(new.name)]
    olds = _without(olds, [old for old, _ in pairs])
    news = _without(news, [new for _, new in pairs])
    return pairs + list(zip(olds, news, strict=False))


def _without(nodes: list[_Node[_T]], taken: list[_Node[_T]]) -> list[_Node[_T]]:
    paths = {node.path for node in taken}
    return [node for node in nodes if node.path not in paths]


def _change(kind: Kind, old: _Node[_T], new: _Node[_T]) -> Change:
    return Change(kind, new.path, old.item, new.item, None if old.path == new.path else old.path)


def _removed(node: _Node[_T]) -> Change:
    return Change("removed", node.path, node.item, None)


def _added(node: _Node[_T]) -> Change:
    return Change("added", node.path, None, node.item)


# -- trees


class _Trees:
    """Nodes that are read from pages."""

    def __init__(self, reader: TreeReader) -> None:
        self._reader = reader

    def children(self, node: _Node[TreeId]) -> Iterator[_Node[TreeId]]:
        assert node.tree is not None
        return (_node(node, entry) for _, entry in self._reader.entries(node.tree))

    def differing(
        self, old: _Node[TreeId], new: _Node[TreeId]
    ) -> Iterator[tuple[_Node[TreeId] | None, _Node[TreeId] | None]]:
        assert old.tree is not None
        assert new.tree is not None
        for one, other in differing_entries(self._reader, old.tree, new.tree):
            yield (
                None if one is None else _node(old, one),
                None if other is None else _node(new, other),
            )


def differing_entries(
    reader: TreeReader, old: TreeId, new: TreeId
) -> Iterator[tuple[Entry | None, Entry | None]]:
    """Yields the direct entries of two directories that differ in anything, beside each other by name.

    Where a directory is cut into pages follows from its names, so that behind a difference the pages of both
    soon begin at the same names again, and are the same: those are skipped unread.
    """
    if old == new:
        return
    one, other = _Cursor(reader, reader.page(old)), _Cursor(reader, reader.page(new))
    while True:
        left, right = one.head, other.head
        if left is None and right is None:
            return
        if isinstance(left, Summary) and isinstance(right, Summary) and left.tree == right.tree:
            one.skip()
            other.skip()
        elif isinstance(left, Summary) or isinstance(right, Summary):
            # Pages of one level may be equal; of different levels, the upper may hold an equal of the lower.
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
    """Stands before an entry, or before a whole page that was not read, and moves right or down."""

    def __init__(self, reader: TreeReader, page: Page) -> None:
        self._reader = reader
        self._way: list[tuple[Page, int]] = [(page, 0)]
        self._settle()

    def _settle(self) -> None:
        while self._way and self._way[-1][1] == len(self._way[-1][0]):
            self._way.pop()

    @property
    def head(self) -> Entry | Summary | None:
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
        """Reads the page, and stands before what is first in it."""
        page, position = self._way[-1]
        assert isinstance(page, Index)
        child = self._reader.below(page, position)
        self._way[-1] = page, position + 1
        self._way.append((child, 0))


def _node(above: _Node[TreeId], entry: Entry) -> _Node[TreeId]:
    path = above.path + b"/" + entry.name if above.path else entry.name
    if isinstance(entry, DirEntry):
        return _Node(path, _item(entry), entry.entries, entry.tree)
    return _Node(path, _item(entry))


def _item(entry: Entry) -> Item:
    return Item.of(describe(entry))


# -- manifests

_Children: TypeAlias = list[Any]  # of nodes; no type can say so, since theirs is this one


class _Manifests:
    """Nodes that hold their children."""

    def children(self, node: _Node[_Children]) -> _Children:
        return node.tree or []

    def differing(
        self, old: _Node[_Children], new: _Node[_Children]
    ) -> Iterator[tuple[_Node[_Children] | None, _Node[_Children] | None]]:
        olds, news = ({child.name: child for child in self.children(side)} for side in (old, new))
        for name in olds | news:
            yield olds.get(name), news.get(name)


def _nodes(manifest: Mapping[str, Mapping[str, Any]], wanted: set[str]) -> _Node[_Children]:
    """Makes nodes of these paths, and of the root, which holds them.

    Rests on the order of a manifest: what is in a directory follows it.
    """
    children: defaultdict[str, _Children] = defaultdict(list)
    for path in reversed([path for path in manifest if path in wanted]):
        below = children.pop(path, [])
        node = _Node(_encoded(path), Item.of(manifest[path]), _count(below), below)
        children[path.rpartition("/")[0]].append(node)
    return _Node(b"", Item("directory"), 0, children[""])


def _count(nodes: _Children) -> int:
    return sum(node.entries + 1 for node in nodes)


def _decoded(path: bytes) -> str:
    return path.decode("utf-8", "surrogateescape")


def _encoded(path: str) -> bytes:
    return path.encode("utf-8", "surrogateescape")
