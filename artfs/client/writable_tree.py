"""The files of a pending version as who fills it uses them, whatever they lie in.

Owns the interface: a :class:`Tree` gives :class:`Cursor`\\ s, and a cursor changes the directory where it
stands. :mod:`~artfs.client.plain_tree` is the one over a plain directory, on a mount or in a volume. Knows
neither what is copied nor on what terms. Blocking. Any thread may use a tree; a cursor belongs to one thread.
"""

from __future__ import annotations

import contextlib
import io
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple

from artfs.client.file_attributes import Xattrs
from artfs.model.digest import Algorithm
from artfs.model.entry import RUN
from artfs.store import regular_files


class StagedFile:
    """A file or symlink that is not yet under its name: fill it, then :meth:`Cursor.publish` it.

    Used in a ``with`` statement, which closes the file and drops what was not published. ``dir_fd`` and
    ``name`` say where it lies meanwhile. One that is `kept` was lifted out of another tree, where it stays if
    it is not published.
    """

    def __init__(self, dir_fd: int, name: bytes, *, kept: bool = False) -> None:
        self.dir_fd, self.name = dir_fd, name
        self.kept = kept
        self.published = False
        self._file: io.FileIO | None = None

    @classmethod
    def create(cls, dir_fd: int, name: bytes, mode: int) -> StagedFile:
        """Makes an empty file, of that mode less the umask."""
        staged = cls(dir_fd, name)
        staged._file = regular_files.create_owned(dir_fd, name, mode)
        return staged

    @property
    def file(self) -> io.FileIO:
        """The open file of what is neither a symlink nor lifted."""
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
    """What a reference stands for: so many bytes at a URI, and which; the checksum may be empty."""

    uri: str
    size: int
    checksum: str


class TreeCursor(ABC):
    """Stands at one directory of a pending tree, at first the root. Close it, or use it in ``with``.

    Names are single ones, and the caller has checked them. No method follows a symlink. What the backing
    filesystem refuses is an OSError with its errno. Where others removed the directory meanwhile, that is
    FileNotFoundError or :class:`~artfs.errors.Busy`.
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

    # -- where it stands

    @abstractmethod
    def enter(self, name: bytes) -> None:
        """Goes down. Raises FileNotFoundError, and NotADirectoryError for anything else, symlinks too."""

    @abstractmethod
    def leave(self) -> None:
        """Goes up again."""

    # -- what is there

    @abstractmethod
    def status(self, name: bytes = b".") -> os.stat_result:
        """Returns the status of an entry, by default of the directory itself. Raises FileNotFoundError."""

    def find(self, name: bytes) -> os.stat_result | None:
        """Returns the same; None if there is no such entry."""
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

        Of a reference that is what it stands for; without `bring` what stands for it, whose bytes mean
        nothing. Raises FileNotFoundError; ELOOP for a symlink, EINVAL for what is no regular file;
        :class:`~artfs.errors.ReferenceFailed`.
        """

    @abstractmethod
    def reference(self, name: bytes) -> ReferenceTarget | None:
        """Returns what an entry stands for if it is a reference. Raises FileNotFoundError."""

    @abstractmethod
    def symlink_target(self, name: bytes) -> bytes:
        """Returns where a symlink leads. Raises EINVAL for what is none."""

    @abstractmethod
    def xattrs(self, name: bytes) -> Sequence[tuple[bytes, bytes]]:
        """Returns the xattrs of an entry that belong to its user."""

    def run_of(self, name: bytes) -> str | None:
        """Returns the run that brought an entry, as far as is noted. Raises FileNotFoundError."""
        try:
            fd = self.open(name, fetch=False)
        except FileNotFoundError:
            raise
        except OSError:
            return None
        try:
            return as_run(os.getxattr(fd, RUN))
        except OSError:
            return None
        finally:
            os.close(fd)

    # -- what is changed

    @abstractmethod
    def make_directory(self, name: bytes, mode: int) -> None:
        """Makes a directory, of that mode less the umask. Raises FileExistsError."""

    @abstractmethod
    def stage(self, mode: int) -> StagedFile:
        """Makes an empty file, of that mode less the umask, that no name leads to. A crash leaves no name."""

    @abstractmethod
    def stage_symlink(self, target: bytes, mtime_ns: int) -> StagedFile:
        """Makes a symlink that no name leads to."""

    @abstractmethod
    def stage_reference(self, origin: ReferenceTarget) -> StagedFile:
        """Makes a reference that no name leads to. Raises :class:`~artfs.errors.InvalidCommand`."""

    @abstractmethod
    def take(self, name: bytes) -> StagedFile:
        """Makes a file or symlink ready to be published in another tree, which then takes it from here.

        Raises OSError with EXDEV if it can't be taken: then copy it.
        """

    @abstractmethod
    def publish(self, staged: StagedFile, name: bytes, *, replace: bool) -> None:
        """Gives what was staged its name, in one atomic step, and with `replace` in the place of another's.

        `replace` is for who is :meth:`Tree.alone`. Raises FileExistsError without it, IsADirectoryError where
        a directory stands; OSError with EXDEV if it was lifted where nothing can be taken from: then copy it.
        """

    @abstractmethod
    def remove(self, name: bytes) -> None:
        """Removes a file, a symlink or an empty directory. Raises FileNotFoundError, OSError (ENOTEMPTY)."""

    @abstractmethod
    def set_attributes(self, *, mode: int | None, mtime_ns: int, xattrs: Xattrs) -> None:
        """Gives the directory itself its attributes; without a mode that one stays."""


class WritableTree(ABC):
    """The files of one pending version, for as long as it is being filled."""

    @abstractmethod
    def cursor(self) -> TreeCursor:
        """Returns a new cursor at the root."""

    @abstractmethod
    def status(self) -> os.stat_result:
        """Returns the status of the root."""

    def is_root(self, status: os.stat_result) -> bool:
        """Tells whether a directory is the root of this tree, into which it can't be copied."""
        return os.path.samestat(status, self.status())

    #: The algorithm of :meth:`learn`; None where nobody asks for digests.
    algorithm: Algorithm | None = None

    def learn_digest(self, fd: int, digest: bytes) -> None:  # noqa: B027  (there may be nobody to tell)
        """Is told the digest of a file's bytes by who just wrote all of them.

        A finish then need not read it again. Only for files of a tree that nobody else fills, and when the
        file has its name: nothing changes its ctime any more.
        """

    def add_references(self, found: Sequence[tuple[bytes, ReferenceTarget]], run: str | None) -> int:  # noqa: ARG002
        """Makes as many of these references as can be made at once, by path, and returns how many.

        The directories are there. What stands in the way ends it, but for the same reference. `run` is noted
        on each. None is made where this is no quicker than one by one.
        """
        return 0

    @abstractmethod
    def exclusive(self) -> AbstractContextManager[None]:
        """Excludes whoever else asks for this, in any thread and process that fills the tree. Short."""


def as_run(noted: bytes) -> str:
    """Returns the run that an entry's mark names."""
    return noted.decode("utf-8", "surrogateescape")


def descend(cursor: TreeCursor, way: Sequence[bytes]) -> None:
    """Goes down a path. Raises FileNotFoundError, NotADirectoryError."""
    for name in way:
        cursor.enter(name)


__all__ = ["ReferenceTarget", "StagedFile", "TreeCursor", "WritableTree", "as_run", "descend"]
