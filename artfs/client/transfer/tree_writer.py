"""Writes into a pending tree: the one way in which files, links and directories get there.

Owns on what terms an entry takes a name that another one has, and that each appears whole or not at all in a
tree that others fill too. Knows neither sources nor volumes. Blocking; a copier may be used by any thread,
each with a cursor of its own.

Somebody else's file is never replaced unless that is asked for: a name is taken only if it is free, in one
atomic step, and where it isn't, those who would replace what stands there do so one after the other.
"""

from __future__ import annotations

import contextlib
import enum
import errno
import io
import os
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass

from artfs.client.file_attributes import Xattrs, set_attributes, umask, user_xattrs
from artfs.client.interface import Progress, silent
from artfs.client.writable_tree import (
    ReferenceTarget,
    StagedFile,
    TreeCursor,
    WritableTree,
)
from artfs.errors import Busy, CannotSeal, InvalidCommand, PathConflictError, printable
from artfs.linux.file_copy import copy_file
from artfs.model.digest import Hasher
from artfs.model.entry import RUN, SEALED_MODE
from artfs.store import durable, regular_files

_ATTEMPTS = 100  # of a name, against others that bring the same path at the same moment


@dataclass(frozen=True, slots=True)
class WritePolicy:
    """On what terms files come into a tree.

    With `replace` they take the place of what is there; else of nothing but what `run` brought itself: where
    another's file has the same bytes they agree, and otherwise it is a conflict. `shared` tells that others
    may fill or read the tree at the same time. `run` is noted on each file; unless it is `alone`, other
    processes of it bring files too, and what it brought is theirs.
    """

    replace: bool = False
    shared: bool = True
    run: str | None = None
    alone: bool = True


class _Standing(enum.Enum):
    """What stands under a name for which something comes."""

    NOTHING = enum.auto()
    THE_SAME = enum.auto()
    REPLACEABLE = enum.auto()


#: Tells whether the file or symlink under a name is the same as the one that comes.
_Compare = Callable[[], bool]

#: Writes a file, and tells whether the hasher, if there is one, was given all its bytes.
_Fill = Callable[[int, Hasher | None], bool]


