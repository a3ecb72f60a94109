"""The bytes of one file: opened safely, hashed, compared.

Owns: how object files and files on their way to become objects are read. Must not know ids and where
objects stand. Any thread may call it; reading and hashing release the GIL. A given descriptor's offset is
left alone unless said otherwise.
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
    """Opens a regular file for reading, and nothing else.

    The owner may lack the permission to read (an object is often a link to a user's file of any mode): then
    it is given for the moment of opening. Raises FileNotFoundError; ELOOP for a symlink, EINVAL for what is
    no regular file; PermissionError if another user owns it.
    """
    # O_NONBLOCK: a fifo in the place of a file must not hang the caller.
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


def hold(dir_fd: int, name: bytes) -> int:
    """Opens what may be about to lose its last name, so that it can be reached afterwards.

    A regular file is opened for reading where that is allowed, anything else with O_PATH: a filesystem in
    userspace is told of real opens alone, and forgets what is held by O_PATH when its last name goes.
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
    # By way of O_PATH and /proc, so that the inode that is changed is the one that is opened.
    handle = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dir_fd)
    try:
        link = f"/proc/self/fd/{handle}"
        for _ in range(10):  # another process may put the mode back between our two calls
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
                    # The inode may still have a name in a pending tree, where the user sees its mode.
                    os.chmod(link, mode)
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
    finally:
        os.close(handle)


def create_owned(dir_fd: int, name: bytes, mode: int) -> io.FileIO:
    """Makes a file, of that mode less the umask, and opens it for reading and writing.

    A signal handler may raise an exception after any call that Python code makes. FileIO opens the file and
    owns it within one call, so that no such exception leaves it open: the file is closed at the latest when
    the object is collected. Raises FileExistsError.
    """
    return io.FileIO(name, "x+", opener=partial(os.open, mode=mode, dir_fd=dir_fd))


def hash_fd(algorithm: Algorithm, fd: int) -> bytes:
    """Returns the digest of all bytes of a file, from 0 to where reading ends."""
    return measure_fd(algorithm, fd)[0]


def measure_fd(
    algorithm: Algorithm, fd: int, *, check: Callable[[], None] = lambda: None
) -> tuple[bytes, int]:
    """Returns digest and number of the bytes that were read, for a file that may be growing.

    Calls `check` before each block, which ends it by raising.
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
    """Compares two files byte by byte; one inode equals itself unread."""
    a, b = os.fstat(a_fd), os.fstat(b_fd)
    if (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino):
        return True
    if a.st_size != b.st_size:
        return False
    left, right, offset = thread_block("a"), thread_block("b"), 0
    while True:
        count, other = os.preadv(a_fd, [left], offset), os.preadv(b_fd, [right], offset)
        count = min(count, other)
        # A short read of one side is read on from there; at the end of one the other must end too.
        if count == 0:
            return not os.pread(a_fd, 1, offset) and not os.pread(b_fd, 1, offset)
        # Whole bytearrays compare by memcmp; memoryviews go item by item.
        if (left != right) if count == BLOCK else (left[:count] != right[:count]):
            return False
        offset += count


def unlink_quietly(dir_fd: int, path: bytes) -> None:
    """Removes a file that may be gone, or a temp whose removal may fail without harm."""
    with contextlib.suppress(OSError):
        os.unlink(path, dir_fd=dir_fd)
