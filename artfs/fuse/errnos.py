"""The one table from artfs's exceptions to errnos. Pure; any thread may ask."""

from __future__ import annotations

import errno

from artfs import errors
from artfs.vfs.node import NoSuchAttribute

#: The first class in an exception's method resolution order that is here decides.
ERRNOS: dict[type[BaseException], int] = {
    errors.ArtfsError: errno.EIO,
    errors.InvalidName: errno.EINVAL,
    errors.InvalidCommand: errno.EINVAL,
    errors.CannotSeal: errno.EINVAL,
    errors.TypeMismatch: errno.EBUSY,
    errors.NotFound: errno.ENOENT,
    errors.AlreadyExists: errno.EEXIST,
    errors.Busy: errno.EBUSY,
    errors.NotEmpty: errno.ENOTEMPTY,
    errors.ReadOnly: errno.EROFS,
    errors.NotPermitted: errno.EPERM,
    errors.CrossTree: errno.EXDEV,
    errors.Collision: errno.ESTALE,
    errors.Interrupted: errno.EINTR,
    errors.LostRace: errno.EBUSY,
    errors.Damaged: errno.EIO,
    errors.VolumeError: errno.EIO,
    errors.VolumeExists: errno.EEXIST,
    errors.MountError: errno.EIO,
    NoSuchAttribute: errno.ENODATA,
    NotImplementedError: errno.EBADF,
}


def errno_of(error: BaseException) -> int | None:
    """Returns the errno that answers a request; None for an unexpected exception."""
    for kind in type(error).__mro__:
        if kind in ERRNOS:
            return ERRNOS[kind]
    if isinstance(error, OSError):
        return error.errno or errno.EIO
    return None
