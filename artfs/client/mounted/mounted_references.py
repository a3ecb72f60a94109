"""References in a pending tree on a mount.

Owns how one is distinguished from a file and made by xattrs and the control file, and why bytes can't be
read. Knows neither what references refer to nor by which policy they are written. Blocking; any thread.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Sequence

from artfs.client.mounted.control_files import command
from artfs.client.plain_tree import ReferenceAccess
from artfs.client.writable_tree import ReferenceTarget, StagedFile
from artfs.errors import ArtfsError
from artfs.model import refusals

_CONTROL = b".artfs/references"
_AT_ONCE = 1 << 16  # bytes of a command, and not much more: it must be one write(2)
_URI, _CHECKSUM, _ERROR = "user.artfs.uri", "user.artfs.digest", "user.artfs.error"


class MountedReferences(ReferenceAccess):
    """References of a pending tree on a mount, which fetches the bytes itself when they are read."""

    def __init__(self, root_fd: int) -> None:
        self._root_fd = root_fd

    def target_of(self, path: bytes) -> ReferenceTarget | None:
        try:
            uri = os.getxattr(path, _URI, follow_symlinks=False)
            size = os.stat(path, follow_symlinks=False).st_size
        except OSError as error:
            if error.errno in (errno.ENODATA, errno.EOPNOTSUPP):
                return None
            raise
        try:
            checksum = os.getxattr(path, _CHECKSUM, follow_symlinks=False)
        except OSError as error:
            if error.errno != errno.ENODATA:
                raise
            checksum = b""
        return ReferenceTarget(os.fsdecode(uri), size, os.fsdecode(checksum))

    def stage(self, target: ReferenceTarget, temp: bytes) -> StagedFile:
        try:
            command(self._root_fd, _CONTROL, _line(temp, target, None))
        except FileNotFoundError:  # it was finished meanwhile: a version has no such file
            raise OSError(errno.EROFS, os.strerror(errno.EROFS)) from None
        return StagedFile(self._root_fd, temp)

    def add_references(self, found: Sequence[tuple[bytes, ReferenceTarget]], run: str | None) -> int:
        made, lines, size = 0, list[str](), 0
        for path, target in found:
            lines.append(_line(path, target, run))
            size += len(lines[-1])
            if size >= _AT_ONCE or made + len(lines) == len(found):
                try:
                    command(self._root_fd, _CONTROL, "\n".join(lines), answer=False)
                except (ArtfsError, OSError):
                    return made
                made, lines, size = made + len(lines), [], 0
        return made

    def fetch(self, fd: int) -> int:
        return fetch(fd)


def fetch(fd: int) -> int:
    """Returns an open file on a mount once its first byte can be read.

    Raises :class:`~artfs.errors.ReferenceFailed` and :class:`~artfs.errors.Damaged`, and closes the file
    then.
    """
    try:
        if (failure := failure_of(fd)) is not None:
            raise failure
    except BaseException:
        os.close(fd)
        raise
    return fd


def failure_of(fd: int) -> ArtfsError | OSError | None:
    """Reads a byte of an open file, and returns why that fails; None if it does not."""
    try:
        os.pread(fd, 1, 0)
    except OSError as error:
        return reported(fd, error)
    return None


def reported(file: int | bytes, error: OSError) -> ArtfsError | OSError:
    """Returns what the mount reports of a file that can't be read, given as :func:`os.getxattr` takes it."""
    if error.errno == errno.EIO:
        with contextlib.suppress(OSError):
            return refusals.decoded(os.getxattr(file, _ERROR)) or error
    return error


def _line(path: bytes, target: ReferenceTarget, run: str | None) -> str:
    return json.dumps({"path": os.fsdecode(path), **target._asdict(), **({"run": run} if run else {})})
