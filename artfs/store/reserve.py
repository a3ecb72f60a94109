"""Room for the few small files that it takes to delete a version, where the disk is full.

Owns ``collections/.artfs-reserve``. To delete is the only way out of a full disk, and a tombstone is a file
like any other: it takes an inode and a block. So is the artfs.json of a volume of an older format, which has
to be replaced before anything can be deleted. Blocking; any thread and several processes may call it.
"""

from __future__ import annotations

import contextlib
import errno
import os

from artfs.store import durable

_FILE = b".artfs-reserve"
SIZE = 64 << 10
FULL = (errno.ENOSPC, errno.EDQUOT)


def keep(collections_fd: int) -> None:
    """Sees that there is a whole reserve, if there is room for one. Not durable: it is made again."""
    try:
        if os.stat(_FILE, dir_fd=collections_fd, follow_symlinks=False).st_size == SIZE:
            return
    except FileNotFoundError:
        pass
    except OSError:
        return
    temp = durable.temp_name()
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        fd = os.open(temp, flags, 0o600, dir_fd=collections_fd)
    except OSError:
        return
    try:
        durable.write_all(fd, os.urandom(SIZE))  # nothing that a filesystem compresses, or takes for a hole
        os.rename(temp, _FILE, src_dir_fd=collections_fd, dst_dir_fd=collections_fd)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temp, dir_fd=collections_fd)
    finally:
        os.close(fd)


def spend(collections_fd: int) -> bool:
    """Gives the reserve's room away; False if there is none."""
    try:
        os.unlink(_FILE, dir_fd=collections_fd)
    except OSError:
        return False
    return True
