"""The control files of a mount, as a program reads and commands them, and what a refusal means.

Owns how a refusal becomes artfs's exception again: by class and fields, which the same handle reports, else
by errno and reason. Must not know what the files are about. Blocking; any thread.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from artfs.catalog import records
from artfs.errors import (
    AlreadyExists,
    ArtfsError,
    Busy,
    Collision,
    CrossTree,
    Interrupted,
    InvalidCommand,
    NotEmpty,
    NotFound,
    NotPermitted,
    ReadOnly,
)
from artfs.model import refusals, words
from artfs.model.label_changes import ADDING
from artfs.store import durable

_BLOCK = 1 << 16

LABELS = b".artfs/labels.json"
"""The control file of all labels of a version or pending version."""

#: What the errno of a control file means by itself; its text is the reason that the same handle reports.
_REFUSALS: dict[int, Callable[[str], ArtfsError]] = {
    errno.EINVAL: InvalidCommand,
    errno.ENOENT: NotFound,
    errno.EEXIST: AlreadyExists,
    errno.EBUSY: Busy,
    errno.ENOTEMPTY: NotEmpty,
    errno.EROFS: ReadOnly,
    errno.EPERM: NotPermitted,
    errno.ESTALE: Collision,
    errno.EXDEV: lambda _reason: CrossTree(),
    errno.EINTR: lambda _reason: Interrupted(),
}


def read_control(dir_fd: int, path: bytes) -> bytes:
    """Returns the content of a control file. Raises what the mount reports."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=dir_fd)
    try:
        return _all(fd)
    except OSError as error:
        raise _reported(fd) or error from None
    finally:
        os.close(fd)


def _all(fd: int, offset: int = 0) -> bytes:
    blocks = []
    while block := os.pread(fd, _BLOCK, offset):
        blocks.append(block)
        offset += len(block)
    return b"".join(blocks)


def read_text(dir_fd: int, path: bytes) -> str:
    return read_control(dir_fd, path).decode().removesuffix("\n")


def read_document(dir_fd: int, path: bytes) -> Any:
    """Reads a JSON value."""
    return json.loads(read_control(dir_fd, path))


def read_documents(dir_fd: int, path: bytes) -> list[dict[str, Any]]:
    """Reads lines of JSON."""
    return [json.loads(line) for line in read_control(dir_fd, path).splitlines()]


def join_words(items: Iterable[str]) -> str:
    """Returns a list of aliases or tags as the words of a command."""
    return " ".join(map(words.word, items))


def command(dir_fd: int, path: bytes, line: str, *, answer: bool = True) -> bytes:
    """Writes one command or document to a control file and returns its answer.

    Raises what the refusal means, with the reason that the mount reports; OSError for what the backing
    filesystem refuses.
    """
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC, dir_fd=dir_fd)
    try:
        try:
            durable.write_all(fd, line.encode("utf-8", "surrogateescape") + b"\n")
        except OSError as error:
            raise _reported(fd) or _refusal_of(error, fd) from None
        return _all(fd) if answer else b""
    finally:
        os.close(fd)


@contextlib.contextmanager
def permission_to(what: str) -> Iterator[None]:
    """Names in a PermissionError of the block what the caller wanted, unless the mount reports more."""
    try:
        yield
    except PermissionError as error:
        if error.errno is None or error.strerror != os.strerror(error.errno):
            raise
        raise PermissionError(error.errno, f"cannot {what}: permission denied") from None


def relabel(dir_fd: int, changes: Mapping[str, Any], since: Mapping[str, Any]) -> None:
    """Changes labels of a version or pending version at once: :func:`artfs.model.label_changes.merged`."""
    known = {key: since[key] for key in changes if key in since and key in ADDING}
    command(dir_fd, LABELS, records.dump({**changes, "since": known}, indent=None))


def _reported(fd: int) -> Exception | None:
    """Returns the last refusal of a handle."""
    with contextlib.suppress(OSError):
        return refusals.decoded(_all(fd, refusals.OFFSET))
    return None


def _refusal_of(error: OSError, fd: int) -> Exception:
    """Returns what errno and reason mean, for a daemon that knows other classes."""
    reason = ""
    with contextlib.suppress(OSError):
        reason = _all(fd).decode("utf-8", "surrogateescape").strip()
    if not reason or error.errno is None:
        return error
    if error.errno in _REFUSALS:
        return _REFUSALS[error.errno](reason)
    if reason == os.strerror(error.errno):
        return error
    return ArtfsError(reason)