class TreeWriter:
    """The target of one operation."""

    def __init__(
        self, tree: WritableTree, policy: WritePolicy, total: int = 0, progress: Progress = silent
    ) -> None:
        self.tree, self._policy = tree, policy
        self._done, self._total, self._progress = 0, total, progress
        self._lock = threading.Lock()
        self._stopped = False
        self._umask = umask()
        make_writable(tree)

    # -- directories

    def enter(self, at: TreeCursor, name: bytes, *, mode: int = 0o700) -> None:
        """Goes down into a directory, which is made with that mode if it is not there; writable for us."""
        try:
            at.make_directory(name, mode)
        except FileExistsError:
            try:
                at.enter(name)
            except NotADirectoryError:
                raise type_conflict(at.below(name), "a directory", "a file or symlink") from None
            _open_up(at, at.status())
        else:
            at.enter(name)

    def restrict(self, at: TreeCursor, mode: int) -> None:
        """Takes from others what `mode` doesn't grant them of the directory where `at` stands."""
        found = stat.S_IMODE(at.status().st_mode)
        if found & ~mode & 0o077:
            with self._unless_theirs(at):
                at.set_attributes(mode=found & (mode | 0o700), mtime_ns=at.status().st_mtime_ns, xattrs=())

    def dress(self, at: TreeCursor, *, mode: int, mtime_ns: int, xattrs: Xattrs) -> None:
        """Gives the directory where `at` stands its attributes.

        The root of a tree that others fill stays writable for its owner, and is left as it is by everybody
        else.
        """
        if self._policy.shared and not at.path:
            mode |= stat.S_IRWXU
        with self._unless_theirs(at):
            at.set_attributes(mode=mode, mtime_ns=mtime_ns, xattrs=xattrs)

    @contextlib.contextmanager
    def _unless_theirs(self, at: TreeCursor) -> Iterator[None]:
        try:
            yield
        except PermissionError:
            if not self._policy.shared or at.path:
                raise

    # -- files and symlinks

    def file(self, at: TreeCursor, name: bytes, source: int) -> None:
        """Copies an open file, with mode, mtime and user xattrs."""
        status = os.fstat(source)
        if not stat.S_ISREG(status.st_mode):
            raise CannotSeal([(at.below(name), "no regular file any more")])
        mode = status.st_mode & SEALED_MODE

        def fill(fd: int, hasher: Hasher | None) -> bool:
            whole = copy_file(source, fd, in_order=True, status=status, hasher=hasher, copied=self._copied)
            set_attributes(
                fd,
                mode=None if mode & ~self._umask & 0o777 == mode else mode,
                mtime_ns=status.st_mtime_ns,
                xattrs=user_xattrs(source),
            )
            return whole

        self._write(at, name, mode, fill, lambda: _same_file(at, name, source))

    def data(self, at: TreeCursor, name: bytes, content: bytes) -> None:
        """Makes a file of bytes that are at hand."""

        def fill(fd: int, hasher: Hasher | None) -> bool:
            durable.write_all(fd, content)
            if hasher is not None:
                hasher.update(content)
            return True

        def same() -> bool:
            fd = _open_file(at, name)
            with open(fd, "rb", buffering=0) as file:
                return os.fstat(fd).st_size == len(content) and file.read() == content

        self._write(at, name, 0o666, fill, same)

    def symlink(self, at: TreeCursor, name: bytes, target: bytes, mtime_ns: int) -> None:
        def same() -> bool:
            return at.symlink_target(name) == target

        self._take(at, name, lambda: at.stage_symlink(target, mtime_ns), same)

    def references(self, found: Sequence[tuple[bytes, ReferenceTarget]]) -> None:
        """Makes files whose bytes are elsewhere, by path, and the directories above them."""
        with self.tree.cursor() as at:
            made = 0
            if not self._policy.replace:
                for way in sorted({path.rpartition(b"/")[0] for path, _ in found}):
                    self.go(at, way)
                made = self.tree.add_references(found, self._policy.run)
            for path, origin in found[made:]:
                way, _, name = path.rpartition(b"/")
                self.go(at, way)
                self.reference(at, name, origin)

    def go(self, at: TreeCursor, path: bytes) -> None:
        """Goes from where a cursor stands to a directory, which is made if it is not there."""
        here, there = (way.split(b"/") if way else [] for way in (at.path, path))
        shared = 0
        while shared < min(len(here), len(there)) and here[shared] == there[shared]:
            shared += 1
        for _ in here[shared:]:
            at.leave()
        for name in there[shared:]:
            self.enter(at, name, mode=0o777)

    def reference(self, at: TreeCursor, name: bytes, origin: ReferenceTarget) -> None:
        """Makes a file whose bytes are elsewhere."""

        def stage() -> StagedFile:
            staged = at.stage_reference(origin)
            self._mark(b"/proc/self/fd/%d/%s" % (staged.dir_fd, staged.name))
            return staged

        self._take(at, name, stage, lambda: at.reference(name) == origin)

    def move(self, at: TreeCursor, name: bytes, source: TreeCursor, status: os.stat_result) -> None:
        """Takes a file or symlink from another tree; where that can't be, copies it and leaves it there."""
        if stat.S_ISLNK(status.st_mode):
            self.symlink(at, name, source.symlink_target(name), status.st_mtime_ns)
            return
        origin = source.reference(name)
        if origin is not None:
            self.reference(at, name, origin)
            return
        fd = source.open(name)
        try:

            def lift() -> StagedFile:
                lifted = source.take(name)
                self._mark(fd)
                return lifted

            def same() -> bool:
                return _same_file(at, name, fd)

            try:
                self._take(at, name, lift, same)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                self.file(at, name, fd)
            else:
                self._copied(status.st_size)
        finally:
            os.close(fd)

    @contextlib.contextmanager
    def new(self, at: TreeCursor, name: bytes) -> Iterator[io.FileIO]:
        """Gives a file to be written, which the block may close; it gets its name if the block ends well."""
        with at.stage(0o666) as staged:
            self._mark(staged.fd)
            yield staged.file

            def same() -> bool:
                with open(
                    regular_files.open_regular(staged.dir_fd, staged.name), "rb", buffering=0
                ) as written:
                    return _same_file(at, name, written.fileno())

            self._publish(at, name, staged, same)

    def agree(self, at: TreeCursor, name: bytes, source: TreeCursor, status: os.stat_result) -> None:
        """Changes nothing, and raises what taking over an entry would raise for what stands there now."""
        if stat.S_ISLNK(status.st_mode):
            self._standing(at, name, lambda: at.symlink_target(name) == source.symlink_target(name))
            return
        origin = source.reference(name)
        if origin is not None:
            self._standing(at, name, lambda: at.reference(name) == origin)
            return

        def same() -> bool:
            fd = source.open(name)
            try:
                return _same_file(at, name, fd)
            finally:
                os.close(fd)

        self._standing(at, name, same)

    # -- inside

    def _write(self, at: TreeCursor, name: bytes, mode: int, fill: _Fill, same: _Compare) -> None:
        algorithm = None if self._policy.shared else self.tree.algorithm

        def complete(staged: StagedFile) -> bytes | None:
            hasher = None if algorithm is None else algorithm.hasher()
            self._mark(staged.fd)
            return hasher.digest() if fill(staged.fd, hasher) and hasher is not None else None

        self._take(at, name, lambda: at.stage(mode), same, complete)

    def _take(
        self,
        at: TreeCursor,
        name: bytes,
        stage: Callable[[], StagedFile],
        same: _Compare,
        complete: Callable[[StagedFile], bytes | None] = lambda _: None,
    ) -> None:
        """Gives what `stage` makes its name once `complete` has filled it, which may return its digest.

        A name is given by one rename of what is complete: whatever raises an exception here, and wherever,
        the tree has the whole entry or none.
        """
        if self._standing(at, name, same) is _Standing.THE_SAME:
            return
        for _ in range(_ATTEMPTS):
            with contextlib.suppress(FileNotFoundError), stage() as staged:
                # FileNotFoundError: a finish took it for one whose maker has died (`plain.sweep`).
                digest = complete(staged)
                self._publish(at, name, staged, same)
                if digest is not None and staged.published:
                    self.tree.learn_digest(staged.fd, digest)
                return
        raise Busy(f"others write '{printable(at.below(name))}' all the time; try again")

    def _publish(self, at: TreeCursor, name: bytes, staged: StagedFile, same: _Compare) -> None:
        for _ in range(_ATTEMPTS):
            with contextlib.suppress(FileExistsError):
                at.publish(staged, name, replace=False)
                return
            with self.tree.exclusive():
                standing = self._standing(at, name, same)
                if standing is _Standing.REPLACEABLE:
                    at.publish(staged, name, replace=True)
            if standing is not _Standing.NOTHING:
                return
        raise Busy(f"others write '{printable(at.below(name))}' all the time; try again")

    def _standing(self, at: TreeCursor, name: bytes, same: _Compare) -> _Standing:
        """Raises :class:`PathConflictError` for what must not be replaced."""
        try:
            found = at.status(name)
            if stat.S_ISDIR(found.st_mode):
                raise type_conflict(at.below(name), "a file or symlink", "a directory")
            if self._policy.replace:
                return _Standing.REPLACEABLE
            with contextlib.suppress(OSError):
                if same():
                    return _Standing.THE_SAME
            owner = at.run_of(name)
        except FileNotFoundError:
            return _Standing.NOTHING
        if owner is not None and owner == self._policy.run and self._policy.alone:
            return _Standing.REPLACEABLE
        raise PathConflictError(at.below(name), owner)

    def _mark(self, file: int | bytes) -> None:
        if self._policy.run is not None:
            with contextlib.suppress(OSError):  # a filesystem without xattrs
                os.setxattr(file, RUN, self._policy.run.encode())

    def stop(self) -> None:
        """Has the copies that other threads make end soon, with CancelledError."""
        self._stopped = True

    def _copied(self, count: int) -> None:
        if self._stopped:
            raise CancelledError
        with self._lock:
            self._done += count
            self._progress("copy", self._done, self._total)


