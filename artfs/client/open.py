"""Finds the volume that a path means, and opens it directly or through its mount.

Owns the choice between a mount and the volume itself. Blocking; any thread.
"""

from __future__ import annotations

import errno
import json
import os
import time
from pathlib import Path
from typing import Any

from artfs.client.interface import Client
from artfs.errors import Busy, NotAVolume, VolumeError, VolumeInUse
from artfs.printing import printable
from artfs.store.layout import Layout, is_volume

VARIABLE = "ARTFS_VOLUME"
DEFAULT = ".artfs-volume"
_DYING = 5.0  # seconds that a killed process may take to end


def find_volume() -> Path | None:
    """Returns the path to use where none is given: `$ARTFS_VOLUME`, the mount around the working directory,
    or `./.artfs-volume`; None if there is none of these."""
    given = os.environ.get(VARIABLE)
    if given:
        return Path(given)
    here = Path.cwd()
    if mount_around(here) is not None:
        return here
    return Path(DEFAULT) if is_volume(DEFAULT) else None


def open_client(path: str | os.PathLike[str]) -> Client:
    """Opens the volume at a path, or the mount around it, or the part of a mount that can be seen.

    A volume that a daemon serves is used through its mount. Raises :class:`VolumeInUse` if that can't be
    reached from here, and the :class:`VolumeError` that says why there is no volume.
    """
    path = Path(path)
    root = None
    if not is_volume(path):
        root = mount_around(path)
        if root is None:
            from artfs.client.mounted.subtree_client import subtree_around

            subtree = subtree_around(path)
            if subtree is not None:
                return subtree
    if root is None:
        with Layout.open(path) as layout:
            root = _mount_of(layout)
    if root is not None:
        from artfs.client.mounted.mounted_client import MountedClient

        return MountedClient(root)
    from artfs.client.direct.direct_client import DirectClient
    from artfs.volume.volume import Volume

    return DirectClient(Volume.open(path))


def _mount_of(layout: Layout) -> Path | None:
    """Returns the root of a volume's mount; None if no daemon serves it. Raises VolumeInUse."""
    deadline = time.monotonic() + _DYING
    while True:
        owner = layout.mount_lock.read_owner()
        if owner is None or not _is_held(layout):
            return None
        root = Path(owner.mountpoint or "/nowhere")
        try:
            # The mount of a killed daemon is not read: it may never answer.
            status = None if owner.alive() is False else _status(root)
        except NotAVolume:
            status = None
        if status is None and owner.alive() is False:
            # It was killed and is about to release the lock, or a direct client holds the lock.
            if time.monotonic() < deadline:
                time.sleep(0.05)
                continue
            raise VolumeInUse(
                layout.path,
                f"{owner}, which was killed and hangs: run 'artfs umount' there",
            )
        if status is None or status.get("id") != layout.config.id:
            raise VolumeInUse(layout.path, f"{owner}, which can't be reached from here: use it there")
        return root


def mount_around(path: Path) -> Path | None:
    """Returns the root of the mount around a path; None if there is none.

    Raises NotAVolume if there is one whose daemon has died.
    """
    path = Path(os.path.realpath(path))
    for root in (path, *path.parents):
        status = _status(root)
        if status is not None and "store" in status and "format" in status:
            return root
    return None


def _status(root: Path) -> dict[str, Any] | None:
    try:
        status = json.loads((root / ".artfs" / "status").read_bytes())
    except OSError as error:
        if error.errno in (errno.ENOTCONN, errno.ECONNABORTED):
            raise NotAVolume(
                printable(os.fsencode(root)), "the daemon of this mount has died; mount the volume again"
            ) from None
        return None
    except ValueError:
        return None
    return status if isinstance(status, dict) else None


def _is_held(layout: Layout) -> bool:
    """Returns whether a process holds the mount's lock.

    Only for a lock with a recorded owner: this must not keep a daemon that starts from taking it.
    """
    try:
        layout.mount_lock.shared(blocking=False).release()
    except Busy:
        return True
    except OSError as error:
        raise VolumeError(f"{layout.path}: its locks can't be read: {error.strerror}") from None
    return False
