"""Brings files into a pending version, and makes a version of files in one go.

Owns what of a source becomes part of a tree, and under which path. Knows no implementation of `Access`.
Blocking; any thread.

Sources are looked through before anything is changed, so that what can't be part of a version refuses the
whole. A file that is in the tree already under the same path gets a new inode: who reads the old one goes on
doing so, and of two processes that bring the same path one wins whole.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from artfs.access.access import Access, Progress, silent
from artfs.access.copying import copy_bytes, set_attributes, umask, user_xattrs
from artfs.access.directories import Directories, Found, walk, with_path
from artfs.access.paths import Excludes
from artfs.errors import AlreadyPending, ArtfsError, Busy, CannotSeal, InvalidCommand, printable
from artfs.model import names

_SPECIAL = {stat.S_IFIFO: "fifo", stat.S_IFSOCK: "socket", stat.S_IFCHR: "device", stat.S_IFBLK: "device"}
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_ROOT = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_MODE = 0o1777  # setuid and setgid end with the seal anyway
_ATTEMPTS = 1000  # of a name, against others that bring the same path at the same moment


@dataclass(slots=True)
class Sources:
    """What shall be brought: the content of directories, and files under their own names."""

    paths: Sequence[bytes]
    excludes: Excludes = field(default_factory=lambda: Excludes(()))
    files: int = 0
    size: int = 0

    def look_through(self, access: Access) -> None:
        """Counts, and refuses what can't be brought.

        Raises :class:`InvalidCommand`, :class:`~artfs.errors.InvalidName`, :class:`CannotSeal`, OSError.
        """
        self.files = self.size = 0
        special: list[tuple[bytes, str]] = []
        taken: dict[bytes, bytes] = {}
        for source in self.paths:
            status = os.stat(source)
            if stat.S_ISDIR(status.st_mode):
                with Directories(os.open(source, _ROOT)) as directories:
                    if access.holds(status):
                        raise InvalidCommand(f"'{printable(source)}' is the volume itself")
                    for found in walk(directories, self.wanted):
                        if found.leaving:
                            continue
                        if found.is_directory and access.holds(found.status):
                            raise InvalidCommand(
                                f"'{printable(source)}' holds the volume itself, at"
                                f" '{printable(found.path)}': leave it out with --exclude"
                            )
                        self._look_at(source, found.path, found.status, special, taken)
            elif not self.excludes.match(_base(source), directory=False):
                self._look_at(source, _base(source), status, special, taken)
        if special:
            raise CannotSeal(sorted(special))

    def _look_at(
        self,
        source: bytes,
        path: bytes,
        status: os.stat_result,
        special: list[tuple[bytes, str]],
        taken: dict[bytes, bytes],
    ) -> None:
        names.check_entry_name(path.rpartition(b"/")[2])
        kind = stat.S_IFMT(status.st_mode)
        if kind in _SPECIAL:
            special.append((path, _SPECIAL[kind]))
        if kind == stat.S_IFREG:
            self.files += 1
            self.size += status.st_size
        if len(self.paths) > 1:
            other = taken.setdefault(path, b"" if kind == stat.S_IFDIR else source)
            if other is not source and (other or kind != stat.S_IFDIR):
                raise InvalidCommand(f"'{printable(path)}' is there twice: '{printable(source)}' has it too")

    def copy(self, target: int, progress: Progress) -> None:
        """Copies everything into a directory, whose descriptor is closed at the end."""
        with contextlib.closing(_Copier(target, self.size, progress)) as copier:
            for source in self.paths:
                if os.path.isdir(source):
                    with Directories(os.open(source, _ROOT)) as directories:
                        for found in walk(directories, self.wanted):
                            with_path(found.path, lambda: copier.copy(directories.fd, found))  # noqa: B023
                elif not self.excludes.match(_base(source), directory=False):
                    with_path(source, lambda: copier.copy_named(source))  # noqa: B023  (called at once)

    def wanted(self, path: bytes, status: os.stat_result) -> bool:
        return not self.excludes.match(path, directory=stat.S_ISDIR(status.st_mode))


class _Copier:
    """The target of one put."""

    def __init__(self, target: int, total: int, progress: Progress) -> None:
        self._to = Directories(target)
        self._done, self._total, self._progress = 0, total, progress
        self._umask = umask()
        self._root = os.fstat(target)

    def close(self) -> None:
        self._to.close()

    def copy_named(self, source: bytes) -> None:
        """Copies a file that was named itself: a symlink means what it points to."""
        fd = os.open(source, _READ & ~os.O_NOFOLLOW)
        try:
            self._file(fd, _base(source))
        finally:
            os.close(fd)

    def copy(self, source_fd: int, found: Found) -> None:
        """Copies one entry of a walk, which stands at `source_fd`."""
        names.check_entry_name(found.name)
        if found.is_directory and os.path.samestat(found.status, self._root):
            raise InvalidCommand(f"'{printable(found.path)}' is the pending version itself")
        if stat.S_ISLNK(found.status.st_mode):
            self._symlink(os.readlink(found.name, dir_fd=source_fd), found)
        elif found.is_directory and not found.leaving:
            self._enter(found.name)
        else:
            fd = os.open(found.name, _READ, dir_fd=source_fd)
            try:
                if found.leaving:
                    _give(self._to.fd, fd, found.status)
                    self._to.leave()
                else:
                    self._file(fd, found.name)
            finally:
                os.close(fd)

    def _enter(self, name: bytes) -> None:
        try:
            os.mkdir(name, 0o700, dir_fd=self._to.fd)
        except FileExistsError:
            try:
                self._to.enter(name)
            except NotADirectoryError:
                raise _in_the_way(self._to.below(name), "a directory", "no directory") from None
            mode = stat.S_IMODE(os.fstat(self._to.fd).st_mode)
            if mode & stat.S_IRWXU != stat.S_IRWXU:
                with contextlib.suppress(PermissionError):
                    os.fchmod(self._to.fd, mode | stat.S_IRWXU)
        else:
            self._to.enter(name)

    def _file(self, source: int, name: bytes) -> None:
        status = os.fstat(source)
        if not stat.S_ISREG(status.st_mode):
            raise CannotSeal([(self._to.below(name), "no regular file any more")])
        mode = status.st_mode & _MODE

        def create() -> int:
            return os.open(name, _NEW, mode, dir_fd=self._to.fd)

        fd = self._instead(name, create)
        try:
            copy_bytes(source, fd, self._copied)
            _give(fd, source, status, mode_is_set=mode & ~self._umask & 0o777 == mode)
        finally:
            os.close(fd)

    def _symlink(self, target: bytes, found: Found) -> None:
        def create() -> int:
            os.symlink(target, found.name, dir_fd=self._to.fd)
            return 0

        self._instead(found.name, create)
        times = (found.status.st_mtime_ns, found.status.st_mtime_ns)
        os.utime(found.name, ns=times, dir_fd=self._to.fd, follow_symlinks=False)

    def _instead(self, name: bytes, create: Callable[[], int]) -> int:
        """Creates something new, in the place of what was there under that name."""
        for _ in range(_ATTEMPTS):
            try:
                return create()
            except FileExistsError:
                try:
                    os.unlink(name, dir_fd=self._to.fd)
                except FileNotFoundError:
                    continue
                except (IsADirectoryError, PermissionError):
                    found = os.stat(name, dir_fd=self._to.fd, follow_symlinks=False)
                    if stat.S_ISDIR(found.st_mode):
                        raise _in_the_way(self._to.below(name), "no directory", "a directory") from None
                    raise
        raise Busy(f"others write '{printable(self._to.below(name))}' all the time; try again")

    def _copied(self, count: int) -> None:
        self._done += count
        self._progress("copy", self._done, self._total)


def put(
    access: Access,
    sources: Sources,
    name: str,
    *,
    kind: str | None = None,
    aliases: Sequence[str] = (),
    progress: Progress = silent,
) -> dict[str, Any]:
    """Makes a version of the sources, and returns the answer of its finish with ``collection``.

    If anything is refused, or it is interrupted, no pending version is left.
    """
    for word in aliases:
        if word != names.LATEST:
            names.check_alias(word)
    names.check_collection(name)
    sources.look_through(access)
    started = access.new(name, kind=kind)
    try:
        with access.filling(name, started.distributed_id) as root:
            sources.copy(os.dup(root), progress)
        progress("finish", 0, 0)
        answer = access.finish(name, started.distributed_id, aliases)
    except BaseException:
        with contextlib.suppress(ArtfsError, OSError):
            access.discard(name, started.distributed_id)
        raise
    return {"collection": name, **answer}


def add(
    access: Access,
    sources: Sources,
    name: str,
    distributed_id: bytes,
    *,
    kind: str | None = None,
    aliases: Sequence[str] = (),
    progress: Progress = silent,
) -> dict[str, Any]:
    """Brings the sources into the pending version of an id, which is started if it is not there; returns its
    status.

    The aliases are those it will have once it is finished.
    """
    for word in aliases:
        names.check_alias(word)
    sources.look_through(access)
    with contextlib.suppress(AlreadyPending):
        access.new(name, distributed_id, kind=kind)
    if aliases:
        access.remember_aliases(name, distributed_id, aliases)
    with access.filling(name, distributed_id) as root:
        sources.copy(os.dup(root), progress)
    return access.pending_status(name, distributed_id)


def _give(target: int, source: int, status: os.stat_result, *, mode_is_set: bool = False) -> None:
    mode = None if mode_is_set else status.st_mode & _MODE
    set_attributes(target, mode=mode, mtime_ns=status.st_mtime_ns, xattrs=user_xattrs(source))


def _base(source: bytes) -> bytes:
    return os.path.basename(os.path.abspath(source))


def _in_the_way(path: bytes, comes: str, stands: str) -> InvalidCommand:
    return InvalidCommand(
        f"'{printable(path)}' is {comes} and stands in the tree as {stands}: remove that first"
    )
