"""The calls on open files: ways to open, what happens to the file then, and the last call."""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import stat
import struct
from collections.abc import Callable

from tests.conformance.comparing import FOREIGN, OWNER, TEAM, give
from tests.conformance.driver import OsFile, OsFilesystem
from tests.conformance.helpers import OLD, write

HandleCall = Callable[[OsFilesystem, int, bytes], object]

WAYS: dict[str, int] = {
    "O_RDONLY": os.O_RDONLY,
    "O_WRONLY": os.O_WRONLY,
    "O_RDWR": os.O_RDWR,
    "O_RDWR|O_APPEND": os.O_RDWR | os.O_APPEND,
    "O_RDWR|O_SYNC": os.O_RDWR | os.O_SYNC,
    "O_RDWR|O_DSYNC|O_NOATIME": os.O_RDWR | os.O_DSYNC | os.O_NOATIME,
    "O_RDONLY|O_NONBLOCK|O_NOCTTY": os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY,
    "access mode 3": os.O_ACCMODE,
    "O_PATH": os.O_PATH,
    "a directory": os.O_RDONLY | os.O_DIRECTORY,
}


def _unlink(fs: OsFilesystem, at: bytes) -> None:
    if fs.stat(at + b"/it").kind == stat.S_IFDIR:
        fs.unlink(at + b"/it/in")
        fs.rmdir(at + b"/it")
    else:
        fs.unlink(at + b"/it")


def _replace(fs: OsFilesystem, at: bytes) -> None:
    if fs.stat(at + b"/it").kind == stat.S_IFDIR:
        fs.unlink(at + b"/it/in")
        fs.mkdir(at + b"/other")
    else:
        write(fs, at + b"/other", b"other")
    fs.rename(at + b"/other", at + b"/it")


def _link(fs: OsFilesystem, at: bytes) -> None:
    if fs.stat(at + b"/it").kind == stat.S_IFREG:
        fs.link(at + b"/it", at + b"/second")


def _close_to_all(fs: OsFilesystem, at: bytes) -> None:
    fs.chmod(at + b"/it", 0)
    fs.chown(at + b"/it", 0, 0)


#: What root does between the opening and the call.
FATES: dict[str, Callable[[OsFilesystem, bytes], object]] = {
    "stays": lambda fs, at: None,
    "is unlinked": _unlink,
    "is replaced": _replace,
    "is moved": lambda fs, at: fs.rename(at + b"/it", at + b"/moved"),
    "has a second name": _link,
    "is closed to all": _close_to_all,
    "is setuid": lambda fs, at: fs.chmod(at + b"/it", 0o6777),
    "is setgid without x": lambda fs, at: fs.chmod(at + b"/it", 0o2666),
}

_libc = ctypes.CDLL(None, use_errno=True)
_AT_FDCWD, _AT_EMPTY_PATH, _AT_SYMLINK_FOLLOW = -100, 0x1000, 0x400


def _checked(result: int) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def _fstat(fs: OsFilesystem, fd: int, at: bytes) -> object:
    status = os.fstat(fd)
    directory = stat.S_ISDIR(status.st_mode)
    links = status.st_nlink if not directory or status.st_nlink == 0 else 1
    size = 0 if directory else status.st_size
    return stat.filemode(status.st_mode), links, status.st_uid, status.st_gid, size


def _seek(offset: int, whence: int) -> HandleCall:
    return lambda fs, fd, at: os.lseek(fd, offset, whence)


def _append_and_look(fs: OsFilesystem, fd: int, at: bytes) -> object:
    written = os.pwrite(fd, b"XY", 1)
    return written, os.lseek(fd, 0, os.SEEK_CUR), os.fstat(fd).st_size


def _map(prot: int, flags: int) -> HandleCall:
    def call(fs: OsFilesystem, fd: int, at: bytes) -> object:
        with mmap.mmap(fd, 4, flags, prot) as mapping:
            if prot & mmap.PROT_WRITE:
                mapping[:1] = b"M"
                mapping.flush()
            return bytes(mapping[:4]) if prot & mmap.PROT_READ else None

    return call


