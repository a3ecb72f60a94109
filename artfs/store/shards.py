"""Where an object stands below its root directory: in one of 256 directories, by its first hex digits.

Owns: paths from ids, and that such a directory is made for the first object in it. Must not know what
objects hold. Any thread may call it. ``root`` is a descriptor of ``objects/blobs`` or
``objects/trees``. A path of two parts costs the kernel some 3 us more than a
descriptor for each of the 512 directories, which would be half of all that a process may open.
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
    """Returns where a blob stands below ``objects/blobs``: ``ab/cdef...`` with ``-N`` for a counter N."""
    digest = digest_of(blob)
    path = f"{digest[:1].hex()}/{digest[1:].hex()}"
    return (path if len(blob) == len(digest) + 1 else f"{path}-{counter_of(blob)}").encode()


def tree_path(tree: TreeId) -> bytes:
    """Returns where a page stands below ``objects/trees``."""
    digest = digest_of(tree)
    return f"{digest[:1].hex()}/{digest[1:].hex()}".encode()


def in_shard(root: int, path: bytes, action: Callable[[], None]) -> None:
    """Does something that makes ``path``; makes its directory, one of 256, for the first file in it."""
    try:
        action()
    except FileNotFoundError:
        with contextlib.suppress(FileExistsError):
            os.mkdir(path[:2], 0o700, dir_fd=root)
        action()


def move_in(root: int, temp: bytes, path: bytes) -> None:
    """Renames a temp at the top of the root to its place, over whatever file is there."""
    in_shard(root, path, lambda: os.rename(temp, path, src_dir_fd=root, dst_dir_fd=root))


def scan(root: int) -> Iterator[tuple[str, str]]:
    """Yields directory and name of all that may be an object. What comes or goes meanwhile may be missed."""
    for shard in sorted(filter(_SHARD.fullmatch, durable.names(root))):
        with durable.directory(root, shard.encode()) as fd:
            names = os.listdir(fd)
        for name in names:
            if _NAME.fullmatch(name):
                yield shard, name


def strangers(root: int) -> list[bytes]:
    """Returns what stands in the place of such a directory and is none: a symlink would be followed."""
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
