"""A pending tree that is a plain directory: on a mount, or in a volume without one.

Owns where a file is staged. In a volume that is next to the tree, under the name of a temp, so that it goes
with the pending version whatever happens to its process. A mount has no such place: there it is the root of
the tree, under a prefix of its own and locked by its process, and :func:`remove_stale_temps` removes those
whose process has died. Blocking.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import stat
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

from artfs.client.file_attributes import Xattrs, set_attributes, user_xattrs
from artfs.client.writable_tree import ReferenceTarget, StagedFile, TreeCursor, WritableTree
from artfs.linux.walk import DIRECTORY, DirectoryStack
from artfs.pending.hashes import Hashes
from artfs.store import durable, regular_files

TEMP = b".~artfs-put."
"""How the name of a staged file in a tree on a mount begins."""


class ReferenceAccess(ABC):
    """How references are kept in one pending tree."""

    @abstractmethod
    def target_of(self, path: bytes) -> ReferenceTarget | None:
        """Returns what the entry at a path refers to; None if it is no reference."""

    @abstractmethod
    def stage(self, target: ReferenceTarget, temp: bytes) -> StagedFile:
        """Creates a reference without a name in the tree; `temp` is a name that it may have meanwhile."""

    def add_references(self, found: Sequence[tuple[bytes, ReferenceTarget]], run: str | None) -> int:  # noqa: ARG002
        """Does what :meth:`.WritableTree.add_references` does."""
        return 0

    @abstractmethod
    def fetch(self, fd: int) -> int:
        """Returns the bytes that an open file of the tree refers to: `fd` itself, or another one for it.

        Raises :class:`~artfs.errors.ReferenceFailed`.
        """


class PlainTree(WritableTree):
    """The tree at `root_fd`, with staged files in `staging_fd`, by default in the root; owns neither.

    `hashes` are the digests that a finish in this process knows.
    """

    def __init__(
        self,
        root_fd: int,
        references: ReferenceAccess,
        staging_fd: int | None = None,
        hashes: Hashes | None = None,
    ) -> None:
        self.root_fd, self.staging_fd, self.hashes = root_fd, staging_fd, hashes
        self.references = references
        if hashes is not None:
            self.algorithm = hashes.algorithm

    def cursor(self) -> TreeCursor:
        return _PlainCursor(self)

    def learn_digest(self, fd: int, digest: bytes) -> None:
        if self.hashes is not None:
            self.hashes.learned(os.fstat(fd), digest)

    def add_references(self, found: Sequence[tuple[bytes, ReferenceTarget]], run: str | None) -> int:
        return self.references.add_references(found, run)

    def status(self) -> os.stat_result:
        return os.fstat(self.root_fd)

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        with durable.directory_lock(self.root_fd if self.staging_fd is None else self.staging_fd):
            yield


class _PlainCursor(DirectoryStack, TreeCursor):
    def __init__(self, tree: PlainTree) -> None:
        super().__init__(os.open(b".", DIRECTORY, dir_fd=tree.root_fd))
        self._tree = tree

    def status(self, name: bytes = b".") -> os.stat_result:
        return os.stat(name, dir_fd=self.fd, follow_symlinks=False)

    def names(self) -> list[bytes]:
        found = super().names()
        if self._tree.staging_fd is None and not self.path:
            return [name for name in found if not name.startswith(TEMP)]
        return found

    def open(self, name: bytes, *, fetch: bool = True) -> int:
        fd = regular_files.open_regular(self.fd, name)
        return self._tree.references.fetch(fd) if fetch else fd

    def reference(self, name: bytes) -> ReferenceTarget | None:
        return self._tree.references.target_of(self._proc_path(name))

    def _proc_path(self, name: bytes) -> bytes:
        return b"/proc/self/fd/%d/%s" % (self.fd, name)

    def symlink_target(self, name: bytes) -> bytes:
        return os.readlink(name, dir_fd=self.fd)

    def xattrs(self, name: bytes) -> list[tuple[bytes, bytes]]:
        return user_xattrs(self._proc_path(name))

    def make_directory(self, name: bytes, mode: int) -> None:
        os.mkdir(name, mode, dir_fd=self.fd)

    def stage(self, mode: int) -> StagedFile:
        name, dir_fd = self._temp()
        staged = StagedFile.create(dir_fd, name, mode)
        if self._tree.staging_fd is None:
            fcntl.flock(staged.fd, fcntl.LOCK_EX)
        if self._tree.hashes is not None:
            # The digest of a file that was replaced must not count for one that gets its inode number.
            self._tree.hashes.forget(os.fstat(staged.fd).st_ino)
        return staged

    def stage_symlink(self, target: bytes, mtime_ns: int) -> StagedFile:
        name, dir_fd = self._temp()
        os.symlink(target, name, dir_fd=dir_fd)
        os.utime(name, ns=(mtime_ns, mtime_ns), dir_fd=dir_fd, follow_symlinks=False)
        return StagedFile(dir_fd, name)

    def stage_reference(self, target: ReferenceTarget) -> StagedFile:
        return self._tree.references.stage(target, self._temp()[0])

    def _temp(self) -> tuple[bytes, int]:
        if self._tree.staging_fd is not None:
            return durable.temp_name(), self._tree.staging_fd
        return TEMP + secrets.token_hex(8).encode(), self._tree.root_fd

    def take(self, name: bytes) -> StagedFile:
        if self.status(name).st_nlink > 1:
            # A failed finish may have made it a blob of the store. The mark of that finish keeps it from
            # being written in place; the other tree has no mark.
            raise OSError(errno.EXDEV, "a file with several links can only be copied", name)
        return StagedFile(self.fd, name, kept=True)

    def publish(self, staged: StagedFile, name: bytes, *, replace: bool) -> None:
        if replace:
            os.rename(staged.name, name, src_dir_fd=staged.dir_fd, dst_dir_fd=self.fd)
        else:
            durable.rename_noreplace(staged.dir_fd, staged.name, self.fd, name)
        staged.published = True

    def remove(self, name: bytes) -> None:
        if stat.S_ISDIR(self.status(name).st_mode):
            os.rmdir(name, dir_fd=self.fd)
        else:
            os.unlink(name, dir_fd=self.fd)

    def set_attributes(self, *, mode: int | None, mtime_ns: int, xattrs: Xattrs) -> None:
        set_attributes(self.fd, mode=mode, mtime_ns=mtime_ns, xattrs=xattrs)


def remove_stale_temps(root_fd: int) -> None:
    """Removes the staged files of killed processes from the root of a tree on a mount."""
    for name in map(os.fsencode, durable.names(root_fd)):
        if name.startswith(TEMP):
            with contextlib.suppress(OSError):
                _remove_if_stale(root_fd, name)


def _remove_if_stale(root_fd: int, name: bytes) -> None:
    if os.path.islink(b"/proc/self/fd/%d/%s" % (root_fd, name)):
        os.unlink(name, dir_fd=root_fd)
        return
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=root_fd)
    try:
        # BlockingIOError: it is being written. A process whose file goes before it is locked stages another.
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(name, dir_fd=root_fd)
    finally:
        os.close(fd)
