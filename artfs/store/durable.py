"""Durable changes of names: the one place that renames, links and removes for good.

Owns: the order temp, fsync, rename, fsync directory; the names of temps; the labels of durable steps.
Must not know what the files mean. Any thread may call it, also from several processes at once: every
change is one atomic step of the filesystem, and after a crash a name has its old content or its new one.

Each step that a crash could fall before or after is announced to :data:`step` as ``LABEL:STEP``, with STEP
one of write, fsync, rename, link, unlink, sync-dir, lock. Crash tests put their own function there.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import stat
import time
from collections.abc import Callable, Iterator

from artfs.errors import LostRace, printable
from artfs.linux import syscalls

TEMP_PREFIX = b".artfs-tmp."
# Where flock(2) on a directory is refused (NFS makes it a write lock, which wants a writable descriptor).
LOCK_FILE = b".artfs-lock"
ASIDE = b".aside"  # behind the name of what is out of the way for the moment of an exchange
STALE_AFTER_SECONDS = 3600.0
SMALL = 64 << 20
"""Bytes. A small file that is longer is none of ours: users' texts are refused long before they make one."""

_UNSUPPORTED = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)


def _nothing(label: str) -> None:
    pass


#: Called with a label before each durable step. Set the module's attribute to be told.
step: Callable[[str], None] = _nothing


def temp_name() -> bytes:
    """Returns a fresh name for a file or directory that is about to be renamed into place."""
    return TEMP_PREFIX + b"%d.%s" % (os.getpid(), secrets.token_hex(8).encode())


def is_stale_temp(name: bytes, changed_at: float, now: float | None = None) -> bool:
    """Tells whether a temp was left behind: no process of its number runs here, and it is an hour old.

    ``changed_at`` is st_ctime, which nobody can set. Both are asked for, since the writer may be on another
    host or in another pid namespace, and a pid is used again.
    """
    if not name.startswith(TEMP_PREFIX):
        return False
    pid = name[len(TEMP_PREFIX) :].split(b".")[0]
    alive = pid.isdigit() and int(pid) > 0 and os.path.exists(f"/proc/{int(pid)}")
    return not alive and (time.time() if now is None else now) - changed_at > STALE_AFTER_SECONDS


def open_directory(dir_fd: int, name: bytes) -> int:
    """Opens a directory below ``dir_fd``; a symlink at any component is ENOTDIR or ELOOP."""
    first, _, rest = name.partition(b"/")
    fd = os.open(first, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dir_fd)
    if not rest:
        return fd
    try:
        return open_directory(fd, rest)
    finally:
        os.close(fd)


@contextlib.contextmanager
def directory(dir_fd: int, name: bytes) -> Iterator[int]:
    """Like :func:`open_directory`, closed at the end."""
    fd = open_directory(dir_fd, name)
    try:
        yield fd
    finally:
        os.close(fd)


def names(dir_fd: int) -> list[str]:
    """Lists the names in a directory.

    On a fresh descriptor: os.listdir and os.scandir read by a duplicate of the one that they are given, and
    all who list the directory by it at the same time share its offset, so that they miss names, or see them
    twice. One of O_PATH lists nothing.
    """
    with directory(dir_fd, b".") as fd:
        return os.listdir(fd)


def read(dir_fd: int, name: bytes, limit: int = SMALL) -> bytes:
    """Returns a small regular file's whole content.

    Raises FileNotFoundError; ELOOP for a symlink, EINVAL or ENXIO for what is no regular file, EFBIG for one
    of more than ``limit`` bytes: what a crafted volume holds must not fill the memory.
    """
    return read_with_status(dir_fd, name, limit)[1]


def read_with_status(dir_fd: int, name: bytes, limit: int = SMALL) -> tuple[os.stat_result, bytes]:
    """Does as :func:`read`, and returns first what fstat says of the file that was read."""
    # O_NONBLOCK: a fifo in the file's place must not hang the open.
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=dir_fd)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", name)
        if status.st_size > limit:
            raise OSError(errno.EFBIG, f"it has {status.st_size} bytes, more than any such file", name)
        with open(fd, "rb", buffering=0, closefd=False) as file:
            return status, file.readall()
    finally:
        os.close(fd)


