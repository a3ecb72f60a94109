"""Where a tree under test is: one world is in ``memory.py``, another in the tests on a mount."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from artfs.vfs.node import Listing
from tests.conformance.driver import Filesystem, OpenFile, OsFile, OsFilesystem


@dataclass(frozen=True)
class Finished:
    """The answer of a finish."""

    version: str
    unchanged: bool


@dataclass
class Seat:
    """A directory that a process holds, whatever happens to its path."""

    fs: Filesystem
    fd: int = -1
    #: Opens a listing of it that can be read in steps.
    listing: Callable[[], Listing] | None = None

    def leave(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)

    @classmethod
    def of(cls, path: bytes) -> Seat:
        """Holds a directory that system calls can reach."""
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        return cls(_HeldDirectory(b"/proc/self/fd/%d" % fd), fd)


class _HeldDirectory(OsFilesystem):
    def path(self, path: bytes = b"") -> bytes:
        return os.path.join(self.root, path or b".")  # the descriptor's target, not the symlink in /proc


def reopened(file: OpenFile, flags: int) -> OpenFile:
    """Opens an open file of the operating system again."""
    assert isinstance(file, OsFile)
    return OsFile(os.open(f"/proc/self/fd/{file.fileno()}", flags | os.O_CLOEXEC))


class World(Protocol):
    """Where the tree under test is. Refusals are OSErrors."""

    restarts: bool

    @property
    def fs(self) -> Filesystem: ...

    def start(self, base: str | None) -> None:
        """Starts a pending version, which `fs` then shows."""
        ...

    def finish(self, *, force: bool = False) -> Finished: ...
    def rebase(self) -> None:
        """Sets the tree's base again."""
        ...

    def collided(self) -> list[bytes] | None:
        """Returns the paths that the last finish or rebase reported with ESTALE; None if not known."""
        ...

    def elsewhere(self, base: str | None) -> Filesystem:
        """Starts another pending version, for another user."""
        ...

    def finish_elsewhere(self) -> Finished: ...
    def version(self, name: str) -> Filesystem: ...
    def delete(self, name: str) -> None:
        """Deletes a version."""
        ...

    def restart(self) -> None: ...
    def forget(self) -> None:
        """Makes the kernel evict all names; open files remain."""
        ...

    def gc(self) -> None: ...
    def seat(self, path: bytes) -> Seat: ...
    def reopen(self, file: OpenFile, flags: int) -> OpenFile:
        """Opens a file again, which may have no name any more."""
        ...

    def cold(self) -> contextlib.AbstractContextManager[Filesystem]:
        """Shows the tree to a kernel with empty caches; may be `fs` itself."""
        ...

    def counted(self) -> tuple[int, int]:
        """Returns the numbers of files and bytes of the tree's status."""
        ...

    def left(self) -> list[bytes]:
        """Returns what completed changes left behind."""
        ...

    def close(self) -> None: ...
