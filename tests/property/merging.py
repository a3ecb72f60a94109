"""The oracle of merges: trees as nested dicts, merged name by name by the documented rules."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias


@dataclass(frozen=True)
class Node:
    """An entry as plain values, significant ones first. A dict of nodes is a directory's content."""

    content: str | bytes | dict[bytes, Node]  # of a file, symlink, directory
    mode: int = 0o755
    xattr: Any = b""
    is_reference: bool = False
    uid: int = 0
    gid: int = 0
    mtime_ns: int = 0
    run: bytes | None = b""

    @property
    def kind(self) -> object:
        return type(self.content), self.is_reference

    @property
    def children(self) -> dict[bytes, Node] | None:
        return self.content if isinstance(self.content, dict) else None

    @property
    def marks(self) -> object:
        return None if isinstance(self.content, bytes) else (self.mode, self.xattr)


Maybe: TypeAlias = Node | None


def significant(node: Maybe) -> Any:
    if node is None:
        return None
    content: Any = node.content
    if isinstance(content, dict):
        content = {name: significant(child) for name, child in content.items()}
    return node.kind, content, node.marks


# -- the oracle


@dataclass
class Oracle:
    """Merges nodes by the documented rules, name by name."""

    wins: Callable[[bytes], bool] = lambda path: False
    # Each path with the significant part of their entry.
    conflicts: list[tuple[bytes, Any]] = field(default_factory=list)

    def conflict(self, path: list[bytes], theirs: Any) -> bool:
        """Whether ours wins."""
        joined = b"/".join(path)
        if not self.wins(joined):
            self.conflicts.append((joined, theirs))
        return self.wins(joined)

    def merged(self, path: list[bytes], base: Maybe, ours: Maybe, theirs: Maybe) -> Maybe:
        base_is_directory = base is not None and base.children is not None
        directories = [side for side in (ours, theirs) if side is not None and side.children is not None]
        if len(directories) == 2 and (base is None or base_is_directory):
            return self.directory(path, base, *directories)
        if len(directories) == 1 and None in (ours, theirs) and base_is_directory:
            assert base is not None
            return self.left(path, base, directories[0], by_ours=ours is None)
        changed = [significant(side) != significant(base) for side in (ours, theirs)]
        if all(changed) and significant(ours) != significant(theirs):
            self.conflict(path, significant(theirs))
            return ours
        taken = theirs if changed == [False, True] else ours
        if taken is None or ours is None or theirs is None:
            return taken
        alone = taken if changed[0] != changed[1] else None
        return replace(taken, **insignificant(base, ours, theirs, alone))

    def directory(self, path: list[bytes], base: Maybe, ours: Node, theirs: Node) -> Node:
        before = {} if base is None else base.children
        one, other = ours.children, theirs.children
        assert before is not None
        assert one is not None
        assert other is not None
        marks = ours
        if base is not None and ours.marks == base.marks:
            marks = theirs
        elif ours.marks != theirs.marks and (base is None or theirs.marks != base.marks):
            self.conflict(path, ("only itself", theirs.marks))
        children = {
            name: self.merged([*path, name], before.get(name), one.get(name), other.get(name))
            for name in sorted({*before, *one, *other})
        }
        alone = None
        if base is not None:
            changed = [(side.children, side.marks) != (base.children, base.marks) for side in (ours, theirs)]
            if changed[0] != changed[1]:
                alone = ours if changed[0] else theirs
        return Node(
            {name: child for name, child in children.items() if child is not None},
            marks.mode,
            marks.xattr,
            **insignificant(base, ours, theirs, alone),
        )

    def left(self, path: list[bytes], base: Node, side: Node, *, by_ours: bool) -> Maybe:
        """Returns the rest of a directory that one side removed and the other changed."""
        before, after = base.children, side.children
        assert before is not None
        assert after is not None
        stays = base.marks != side.marks
        if stays:
            stays = self.conflict(path, ("only itself", side.marks) if by_ours else None)
        children = {}
        for name in sorted(after):
            old, new, below = before.get(name), after[name], [*path, name]
            if old is not None and old.children is not None and new.children is not None:
                kept = self.left(below, old, new, by_ours=by_ours)
            elif significant(old) == significant(new):
                kept = None
            else:
                kept = new if self.conflict(below, significant(new) if by_ours else None) else None
            if kept is not None:
                children[name] = kept
        if by_ours or not (stays or children):
            return None
        return replace(side, content=children)


def insignificant(base: Maybe, ours: Node, theirs: Node, alone: Maybe) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in ("uid", "gid", "mtime_ns", "run"):
        one, other = getattr(ours, name), getattr(theirs, name)
        new = [value for value in (one, other) if base is None or value != getattr(base, name)]
        if alone is not None and name in ("mtime_ns", "run"):
            found[name] = getattr(alone, name)
        elif name == "mtime_ns" and ours.children is not None and theirs.children is not None:
            found[name] = max(new, default=one)
        else:
            found[name] = new[0] if new else one
    if isinstance((alone or ours).content, bytes):
        del found["run"]
    return found
