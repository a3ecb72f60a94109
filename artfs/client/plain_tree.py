"""A pending tree that is a plain directory: on a mount, or in a volume that nobody mounted.

Owns where a file is made that has no name yet. In a volume that is beside the tree, under the name of a temp,
so that it goes with the pending version whatever becomes of its maker. A mount has no such place: there it
is the root of the tree, under a name that its maker holds locked, and :func:`sweep` removes those whose maker
has died. Blocking.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import stat
from collections.abc import Iterator, Sequence

from artfs.client.file_attributes import Xattrs, set_attributes, user_xattrs
from artfs.client.reference_writer import ReferenceAccess
from artfs.client.writable_tree import ReferenceTarget, StagedFile, TreeCursor, WritableTree
from artfs.linux.walk import DirectoryStack
from artfs.pending.hashes import Hashes
from artfs.store import durable, regular_files

TEMP = b".~artfs-put."
"""How a file's name begins in a tree on a mount while it is brought."""

_ROOT = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class PlainTree(WritableTree):
    """The tree at `root_fd`, with the temps in `staging_fd`, by default in the root; owns neither.

    `hashes` are what the finish in this process knows of it.
    """

    def __init__(
        self,
        root_fd: int,
        references: ReferenceAccess,
        staging_fd: int | None = None,
        hashes: Hashes | None = None,
    ) -> None:
        self._root_fd, self._staging_fd, self._hashes = root_fd, staging_fd, hashes
        self._references = references
        if hashes is not None:
            self.algorithm = hashes.algorithm

    def cursor(self) -> TreeCursor:
        return _PlainCursor(self._root_fd, self._references, self._staging_fd, self._hashes)

    def learn_digest(self, fd: int, digest: bytes) -> None:
        if self._hashes is not None:
            self._hashes.learned(os.fstat(fd), digest)

    def add_references(self, found: Sequence[tuple[bytes, ReferenceTarget]], run: str | None) -> int:
        return self._references.add_references(found, run)

    def status(self) -> os.stat_result:
        return os.fstat(self._root_fd)

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        with durable.directory_lock(self._root_fd if self._staging_fd is None else self._staging_fd):
            yield


class _PlainCursor(TreeCursor):
    def __init__(
        self, root_fd: int, references: ReferenceAccess, staging_fd: int | None, hashes: Hashes | None
    ) -> None:
        self._to = DirectoryStack(os.open(b".", _ROOT, dir_fd=root_fd))
        self._references = references
        self._root_fd, self._staging_fd, self._hashes = root_fd, staging_fd, hashes

    @property
    def path(self) -> bytes:
        return self._to.path

    def below(self, name: bytes) -> bytes:
        return self._to.below(name)

    def close(self) -> None:
        self._to.close()

    def enter(self, name: bytes) -> None:
        self._to.enter(name)

    def leave(self) -> None:
        self._to.leave()

    def status(self, name: bytes = b".") -> os.stat_result:
        return os.stat(name, dir_fd=self._to.fd, follow_symlinks=False)

    def names(self) -> list[bytes]:
        found = self._to.names()
        if self._staging_fd is None and not self.path:
            return [name for name in found if not name.startswith(TEMP)]
        return found

    def open(self, name: bytes, *, fetch: bool = True) -> int:
        fd = regular_files.open_regular(self._to.fd, name)
        return self._references.fetched(fd) if fetch else fd

    def reference(self, name: bytes) -> ReferenceTarget | None:
        return self._references.origin(self._path(name))

    def _path(self, name: bytes) -> bytes:
        return b"/proc/self/fd/%d/%s" % (self._to.fd, name)

    def symlink_target(self, name: bytes) -> bytes:
        return os.readlink(name, dir_fd=self._to.fd)

    def xattrs(self, name: bytes) -> list[tuple[bytes, bytes]]:
        return user_xattrs(self._path(name))

    def make_directory(self, name: bytes, mode: int) -> None:
        os.mkdir(name, mode, dir_fd=self._to.fd)

    def stage(self, mode: int) -> StagedFile:
        name, dir_fd = self._temp()
        staged = StagedFile.create(dir_fd, name, mode)
        if self._staging_fd is None:
            fcntl.flock(staged.fd, fcntl.LOCK_EX)
        if self._hashes is not None:
            # What is learned of a file that is replaced must not count for one that gets its number.
            self._hashes.forget(os.fstat(staged.fd).st_ino)
        return staged

    def stage_symlink(self, target: bytes, mtime_ns: int) -> StagedFile:
        name, dir_fd = self._temp()
        os.symlink(target, name, dir_fd=dir_fd)
        os.utime(name, ns=(mtime_ns, mtime_ns), dir_fd=dir_fd, follow_symlinks=False)
        return StagedFile(dir_fd, name)

    def stage_reference(self, origin: ReferenceTarget) -> StagedFile:
        return self._references.stage(origin, self._temp()[0])

    def _temp(self) -> tuple[bytes, int]:
        if self._staging_fd is not None:
            return durable.temp_name(), self._staging_fd
        return TEMP + secrets.token_hex(8).encode(), self._root_fd

    def take(self, name: bytes) -> StagedFile:
        if self.status(name).st_nlink > 1:
            # A finish that failed may have made it a blob of the store. The mark of that finish keeps it from
            # being written in place, and the tree where it would come has none.
            raise OSError(errno.EXDEV, "a file of several names is copied, not taken", name)
        return StagedFile(self._to.fd, name, kept=True)

    def publish(self, staged: StagedFile, name: bytes, *, replace: bool) -> None:
        if replace:
            os.rename(staged.name, name, src_dir_fd=staged.dir_fd, dst_dir_fd=self._to.fd)
        else:
            durable.rename_noreplace(staged.dir_fd, staged.name, self._to.fd, name)
        staged.published = True

    def remove(self, name: bytes) -> None:
        if stat.S_ISDIR(self.status(name).st_mode):
            os.rmdir(name, dir_fd=self._to.fd)
        else:
            os.unlink(name, dir_fd=self._to.fd)

    def set_attributes(self, *, mode: int | None, mtime_ns: int, xattrs: Xattrs) -> None:
        set_attributes(self._to.fd, mode=mode, mtime_ns=mtime_ns, xattrs=xattrs)


def sweep(root_fd: int) -> None:
    """Removes what processes that were killed left in the root of a tree on a mount."""
    for name in map(os.fsencode, os.listdir(root_fd)):
        if name.startswith(TEMP):
            with contextlib.suppress(OSError):
                _remove_if_left(root_fd, name)


def _remove_if_left(root_fd: int, name: bytes) -> None:
    if os.path.islink(b"/proc/self/fd/%d/%s" % (root_fd, name)):
        os.unlink(name, dir_fd=root_fd)
        return
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=root_fd)
    try:
        # BlockingIOError: it is being filled. A maker whose file goes before its lock is had makes another.
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(name, dir_fd=root_fd)
    finally:
        os.close(fd)
