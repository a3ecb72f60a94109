"""The bytes of one regular file: opened safely, hashed, compared.

Owns: how object files and files that become objects are read. Must not know ids and the paths of objects.
Any thread may call it; reading and hashing release the GIL. The offsets of descriptors stay as they are.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import stat
import threading
from collections.abc import Callable
from functools import partial

from artfs.linux.file_copy import BLOCK, thread_block
from artfs.model.digest import Algorithm

_modes = threading.Lock()


def open_regular(dir_fd: int, path: bytes) -> int:
    """Opens a regular file for reading, and no other kind of file.

    An object is often a link to a user's file of any mode: if its owner lacks the read permission, the mode
    is changed while it is opened. Raises FileNotFoundError; ELOOP for a symlink, EINVAL for another kind of
    file; PermissionError if another user owns it.
    """
    # O_NONBLOCK: the open must not block on a fifo.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        fd = os.open(path, flags, dir_fd=dir_fd)
    except PermissionError:
        fd = _open_unreadable(dir_fd, path, flags)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", path)
    except BaseException:
        os.close(fd)
        raise
    return fd


def hold_open(dir_fd: int, name: bytes) -> int:
    """Opens a file that may lose its last name, so that it stays reachable.

    A regular file is opened for reading where that is allowed, anything else with O_PATH: a filesystem in
    userspace does not see O_PATH opens, and forgets such a file when its last name is removed.
    """
    handle = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dir_fd)
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            return handle
        opened = os.open(f"/proc/self/fd/{handle}", os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except PermissionError:
        return handle
    except BaseException:
        os.close(handle)
        raise
    os.close(handle)
    return opened


def _open_unreadable(dir_fd: int, path: bytes, flags: int) -> int:
    # Through O_PATH and /proc, so that the mode changed is that of the inode opened.
    handle = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dir_fd)
    try:
        link = f"/proc/self/fd/{handle}"
        for _ in range(10):  # another process may restore the mode between the two calls
            with _modes:
                info = os.fstat(handle)
                if not stat.S_ISREG(info.st_mode):
                    raise OSError(errno.EINVAL, "not a regular file", path)
                mode = stat.S_IMODE(info.st_mode)
                os.chmod(link, mode | stat.S_IRUSR)
                try:
                    return os.open(link, flags & ~os.O_NOFOLLOW)
                except PermissionError:
                    continue
                finally:
                    # The inode may still have a name in a pending tree, where users see its mode.
                    os.chmod(link, mode)
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
    finally:
        os.close(handle)


def create_owned(dir_fd: int, name: bytes, mode: int) -> io.FileIO:
    """Creates a file, with that mode less the umask, open for reading and writing. Raises FileExistsError.

    A signal handler may raise an exception after any call that Python code makes. FileIO opens the file and
    owns it within one call, so that no exception leaves it open: it is closed when the object is collected.
    """
    return io.FileIO(name, "x+", opener=partial(os.open, mode=mode, dir_fd=dir_fd))


def hash_fd(algorithm: Algorithm, fd: int) -> bytes:
    """Returns the digest of all bytes of a file."""
    return hash_and_size(algorithm, fd)[0]


def hash_and_size(
    algorithm: Algorithm, fd: int, *, check: Callable[[], None] = lambda: None
) -> tuple[bytes, int]:
    """Returns the digest and the number of the bytes read, for a file that may be growing.

    Calls `check` before each block; its exception ends the reading.
    """
    hasher, buffer, offset = algorithm.hasher(), thread_block("a"), 0
    view = memoryview(buffer)
    check()
    while count := os.preadv(fd, [buffer], offset):
        hasher.update(view if count == BLOCK else view[:count])
        offset += count
        check()
    return hasher.digest(), offset


def same_bytes(a_fd: int, b_fd: int) -> bool:
    """Compares two files byte by byte; an inode equals itself without reading."""
    a, b = os.fstat(a_fd), os.fstat(b_fd)
    if os.path.samestat(a, b):
        return True
    if a.st_size != b.st_size:
        return False
    left, right, offset = thread_block("a"), thread_block("b"), 0
    while True:
        count, other = os.preadv(a_fd, [left], offset), os.preadv(b_fd, [right], offset)
        count = min(count, other)
        # After a short read of one side, both continue from there; both must end at the same offset.
        if count == 0:
            return not os.pread(a_fd, 1, offset) and not os.pread(b_fd, 1, offset)
        # Whole bytearrays compare by memcmp; memoryviews compare item by item.
        if (left != right) if count == BLOCK else (left[:count] != right[:count]):
            return False
        offset += count


def unlink_quietly(dir_fd: int, path: bytes) -> None:
    """Removes a file that may be gone, or a temp whose removal may fail without harm."""
    with contextlib.suppress(OSError):
        os.unlink(path, dir_fd=dir_fd)
