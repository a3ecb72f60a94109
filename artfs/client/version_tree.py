"""Reading the tree of one version: what a volume and a mount have in common.

Owns how a path leads to an entry, and that no symlink leads out of the version. Blocking; each object belongs
to one thread.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence

from artfs.client.values import VersionEntry
from artfs.errors import InvalidCommand, PathNotFound
from artfs.model import names
from artfs.printing import printable

_MOST_LINKS = 40  # as many as the kernel follows (path_resolution(7))


class VersionTree(ABC):
    @abstractmethod
    def label(self) -> str:
        """Returns what errors call the version: ``name:v3``."""

    @abstractmethod
    def find(self, path: Sequence[bytes]) -> VersionEntry | None:
        """Returns the entry at a path, of which no part is a symlink but the last; None if there is none."""

    @abstractmethod
    def children(self, path: Sequence[bytes]) -> Iterator[VersionEntry]:
        """Yields the entries of a directory, by name."""

    @abstractmethod
    def below(self, path: Sequence[bytes]) -> Iterator[VersionEntry]:
        """Yields all that is below a directory, in preorder."""

    @abstractmethod
    def open(self, path: Sequence[bytes]) -> int:
        """Opens a file, whose bytes can be read then. Raises ReferenceFailed and Damaged."""

    def list_directory(self, path: bytes) -> list[VersionEntry]:
        found = self._find(parts(path), path)
        return list(self.children(parts(path))) if found.kind == "directory" else [found]

    def walk(self, prefix: bytes) -> Iterator[VersionEntry]:
        path = parts(prefix)
        for depth in range(len(path) + 1):
            found = self._find(path[:depth], prefix)
            yield found
        if found.kind == "directory":
            yield from self.below(path)

    def open_file(self, path: bytes) -> int:
        def link_at(path: list[bytes]) -> bytes | None:
            found = self.find(path)
            return found.target if found is not None and found.kind == "symlink" else None

        target = resolved(parts(path), link_at)
        if target is None:
            raise PathNotFound(self.label(), path)
        found = self._find(target, path)
        if found.kind != "file":
            raise no_file(path, found.kind)
        return self.open(target)

    def _find(self, path: Sequence[bytes], shown: bytes) -> VersionEntry:
        found = self.find(path)
        if found is None:
            raise PathNotFound(self.label(), shown)
        return found


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

    `link_at` returns the target of the symlink at a path, of which only the last part may be a symlink; None
    if it is none.
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
