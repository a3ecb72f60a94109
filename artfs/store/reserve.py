"""Reserved space for the few small files that deleting a version needs on a full disk.

Owns ``collections/.artfs-reserve``. Only deleting frees space on a full disk, and a tombstone takes an inode
and a block. So does the artfs.json of a volume of an older format, which is replaced before anything can be
deleted. Blocking; any thread and several processes may call it.
"""

from __future__ import annotations

import contextlib
import os

from artfs.store import durable

_FILE = b".artfs-reserve"
SIZE = 64 << 10


def ensure(collections_fd: int) -> None:
    """Makes the reserve if it is missing or incomplete and there is space. Not durable."""
    with contextlib.suppress(OSError):
        with contextlib.suppress(FileNotFoundError):
            if os.stat(_FILE, dir_fd=collections_fd, follow_symlinks=False).st_size == SIZE:
                return
        with durable.temp_file(collections_fd) as (temp, fd):
            durable.write_all(fd, os.urandom(SIZE))  # neither compressible nor a hole
            os.rename(temp, _FILE, src_dir_fd=collections_fd, dst_dir_fd=collections_fd)


def release(collections_fd: int) -> bool:
    """Frees the reserved space; returns False if there is none."""
    try:
        os.unlink(_FILE, dir_fd=collections_fd)
    except OSError:
        return False
    return True
