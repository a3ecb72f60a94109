"""Copies one file with what belongs to it, by descriptors.

Owns: bytes, mode, times and user xattrs on their way. Knows nothing of trees. Blocking; any thread.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable

from artfs.linux import syscalls
from artfs.model.digest import Hasher
from artfs.store import durable, files

_BLOCK = 1 << 20
_SMALL = 16 << 10
_ZEROS = bytes(_BLOCK)
_NO_XATTRS = (errno.EOPNOTSUPP, errno.ENOSYS)

Xattrs = Iterable[tuple[bytes, bytes]]


def copy_bytes(
    source: int,
    target: int,
    copied: Callable[[int], None],
    *,
    zeros: bool = True,
    status: os.stat_result | None = None,
    hasher: Hasher | None = None,
) -> bool:
    """Copies a file into an empty one: shares its extents where it can, keeps holes, tells how far it is.

    Returns whether every byte that was written went through the `hasher` too.

    Without `zeros`, blocks of zeros become holes too: a mount doesn't show where the holes of a file are.
    `status` is the source's, if it is known.
    """
    status = status or os.fstat(source)
    if status.st_size < _SMALL and zeros:
        # One read and one write: for so little, to ask for anything more costs more than it saves.
        data = os.pread(source, _SMALL, 0)
        if len(data) < _SMALL:
            durable.write_all(target, data)
            if hasher is not None:
                hasher.update(data)
            copied(len(data))
            return True
    if syscalls.reflink(target, source):
        copied(status.st_size)
    elif status.st_blocks * 512 < status.st_size:
        files.copy_fd(source, target, check=lambda: copied(0))
        copied(status.st_size)
    else:
        # In order and without setting the size before: a mount then hashes what passes through.
        block = bytearray(min(_BLOCK, max(status.st_size + 1, 4096)))
        buffer = memoryview(block)
        offset = 0
        while count := os.preadv(source, [buffer], offset):
            done = 0 if zeros or block[:count] != _ZEROS[:count] else count
            while done < count:
                done += os.pwrite(target, buffer[done:count], offset + done)
            if hasher is not None:
                hasher.update(buffer[:count])
            offset += count
            copied(count)
        if not zeros:
            os.ftruncate(target, offset)
        return True
    return False


def user_xattrs(file: int | bytes) -> list[tuple[bytes, bytes]]:
    """Returns the xattrs of a file or directory that belong to its user, by name; a symlink has none.

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
    """Tells whether an xattr is the user's own: what is artfs's says things of another place."""
    return name.startswith(b"user.") and not name.startswith(b"user.artfs.")


def set_attributes(fd: int, *, mode: int | None, mtime_ns: int, xattrs: Xattrs) -> None:
    """Gives a file or directory its attributes; xattrs first, since the mode may forbid them.

    Where the filesystem has no xattrs, there are none.
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
