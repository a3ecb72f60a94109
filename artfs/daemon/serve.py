"""A volume's mount from beginning to end: the lock, the recovery, the view, the FUSE session.

Blocking; runs in the main thread of the daemon's process, and returns when the mount has ended.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

from artfs.daemon.supervisor import Supervised
from artfs.errors import Busy, MountError, VolumeInUse
from artfs.fuse import prerequisites, session
from artfs.fuse.handshake import Options
from artfs.fuse.invalidation import Notifier
from artfs.fuse.operations import Operations
from artfs.fuse.session import FuseOperations
from artfs.fuse.trace import trace_if_asked
from artfs.limits import descriptors, log_rate_limit
from artfs.linux import dead_mounts, mountinfo
from artfs.store.locks import HeldLock
from artfs.store.owners import Owner, this_process
from artfs.vfs.view import View
from artfs.volume.volume import Volume
from artfs.volume.volume_references import SCHEMES, ReferencePolicy

log = logging.getLogger(__name__)

_DYING = 5.0  # seconds that a killed daemon may take to release its lock
_POLL = 0.05
_LOCK, _PROBE = "locks/mount", 1_000_000_000_123_456_789


def serve_volume(
    volume_path: Path,
    mountpoint: Path,
    options: Options,
    *,
    ready: Callable[[], None],
    schemes: frozenset[str] = SCHEMES,
    verify: bool = False,
    supervised: Supervised | None = None,
) -> None:
    """Mounts a volume and serves it until it is unmounted. It fetches references of these `schemes` only.

    With `verify` it verifies files of every size before they are first read, not only small ones.

    Raises:
        VolumeError: the volume can't be opened, is mounted already (the text names the owner), or its
            filesystem lacks something.
        MountError: the mount can't be made, or ended by a failure.
    """
    log_rate_limit.install()
    descriptors.raise_limit()  # recovery holds some for each pending version
    again = supervised is not None and supervised.restarts > 0
    # A daemon of an ordinary user, too, may read more than the users whom it admits.
    policy = ReferencePolicy(schemes, world_readable_only=os.geteuid() == 0 or options.allow_other)
    with (
        Volume.open_to_serve(volume_path, policy, verify_all=verify) as volume,
        _own(volume, mountpoint, patient=again),
    ):
        volume.upgrade()
        if not options.read_only:
            for finding in volume.layout.check_filesystem():
                if finding.state == "limited":
                    log.info("the filesystem of %s: %s: %s", volume_path, finding.need, finding.why)
            volume.recover(alone=True)
        notifier = Notifier()
        view = View(
            volume,
            notifier,
            read_only=options.read_only,
            write_cache=options.write_cache,
            supervised=supervised.now if supervised else lambda: False,
            restarts=supervised.restarts if supervised else 0,
        )
        operations = Operations(view, notifier)
        trace_if_asked(operations, notifier)
        log.info("mounting %s at %s", volume_path, mountpoint)
        serve(
            volume.path.absolute(),
            mountpoint,
            dataclasses.replace(options, time_granularity=_time_granularity(volume)),
            operations,
            notifier,
            ready=ready,
            stopping=view.stop,
            supervised=supervised,
        )
        log.info("unmounted %s", mountpoint)


def serve(
    volume: Path,
    mountpoint: Path,
    options: Options,
    operations: FuseOperations,
    notifier: Notifier,
    *,
    ready: Callable[[], None],
    stopping: Callable[[], None],
    supervised: Supervised | None = None,
) -> None:
    """Mounts and answers requests until the mount ends, as :func:`artfs.fuse.session.run` does.

    The mount replaces that of a daemon of the volume that has died. A supervised daemon that is started again
    finds that mount gone if it was unmounted on purpose, and then does not mount.

    Raises:
        MountError: the mount can't be made, or ended by a failure; the text says why.
    """
    point = mountinfo.resolve(mountpoint)
    dead = dead_mounts.left_by(volume, point)
    if dead is not None:
        log.info("%s: the daemon of an earlier mount has died, replacing its mount", point)
    elif supervised is not None and supervised.restarts:
        raise MountError(f"{point} is not mounted any more")
    else:
        point = prerequisites.prepare_mountpoint(volume, mountpoint)
    prerequisites.check_machine(allow_other=options.allow_other)
    session.run(
        point,
        dataclasses.replace(options, source=str(volume)),
        operations,
        notifier,
        dead=dead,
        ready=ready,
        stopping=stopping,
        keep_dead=supervised is not None,
    )


def _time_granularity(volume: Volume) -> int:
    """Returns the nanoseconds by which times of the backing filesystem step; a second, if they are more.

    It is found by the mtime of the lock that is held, which means nothing.
    """
    try:
        os.utime(_LOCK, ns=(_PROBE, _PROBE), dir_fd=volume.layout.fd)
        found = os.stat(_LOCK, dir_fd=volume.layout.fd).st_mtime_ns
    except OSError as error:  # mounted read-only, for example
        log.info("the granularity of times can't be found: %s", error)
        return 1
    step = 1
    while step < 10**9 and found % (10 * step) == 0:
        step *= 10
    return step


def _own(volume: Volume, mountpoint: Path, *, patient: bool) -> HeldLock:
    """Takes the lock of a mount. With ``patient`` waits for processes that work on the volume directly.

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
            # The owner was killed. A thread of it hangs in the kernel, or it is gone and others have locked.
            if not vanished:
                vanished = not os.path.exists(f"/proc/{owner.pid}")
                _end_mount(volume, owner)
                if vanished and patient:
                    log.warning("%s: waiting for commands that work on the volume directly", mountpoint)
            time.sleep(_POLL)
    held.write_owner(this_process(str(mountpoint.absolute())))
    return held


def _end_mount(volume: Volume, owner: Owner) -> None:
    """Ends the mount of a killed daemon, so that its process can end."""
    if owner.mountpoint:
        mount = mountinfo.artfs_at(mountinfo.resolve(owner.mountpoint), str(volume.path.absolute()))
        if mount is not None:
            dead_mounts.end(mount)
