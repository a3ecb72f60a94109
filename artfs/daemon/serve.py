"""A volume's mount from beginning to end: the lock, the recovery, the view, the daemon.

Blocking; runs in the main thread of the daemon's process, and returns when the mount has ended.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from artfs.errors import Busy, VolumeInUse
from artfs.fuse import session as daemon
from artfs.fuse.handshake import Options
from artfs.fuse.operations import KernelCaches, Operations
from artfs.fuse.session import Session
from artfs.fuse.supervised import Supervised
from artfs.fuse.trace import trace_if_asked
from artfs.limits import descriptors
from artfs.limits.log_rate_limit import spare_the_log
from artfs.linux import dead_mounts, mountinfo
from artfs.store.locks import Held
from artfs.store.owners import Owner, this_process
from artfs.vfs.view import View
from artfs.volume.volume import Volume
from artfs.volume.volume_references import SCHEMES

log = logging.getLogger(__name__)

_DYING = 5.0  # seconds that a killed daemon may take to let go of its lock
_POLL = 0.05
_LOCK, _PROBE = "locks/mount", 1_000_000_000_123_456_789


def mount(
    volume_path: Path,
    mountpoint: Path,
    options: Options,
    *,
    ready: Callable[[], None],
    schemes: frozenset[str] = SCHEMES,
    verify: bool = False,
    supervised: Supervised | None = None,
) -> None:
    """Mounts a volume and serves it until it is unmounted. References are brought of `schemes` alone.

    With `verify` files of every size are verified before they are first read, not small ones alone.

    Raises :class:`~artfs.errors.VolumeError` if the volume can't be opened or is mounted already, which names
    who has it, or its filesystem lacks what is needed, and :class:`~artfs.errors.MountError`.
    """
    spare_the_log()
    descriptors.raise_limit()  # recovery holds some for each pending version
    again = supervised is not None and supervised.restarts > 0
    with Volume.open(volume_path, serve=True) as volume, _own(volume, mountpoint, patient=again):
        volume.upgrade()
        if not options.read_only:
            for finding in volume.layout.check_filesystem():
                if finding.state == "limited":
                    log.info("the filesystem of %s: %s: %s", volume_path, finding.need, finding.why)
            volume.recover(alone=True)
        volume.references.schemes = schemes
        if verify:
            volume.store.verified.largest = sys.maxsize

        views: list[View] = []

        def operations(session: Session) -> Operations:
            caches = KernelCaches(session)
            view = View(volume, caches, read_only=options.read_only, write_cache=options.write_cache)
            if supervised is not None:
                view.supervised, view.restarts = supervised.now, supervised.restarts
            # Also a daemon of an ordinary user may read more than those whom it lets in.
            volume.references.world_readable_only = view.as_root or options.allow_other
            views.append(view)
            made = Operations(session, view)
            trace_if_asked(made, session)
            return made

        def stopping() -> None:
            for view in views:
                view.stopping = True

        log.info("mounting %s at %s", volume_path, mountpoint)
        daemon.serve(
            volume.path.absolute(),
            mountpoint,
            dataclasses.replace(options, time_granularity=_time_granularity(volume)),
            operations,
            ready=ready,
            stopping=stopping,
            supervised=supervised,
        )
        log.info("unmounted %s", mountpoint)


def _time_granularity(volume: Volume) -> int:
    """Returns the nanoseconds by which times of the backing filesystem step; a second, where they are more.

    Found out with the mtime of the lock that is held, which means nothing.
    """
    try:
        os.utime(_LOCK, ns=(_PROBE, _PROBE), dir_fd=volume.layout.fd)
        found = os.stat(_LOCK, dir_fd=volume.layout.fd).st_mtime_ns
    except OSError as error:  # mounted read-only, say
        log.info("how exact times are can't be tried: %s", error)
        return 1
    step = 1
    while step < 10**9 and found % (10 * step) == 0:
        step *= 10
    return step


def _own(volume: Volume, mountpoint: Path, *, patient: bool) -> Held:
    """Takes the lock of a mount. With ``patient`` waits for those who work directly, however long they do.

    Raises :class:`~artfs.errors.VolumeInUse`.
    """
    lock = volume.layout.mount_lock
    deadline, vanished = time.monotonic() + _DYING, False
    while True:
        try:
            held = lock.exclusive(blocking=False)
            break
        except Busy:
            owner = lock.read_owner()
            over = not patient and (vanished or time.monotonic() > deadline)
            if owner is None or owner.alive() is not False or over:
                raise VolumeInUse(str(volume.path), str(lock.owner())) from None
            # It was killed, and something of it hangs in the kernel; or it is gone, and others work directly.
            if not vanished:
                vanished = not os.path.exists(f"/proc/{owner.pid}")
                _end_mount(volume, owner)
                if vanished and patient:
                    log.warning("%s: commands work on the volume directly, this waits for them", mountpoint)
            time.sleep(_POLL)
    held.write_owner(this_process(str(mountpoint.absolute())))
    return held


def _end_mount(volume: Volume, owner: Owner) -> None:
    """Sees that a daemon that was killed can come to its end."""
    point = mountinfo.resolve(owner.mountpoint) if owner.mountpoint else None
    mount = None if point is None else mountinfo.at(point)
    if mount is not None and mount.ours and mount.source == str(volume.path.absolute()):
        dead_mounts.end(mount)
