"""The expected state of a volume under the kill torture: trees, versions, aliases, and operations.

An operation is a JSON dictionary; its ``do`` is its kind. :func:`change` and :func:`apply` define its effect,
and :mod:`tests.torture.worker` executes it. Nothing here touches a file.
"""

from __future__ import annotations

import copy
import random
from dataclasses import dataclass, field
from typing import Any

Op = dict[str, Any]


@dataclass(eq=False)
class File:
    """An inode, shared by the names of one file."""

    data: bytes = b""
    mode: int = 0o644
    xattrs: dict[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class Link:
    target: str


DIRECTORY = "directory"
Node = File | Link | str
Tree = dict[str, Node]


@dataclass
class World:
    """A collection that only one process changes."""

    name: str
    pending: dict[str, Tree] = field(default_factory=dict)
    versions: dict[str, Tree] = field(default_factory=dict)
    ids: dict[str, str] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)
    tags: dict[str, list[str]] = field(default_factory=dict)
    made: int = 0
    started: int = 0
    #: Pending versions without changes, which may get a base.
    untouched: set[str] = field(default_factory=set)

    def newest(self) -> str | None:
        return max(self.versions, key=lambda name: int(name[1:]), default=None)


@dataclass
class Mine:
    """What one process knows: its collection, and its part in each pending version that all fill."""

    number: int
    own: World
    team: dict[str, Tree] = field(default_factory=dict)
    #: The started ids of the team, and the version of each; only the first process finishes.
    team_ids: dict[str, str | None] = field(default_factory=dict)


def bytes_of(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


# Trees


def parent(path: str) -> str:
    return path.rpartition("/")[0]


def below(tree: Tree, path: str) -> list[str]:
    return [name for name in tree if name.startswith(path + "/")]


def spliced(before: bytes, offset: int, data: bytes) -> bytes:
    return before[:offset].ljust(offset, b"\0") + data + before[offset + len(data) :]


def change(tree: Tree, op: Op) -> None:
    """Applies one operation to a tree."""
    do, path = op["do"], op.get("path", "")
    node = tree.get(path)
    if do == "create":
        tree[path] = File()
    elif do in ("write", "store", "append"):
        assert isinstance(node, File)
        data = bytes_of(op["seed"], op["size"])
        node.data = spliced(node.data, len(node.data) if do == "append" else op["offset"], data)
    elif do == "truncate":
        assert isinstance(node, File)
        node.data = node.data[: op["size"]].ljust(op["size"], b"\0")
    elif do == "chmod":
        assert isinstance(node, File)
        node.mode = op["mode"]
    elif do == "xattr":
        assert isinstance(node, File)
        node.xattrs[op["name"]] = op["value"].encode()
    elif do == "mkdir":
        tree[path] = DIRECTORY
    elif do in ("unlink", "rmdir"):
        del tree[path]
    elif do == "symlink":
        tree[path] = Link(op["target"])
    elif do == "link":
        tree[op["to"]] = tree[path]
    elif do == "rename":
        if tree[path] is not tree.get(op["to"]):  # rename(2) keeps both names of one file
            moved = {op["to"] + name[len(path) :]: tree.pop(name) for name in [path, *below(tree, path)]}
            tree.update(moved)
    elif do == "put":
        for name, (seed, size) in op["files"].items():
            put(tree, name, bytes_of(seed, size))
    else:
        assert do == "fsync", do


def put(tree: Tree, path: str, data: bytes) -> None:
    """Adds a whole file with a new inode."""
    above = parent(path)
    if above:
        tree.setdefault(above, DIRECTORY)
    tree[path] = File(data)


def described(tree: Tree) -> dict[str, Any]:
    """Returns the visible content of a tree, except for which names are one file."""
    return {
        path: (node.data, node.mode, node.xattrs) if isinstance(node, File) else node
        for path, node in tree.items()
    }


def groups(tree: Tree) -> set[frozenset[str]]:
    """Returns the names of each file that has several."""
    found: dict[int, set[str]] = {}
    for path, node in tree.items():
        if isinstance(node, File):
            found.setdefault(id(node), set()).add(path)
    return {frozenset(paths) for paths in found.values() if len(paths) > 1}


def content(tree: Tree) -> dict[str, Any]:
    """Returns what makes two versions equal."""
    return {
        path: (node.data, node.mode & 0o111) if isinstance(node, File) else node
        for path, node in tree.items()
    }


def parted(tree: Tree) -> Tree:
    """Returns a copy in which each name is a separate file, as in a version."""
    return {path: copy.deepcopy(node) for path, node in tree.items()}


# Collections


def apply(mine: Mine, op: Op) -> None:
    """Applies one operation to all that a process knows."""
    if op["where"] == "team":
        _apply_to_team(mine, op)
        return
    world, do, name = mine.own, op["do"], op.get("id", "")
    world.untouched.discard(name)
    if do == "start":
        world.pending[name] = {}
        world.untouched.add(name)
        world.started += 1
    elif do == "base":
        world.pending[name] = parted(world.versions[op["version"]])
    elif do == "finish":
        _finish(world, name, op["aliases"])
    elif do == "again":
        world.aliases[op["alias"]] = world.ids[name]
    elif do == "discard":
        del world.pending[name]
    elif do == "alias":
        world.aliases[op["alias"]] = op["version"]
    elif do == "unalias":
        del world.aliases[op["alias"]]
    elif do == "tag":
        world.tags[op["version"]] = op["tags"]
    elif do == "delete":
        del world.versions[op["version"]]
        world.tags.pop(op["version"], None)
        world.ids = {key: version for key, version in world.ids.items() if version != op["version"]}
    elif do != "gc":
        change(world.pending[name], op)


def _finish(world: World, name: str, aliases: list[str]) -> None:
    tree, newest = parted(world.pending.pop(name)), world.newest()
    if newest is None or content(world.versions[newest]) != content(tree):
        newest = f"v{world.made}"
        world.made += 1
        world.versions[newest] = tree
    world.ids[name] = newest
    for alias in aliases:
        world.aliases[alias] = newest


def _apply_to_team(mine: Mine, op: Op) -> None:
    do, name = op["do"], op["id"]
    if do == "start":
        mine.team_ids[name] = None
    elif do == "finish":
        mine.team_ids[name] = op.get("version", "?")
    elif do == "part":
        mine.team[name] = {}
    else:
        change(mine.team.setdefault(name, {}), op)
