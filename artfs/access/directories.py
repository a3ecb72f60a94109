"""Ways down a directory tree by descriptors, so that no path is too long and no symlink leads astray.

Owns walking. Knows nothing of volumes. Each object belongs to one thread.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator
from typing import NamedTuple

from artfs.errors import printable

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_DEEP = 100  # levels whose directories stay open; those above are found again by their child's ".."


class Directories:
    """The directories from a root down to where one stands."""

    def __init__(self, root_fd: int) -> None:
        """Owns `root_fd` from now on, also after a failure."""
        self._fds = [root_fd]
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
        return b"/".join(self._names)

    @property
    def depth(self) -> int:
        return len(self._names)

    def below(self, name: bytes) -> bytes:
        """Returns the path of a name in it."""
        return self._prefix + name

    def enter(self, name: bytes, *, follow: bool = False) -> None:
        """Goes down into a subdirectory. Raises NotADirectoryError for a symlink and anything else.

        With `follow` a symlink to a directory is one, and ELOOP says that it leads back up.
        """
        try:
            fd = os.open(name, _DIRECTORY & ~os.O_NOFOLLOW if follow else _DIRECTORY, dir_fd=self.fd)
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), name) from None
            raise
        if follow and _identity(fd) in self._identities:
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


def walk(
    directories: Directories,
    wanted: Callable[[bytes, os.stat_result], bool] = lambda _path, _status: True,
    *,
    follow: bool = False,
) -> Iterator[Found]:
    """Yields everything below where `directories` stands, by name; a directory before and after its content.

    Whenever it yields, `directories` stands at the directory that holds the entry. What is not `wanted` is
    left out, a directory with all that is in it. With `follow` symlinks are what they lead to, and one that
    leads nowhere is FileNotFoundError.
    """
    todo: list[tuple[Iterator[bytes], Found | None]] = [(_names(directories.fd), None)]
    while todo:
        listing, entered = todo[-1]
        name = next(listing, None)
        if name is None:
            todo.pop()
            if entered is not None:
                directories.leave()
                yield entered._replace(leaving=True)
            continue
        try:
            status = os.stat(name, dir_fd=directories.fd, follow_symlinks=False)
        except FileNotFoundError:
            continue  # gone since it was listed
        if follow and stat.S_ISLNK(status.st_mode):
            with naming(directories.below(name)):
                status = os.stat(name, dir_fd=directories.fd)
        found = Found(directories.below(name), name, status)
        if not wanted(found.path, status):
            continue
        yield found
        if stat.S_ISDIR(status.st_mode):
            with naming(found.path):
                directories.enter(found.name, follow=follow)
            todo.append((_names(directories.fd), found))


def newest_change(root_fd: int) -> float:
    """Returns the latest time at which anything in a tree changed (ctime), itself included; closes `root_fd`.

    In seconds since the epoch. Not mtime: tar and rsync set that back.
    """
    newest = os.fstat(root_fd).st_ctime
    with Directories(root_fd) as directories:
        for found in walk(directories):
            newest = max(newest, found.status.st_ctime)
    return newest


@contextlib.contextmanager
def naming(path: bytes) -> Iterator[None]:
    """Names the whole path in an OSError of the block, instead of its last part."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, printable(path)) from None


def with_path(path: bytes, call: Callable[[], object]) -> None:
    """Calls, and names the whole path in the OSError, instead of its last part."""
    with naming(path):
        call()


def _names(fd: int) -> Iterator[bytes]:
    return iter(sorted(map(os.fsencode, os.listdir(fd))))


def _identity(fd: int) -> tuple[int, int]:
    status = os.fstat(fd)
    return status.st_dev, status.st_ino
