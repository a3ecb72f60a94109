"""The driver protocol of the filesystem suite: what a test may ask of a filesystem.

Owns the protocol and its implementation by plain system calls. Knows nothing of artfs: the same tests run
against an ordinary directory, a pending tree on a mount, and the view in memory. Any thread may call it.

Paths are bytes, relative to the root of the driver, ``b""`` being the root itself. Symbolic links in the
middle of a path are followed, one at its end as the system call of that name does. Everything refused is an
``OSError`` with the errno that Linux gives.
"""

from __future__ import annotations

import ctypes
import enum
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol, runtime_checkable

RENAME_NOREPLACE = 1
RENAME_EXCHANGE = 2


class When(enum.Enum):
    """A time that is no number: now, or the file's present time."""

    NOW = enum.auto()
    OMIT = enum.auto()


@dataclass(frozen=True)
class Status:
    """The result of stat(2); times are nanoseconds since the epoch, blocks have 512 bytes."""

    mode: int
    ino: int
    nlink: int
    uid: int
    gid: int
    size: int
    blocks: int
    atime: int
    mtime: int
    ctime: int

    @property
    def kind(self) -> int:
        """One of ``stat.S_IFREG``, ``S_IFDIR`` and so on."""
        return stat.S_IFMT(self.mode)

    @property
    def permissions(self) -> int:
        """The twelve low bits of the mode."""
        return stat.S_IMODE(self.mode)

    @classmethod
    def of(cls, result: os.stat_result) -> Status:
        """Converts the result of Python's stat."""
        return cls(
            mode=result.st_mode,
            ino=result.st_ino,
            nlink=result.st_nlink,
            uid=result.st_uid,
            gid=result.st_gid,
            size=result.st_size,
            blocks=result.st_blocks,
            atime=result.st_atime_ns,
            mtime=result.st_mtime_ns,
            ctime=result.st_ctime_ns,
        )


@runtime_checkable
class OpenFile(Protocol):
    """An open file description. A context manager that closes it; closing twice does nothing."""

    def pread(self, size: int, offset: int) -> bytes: ...
    def pwrite(self, data: bytes, offset: int) -> int: ...
    def append(self, data: bytes) -> int:
        """Writes at the end; the file was opened with O_APPEND."""
        ...

    def truncate(self, size: int) -> None: ...
    def fsync(self, data_only: bool = False) -> None: ...
    def stat(self) -> Status: ...
    def chmod(self, mode: int) -> None: ...
    def setxattr(self, name: bytes, value: bytes) -> None: ...
    def getxattr(self, name: bytes) -> bytes: ...
    def close(self) -> None: ...
    def __enter__(self) -> OpenFile: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


@runtime_checkable
class Filesystem(Protocol):
    """A directory tree under test."""

    def open(self, path: bytes, flags: int, mode: int = 0o644) -> OpenFile: ...
    def mkdir(self, path: bytes, mode: int = 0o755) -> None: ...
    def rmdir(self, path: bytes) -> None: ...
    def unlink(self, path: bytes) -> None: ...
    def rename(self, old: bytes, new: bytes, flags: int = 0) -> None: ...
    def link(self, old: bytes, new: bytes) -> None:
        """Makes a hard link; a symbolic link at ``old`` is linked itself."""
        ...

    def symlink(self, target: bytes, path: bytes) -> None: ...
    def readlink(self, path: bytes) -> bytes: ...
    def mknod(self, path: bytes, mode: int, device: int = 0) -> None:
        """Makes a node of the mode's kind: fifo, socket, regular file or device."""
        ...

    def chmod(self, path: bytes, mode: int) -> None: ...
    def chown(self, path: bytes, uid: int, gid: int, follow: bool = True) -> None:
        """Changes owner and group; -1 keeps one."""
        ...

    def truncate(self, path: bytes, size: int) -> None: ...
    def utimens(self, path: bytes, atime: int | When, mtime: int | When, follow: bool = True) -> None: ...
    def stat(self, path: bytes, follow: bool = False) -> Status: ...
    def listdir(self, path: bytes) -> list[bytes]:
        """Names without ``.`` and ``..``, in the order of the filesystem."""
        ...

    def fsyncdir(self, path: bytes, data_only: bool = False) -> None: ...
    def setxattr(self, path: bytes, name: bytes, value: bytes, flags: int = 0) -> None: ...
    def getxattr(self, path: bytes, name: bytes) -> bytes: ...
    def listxattr(self, path: bytes) -> list[bytes]: ...
    def removexattr(self, path: bytes, name: bytes) -> None: ...
    def statvfs(self, path: bytes) -> os.statvfs_result: ...


class _Timespec(ctypes.Structure):
    _fields_ = [("tv_sec", ctypes.c_long), ("tv_nsec", ctypes.c_long)]


_AT_FDCWD = -100
_AT_SYMLINK_NOFOLLOW = 0x100
_UTIME_NOW = (1 << 30) - 1
_UTIME_OMIT = (1 << 30) - 2
_libc = ctypes.CDLL(None, use_errno=True)


