"""Small files of a volume: how they are read, when they count as damaged, and the form of times in them.

Owns: which failures to read a file become ``Damaged``, and the text of a moment. Must not know formats.
Blocking; any thread may call it.
"""

from __future__ import annotations

import errno
from datetime import UTC, datetime
from typing import TypeVar

import msgspec

from artfs.errors import Damaged
from artfs.store import durable

S = TypeVar("S", bound=msgspec.Struct)

_NO_FILE = (errno.ELOOP, errno.EINVAL, errno.EISDIR, errno.ENXIO, errno.ENODEV)
_NO_DIRECTORY = (errno.ELOOP, errno.ENOTDIR)


def read(dir_fd: int, name: bytes, what: str, limit: int = durable.SMALL) -> bytes | None:
    """Returns the whole file, None if it is missing. Raises Damaged, naming ``what``, for other kinds."""
    try:
        return durable.read(dir_fd, name, limit)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise file_error(error, what) from None


def load(dir_fd: int, name: bytes, kind: type[S], what: str) -> S | None:
    """Returns the value of a JSON file, or None if it is missing. Raises Damaged."""
    data = read(dir_fd, name, what)
    return None if data is None else decode(data, kind, what)


def decode(data: bytes, kind: type[S], what: str) -> S:
    """Decodes JSON and ignores unknown keys. Raises Damaged, naming ``what``."""
    try:
        # msgspec does not check the UTF-8 of values under unknown keys.
        data.decode()
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Damaged(what, str(error)) from None


def file_error(error: OSError, what: str) -> Exception:
    """Returns Damaged for a missing or misplaced file, else the error of the backing filesystem itself."""
    if error.errno == errno.ENOENT:
        return Damaged(what, "it is missing")
    if error.errno in _NO_FILE:
        return Damaged(what, "it is not a regular file")
    if error.errno == errno.EFBIG:
        return Damaged(what, error.strerror or "it is too long")
    return error


def directory_error(error: OSError, what: str) -> Exception:
    """Does what :func:`file_error` does, for a directory."""
    if error.errno == errno.ENOENT:
        return Damaged(what, "it is missing")
    if error.errno in _NO_DIRECTORY:
        return Damaged(what, "it is not a directory")
    return error


def timestamp() -> str:
    """Returns the present time as ISO 8601 in UTC with microseconds and a ``Z``."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def nanoseconds(text: str) -> int:
    """Returns such a moment as nanoseconds since the epoch. Raises ValueError or OverflowError."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone")
    return int(moment.timestamp() * 1_000_000) * 1000
