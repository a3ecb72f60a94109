"""Finds damage in a pending version: in the files beside its tree, and in the overlay of a patch.

Changes nothing, and does not read the users' files. Others may change the tree meanwhile: files that
disappear are passed over. Blocking; any thread.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from functools import partial

from artfs.errors import Damaged, DraftNotFoundError
from artfs.linux.walk import scan
from artfs.model.tree import TreeReader
from artfs.pending import overlay, unshare
from artfs.pending.pending_version import PendingVersion


def problems(pending_version: PendingVersion, reader: TreeReader) -> Iterator[Damaged]:
    """Yields the damage; each error names the pending version."""
    yield from pending_version.problems()
    yield from unshare.problems(pending_version)
    try:
        root = pending_version.open_tree()
    except (FileNotFoundError, DraftNotFoundError, Damaged):  # reported already
        return
    try:
        base = _found(partial(overlay.base_of, root))
        lower = _found(partial(overlay.lower_of, root))
        for error in (base, lower):
            if isinstance(error, Damaged):
                yield Damaged(f"{pending_version.what()}: {error.what}", error.why)
        if base is None and lower is None:
            return
        if base is None or lower is None:
            yield Damaged(pending_version.what(), "it has a base but no lower directory, or the reverse")
            return
        for error in _below(root, reader):
            yield Damaged(f"{pending_version.what()}: {error.what}", error.why)
    finally:
        os.close(root)


def _below(root: int, reader: TreeReader) -> Iterator[Damaged]:
    for fd, entries in scan(root, overlay.is_reserved):
        lower = _found(partial(overlay.lower_of, fd))
        found = [lower, _found(partial(overlay.whiteouts, fd))]
        if isinstance(lower, overlay.Lower):
            found.append(_found(partial(reader.page, lower.tree)))
        for entry in entries:
            name = os.fsencode(entry.name)
            if not overlay.is_reserved(name) and _is_symlink(fd, name):
                found.append(_found(partial(_stub, fd, name, reader)))
        yield from (error for error in found if isinstance(error, Damaged))


def _stub(fd: int, name: bytes, reader: TreeReader) -> None:
    try:
        meant = overlay.decode_target(os.readlink(name, dir_fd=fd))
    except FileNotFoundError:
        return
    if isinstance(meant, overlay.Stub):
        overlay.entry_of_stub(reader, meant)


def _is_symlink(fd: int, name: bytes) -> bool:
    try:
        return stat.S_ISLNK(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False


def _found(look: Callable[[], object]) -> object:
    try:
        return look()
    except Damaged as error:
        return error


__all__ = ["problems"]
