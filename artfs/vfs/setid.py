"""When setuid and setgid bits go: the kernel leaves that to us (``fuse/handshake``). Any thread."""

from __future__ import annotations

import stat

from artfs.vfs.callers import in_group
from artfs.vfs.node import Caller

SETID = stat.S_ISUID | stat.S_ISGID


def without_setid(mode: int, gid: int, caller: Caller) -> int:
    """Returns the permissions that a file of group `gid` has after a write or chown (fs/attr.c).

    Without the group's execute bit, setgid is no privilege, and stays if the caller belongs to the group.
    """
    member = caller.uid == 0 or in_group(caller, gid)
    return mode & ~(stat.S_ISUID if member and not mode & stat.S_IXGRP else SETID)
