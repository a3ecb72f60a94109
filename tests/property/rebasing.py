"""The effect of a moved base on a patch, by the oracle of merges: at a rebase, and at a finish."""

from __future__ import annotations

import stat
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from tests.property.looking import Seen, Tree, joined, sealed
from tests.property.merging import Node, Oracle

RUN = b"user.artfs.run"

#: A path, and the significant part of the other side's entry there.
Collision = tuple[bytes, Any]


@dataclass
class _Asked(Oracle):
    """Lets ours win where the same collision was reported before; collects all collisions."""

    shown: tuple[Collision, ...] = ()
    all: list[Collision] = field(default_factory=list)

    def conflict(self, path: list[bytes], theirs: Any) -> bool:
        found = b"/".join(path), theirs
        self.all.append(found)
        if found in self.shown:
            return True
        self.conflicts.append(found)
        return False


@dataclass(frozen=True)
class Merged:
    """``refused`` are the collisions that prevent the merge; ``all`` includes the known ones."""

    tree: Tree
    refused: list[Collision]
    all: tuple[Collision, ...]


def merged(base: Tree, ours: Tree, theirs: Tree, shown: Iterable[Collision] = ()) -> Merged:
    """Merges trees with all their times. The root keeps its own attributes."""
    root = _node(sealed(ours))
    sides = [replace(root, content=_node(side).content) for side in (base, theirs)]
    oracle = _Asked(shown=tuple(shown))
    found = oracle.merged([], sides[0], root, sides[1])
    tree: Tree = {}
    if not oracle.conflicts:
        assert found is not None
        _take(b"", found, tree)
    return Merged(tree, oracle.conflicts, tuple(oracle.all))


def _node(tree: Tree) -> Node:
    children: dict[bytes, dict[bytes, Node]] = {}
    for path in sorted(tree, reverse=True):
        seen = tree[path]
        assert seen.mtime is not None
        content: Any = children.pop(path, {})
        if seen.kind == stat.S_IFLNK:
            content = seen.content
        elif seen.kind == stat.S_IFREG:
            assert seen.content is not None
            content = seen.content.decode("latin-1")  # the oracle's type of symlink targets
        xattrs = dict(seen.xattrs)
        run = xattrs.pop(RUN, None)
        made = Node(content, seen.mode, tuple(sorted(xattrs.items())), False, *seen.owner, seen.mtime, run)
        if not path:
            return made
        directory, _, name = path.rpartition(b"/")
        children.setdefault(directory, {})[name] = made
    raise AssertionError("a tree without a root")


def _take(path: bytes, node: Node, into: Tree) -> None:
    content, xattrs = node.content, dict(node.xattr or ())
    if node.run is not None:
        xattrs[RUN] = node.run
    kind, mode, held, twin = stat.S_IFDIR, node.mode, None, b""
    if isinstance(content, bytes):
        kind, mode, held, twin = stat.S_IFLNK, 0o777, content, path
    elif isinstance(content, str):
        kind, held, twin = stat.S_IFREG, content.encode("latin-1"), path
    into[path] = Seen(
        kind, mode, (node.uid, node.gid), node.mtime_ns, held, twin=twin, xattrs=tuple(sorted(xattrs.items()))
    )
    if isinstance(content, dict):
        for name, child in content.items():
            _take(joined(path, name), child, into)
