"""The one walk of directory trees: by descriptors, so that no path is too long and no symlink leads astray.

Owns how a walk goes down and up again, with a bounded number of descriptors, and that it never leaves its
tree: where ``..`` leads elsewhere than to the directory that it came from, it fails. Knows nothing of
volumes. Blocking; each object belongs to one thread. Others may change the tree meanwhile: what is gone is
passed over, and a directory that is moved may be seen twice or not at all.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol, Self

from artfs.errors import naming

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
ROOT = DIRECTORY & ~os.O_NOFOLLOW
"""For the root of a walk, which the user may give by a symlink."""
Identity = tuple[int, int]
"""Which inode something is: its device and number."""

_DEEP = 100  # levels whose directories stay open; those above are found again by their child's ".."


class DirectoryStack:
    """The directories from a root down to the current one."""

    _fds: list[int] = []  # for __del__, should __init__ have been interrupted

    def __init__(self, root_fd: int) -> None:
        """Owns `root_fd` from now on, also after a failure."""
        self._fds = [root_fd]
        self._identities = [identity(root_fd)]
        self._names: list[bytes] = []
        self._prefix = b""

    @property
    def fd(self) -> int:
        """The current directory. Only this object's walk lists it, so its offset is not shared."""
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

    def find(self, name: bytes) -> os.stat_result | None:
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
        """Goes up again. Raises FileNotFoundError if the current directory was moved to another one."""
        fd = self._fds.pop()
        self._identities.pop()
        self._prefix = self._prefix[: -len(self._names.pop()) - 1]
        try:
            if self._fds[-1] < 0:
                self._fds[-1] = os.open(b"..", DIRECTORY, dir_fd=fd)
                if identity(self.fd) != self._identities[-1]:
                    os.close(self.fd)
                    self._fds[-1] = -1
                    raise FileNotFoundError(errno.ENOENT, "a directory was moved meanwhile", self.path)
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


class WalkEntry(NamedTuple):
    """One entry of a walk; `leaving` is the second event of a directory, after all that is in it."""

    path: bytes
    name: bytes
    status: os.stat_result
    leaving: bool = False

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.status.st_mode)


class Walkable(Protocol):
    """What :func:`walk` and :func:`go_to` move through: it has a current directory."""

    @property
    def path(self) -> bytes: ...

    def names(self) -> list[bytes]: ...

    def below(self, name: bytes) -> bytes: ...

    def find(self, name: bytes) -> os.stat_result | None: ...

    def enter(self, name: bytes) -> None: ...

    def leave(self) -> None: ...


def walk(
    at: Walkable, wanted: Callable[[bytes, os.stat_result], bool] = lambda _path, _status: True
) -> Iterator[WalkEntry]:
    """Yields all that is below the current directory of `at`, by name; a directory before and after the rest.

    Whenever it yields, the current directory is the one that holds the entry. What is not `wanted` is left
    out, a directory with all that is in it.
    """
    todo: list[tuple[Iterator[bytes], WalkEntry | None]] = [(iter(at.names()), None)]
    while todo:
        listing, entered = todo[-1]
        name = next(listing, None)
        if name is None:
            todo.pop()
            if entered is not None:
                at.leave()
                yield entered._replace(leaving=True)
            continue
        status = at.find(name)
        if status is None:
            continue  # gone since it was listed
        entry = WalkEntry(at.below(name), name, status)
        if not wanted(entry.path, status):
            continue
        yield entry
        if entry.is_directory:
            with naming(entry.path):
                at.enter(name)
            todo.append((iter(at.names()), entry))


def go_to(at: Walkable, path: bytes, enter: Callable[[bytes], None] | None = None) -> None:
    """Goes from the current directory to the one at a path below the root; down by `enter`, if given."""
    while at.path and not (path == at.path or path.startswith(at.path + b"/")):
        at.leave()
    for name in filter(None, path[len(at.path) :].split(b"/")):
        (enter or at.enter)(name)


def scan(
    root_fd: int, skip: Callable[[bytes], bool] = lambda _name: False
) -> Iterator[tuple[int, list[os.DirEntry[str]]]]:
    """Yields a descriptor of each directory from `root_fd` down, and its entries, in no order.

    Both are good until the next step of the iterator. Goes down into all subdirectories but for those that
    `skip` names and those that can't be opened. Ends where a directory was moved to another one.
    """
    with DirectoryStack(os.open(b".", DIRECTORY, dir_fd=root_fd)) as at:
        todo: list[list[bytes]] = []  # the subdirectories still to be seen, of each level
        while True:
            with os.scandir(at.fd) as listing:
                entries = list(listing)
            yield at.fd, entries
            todo.append(
                [
                    name
                    for entry in entries
                    if entry.is_dir(follow_symlinks=False) and not skip(name := os.fsencode(entry.name))
                ]
            )
            while not (todo[-1] and _entered(at, todo[-1].pop())):
                if not todo[-1]:
                    todo.pop()
                    if not todo:
                        return
                    try:
                        at.leave()
                    except FileNotFoundError:
                        return


def _entered(at: DirectoryStack, name: bytes) -> bool:
    try:
        at.enter(name)
    except OSError:  # gone or replaced since it was listed
        return False
    return True


def identity(fd: int) -> Identity:
    return identity_of(os.fstat(fd))


def identity_of(status: os.stat_result) -> Identity:
    return status.st_dev, status.st_ino
