"""Makes references in a pending tree, on behalf of who may make files there. Event loop's thread."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence

from msgspec.structs import replace

from artfs.errors import printable
from artfs.model.entry import RUN
from artfs.pending import reference_files
from artfs.references import FoundObject
from artfs.store.regular_files import unlink_quietly
from artfs.vfs.node import Caller, Node
from artfs.vfs.pending_directory import PendingDirectory
from artfs.vfs.permissions import CHANGE, PASS, granted
from artfs.volume.volume_references import new_reference_entry, path_taken

_DIRECTORY_MODE = 0o755


def refer(
    root: PendingDirectory, way: Sequence[bytes], found: FoundObject, caller: Caller, run: bytes
) -> list[tuple[PendingDirectory, bytes]]:
    """Makes one reference, and the directories above it; returns where the kernel has to look again.

    `run` is the one that brings it, if it isn't empty.

    Where the same one is there already, nothing is made. Raises AlreadyExists, NotADirectoryError,
    PermissionError.
    """
    at, made = root, list[tuple[PendingDirectory, bytes]]()
    for depth, name in enumerate(way[:-1], 1):
        path = b"/".join(way[:depth])
        below: Node | None = at.find(name)
        if below is None:
            _check(at, path, caller, CHANGE)
            below = at.mkdir(name, _DIRECTORY_MODE, caller)
            made.append((at, name))
        if not isinstance(below, PendingDirectory):
            raise NotADirectoryError(errno.ENOTDIR, f"'{printable(path)}' is no directory")
        at = below
        _check(at, path, caller, PASS)
    _check(at, b"/".join(way), caller, CHANGE)
    attributes, owner = at.attributes(), (os.geteuid(), os.getegid())
    if at.mounted.mount.as_root:
        owner = caller.uid, attributes.gid if attributes.mode & stat.S_ISGID else caller.gid
    entry = new_reference_entry(found, way[-1], *owner)
    if run:
        entry = replace(entry, xattrs=((RUN, run),))
    pending_version = at.mounted.tree.pending_version
    staged = reference_files.stage(pending_version.fd, entry)
    try:
        at.adopt(way[-1], staged)
    except BaseException as error:
        unlink_quietly(pending_version.fd, staged)
        if not isinstance(error, FileExistsError):
            raise
        standing = at.find(way[-1])
        same = standing.reference() if standing is not None else None
        if same is None or (same.uri, same.size, same.checksum) != (entry.uri, entry.size, entry.checksum):
            raise path_taken(b"/".join(way)) from None
        return made
    return [*made, (at, way[-1])]


def _check(directory: PendingDirectory, path: bytes, caller: Caller, bits: int) -> None:
    attributes = directory.attributes()
    if not granted(attributes.mode, attributes, caller, bits):
        raise PermissionError(errno.EACCES, f"'{printable(path)}': you may not make files there")
