"""Walks the directories of a pending tree with one descriptor, however deep and wide it is.

Blocking; any thread. Others may change the tree meanwhile: what goes is passed over, and a directory that is
moved may be seen twice or not at all. The walk never leaves the tree: when ``..`` leads elsewhere than to
where it came from, it ends.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from artfs.pending import overlay

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def directories(root_fd: int) -> Iterator[tuple[int, list[os.DirEntry[str]]]]:
    """Yields a descriptor of each directory from `root_fd` down, and its entries.

    Both are good until the next step of the iterator.
    """
    fd = os.open(b".", _DIRECTORY, dir_fd=root_fd)
    left: list[list[str]] = []  # the subdirectories still to be seen, of each level above
    levels: list[tuple[int, int]] = []  # which directory each level is
    try:
        while True:
            with os.scandir(fd) as found:
                entries = list(found)
            yield fd, entries
            left.append(
                [
                    entry.name
                    for entry in entries
                    if entry.is_dir(follow_symlinks=False)
                    and not overlay.is_reserved(os.fsencode(entry.name))
                ]
            )
            levels.append(identity(fd))
            below = None
            while below is None:
                if left[-1]:
                    below = _opened(left[-1].pop(), fd)
                    continue
                left.pop()
                levels.pop()
                if not left:
                    return
                above = os.open(b"..", _DIRECTORY, dir_fd=fd)
                os.close(fd)
                fd = above
                if identity(fd) != levels[-1]:
                    return
            os.close(fd)
            fd = below
    finally:
        os.close(fd)


def identity(fd: int) -> tuple[int, int]:
    """Returns what tells a directory from every other."""
    found = os.fstat(fd)
    return found.st_dev, found.st_ino


def _opened(name: str, directory: int) -> int | None:
    try:
        return os.open(name, _DIRECTORY, dir_fd=directory)
    except OSError:
        return None  # gone or replaced since it was listed
