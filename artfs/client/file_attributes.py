"""Mode, mtime and user xattrs of one file, read and set by descriptors.

Knows nothing of trees. Blocking; any thread.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable

_NO_XATTRS = (errno.EOPNOTSUPP, errno.ENOSYS)

Xattrs = Iterable[tuple[bytes, bytes]]


def user_xattrs(file: int | bytes) -> list[tuple[bytes, bytes]]:
    """Returns the user's xattrs of a file or directory, by name; a symlink has none.

    `file` is a descriptor or a path.
    """
    try:
        if isinstance(file, int):
            found = os.listxattr(file)
            return [(n, os.getxattr(file, n)) for n in sorted(map(os.fsencode, found)) if is_users(n)]
        found = os.listxattr(file, follow_symlinks=False)
        return [
            (n, os.getxattr(file, n, follow_symlinks=False))
            for n in sorted(map(os.fsencode, found))
            if is_users(n)
        ]
    except OSError as error:
        if error.errno in _NO_XATTRS:
            return []
        raise


def is_users(name: bytes) -> bool:
    """Returns whether an xattr is the user's own; one of artfs describes the file in its present place."""
    return name.startswith(b"user.") and not name.startswith(b"user.artfs.")


def set_attributes(fd: int, *, mode: int | None, mtime_ns: int, xattrs: Xattrs) -> None:
    """Sets the attributes of a file or directory; xattrs first, since the mode may forbid them.

    Leaves xattrs out where the filesystem has none.
    """
    try:
        for name, value in xattrs:
            os.setxattr(fd, name, value)
    except OSError as error:
        if error.errno not in _NO_XATTRS:
            raise
    if mode is not None:
        os.fchmod(fd, mode)
    os.utime(fd, ns=(mtime_ns, mtime_ns))


def umask() -> int:
    """Returns this process's umask without changing it, as umask(2) can't."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        for line in file:
            if line.startswith("Umask:"):
                return int(line.split()[1], 8)
    return 0o022
