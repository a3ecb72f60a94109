"""Processes as owners of locks, runs and pending trees, in a form that shows when they are dead.

Owns how a process is identified. Must not know what it owns. Any thread may call it.
"""

from __future__ import annotations

import os
import socket
from typing import Annotated

import msgspec

from artfs.linux import procfs
from artfs.printing import printable
from artfs.store.documents import nanoseconds, timestamp

_MACHINE = "/etc/machine-id"


class Owner(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One process. ``pid`` and ``ticks`` (its start, proc(5) field 22) are meaningful only in ``space``.

    ``space`` names the pid and time namespaces, ``boot`` the boot of their kernel; ``machine`` is
    machine-id(5). Empty means unknown. ``started_at`` is when the process became the owner.
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
        """Tells whether the process runs; None if that is unknown: another machine or pid namespace.

        A killed process is dead, though a thread that hangs in the kernel may keep its locks for a while. A
        stopped process is alive.
        """
        if self.host != socket.gethostname():
            return None
        if self.boot and self.boot != procfs.boot_id():
            # Host names are not unique, as those of containers: without machine-id(5) it may run elsewhere.
            return False if self.machine and self.machine == _machine_id() else None
        here = procfs.id_namespaces()
        if not here or self.space not in ("", here):
            return None
        return self._runs()

    def _runs(self) -> bool | None:
        ticks = procfs.start_ticks(self.pid)
        if ticks is not None:
            return ticks == self.ticks if self.ticks else ticks != 0
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except OSError:
            return None  # another user's process, which /proc hides (hidepid)
        return None

    def same(self, other: Owner) -> bool:
        """Tells whether both are one process."""
        return _identity(self) == _identity(other)

    def began_after(self, moment: str) -> bool:
        """Tells whether the process began after a moment, in this boot; False if that is unknown.

        Linux rounds the start of a process down to a tick: one that began within the same tick counts as
        later.
        """
        if not self.ticks or self.boot != procfs.boot_id():
            return False
        try:
            return (
                procfs.boot_time() + (self.ticks + 1) / os.sysconf("SC_CLK_TCK") > nanoseconds(moment) / 1e9
            )
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
    """Returns the owner that identifies a running process, as seen from this one."""
    return Owner(
        pid=pid,
        host=socket.gethostname(),
        mountpoint=mountpoint,
        started_at=timestamp(),
        boot=procfs.boot_id(),
        ticks=procfs.start_ticks(pid) or 0,
        machine=_machine_id(),
        space=procfs.id_namespaces() or "unknown",
    )


def _machine_id() -> str:
    return procfs.read_line(_MACHINE)
