"""Tries whether a filesystem meets the requirements of a volume, before anything is stored there.

Owns: the directory of the trials, and what a failure means; ``requirements.py`` has the trials. Blocking for
some milliseconds on a local filesystem; any thread, and many processes at once. Nothing is synced or left
behind: the next probe removes the files of a killed process.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from typing import Literal, TypeAlias

import msgspec

from artfs.errors import UnsupportedFilesystem
from artfs.linux import mountinfo, syscalls
from artfs.store import durable, regular_files, tree_removal
from artfs.store.requirements import REQUIREMENTS, UNRELATED_ERRNOS, Limited, Trial, TrialDirectory, Unmet

_SUFFIX = b".probe"  # of a temp's name


State: TypeAlias = Literal["ok", "limited", "missing"]


class ProbeResult(msgspec.Struct, frozen=True, kw_only=True):
    """The result of one trial; ``why`` is empty for ``ok``.

    ``limited``: a volume works, but its users get an errno for what ``why`` names. ``missing``: it does not.
    """

    need: str
    state: State
    why: str = ""


def check(path: str, dir_fd: int, *, exists: bool) -> list[ProbeResult]:
    """Raises UnsupportedFilesystem if the filesystem of a directory does not meet all requirements.

    ``exists``: there is a volume already; a full disk is then no reason to refuse it, and there are no
    findings. Raises OSError if a trial is impossible. The caller holds the lock of the directory.
    """
    try:
        found = probe(path, dir_fd)
    except OSError as error:
        if exists and error.errno in durable.FULL:
            return []
        raise
    missing = [f"{one.need} ({one.why})" for one in found if one.state == "missing"]
    if missing:
        raise UnsupportedFilesystem(path, filesystem(dir_fd), missing, exists=exists)
    return found


@contextlib.contextmanager
def locked(path: str, dir_fd: int, *, exists: bool) -> Iterator[None]:
    """Holds the lock of a directory for trials. Raises UnsupportedFilesystem if flock(2) does not work."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(durable.directory_lock(dir_fd))
        except OSError as error:
            if error.errno not in (errno.ENOLCK, *durable.UNSUPPORTED):
                raise
            regular_files.unlink_quietly(dir_fd, durable.LOCK_FILE)
            why = f"flock ({error.strerror})"
            raise UnsupportedFilesystem(path, filesystem(dir_fd), [why], exists=exists) from None
        yield


def is_known(dir_fd: int) -> bool:
    """Tells whether the filesystem of a directory needs no trial, by its type."""
    return syscalls.filesystem_type(dir_fd) in syscalls.LOCAL_FILESYSTEMS


def filesystem(fd: int) -> str:
    """Returns the type of the filesystem of ``fd``, as in mountinfo; empty if it is unknown."""
    with contextlib.suppress(OSError):
        mount = mountinfo.mount_id(fd)
        return next((found.type for found in mountinfo.table() if found.id == mount), "")
    return ""


def probe(path: str, dir_fd: int) -> list[ProbeResult]:
    """Tries all requirements in a directory below ``dir_fd`` that is removed afterwards.

    Raises OSError, which names ``path``, if that can't be created, or the disk is full or fails. The caller
    holds the lock of the directory: a directory of this kind that exists was left by a killed process.
    """
    try:
        sweep(dir_fd)
        name = durable.temp_name() + _SUFFIX
        os.mkdir(name, 0o700, dir_fd=dir_fd)
        try:
            with durable.directory(dir_fd, name) as fd:
                return [_try(fd, need, trial) for need, trial in REQUIREMENTS]
        finally:
            sweep(dir_fd)
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from None


def is_trial(name: bytes) -> bool:
    """Tells whether a directory of this name is one for trials."""
    return name.startswith(durable.TEMP_PREFIX) and name.endswith(_SUFFIX)


def sweep(dir_fd: int) -> None:
    """Removes what earlier trials left. The caller holds the lock of the directory."""
    for text in durable.names(dir_fd):
        name = os.fsencode(text)
        if is_trial(name):
            with contextlib.suppress(OSError):
                tree_removal.remove_tree(dir_fd, name)


def _try(fd: int, need: str, trial: Trial) -> ProbeResult:
    with TrialDirectory(fd) as box:
        try:
            trial(box)
        except Unmet as error:
            return ProbeResult(need=need, state="missing", why=str(error))
        except Limited as error:
            return ProbeResult(need=need, state="limited", why=str(error))
        except OSError as error:
            if error.errno in UNRELATED_ERRNOS:
                raise
            return ProbeResult(need=need, state="missing", why=error.strerror or str(error))
    return ProbeResult(need=need, state="ok")
