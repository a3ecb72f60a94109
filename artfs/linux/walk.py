"""Ways down a directory tree by descriptors, so that no path is too long and no symlink leads astray.

Owns walking. Knows nothing of volumes. Each object belongs to one thread.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol, Self

from artfs.errors import naming

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
Identity = tuple[int, int]
"""Which inode something is: its device and number."""

_DEEP = 100  # levels whose directories stay open; those above are found again by their child's ".."


class Directories:
    """The directories from a root down to where one stands."""

    _fds: list[int] = []  # for __del__, should __init__ have been interrupted

    def __init__(self, root_fd: int) -> None:
        """Owns `root_fd` from now on, also after a failure."""
        self._fds = [root_fd]
        self._identities = [identity(root_fd)]
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
        """Returns the status of an entry; None if it is gone."""
        try:
            return os.stat(name, dir_fd=self.fd, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def enter(self, name: bytes) -> None:
        """Goes down into a subdirectory. Raises NotADirectoryError for a symlink and anything else."""
        try:
            fd = os.open(name, DIRECTORY, dir_fd=self.fd)
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), name) from None
            raise
        self._push(fd, name)

    def _push(self, fd: int, name: bytes) -> None:
        if len(self._fds) > _DEEP and self._fds[-_DEEP] >= 0:
            os.close(self._fds[-_DEEP])
            self._fds[-_DEEP] = -1
        self._fds.append(fd)
        self._identities.append(identity(fd))
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
                above = os.open(b"..", DIRECTORY, dir_fd=fd)
                self._fds[-1] = above
                if identity(above) != self._identities[-1]:
                    raise OSError(errno.ESTALE, "a directory was moved away meanwhile", self.path)
        finally:
            os.close(fd)

    def close(self) -> None:
        while self._fds:
            fd = self._fds.pop()
            if fd >= 0:
                os.close(fd)

    __del__ = close  # for a `with` statement that an exception of a signal handler came before

    def __enter__(self) -> Self:
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


def identity(fd: int) -> Identity:
    return identity_of(os.fstat(fd))


def identity_of(status: os.stat_result) -> Identity:
    return status.st_dev, status.st_ino
