"""The calls on one path, each a line: function and arguments."""

from __future__ import annotations

import ctypes
import os
import stat
from collections.abc import Callable
from functools import partial

from tests.conformance.comparing import FOREIGN, MEMBER, OTHER, OWNER, TEAM
from tests.conformance.driver import OsFilesystem, When
from tests.conformance.helpers import OLD
from tests.conformance.operands import bind

Call = Callable[[OsFilesystem, bytes], object]

_libc = ctypes.CDLL(None, use_errno=True)
_AT_FDCWD = -100
_AT_SYMLINK_FOLLOW = 0x400
_AT_SYMLINK_NOFOLLOW = 0x100
_FCHMODAT2 = 452  # of all architectures, since Linux 6.6
BEYOND = 1 << 62  # more than any file of ext4 holds
_WRITING = os.O_WRONLY | os.O_CREAT


def _checked(result: int) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def _open(flags: int, fs: OsFilesystem, path: bytes) -> str:
    # Opening a fifo must not wait for its other end.
    fd = os.open(fs.path(path), flags | os.O_NONBLOCK | os.O_CLOEXEC, 0o640)
    try:
        return stat.filemode(os.fstat(fd).st_mode)
    finally:
        os.close(fd)


def _stat(follow: bool, fs: OsFilesystem, path: bytes) -> tuple[object, ...]:
    status = fs.stat(path, follow=follow)
    size = 0 if status.kind == stat.S_IFDIR else status.size
    return stat.filemode(status.mode), status.uid, status.gid, size


def _access(mode: int, fs: OsFilesystem, path: bytes) -> None:
    _checked(_libc.access(fs.path(path), mode))


def _chmod_itself(fs: OsFilesystem, path: bytes) -> None:
    _checked(_libc.syscall(_FCHMODAT2, _AT_FDCWD, fs.path(path), 0o640, _AT_SYMLINK_NOFOLLOW))


def _beside(path: bytes) -> bytes:
    """Returns a free name in the directory of an operand."""
    return path.split(b"/", 1)[0] + b"/new"


def _link_followed(fs: OsFilesystem, path: bytes) -> None:
    old, new = fs.path(path), fs.path(_beside(path))
    _checked(_libc.linkat(_AT_FDCWD, old, _AT_FDCWD, new, _AT_SYMLINK_FOLLOW))


def _set_and_look(seconds: int, fs: OsFilesystem, path: bytes) -> tuple[int, int]:
    """Sets times that the filesystem may not support; returns the resulting ones."""
    fs.utimens(path, seconds * 10**9 + 7, seconds * 10**9 + 8)
    status = fs.stat(path, follow=True)
    return status.atime, status.mtime


def _rename_into_itself(fs: OsFilesystem, path: bytes) -> None:
    fs.rename(path, path + b"/new")


def _listxattr(fs: OsFilesystem, path: bytes) -> list[bytes]:
    return sorted(name for name in fs.listxattr(path) if name.startswith(b"user."))


def _short(call: str, fs: OsFilesystem, path: bytes) -> int:
    """Asks for the size, then with a buffer that is too small."""
    arguments = [fs.path(path)] + ([b"user.k"] if call == "getxattr" else [])
    buffer = ctypes.create_string_buffer(2)
    function = getattr(_libc, call)
    size = int(function(*arguments, None, 0))
    if size > 2:
        _checked(function(*arguments, buffer, 2))
    elif size < 0:
        _checked(size)
    return size


def _statvfs(fs: OsFilesystem, path: bytes) -> tuple[int, ...]:
    found = fs.statvfs(path)
    return found.f_namemax, found.f_bsize, found.f_frsize, found.f_blocks, found.f_files


def _chdir(fs: OsFilesystem, path: bytes) -> None:
    here = os.open(".", os.O_PATH | os.O_DIRECTORY)
    try:
        os.chdir(fs.path(path))
        os.fchdir(here)
    finally:
        os.close(here)


def _list(fs: OsFilesystem, path: bytes) -> list[bytes]:
    return sorted(fs.listdir(path))


