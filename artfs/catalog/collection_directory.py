"""The directory of a collection: opened, locked, and named in errors. Blocking; any thread may use it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from artfs.catalog import small_files
from artfs.errors import ArtfsError, CollectionNotFound, Damaged
from artfs.store import durable


class CollectionDirectory:
    """The directory of one collection, opened by name at each use: it may be removed and created again."""

    def __init__(self, collections_fd: int, name: str) -> None:
        self.name = name
        self._collections_fd = collections_fd

    @contextmanager
    def opened(self, sub: bytes | None = None) -> Iterator[int]:
        """Opens the collection's directory, or a subdirectory, for a ``with`` block.

        Raises CollectionNotFound, and Damaged if something else has its name.
        """
        fd = self._open() if sub is None else self._open_inside(sub)
        try:
            yield fd
        finally:
            os.close(fd)

    @contextmanager
    def locked(self, sub: bytes | None = None, *, shared: bool = False) -> Iterator[None]:
        """Holds the lock of the collection, or of a subdirectory, for a ``with`` block.

        A ``shared`` lock excludes exclusive ones alone. The lock of ``pending`` is taken before that of the
        collection, never after it.
        """
        while True:
            with self.opened(sub) as fd, durable.directory_lock(fd, shared=shared):
                if self._is_current(fd, sub):  # else it was removed before the lock was taken
                    yield
                    return

    def _open(self) -> int:
        try:
            return small_files.open_directory(self._collections_fd, self.name.encode(), self.what())
        except FileNotFoundError:
            raise CollectionNotFound(self.name) from None

    def _open_inside(self, sub: bytes) -> int:
        while True:
            fd = self._open()
            try:
                return small_files.open_directory(fd, sub, self.what(sub))
            except FileNotFoundError:
                if self._is_current(fd):  # else it was removed meanwhile
                    raise Damaged(self.what(sub), "it is missing") from None
            finally:
                os.close(fd)

    def _is_current(self, fd: int, sub: bytes | None = None) -> bool:
        """Tells whether a descriptor still is of the collection's directory, or subdirectory."""
        path = os.path.join(self.name.encode(), sub or b"")
        try:
            status = os.stat(path, dir_fd=self._collections_fd, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return os.path.samestat(status, os.fstat(fd))

    def missing(self, *parts: bytes) -> ArtfsError:
        """Returns the error for a missing file: it is damage, unless the collection was removed."""
        if small_files.identity(self._collections_fd, self.name.encode()) is None:
            return CollectionNotFound(self.name)
        return Damaged(self.what(*parts), "it is missing")

    def what(self, *parts: bytes) -> str:
        """Names a file of the collection in an error."""
        return small_files.shown(b"collections", self.name.encode(), *parts)
