"""Brings a volume of format 1 to the present format.

Format 1 kept all names that begin with ``.artfs`` from users, so its overlays call their own files
``.artfs-lower``, ``.artfs-gone`` and ``.artfs-base``. Users may take these names now; ``.artfs@`` is what
they may not. Whether a tree is an old overlay can be told only while no user could have made such names: so
all are renamed at once, before anything else is done with a pending version.

artfs.json is of the new format from the first step on, so that an older artfs refuses the volume, and says
until the last one that overlays may be old. A crash between leaves what the next opener goes on with.
Blocking; whoever calls it holds the mount's lock exclusively.
"""

from __future__ import annotations

import errno
import os
import stat
import time

from artfs.errors import Busy, Damaged, VolumeError, VolumeInUse, printable
from artfs.linux.walk import scan
from artfs.pending import overlay
from artfs.pending.pending_version import PENDING, TREE, PendingVersion
from artfs.store import durable, reserve
from artfs.store.layout import COLLECTIONS, Layout, catalog_directories

_RENAMED = {b".artfs-lower": overlay.LOWER, b".artfs-gone": overlay.GONE}
_OLD_BASE = b".artfs-base"
_PATIENCE = 5.0  # seconds for others that upgrade it, or change it directly
_POLL = 0.05
_DEPTH = 4  # of collections/NAME/pending/ID


def upgrade(layout: Layout) -> None:
    """Upgrades the volume if it is of an older format and can be written.

    Raises VolumeError where that fails; then the next one tries again.
    """
    layout.reload()  # before the lock was had, another one may have upgraded it
    if not _is_wanted(layout):
        return
    try:
        try:
            _upgrade_all(layout)
        except OSError as error:
            if error.errno not in reserve.FULL or not _spend_reserve(layout):
                raise
            _upgrade_all(layout)
    except OSError as error:
        raise VolumeError(
            f"{layout.path} can't be brought to the present format: {error.strerror}"
        ) from error


def _upgrade_all(layout: Layout) -> None:
    """Upgrades everything, or what an earlier call has not come to."""
    layout.begin_upgrade()
    for path in catalog_directories(layout):
        parts = path.split(b"/")
        if len(parts) == _DEPTH and parts[-2] == PENDING:
            for name in (TREE, TREE + durable.ASIDE):
                _upgrade_tree(layout, path + b"/" + name)
    layout.end_upgrade()


def _spend_reserve(layout: Layout) -> bool:
    """Frees a little room on a full disk: only an upgraded volume can be opened to delete versions."""
    with layout.directory(COLLECTIONS) as fd:
        return reserve.release(fd)


def upgrade_alone(layout: Layout) -> None:
    """Upgrades as :func:`upgrade` does, for whoever doesn't serve the volume.

    Raises VolumeInUse while a daemon does, which is one of an older artfs then.
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
            return  # nobody takes that for a tree
        raise
    try:
        if _is_old_overlay(root):
            _check_permissions(layout, os.fstat(root), path)
            left = 1  # the walk passes over what it can't open
            for fd, entries in scan(root, overlay.is_reserved):
                left += _upgrade_directory(layout, path, fd, entries) - 1
            if left:
                raise OSError(errno.EIO, f"not every directory of '{printable(path)}' can be read")
            # Last: as long as it stands there, the next one begins anew.
            _rename(root, _OLD_BASE, overlay.BASE)
    finally:
        os.close(root)


def _upgrade_directory(layout: Layout, path: bytes, fd: int, entries: list[os.DirEntry[str]]) -> int:
    """Renames what is artfs's own in one directory of a tree; returns how many there are in it."""
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
    """Raises VolumeError for a directory of a tree in which its owner can't rename."""
    if os.geteuid() != 0 and status.st_mode & stat.S_IRWXU != stat.S_IRWXU:
        where = f"'{printable(names[0])}' in '{printable(path)}'" if names else f"'{printable(path)}'"
        raise VolumeError(
            f"{layout.path} can't be brought to the present format: give its owner all permissions for the"
            f" directory {where}"
        )


def _rename(dir_fd: int, old: bytes, new: bytes) -> None:
    durable.step("upgrade:rename")
    with overlay.unseen(dir_fd):
        os.rename(old, new, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
    durable.sync_dir(dir_fd, label="upgrade:rename")


__all__ = ["check_tree", "upgrade", "upgrade_alone"]
