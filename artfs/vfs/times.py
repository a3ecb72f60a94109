"""Sets the times of what is in a pending tree. Event loop's thread, inside the tree's gate."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from artfs.linux import syscalls

if TYPE_CHECKING:
    from artfs.vfs.node import AttributeChanges
    from artfs.vfs.pending import PendingNode

_COARSEST = 2 * 10**9  # nanoseconds: no filesystem rounds times more than FAT does


def set_times(node: PendingNode, changes: AttributeChanges) -> None:
    """Sets the times to the nearest ones that the backing filesystem can hold.

    With its write cache the kernel goes on showing the mtime that it asked for, whatever the answer says
    (fs/fuse/dir.c, fuse_do_setattr): then one that can't be held is refused with EOVERFLOW.
    """
    before = node.stat()
    _utimens(node, changes.atime_ns, changes.mtime_ns)
    wanted = changes.mtime_ns
    if wanted is None or not node.branch.serving.write_cache:
        return
    if abs(node.stat().st_mtime_ns - wanted) >= _COARSEST:
        _utimens(node, before.st_atime_ns, before.st_mtime_ns)
        raise OSError(errno.EOVERFLOW, "the backing filesystem can't hold this time")


def _utimens(node: PendingNode, atime_ns: int | None, mtime_ns: int | None) -> None:
    if node.parent is not None:
        syscalls.utimensat(node.parent.directory(), node.name, atime_ns, mtime_ns)
        return
    fd = os.open(node.proc_path(), os.O_PATH | os.O_CLOEXEC)
    try:
        syscalls.utimensat(-1, b"/proc/self/fd/%d" % fd, atime_ns, mtime_ns, follow=True)
    finally:
        os.close(fd)


__all__ = ["set_times"]
