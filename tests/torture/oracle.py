"""Compares a mounted volume with what was acknowledged: all of it exists, and nothing impossible.

An operation that was in progress when its process or the daemon was killed may be done or not. Of a write a
part may be done, and likewise of several files.
"""

from __future__ import annotations

import copy
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.mount.control import show
from tests.torture.model import (
    DIRECTORY,
    File,
    Link,
    Mine,
    Op,
    Tree,
    World,
    apply,
    bytes_of,
    described,
    groups,
    parent,
    put,
    spliced,
)
from tests.torture.worker import TEAM


class Lost(Exception):
    """Acknowledged data is missing, or data exists that was never written."""


def observed(root: Path) -> Tree:
    """Reads a tree as users do; returns None if the directory does not exist."""
    tree: Tree = {}
    known: dict[int, File] = {}
    todo = [""]
    while todo:
        above = todo.pop()
        for name in sorted(os.listdir(root / above)):
            path = f"{above}/{name}".lstrip("/")
            full = root / path
            status = full.lstat()
            if stat.S_ISDIR(status.st_mode):
                tree[path] = DIRECTORY
                todo.append(path)
            elif stat.S_ISLNK(status.st_mode):
                tree[path] = Link(os.readlink(full))
            elif status.st_ino in known:
                tree[path] = known[status.st_ino]
            else:
                xattrs = {name: os.getxattr(full, name) for name in os.listxattr(full)}
                data = full.read_bytes()
                if len(data) != status.st_size:
                    raise Lost(f"{full} has {len(data)} bytes and says {status.st_size}")
                tree[path] = known[status.st_ino] = File(data, stat.S_IMODE(status.st_mode), xattrs)
    return tree


def difference(found: Tree, wanted: Tree, *, pending: bool) -> str:
    """Describes the difference of two trees in a line; empty if they are equal."""
    one, other = described(found), described(wanted)
    for path in sorted(one.keys() | other.keys()):
        if one.get(path) != other.get(path):
            return f"{path}: {short(one.get(path))} instead of {short(other.get(path))}"
    if pending and groups(found) != groups(wanted):
        return f"one file under {_names(groups(found))} instead of {_names(groups(wanted))}"
    return ""


def _names(found: set[frozenset[str]]) -> list[list[str]]:
    return sorted(map(sorted, found))


def short(node: Any) -> str:
    if isinstance(node, tuple):
        data, mode, xattrs = node
        return f"{len(data)} bytes {data[:8].hex()}... {mode:o} {xattrs}"
    return str(node)


# Possible results of an unacknowledged operation


def outcomes(mine: Mine, op: Op | None, root: Path | None) -> Iterator[Mine]:
    """Yields the possible states after the unacknowledged `op`; `root` is the tree that it changed."""
    yield mine
    if not op:
        return
    if op["do"] in ("write", "append", "store", "put") and root is not None and root.is_dir():
        part = copy.deepcopy(mine)
        tree = part.own.pending.get(op["id"]) if op["where"] == "own" else part.team.setdefault(op["id"], {})
        if tree is not None:
            _do_in_part(tree, op, observed(root))
            part.own.untouched.discard(op["id"])
            yield part
        return
    done = copy.deepcopy(mine)
    apply(done, op)
    yield done


def _do_in_part(tree: Tree, op: Op, found: Tree) -> None:
    if op["do"] == "put":
        for path, (seed, size) in op["files"].items():
            above, new = parent(path), File(bytes_of(seed, size))
            if found.get(above) == DIRECTORY:
                tree.setdefault(above, DIRECTORY)
            if path in found and described({path: found[path]}) == described({path: new}):
                put(tree, path, new.data)
        return
    node, now = tree[op["path"]], found.get(op["path"])
    if isinstance(node, File) and isinstance(now, File):
        before, data = node.data, bytes_of(op["seed"], op["size"])
        offset = len(before) if op["do"] == "append" else op["offset"]
        before = spliced(before, offset, data[: op.get("wrote", 0)])  # the acknowledged part
        after = spliced(before, offset, data)
        if min(len(before), len(after)) <= len(now.data) <= max(len(before), len(after)):
            pairs = zip(
                now.data, before.ljust(len(after), b"\0"), after.ljust(len(before), b"\0"), strict=False
            )
            if all(byte in (old, new) for byte, old, new in pairs):
                node.data = now.data


# A collection of one process


