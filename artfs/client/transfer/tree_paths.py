"""Paths in trees. Pure; any thread may use this."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from artfs.errors import InvalidCommand, printable
from artfs.model import names

_MOST_LINKS = 40  # as many as the kernel follows (path_resolution(7))


def parts(path: bytes) -> list[bytes]:
    """Splits a path within a tree; `/`, `.` and repeated slashes mean nothing.

    Raises :class:`InvalidName` for `..` and for a name that no tree can hold.
    """
    found = [name for name in path.split(b"/") if name not in (b"", b".")]
    for name in found:
        names.check_entry_name(name)
    return found


def no_file(path: bytes, kind: str) -> InvalidCommand:
    """Returns the refusal to read what is no file."""
    return InvalidCommand(f"'{printable(path)}' is a {kind}, not a file")


def resolved(path: Sequence[bytes], link_at: Callable[[list[bytes]], bytes | None]) -> list[bytes] | None:
    """Follows the symlinks of a path within its tree; None if they lead out of it, or in circles.

    ``link_at`` returns the target of the symlink at a path, of which only the last part may be a symlink;
    None if it is none.
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