def make_writable(tree: WritableTree) -> None:
    """Lets its owner change the root of a tree, which may have the mode of a directory that forbids it."""
    status = tree.status()
    if not _is_writable(status):
        with tree.cursor() as at:
            _open_up(at, status)


def _open_up(at: TreeCursor, status: os.stat_result) -> None:
    if not _is_writable(status):
        with contextlib.suppress(PermissionError):
            mode = stat.S_IMODE(status.st_mode) | stat.S_IRWXU
            at.set_attributes(mode=mode, mtime_ns=status.st_mtime_ns, xattrs=())


def _is_writable(status: os.stat_result) -> bool:
    return status.st_mode & stat.S_IRWXU == stat.S_IRWXU


def _open_file(at: TreeCursor, name: bytes) -> int:
    """Opens what stands in the tree, to be compared; a reference equals no file."""
    if at.reference(name) is not None:
        raise OSError(errno.EINVAL, "a reference", name)
    return at.open(name)


def _same_file(at: TreeCursor, name: bytes, source: int) -> bool:
    fd = _open_file(at, name)
    try:
        return regular_files.same_bytes(fd, source)
    finally:
        os.close(fd)


def type_conflict(path: bytes, comes: str, stands: str) -> InvalidCommand:
    return InvalidCommand(
        f"'{printable(path)}' can't become {comes}: it is {stands} already; remove it first"
    )
