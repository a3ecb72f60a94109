"""The interface by which programs write files into a pending version.

A :class:`WritableTree` gives :class:`TreeCursor`\\ s, and a cursor reads and changes its current directory.
:mod:`~artfs.client.plain_tree` implements both over a plain directory, on a mount or in a volume. Knows
neither what is written nor by which policy. Blocking. Any thread may use a tree; a cursor belongs to one
thread.
"""

from __future__ import annotations

import contextlib
import io
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple

from artfs.client.file_attributes import Xattrs
from artfs.linux import walk
from artfs.model.digest import Algorithm
from artfs.model.entry import RUN
from artfs.store import regular_files


class StagedFile:
    """A file or symlink that is not yet under its name: fill it, then :meth:`TreeCursor.publish` it.

    Used in a ``with`` statement, which closes the file and removes it if it was not published. ``dir_fd`` and
    ``name`` are its temporary place. One that is `kept` was taken from another tree, where it stays if it is
    not published.
    """

    def __init__(self, dir_fd: int, name: bytes, *, kept: bool = False) -> None:
        self.dir_fd, self.name = dir_fd, name
        self.kept = kept
        self.published = False
        self._file: io.FileIO | None = None

    @classmethod
    def create(cls, dir_fd: int, name: bytes, mode: int) -> StagedFile:
        """Creates an empty file, of that mode less the umask."""
        staged = cls(dir_fd, name)
        staged._file = regular_files.create_owned(dir_fd, name, mode)
        return staged

    @property
    def file(self) -> io.FileIO:
        """The open file of what is neither a symlink nor taken from another tree."""
        assert self._file is not None
        return self._file

    @property
    def fd(self) -> int:
        return self.file.fileno()

    def __enter__(self) -> StagedFile:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()
        if not self.published and not self.kept:
            with contextlib.suppress(OSError):
                os.unlink(self.name, dir_fd=self.dir_fd)


class ReferenceTarget(NamedTuple):
    """What a reference refers to: bytes at a URI, how many and which; the checksum may be empty."""

    uri: str
    size: int
    checksum: str


