"""Small files of a volume read back, where anything may stand in their place.

Owns how a file that can't be what its name says becomes ``Damaged``. Knows no format. Blocking; any thread
may call it.
"""

from __future__ import annotations

import errno
from typing import TypeVar

import msgspec

from artfs.errors import Damaged
from artfs.store import durable

S = TypeVar("S", bound=msgspec.Struct)

_NO_FILE = (errno.ELOOP, errno.EINVAL, errno.EISDIR, errno.ENXIO, errno.ENODEV)
_NO_DIRECTORY = (errno.ELOOP, errno.ENOTDIR)


def read(dir_fd: int, name: bytes, what: str, limit: int = durable.SMALL) -> bytes | None:
    """Returns the whole file, None if there is none. ``what`` names it. Raises Damaged if it is no file."""
    try:
        return durable.read(dir_fd, name, limit)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise damaged_or(error, what) from None


def load(dir_fd: int, name: bytes, kind: type[S], what: str) -> S | None:
    """Returns what a JSON file holds, None if there is none. Raises Damaged."""
    data = read(dir_fd, name, what)
    return None if data is None else decode(data, kind, what)


def decode(data: bytes, kind: type[S], what: str) -> S:
    """Reads JSON; keys that it doesn't know are left out. Raises Damaged, naming ``what``."""
    try:
        # As a whole first: it looks at all of it, while a Struct alone skips what it doesn't know.
        data.decode()
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Damaged(what, str(error)) from None


def damaged_or(error: OSError, what: str) -> Exception:
    """Tells damage from what the backing filesystem refuses, which stays as it is."""
    if error.errno == errno.ENOENT:
        return Damaged(what, "it is missing")
    if error.errno in _NO_FILE:
        return Damaged(what, "it is not a regular file")
    if error.errno == errno.EFBIG:
        return Damaged(what, error.strerror or "it is too long")
    return error


def no_directory(error: OSError, what: str) -> Exception:
    """Does as :func:`damaged_or` where a directory was to be opened."""
    if error.errno == errno.ENOENT:
        return Damaged(what, "it is missing")
    if error.errno in _NO_DIRECTORY:
        return Damaged(what, "it is not a directory")
    return error