def check_own(point: Path, mine: Mine, op: Op | None) -> Mine:
    """Returns the state found; raises Lost if it is not a possible one."""
    collection = point / mine.own.name
    in_own = op if op and op["where"] == "own" else None
    root = collection / "pending" / in_own["id"] if in_own and "id" in in_own else None
    said = []
    for outcome in outcomes(mine, in_own, root):
        why = "; ".join(_faults(collection, outcome.own))
        if not why:
            return outcome
        said.append(why)
    raise Lost(f"{mine.own.name}, after {op} without an answer: {' / or: '.join(said)}")


def _faults(collection: Path, world: World) -> Iterator[str]:
    pending = collection / "pending"
    listed = set(os.listdir(pending))
    if listed != set(world.pending):
        yield f"pending are {sorted(listed)} instead of {sorted(world.pending)}"
    names = set(os.listdir(collection)) - {"pending"}
    links = {name: os.readlink(collection / name) for name in names if (collection / name).is_symlink()}
    versions = names - set(links)
    if versions != set(world.versions):
        yield f"versions are {sorted(versions)} instead of {sorted(world.versions)}"
    newest = world.newest()
    wanted = {**world.aliases, **({"latest": newest} if newest else {})}
    if links != wanted:
        yield f"aliases are {links} instead of {wanted}"
    for name, version in world.ids.items():
        if not (pending / name).is_symlink() or os.readlink(pending / name) != f"../{version}":
            yield f"{name} is not {version}"
    for name, tree in world.pending.items():
        if name in listed and (why := difference(observed(pending / name), tree, pending=True)):
            yield f"pending {name}: {why}"
    for name, tree in world.versions.items():
        if name in versions and (why := difference(observed(collection / name), tree, pending=False)):
            yield f"version {name}: {why}"
        tags = show(collection / name, "tags").split() if name in versions else []
        if sorted(tags) != world.tags.get(name, []):
            yield f"tags of {name}: {tags} instead of {world.tags.get(name, [])}"


# The ids that all processes fill


def check_team(point: Path, all_of_them: list[Mine], ops: list[Op | None]) -> list[Mine]:
    """Does the same for the ids of the team."""
    collection = point / TEAM
    finisher, last = all_of_them[0], ops[0]
    for name in _team_ids(finisher, last):
        place = collection / "pending" / name
        known = finisher.team_ids.get(name)
        finishing = last is not None and (last["where"], last["do"], last.get("id")) == (
            "team",
            "finish",
            name,
        )
        if place.is_symlink():
            version = os.path.basename(os.readlink(place))
            answered = known is not None and known != "?"
            if (answered and known != version) or (known is None and not finishing):
                raise Lost(f"{name} is {version}, and it was answered {known}")
            root, pending = collection / version, False
            finisher.team_ids[name] = version
        elif place.is_dir():
            if known is not None:
                raise Lost(f"{name} is pending, and it was answered {known}")
            root, pending = place, True
            finisher.team_ids.setdefault(name, None)
        elif name in finisher.team_ids and known != "gone":
            raise Lost(f"{name} is gone, and it was answered {known}")
        else:
            continue
        parts = set(os.listdir(root))
        for index, mine in enumerate(all_of_them):
            all_of_them[index] = _check_part(
                root / f"w{mine.number}", name, mine, ops[index], pending=pending
            )
            parts.discard(f"w{mine.number}")
        if parts:
            raise Lost(f"{name} has {parts}, which nobody made")
    return all_of_them


def _team_ids(finisher: Mine, last: Op | None) -> list[str]:
    names = set(finisher.team_ids)
    if last is not None and last["where"] == "team":
        names.add(last["id"])
    return sorted(names)


def _check_part(root: Path, name: str, mine: Mine, op: Op | None, *, pending: bool) -> Mine:
    in_part = op if op and op["where"] == "team" and op["id"] == name else None
    if in_part and in_part["do"] in ("start", "finish"):
        in_part = None
    found = observed(root) if root.is_dir() else None
    said = []
    for outcome in outcomes(mine, in_part, root):
        wanted = outcome.team.get(name)
        if found is None or wanted is None:
            if (found or {}) == (wanted or {}) and (found is None or wanted is None or pending):
                return outcome
            said.append(f"{'no' if found is None else 'a'} part of process {mine.number}")
        else:
            why = difference(found, wanted, pending=pending)
            if not why:
                return outcome
            said.append(why)
    raise Lost(f"{TEAM}/{name}, process {mine.number}, after {in_part}: {' / or: '.join(said)}")
