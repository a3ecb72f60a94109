"""A small process that mounts again when the daemon of a mount dies.

Owns when a daemon is started again and when not. Knows the volume's lock only; runs in the main thread of a
process that does nothing else. Every wait is one poll(2), for signals and for the daemon's line, so that
nothing here hangs with a daemon or a mount. wait(2) does not report a daemon that was killed while a thread
of it hangs in the kernel: the supervisor looks for that.

    a clean end (umount, SIGTERM, SIGINT)   the supervisor ends too
    any other end                           the daemon is started again. The dead mount stays until the new
                                            one answers: users get ENOTCONN, and never write into the
                                            directory beneath (see ``fuse/handshake.py``)
    the dead mount is gone                  it was unmounted on purpose: nothing is started
    ``Policy.deaths`` in ``Policy.window``  the supervisor stops and says why; the dead mount stays until it
                                            is mounted again or unmounted

SIGTERM and SIGINT go on to the daemon, which unmounts. If the supervisor is killed, the daemon goes on
alone, and users notice nothing. Supervisor and daemon ignore SIGHUP. As process 1 of a container the
supervisor reaps orphans.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import socket
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from artfs.daemon import background
from artfs.errors import Busy, MountError, VolumeInUse
from artfs.linux import dead_mounts, mountinfo
from artfs.linux.mountinfo import Mount
from artfs.linux.procfs import start_ticks
from artfs.store.layout import Layout
from artfs.store.locks import HeldLock
from artfs.store.owners import this_process

log = logging.getLogger(__name__)

_VARIABLE = "ARTFS_RESTARTS"
_ENDING = (signal.SIGTERM, signal.SIGINT)
_LOOK = 1.0  # seconds between looks at a daemon that says nothing


@dataclass(frozen=True)
class RestartPolicy:
    """How often a daemon may die: ``deaths`` within ``window`` seconds are too many. ``delays`` are the
    seconds before it is started again, after the first death in that time, the second, and so on.

    A daemon has ``end`` seconds to end: more than it takes (``session.HARD_LIMIT``).
    """

    deaths: int = 5
    window: float = 60.0
    delays: Sequence[float] = (0.0, 0.5, 1.0, 2.0)
    end: float = 45.0


@dataclass(frozen=True, slots=True)
class Supervised:
    """What a daemon knows of its supervisor: the pid, and how many daemons the mount had before."""

    supervisor: int
    restarts: int

    def now(self) -> bool:
        """Tells whether the supervisor still runs: a daemon may outlive it."""
        return os.getppid() == self.supervisor

    @classmethod
    def from_environment(cls) -> Supervised | None:
        """Returns what the supervisor of this process has passed on; None without a supervisor."""
        restarts = os.environ.pop(_VARIABLE, None)
        return None if restarts is None else cls(os.getppid(), int(restarts))


def _environment(restarts: int) -> dict[str, str]:
    # systemd waits for the readiness of the supervisor, not of the daemon.
    inherited = {name: value for name, value in os.environ.items() if name != "NOTIFY_SOCKET"}
    return {**inherited, _VARIABLE: str(restarts)}


@dataclass
class _DaemonProcess:
    """A daemon from its start to its end; ``status`` is an exit status, or a negative signal."""

    process: subprocess.Popen[bytes]
    pipe: int
    line: bytes = b""
    ready: bool = False
    status: int | None = None

    def ending(self) -> str:
        how = f"ended with status {self.status}"
        if self.status is not None and self.status < 0:
            how = f"was killed by {_signal_name(-self.status)}"
        why = background.refusal(self.line)
        return f"{how}: {why}" if why else how


@dataclass
class Supervisor:
    """``command`` runs the daemon in the foreground, ``show_status`` is called at each change with a line."""

    volume: Path
    mountpoint: Path
    command: Sequence[str]
    policy: RestartPolicy = RestartPolicy()
    show_status: Callable[[str], None] = lambda _: None
    _stop_at: float | None = None  # when the daemon is killed if it has not ended
    _source: str = ""  # of the mount, once it has answered
    _deaths: deque[float] = field(default_factory=deque)

    def run(self, ready: Callable[[], None]) -> None:
        """Mounts, and returns when the mount has ended on purpose. ``ready`` is called when it first answers.

        Raises:
            MountError: there was no mount at all, or the daemon died too often.
            VolumeInUse: the volume has a supervisor already.
        """
        with Layout.open(self.volume) as layout, self._own(layout), _signals() as self._signals:
            life = self._live(0, ready)
            if not life.ready and self._stop_at is None:
                raise MountError(background.refusal(life.line) or f"the daemon {life.ending()}")
            restarts = 0
            while self._is_wanted_after(life):
                restarts += 1
                self._count_death(life)
                if not self._pause():
                    break
                life = self._live(restarts, lambda: None)
            if self._stop_at is not None and life.status != 0:
                self._detach_dead()

    def _own(self, layout: Layout) -> HeldLock:
        lock = layout.supervisor_lock
        try:
            held = lock.exclusive(blocking=False)
        except Busy:
            raise VolumeInUse(str(layout.path), f"a supervisor: {lock.owner()}") from None
        held.write_owner(this_process(str(self.mountpoint.absolute())))
        return held

    # -- one daemon

    def _live(self, restarts: int, ready: Callable[[], None]) -> _DaemonProcess:
        """Starts a daemon and waits for its end."""
        process, pipe = background.launch(self.command, env=_environment(restarts))
        life = _DaemonProcess(process, pipe)
        try:
            while life.status is None:
                if self._poll(life):
                    self._answers(restarts)
                    ready()
            self._read(life)
        finally:
            if life.pipe >= 0:
                os.close(life.pipe)
        return life

    def _answers(self, restarts: int) -> None:
        mount = mountinfo.at(mountinfo.resolve(self.mountpoint))
        self._source = "" if mount is None else mount.source
        if restarts:
            log.warning("%s is mounted again (restarts: %d)", self.mountpoint, restarts)
        self.show_status(f"mounted at {self.mountpoint}; restarts: {restarts}")

    def _poll(self, life: _DaemonProcess) -> bool:
        """Waits for one event; returns whether it was that the mount answers."""
        poller = select.poll()
        poller.register(self._signals, select.POLLIN)
        if life.pipe >= 0:
            poller.register(life.pipe, select.POLLIN)
        left = _LOOK if self._stop_at is None else min(_LOOK, max(0.0, self._stop_at - time.monotonic()))
        happened = dict(poller.poll(left * 1000))
        if not happened:
            self._end_hanging(life)
        if self._signals.fileno() in happened:
            number = self._drain()
            self._reap(life)
            if number and life.status is None:
                os.kill(life.process.pid, number)
        return life.pipe in happened and self._read(life)

    def _end_hanging(self, life: _DaemonProcess) -> None:
        """Ends a daemon that does not end by itself."""
        if self._stop_at is not None and time.monotonic() >= self._stop_at:
            log.error("the daemon did not end within %g seconds: it is killed", self.policy.end)
            os.kill(life.process.pid, signal.SIGKILL)
            self._stop_at = time.monotonic() + self.policy.end
        if not start_ticks(life.process.pid):
            mount = self._mount()
            if mount is not None:
                dead_mounts.end(mount)

    def _read(self, life: _DaemonProcess) -> bool:
        """Reads what the daemon has written; returns whether it has just reported that the mount answers."""
        if life.pipe < 0:
            return False
        os.set_blocking(life.pipe, False)
        try:
            data = os.read(life.pipe, 65536)
        except BlockingIOError:
            return False
        life.line += data
        if not data or life.line.endswith(b"\n"):
            os.close(life.pipe)
            life.pipe = -1
        if life.line.strip() == background.READY:
            life.ready = True
        return life.ready

    def _reap(self, life: _DaemonProcess | None) -> None:
        """Reaps the daemon, and orphans.

        Nothing else calls wait(2), as methods of Popen would: a pid that was not reaped here is the daemon's.
        """
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                if life is not None and ended[0] == life.process.pid:
                    life.status = life.process.returncode = os.waitstatus_to_exitcode(ended[1])

    def _drain(self) -> signal.Signals | None:
        """Reads the signals that came; returns the one that asks for the end."""
        with contextlib.suppress(BlockingIOError):
            for number in self._signals.recv(4096):
                if number in _ENDING:
                    log.info("%s: ending the mount at %s", _signal_name(number), self.mountpoint)
                    self.show_status(f"ending the mount at {self.mountpoint}")
                    self._stop_at = time.monotonic() + self.policy.end
                    return signal.Signals(number)
        return None

    # -- after its end

    def _is_wanted_after(self, life: _DaemonProcess) -> bool:
        """Tells whether to start a daemon after this one."""
        if self._stop_at is not None or life.status == 0:
            return False
        if -(life.status or 0) in _ENDING:  # before it could unmount
            self._stop_at = time.monotonic()
            return False
        log.warning("the daemon of %s %s", self.mountpoint, life.ending())
        return self._is_still_mounted()

    def _is_still_mounted(self) -> bool:
        """Tells whether the dead mount is still there. Reads the mount table, and does not ask the mount."""
        mounted = self._mount() is not None
        if not mounted:
            log.info("%s was unmounted: it is not mounted again", self.mountpoint)
        return mounted

    def _mount(self) -> Mount | None:
        """Returns the topmost mount at the mountpoint if it is the volume's."""
        return mountinfo.artfs_at(mountinfo.resolve(self.mountpoint), self._source)

    def _count_death(self, life: _DaemonProcess) -> None:
        """Counts a death. Raises MountError if it was one too many."""
        now = time.monotonic()
        self._deaths.append(now)
        while now - self._deaths[0] > self.policy.window:
            self._deaths.popleft()
        if len(self._deaths) >= self.policy.deaths:
            message = (
                f"gave up: the daemon of {self.mountpoint} died {len(self._deaths)} times within"
                f" {self.policy.window:.0f} seconds, at last it {life.ending()}. The dead mount stays:"
                " 'artfs mount' replaces it, 'artfs umount' unmounts it"
            )
            log.critical("%s", message)
            self.show_status(message)
            raise MountError(message)

    def _pause(self) -> bool:
        """Waits before the next start; returns whether there is to be one."""
        number = min(len(self._deaths), len(self.policy.delays)) - 1
        until = time.monotonic() + self.policy.delays[number]
        self.show_status(f"the daemon died, {self.mountpoint} will be mounted again")
        while self._stop_at is None:
            left = until - time.monotonic()
            if left <= 0:
                return self._is_still_mounted()
            if select.select([self._signals], [], [], left)[0]:
                self._drain()
                self._reap(None)
        return False

    def _detach_dead(self) -> None:
        """Detaches the dead mounts of a daemon that could not end in order."""
        point = mountinfo.resolve(self.mountpoint)
        try:
            while self._mount() is not None and dead_mounts.is_dead(point):
                mountinfo.detach(point)
        except OSError as error:
            log.error("%s could not be unmounted: %s", point, error.strerror)


@contextlib.contextmanager
def _signals() -> Iterator[socket.socket]:
    """Yields a socket from which the numbers of the supervisor's signals are read, each a byte."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)

    with ours, theirs:
        before = {number: signal.signal(number, lambda *_: None) for number in (*_ENDING, signal.SIGCHLD)}
        before[signal.SIGHUP] = signal.signal(signal.SIGHUP, signal.SIG_IGN)
        descriptor = signal.set_wakeup_fd(theirs.fileno())
        try:
            yield ours
        finally:
            signal.set_wakeup_fd(descriptor)
            for number, handler in before.items():
                signal.signal(number, handler)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