def write_all(fd: int, data: bytes) -> None:
    """Writes all of ``data`` at the descriptor's offset, however many calls it takes."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def sync_file(fd: int, *, label: str) -> None:
    step(f"{label}:fsync")
    os.fsync(fd)


def sync_dir(dir_fd: int, *, label: str) -> None:
    """Makes the names in a directory durable. Filesystems that can't fsync one are taken at their word."""
    step(f"{label}:sync-dir")
    try:
        os.fsync(dir_fd)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise


def confirm(dir_fd: int, *, label: str) -> None:
    """Makes durable what was found to be as it should be, before that is answered.

    Whoever made it so may have been killed, or told of an error, before he synced the directory.
    """
    sync_dir(dir_fd, label=label)


@contextlib.contextmanager
def _temp(dir_fd: int, data: bytes, label: str, mode: int) -> Iterator[bytes]:
    """Yields the name of a durable temp; removes it if an exception ends the block.

    Only ``Exception`` does: a BaseException stands for a crash in tests, and a crash cleans up nothing.
    """
    name = temp_name()
    step(f"{label}:write")
    fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=dir_fd)
    try:
        try:
            os.fchmod(fd, mode)
            write_all(fd, data)
            sync_file(fd, label=label)
        finally:
            os.close(fd)
        yield name
    except Exception:
        with contextlib.suppress(OSError):
            os.unlink(name, dir_fd=dir_fd)
        raise


def rename_noreplace(src_dir: int, src: bytes, dst_dir: int, dst: bytes) -> None:
    """Renames unless the destination exists (FileExistsError), also where renameat2 has no NOREPLACE.

    There it is link and unlink for files, so that the source may be left beside the destination by a crash;
    a directory is renamed after a look, which two processes can both pass only if the destination is an
    empty directory: rename(2) refuses any other.
    """
    try:
        syscalls.renameat2(src_dir, src, dst_dir, dst, syscalls.RENAME_NOREPLACE)
        return
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
    if stat.S_ISDIR(os.stat(src, dir_fd=src_dir, follow_symlinks=False).st_mode):
        try:
            os.stat(dst, dir_fd=dst_dir, follow_symlinks=False)
        except FileNotFoundError:
            os.rename(src, dst, src_dir_fd=src_dir, dst_dir_fd=dst_dir)
            return
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), dst)
    os.link(src, dst, src_dir_fd=src_dir, dst_dir_fd=dst_dir, follow_symlinks=False)
    os.unlink(src, dir_fd=src_dir)


def create(dir_fd: int, name: bytes, data: bytes, *, label: str, mode: int = 0o600) -> bool:
    """Creates ``name`` with ``data`` if there is none, durably; False if there is one already.

    Of any number of callers exactly one gets True. A False is durable too: the name that stood in the way
    is in the directory that was synced.
    """
    try:
        with _temp(dir_fd, data, label, mode) as temp:
            step(f"{label}:rename")
            rename_noreplace(dir_fd, temp, dir_fd, name)
    except FileExistsError:
        sync_dir(dir_fd, label=label)
        return False
    sync_dir(dir_fd, label=label)
    return True


