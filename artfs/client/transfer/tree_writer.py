"""Writes files, symlinks, references and directories into a pending tree; there is no other way into one.

Owns by which policy an entry takes a name that another one has, and that each appears whole or not at all in
a tree that other processes fill too. Knows neither sources nor volumes. Blocking; any thread may use a
writer, each with a cursor of its own.

A file of another writer is never replaced unless the policy says so: a name is taken only if it is free, in
one atomic step, and otherwise the writers that would replace the present file do so one after the other.
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
from artfs.client.values import Progress, silent
from artfs.client.writable_tree import ReferenceTarget, StagedFile, TreeCursor, WritableTree
from artfs.errors import Busy, CannotSeal, InvalidCommand, PathConflictError
from artfs.linux.file_copy import copy_file
from artfs.model.digest import Hasher
from artfs.model.entry import RUN, SEALED_MODE
from artfs.printing import printable
from artfs.store import durable, regular_files

_ATTEMPTS = 100  # to take a name, while other writers write the same path


@dataclass(frozen=True, slots=True)
class WritePolicy:
    """How files are written into a tree.

    With `replace` they take the place of present files; without it only of those that `run` added itself. A
    file of another run with the same bytes is left, and one with other bytes is a conflict. `shared` says
    that other processes may write or read the tree at the same time. `run` is recorded on each file; unless
    it is `alone`, its other processes add files too, and what they added is not replaced.
    """

    replace: bool = False
    shared: bool = True
    run: str | None = None
    alone: bool = True


class _Present(enum.Enum):
    """What has the name that a new entry is to get."""

    NOTHING = enum.auto()
    THE_SAME = enum.auto()
    REPLACEABLE = enum.auto()


#: Returns whether the present file or symlink is the same as the new one.
_Compare = Callable[[], bool]

#: Writes a file, and returns whether the hasher, if there is one, saw all its bytes.
_Fill = Callable[[int, Hasher | None], bool]


class TreeWriter:
    """Writes into `tree` for one operation, of `total` bytes."""

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
        """Goes down into a directory; makes it with that mode if it is missing, and owner-writable."""
        try:
            at.make_directory(name, mode)
        except FileExistsError:
            try:
                at.enter(name)
            except NotADirectoryError:
                raise type_conflict(at, name, "the directory") from None
            _make_writable(at, at.status())
        else:
            at.enter(name)

    def go_to(self, at: TreeCursor, path: bytes) -> None:
        """Goes from the current directory to the one at `path`; makes those that are missing."""
        at.go_to(path, lambda name: self.enter(at, name, mode=0o777))

    def restrict(self, at: TreeCursor, mode: int) -> None:
        """Takes the permissions that `mode` does not grant from group and others of the current directory."""
        status = at.status()
        found = stat.S_IMODE(status.st_mode)
        if found & ~mode & 0o077:
            with self._unless_theirs(at):
                at.set_attributes(mode=found & (mode | 0o700), mtime_ns=status.st_mtime_ns, xattrs=())

    def set_attributes(self, at: TreeCursor, *, mode: int, mtime_ns: int, xattrs: Xattrs) -> None:
        """Sets the attributes of the current directory.

        The root of a shared tree stays writable for its owner; other users leave it as it is.
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
            raise CannotSeal([(at.below(name), "no longer a regular file")])
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
        """Writes a file of these bytes."""

        def fill(fd: int, hasher: Hasher | None) -> bool:
            durable.write_all(fd, content)
            if hasher is not None:
                hasher.update(content)
            return True

        def same() -> bool:
            if at.reference(name) is not None:
                return False
            fd = at.open(name)
            with open(fd, "rb", buffering=0) as file:
                return os.fstat(fd).st_size == len(content) and file.read() == content

        self._write(at, name, 0o666, fill, same)

    def symlink(self, at: TreeCursor, name: bytes, target: bytes, mtime_ns: int) -> None:
        def same() -> bool:
            return at.symlink_target(name) == target

        self._take_name(at, name, lambda: at.stage_symlink(target, mtime_ns), same)

    def references(self, found: Sequence[tuple[bytes, ReferenceTarget]]) -> None:
        """Writes references, by path, and the directories above them."""
        with self.tree.cursor() as at:
            made = 0
            if not self._policy.replace:
                for directory in sorted({path.rpartition(b"/")[0] for path, _ in found}):
                    self.go_to(at, directory)
                made = self.tree.add_references(found, self._policy.run)
            for path, target in found[made:]:
                directory, _, name = path.rpartition(b"/")
                self.go_to(at, directory)
                self.reference(at, name, target)

    def reference(self, at: TreeCursor, name: bytes, target: ReferenceTarget) -> None:
        def stage() -> StagedFile:
            staged = at.stage_reference(target)
            self._record_run(b"/proc/self/fd/%d/%s" % (staged.dir_fd, staged.name))
            return staged

        self._take_name(at, name, stage, lambda: at.reference(name) == target)

    def move(self, at: TreeCursor, name: bytes, source: TreeCursor, status: os.stat_result) -> None:
        """Moves an entry from another tree; where it can't be moved, copies it and leaves it there."""
        if stat.S_ISLNK(status.st_mode):
            self.symlink(at, name, source.symlink_target(name), status.st_mtime_ns)
        elif (target := source.reference(name)) is not None:
            self.reference(at, name, target)
        else:
            fd = source.open(name)
            try:
                self._move_file(at, name, source, fd)
                self._copied(status.st_size)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                self.file(at, name, fd)
            finally:
                os.close(fd)

    def _move_file(self, at: TreeCursor, name: bytes, source: TreeCursor, fd: int) -> None:
        def take() -> StagedFile:
            taken = source.take(name)
            self._record_run(fd)
            return taken

        self._take_name(at, name, take, lambda: _same_file(at, name, fd))

    def check_move(self, at: TreeCursor, name: bytes, source: TreeCursor, status: os.stat_result) -> None:
        """Raises what :meth:`move` would raise for the present entry; changes nothing."""
        self._present(at, name, lambda: _same_entry(at, name, source, status))

    @contextlib.contextmanager
    def new(self, at: TreeCursor, name: bytes) -> Iterator[io.FileIO]:
        """Yields a file to be written, which the block may close; it gets its name if the block ends well."""
        with at.stage(0o666) as staged:
            self._record_run(staged.fd)
            yield staged.file

            def same() -> bool:
                fd = regular_files.open_regular(staged.dir_fd, staged.name)
                with open(fd, "rb", buffering=0) as written:
                    return _same_file(at, name, written.fileno())

            self._publish(at, name, staged, same)

    def stop(self) -> None:
        """Makes the copies of other threads end soon, with CancelledError."""
        self._stopped = True

    # -- inside

    def _write(self, at: TreeCursor, name: bytes, mode: int, fill: _Fill, same: _Compare) -> None:
        algorithm = None if self._policy.shared else self.tree.algorithm

        def complete(staged: StagedFile) -> bytes | None:
            hasher = None if algorithm is None else algorithm.hasher()
            self._record_run(staged.fd)
            return hasher.digest() if fill(staged.fd, hasher) and hasher is not None else None

        self._take_name(at, name, lambda: at.stage(mode), same, complete)

    def _take_name(
        self,
        at: TreeCursor,
        name: bytes,
        stage: Callable[[], StagedFile],
        same: _Compare,
        complete: Callable[[StagedFile], bytes | None] = lambda _: None,
    ) -> None:
        """Publishes what `stage` makes once `complete` has filled it, which may return its digest.

        A name is given by one rename of what is complete: whatever raises an exception here, and wherever,
        the tree has the whole entry or none.
        """
        if self._present(at, name, same) is _Present.THE_SAME:
            return
        for _ in range(_ATTEMPTS):
            # FileNotFoundError: a finish removed it as one whose process had died (`remove_stale_temps`).
            with contextlib.suppress(FileNotFoundError), stage() as staged:
                digest = complete(staged)
                self._publish(at, name, staged, same)
                if digest is not None and staged.published:
                    self.tree.learn_digest(staged.fd, digest)
                return
        raise _contended(at, name)

    def _publish(self, at: TreeCursor, name: bytes, staged: StagedFile, same: _Compare) -> None:
        for _ in range(_ATTEMPTS):
            with contextlib.suppress(FileExistsError):
                at.publish(staged, name, replace=False)
                return
            with self.tree.exclusive():
                present = self._present(at, name, same)
                if present is _Present.REPLACEABLE:
                    at.publish(staged, name, replace=True)
            if present is not _Present.NOTHING:
                return
        raise _contended(at, name)

    def _present(self, at: TreeCursor, name: bytes, same: _Compare) -> _Present:
        """Raises :class:`PathConflictError` for what must not be replaced."""
        try:
            if stat.S_ISDIR(at.status(name).st_mode):
                raise type_conflict(at, name, "the file")
            if self._policy.replace:
                return _Present.REPLACEABLE
            with contextlib.suppress(OSError):
                if same():
                    return _Present.THE_SAME
            owner = at.run_of(name)
        except FileNotFoundError:
            return _Present.NOTHING
        if owner is not None and owner == self._policy.run and self._policy.alone:
            return _Present.REPLACEABLE
        raise PathConflictError(at.below(name), owner)

    def _record_run(self, file: int | bytes) -> None:
        if self._policy.run is not None:
            with contextlib.suppress(OSError):  # a filesystem without xattrs
                os.setxattr(file, RUN, self._policy.run.encode())

    def _copied(self, count: int) -> None:
        if self._stopped:
            raise CancelledError
        with self._lock:
            self._done += count
            self._progress("copy", self._done, self._total)