def _lock(command: int, kind: int) -> HandleCall:
    def call(fs: OsFilesystem, fd: int, at: bytes) -> object:
        asked = struct.pack("hhqqi4x", kind, os.SEEK_SET, 0, 0, 0)
        answer = fcntl.fcntl(fd, command, asked)
        return struct.unpack("hhqqi4x", answer)[:4]

    return call


def _lease(kind: int) -> HandleCall:
    return lambda fs, fd, at: fcntl.fcntl(fd, fcntl.F_SETLEASE, kind)


def _utimens(fs: OsFilesystem, fd: int, at: bytes) -> None:
    os.utime(fd, ns=(OLD, OLD + 1))


def _link_empty(fs: OsFilesystem, fd: int, at: bytes) -> None:
    _checked(_libc.linkat(fd, b"", _AT_FDCWD, fs.path(at + b"/new"), _AT_EMPTY_PATH))


def _link_by_proc(fs: OsFilesystem, fd: int, at: bytes) -> None:
    old, new = b"/proc/self/fd/%d" % fd, fs.path(at + b"/new")
    _checked(_libc.linkat(_AT_FDCWD, old, _AT_FDCWD, new, _AT_SYMLINK_FOLLOW))


def _reopen(flags: int) -> HandleCall:
    def call(fs: OsFilesystem, fd: int, at: bytes) -> object:
        with OsFile(os.open(b"/proc/self/fd/%d" % fd, flags | os.O_CLOEXEC)) as again:
            if flags & os.O_ACCMODE == os.O_RDONLY:
                return stat.filemode(os.fstat(again.fileno()).st_mode)
            return again.pwrite(b"R", 0)

    return call


def _create_below(fs: OsFilesystem, fd: int, at: bytes) -> None:
    os.close(os.open(b"new", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o640, dir_fd=fd))


#: The flags of F_GETFL; O_LARGEFILE belongs to the C library, O_NOATIME needs the owner's right.
_STATUS = os.O_ACCMODE | os.O_APPEND | os.O_SYNC | os.O_NONBLOCK | os.O_DIRECT | os.O_NOATIME | os.O_ASYNC


def _set_flags(flags: int) -> HandleCall:
    """Changes the flags that F_SETFL can change; returns the file's resulting flags."""

    def call(fs: OsFilesystem, fd: int, at: bytes) -> object:
        fcntl.fcntl(fd, fcntl.F_SETFL, flags)
        return fcntl.fcntl(fd, fcntl.F_GETFL) & _STATUS

    return call


def _append_from_now_on(fs: OsFilesystem, fd: int, at: bytes) -> object:
    _set_flags(os.O_APPEND)(fs, fd, at)
    return os.write(fd, b"end"), os.lseek(fd, 0, os.SEEK_CUR)


def _chdir(fs: OsFilesystem, fd: int, at: bytes) -> None:
    here = os.open(".", os.O_PATH | os.O_DIRECTORY)
    try:
        os.fchdir(fd)
        os.fchdir(here)
    finally:
        os.close(here)


def _copy_within(fs: OsFilesystem, fd: int, at: bytes) -> int:
    return os.copy_file_range(fd, fd, 2, 0, 2)


def _listxattr(fs: OsFilesystem, fd: int, at: bytes) -> list[str]:
    return sorted(name for name in os.listxattr(fd) if name.startswith("user."))