def replace(dir_fd: int, name: bytes, data: bytes, *, label: str, mode: int = 0o600) -> None:
    """Creates or replaces ``name`` with ``data``, durably. The last of several callers wins."""
    with _temp(dir_fd, data, label, mode) as temp:
        step(f"{label}:rename")
        os.rename(temp, name, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
    sync_dir(dir_fd, label=label)


def unlock(fd: int, holder: int) -> None:
    """Gives up a flock(2) lock that the process ``holder`` took, whoever has inherited the descriptor since.

    Closing it would leave the lock to a child that was forked meanwhile. In such a child it does nothing.
    """
    if os.getpid() == holder:
        with contextlib.suppress(OSError):
            fcntl.flock(fd, fcntl.LOCK_UN)


@contextlib.contextmanager
def directory_lock(dir_fd: int, *, shared: bool = False) -> Iterator[None]:
    """Excludes every other holder of this directory's lock, threads and processes; with ``shared`` those only
    that want it for themselves.

    On a fresh descriptor, since flock(2) locks belong to open file descriptions: one shared by two threads
    would exclude neither.
    """
    how = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    fd = os.open(b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=dir_fd)
    try:
        try:
            fcntl.flock(fd, how)
        except OSError as error:
            if error.errno not in (errno.EBADF, *_UNSUPPORTED):
                raise
            os.close(fd)
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            fd = os.open(LOCK_FILE, flags, 0o600, dir_fd=dir_fd)
            fcntl.flock(fd, how)
        holder = os.getpid()
        try:
            yield
        finally:
            unlock(fd, holder)
    finally:
        os.close(fd)


def replace_if_unchanged(
    dir_fd: int, name: bytes, expected: bytes | None, data: bytes | None, *, label: str, mode: int = 0o600
) -> None:
    """Replaces ``name`` if its content still is ``expected``, durably; else raises LostRace.

    ``expected`` None: there must be no such file. ``data`` None: the file is removed. It excludes all other
    calls of this function in the directory; a file that is changed by it is to be changed by nothing else.
    """
    step(f"{label}:lock")
    with directory_lock(dir_fd):
        try:
            found: bytes | None = read(dir_fd, name)
        except FileNotFoundError:
            found = None
        if found != expected:
            raise LostRace(f"'{printable(name)}' was changed meanwhile; read it again")
        if data is None:
            if expected is not None:
                remove(dir_fd, name, label=label)
        elif expected is None:
            if not create(dir_fd, name, data, label=label, mode=mode):
                raise LostRace(f"'{printable(name)}' was made meanwhile; read it again")
        else:
            replace(dir_fd, name, data, label=label, mode=mode)


def remove(dir_fd: int, name: bytes, *, label: str) -> None:
    """Removes a file durably. Raises FileNotFoundError if there is none."""
    step(f"{label}:unlink")
    os.unlink(name, dir_fd=dir_fd)
    sync_dir(dir_fd, label=label)


def move(src_dir: int, src: bytes, dst_dir: int, dst: bytes, *, label: str, noreplace: bool = True) -> None:
    """Renames a file or directory durably; with ``noreplace`` FileExistsError if the destination exists.

    The destination's directory is synced first, so that no crash leaves the file under neither name.
    """
    step(f"{label}:rename")
    if noreplace:
        rename_noreplace(src_dir, src, dst_dir, dst)
    else:
        os.rename(src, dst, src_dir_fd=src_dir, dst_dir_fd=dst_dir)
    sync_dir(dst_dir, label=label)
    a, b = os.fstat(src_dir), os.fstat(dst_dir)
    if (a.st_dev, a.st_ino) != (b.st_dev, b.st_ino):
        sync_dir(src_dir, label=label)


def exchange(dir_fd: int, one: bytes, other: bytes, *, label: str) -> None:
    """Gives two directories each other's name, durably and at once.

    Where the filesystem can't (NFS), one after the other: a crash between the two leaves ``other`` under
    its name with :data:`ASIDE` behind it, and nothing under its own.
    """
    step(f"{label}:rename")
    try:
        syscalls.renameat2(dir_fd, one, dir_fd, other, syscalls.RENAME_EXCHANGE)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        with contextlib.suppress(FileNotFoundError):  # left by a crash after the second rename: nobody's
            os.rename(other + ASIDE, temp_name(), src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
        os.rename(other, other + ASIDE, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
        step(f"{label}:rename")
        os.rename(one, other, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
        step(f"{label}:rename")
        os.rename(other + ASIDE, one, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
    sync_dir(dir_fd, label=label)


def end_exchange(dir_fd: int, other: bytes) -> None:
    """Gives ``other`` its name back where :func:`exchange` was cut short. Nobody may be at that meanwhile.

    Any number may call this at once.
    """
    try:
        os.stat(other, dir_fd=dir_fd, follow_symlinks=False)
    except FileNotFoundError:
        with contextlib.suppress(FileNotFoundError):
            os.rename(other + ASIDE, other, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)


def sweep_temps(dir_fd: int, *, any_age: bool = False, dry_run: bool = False) -> int:
    """Removes stale temps (files and symlinks) from one directory and returns how many.

    ``all_of_them``: also young ones, for a caller whose lock excludes every writer of this directory.
    Not durable: a crash brings some back, and the next sweep takes them.
    """
    count = 0
    for text in names(dir_fd):
        name = os.fsencode(text)
        if not name.startswith(TEMP_PREFIX):
            continue
        with contextlib.suppress(FileNotFoundError, IsADirectoryError):
            info = os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
            if stat.S_ISDIR(info.st_mode) or not (any_age or is_stale_temp(name, info.st_ctime)):
                continue
            if not dry_run:
                os.unlink(name, dir_fd=dir_fd)
            count += 1
    return count
