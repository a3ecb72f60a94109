"""A directory tree as its users see it, as comparable values; and the changes that a seal makes to it.

A seal drops setuid and setgid bits and splits hard links. Knows the driver protocol and nothing of artfs.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, replace
from typing import Any

from tests.conformance.driver import Filesystem
from tests.conformance.helpers import read_all

_SEALED_MODE = 0o1777

#: Times that tests set. Others come from a clock and differ between filesystems.
MOMENTS = [
    seconds * 10**9 + ns for seconds, ns in [(981173106, 123456789), (0, 1), (-86400, 7), (4 * 10**9, 0)]
]


@dataclass(frozen=True)
class Seen:
    """An entry as users see it. ``mtime`` is None for the clock's time, ``twin`` the first path of a file."""

    kind: int
    mode: int
    owner: tuple[int, int]
    mtime: int | None
    content: bytes | None = None
    links: int = 1
    twin: bytes = b""
    xattrs: tuple[tuple[bytes, bytes], ...] = ()


Tree = dict[bytes, Seen]


def joined(directory: bytes, name: bytes) -> bytes:
    return directory + b"/" + name if directory else name


def look(fs: Filesystem, *, exact: bool = False) -> Tree:
    """Returns everything in a tree, by path. A name that is listed twice is an error.

    ``exact``: with all times, to compare what is in one filesystem.
    """
    recorder = getattr(fs, "_recorder", None)
    if recorder is not None and not recorder.quiet:
        found: Tree = recorder.call(f"look({fs._name})", lambda: look(fs, exact=exact))  # type: ignore[attr-defined]
        return found
    found = {}
    first: dict[int, bytes] = {}
    todo = [b""]
    while todo:
        path = todo.pop()
        status = fs.stat(path)
        mtime = status.mtime if exact or status.mtime in MOMENTS else None
        seen = Seen(status.kind, status.permissions, (status.uid, status.gid), mtime)
        if status.kind == stat.S_IFDIR:
            names = fs.listdir(path)
            assert len(set(names)) == len(names), f"{path!r} lists {sorted(names)}"
            todo += sorted((joined(path, name) for name in names), reverse=True)
        else:
            seen = replace(seen, links=status.nlink, twin=first.setdefault(status.ino, path))
        if status.kind == stat.S_IFREG:
            with fs.open(path, os.O_RDONLY) as file:
                seen = replace(seen, content=read_all(file))
        elif status.kind == stat.S_IFLNK:
            seen = replace(seen, content=fs.readlink(path))
        if seen.content is not None:
            assert len(seen.content) == status.size, f"{path!r}: {len(seen.content)} bytes, not {status.size}"
        if status.kind in (stat.S_IFREG, stat.S_IFDIR):
            names = sorted(name for name in fs.listxattr(path) if name.startswith(b"user."))
            seen = replace(seen, xattrs=tuple((name, fs.getxattr(path, name)) for name in names))
        found[path] = seen
    return found


def sealed(tree: Tree) -> Tree:
    """Returns a tree as a seal changes it."""
    found = {}
    for path, seen in tree.items():
        if seen.kind != stat.S_IFLNK:
            seen = replace(seen, mode=seen.mode & _SEALED_MODE)
        found[path] = seen if seen.kind == stat.S_IFDIR else replace(seen, links=1, twin=path)
    return found


def content_of(tree: Tree) -> dict[bytes, Any]:
    """Returns what decides whether two versions are equal."""
    return {
        path: (seen.kind, seen.content, seen.mode & 0o111 if seen.kind == stat.S_IFREG else 0)
        for path, seen in tree.items()
    }


def expect_same(expected: Tree, got: Tree, what: str) -> None:
    """Fails with the differences of two trees."""
    if expected == got:
        return
    lines = [f"{what}:"]
    for path in sorted({*expected, *got}):
        if expected.get(path) != got.get(path):
            lines.append(f"  {path!r}")
            lines += [
                f"    {how} {_shown(tree.get(path))}" for how, tree in (("not", got), ("but", expected))
            ]
    raise AssertionError("\n".join(lines))


def _shown(seen: Seen | None) -> str:
    if seen is None:
        return "nothing"
    if seen.content is not None and len(seen.content) > 60:
        seen = replace(seen, content=seen.content[:60] + b"... %d bytes" % len(seen.content))
    return f"{stat.filemode(seen.kind | seen.mode)} {seen}"
