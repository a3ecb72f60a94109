"""Crashes and errors at the steps by which artfs changes a volume.

A crash is a forked process that exits at a step: no handler runs, nothing is cleaned up, and the kernel
releases its locks.
"""

from __future__ import annotations

import errno
import os
import shutil
import threading
import warnings
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from artfs.linux import syscalls
from artfs.store import durable
from tests.thorough import THOROUGH

_CRASHED = 77

Step = Callable[[str], None]
Announced = Callable[[Step], AbstractContextManager[None]]


@contextmanager
def steps(hook: Step) -> Iterator[None]:
    """Announces each durable step to ``hook`` while the context lasts."""
    durable.step = hook
    try:
        yield
    finally:
        durable.step = durable._nothing


_BY_NAME = ("rename", "link", "symlink", "mkdir", "mknod", "unlink", "rmdir", "chmod", "chown", "setxattr")
_CALLS = (*_BY_NAME, "removexattr", "utime", "ftruncate", "pwrite")


@contextmanager
def calls(hook: Step, *, staged: bool = False) -> Iterator[None]:
    """Announces the durable steps, and as ``call:NAME`` this thread's other changing system calls.

    Some of these calls follow the durable step of their change, and some changes have no durable step.
    No user sees what is built under a temporary name: these calls are announced with ``staged`` only.
    """
    thread = threading.get_ident()

    def is_announced(name: str, arguments: tuple[Any, ...]) -> bool:
        if threading.get_ident() != thread:
            return False
        if staged or name in ("rename", "renameat2"):
            return True
        return not any(map(_is_staged, arguments)) and not (name == "setxattr" and type(arguments[0]) is int)

    def announced(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def announce(*arguments: Any, **named: Any) -> Any:
            if is_announced(name, arguments):
                hook(f"call:{name}")
            return call(*arguments, **named)

        return announce

    opened = os.open

    def announce_open(path: Any, flags: int, *arguments: Any, **named: Any) -> int:
        if flags & (os.O_CREAT | os.O_TRUNC) and is_announced("open", (path,)):
            hook("call:open")
        return opened(path, flags, *arguments, **named)

    with pytest.MonkeyPatch.context() as patch, steps(hook):
        for name in _CALLS:
            patch.setattr(os, name, announced(name, getattr(os, name)))
        for name in ("renameat2", "utimensat", "touch"):
            patch.setattr(syscalls, name, announced(name, getattr(syscalls, name)))
        if staged:
            for name in ("fchmod", "fchown"):
                patch.setattr(os, name, announced(name, getattr(os, name)))
            patch.setattr(syscalls, "futimens", announced("futimens", syscalls.futimens))
        patch.setattr(os, "open", announce_open)
        yield


def _is_staged(argument: object) -> bool:
    return isinstance(argument, bytes) and argument.startswith((durable.TEMP_PREFIX, b".artfs@lower"))


@contextmanager
def reads(hook: Step) -> Iterator[None]:
    """Announces each read of bytes that are hashed, compared or copied, and of small files."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("pread", "preadv", "copy_file_range"):
            patch.setattr(os, name, _announced(f"read:{name}", getattr(os, name), hook))
        patch.setattr(durable, "read", _announced("read:small", durable.read, hook))
        yield


def _announced(label: str, call: Callable[..., Any], hook: Step) -> Callable[..., Any]:
    thread = threading.get_ident()

    def announce(*arguments: Any, **named: Any) -> Any:
        if threading.get_ident() == thread:
            hook(label)
        return call(*arguments, **named)

    return announce


@contextmanager
def short_writes(number: int, *, then: int = 0) -> Iterator[list[int]]:
    """Halves this thread's writes from ``number`` on; yields the sizes of all its writes.

    With an errno ``then`` only one write is short and the following ones fail, as on a disk that gets full.
    """
    thread = threading.get_ident()
    seen: list[int] = []

    def cut(size: int) -> int:
        seen.append(size)
        if len(seen) <= number:
            return size
        if then and (len(seen) > number + 1 or size < 2):
            raise OSError(then, os.strerror(then))
        return max(size // 2, 1)

    def write(fd: int, data: Any, _call: Callable[..., int] = os.write) -> int:
        return _call(fd, memoryview(data)[: cut(len(data))] if threading.get_ident() == thread else data)

    def pwrite(fd: int, data: Any, offset: int, _call: Callable[..., int] = os.pwrite) -> int:
        view = memoryview(data)
        return _call(fd, view[: cut(len(view))] if threading.get_ident() == thread else view, offset)

    def copy(source: int, target: int, count: int, *offsets: int) -> int:
        left = os.fstat(source).st_size - offsets[0]
        return copied(source, target, cut(min(count, left)) if left > 0 else count, *offsets)

    copied = os.copy_file_range
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "write", write)
        patch.setattr(os, "pwrite", pwrite)
        patch.setattr(os, "copy_file_range", copy)
        yield seen


def full_disk(number: int, code: int = errno.ENOSPC) -> Callable[[str], None]:
    """Fails every step from ``number`` on."""
    left = number

    def step(label: str) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError(code, os.strerror(code))

    return step


def full_quota(number: int) -> Callable[[str], None]:
    """Fails every step from ``number`` on, as the user's quota does."""
    return full_disk(number, errno.EDQUOT)


def bad_sector(number: int) -> Callable[[str], None]:
    """Fails one step with EIO."""
    return _once(number, OSError(errno.EIO, os.strerror(errno.EIO)))


def ctrl_c(number: int) -> Callable[[str], None]:
    """Raises KeyboardInterrupt at one step; no handler of errors catches it."""
    return _once(number, KeyboardInterrupt())


def _once(number: int, error: BaseException) -> Callable[[str], None]:
    left = number

    def step(label: str) -> None:
        nonlocal left
        left -= 1
        if left == -1:
            raise error

    return step


def failing(action: Callable[[], object], step: Step, announced: Announced = steps) -> str:
    """Runs an action whose steps fail; returns the error's name."""
    try:
        with announced(step):
            action()
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    except KeyboardInterrupt as error:
        return type(error).__name__
    return "nothing"


def worth_trying(labels: list[str]) -> list[int]:
    """Returns the numbers of the steps; of a run of equal steps only the first and the last.

    The number after the last step is included: with it no step fails.
    """
    around = [None, *labels, None]
    return [
        number
        for number in range(len(labels) + 1)
        if number == len(labels) or {around[number], around[number + 2]} != {labels[number]}
    ]


def crash(
    number: int,
    action: Callable[[], object],
    announced: Announced = steps,
    *,
    last: Callable[[], object] = lambda: None,
) -> str | None:
    """Runs an action in a process that exits before the durable step ``number``; returns the step's label.

    Returns None if the action ended before. ``last`` is the last thing that the process does.
    """
    join_threads()
    labels, ours = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads
        child = os.fork()
    if child == 0:
        left = number

        def count(label: str) -> None:
            nonlocal left
            if left == 0:
                last()
                os.write(ours, label.encode())
                os._exit(_CRASHED)
            left -= 1

        try:
            with announced(count):
                action()
                os._exit(0)
        finally:
            os._exit(1)
    os.close(ours)
    with open(labels, "rb") as reader:
        label = reader.read().decode()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, _CRASHED), f"the action failed: {status}"
    return label if status else None


def remove(path: Path) -> None:
    """Deletes a volume that is no longer used."""
    join_threads()
    shutil.rmtree(path)


def join_threads() -> None:
    """Waits for the threads that empty the trash."""
    for thread in threading.enumerate():
        if thread.name == "artfs-trash":
            thread.join()


#: The errors that may occur during an operation, by the name of what they raise.
ERRORS = {"ENOSPC": full_disk, "EDQUOT": full_quota, "EIO": bad_sector, "KeyboardInterrupt": ctrl_c}


def trials(names: Collection[str], whole: Collection[str] = ()) -> list[tuple[str, str]]:
    """Returns pairs of operation and error; ``other`` means that the errors but ENOSPC take turns."""
    if THOROUGH:
        whole = names
    return [
        (name, error)
        for name in names
        for error in ("ENOSPC", *(list(ERRORS)[1:] if name in whole else ["other"]))
    ]


def error_of(error: str, number: int) -> str:
    """Returns the name of the error to raise at a step."""
    others = list(ERRORS)[1:]
    return others[number % len(others)] if error == "other" else error
