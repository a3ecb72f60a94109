"""Mounts whose daemon has died: told from living ones, ended, taken away.

A thread of a killed daemon may hang in the kernel, which it asked to forget a name, behind the lock of a
directory in which a request waits for the daemon. It holds the device, so that the kernel does not see its
end: then neither can come to an end before the connection is ended (:func:`end`, :func:`take_away`).

Knows neither pyfuse3 nor trio. Blocks; any thread may call it.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
from pathlib import Path

from artfs.errors import MountError, printable
from artfs.linux import mountinfo
from artfs.linux.mountinfo import Mount

log = logging.getLogger(__name__)


def is_dead(point: Path) -> bool:
    """Whether nobody answers for the topmost mount at a path. Waits for a daemon that is only slow."""
    try:
        os.statvfs(point)  # always asks the daemon; stat(2) may still be answered from the kernel's cache
    except OSError as error:
        return error.errno in (errno.ENOTCONN, errno.ECONNABORTED)
    return False


def left_by(volume: Path, point: Path) -> Mount | None:
    """Returns what a daemon of this volume that died has left at a resolved path, None if there is nothing.

    That is to be replaced by the new mount, and only then taken away, so that nobody sees, or writes into,
    the directory beneath meanwhile.
    """
    mount = mountinfo.at(point)
    if mount is not None and mount.ours and mount.source == str(volume) and is_dead(point):
        return mount
    return None


def pile(point: Path, source: str) -> list[Mount]:
    """Returns the mounts of a volume that lie uppermost over each other at a path, the lowest first.

    Where one of them is dead, all are: each was mounted over one that was.
    """
    found: list[Mount] = []
    for mount in reversed(mountinfo.stack(point)):
        if not mount.ours or mount.source != source:
            break
        found.insert(0, mount)
    return found


def clear(point: Path) -> None:
    """Takes away all that dead daemons have left uppermost at a path. Raises MountError."""
    while (mount := mountinfo.at(point)) is not None and mount.ours and is_dead(point):
        log.warning("%s: the daemon of an earlier mount has died, its mount is taken away", point)
        take_topmost_away(point)


def take_topmost_away(point: Path) -> None:
    """Takes away the topmost mount at a path, which is dead. Raises MountError if this user may not."""
    try:
        mountinfo.detach(point)
    except OSError as error:
        raise MountError(
            f"{printable(os.fsencode(point))} holds a dead mount that this user can't take away"
            f" ({error.strerror}): run 'umount -l' on it as root"
        ) from None


def end(mount: Mount) -> None:
    """Ends the connection of the topmost mount at its place, whose daemon was killed.

    The dead mount stays, where it can, until a new one is there: nobody is to see the directory beneath.
    """
    log.warning("%s: the daemon of this mount was killed, its connection is ended", mount.point)
    if not mountinfo.cut_off(mount):
        with contextlib.suppress(OSError):
            take_away(mount, dead=True)


def take_away(mount: Mount, *, dead: bool) -> None:
    """Detaches a mount; of a daemon that is `dead` also the connection. Raises OSError."""
    if dead:
        mountinfo.abort(mount.device)
    mountinfo.detach(mount.point, force=dead)
