"""Paths in trees, and patterns that leave some out. Pure; any thread may use them."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence

from artfs.errors import InvalidCommand, printable
from artfs.model import names

_MOST_LINKS = 40  # as many as the kernel follows (path_resolution(7))


def parts(path: bytes) -> list[bytes]:
    """Splits a path within a tree; `/`, `.` and repeated slashes say nothing.

    Raises :class:`InvalidName` for `..` and for a name that no tree can hold.
    """
    found = [name for name in path.split(b"/") if name not in (b"", b".")]
    for name in found:
        names.check_entry_name(name)
    return found


def no_file(path: bytes, kind: str) -> InvalidCommand:
    """Says that a path is not that of a file."""
    return InvalidCommand(f"'{printable(path)}' is a {kind}, not a file")


def resolved(path: Sequence[bytes], link_at: Callable[[list[bytes]], bytes | None]) -> list[bytes] | None:
    """Follows the symlinks of a path within its tree; None if they lead out of it, or in circles.

    ``link_at`` tells the target of the symlink at a path without symlinks before its last part; None where
    there is none.
    """
    todo, at, links = list(reversed(path)), list[bytes](), 0
    while todo:
        name = todo.pop()
        if name == b"..":
            if not at:
                return None
            at.pop()
            continue
        target = link_at([*at, name])
        if target is None:
            at.append(name)
            continue
        links += 1
        if links > _MOST_LINKS or target.startswith(b"/"):
            return None
        todo += [part for part in reversed(target.split(b"/")) if part not in (b"", b".")]
    return at


class Excludes:
    """Patterns like those of .gitignore: `*.tmp` by name at any depth, `a/*.tmp` by path from the root.

    `*` and `?` stop at a slash, `**/` is any number of directories, `[abc]` a set. A pattern that ends in a
    slash takes directories only. A directory that is left out takes all that is in it along.
    """

    def __init__(self, patterns: Sequence[str]) -> None:
        self._anywhere: list[tuple[re.Pattern[bytes], bool]] = []
        self._from_root: list[tuple[re.Pattern[bytes], bool]] = []
        for pattern in patterns:
            only_directories = pattern.endswith("/")
            text = pattern.rstrip("/")
            kind = self._from_root if "/" in text else self._anywhere
            kind.append((re.compile(_translated(os.fsencode(text.lstrip("/")))), only_directories))

    def __bool__(self) -> bool:
        return bool(self._anywhere or self._from_root)

    def match(self, path: bytes, *, directory: bool) -> bool:
        name = path.rpartition(b"/")[2]
        return any(
            (directory or not only_directories) and pattern.fullmatch(text) is not None
            for text, kind in ((name, self._anywhere), (path, self._from_root))
            for pattern, only_directories in kind
        )


def _translated(pattern: bytes) -> bytes:
    """Turns a pattern into a regular expression; one that can't be a set is taken literally."""
    out, at = [b"(?s:"], 0
    while at < len(pattern):
        char = pattern[at : at + 1]
        at += 1
        if pattern[at - 1 : at + 2] == b"**/":
            out.append(b"(?:[^/]+/)*")
            at += 2
        elif pattern[at - 1 : at + 1] == b"**":
            out.append(b".*")
            at += 1
        elif char == b"*":
            out.append(b"[^/]*")
        elif char == b"?":
            out.append(b"[^/]")
        elif char == b"[" and (end := pattern.find(b"]", at + 1)) >= 0:
            inside = pattern[at:end].replace(b"\\", b"\\\\").replace(b"[", b"\\[")
            out.append(b"(?!/)[" + (b"^" + inside[1:] if inside[:1] in b"!^" else inside) + b"]")
            at = end + 1
        else:
            out.append(re.escape(char))
    return b"".join((*out, b")"))
