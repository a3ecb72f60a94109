"""The paths of objects: each is in one of 256 directories, by its first two hex digits.

Owns: paths from ids, and the creation of a directory for the first object in it. Must not know the content
of objects. Any thread may call it. ``root`` is a descriptor of ``objects/blobs`` or ``objects/trees``. A path
of two parts costs the kernel some 3 us more than a descriptor for each of the 512 directories, which would
be half of all that a process may open.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Callable, Iterator

from artfs.model.digest import BlobId, TreeId, counter_of, digest_of
from artfs.store import durable

_SHARD = re.compile(r"[0-9a-f]{2}")
_NAME = re.compile(r"[0-9a-f]+(?:-[1-9][0-9]{0,9})?")


def blob_path(blob: BlobId) -> bytes:
    """Returns a blob's path below ``objects/blobs``: ``ab/cdef...``, with ``-N`` for a counter N."""
    digest = digest_of(blob)
    path = f"{digest[:1].hex()}/{digest[1:].hex()}"
    return (path if len(blob) == len(digest) + 1 else f"{path}-{counter_of(blob)}").encode()


def tree_path(tree: TreeId) -> bytes:
    """Returns a page's path below ``objects/trees``."""
    digest = digest_of(tree)
    return f"{digest[:1].hex()}/{digest[1:].hex()}".encode()


def in_shard(root: int, path: bytes, action: Callable[[], None]) -> None:
    """Calls ``action``, which creates ``path``; creates the directory for it if it is missing."""
    try:
        action()
    except FileNotFoundError:
        with contextlib.suppress(FileExistsError):
            os.mkdir(path[:2], 0o700, dir_fd=root)
        action()


def move_in(root: int, temp: bytes, path: bytes) -> None:
    """Renames a temp in the root to ``path``, and replaces any file there."""
    in_shard(root, path, lambda: os.rename(temp, path, src_dir_fd=root, dst_dir_fd=root))


def scan(root: int) -> Iterator[tuple[str, str]]:
    """Yields the directory and name of each possible object. May miss what is added or removed meanwhile."""
    for shard in sorted(filter(_SHARD.fullmatch, durable.names(root))):
        with durable.directory(root, shard.encode()) as fd:
            names = os.listdir(fd)
        for name in names:
            if _NAME.fullmatch(name):
                yield shard, name


def misplaced(root: int) -> list[bytes]:
    """Returns the names of such directories that are something else: a symlink would be followed."""
    with durable.directory(root, b".") as fd, os.scandir(fd) as entries:
        return sorted(
            os.fsencode(entry.name)
            for entry in entries
            if _SHARD.fullmatch(entry.name) and not entry.is_dir(follow_symlinks=False)
        )


def size_of(root: int, path: bytes) -> int | None:
    """Returns the size of an object's file; None if it is missing or no regular file."""
    try:
        found = os.stat(path, dir_fd=root, follow_symlinks=False)
    except FileNotFoundError:
        return None
    return found.st_size if stat.S_ISREG(found.st_mode) else None