HANDLE_CALLS: dict[str, HandleCall] = {
    "fstat": _fstat,
    "fstatvfs": lambda fs, fd, at: os.fstatvfs(fd).f_namemax,
    "read": lambda fs, fd, at: os.read(fd, 100),
    "pread": lambda fs, fd, at: os.pread(fd, 100, 2),
    "pread(past the end)": lambda fs, fd, at: os.pread(fd, 100, 100),
    "pread(-1)": lambda fs, fd, at: os.pread(fd, 100, -1),
    "readv": lambda fs, fd, at: os.readv(fd, [bytearray(2), bytearray(9)]),
    "write": lambda fs, fd, at: os.write(fd, b"W"),
    "write(nothing)": lambda fs, fd, at: os.write(fd, b""),
    "pwrite": _append_and_look,
    "pwrite(past the end)": lambda fs, fd, at: os.pwrite(fd, b"far", 9000),
    "pwrite(2**62)": lambda fs, fd, at: os.pwrite(fd, b"far", 1 << 62),
    "pwrite(-1)": lambda fs, fd, at: os.pwrite(fd, b"far", -1),
    "writev": lambda fs, fd, at: os.writev(fd, [b"a", b"bc"]),
    "lseek(SEEK_SET)": _seek(2, os.SEEK_SET),
    "lseek(SEEK_END)": _seek(-1, os.SEEK_END),
    "lseek(-1)": _seek(-1, os.SEEK_SET),
    "lseek(past the end)": _seek(9000, os.SEEK_SET),
    "lseek(unknown whence)": _seek(0, 77),
    "ftruncate(2)": lambda fs, fd, at: os.ftruncate(fd, 2),
    "ftruncate(4)": lambda fs, fd, at: os.ftruncate(fd, 4),
    "ftruncate(9000)": lambda fs, fd, at: os.ftruncate(fd, 9000),
    "ftruncate(-1)": lambda fs, fd, at: os.ftruncate(fd, -1),
    "ftruncate(2**62)": lambda fs, fd, at: os.ftruncate(fd, 1 << 62),
    "fchmod(0600)": lambda fs, fd, at: os.fchmod(fd, 0o600),
    "fchmod(6755)": lambda fs, fd, at: os.fchmod(fd, 0o6755),
    "fchown(-1, -1)": lambda fs, fd, at: os.fchown(fd, -1, -1),
    "fchown(-1, own group)": lambda fs, fd, at: os.fchown(fd, -1, OWNER),
    "fchown(-1, team)": lambda fs, fd, at: os.fchown(fd, -1, TEAM),
    "fchown(owner, foreign group)": lambda fs, fd, at: os.fchown(fd, OWNER, FOREIGN),
    "futimens(given)": _utimens,
    "futimens(NULL)": lambda fs, fd, at: os.utime(fd),
    "fsetxattr": lambda fs, fd, at: os.setxattr(fd, "user.new", b"value"),
    "fgetxattr": lambda fs, fd, at: os.getxattr(fd, "user.k"),
    "flistxattr": _listxattr,
    "fremovexattr": lambda fs, fd, at: os.removexattr(fd, "user.k"),
    "fsync": lambda fs, fd, at: os.fsync(fd),
    "fdatasync": lambda fs, fd, at: os.fdatasync(fd),
    "posix_fadvise": lambda fs, fd, at: os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED),
    "flock(LOCK_SH)": lambda fs, fd, at: fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB),
    "flock(LOCK_EX)": lambda fs, fd, at: fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB),
    "fcntl(F_SETLK, F_RDLCK)": _lock(fcntl.F_SETLK, fcntl.F_RDLCK),
    "fcntl(F_SETLK, F_WRLCK)": _lock(fcntl.F_SETLK, fcntl.F_WRLCK),
    "fcntl(F_GETLK)": _lock(fcntl.F_GETLK, fcntl.F_WRLCK),
    "fcntl(F_OFD_SETLK, F_RDLCK)": _lock(fcntl.F_OFD_SETLK, fcntl.F_RDLCK),
    "fcntl(F_OFD_SETLK, F_WRLCK)": _lock(fcntl.F_OFD_SETLK, fcntl.F_WRLCK),
    "fcntl(F_SETLEASE, F_RDLCK)": _lease(fcntl.F_RDLCK),
    "fcntl(F_SETLEASE, F_WRLCK)": _lease(fcntl.F_WRLCK),
    "mmap(PROT_READ, MAP_SHARED)": _map(mmap.PROT_READ, mmap.MAP_SHARED),
    "mmap(PROT_WRITE, MAP_SHARED)": _map(mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED),
    "mmap(PROT_WRITE, MAP_PRIVATE)": _map(mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE),
    "linkat(AT_EMPTY_PATH)": _link_empty,
    "linkat(/proc/self/fd)": _link_by_proc,
    "open(/proc/self/fd, O_RDONLY)": _reopen(os.O_RDONLY),
    "open(/proc/self/fd, O_RDWR)": _reopen(os.O_RDWR),
    "open(/proc/self/fd, O_NOATIME)": _reopen(os.O_NOATIME),
    "open(/proc/self/fd, O_NOFOLLOW)": _reopen(os.O_NOFOLLOW),
    "fcntl(F_SETFL, 0)": _set_flags(0),
    "fcntl(F_SETFL, O_APPEND)": _append_from_now_on,
    "fcntl(F_SETFL, O_NONBLOCK|O_ASYNC)": _set_flags(os.O_NONBLOCK | os.O_ASYNC),
    "fcntl(F_SETFL, O_DIRECT)": _set_flags(os.O_DIRECT),
    "fcntl(F_SETFL, O_NOATIME)": _set_flags(os.O_NOATIME),
    "fcntl(F_SETFL, O_SYNC)": _set_flags(os.O_SYNC),
    "sendfile": lambda fs, fd, at: os.sendfile(fd, fd, 0, 2),
    "copy_file_range": _copy_within,
    "getdents": lambda fs, fd, at: sorted(os.listdir(fd)),
    "fchdir": _chdir,
    "openat(O_CREAT)": _create_below,
    "mkdirat": lambda fs, fd, at: os.mkdir(b"new", dir_fd=fd),
    "symlinkat": lambda fs, fd, at: os.symlink(b"target", b"new", dir_fd=fd),
    "unlinkat": lambda fs, fd, at: os.unlink(b"in", dir_fd=fd),
    "fstatat": lambda fs, fd, at: stat.filemode(os.stat(b"in", dir_fd=fd).st_mode),
    "fstatat(dot dot)": lambda fs, fd, at: stat.filemode(os.stat(b"..", dir_fd=fd).st_mode),
}