class TreeCursor(ABC):
    """A current directory of a pending tree, at first the root. Close it, or use it in ``with``.

    Names are single ones, which the caller has checked. No method follows a symlink. What the backing
    filesystem refuses is an OSError with its errno. If another process removed the directory meanwhile, that
    is FileNotFoundError or :class:`~artfs.errors.Busy`.
    """

    @property
    @abstractmethod
    def path(self) -> bytes:
        """The path of the directory below the root; empty for the root."""

    def below(self, name: bytes) -> bytes:
        """Returns the path of a name in it."""
        return self.path + b"/" + name if self.path else name

    @abstractmethod
    def close(self) -> None: ...

    def __enter__(self) -> TreeCursor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- the current directory

    @abstractmethod
    def enter(self, name: bytes) -> None:
        """Goes down. Raises FileNotFoundError, and NotADirectoryError for anything else, symlinks too."""

    @abstractmethod
    def leave(self) -> None:
        """Goes up again."""

    def go_to(self, path: bytes, enter: Callable[[bytes], None] | None = None) -> None:
        """Goes to the directory at a path below the root; down by `enter`, if given."""
        walk.go_to(self, path, enter)

    # -- its entries

    @abstractmethod
    def status(self, name: bytes = b".") -> os.stat_result:
        """Returns the status of an entry, by default of the directory itself. Raises FileNotFoundError."""

    def find(self, name: bytes) -> os.stat_result | None:
        """Returns the status of an entry; None if there is no such entry."""
        try:
            return self.status(name)
        except FileNotFoundError:
            return None

    @abstractmethod
    def names(self) -> list[bytes]:
        """Returns the names of all entries, sorted."""

    @abstractmethod
    def open(self, name: bytes, *, fetch: bool = True) -> int:
        """Opens a regular file for reading; the caller closes the descriptor.

        A reference opens as the bytes that it refers to; without `fetch` as its placeholder, whose bytes mean
        nothing. Raises FileNotFoundError; ELOOP for a symlink, EINVAL for what is no regular file;
        :class:`~artfs.errors.ReferenceFailed`.
        """

    @abstractmethod
    def reference(self, name: bytes) -> ReferenceTarget | None:
        """Returns what an entry refers to; None if it is no reference. Raises FileNotFoundError."""

    @abstractmethod
    def symlink_target(self, name: bytes) -> bytes:
        """Returns where a symlink leads. Raises EINVAL for what is none."""

    @abstractmethod
    def xattrs(self, name: bytes) -> Sequence[tuple[bytes, bytes]]:
        """Returns the user's xattrs of an entry."""

    def run_of(self, name: bytes) -> str | None:
        """Returns the run that added an entry, if that is recorded. Raises FileNotFoundError."""
        try:
            fd = self.open(name, fetch=False)
        except FileNotFoundError:
            raise
        except OSError:
            return None
        try:
            return decode_run(os.getxattr(fd, RUN))
        except OSError:
            return None
        finally:
            os.close(fd)

    # -- changes

    @abstractmethod
    def make_directory(self, name: bytes, mode: int) -> None:
        """Makes a directory, of that mode less the umask. Raises FileExistsError."""

    @abstractmethod
    def stage(self, mode: int) -> StagedFile:
        """Creates an empty file without a name in the tree, of that mode less the umask.

        After a crash it never gets one.
        """

    @abstractmethod
    def stage_symlink(self, target: bytes, mtime_ns: int) -> StagedFile:
        """Creates a symlink without a name in the tree."""

    @abstractmethod
    def stage_reference(self, target: ReferenceTarget) -> StagedFile:
        """Creates a reference without a name in the tree. Raises :class:`~artfs.errors.InvalidCommand`."""

    @abstractmethod
    def take(self, name: bytes) -> StagedFile:
        """Prepares a file or symlink to be published in another tree, which then takes it from this one.

        Raises OSError with EXDEV if it can't be taken: then copy it.
        """

    @abstractmethod
    def publish(self, staged: StagedFile, name: bytes, *, replace: bool) -> None:
        """Gives a staged file its name, in one atomic step; with `replace` in the place of another file.

        With `replace` the caller holds :meth:`WritableTree.exclusive`. Raises FileExistsError without it,
        IsADirectoryError if the name is that of a directory; OSError with EXDEV for a taken file that can't
        be moved here: then copy it.
        """

    @abstractmethod
    def remove(self, name: bytes) -> None:
        """Removes a file, a symlink or an empty directory. Raises FileNotFoundError, OSError (ENOTEMPTY)."""

    @abstractmethod
    def set_attributes(self, *, mode: int | None, mtime_ns: int, xattrs: Xattrs) -> None:
        """Sets the attributes of the directory itself; None leaves the mode as it is."""


class WritableTree(ABC):
    """The files of one pending version, open for writing."""

    #: The algorithm of :meth:`learn_digest`; None where digests are not used.
    algorithm: Algorithm | None = None

    @abstractmethod
    def cursor(self) -> TreeCursor:
        """Returns a new cursor at the root."""

    @abstractmethod
    def status(self) -> os.stat_result:
        """Returns the status of the root."""

    def is_root(self, status: os.stat_result) -> bool:
        """Tells whether a directory is the root of this tree, into which it can't be copied."""
        return os.path.samestat(status, self.status())

    def learn_digest(self, fd: int, digest: bytes) -> None:  # noqa: B027  (not every tree uses digests)
        """Records the digest of a file that the caller just wrote, so that a finish need not read it again.

        Only for a tree that no other process fills, and once the file has its name: from then on its ctime
        does not change.
        """

    def add_references(self, found: Sequence[tuple[bytes, ReferenceTarget]], run: str | None) -> int:  # noqa: ARG002
        """Makes as many of these references as can be made at once, by path, and returns how many.

        The directories exist. Stops at a name that is taken by anything but the same reference. `run` is
        recorded on each. Makes none where this is no quicker than one by one.
        """
        return 0

    @abstractmethod
    def exclusive(self) -> AbstractContextManager[None]:
        """Excludes all other holders of this, in any thread and process that writes to the tree. Short."""


def decode_run(recorded: bytes) -> str:
    """Returns the run that an entry's xattr names."""
    return recorded.decode("utf-8", "surrogateescape")
