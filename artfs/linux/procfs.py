"""What procfs says of processes. Any thread may ask; a process that has ended answers nothing."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Collection
from pathlib import Path

# Signals that a process gets without being asked to stop what it does.
_HARMLESS = (signal.SIGCHLD, signal.SIGCONT, signal.SIGURG, signal.SIGWINCH, signal.SIGTSTP)
_HARMLESS_MASK = sum(1 << number - 1 for number in _HARMLESS)


def status(thread: int) -> dict[str, str]:
    """Returns the fields of /proc/PID/status; none for a thread that has ended."""
    try:
        lines = Path(f"/proc/{thread}/status").read_text(errors="replace").splitlines()
    except OSError:
        return {}
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


def is_signalled(thread: int) -> bool:
    """Tells whether a thread that waits for an answer has a signal that asks it to stop waiting.

    No signal ends a request that a FUSE daemon has read (fs/fuse/dev.c, request_wait_answer), so a daemon
    that keeps a caller waiting has to look. A thread of another pid namespace (0) can't be seen. One that has
    ended does not wait: another thread has inherited its open file, and waits.
    """
    if thread == 0:
        return False
    fields = status(thread)
    if not fields:
        return False
    pending = int(fields["SigPnd"], 16) | int(fields["ShdPnd"], 16)
    return bool(pending & ~int(fields["SigBlk"], 16) & ~int(fields["SigIgn"], 16) & ~_HARMLESS_MASK)


def has_ended(thread: int) -> bool:
    """Tells whether a thread has ended. One of another pid namespace (0) can't be seen."""
    return thread != 0 and status(thread).get("State", "X")[:1] in "ZX"


def process_of(thread: int) -> tuple[int, str]:
    """Returns the process that a thread belongs to, and the name of its command ("" if unknown)."""
    fields = status(thread)
    pid = int(fields.get("Tgid", thread))
    return pid, status(pid).get("Name", fields.get("Name", ""))


def groups_of(thread: int, uid: int) -> Collection[int]:
    """Returns the supplementary groups of a thread; none if the number is now that of another user's."""
    fields = status(thread)
    same_user = fields.get("Uid", "").split()[-1:] == [str(uid)]  # fsuid, which FUSE reports
    return [int(gid) for gid in fields.get("Groups", "").split()] if same_user else ()


def start_ticks(pid: int) -> int | None:
    """Returns when a process began, in clock ticks since boot (proc(5), field 22).

    0 for a process that has ended and was not waited for, None if /proc does not show it.
    """
    fields = _stat(pid)
    try:
        return 0 if fields[0] in (b"Z", b"X") else int(fields[19])
    except (IndexError, ValueError):
        return 0 if fields else None


def is_stopped(pid: int) -> bool:
    """Tells whether a signal or a debugger has stopped a process."""
    return _stat(pid)[:1] in ([b"T"], [b"t"])


def _stat(pid: int) -> list[bytes]:
    """Returns the fields of /proc/PID/stat from the state on, those of the main thread."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The command in parentheses may contain any characters, also parentheses.
            return file.read().rpartition(b")")[2].split()
    except OSError:
        return []


def id_namespaces() -> str:
    """Returns the namespaces in which pids and start times are meaningful; empty if they are unknown.

    They are unknown if /proc belongs to another pid namespace.
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


def boot_id() -> str:
    """Returns the id of this boot of the kernel; empty if it is unknown."""
    return read_line("/proc/sys/kernel/random/boot_id")


def boot_time() -> float:
    """Returns when this machine booted, in seconds since the epoch.

    The thread may lose the CPU between the readings of two clocks: the closest of some pairs counts.
    """
    pairs = []
    for _ in range(5):
        before, now = time.clock_gettime(time.CLOCK_BOOTTIME), time.time()
        pairs.append((time.clock_gettime(time.CLOCK_BOOTTIME) - before, now - before))
    return min(pairs)[1]


def read_line(path: str) -> str:
    """Returns the text of a file of one line; empty if it can't be read."""
    try:
        return Path(path).read_bytes().decode("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""
