"""The tree of one version as a mount shows it. Blocking."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence

from artfs.client.file_attributes import user_xattrs
from artfs.client.mounted.control_files import read_document
from artfs.client.mounted.mounted_references import failure_of, fetch, reported
from artfs.client.values import VersionEntry
from artfs.client.version_tree import VersionTree
from artfs.linux.walk import DirectoryStack, go_to, walk


def version_at(root: int) -> str:
    """Returns the name of the version whose root is open: ``v3``."""
    return str(read_document(root, b".artfs/status")["version"])


class MountedVersionTree(VersionTree):
    """The tree at `root_fd`, which stays the caller's. Close it.

    An entry can be opened until the next one is asked for.
    """

    def __init__(self, root_fd: int, collection: str) -> None:
        self._root_fd, self._collection = root_fd, collection
        self._at = DirectoryStack(os.dup(root_fd))

    def label(self) -> str:
        return f"{self._collection}:{version_at(self._root_fd)}"

    def close(self) -> None:
        self._at.close()

    def find(self, path: Sequence[bytes]) -> VersionEntry | None:
        *above, name = path or [b"."]
        try:
            go_to(self._at, b"/".join(above))
            return _entry(self._at.fd, b"/".join(path), name)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def children(self, path: Sequence[bytes]) -> Iterator[VersionEntry]:
        go_to(self._at, b"/".join(path))
        for name in self._at.names():
            yield _entry(self._at.fd, self._at.below(name), name)

    def below(self, path: Sequence[bytes]) -> Iterator[VersionEntry]:
        go_to(self._at, b"/".join(path))
        for found in walk(self._at):
            if not found.leaving:
                yield _entry(self._at.fd, found.path, found.name, found.status)

    def open(self, path: Sequence[bytes]) -> int:
        go_to(self._at, b"/".join(path[:-1]))
        return fetch(_open_file(self._at.fd, path[-1]))


def read_failure(root: int, path: bytes) -> Exception | None:
    """Returns why a file can't be read; None if it can."""
    opened = _open_file(root, path)
    try:
        return failure_of(opened)
    finally:
        os.close(opened)


def _entry(dir_fd: int, path: bytes, name: bytes, status: os.stat_result | None = None) -> VersionEntry:
    status = status or os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
    kind, size, target = "file", status.st_size, b""
    if stat.S_ISDIR(status.st_mode):
        kind, size = "directory", 0
    elif stat.S_ISLNK(status.st_mode):
        kind, target = "symlink", os.readlink(name, dir_fd=dir_fd)
    return VersionEntry(
        path,
        kind,
        stat.S_IMODE(status.st_mode),
        status.st_uid,
        status.st_gid,
        size,
        status.st_mtime_ns,
        target,
        lambda: user_xattrs(b"/proc/self/fd/%d/%s" % (dir_fd, name)),
        lambda: _open_file(dir_fd, name),
    )


def _open_file(dir_fd: int, name: bytes) -> int:
    try:
        return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dir_fd)
    except OSError as error:
        raise reported(b"/proc/self/fd/%d/%s" % (dir_fd, name), error) from None
