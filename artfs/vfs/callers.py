"""What /proc tells of the processes that call. Any thread may ask; a process that is gone answers nothing."""

from __future__ import annotations

import signal
from pathlib import Path

from artfs.vfs.node import Attributes, Caller

# Signals that a process gets without being asked to stop what it does.
_HARMLESS = (signal.SIGCHLD, signal.SIGCONT, signal.SIGURG, signal.SIGWINCH, signal.SIGTSTP)
_HARMLESS_MASK = sum(1 << number - 1 for number in _HARMLESS)


def _status(thread: int) -> dict[str, str]:
    try:
        lines = Path(f"/proc/{thread}/status").read_text(errors="replace").splitlines()
    except OSError:
        return {}
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


def signalled(thread: int) -> bool:
    """Tells whether a thread that waits for us has a signal that wants it to give up.

    The kernel lets no signal end a request that a FUSE daemon is at (fs/fuse/dev.c, request_wait_answer), so
    whoever keeps a caller waiting has to look. A thread of another pid namespace (0) can't be looked at.
    One that is gone does not wait: it left an open file to the one that does.
    """
    if thread == 0:
        return False
    status = _status(thread)
    if not status:
        return False
    pending = int(status["SigPnd"], 16) | int(status["ShdPnd"], 16)
    return bool(pending & ~int(status["SigBlk"], 16) & ~int(status["SigIgn"], 16) & ~_HARMLESS_MASK)


def gone(thread: int) -> bool:
    """Tells whether a thread has ended. One of another pid namespace (0) can't be looked at."""
    return thread != 0 and _status(thread).get("State", "X")[:1] in "ZX"


#: What a directory must grant for passing it, changing names in it, and telling all that is in it.
PASS, CHANGE, READ, LIST = 0o1, 0o3, 0o4, 0o5


def granted(mode: int, owner: Attributes, caller: Caller, bits: int) -> bool:
    """Tells whether permission bits grant a process all of `bits`, as the kernel would (path_resolution(7)).

    `owner` says whose they are.
    """
    if caller.uid == 0:
        return True
    if caller.uid == owner.uid:
        mode >>= 6
    elif in_group(caller, owner.gid):
        mode >>= 3
    return mode & bits == bits


def in_group(caller: Caller, gid: int) -> bool:
    """Tells whether a process belongs to a group; once its pid is another user's, only its own is known."""
    if caller.gid == gid:
        return True
    status = _status(caller.pid)
    same_user = status.get("Uid", "").split()[-1:] == [str(caller.uid)]
    return same_user and str(gid) in status.get("Groups", "").split()


def process_of(thread: int) -> tuple[int, str]:
    """Returns the process that a thread belongs to, and its command's name ("" if not known)."""
    status = _status(thread)
    pid = int(status.get("Tgid", thread))
    return pid, _status(pid).get("Name", status.get("Name", ""))
