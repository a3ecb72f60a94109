"""Reads the catalog's small files by directory descriptors, and follows no symlink on the way.

Owns how a file or directory that isn't what it should be becomes ``Damaged``. Knows no format. Blocking;
any thread may call it.
"""

from __future__ import annotations

import errno
import os
import stat

from artfs.errors import Damaged, printable
from artfs.model.names import RESERVED
from artfs.store import durable

LIMIT = 64 << 20
"""Bytes. A longer file is none of ours: metadata is refused long before it makes one (``records``)."""

# O_NONBLOCK: a fifo in the file's place must not hang the open; it is refused right after by its type.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


def read(dir_fd: int, name: bytes, what: str) -> bytes | None:
    """Returns the whole file, or None if there is none.

    ``what`` names it in the error. Raises Damaged if it is no regular file.
    """
    found = read_with_identity(dir_fd, name, what)
    return None if found is None else found[1]


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
        fd = os.open(name, _FILE, dir_fd=dir_fd)
    except FileNotFoundError:
        return None
    except OSError as error:
        # ENXIO: open(2) of a socket.
        if error.errno in (errno.ELOOP, errno.ENXIO):
            raise Damaged(what, "it is not a regular file") from None
        raise
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise Damaged(what, "it is not a regular file")
        if status.st_size > LIMIT:
            raise Damaged(what, f"it has {status.st_size} bytes, more than any such file")
        blocks = []
        while block := os.read(fd, 1 << 20):
            blocks.append(block)
        return _identity(status), b"".join(blocks)
    finally:
        os.close(fd)


def open_directory(dir_fd: int, name: bytes, what: str) -> int:
    """Opens a directory. Raises FileNotFoundError, and Damaged if something else has its name."""
    try:
        return durable.open_directory(dir_fd, name)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            raise Damaged(what, "it is not a directory") from None
        raise


def shown(*parts: bytes) -> str:
    """Names a file of the volume in an error."""
    path = b"/".join(parts)
    # Asked for at every read, for an error that hardly ever comes: `printable` takes ten times as long.
    if path.isascii() and (text := path.decode()).isprintable():
        return text
    return printable(path)


def is_internal(name: bytes) -> bool:
    """Tells whether the name belongs to ``durable``: a temp or a lock file."""
    return name.startswith(RESERVED)


def _identity(status: os.stat_result) -> Identity:
    return (status.st_dev, status.st_ino, status.st_ctime_ns, status.st_mtime_ns, status.st_size)
