"""Durable changes of names: the one place that durably creates, renames and removes files.

Owns: the order temp, fsync, rename, fsync of the directory; the names of temps; the labels of durable steps.
Must not know what the files mean. Any thread and several processes may call it at once: every change is one
atomic step of the filesystem, and after a crash a name has its old content or its new one.

:data:`step` is called with ``LABEL:STEP`` before each durable step, with STEP one of write, fsync, rename,
link, unlink, sync-dir, lock. Crash tests put their own function there.
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

from artfs.errors import LostRace
from artfs.linux import syscalls
from artfs.printing import printable

TEMP_PREFIX = b".artfs-tmp."
# Used where flock(2) refuses a directory (NFS makes it a write lock, which needs a writable descriptor).
LOCK_FILE = b".artfs-lock"
ASIDE = b".aside"  # the suffix of a directory that was moved aside for the time of an exchange
STALE_AFTER_SECONDS = 3600.0
SMALL = 64 << 20
"""The most bytes of a small file. artfs writes no longer one: the limits of users' texts are far lower."""

UNSUPPORTED = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)
FULL = (errno.ENOSPC, errno.EDQUOT)


def _nothing(label: str) -> None:
    pass


#: Called with a label before each durable step; set the module's attribute to observe them.
step: Callable[[str], None] = _nothing


def temp_name() -> bytes:
    """Returns a fresh name for a file or directory that will be renamed into place."""
    return TEMP_PREFIX + b"%d.%s" % (os.getpid(), secrets.token_hex(8).encode())


def is_stale_temp(name: bytes, changed_at: float) -> bool:
    """Tells whether a temp was left behind: no process with its pid runs here, and it is an hour old.

    ``changed_at`` is st_ctime, which no user can set. Both conditions are needed: the writer may run on
    another host or in another pid namespace, and pids are reused.
    """
    if not name.startswith(TEMP_PREFIX):
        return False
    pid = name[len(TEMP_PREFIX) :].split(b".")[0]
    alive = pid.isdigit() and int(pid) > 0 and os.path.exists(f"/proc/{int(pid)}")
    return not alive and time.time() - changed_at > STALE_AFTER_SECONDS


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
def closing(fd: int) -> Iterator[int]:
    """Closes a descriptor at the end."""
    try:
        yield fd
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
    """Lists the names in a directory, through a fresh descriptor; ``dir_fd`` may be O_PATH.

    os.listdir and os.scandir read through a duplicate of the descriptor they are given. Callers that list
    through one descriptor at the same time share its offset and miss names, or see them twice.
    """
    with directory(dir_fd, b".") as fd:
        return os.listdir(fd)


def read(dir_fd: int, name: bytes, limit: int = SMALL) -> bytes:
    """Returns a small regular file's whole content.

    Raises FileNotFoundError; ELOOP for a symlink, EINVAL or ENXIO for another kind of file, EFBIG for more
    than ``limit`` bytes: a crafted volume must not exhaust the memory.
    """
    return read_with_status(dir_fd, name, limit)[1]


def read_with_status(dir_fd: int, name: bytes, limit: int = SMALL) -> tuple[os.stat_result, bytes]:
    """Does what :func:`read` does, and also returns fstat's answer for the file that was read."""
    # O_NONBLOCK: the open must not block on a fifo.
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=dir_fd)
    with open(fd, "rb", buffering=0) as file:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", name)
        if status.st_size > limit:
            raise OSError(errno.EFBIG, f"it has {status.st_size} bytes; {limit} are possible", name)
        return status, file.readall()


def write_all(fd: int, data: bytes) -> None:
    """Writes all of ``data`` at the descriptor's offset, in as many calls as it takes."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def sync_file(fd: int, *, label: str) -> None:
    step(f"{label}:fsync")
    os.fsync(fd)


def sync_dir(dir_fd: int, *, label: str) -> None:
    """Makes the names in a directory durable. A filesystem that can't fsync directories is trusted."""
    step(f"{label}:sync-dir")
    try:
        os.fsync(dir_fd)
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise


def confirm(dir_fd: int, *, label: str) -> None:
    """Makes durable what the caller found as it should be, before the caller reports success.

    The process that made the change may have been killed, or failed, before it synced the directory.
    """
    sync_dir(dir_fd, label=label)


@contextlib.contextmanager
def temp_file(dir_fd: int) -> Iterator[tuple[bytes, int]]:
    """Yields the name and descriptor of a new empty file; removes the name at the end if it still exists."""
    name = temp_name()
    fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=dir_fd)
    try:
        yield name, fd
    finally:
        os.close(fd)
        with contextlib.suppress(OSError):
            os.unlink(name, dir_fd=dir_fd)


