"""Helpers that make tests short: expect an errno, make a file, wait for a condition or a clock tick.

Knows the driver protocol and nothing of artfs.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import pytest

from tests.conformance.driver import Filesystem, OpenFile, OsFilesystem

T = TypeVar("T")

OLD = 981_173_106 * 10**9 + 123_456_789  # a moment of 2001 with nanoseconds, far from any present


@contextmanager
def fails(*codes: int) -> Iterator[None]:
    """Expects an OSError with one of these errnos."""
    with pytest.raises(OSError) as caught:
        yield
    names = [errno.errorcode[code] for code in codes]
    got = errno.errorcode.get(caught.value.errno or 0, str(caught.value.errno))
    assert got in names, f"{got} instead of {' or '.join(names)}: {caught.value}"


def eventually(condition: Callable[[], T], timeout: float = 30.0, what: str = "") -> T:
    """Returns the first true value of a condition; fails the test after a timeout."""
    end = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            pytest.fail(f"still not true after {timeout:g} s: {what or condition}")
        time.sleep(0.005)


def write(fs: Filesystem, path: bytes, data: bytes = b"", mode: int = 0o644) -> None:
    """Makes or replaces a file."""
    with fs.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode) as file:
        offset = 0
        while offset < len(data):
            offset += file.pwrite(data[offset:], offset)


def read(fs: Filesystem, path: bytes) -> bytes:
    """Returns the content of a file."""
    with fs.open(path, os.O_RDONLY) as file:
        return read_all(file)


def read_all(file: OpenFile) -> bytes:
    """Returns the content of an open file."""
    parts: list[bytes] = []
    offset = 0
    while part := file.pread(1 << 20, offset):
        parts.append(part)
        offset += len(part)
    return b"".join(parts)


def exists(fs: Filesystem, path: bytes) -> bool:
    """Whether a name exists, even as a dangling symlink."""
    try:
        fs.stat(path)
    except FileNotFoundError:
        return False
    return True


def tick(fs: Filesystem) -> None:
    """Waits until a change gets a later time stamp than all changes before.

    File times come from a clock that may advance every 10 ms only. The last change before is the creation of
    a scratch file here; it is touched until its ctime moves.
    """
    name = b"tick"
    write(fs, name)
    before = fs.stat(name).ctime

    def moved() -> bool:
        fs.chmod(name, 0o600)
        return fs.stat(name).ctime > before

    eventually(moved, what="the clock of file times advances")
    fs.unlink(name)


def in_syscall(pid: int, *names: str) -> bool:
    """Whether a process is inside one of these system calls (``write``, ``openat``, ...)."""
    numbers = {
        "x86_64": {"write": 1, "openat": 257, "flock": 73, "fcntl": 72, "pwrite64": 18},
        "aarch64": {"write": 64, "openat": 56, "flock": 32, "fcntl": 25, "pwrite64": 68},
    }
    known = numbers.get(os.uname().machine)
    if known is None:
        pytest.skip(f"system call numbers of {os.uname().machine} are not known to this test")
    with suppress(ProcessLookupError):
        current = Path(f"/proc/{pid}/syscall").read_text().split()[0]
        return current in {str(known[name]) for name in names}
    return False


def remove_tree(fs: OsFilesystem, path: bytes) -> None:
    """Removes a directory of any depth by descriptors, since paths may be longer than PATH_MAX."""

    def clear(fd: int) -> None:
        depth = 0
        names: list[bytes] = []
        current = os.dup(fd)
        while True:
            child = None
            for name in os.listdir(current):
                if stat.S_ISDIR(os.stat(name, dir_fd=current, follow_symlinks=False).st_mode):
                    child = os.fsencode(name)
                    break
                os.unlink(name, dir_fd=current)
            if child is not None:
                below = os.open(child, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=current)
                names.append(child)
                depth += 1
            elif depth:
                below = os.open(b"..", os.O_RDONLY | os.O_DIRECTORY, dir_fd=current)
                os.rmdir(names.pop(), dir_fd=below)
                depth -= 1
            else:
                os.close(current)
                return
            os.close(current)
            current = below

    fd = os.open(fs.path(path), os.O_RDONLY | os.O_DIRECTORY)
    try:
        clear(fd)
    finally:
        os.close(fd)
    fs.rmdir(path)
