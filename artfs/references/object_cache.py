"""Whole objects in one private directory, up to a limit.

Owns: the files of the directory, which of them are trusted, which go first. Must not know URIs. Blocking; any
thread, also several processes on one directory: nothing is known in memory but sums.

A file's name is a digest of what it is a copy of, its mtime is when it was last used, and it gets its name
when it is whole. It is not made durable: after a crash of the machine it may be short or empty. So a file of
another size than is asked for counts as none, and one that another user made or could have changed, too.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import tempfile
import threading
import time
from collections.abc import Iterator

from artfs.store import durable, regular_files

_NAME = re.compile(rb"[0-9a-f]{64}")
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
# Room is made for more than is needed, so that the directory isn't looked through for each new object.
_KEPT = 0.9
# Other processes bring objects, too: after this part of the limit the directory is looked through.
_UNSEEN = 0.125


class Incoming:
    """A file that an object is written to, without a name until :meth:`Cache.keep` gives it one."""

    def __init__(self, fd: int, temp: bytes | None) -> None:
        self.fd, self.temp = fd, temp

    def reopen(self) -> int:
        """Opens it once more, for reading, at offset 0."""
        return os.open(f"/proc/self/fd/{self.fd}", os.O_RDONLY | os.O_CLOEXEC)


class ObjectCache:
    """Keeps objects in the directory ``dir_fd``, of which it holds a descriptor of its own; None: keeps none.

    ``limit`` is in bytes. One object brought in last may be all that there is, and none is larger.
    """

    def __init__(self, dir_fd: int | None, limit: int) -> None:
        self._fd = None if dir_fd is None else os.dup(dir_fd)
        self.limit = limit
        self._lock = threading.Lock()
        self._sweeping = threading.Lock()
        self._total = 0
        self._unseen: float = limit + 1  # the first object that comes has the directory looked through

    def close(self) -> None:
        """No other call may be under way, and none comes after."""
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)

    def open(self, name: bytes, size: int) -> int | None:
        """Opens an object of exactly this size for reading; None if it isn't there, or can't be trusted."""
        if self._fd is None:
            return None
        try:
            fd = os.open(name, _READ, dir_fd=self._fd)
        except OSError:  # ENOENT; ELOOP for a symlink, ENXIO for a socket, EACCES
            return None
        if _trusted(os.fstat(fd), size):
            with contextlib.suppress(OSError):
                _use(fd)
            return fd
        os.close(fd)
        return None

    def fits(self, size: int) -> bool:
        return self._fd is not None and size <= self.limit

    @contextlib.contextmanager
    def incoming(self, *, named: bool) -> Iterator[Incoming]:
        """Makes an empty file; without ``named`` it can't be kept, and is gone when it is closed."""
        if self._fd is None:
            fd, path = tempfile.mkstemp(prefix="artfs-")
            os.unlink(path)
            temp = None
        else:
            temp = durable.temp_name()
            fd = os.open(temp, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=self._fd)
            if not named:
                regular_files.unlink_quietly(self._fd, temp)
                temp = None
        incoming = Incoming(fd, temp)
        try:
            yield incoming
        finally:
            os.close(fd)
            if incoming.temp is not None and self._fd is not None:
                regular_files.unlink_quietly(self._fd, incoming.temp)

    def keep(self, incoming: Incoming, name: bytes) -> None:
        """Gives a whole object its name, and removes those that were not used for longest, but never it.

        What stands under the name is replaced. If it can't be, the object is not kept: that is no failure.
        """
        if self._fd is None or incoming.temp is None:
            return
        _use(incoming.fd)
        try:
            # By rename(2) itself and not by durable.move: nothing here must outlive a crash.
            os.rename(incoming.temp, name, src_dir_fd=self._fd, dst_dir_fd=self._fd)
        except OSError:
            return  # a directory in its place, say; the temp goes with `incoming`
        incoming.temp = None
        size = os.fstat(incoming.fd).st_size
        with self._lock:
            self._total += size
            self._unseen += size
        with self._sweeping:  # excludes other sweeps only: who opens an object waits for none
            with self._lock:
                due = self._total > self.limit or self._unseen > self.limit * _UNSEEN
            if due:
                self._sweep(self._fd, name)

    def _sweep(self, dir_fd: int, newest: bytes) -> None:
        with self._lock:
            before = self._total
        durable.sweep_temps(dir_fd)
        objects = []
        for text in durable.names(dir_fd):
            name = os.fsencode(text)
            if _NAME.fullmatch(name):
                with contextlib.suppress(OSError):
                    info = os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
                    if stat.S_ISREG(info.st_mode):
                        objects.append((info.st_mtime_ns, name, info.st_size))
        total = sum(size for _, _, size in objects)
        if total > self.limit:
            for _, name, size in sorted(objects):
                if total <= self.limit * _KEPT:
                    break
                if name != newest:
                    regular_files.unlink_quietly(dir_fd, name)
                    total -= size
        with self._lock:
            # What came while the directory was read may be counted twice; the next sweep puts that right.
            self._total += total - before
            self._unseen = 0


def _trusted(info: os.stat_result, size: int) -> bool:
    return (
        stat.S_ISREG(info.st_mode)
        and info.st_uid == os.geteuid()
        and not info.st_mode & 0o022
        and info.st_nlink <= 1
        and info.st_size == size
    )


def _use(fd: int) -> None:
    now = time.time_ns()
    os.utime(fd, ns=(now, now))
