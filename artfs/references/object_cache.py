"""A cache of whole objects in one private directory, up to a limit.

Owns: the files of the directory, which of them are trusted, and which are removed first. Must not know URIs.
Blocking; any thread, also several processes on one directory: memory holds nothing but sums.

The name of a file is the digest of the object's URI and checksum, its mtime is the time of its last use, and
it gets its name when it is complete. It is not made durable: after a crash of the machine it may be short or
empty. So a file of an unexpected size is ignored, and so is one that another user made or could change.
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

from artfs.store import durable, regular_files, tree_removal

_NAME = re.compile(rb"[0-9a-f]{64}")
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
# The part of the limit that a sweep leaves, so that not every new object needs one.
_KEPT = 0.9
# New objects of this part of the limit start a sweep: other processes add objects, too.
_SWEEP_AFTER = 0.125


class IncomingObject:
    """The file that an object is written to; :meth:`ObjectCache.keep` gives it its name."""

    def __init__(self, fd: int, temp: bytes | None) -> None:
        self.fd, self.temp = fd, temp

    def reopen(self) -> int:
        """Opens the file again, for reading, at offset 0."""
        return os.open(f"/proc/self/fd/{self.fd}", os.O_RDONLY | os.O_CLOEXEC)


class ObjectCache:
    """Keeps objects in the directory ``dir_fd``, which it duplicates; with None it keeps none.

    ``limit`` is in bytes. No object is larger, and the newest one is always kept.
    """

    def __init__(self, dir_fd: int | None, limit: int) -> None:
        self._fd = None if dir_fd is None else os.dup(dir_fd)
        self.limit = limit
        self._lock = threading.Lock()
        self._sweeping = threading.Lock()
        self._total = 0
        self._unswept: float = limit + 1  # the first new object causes a sweep

    def close(self) -> None:
        """Closes the directory. No other call may be under way, or follow."""
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)

    def open(self, name: bytes, size: int) -> int | None:
        """Opens an object of exactly this size for reading; None if it is missing or can't be trusted."""
        if self._fd is None:
            return None
        try:
            fd = os.open(name, _READ, dir_fd=self._fd)
        except OSError:  # ENOENT; ELOOP for a symlink, ENXIO for a socket, EACCES
            return None
        if _trusted(os.fstat(fd), size):
            with contextlib.suppress(OSError):
                _set_used(fd)
            return fd
        os.close(fd)
        return None

    def fits(self, size: int) -> bool:
        return self._fd is not None and size <= self.limit

    @contextlib.contextmanager
    def incoming(self, *, named: bool) -> Iterator[IncomingObject]:
        """Creates an empty file; without ``named`` it can't be kept and is removed when it is closed."""
        if self._fd is not None and named:
            with durable.temp_file(self._fd) as (temp, fd):
                yield IncomingObject(fd, temp)
        else:
            where = None if self._fd is None else f"/proc/self/fd/{self._fd}"
            with tempfile.TemporaryFile(prefix=os.fsdecode(durable.temp_name()), dir=where) as file:
                yield IncomingObject(file.fileno(), None)

    def keep(self, incoming: IncomingObject, name: bytes) -> None:
        """Gives a complete object its name, and removes the least recently used others above the limit.

        A file of that name is replaced. If that fails, the object is not kept, which is no error.
        """
        if self._fd is None or incoming.temp is None:
            return
        _set_used(incoming.fd)
        try:
            # Not durable.move: nothing here needs to survive a crash.
            os.rename(incoming.temp, name, src_dir_fd=self._fd, dst_dir_fd=self._fd)
        except OSError:
            return  # a directory has the name, for example; `incoming` removes the temp
        size = os.fstat(incoming.fd).st_size
        with self._lock:
            self._total += size
            self._unswept += size
        with self._sweeping:  # excludes other sweeps only: to open an object never waits for one
            with self._lock:
                due = self._total > self.limit or self._unswept > self.limit * _SWEEP_AFTER
            if due:
                self._sweep(self._fd, name)

    def _sweep(self, dir_fd: int, newest: bytes) -> None:
        with self._lock:
            before = self._total
        tree_removal.sweep_temps(dir_fd, directories=False)
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
            # An object added while the directory was read may count twice until the next sweep.
            self._total += total - before
            self._unswept = 0


def _trusted(info: os.stat_result, size: int) -> bool:
    return (
        stat.S_ISREG(info.st_mode)
        and info.st_uid == os.geteuid()
        and not info.st_mode & 0o022
        and info.st_nlink <= 1
        and info.st_size == size
    )


def _set_used(fd: int) -> None:
    now = time.time_ns()
    os.utime(fd, ns=(now, now))