@contextlib.contextmanager
def _temp(dir_fd: int, data: bytes, label: str, mode: int) -> Iterator[bytes]:
    """Yields the name of a durable temp; an ``Exception`` in the block removes it.

    Other BaseExceptions do not: tests use them as a crash, which cleans up nothing.
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

    There it links and unlinks a file, so that a crash may leave both names. A directory is renamed after a
    check that two processes can both pass only if the destination is an empty directory: rename(2) refuses
    any other.
    """
    try:
        syscalls.renameat2(src_dir, src, dst_dir, dst, syscalls.RENAME_NOREPLACE)
        return
    except OSError as error:
        if error.errno not in UNSUPPORTED:
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
    """Creates ``name`` with ``data`` durably; returns False if the name exists.

    Of any number of callers exactly one gets True. A False is durable too: the directory with the existing
    name is synced.
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
    """Releases a flock(2) lock that the process ``holder`` took, though forks may hold the descriptor too.

    Closing it would leave the lock to a child that was forked meanwhile. In such a child this does nothing.
    """
    if os.getpid() == holder:
        with contextlib.suppress(OSError):
            fcntl.flock(fd, fcntl.LOCK_UN)


@contextlib.contextmanager
def directory_lock(dir_fd: int, *, shared: bool = False) -> Iterator[None]:
    """Holds this directory's lock, exclusively or ``shared``, among threads and processes.

    It takes a fresh descriptor, since flock(2) locks belong to open file descriptions: two threads that share
    one would not exclude each other.
    """
    how = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    fd = os.open(b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=dir_fd)
    try:
        try:
            fcntl.flock(fd, how)
        except OSError as error:
            if error.errno not in (errno.EBADF, *UNSUPPORTED):
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
    """Replaces ``name`` durably if its content still is ``expected``; otherwise raises LostRace.

    ``expected`` None: the file must not exist. ``data`` None: the file is removed. Calls in one directory
    exclude each other; nothing but this function may change a file that it changes.
    """
    step(f"{label}:lock")
    with directory_lock(dir_fd):
        try:
            found: bytes | None = read(dir_fd, name)
        except FileNotFoundError:
            found = None
        if found != expected:
            raise LostRace(f"'{printable(name)}' has changed meanwhile; read it again")
        if data is None:
            if expected is not None:
                remove(dir_fd, name, label=label)
        elif expected is None:
            if not create(dir_fd, name, data, label=label, mode=mode):
                raise LostRace(f"'{printable(name)}' was created meanwhile; read it again")
        else:
            replace(dir_fd, name, data, label=label, mode=mode)


def remove(dir_fd: int, name: bytes, *, label: str) -> None:
    """Removes a file durably. Raises FileNotFoundError if there is none."""
    step(f"{label}:unlink")
    os.unlink(name, dir_fd=dir_fd)
    sync_dir(dir_fd, label=label)


def move(src_dir: int, src: bytes, dst_dir: int, dst: bytes, *, label: str, noreplace: bool = True) -> None:
    """Renames a file or directory durably; with ``noreplace``, raises FileExistsError if ``dst`` exists.

    The destination's directory is synced first, so that no crash leaves the file without a name.
    """
    step(f"{label}:rename")
    if noreplace:
        rename_noreplace(src_dir, src, dst_dir, dst)
    else:
        os.rename(src, dst, src_dir_fd=src_dir, dst_dir_fd=dst_dir)
    sync_dir(dst_dir, label=label)
    if not os.path.samestat(os.fstat(src_dir), os.fstat(dst_dir)):
        sync_dir(src_dir, label=label)


def exchange(dir_fd: int, one: bytes, other: bytes, *, label: str) -> None:
    """Exchanges the names of two directories durably, in one step.

    Where the filesystem can't (NFS), it takes three renames: a crash between them leaves ``other`` under its
    name with the suffix :data:`ASIDE`, and nothing under its own name.
    """
    step(f"{label}:rename")
    try:
        syscalls.renameat2(dir_fd, one, dir_fd, other, syscalls.RENAME_EXCHANGE)
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
        with contextlib.suppress(FileNotFoundError):  # a crash after the second rename left it
            os.rename(other + ASIDE, temp_name(), src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
        os.rename(other, other + ASIDE, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
        step(f"{label}:rename")
        os.rename(one, other, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
        step(f"{label}:rename")
        os.rename(other + ASIDE, one, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
    sync_dir(dir_fd, label=label)


def end_exchange(dir_fd: int, other: bytes) -> None:
    """Restores the name of ``other`` after a crash within :func:`exchange`, which must not run meanwhile.

    Any number of callers may do so at once.
    """
    try:
        os.stat(other, dir_fd=dir_fd, follow_symlinks=False)
    except FileNotFoundError:
        with contextlib.suppress(FileNotFoundError):
            os.rename(other + ASIDE, other, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