def _timespec(time: int | When) -> _Timespec:
    if time is When.NOW:
        return _Timespec(0, _UTIME_NOW)
    if time is When.OMIT:
        return _Timespec(0, _UTIME_OMIT)
    return _Timespec(*divmod(time, 10**9))


def _checked(result: int, path: bytes) -> None:
    if result != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), path)


class OsFile:
    """An open file of the operating system."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def fileno(self) -> int:
        """The descriptor, for the tests that need the kernel itself (locks, mappings)."""
        return self._fd

    def pread(self, size: int, offset: int) -> bytes:
        return os.pread(self._fd, size, offset)

    def pwrite(self, data: bytes, offset: int) -> int:
        return os.pwrite(self._fd, data, offset)

    def append(self, data: bytes) -> int:
        return os.write(self._fd, data)

    def truncate(self, size: int) -> None:
        os.ftruncate(self._fd, size)

    def fsync(self, data_only: bool = False) -> None:
        if data_only:
            os.fdatasync(self._fd)
        else:
            os.fsync(self._fd)

    def stat(self) -> Status:
        return Status.of(os.fstat(self._fd))

    def chmod(self, mode: int) -> None:
        os.fchmod(self._fd, mode)

    def setxattr(self, name: bytes, value: bytes) -> None:
        os.setxattr(self._fd, name, value)

    def getxattr(self, name: bytes) -> bytes:
        return os.getxattr(self._fd, name)

    def close(self) -> None:
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)

    def __enter__(self) -> OsFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class OsFilesystem:
    """A directory, by plain system calls."""

    def __init__(self, root: Path | bytes) -> None:
        self.root = os.fsencode(root)

    def path(self, path: bytes = b"") -> bytes:
        """The absolute path, for the tests that need the kernel itself (processes, descriptors)."""
        return os.path.join(self.root, path) if path else self.root

    def open(self, path: bytes, flags: int, mode: int = 0o644) -> OsFile:
        return OsFile(os.open(self.path(path), flags | os.O_CLOEXEC, mode))

    def mkdir(self, path: bytes, mode: int = 0o755) -> None:
        os.mkdir(self.path(path), mode)

    def rmdir(self, path: bytes) -> None:
        os.rmdir(self.path(path))

    def unlink(self, path: bytes) -> None:
        os.unlink(self.path(path))

    def rename(self, old: bytes, new: bytes, flags: int = 0) -> None:
        _checked(
            _libc.renameat2(_AT_FDCWD, self.path(old), _AT_FDCWD, self.path(new), ctypes.c_uint(flags)), old
        )

    def link(self, old: bytes, new: bytes) -> None:
        os.link(self.path(old), self.path(new), follow_symlinks=False)

    def symlink(self, target: bytes, path: bytes) -> None:
        os.symlink(target, self.path(path))

    def readlink(self, path: bytes) -> bytes:
        return os.readlink(self.path(path))

    def mknod(self, path: bytes, mode: int, device: int = 0) -> None:
        os.mknod(self.path(path), mode, device)

    def chmod(self, path: bytes, mode: int) -> None:
        os.chmod(self.path(path), mode)

    def chown(self, path: bytes, uid: int, gid: int, follow: bool = True) -> None:
        os.chown(self.path(path), uid, gid, follow_symlinks=follow)

    def truncate(self, path: bytes, size: int) -> None:
        os.truncate(self.path(path), size)

    def utimens(self, path: bytes, atime: int | When, mtime: int | When, follow: bool = True) -> None:
        times = (_Timespec * 2)(_timespec(atime), _timespec(mtime))
        flags = 0 if follow else _AT_SYMLINK_NOFOLLOW
        _checked(_libc.utimensat(_AT_FDCWD, self.path(path), ctypes.byref(times), flags), path)

    def stat(self, path: bytes, follow: bool = False) -> Status:
        return Status.of(os.stat(self.path(path), follow_symlinks=follow))

    def listdir(self, path: bytes) -> list[bytes]:
        return os.listdir(self.path(path))

    def fsyncdir(self, path: bytes, data_only: bool = False) -> None:
        with self.open(path, os.O_RDONLY | os.O_DIRECTORY) as directory:
            directory.fsync(data_only)

    def setxattr(self, path: bytes, name: bytes, value: bytes, flags: int = 0) -> None:
        os.setxattr(self.path(path), name, value, flags, follow_symlinks=False)

    def getxattr(self, path: bytes, name: bytes) -> bytes:
        return os.getxattr(self.path(path), name, follow_symlinks=False)

    def listxattr(self, path: bytes) -> list[bytes]:
        names = os.listxattr(self.path(path), follow_symlinks=False)
        return [os.fsencode(name) for name in names]

    def removexattr(self, path: bytes, name: bytes) -> None:
        os.removexattr(self.path(path), name, follow_symlinks=False)

    def statvfs(self, path: bytes) -> os.statvfs_result:
        return os.statvfs(self.path(path))