def make_writable(tree: WritableTree) -> None:
    """Lets its owner change the root of a tree, whose mode may be that of a directory that forbids it."""
    status = tree.status()
    if not _is_writable(status):
        with tree.cursor() as at:
            _make_writable(at, status)


def _make_writable(at: TreeCursor, status: os.stat_result) -> None:
    if not _is_writable(status):
        with contextlib.suppress(PermissionError):
            mode = stat.S_IMODE(status.st_mode) | stat.S_IRWXU
            at.set_attributes(mode=mode, mtime_ns=status.st_mtime_ns, xattrs=())


def _is_writable(status: os.stat_result) -> bool:
    return status.st_mode & stat.S_IRWXU == stat.S_IRWXU


def _same_file(at: TreeCursor, name: bytes, source: int) -> bool:
    if at.reference(name) is not None:
        return False
    fd = at.open(name)
    try:
        return regular_files.same_bytes(fd, source)
    finally:
        os.close(fd)


def _same_entry(at: TreeCursor, name: bytes, source: TreeCursor, status: os.stat_result) -> bool:
    if stat.S_ISLNK(status.st_mode):
        return at.symlink_target(name) == source.symlink_target(name)
    if (target := source.reference(name)) is not None:
        return at.reference(name) == target
    fd = source.open(name)
    try:
        return _same_file(at, name, fd)
    finally:
        os.close(fd)


def _contended(at: TreeCursor, name: bytes) -> Busy:
    return Busy(f"other writers keep writing '{printable(at.below(name))}'; try again")


def type_conflict(at: TreeCursor, name: bytes, wanted: str) -> InvalidCommand:
    """Returns the refusal to create a file where a directory is, or the other way round."""
    mode = at.status(name).st_mode
    found = "a directory" if stat.S_ISDIR(mode) else "a symlink" if stat.S_ISLNK(mode) else "a file"
    path = printable(at.below(name))
    return InvalidCommand(
        f"cannot create {wanted} '{path}': '{path}' is {found} in this version; remove it first"
    )
