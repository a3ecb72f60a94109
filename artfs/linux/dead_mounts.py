"""Mounts whose daemon has died: how they are recognized, ended and detached.

A thread of a killed daemon may hang in the kernel, which it asked to forget a name, behind the lock of a
directory in which a request waits for the daemon. It holds the device, so that the kernel does not see the
daemon's end: neither ends before the connection is aborted (:func:`end`, :func:`detach`).

Blocks; any thread may call it.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
from pathlib import Path

from artfs.errors import MountError
from artfs.linux import mountinfo
from artfs.linux.mountinfo import Mount
from artfs.printing import printable

log = logging.getLogger(__name__)


def is_dead(point: Path) -> bool:
    """Tells whether no daemon answers for the topmost mount at a path. Waits for a daemon that is slow."""
    try:
        os.statvfs(point)  # always asks the daemon; stat(2) may still be answered from the kernel's cache
    except OSError as error:
        return error.errno in (errno.ENOTCONN, errno.ECONNABORTED)
    return False


def left_by(volume: Path, point: Path) -> Mount | None:
    """Returns the mount that a dead daemon of this volume has left at a resolved path; None if there is none.

    The new mount is to replace it before it is detached, so that no process reads or writes the directory
    beneath meanwhile.
    """
    mount = mountinfo.artfs_at(point, str(volume))
    return mount if mount is not None and is_dead(point) else None


def pile(point: Path, source: str) -> list[Mount]:
    """Returns the topmost mounts at a path that are a volume's, the lowest first.

    If one of them is dead, all are: each was mounted over a dead one.
    """
    found: list[Mount] = []
    for mount in reversed(mountinfo.stack(point)):
        if not mount.is_artfs or mount.source != source:
            break
        found.insert(0, mount)
    return found


def clear(point: Path) -> None:
    """Detaches the topmost mounts at a path whose daemons have died. Raises MountError."""
    while mountinfo.artfs_at(point) is not None and is_dead(point):
        log.warning("%s: the daemon of an earlier mount has died, detaching its mount", point)
        detach_topmost(point)


def detach_topmost(point: Path) -> None:
    """Detaches the topmost mount at a path, which is dead. Raises MountError if this user may not."""
    try:
        mountinfo.detach(point)
    except OSError as error:
        raise MountError(
            f"cannot detach the dead mount at {printable(os.fsencode(point))}: {error.strerror};"
            " run 'umount -l' on it as root"
        ) from None


def end(mount: Mount) -> None:
    """Aborts the connection of the topmost mount at its path, whose daemon was killed.

    The dead mount stays, if it can, until it is replaced, so that no process sees the directory beneath it.
    """
    log.warning("%s: the daemon of this mount was killed, aborting its connection", mount.point)
    if not mountinfo.abort_only(mount):
        with contextlib.suppress(OSError):
            detach(mount, dead=True)


def detach(mount: Mount, *, dead: bool) -> None:
    """Detaches a mount, and aborts the connection if its daemon is `dead`. Raises OSError."""
    if dead:
        mountinfo.abort(mount.device)
    mountinfo.detach(mount.point, force=dead)
