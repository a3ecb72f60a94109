"""Where a tree under test lies. ``memory.py`` has one such world, the tests on a mount another."""

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
    """What a finish answered."""

    version: str
    unchanged: bool


@dataclass
class Seat:
    """A directory that a process holds, whatever becomes of its path."""

    fs: Filesystem
    fd: int = -1
    #: Opens a listing of it that can be read bit by bit.
    listing: Callable[[], Listing] | None = None

    def leave(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)

    @classmethod
    def of(cls, path: bytes) -> Seat:
        """Sits down in a directory that system calls reach."""
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        return cls(_HeldDirectory(b"/proc/self/fd/%d" % fd), fd)


class _HeldDirectory(OsFilesystem):
    def path(self, path: bytes = b"") -> bytes:
        return os.path.join(self.root, path or b".")  # what a descriptor leads to, not the link of /proc


def reopened(file: OpenFile, flags: int) -> OpenFile:
    """Opens an open file of the operating system once more."""
    assert isinstance(file, OsFile)
    return OsFile(os.open(f"/proc/self/fd/{file.fileno()}", flags | os.O_CLOEXEC))


class World(Protocol):
    """Where the tree under test lies. What is refused is an OSError."""

    restarts: bool

    @property
    def fs(self) -> Filesystem: ...

    def start(self, base: str | None) -> None:
        """Starts a pending version; `fs` shows it from then on."""
        ...

    def finish(self, *, force: bool = False) -> Finished: ...
    def rebase(self) -> None:
        """Writes the base again that the tree was started with."""
        ...

    def collided(self) -> list[bytes] | None:
        """Returns the paths that the last finish or rebase told with ESTALE; None if that is not known."""
        ...

    def elsewhere(self, base: str | None) -> Filesystem:
        """Starts one more pending version, for another user."""
        ...

    def finish_elsewhere(self) -> Finished: ...
    def version(self, name: str) -> Filesystem: ...
    def delete(self, name: str) -> None:
        """Deletes a version."""
        ...

    def restart(self) -> None: ...
    def forget(self) -> None:
        """Has the kernel forget all names; what is open stays."""
        ...

    def gc(self) -> None: ...
    def seat(self, path: bytes) -> Seat: ...
    def reopen(self, file: OpenFile, flags: int) -> OpenFile:
        """Opens a file once more, which has perhaps no name any more."""
        ...

    def cold(self) -> contextlib.AbstractContextManager[Filesystem]:
        """Shows the tree to a kernel that knows nothing of it; may be `fs` itself."""
        ...

    def counted(self) -> tuple[int, int]:
        """Files and bytes, as the tree's status has them."""
        ...

    def left(self) -> list[bytes]:
        """What changes left behind that are done."""
        ...

    def close(self) -> None: ...
