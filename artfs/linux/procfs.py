"""What procfs says of processes. Any thread may ask; a process that has ended answers nothing."""

from __future__ import annotations

import signal
from collections.abc import Collection
from pathlib import Path

# Signals that a process gets without being asked to stop what it does.
_HARMLESS = (signal.SIGCHLD, signal.SIGCONT, signal.SIGURG, signal.SIGWINCH, signal.SIGTSTP)
_HARMLESS_MASK = sum(1 << number - 1 for number in _HARMLESS)


def _status(thread: int) -> dict[str, str]:
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
    status = _status(thread)
    if not status:
        return False
    pending = int(status["SigPnd"], 16) | int(status["ShdPnd"], 16)
    return bool(pending & ~int(status["SigBlk"], 16) & ~int(status["SigIgn"], 16) & ~_HARMLESS_MASK)


def has_ended(thread: int) -> bool:
    """Tells whether a thread has ended. One of another pid namespace (0) can't be seen."""
    return thread != 0 and _status(thread).get("State", "X")[:1] in "ZX"


def process_of(thread: int) -> tuple[int, str]:
    """Returns the process that a thread belongs to, and the name of its command ("" if unknown)."""
    status = _status(thread)
    pid = int(status.get("Tgid", thread))
    return pid, _status(pid).get("Name", status.get("Name", ""))


def groups_of(thread: int, uid: int) -> Collection[int]:
    """Returns the supplementary groups of a thread; none if the number is now that of another user's."""
    status = _status(thread)
    same_user = status.get("Uid", "").split()[-1:] == [str(uid)]  # fsuid, which FUSE reports
    return [int(gid) for gid in status.get("Groups", "").split()] if same_user else ()