#: Known differences from ext4, as patterns of user, way, fate and call.
DIFFERENT = (
    # Filesystems differ in the size of a directory.
    r".*, a directory, .*lseek\(SEEK_END\)",
    # The kernel sends the same request before another user than the owner writes, so nothing changes.
    r"other, .*fchown\(-1, -1\)",
    # Writes from a mapping cannot be recognized either, and a write beyond all limits is reported late.
    r"(owner|other), .*, is set.*(mmap\(PROT_WRITE, MAP_SHARED\)|pwrite\(2\*\*62\))",
)


def build_files(fs: OsFilesystem, first: bool) -> None:
    """Fills a slot with a file for each call."""

    def make(path: bytes) -> None:
        write(fs, path, b"four")
        fs.chmod(path, 0o666)

    _build(fs, first, make)


def build_directories(fs: OsFilesystem, first: bool) -> None:
    """Fills a slot with a directory for each call."""

    def make(path: bytes) -> None:
        fs.mkdir(path)
        fs.chmod(path, 0o777)
        write(fs, path + b"/in", b"in")
        give(fs, path + b"/in")

    _build(fs, first, make)


def _build(fs: OsFilesystem, first: bool, make: Callable[[bytes], None]) -> None:
    if not first:
        return
    for call in HANDLE_CALLS:
        at = place_of(call)
        fs.mkdir(at)
        make(at + b"/it")
        fs.setxattr(at + b"/it", b"user.k", b"value")
        give(fs, at + b"/it")
        give(fs, at)


def place_of(call: str) -> bytes:
    """Returns the directory of a call."""
    return call.replace("/", "|").encode()
