"""Makes one system call of a process fail, by strace(1); the caller chooses call, number and errno.

Unlike durable steps, which are labelled by hand, this leaves out no call, and what fails is the kernel's
answer, whichever library asks.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import subprocess
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from artfs.fuse.errnos import errno_of
from tests.crash.faults import join_threads

#: The errors of each call that a filesystem must expect.
FAILURES = [
    ("fsync", "EIO"),
    ("fdatasync", "EIO"),
    ("syncfs", "EIO"),
    ("renameat", "EIO"),
    ("renameat", "ENOSPC"),
    ("renameat2", "EIO"),
    ("renameat2", "ENOSPC"),
    ("linkat", "EMLINK"),
    ("linkat", "ENOSPC"),
    ("linkat", "EIO"),
    ("write", "ENOSPC"),
    ("write", "EDQUOT"),
    ("write", "EIO"),
    ("pwrite64", "ENOSPC"),
    ("copy_file_range", "ENOSPC"),
    ("openat", "EMFILE"),
    ("openat", "ENFILE"),
    ("openat", "EIO"),
    ("openat", "ENOSPC"),
    ("getdents64", "EIO"),
    ("newfstatat", "EIO"),
    ("mkdirat", "ENOSPC"),
    ("mknodat", "ENOSPC"),
    ("symlinkat", "EDQUOT"),
    ("unlinkat", "EIO"),
    ("readlinkat", "EIO"),
    ("read", "EIO"),
    ("preadv", "EIO"),
    ("listxattr", "EIO"),
    ("getxattr", "EIO"),
    ("setxattr", "ENOSPC"),
    ("fchmod", "EIO"),
    ("flock", "ENOLCK"),
    ("utimensat", "EIO"),
    ("ftruncate", "EIO"),
]


@dataclass(frozen=True)
class Injected:
    """The result. ``error`` is the errno that the action raised, ``hit`` whether a call failed."""

    error: int | None
    hit: bool


@functools.cache
def why_no_strace() -> str | None:
    """Returns a line with the reason why strace cannot inject errors here, or None; tries it."""
    if shutil.which("strace") is None:
        return "there is no strace"
    try:
        found = inject(lambda: os.close(os.open("/", os.O_RDONLY)), "openat", "EIO", 1)
    except RuntimeError as error:
        return f"strace can't attach to a process here: {error}"
    return None if found.hit else "strace makes no call fail here"


def needs_strace() -> None:
    if why := why_no_strace():
        pytest.skip(why)


def inject(
    action: Callable[[], object],
    call: str,
    error: str,
    when: int,
    prepare: Callable[[], object] = lambda: None,
) -> Injected:
    """Runs an action in a process whose ``when``-th system call of a name fails.

    ``prepare`` runs in that process before. Raises RuntimeError if strace cannot do it, and AssertionError if
    the action raises an unexpected exception.
    """
    join_threads()
    told, tell = os.pipe()
    waiting, go = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads
        child = os.fork()
    if child == 0:
        try:
            os.close(go)
            prepare()
            os.writev(tell, [b"ready\n"])
            os.readv(waiting, [bytearray(1)])
            os.writev(tell, [b"%d\n" % _errno(action)])
            os._exit(0)
        except BaseException:  # noqa: BLE001 - the parent sees the exit status
            traceback.print_exc(file=sys.stderr)
        finally:
            os._exit(1)
    os.close(waiting)
    os.close(tell)
    try:
        with open(told, "rb") as said, tempfile.TemporaryDirectory() as place:
            assert said.readline() == b"ready\n", "it could not be prepared"
            log = Path(place) / "log"
            rule = f"inject={call}:error={error}:when={when}"
            command = ["strace", "-f", "-o", str(log), "-e", f"trace={call}", "-e", rule, "-p", str(child)]
            with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as strace:
                assert strace.stderr is not None
                line = strace.stderr.readline()
                if "attached" not in line:
                    raise RuntimeError(line.strip())
                os.write(go, b"x")
                number = int(said.readline() or b"-1")
                status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
                child = 0
                strace.communicate()
            assert status == 0, "it raised what no caller expects"
            return Injected(number or None, "(INJECTED)" in log.read_text())
    finally:
        os.close(go)
        if child:
            with contextlib.suppress(ChildProcessError, ProcessLookupError):
                os.kill(child, 9)
                os.waitpid(child, 0)


def _errno(action: Callable[[], object]) -> int:
    try:
        action()
    except Exception as error:
        number = errno_of(error)
        if number is None:
            raise
        return number
    return 0
