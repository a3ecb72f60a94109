"""Locks between processes and threads, which name their owner.

Owns: lock files, taken with flock(2), and the owner (:mod:`~artfs.store.owners`) that is written in them.
Must not know what is guarded. Any thread may call it. Each acquisition has a descriptor of its own, so that
threads of one process exclude each other too; the kernel releases the lock when its holder ends.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat

import msgspec

from artfs.errors import Busy, Damaged
from artfs.printing import printable
from artfs.store import durable
from artfs.store.owners import Owner


class HeldLock:
    """One acquisition of a lock: a context manager, or released by any thread."""

    def __init__(self, fd: int, *, exclusive: bool) -> None:
        self._fd, self.exclusive, self._pid = fd, exclusive, os.getpid()

    def write_owner(self, owner: Owner) -> None:
        """Writes the owner into the lock file. Not durable: a crash of the machine releases every lock."""
        if not self.exclusive:
            raise ValueError("only an exclusive holder writes its owner")
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, msgspec.json.encode(owner) + b"\n", 0)

    def release(self) -> None:
        """Releases the lock; does nothing the second time, or in a fork of the holder."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            if self.exclusive and os.getpid() == self._pid:
                with contextlib.suppress(OSError):
                    os.ftruncate(fd, 0)
            durable.unlock(fd, self._pid)
            os.close(fd)

    def __enter__(self) -> HeldLock:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


class Lock:
    """A lock file in a directory, whose descriptor must outlive the object."""

    def __init__(self, dir_fd: int, name: bytes) -> None:
        self._dir_fd, self._name = dir_fd, name

    def shared(self, *, blocking: bool = True) -> HeldLock:
        """Takes the lock along with other shared holders. Without ``blocking``, raises Busy if it is held."""
        return self._take(fcntl.LOCK_SH, blocking)

    def exclusive(self, *, blocking: bool = True) -> HeldLock:
        """Takes the lock exclusively. Without ``blocking``, raises Busy if it is held."""
        return self._take(fcntl.LOCK_EX, blocking)

    def _take(self, how: int, blocking: bool) -> HeldLock:
        try:
            fd = self._open(os.O_RDWR | os.O_CREAT)
        except OSError as error:
            if error.errno != errno.EROFS:
                raise
            fd = self._open(os.O_RDONLY)
        try:
            fcntl.flock(fd, how if blocking else how | fcntl.LOCK_NB)
        except OSError as error:
            os.close(fd)
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise Busy(f"the lock '{printable(self._name)}' is held by {self.owner()}") from None
            raise
        except BaseException:
            os.close(fd)
            raise
        return HeldLock(fd, exclusive=how == fcntl.LOCK_EX)

    def _open(self, flags: int) -> int:
        """Opens the file. Raises Damaged for anything but a regular file: a symlink, a fifo."""
        flags |= os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        above, slash, name = self._name.rpartition(b"/")
        with contextlib.ExitStack() as stack:
            try:
                where = stack.enter_context(durable.directory(self._dir_fd, above)) if slash else self._dir_fd
            except NotADirectoryError:
                raise Damaged(printable(above), "it is not a directory") from None
            try:
                fd = os.open(name, flags, 0o600, dir_fd=where)
            except OSError as error:
                if error.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
                    raise Damaged(printable(self._name), "it is not a regular file") from None
                raise
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                os.close(fd)
                raise Damaged(printable(self._name), "it is not a regular file")
            return fd

    def owner(self) -> Owner | str:
        """Returns the owner that is written in the file, or "another process".

        Shared holders write nothing, so that the file may still name a dead owner.
        """
        owner = self.read_owner()
        return "another process" if owner is None or owner.alive() is False else owner

    def read_owner(self) -> Owner | None:
        """Returns the owner that the exclusive holder wrote; None if there is none, or it is incomplete."""
        try:
            fd = self._open(os.O_RDONLY)
        except (FileNotFoundError, Damaged):
            return None
        try:
            return msgspec.json.decode(os.pread(fd, 65536, 0), type=Owner)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None
        finally:
            os.close(fd)
