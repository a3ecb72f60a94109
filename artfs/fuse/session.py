"""The process behind a mount: from the empty directory to the unmounted one.

Owns the order of beginning and end, signals and limits. Knows nothing of volumes but the path. ``serve`` runs
in the main thread of a process that does nothing else: pyfuse3 allows one mount a process. The daemon holds
no descriptor on its own mount and never looks into it.

How it ends, whoever wants it (SIGTERM, SIGINT, ``Session.stop``, an umount from outside, a failure):

1. ``stopping`` is called, so that requests which wait for something give up.
2. No new request is read; those under way get ``GRACE`` seconds to answer.
3. The mount is detached by force: whoever still waits gets an error. A shell that sits in the mount and a
   mount namespace that holds it find it dead (ENOTCONN), and keep nothing waiting.
4. Notifications end, the device is closed, ``stopped`` is called.

It takes ``HARD_LIMIT`` seconds at most: then the process ends as if killed, which a volume has to survive
anyway.

Under a supervisor (``supervised``) a failure leaves the mount in its place, dead: users get ENOTCONN until
the next daemon replaces it, and never see the directory beneath.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pyfuse3
import trio

from artfs.errors import MountError
from artfs.fuse import handshake, prerequisites
from artfs.fuse.handshake import Connection, Options
from artfs.fuse.invalidation import Notifier
from artfs.fuse.loop import quick_loop
from artfs.fuse.supervised import Supervised
from artfs.limits import numbers
from artfs.linux import mountinfo
from artfs.linux.dead_mounts import left_by
from artfs.linux.mountinfo import Mount

log = logging.getLogger(__name__)

GRACE = 5.0
FLUSH_LIMIT = 20.0
HARD_LIMIT = 40.0
_TABLE_RECHECK = 30.0

# Each poll(2) and pread(2) of the loop lets go of the GIL. A thread that computes gives it back after this
# time only: with Python's 5 ms, one such thread makes each request wait as long.
_SWITCH_INTERVAL = 0.0005
_TABLE_PAUSE = 0.2


def _nothing() -> None:
    pass


class Session:
    """One mount, as the operations see it.

    ``connection`` is there once the mount is made, which is after the operations were built.
    """

    def __init__(self, volume: Path, mountpoint: Path, options: Options) -> None:
        self.volume, self.mountpoint, self.options = volume, mountpoint, options
        self.notifier = Notifier()
        self.connection: Connection | None = None
        self._token: trio.lowlevel.TrioToken | None = None
        self._stop: Callable[[], None] = _nothing

    def answer_init(self) -> None:
        """To be called by ``Operations.init()``: the kernel gets its answer, and the mount is ready. Never
        raises."""
        if self.connection is not None:
            self.connection.answer_init()

    def stop(self) -> None:
        """Ends the daemon, soon. Any thread may call it; harmless when it is ending already."""
        if self._token is not None:
            with contextlib.suppress(trio.RunFinishedError):
                self._token.run_sync_soon(self._stop, idempotent=True)


def serve(
    volume: Path,
    mountpoint: Path,
    options: Options,
    build_operations: Callable[[Session], pyfuse3.Operations],
    *,
    ready: Callable[[], None] = _nothing,
    stopping: Callable[[], None] = _nothing,
    stopped: Callable[[], None] = _nothing,
    supervised: Supervised | None = None,
) -> None:
    """Mounts a volume and answers requests until the mount ends, in the foreground.

    ``build_operations`` is called before anything is mounted, and must open what can fail; its ``init()``
    calls ``session.answer_init()``. ``ready`` is called when the mount answers, ``stopping`` when the end
    begins (both on the loop's thread: they must not block), ``stopped`` when no request can come any more,
    also after a failure.

    A daemon that a supervisor starts again takes the place of the mount that the one before has left. If that
    is gone, it was unmounted on purpose, and is not made again.

    Raises:
        MountError: the mount can't be made, or ended by a failure; the text says why.
    """
    point = mountinfo.resolve(mountpoint)
    dead = left_by(volume, point)
    if dead is not None:
        log.info("%s: the daemon of an earlier mount has died, its mount is replaced", point)
    elif supervised is not None and supervised.restarts:
        raise MountError(f"{point} is not mounted any more")
    else:
        point = prerequisites.prepare_mountpoint(volume, mountpoint)
    prerequisites.check_machine(allow_other=options.allow_other)
    os.umask(0)
    sys.setswitchinterval(_SWITCH_INTERVAL)
    session = Session(volume, point, dataclasses.replace(options, source=str(volume)))
    try:
        operations = build_operations(session)
        # For the plain way: libfuse asks for these on behalf of the operations.
        operations.enable_writeback_cache = options.write_cache
        operations.supports_dot_lookup = options.export
        session.connection = connection = handshake.connect(point, session.options, dead)
        with quick_loop(), _initialized(connection, operations):
            mount = connection.mount or _made_at(point)
            device = None if mount is None else mount.device
            try:
                trio.run(_Daemon(session, device, ready, stopping, keep_place=supervised is not None).run)
            except ExceptionGroup as failures:
                log.critical("the mount ended by a failure", exc_info=failures)
                raise MountError(f"the mount ended by a failure: {_first(failures)}") from failures
        if connection.failure is not None:
            raise MountError(f"the kernel refused the handshake: {connection.failure}")
    finally:
        session.notifier.close(wait=False)
        stopped()


@contextlib.contextmanager
def _initialized(connection: Connection, operations: pyfuse3.Operations) -> Iterator[None]:
    """pyfuse3 between its init and its close."""
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


class _Daemon:
    """The tasks of a running mount."""

    def __init__(
        self,
        session: Session,
        device: tuple[int, int] | None,
        ready: Callable[[], None],
        stopping: Callable[[], None],
        *,
        keep_place: bool,
    ) -> None:
        self._keep_place, self._failed = keep_place, False
        self._session, self._device = session, device
        self._ready, self._stopping = ready, stopping
        self._stop_wanted = trio.Event()
        self._loop_ended = trio.Event()
        self._loop_scope = trio.CancelScope()

    async def run(self) -> None:
        session = self._session
        assert session.connection is not None
        session._stop = self._stop_wanted.set
        session._token = trio.lowlevel.current_trio_token()
        session.connection.initialized = self._ready
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._wait_for_signals)
            nursery.start_soon(self._watch_mount_table)
            nursery.start_soon(self._answer_requests)
            try:
                await self._stop_wanted.wait()
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
            self._stop_wanted.set()

    async def _wait_for_signals(self) -> None:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async for number in signals:
                log.info("%s: unmounting %s", signal.Signals(number).name, self._session.mountpoint)
                self._stop_wanted.set()

    async def _watch_mount_table(self) -> None:
        """Ends the daemon when the last mount of it is gone from this namespace.

        The connection may outlive that, if another namespace holds it or somebody sits in it: then no end of
        file comes. The kernel reports a change of the table as EPOLLPRI, which trio can't wait for; an epoll
        in between can. An event may be lost between looking and waiting, hence the recheck.
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
        self._stop_wanted.set()

    def _in_table(self) -> bool:
        try:
            return any(mount.device == self._device for mount in mountinfo.table())
        except OSError as error:  # no descriptor or memory just now: no reason to end
            log.warning("the table of mounts can't be read: %s", error.strerror)
            return True

    async def _end(self) -> None:
        session = self._session
        _exit_hard_after(HARD_LIMIT)
        try:
            self._stopping()
        except Exception:  # The end must go on, whatever the caller's hook does.
            log.exception("the operations could not be told of the end")
        if not self._loop_ended.is_set():
            if session.options.write_cache:
                await self._flush()
            pyfuse3.terminate()
            with trio.move_on_after(GRACE):
                await self._loop_ended.wait()
        await trio.to_thread.run_sync(self._detach)
        if not self._loop_ended.is_set():
            log.warning("requests under way did not end in time, they are given up")
            self._loop_scope.cancel()
        await trio.to_thread.run_sync(session.notifier.close)
        await self._loop_ended.wait()

    async def _flush(self) -> None:
        """Lets the kernel write what it has collected, while there is still somebody to write to."""
        with trio.move_on_after(FLUSH_LIMIT):
            await trio.to_thread.run_sync(_syncfs, self._session.mountpoint, abandon_on_cancel=True)

    def _detach(self) -> None:
        if self._failed and self._keep_place:
            return  # Who waits for an answer gets an error when the device is closed.
        point = self._session.mountpoint
        ours = {self._device}
        if (connection := self._session.connection) and connection.dead:
            ours.add(connection.dead.device)  # beneath
        while (mount := mountinfo.at(point)) is not None and mount.ours and mount.device in ours:
            ours.remove(mount.device)
            try:
                mountinfo.detach(point, force=True)
            except OSError as error:
                log.error("%s could not be unmounted: %s", point, error.strerror)
        if self._device in ours and any(other.device == self._device for other in mountinfo.table()):
            log.warning("%s is covered by another mount or was moved: what is left there is dead", point)
        if self._device is not None:
            mountinfo.abort(self._device)


def _syncfs(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        mountinfo.syncfs(fd)
    except OSError as error:
        log.error("what the kernel had collected could not be written: %s", error.strerror)
    finally:
        os.close(fd)


def _exit_hard_after(seconds: float) -> None:
    def give_up() -> None:
        log.critical("the mount did not end within %d seconds: the process ends as if killed", seconds)
        os._exit(1)

    timer = threading.Timer(seconds, give_up)
    timer.daemon = True
    timer.start()


def _made_at(point: Path) -> Mount | None:
    mount = mountinfo.at(point)
    return mount if mount is not None and mount.ours else None


def _first(failures: BaseExceptionGroup[Exception]) -> Exception:
    failure = failures.exceptions[0]
    return _first(failure) if isinstance(failure, BaseExceptionGroup) else failure
