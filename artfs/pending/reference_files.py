"""A reference in a pending tree: a sparse file of the size of its target, with an xattr that has the URI.

Owns the xattr and how such a file is made. It is moved, linked and removed like any other file. Users can't
set the xattr, so they can't make one by other means. Must not know how bytes are fetched. Blocking; any
thread.
"""

from __future__ import annotations

import errno
import os

import msgspec

from artfs.errors import Damaged, InvalidCommand
from artfs.linux import syscalls
from artfs.model.entry import Checksum, ReferenceEntry, Uri
from artfs.pending import overlay
from artfs.store import durable

XATTR = b"user.artfs.reference"
_TOO_LONG = (errno.ENOSPC, errno.E2BIG, errno.ERANGE)  # ext4 keeps the xattrs of a file in one block


class ReferenceXattr(msgspec.Struct, frozen=True, array_like=True):
    """The value of the xattr: URI and checksum of a reference; ``checksum`` may be empty."""

    uri: Uri
    checksum: Checksum


def read_xattr(file: int | bytes, *, follow_symlinks: bool = True) -> ReferenceXattr | None:
    """Returns the xattr of an open file or a path; None for anything but a reference."""
    try:
        data = os.getxattr(file, XATTR, follow_symlinks=follow_symlinks)
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.EOPNOTSUPP):
            return None
        raise
    return decode(data)


def decode(data: bytes) -> ReferenceXattr:
    """Reads the value of the xattr. Raises Damaged for a value that :func:`stage` can't have set."""
    what = "a reference of a pending version"
    try:
        target = msgspec.msgpack.decode(data, type=ReferenceXattr)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Damaged(what, str(error)) from None
    if b"\0" in target.uri or msgspec.msgpack.encode(target) != data:
        raise Damaged(what, "it is not in the canonical encoding")
    return target


def entry_at(file: int | bytes, name: bytes, size: int) -> ReferenceEntry | None:
    """Returns the entry of a reference, without owner, mode and time; None for a plain file."""
    target = read_xattr(file)
    if target is None:
        return None
    return ReferenceEntry(name, 0, 0, 0, 0, size=size, uri=target.uri, checksum=target.checksum)


def empty(path: bytes) -> None:
    """Turns a reference into an empty plain file."""
    # The size first: a crash in between leaves a reference of size 0.
    os.truncate(path, 0)
    os.removexattr(path, XATTR)


def stage(staging_fd: int, entry: ReferenceEntry) -> bytes:
    """Makes the file of a reference, and returns its name in the staging directory.

    Raises :class:`InvalidCommand` for a URI that is too long for the backing filesystem.
    """
    staged = durable.temp_name()
    fd = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=staging_fd)
    try:
        target = msgspec.msgpack.encode(ReferenceXattr(entry.uri, entry.checksum))
        try:
            os.setxattr(fd, XATTR, target)
        except OSError as error:
            if error.errno not in _TOO_LONG:
                raise
            raise InvalidCommand(f"a URI of {len(entry.uri)} bytes is too long here") from None
        overlay.set_xattrs(fd, entry.xattrs)
        os.ftruncate(fd, entry.size)
        overlay.set_owner(staging_fd, staged, entry.uid, entry.gid)
        os.fchmod(fd, entry.mode)
        syscalls.futimens(fd, None, entry.mtime_ns)
    except BaseException:
        os.unlink(staged, dir_fd=staging_fd)
        raise
    finally:
        os.close(fd)
    return staged
