"""Counts the files of a pending tree and finds its last change, while others may change it.

Of a patch it reads only the changes: the pages of the lower directories have the counts of the rest.
Blocking; any thread.
"""

from __future__ import annotations

import contextlib
import os
import stat
from typing import NamedTuple

from artfs.linux.walk import scan
from artfs.model.entry import DirEntry, FileEntry, ReferenceEntry, SymlinkEntry
from artfs.model.tree import TreeReader
from artfs.pending import overlay


class Census(NamedTuple):
    """``files`` and their ``bytes`` as the tree shows them; ``own`` of the files are in the tree itself."""

    files: int
    bytes: int
    own: int


def count(root_fd: int, reader: TreeReader, *, patched: bool) -> Census:
    """Counts the files below a directory; ``patched`` tells whether it may have overlay directories."""
    files = size = own = 0
    for fd, entries in scan(root_fd, overlay.is_reserved):
        lower = overlay.lower_of(fd) if patched else None
        if lower is not None:
            below = reader.summary(lower.tree)
            covered = [_below(reader, lower, name) for name in _covered(fd, entries)]
            files += below.files - sum(found[0] for found in covered)
            size += below.bytes - sum(found[1] for found in covered)
        for entry in entries:
            if overlay.is_reserved(os.fsencode(entry.name)):
                continue
            try:
                status = entry.stat(follow_symlinks=False)
                if patched and stat.S_ISLNK(status.st_mode):
                    stub = overlay.decode_target(os.readlink(os.fsencode(entry.name), dir_fd=fd))
                    if isinstance(stub, overlay.Stub):
                        found = reader.find(stub.tree, stub.name)
                        files += 1
                        if found and isinstance(found[1], FileEntry | ReferenceEntry):
                            size += found[1].size
            except FileNotFoundError:
                continue  # removed since it was listed
            if stat.S_ISREG(status.st_mode):
                files, own, size = files + 1, own + 1, size + status.st_size
    return Census(files, size, own)


def newest_change(root_fd: int) -> float:
    """Returns the latest ctime in a tree, its root included, in seconds since the epoch.

    The mtime does not serve: tar and rsync set it back.
    """
    newest = 0.0
    for fd, entries in scan(root_fd, overlay.is_reserved):
        newest = max(newest, os.fstat(fd).st_ctime)
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):  # removed since it was listed
                newest = max(newest, entry.stat(follow_symlinks=False).st_ctime)
    return newest


def _covered(fd: int, entries: list[os.DirEntry[str]]) -> set[bytes]:
    return overlay.whiteouts(fd).union(os.fsencode(entry.name) for entry in entries)


def _below(reader: TreeReader, lower: overlay.Lower, name: bytes) -> tuple[int, int]:
    """Returns the files and bytes at and below a lower entry; zeros if there is none."""
    found = reader.find(lower.tree, name)
    if found is None or isinstance(found[1], SymlinkEntry):
        return 0, 0
    entry = found[1]
    if isinstance(entry, DirEntry):
        return entry.files, entry.bytes
    return 1, entry.size
