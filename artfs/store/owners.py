"""Processes as owners of what they hold or make, in a form that others can tell to be dead.

Owns how a process is identified and judged. Knows nothing of what it owns. Any thread may call it.
"""

from __future__ import annotations

import os
import socket
import time
from typing import Annotated

import msgspec

from artfs.errors import printable
from artfs.store.documents import nanoseconds, timestamp

_MACHINE = "/etc/machine-id"
_BOOT = "/proc/sys/kernel/random/boot_id"


class Owner(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One process. ``pid`` and ``ticks`` (its start, proc(5) field 22) mean something in ``space`` alone.

    ``space`` names the pid and time namespaces, ``boot`` the boot of their kernel, ``machine`` is that of
    machine-id(5). What is empty is not known. ``started_at`` is when it came to own what this is about.
    """

    pid: Annotated[int, msgspec.Meta(gt=0, lt=1 << 31)]
    host: str
    mountpoint: str | None = None
    started_at: str = ""
    boot: str = ""
    ticks: int = 0
    machine: str = ""
    space: str = ""

    def alive(self) -> bool | None:
        """Tells whether the process runs; None if that can't be known: another machine or pid namespace.

        One that was killed is dead, though a thread that the kernel holds may keep its locks for a while yet.
        One that is stopped is alive.
        """
        if self.host != socket.gethostname():
            return None
        if self.boot and self.boot != _line(_BOOT):
            # Names of hosts are given twice, as to containers: without machine-id(5) it may run elsewhere.
            return False if self.machine and self.machine == _line(_MACHINE) else None
        here = _space()
        if not here or self.space not in ("", here):
            return None
        return self._runs()

    def _runs(self) -> bool | None:
        fields = _stat(self.pid)
        if fields:
            ticks = process_ticks(self.pid)
            return ticks == self.ticks if self.ticks else ticks != 0
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except OSError:
            return None  # another user's, which /proc hides (hidepid)
        return None

    def same(self, other: Owner) -> bool:
        """Tells whether both are one process."""
        return _identity(self) == _identity(other)

    def began_after(self, moment: str) -> bool:
        """Tells whether the process, of this boot, began after a time; False if that is not known.

        Linux gives the start of a process in whole ticks, rounded down: one that began within the same tick
        counts as begun after.
        """
        if not self.ticks or self.boot != _line(_BOOT):
            return False
        try:
            return _booted_at() + (self.ticks + 1) / os.sysconf("SC_CLK_TCK") > nanoseconds(moment) / 1e9
        except (ValueError, OverflowError):
            return False

    def __str__(self) -> str:
        where = f", mounted at {printable(self.mountpoint)}" if self.mountpoint else ""
        return f"process {self.pid} on {printable(self.host)}{where}"


def _identity(owner: Owner) -> tuple[object, ...]:
    return owner.pid, owner.host, owner.boot, owner.ticks, owner.machine, owner.space


def this_process(mountpoint: str | None = None) -> Owner:
    return process(os.getpid(), mountpoint)


def process(pid: int, mountpoint: str | None = None) -> Owner:
    """Returns a process that runs here, as this process sees it."""
    return Owner(
        pid=pid,
        host=socket.gethostname(),
        mountpoint=mountpoint,
        started_at=timestamp(),
        boot=_line(_BOOT),
        ticks=process_ticks(pid),
        machine=_line(_MACHINE),
        space=_space() or "unknown",
    )


def process_ticks(pid: int) -> int:
    """Returns when a process began, in clock ticks since boot (proc(5), field 22); 0 if none runs."""
    found = _stat(pid)
    try:
        return 0 if found[0] in (b"Z", b"X") else int(found[19])
    except (IndexError, ValueError):
        return 0


def is_stopped(pid: int) -> bool:
    """Tells whether a process was stopped by a signal or a debugger, and so does nothing at all."""
    return _stat(pid)[:1] in ([b"T"], [b"t"])


def _stat(pid: int) -> list[bytes]:
    """Returns the fields of /proc/PID/stat from the state on; of its main thread, where it has several."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The command in parentheses may hold anything, parentheses too.
            return file.read().rpartition(b")")[2].split()
    except OSError:
        return []


def _booted_at() -> float:
    """Returns when this machine booted, in seconds since the epoch.

    The thread may lose the CPU for long between the readings of two clocks: the closest of some pairs counts.
    """
    pairs = []
    for _ in range(5):
        before, now = time.clock_gettime(time.CLOCK_BOOTTIME), time.time()
        pairs.append((time.clock_gettime(time.CLOCK_BOOTTIME) - before, now - before))
    return min(pairs)[1]


def _space() -> str:
    """Returns the namespaces that process numbers and start times belong to; empty if that is not known.

    /proc may be the one of another pid namespace: then it tells nothing of the numbers that are known here.
    """
    try:
        if os.readlink("/proc/self") != str(os.getpid()):
            return ""
        found = [os.readlink("/proc/self/ns/pid")]
        if os.path.lexists("/proc/self/ns/time"):
            found.append(os.readlink("/proc/self/ns/time"))
    except OSError:
        return ""
    return " ".join(found)


def _line(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return file.read().decode("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""


__all__ = ["Owner", "is_stopped", "process", "process_ticks", "this_process"]
