"""Unmounts, and waits for the daemon's end.

Runs in the process of a command. Nothing here asks the mounted filesystem, so a daemon that is dead or hangs
doesn't hang it.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from pathlib import Path

from artfs.errors import MountError
from artfs.linux import dead_mounts, mountinfo
from artfs.linux.mountinfo import Mount
from artfs.linux.procfs import is_stopped
from artfs.printing import printable
from artfs.store.layout import MOUNT_LOCK, SUPERVISOR_LOCK
from artfs.store.locks import Lock
from artfs.store.owners import Owner

TIMEOUT = 60.0  # longer than a daemon may take to end
_PAUSE = 0.02


def unmount(mountpoint: str | os.PathLike[str], *, timeout: float = TIMEOUT) -> None:
    """Unmounts, also if the mount is in use or its daemon is dead; returns when mount and daemon are gone.

    Signals the supervisor, which would start the daemon again, or the daemon, if this process can see it, so
    that it ends in order. Otherwise it detaches the mount itself; if the daemon was killed, callers that
    still wait for it get an error.

    Raises:
        MountError: it is not a mount of artfs, or this user may not unmount it; the daemon is stopped, or
            does not end in time.
    """
    point = mountinfo.resolve(mountpoint)
    mount = _ours(point)
    covered = [other for other in mountinfo.stack(point) if other.is_artfs and other.source == mount.source]
    deadline = time.monotonic() + timeout
    with contextlib.ExitStack() as stack:
        owner = process = None
        for lock, called in ((SUPERVISOR_LOCK, "supervisor"), (MOUNT_LOCK, "daemon")):
            owner = _owner(mount, lock)
            process = None if owner is None else _open(owner)
            if owner is not None and process is not None:
                stack.callback(os.close, process)
                _end(process, owner, f"the {called} of {_shown(point)}, process {owner.pid},", deadline)
        # A daemon that ended in order has detached its mount. One that was killed has not, and its mount may
        # be over another dead one.
        for left in reversed(covered):
            if _is_mounted(left):
                try:
                    dead_mounts.detach(left, dead=owner is not None and owner.alive() is False)
                except OSError as error:
                    if _is_mounted(left):  # else its daemon was faster
                        raise MountError(f"{_shown(point)} can't be unmounted: {error.strerror}") from None
        if process is not None:
            _ends(process, deadline)  # another user's: not signalled, it ends because it has no mount
        while any(_is_mounted(left) for left in covered):
            if time.monotonic() > deadline:
                raise MountError(f"{_shown(point)} is still mounted after {timeout:.0f} seconds")
            time.sleep(_PAUSE)


def _ours(point: Path) -> Mount:
    mount = mountinfo.at(point)
    if mount is not None and mount.is_artfs:
        return mount
    holder = mountinfo.containing(point)
    if holder is not None and holder.is_artfs:
        raise MountError(f"{_shown(point)} is not a mount but inside one: unmount {_shown(holder.point)}")
    what = f"a mount of type {mount.type}, not of artfs" if mount is not None else "not a mount"
    raise MountError(f"nothing to unmount: {_shown(point)} is {what}")


def _is_mounted(mount: Mount) -> bool:
    # Ids and devices are used again at once: only all fields together tell a mount from the next one.
    return mount in mountinfo.table()


def _owner(mount: Mount, lock: bytes) -> Owner | None:
    """Returns the process that has this mount, as a lock of the volume names it; None if it names none."""
    try:
        directory = os.open(Path(mount.source) / "locks", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        owner = Lock(directory, lock).read_owner()
        if owner is None or not owner.mountpoint or mountinfo.resolve(owner.mountpoint) != mount.point:
            return None
        return owner
    except OSError:
        return None
    finally:
        os.close(directory)


def _open(owner: Owner) -> int | None:
    """Opens a pidfd of a process; None if it doesn't run here."""
    try:
        pidfd = os.pidfd_open(owner.pid)
    except OSError:
        return None
    # Checked after the pidfd was opened: the pid can't belong to another process by now.
    if owner.alive():
        return pidfd
    os.close(pidfd)
    return None


def _end(process: int, owner: Owner, called: str, deadline: float) -> None:
    """Ends a process by SIGTERM, and waits for that. Raises MountError."""
    if is_stopped(owner.pid):
        raise MountError(
            f"{called} is stopped: continue it ('kill -CONT {owner.pid}') or kill it"
            f" ('kill -KILL {owner.pid}'), then unmount again"
        )
    started = time.monotonic()
    try:
        signal.pidfd_send_signal(process, signal.SIGTERM)
    except (ProcessLookupError, PermissionError):  # another user's process ends once it has no mount
        return
    if not _ends(process, deadline):
        raise MountError(f"{called} did not end in {deadline - started:.0f} seconds; see its log")


def _ends(daemon: int, deadline: float) -> bool:
    poller = select.poll()
    poller.register(daemon, select.POLLIN)
    return bool(poller.poll(max(0.0, deadline - time.monotonic()) * 1000))


def _shown(path: Path) -> str:
    return printable(os.fsencode(path))
