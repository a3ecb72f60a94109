"""Upgrades a volume of format 1 to the present format.

Format 1 reserved all names that begin with ``.artfs``, and named the files of overlays ``.artfs-lower``,
``.artfs-gone`` and ``.artfs-base``. Users may use these names now; only names that begin with ``.artfs@`` are
reserved. An old overlay can be recognized only while no user could make such names: so all files are renamed
at once, before a pending version is used.

The first step makes artfs.json of the new format, so that an older artfs refuses the volume. Until the last
step it says that overlays may be old. After a crash the next opener continues. Blocking; the caller holds the
mount's lock exclusively.
"""

from __future__ import annotations

import errno
import os
import stat
import time

from artfs.errors import Busy, Damaged, VolumeError, VolumeInUse
from artfs.linux.walk import scan
from artfs.pending import overlay
from artfs.pending.pending_version import PENDING, TREE, PendingVersion
from artfs.printing import printable
from artfs.store import durable, reserve
from artfs.store.layout import COLLECTIONS, Layout, catalog_directories

_RENAMED = {b".artfs-lower": overlay.LOWER, b".artfs-gone": overlay.WHITEOUTS}
_OLD_BASE = b".artfs-base"
_PATIENCE = 5.0  # seconds to wait for others that upgrade the volume, or change it directly
_POLL = 0.05
_DEPTH = 4  # of collections/NAME/pending/ID


def upgrade(layout: Layout) -> None:
    """Upgrades the volume if it is of an older format and can be written.

    Raises VolumeError if that fails; the next opener tries again.
    """
    layout.reload()  # another process may have upgraded it before the lock was taken
    if not _is_wanted(layout):
        return
    try:
        try:
            _upgrade_all(layout)
        except OSError as error:
            if error.errno not in durable.FULL or not _spend_reserve(layout):
                raise
            _upgrade_all(layout)
    except OSError as error:
        raise VolumeError(
            f"{layout.path} can't be upgraded to the present format: {error.strerror}"
        ) from error


def _upgrade_all(layout: Layout) -> None:
    """Upgrades everything, or the rest after an interrupted call."""
    layout.begin_upgrade()
    for path in catalog_directories(layout):
        parts = path.split(b"/")
        if len(parts) == _DEPTH and parts[-2] == PENDING:
            for name in (TREE, TREE + durable.ASIDE):
                _upgrade_tree(layout, path + b"/" + name)
    layout.end_upgrade()


def _spend_reserve(layout: Layout) -> bool:
    """Frees some space on a full disk: only an upgraded volume can be opened to delete versions."""
    with layout.directory(COLLECTIONS) as fd:
        return reserve.release(fd)


def upgrade_alone(layout: Layout) -> None:
    """Upgrades as :func:`upgrade` does, for a process that does not serve the volume.

    Raises VolumeInUse while a daemon serves it, which is then one of an older artfs.
    """
    deadline = time.monotonic() + _PATIENCE
    while _is_wanted(layout):
        try:
            with layout.mount_lock.exclusive(blocking=False):
                upgrade(layout)
        except Busy:
            if time.monotonic() > deadline:
                raise VolumeInUse(layout.path, str(layout.mount_lock.owner())) from None
            time.sleep(_POLL)
            layout.reload()


def _is_wanted(layout: Layout) -> bool:
    return not (layout.is_current or os.fstatvfs(layout.fd).f_flag & os.ST_RDONLY)


def check_tree(layout: Layout, pending_version: PendingVersion) -> None:
    """Raises Damaged for a patch of an older format in a volume that can't be upgraded."""
    if layout.is_current:
        return
    root = pending_version.open_tree()
    try:
        if _is_old_overlay(root):
            raise Damaged(pending_version.what(), "it is of an older format, and the volume can't be written")
    finally:
        os.close(root)


def _is_old_overlay(root_fd: int) -> bool:
    try:
        os.stat(_OLD_BASE, dir_fd=root_fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _upgrade_tree(layout: Layout, path: bytes) -> None:
    try:
        root = layout.open_directory(path)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return  # it is not a tree
        raise
    try:
        if _is_old_overlay(root):
            _check_permissions(layout, os.fstat(root), path)
            left = 1  # the walk passes over directories that it can't open
            for fd, entries in scan(root, overlay.is_reserved):
                left += _upgrade_directory(layout, path, fd, entries) - 1
            if left:
                raise OSError(errno.EIO, f"not every directory of '{printable(path)}' can be read")
            # Last: while it exists, the next call begins again.
            _rename(root, _OLD_BASE, overlay.BASE)
    finally:
        os.close(root)


def _upgrade_directory(layout: Layout, path: bytes, fd: int, entries: list[os.DirEntry[str]]) -> int:
    """Renames the reserved files in one directory of a tree; returns how many it has."""
    below = 0
    for entry in entries:
        name = os.fsencode(entry.name)
        if name in _RENAMED:
            _rename(fd, name, _RENAMED[name])
        elif entry.is_dir(follow_symlinks=False) and not overlay.is_reserved(name):
            below += 1
            _check_permissions(layout, entry.stat(follow_symlinks=False), path, name)
    return below


def _check_permissions(layout: Layout, status: os.stat_result, path: bytes, *names: bytes) -> None:
    """Raises VolumeError for a directory in which its owner may not rename."""
    if os.geteuid() != 0 and status.st_mode & stat.S_IRWXU != stat.S_IRWXU:
        where = f"'{printable(names[0])}' in '{printable(path)}'" if names else f"'{printable(path)}'"
        raise VolumeError(
            f"{layout.path} can't be upgraded to the present format: give its owner all permissions for the"
            f" directory {where}"
        )


def _rename(dir_fd: int, old: bytes, new: bytes) -> None:
    durable.step("upgrade:rename")
    with overlay.keeping_mtime(dir_fd):
        os.rename(old, new, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
    durable.sync_dir(dir_fd, label="upgrade:rename")


__all__ = ["check_tree", "upgrade", "upgrade_alone"]
