"""The catalog's small files: which of two reads saw the same file, and how one is named in an error.

Knows no format. Blocking; any thread may call it.
"""

from __future__ import annotations

import os

from artfs.errors import printable
from artfs.model.names import CONTROL
from artfs.store import durable
from artfs.store.documents import directory_error, file_error, read

Identity = tuple[int, int, int, int, int]
"""Device, inode, ctime, mtime and size: equal for two reads only if the file is the same one.

Files of the catalog are replaced by rename and never written in place, so a change means another inode;
times and size tell an inode number that was used again.
"""


def identity(dir_fd: int, name: bytes) -> Identity | None:
    """Returns the identity of whatever stands under ``name``, or None."""
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
    # Asked for at every read, for an error that hardly ever comes: `printable` takes ten times as long.
    if path.isascii() and (text := path.decode()).isprintable():
        return text
    return printable(path)


def is_internal(name: bytes) -> bool:
    """Tells whether the name is of what artfs needs besides: a temp, a lock file, the reserve."""
    return name.startswith(CONTROL)


def _identity(status: os.stat_result) -> Identity:
    return (status.st_dev, status.st_ino, status.st_ctime_ns, status.st_mtime_ns, status.st_size)


__all__ = ["Identity", "identity", "is_internal", "open_directory", "read", "read_with_identity", "shown"]
