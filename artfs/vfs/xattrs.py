"""Which xattrs there are: what a tree keeps, what is told of a reference, what is artfs's own."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator

from artfs.model import refusals
from artfs.model.entry import RUN, ReferenceEntry
from artfs.vfs.node import NoSuchAttribute
from artfs.volume.volume_references import References

URI, DIGEST = b"user.artfs.uri", b"user.artfs.digest"
ERROR = b"user.artfs.error"
"""Why a file could not be read the last time, as :mod:`artfs.model.refusals` has it."""


def is_own(name: bytes) -> bool:
    """Tells whether an attribute is artfs's own, which nobody sets; what a tree keeps in one isn't shown."""
    return name.startswith(b"user.artfs.") and name != RUN


def of_reference(entry: ReferenceEntry | None, name: bytes, references: References, of: str) -> bytes:
    """Returns what one of artfs's own attributes says of a reference in the version or pending version `of`.

    Raises :class:`NoSuchAttribute`.
    """
    if entry is not None and name == URI:
        return entry.uri
    if entry is not None and name == DIGEST and entry.checksum:
        return entry.checksum
    if entry is not None and name == ERROR and (failure := references.failure(entry, of)) is not None:
        return refusals.encoded(failure).encode()
    raise NoSuchAttribute


def no_such_xattr(name: bytes) -> Exception:
    """Returns why there is no attribute of a name that is not ``user.*``."""
    return NoSuchAttribute() if name.startswith(b"security.") else unsupported()


def unsupported() -> OSError:
    return OSError(errno.EOPNOTSUPP, "only user.* attributes are kept")


@contextlib.contextmanager
def absent_is_told() -> Iterator[None]:
    """Raises :class:`NoSuchAttribute` for the backing filesystem's ENODATA."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENODATA:
            raise NoSuchAttribute from None
        raise
