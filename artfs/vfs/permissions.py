"""What permission bits grant a caller, where the kernel does not ask them itself. Any thread."""

from __future__ import annotations

import stat

from artfs.linux import procfs
from artfs.vfs.node import Attributes, Caller

#: What a directory must grant for passing it, changing names in it, and listing all that is in it.
PASS, CHANGE, READ, LIST = 0o1, 0o3, 0o4, 0o5
SETID = stat.S_ISUID | stat.S_ISGID


def granted(mode: int, owner: Attributes, caller: Caller, bits: int) -> bool:
    """Tells whether the mode grants the caller all of `bits`, as the kernel would (path_resolution(7)).

    `owner` has the user and group that the mode is about.
    """
    if caller.uid == 0:
        return True
    if caller.uid == owner.uid:
        mode >>= 6
    elif _in_group(caller, owner.gid):
        mode >>= 3
    return mode & bits == bits


def without_setid(mode: int, gid: int, caller: Caller) -> int:
    """Returns the permissions of a file of group `gid` after a write or chown: the kernel leaves the removal
    of setuid and setgid bits to the daemon (HANDLE_KILLPRIV_V2; fs/attr.c).

    Without the group's execute bit setgid is no privilege, and stays if the caller belongs to the group.
    """
    member = caller.uid == 0 or _in_group(caller, gid)
    return mode & ~(stat.S_ISUID if member and not mode & stat.S_IXGRP else SETID)


def _in_group(caller: Caller, gid: int) -> bool:
    """Tells whether a process belongs to a group. If its pid is another user's by now, only the group of the
    request is known."""
    return caller.gid == gid or gid in procfs.groups_of(caller.pid, caller.uid)
