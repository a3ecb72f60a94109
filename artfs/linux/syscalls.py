"""Linux system calls that Python's ``os`` lacks.

Owns: the ctypes signatures and the constants. Must not know what the calls are used for. Any thread may call
it; the calls release the GIL. Names are bytes, directories are descriptors, and a failure is an ``OSError``
with the kernel's errno.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import platform

AT_SYMLINK_NOFOLLOW = 0x100
RENAME_NOREPLACE = 1
RENAME_EXCHANGE = 2
UTIME_NOW = (1 << 30) - 1
UTIME_OMIT = (1 << 30) - 2
# _IOW(0x94, 9, int); mips, powerpc and sparc have other numbers, so that reflink fails there.
_FICLONE = 0x40049409

#: f_type of statfs(2) of ext4, xfs and btrfs, from linux/magic.h
LOCAL_FILESYSTEMS = (0xEF53, 0x58465342, 0x9123683E)

_libc = ctypes.CDLL(None, use_errno=True)


class _Timespec(ctypes.Structure):
    _fields_ = [("tv_sec", ctypes.c_long), ("tv_nsec", ctypes.c_long)]


def _raise(*names: bytes) -> None:
    code = ctypes.get_errno()
    raise OSError(code, os.strerror(code), *(names[:1]), *((None, names[1]) if len(names) > 1 else ()))


def renameat2(src_dir: int, src: bytes, dst_dir: int, dst: bytes, flags: int) -> None:
    """Renames with RENAME_NOREPLACE or RENAME_EXCHANGE.

    Raises EINVAL if the filesystem does not support it (NFS), ENOSYS if the kernel does not.
    """
    if hasattr(_libc, "renameat2"):
        result = _libc.renameat2(src_dir, src, dst_dir, dst, ctypes.c_uint(flags))
    else:  # musl before 1.2.6
        number = {"x86_64": 316, "aarch64": 276, "riscv64": 276}.get(platform.machine(), -1)
        result = _libc.syscall(ctypes.c_long(number), src_dir, src, dst_dir, dst, ctypes.c_uint(flags))
    if result != 0:
        _raise(src, dst)


def syncfs(fd: int) -> None:
    """Writes back the whole filesystem of ``fd``.

    Also raises EIO for a write-back error of any of its files since ``fd`` was opened (Linux 5.8).
    """
    if _libc.syncfs(fd) != 0:
        _raise()


def filesystem_type(fd: int) -> int:
    """Returns statfs(2)'s f_type of the filesystem of ``fd``."""
    buffer = (ctypes.c_long * 64)()  # struct statfs has 120 bytes on 64 bit; f_type comes first
    if _libc.fstatfs(fd, buffer) != 0:
        _raise()
    return int(buffer[0]) & 0xFFFFFFFF


def _timespecs(atime_ns: int | None, mtime_ns: int | None) -> ctypes.Array[_Timespec]:
    values = (atime_ns, mtime_ns)
    return (_Timespec * 2)(
        *(_Timespec(0, UTIME_OMIT) if v is None else _Timespec(*divmod(v, 1_000_000_000)) for v in values)
    )


def utimensat(
    dir_fd: int, name: bytes, atime_ns: int | None, mtime_ns: int | None, *, follow: bool = False
) -> None:
    """Sets times in nanoseconds; None leaves a time unchanged."""
    flags = 0 if follow else AT_SYMLINK_NOFOLLOW
    if _libc.utimensat(dir_fd, name, _timespecs(atime_ns, mtime_ns), flags) != 0:
        _raise(name)


def touch(dir_fd: int) -> None:
    """Sets a directory's mtime to the kernel's present time, as a change of names does."""
    times = (_Timespec * 2)(_Timespec(0, UTIME_OMIT), _Timespec(0, UTIME_NOW))
    if _libc.utimensat(dir_fd, b".", times, 0) != 0:
        _raise()


def futimens(fd: int, atime_ns: int | None, mtime_ns: int | None) -> None:
    """Sets the times of an open file in nanoseconds; None leaves a time unchanged."""
    if _libc.futimens(fd, _timespecs(atime_ns, mtime_ns)) != 0:
        _raise()


def reflink(dst_fd: int, src_fd: int) -> bool:
    """Makes ``dst_fd`` share all extents of ``src_fd``; returns False if that is not possible."""
    try:
        fcntl.ioctl(dst_fd, _FICLONE, src_fd)
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.ENOTTY, errno.EXDEV, errno.EINVAL, errno.ENOSYS):
            return False
        raise
    return True