SINGLE_CALLS: dict[str, Call] = {
    "stat": partial(_stat, True),
    "lstat": partial(_stat, False),
    "access(F_OK)": partial(_access, os.F_OK),
    "access(R_OK)": partial(_access, os.R_OK),
    "access(W_OK)": partial(_access, os.W_OK),
    "access(X_OK)": partial(_access, os.X_OK),
    "open(O_RDONLY)": partial(_open, os.O_RDONLY),
    "open(O_WRONLY)": partial(_open, os.O_WRONLY),
    "open(O_RDWR)": partial(_open, os.O_RDWR),
    "open(O_WRONLY|O_APPEND)": partial(_open, os.O_WRONLY | os.O_APPEND),
    "open(O_WRONLY|O_TRUNC)": partial(_open, os.O_WRONLY | os.O_TRUNC),
    "open(O_RDONLY|O_TRUNC)": partial(_open, os.O_RDONLY | os.O_TRUNC),
    "open(O_RDONLY|O_CREAT)": partial(_open, os.O_RDONLY | os.O_CREAT),
    "open(O_WRONLY|O_CREAT)": partial(_open, _WRITING),
    "open(O_WRONLY|O_CREAT|O_TRUNC)": partial(_open, _WRITING | os.O_TRUNC),
    "open(O_WRONLY|O_CREAT|O_EXCL)": partial(_open, _WRITING | os.O_EXCL),
    "open(O_WRONLY|O_CREAT|O_NOFOLLOW)": partial(_open, _WRITING | os.O_NOFOLLOW),
    "open(O_CREAT|O_DIRECTORY)": partial(_open, os.O_CREAT | os.O_DIRECTORY),
    "open(O_DIRECTORY)": partial(_open, os.O_DIRECTORY),
    "open(O_NOFOLLOW)": partial(_open, os.O_NOFOLLOW),
    "open(O_PATH)": partial(_open, os.O_PATH),
    "open(O_PATH|O_NOFOLLOW)": partial(_open, os.O_PATH | os.O_NOFOLLOW),
    "open(O_NOATIME)": partial(_open, os.O_NOATIME),
    "open(O_WRONLY|O_DSYNC|O_NOCTTY)": partial(_open, os.O_WRONLY | os.O_DSYNC | os.O_NOCTTY),
    "open(O_RDWR|O_SYNC|O_ASYNC)": partial(_open, os.O_RDWR | os.O_SYNC | os.O_ASYNC),
    "open(O_RDONLY|O_DIRECT)": partial(_open, os.O_DIRECT),
    "open(O_RDONLY|O_EXCL)": partial(_open, os.O_EXCL),
    "open(access mode 3)": partial(_open, os.O_ACCMODE),
    "open(O_WRONLY|O_CREAT|O_NOATIME)": partial(_open, _WRITING | os.O_NOATIME),
    "open(O_CREAT, 6777)": lambda fs, path: fs.open(path, _WRITING | os.O_NONBLOCK, 0o6777).close(),
    "open(O_CREAT, 0000)": lambda fs, path: fs.open(path, _WRITING | os.O_NONBLOCK, 0).close(),
    "mkdir": lambda fs, path: fs.mkdir(path, 0o750),
    "mkdir(7777)": lambda fs, path: fs.mkdir(path, 0o7777),
    "rmdir": OsFilesystem.rmdir,
    "unlink": OsFilesystem.unlink,
    "mknod(fifo)": lambda fs, path: fs.mknod(path, stat.S_IFIFO | 0o640),
    "mknod(socket)": lambda fs, path: fs.mknod(path, stat.S_IFSOCK | 0o640),
    "mknod(file)": lambda fs, path: fs.mknod(path, stat.S_IFREG | 0o6750),
    "mknod(directory)": lambda fs, path: fs.mknod(path, stat.S_IFDIR | 0o750),
    "bind": lambda fs, path: bind(fs.path(path)),
    "symlink": lambda fs, path: fs.symlink(b"target", path),
    "readlink": OsFilesystem.readlink,
    "chmod(0640)": lambda fs, path: fs.chmod(path, 0o640),
    "chmod(6777)": lambda fs, path: fs.chmod(path, 0o6777),
    "chmod(1755)": lambda fs, path: fs.chmod(path, 0o1755),
    "fchmodat2(AT_SYMLINK_NOFOLLOW)": _chmod_itself,
    "chown(-1, -1)": lambda fs, path: fs.chown(path, -1, -1),
    "chown(owner, -1)": lambda fs, path: fs.chown(path, OWNER, -1),
    "chown(other, -1)": lambda fs, path: fs.chown(path, OTHER, -1),
    "chown(-1, own group)": lambda fs, path: fs.chown(path, -1, OWNER),
    "chown(-1, team)": lambda fs, path: fs.chown(path, -1, TEAM),
    "chown(-1, foreign group)": lambda fs, path: fs.chown(path, -1, FOREIGN),
    "chown(member, foreign group)": lambda fs, path: fs.chown(path, MEMBER, FOREIGN),
    "chown(large numbers)": lambda fs, path: fs.chown(path, 4_000_000_000, 4_000_000_001),
    "lchown(-1, own group)": lambda fs, path: fs.chown(path, -1, OWNER, follow=False),
    "lchown(other, other)": lambda fs, path: fs.chown(path, OTHER, OTHER, follow=False),
    "truncate(0)": lambda fs, path: fs.truncate(path, 0),
    "truncate(2)": lambda fs, path: fs.truncate(path, 2),
    "truncate(4)": lambda fs, path: fs.truncate(path, 4),
    "truncate(9000)": lambda fs, path: fs.truncate(path, 9000),
    "truncate(-1)": lambda fs, path: fs.truncate(path, -1),
    "truncate(2**62)": lambda fs, path: fs.truncate(path, BEYOND),
    "utimensat(NULL)": lambda fs, path: os.utime(fs.path(path)),
    "utimensat(NOW, NOW)": lambda fs, path: fs.utimens(path, When.NOW, When.NOW),
    "utimensat(NOW, OMIT)": lambda fs, path: fs.utimens(path, When.NOW, When.OMIT),
    "utimensat(OMIT, NOW)": lambda fs, path: fs.utimens(path, When.OMIT, When.NOW),
    "utimensat(OMIT, OMIT)": lambda fs, path: fs.utimens(path, When.OMIT, When.OMIT),
    "utimensat(given, given)": lambda fs, path: fs.utimens(path, OLD, OLD + 1),
    "utimensat(given, OMIT)": lambda fs, path: fs.utimens(path, OLD, When.OMIT),
    "utimensat(OMIT, given)": lambda fs, path: fs.utimens(path, When.OMIT, OLD),
    "utimensat(given, NOW)": lambda fs, path: fs.utimens(path, OLD, When.NOW),
    "utimensat(the year 1822)": partial(_set_and_look, -(1 << 32) - 1_000_000_000),
    "utimensat(the year 1938)": partial(_set_and_look, -1_000_000_000),
    "utimensat(the year 2300)": partial(_set_and_look, 10_413_792_000),
    "utimensat(the year 3000)": partial(_set_and_look, 32_503_680_000),
    "utimensat(AT_SYMLINK_NOFOLLOW)": lambda fs, path: fs.utimens(path, OLD, OLD + 1, follow=False),
    "utimensat(NOFOLLOW, NOW)": lambda fs, path: fs.utimens(path, When.NOW, When.NOW, follow=False),
    "link": lambda fs, path: fs.link(path, _beside(path)),
    "linkat(AT_SYMLINK_FOLLOW)": _link_followed,
    "link onto itself": lambda fs, path: fs.link(path, path),
    "rename": lambda fs, path: fs.rename(path, _beside(path)),
    "rename onto itself": lambda fs, path: fs.rename(path, path),
    "rename into itself": _rename_into_itself,
    "rename(RENAME_NOREPLACE) onto itself": lambda fs, path: fs.rename(path, path, 1),
    "rename(RENAME_EXCHANGE) with itself": lambda fs, path: fs.rename(path, path, 2),
    "rename(flags that exclude each other)": lambda fs, path: fs.rename(path, _beside(path), 3),
    "rename(unknown flag)": lambda fs, path: fs.rename(path, _beside(path), 8),
    "setxattr": lambda fs, path: fs.setxattr(path, b"user.new", b"value"),
    "setxattr(XATTR_CREATE)": lambda fs, path: fs.setxattr(path, b"user.k", b"v", os.XATTR_CREATE),
    "setxattr(XATTR_REPLACE)": lambda fs, path: fs.setxattr(path, b"user.k", b"v", os.XATTR_REPLACE),
    "setxattr(unknown flag)": lambda fs, path: fs.setxattr(path, b"user.k", b"v", 4),
    "setxattr(no namespace)": lambda fs, path: fs.setxattr(path, b"key", b"v"),
    "setxattr(empty name)": lambda fs, path: fs.setxattr(path, b"", b"v"),
    "setxattr(name of 256 bytes)": lambda fs, path: fs.setxattr(path, b"user." + b"n" * 251, b"v"),
    "setxattr(value of 65537 bytes)": lambda fs, path: fs.setxattr(path, b"user.k", bytes(65537)),
    "setxattr(value of 60000 bytes)": lambda fs, path: fs.setxattr(path, b"user.k", bytes(60000)),
    "getxattr(short buffer)": partial(_short, "getxattr"),
    "listxattr(short buffer)": partial(_short, "listxattr"),
    "getxattr": lambda fs, path: fs.getxattr(path, b"user.k"),
    "listxattr": _listxattr,
    "removexattr": lambda fs, path: fs.removexattr(path, b"user.k"),
    "listdir": _list,
    "chdir": _chdir,
    "statvfs": _statvfs,
}
"""By name, with the flags that make a case of its own; ``name_of`` leaves these out."""


#: Calls that never change anything: they share one slot.
LOOKING = [
    call
    for call in SINGLE_CALLS
    if call.startswith(("stat", "lstat", "access", "readlink", "getxattr", "listxattr", "listdir", "chdir"))
    or (call.startswith("open(") and "CREAT" not in call and "TRUNC" not in call)
    or call in ("truncate(-1)", "utimensat(OMIT, OMIT)", "rename(flags that exclude each other)")
]


def differs(user: str, call: str, operand: str) -> bool:
    """Whether the result differs from ext4's: one chown, of another user's file, changes nothing.

    The kernel sends the same request before others write to a file with setuid bits.
    """
    return call == "chown(-1, -1)" and (user not in ("root", "owner") or operand.startswith("root's"))


def name_of(call: str) -> str:
    """Returns the system call of a line."""
    return call.split("(", maxsplit=1)[0].split(" ", maxsplit=1)[0]
