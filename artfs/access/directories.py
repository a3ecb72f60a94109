"""Ways down a directory tree by descriptors, so that no path is too long and no symlink leads astray.

Owns walking. Knows nothing of volumes. Each object belongs to one thread.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

from artfs.errors import ArtfsError, printable

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_DEEP = 100  # levels whose directories stay open; those above are found again by their child's ".."


class Directories:
    """The directories from a root down to where one stands.

    With `follow` symlinks are what they lead to.
    """

    def __init__(self, root_fd: int, *, follow: bool = False) -> None:
        """Owns `root_fd` from now on, also after a failure."""
        self._fds, self._follow = [root_fd], follow
        self._identities = [_identity(root_fd)]
        self._names: list[bytes] = []
        self._prefix = b""

    @property
    def fd(self) -> int:
        """The directory where one stands."""
        return self._fds[-1]

    @property
    def path(self) -> bytes:
        """Its path below the root; empty for the root."""
        return self._prefix[:-1]

    def below(self, name: bytes) -> bytes:
        """Returns the path of a name in it."""
        return self._prefix + name

    def names(self) -> list[bytes]:
        """Returns the names of all entries, sorted."""
        return sorted(map(os.fsencode, os.listdir(self.fd)))

    def look(self, name: bytes) -> os.stat_result | None:
        """Returns the status of an entry; None if it is gone. FileNotFoundError: it leads nowhere."""
        try:
            status = os.stat(name, dir_fd=self.fd, follow_symlinks=False)
        except FileNotFoundError:
            return None
        if self._follow and stat.S_ISLNK(status.st_mode):
            with naming(self.below(name)):
                status = os.stat(name, dir_fd=self.fd)
        return status

    def enter(self, name: bytes) -> None:
        """Goes down into a subdirectory. Raises NotADirectoryError for a symlink and anything else.

        If symlinks are followed, ELOOP says that one leads back up.
        """
        try:
            flags = _DIRECTORY & ~os.O_NOFOLLOW if self._follow else _DIRECTORY
            fd = os.open(name, flags, dir_fd=self.fd)
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), name) from None
            raise
        if self._follow and _identity(fd) in self._identities:
            os.close(fd)
            raise OSError(errno.ELOOP, "a symlink leads back up", name)
        if len(self._fds) > _DEEP and self._fds[-_DEEP] >= 0:
            os.close(self._fds[-_DEEP])
            self._fds[-_DEEP] = -1
        self._fds.append(fd)
        self._identities.append(_identity(fd))
        self._names.append(name)
        self._prefix += name + b"/"

    def leave(self) -> None:
        """Goes up again."""
        fd = self._fds.pop()
        self._identities.pop()
        name = self._names.pop()
        self._prefix = self._prefix[: -len(name) - 1]
        try:
            if self._fds[-1] < 0:
                above = os.open(b"..", _DIRECTORY, dir_fd=fd)
                self._fds[-1] = above
                if _identity(above) != self._identities[-1]:
                    raise OSError(errno.ESTALE, "a directory was moved away meanwhile", self.path)
        finally:
            os.close(fd)

    def close(self) -> None:
        while self._fds:
            fd = self._fds.pop()
            if fd >= 0:
                os.close(fd)

    def __enter__(self) -> Directories:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Found(NamedTuple):
    """One entry of a walk; `leaving` is the second time that a directory comes, after all that is in it."""

    path: bytes
    name: bytes
    status: os.stat_result
    leaving: bool = False

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.status.st_mode)


class Walked(Protocol):
    """What can be walked through: it stands at a directory."""

    def names(self) -> list[bytes]: ...

    def below(self, name: bytes) -> bytes: ...

    def look(self, name: bytes) -> os.stat_result | None: ...

    def enter(self, name: bytes) -> None: ...

    def leave(self) -> None: ...


def walk(
    at: Walked, wanted: Callable[[bytes, os.stat_result], bool] = lambda _path, _status: True
) -> Iterator[Found]:
    """Yields everything below where `at` stands, by name; a directory before and after its content.

    Whenever it yields, `at` stands at the directory that holds the entry. What is not `wanted` is left out,
    a directory with all that is in it.
    """
    todo: list[tuple[Iterator[bytes], Found | None]] = [(iter(at.names()), None)]
    while todo:
        listing, entered = todo[-1]
        name = next(listing, None)
        if name is None:
            todo.pop()
            if entered is not None:
                at.leave()
                yield entered._replace(leaving=True)
            continue
        status = at.look(name)
        if status is None:
            continue  # gone since it was listed
        found = Found(at.below(name), name, status)
        if not wanted(found.path, status):
            continue
        yield found
        if found.is_directory:
            with naming(found.path):
                at.enter(name)
            todo.append((iter(at.names()), found))


@contextlib.contextmanager
def naming(path: bytes) -> Iterator[None]:
    """Names the whole path in an OSError of the block, instead of its last part."""
    try:
        yield
    except ArtfsError:
        raise
    except OSError as error:
        raise OSError(error.errno, error.strerror, printable(path)) from None


def _identity(fd: int) -> tuple[int, int]:
    status = os.fstat(fd)
    return status.st_dev, status.st_ino
