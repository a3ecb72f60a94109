"""A version's tree as a mount shows it: listed, walked, and opened for reading.

Owns how a path leads to an entry there, without following a symlink out of the version. Each function takes
the descriptor of a version's root, which stays the caller's.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from artfs.client.file_attributes import user_xattrs
from artfs.client.mounted.control_files import document
from artfs.client.mounted.mounted_references import failure_of, fetch, reported
from artfs.client.transfer.tree_paths import no_file, parts, resolved
from artfs.client.values import Entry
from artfs.errors import PathNotFound
from artfs.linux.walk import DirectoryStack, walk


def number_of(root: int) -> str:
    """Returns what the version is called: ``v3``."""
    return str(document(root, b".artfs/status")["version"])


def listing(root: int, name: str, path: bytes) -> list[Entry]:
    """Returns what is in a directory, or the one entry that stands there; `name` is the collection's.

    Raises :class:`~artfs.errors.PathNotFound`.
    """
    way = parts(path)
    with DirectoryStack(os.dup(root)) as directories:
        try:
            last = _descend(directories, way)
        except (FileNotFoundError, NotADirectoryError):
            raise PathNotFound(_label(root, name), path) from None
        if last is not None:
            return [last]
        listed = directories.names()
        return [_entry(directories.fd, directories.below(child), child) for child in listed]


def entries(root: int, name: str, prefix: bytes) -> Iterator[Entry]:
    """Yields the root, what leads to `prefix`, that, and all below. Raises as :func:`listing` does."""
    way = parts(prefix)
    with DirectoryStack(os.dup(root)) as directories:
        yield _entry(root, b"", b".")
        try:
            for at in range(len(way)):
                entry = _entry(directories.fd, directories.below(way[at]), way[at])
                yield entry
                if at + 1 < len(way) or entry.kind == "directory":
                    directories.enter(way[at])
                else:
                    return
        except (FileNotFoundError, NotADirectoryError):
            raise PathNotFound(_label(root, name), prefix) from None
        for found in walk(directories):
            if not found.leaving:
                yield _entry(directories.fd, found.path, found.name, found.status)


def open_at(root: int, name: str, path: bytes) -> int:
    """Opens a file, through symlinks that stay within the version; the caller closes the descriptor.

    Raises as :func:`listing` does, and :class:`~artfs.errors.ReferenceFailed` and
    :class:`~artfs.errors.Damaged` for bytes that can't be had.
    """
    found, way = _follow(root, parts(path))
    if found is None:
        raise PathNotFound(_label(root, name), path)
    if found.kind != "file":
        raise no_file(path, found.kind)
    with DirectoryStack(os.dup(root)) as directories:
        for part in way[:-1]:
            directories.enter(part)
        opened = _open_file(directories.fd, way[-1])
    return fetch(opened)


def read_failure(root: int, path: bytes) -> Exception | None:
    """Tells why a file can't be read; None if it can."""
    opened = _open_file(root, path)
    try:
        return failure_of(opened)
    finally:
        os.close(opened)


def _label(root: int, name: str) -> str:
    return f"{name}:{number_of(root)}"


def _follow(root: int, way: list[bytes]) -> tuple[Entry | None, list[bytes]]:
    """Returns the entry that a path leads to, and the names that lead there without a symlink."""

    def at(way: list[bytes]) -> Entry | None:
        with DirectoryStack(os.dup(root)) as directories:
            try:
                for part in way[:-1]:
                    directories.enter(part)
                return _entry(directories.fd, b"/".join(way), way[-1] if way else b".")
            except (FileNotFoundError, NotADirectoryError):
                return None

    def link_at(way: list[bytes]) -> bytes | None:
        entry = at(way)
        return entry.target if entry is not None and entry.kind == "symlink" else None

    there = resolved(way, link_at)
    return (None, []) if there is None else (at(there), there)


def _descend(directories: DirectoryStack, way: list[bytes]) -> Entry | None:
    """Goes to a directory; to one above what is none, whose entry is returned."""
    for at, name in enumerate(way):
        entry = _entry(directories.fd, directories.below(name), name)
        if at + 1 == len(way) and entry.kind != "directory":
            return entry
        directories.enter(name)
    return None


def _entry(dir_fd: int, path: bytes, name: bytes, status: os.stat_result | None = None) -> Entry:
    status = status or os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
    kind, size, target = "file", status.st_size, b""
    if stat.S_ISDIR(status.st_mode):
        kind, size = "directory", 0
    elif stat.S_ISLNK(status.st_mode):
        kind, target = "symlink", os.readlink(name, dir_fd=dir_fd)
    return Entry(
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
