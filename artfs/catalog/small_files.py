"""The catalog's small files: how they are read, replaced, compared, and named in errors.

Knows no format. Blocking; any thread may call it.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from artfs.errors import LostRace
from artfs.model.names import CONTROL
from artfs.printing import printable
from artfs.store import durable
from artfs.store.documents import directory_error, file_error, read

Identity = tuple[int, int, int, int, int]
"""Device, inode, ctime, mtime and size: equal for two reads only if they read the same file.

Files of the catalog are replaced by rename and never written in place, so a changed file has another inode.
Times and size distinguish inodes that got the same number.
"""


def identity(dir_fd: int, name: bytes) -> Identity | None:
    """Returns the identity of the file ``name``; None if there is none."""
    try:
        return _identity(os.stat(name, dir_fd=dir_fd, follow_symlinks=False))
    except FileNotFoundError:
        return None


def read_with_identity(dir_fd: int, name: bytes, what: str) -> tuple[Identity, bytes] | None:
    try:
        status, data = durable.read_with_status(dir_fd, name)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise file_error(error, what) from None
    return _identity(status), data


def update(
    dir_fd: int, name: bytes, what: str, change: Callable[[bytes | None], bytes | None], *, label: str
) -> None:
    """Replaces the content of a file by what ``change`` makes of it, durably; None means no file.

    ``change`` is called again if another process replaced the file meanwhile. If it returns what it got, that
    is made durable: the process that wrote it may have been killed before it did so.
    """
    while True:
        before = read(dir_fd, name, what)
        after = change(before)
        try:
            if after == before:
                durable.confirm(dir_fd, label=label)
            else:
                durable.replace_if_unchanged(dir_fd, name, before, after, label=label)
            return
        except LostRace:
            continue


def open_directory(dir_fd: int, name: bytes, what: str) -> int:
    """Opens a directory. Raises FileNotFoundError, and Damaged if something else has its name."""
    try:
        return durable.open_directory(dir_fd, name)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise directory_error(error, what) from None


def shown(*parts: bytes) -> str:
    """Names a file of the volume in an error."""
    path = b"/".join(parts)
    # Called at every read, for an error that is rare: `printable` takes ten times as long.
    if path.isascii() and (text := path.decode()).isprintable():
        return text
    return printable(path)


def is_internal(name: bytes) -> bool:
    """Tells whether a name is that of an auxiliary file: a temp, a lock file, the reserve."""
    return name.startswith(CONTROL)


def _identity(status: os.stat_result) -> Identity:
    return (status.st_dev, status.st_ino, status.st_ctime_ns, status.st_mtime_ns, status.st_size)


__all__ = [
    "Identity",
    "identity",
    "is_internal",
    "open_directory",
    "read",
    "read_with_identity",
    "shown",
    "update",
]
