"""A FUSE session: from the mount to its end.

Owns the order of beginning and end, and signals. Knows nothing of volumes. ``run`` is called in the main
thread of a process that does nothing else: pyfuse3 allows one mount a process. The process holds no
descriptor on its own mount and never looks into it.

A session ends in this order, whatever ends it (SIGTERM, SIGINT, an umount from outside, a failure):

1. ``stopping`` is called, so that requests which wait for something stop waiting.
2. No new request is read; those under way have ``GRACE`` seconds to be answered.
3. The mount is detached by force: callers that still wait get an error. A shell whose working directory is in
   the mount, or a mount namespace that has it, finds it dead (ENOTCONN).
4. Notifications end, and the device is closed.

After ``HARD_LIMIT`` seconds the process exits as if killed, which a volume has to survive anyway.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import pyfuse3
import trio

from artfs.errors import MountError
from artfs.fuse import handshake
from artfs.fuse.handshake import FuseConnection, Options
from artfs.fuse.invalidation import Notifier
from artfs.fuse.loop import quick_loop
from artfs.limits import numbers
from artfs.linux import mountinfo, syscalls
from artfs.linux.mountinfo import Mount

log = logging.getLogger(__name__)

FuseOperations: TypeAlias = pyfuse3.Operations

GRACE = 5.0
FLUSH_LIMIT = 20.0
HARD_LIMIT = 40.0

# An event of the mount table may be lost between looking and waiting.
_TABLE_RECHECK = 30.0
_TABLE_PAUSE = 0.2

# Each poll(2) and pread(2) of the loop releases the GIL, and gets it back from a thread that computes after
# this time: with Python's 5 ms, one such thread would delay each request by as much.
_SWITCH_INTERVAL = 0.0005


def run(
    point: Path,
    options: Options,
    operations: FuseOperations,
    notifier: Notifier,
    *,
    dead: Mount | None = None,
    ready: Callable[[], None],
    stopping: Callable[[], None],
    keep_dead: bool = False,
) -> None:
    """Mounts at a resolved path and answers requests until the mount ends.

    ``dead`` is the mount of a dead daemon to replace. ``ready`` is called when the mount answers,
    ``stopping`` when the end begins, both on the loop's thread: they must not block. With ``keep_dead`` a
    mount that ends by a failure stays, dead: users get ENOTCONN until it is replaced, and never see the
    directory beneath it.

    Raises:
        MountError: the mount can't be made, or ended by a failure; the text says why.
    """
    os.umask(0)
    sys.setswitchinterval(_SWITCH_INTERVAL)
    try:
        connection = handshake.connect(point, options, dead)
        with quick_loop(), _initialized(connection, operations, ready):
            mount = connection.mount or mountinfo.artfs_at(point)
            session = _Session(connection, mount, notifier, stopping, keep_dead=keep_dead)
            try:
                trio.run(session.run)
            except ExceptionGroup as failures:
                log.critical("the mount ended by a failure", exc_info=failures)
                raise MountError(f"the mount ended by a failure: {_first(failures)}") from failures
        if connection.failure is not None:
            raise MountError(f"the kernel refused the handshake: {connection.failure}")
    finally:
        notifier.close(wait=False)


@contextlib.contextmanager
def _initialized(
    connection: FuseConnection, operations: FuseOperations, ready: Callable[[], None]
) -> Iterator[None]:
    """Initializes pyfuse3 for as long as the context lasts."""

    def init() -> None:
        connection.answer_init()
        if connection.failure is None:
            ready()

    operations.init = init  # type: ignore[method-assign]
    # In the plain way libfuse asks the kernel for these on behalf of the operations.
    operations.enable_writeback_cache = connection.options.write_cache
    operations.supports_dot_lookup = True
    try:
        pyfuse3.init(operations, connection.path_for_pyfuse, set(connection.options_for_pyfuse))
    except RuntimeError as error:
        connection.abandon()
        raise MountError(
            f"{connection.mountpoint} can't be mounted: {error}; libfuse wrote why above"
        ) from error
    try:
        yield
    finally:
        pyfuse3.close(unmount=False)


class _Session:
    """The tasks of a running mount."""

    def __init__(
        self,
        connection: FuseConnection,
        mount: Mount | None,
        notifier: Notifier,
        stopping: Callable[[], None],
        *,
        keep_dead: bool,
    ) -> None:
        self._connection, self._notifier, self._stopping = connection, notifier, stopping
        self._point = connection.mountpoint
        self._device = None if mount is None else mount.device
        self._keep_dead, self._failed = keep_dead, False
        self._stop = trio.Event()
        self._loop_ended = trio.Event()
        self._loop_scope = trio.CancelScope()

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._wait_for_signals)
            nursery.start_soon(self._watch_mount_table)
            nursery.start_soon(self._answer_requests)
            try:
                await self._stop.wait()
            finally:
                with trio.CancelScope(shield=True):
                    await self._end()
            nursery.cancel_scope.cancel()

    async def _answer_requests(self) -> None:
        try:
            with self._loop_scope:
                await pyfuse3.main(min_tasks=1, max_tasks=numbers.REQUESTS)
        except Exception:
            self._failed = True
            raise
        finally:
            self._loop_ended.set()
            self._stop.set()

    async def _wait_for_signals(self) -> None:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async for number in signals:
                log.info("%s: unmounting %s", signal.Signals(number).name, self._point)
                self._stop.set()

    async def _watch_mount_table(self) -> None:
        """Stops the session when its last mount is gone from this namespace.

        The connection may outlive the mount if another namespace or a working directory holds it: then no end
        of file is read. The kernel reports a change of the table as EPOLLPRI, which trio can't wait for; an
        epoll in between can.
        """
        if self._device is None:
            return
        with open("/proc/self/mountinfo", "rb") as table, select.epoll() as changes:
            changes.register(table, select.EPOLLPRI)
            while self._in_table():
                with trio.move_on_after(_TABLE_RECHECK):
                    await trio.lowlevel.wait_readable(changes.fileno())
                    changes.poll(0)
                    await trio.sleep(_TABLE_PAUSE)
        self._stop.set()

    def _in_table(self) -> bool:
        try:
            return any(mount.device == self._device for mount in mountinfo.table())
        except OSError as error:  # no descriptor or memory just now: no reason to end
            log.warning("the mount table can't be read: %s", error.strerror)
            return True

    async def _end(self) -> None:
        _exit_hard_after(HARD_LIMIT)
        try:
            self._stopping()
        except Exception:  # the end must go on, whatever the callback does
            log.exception("the operations could not be notified of the end")
        if not self._loop_ended.is_set():
            if self._connection.options.write_cache:
                await self._flush()
            pyfuse3.terminate()
            with trio.move_on_after(GRACE):
                await self._loop_ended.wait()
        await trio.to_thread.run_sync(self._detach)
        if not self._loop_ended.is_set():
            log.warning("requests under way did not end in time and are discarded")
            self._loop_scope.cancel()
        await trio.to_thread.run_sync(self._notifier.close)
        await self._loop_ended.wait()

    async def _flush(self) -> None:
        """Lets the kernel write its dirty pages while requests are still answered."""
        with trio.move_on_after(FLUSH_LIMIT):
            await trio.to_thread.run_sync(_syncfs, self._point, abandon_on_cancel=True)

    def _detach(self) -> None:
        if self._failed and self._keep_dead:
            return  # callers that wait get an error when the device is closed
        ours = {self._device}
        if (dead := self._connection.dead) is not None:
            ours.add(dead.device)
        while (mount := mountinfo.artfs_at(self._point)) is not None and mount.device in ours:
            ours.remove(mount.device)
            try:
                mountinfo.detach(self._point, force=True)
            except OSError as error:
                log.error("%s could not be unmounted: %s", self._point, error.strerror)
        if self._device in ours and any(other.device == self._device for other in mountinfo.table()):
            log.warning("%s is covered by another mount or was moved: a dead mount is left", self._point)
        if self._device is not None:
            mountinfo.abort(self._device)


def _syncfs(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        syscalls.syncfs(fd)
    except OSError as error:
        log.error("dirty pages of the mount could not be written: %s", error.strerror)
    finally:
        os.close(fd)


def _exit_hard_after(seconds: float) -> None:
    def exit_hard() -> None:
        log.critical("the mount did not end within %d seconds: the process exits as if killed", seconds)
        os._exit(1)

    timer = threading.Timer(seconds, exit_hard)
    timer.daemon = True
    timer.start()


def _first(failures: BaseExceptionGroup[Exception]) -> Exception:
    failure = failures.exceptions[0]
    return _first(failure) if isinstance(failure, BaseExceptionGroup) else failure
