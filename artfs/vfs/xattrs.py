"""Extended attributes: which ones a tree stores, and those in which artfs describes an entry."""

from __future__ import annotations

import errno

from artfs.errors import NotPermitted
from artfs.model import refusals
from artfs.model.entry import RUN, ReferenceEntry
from artfs.printing import printable
from artfs.vfs.node import NoSuchAttribute
from artfs.volume.volume_references import References

URI, DIGEST = b"user.artfs.uri", b"user.artfs.digest"
ERROR = b"user.artfs.error"
"""Why the last read of a file failed, as :mod:`artfs.model.refusals` encodes it."""


def is_reserved_xattr(name: bytes) -> bool:
    """Tells whether only artfs sets an attribute. Its value in a tree is not shown."""
    return name.startswith(b"user.artfs.") and name != RUN


def of_reference(entry: ReferenceEntry | None, name: bytes, references: References, of: str) -> bytes:
    """Returns the value of a reserved attribute of a reference in the version or pending version `of`.

    Raises :class:`NoSuchAttribute`, also with None for an entry that is no reference.
    """
    if entry is not None and name == URI:
        return entry.uri
    if entry is not None and name == DIGEST and entry.checksum:
        return entry.checksum
    if entry is not None and name == ERROR and (failure := references.failure(entry, of)) is not None:
        return refusals.encoded(failure).encode()
    raise NoSuchAttribute


def no_such_xattr(name: bytes) -> Exception:
    """Returns the error for reading an attribute that is not ``user.*``."""
    return NoSuchAttribute() if name.startswith(b"security.") else unsupported()


def unsupported() -> OSError:
    return OSError(errno.EOPNOTSUPP, "only user.* attributes are stored")


def reserved_xattr(name: bytes) -> NotPermitted:
    """Returns the error for changing a reserved attribute."""
    return NotPermitted(f"cannot change '{printable(name)}': artfs sets user.artfs.* itself")


def enodata_as_absent(error: OSError) -> Exception:
    """Returns :class:`NoSuchAttribute` for the backing filesystem's ENODATA, and any other error as it is."""
    return NoSuchAttribute() if error.errno == errno.ENODATA else error
