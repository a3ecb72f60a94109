"""Which xattrs a pending tree keeps, and how their absence is told. Pure; any thread."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator

from artfs.view.node import NoSuchAttribute


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
