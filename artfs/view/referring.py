"""Makes references in a pending tree, on behalf of who may make files there. Event loop's thread."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence

from artfs.errors import printable
from artfs.pending import reference
from artfs.references import name_taken, referring
from artfs.remote import Found
from artfs.store.files import unlink_quietly
from artfs.view.node import Caller, Node
from artfs.view.pending import PendingDirectory
from artfs.view.process import granted

_DIRECTORY_MODE = 0o755
_PASS, _WRITE = 0o1, 0o3


def refer(
    root: PendingDirectory, way: Sequence[bytes], found: Found, caller: Caller
) -> list[tuple[PendingDirectory, bytes]]:
    """Makes one reference, and the directories above it; returns where the kernel has to look again.

    Raises AlreadyExists, NotADirectoryError, PermissionError.
    """
    at, made = root, list[tuple[PendingDirectory, bytes]]()
    for name in way[:-1]:
        below: Node | None = at.find(name)
        if below is None:
            _check(at, caller, _WRITE)
            below = at.mkdir(name, _DIRECTORY_MODE, caller)
            made.append((at, name))
        if not isinstance(below, PendingDirectory):
            raise NotADirectoryError(errno.ENOTDIR, f"'{printable(name)}' is no directory")
        at = below
        _check(at, caller, _PASS)
    _check(at, caller, _WRITE)
    owner = (caller.uid, caller.gid) if at.branch.serving.as_root else (os.geteuid(), os.getegid())
    entry = referring(found, way[-1], *owner)
    staging = at.branch.tree.draft.fd
    staged = reference.stage(staging, entry)
    try:
        at.adopt(way[-1], staged)
    except BaseException as error:
        unlink_quietly(staging, staged)
        if isinstance(error, FileExistsError):
            raise name_taken(b"/".join(way)) from None
        raise
    return [*made, (at, way[-1])]


def _check(directory: PendingDirectory, caller: Caller, bits: int) -> None:
    attributes = directory.attributes()
    if not granted(attributes.mode, attributes, caller, bits):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
