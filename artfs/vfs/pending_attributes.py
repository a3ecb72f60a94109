"""What changing a pending file's attributes takes beyond one system call: times, large files.

Event loop's thread, inside the tree's gate, but for the work of :class:`~artfs.vfs.node.NeedsWork`.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from artfs.linux import syscalls
from artfs.pending import deferred_close
from artfs.vfs.node import AttributeChanges, NeedsWork

if TYPE_CHECKING:
    from artfs.vfs.pending_node import PendingNode

_COARSEST = 2 * 10**9  # nanoseconds: no filesystem rounds times more than FAT does


def set_times(node: PendingNode, changes: AttributeChanges) -> None:
    """Sets the times to the nearest ones that the backing filesystem can hold.

    With its write cache the kernel goes on showing the mtime that it asked for, whatever the answer says
    (fs/fuse/dir.c, fuse_do_setattr): then a time that can't be held is refused with EOVERFLOW.
    """
    before = node.stat()
    _utimens(node, changes.atime_ns, changes.mtime_ns)
    wanted = changes.mtime_ns
    if wanted is None or not node.mounted.mount.write_cache:
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


def truncate_large(node: PendingNode, size: int, fd: int = -1) -> None:
    """Raises NeedsWork if truncating the file takes long: freeing tens of thousands of extents takes seconds.

    `fd` is a descriptor that may write, if there is one. The file must have bytes of its own. No lock is held
    during the work: the gate keeps a seal from coming between, and the kernel keeps others from writing
    (fs/fuse/dir.c, fuse_set_nowrite).
    """
    status = node.stat() if fd < 0 else os.fstat(fd)
    if size >= status.st_size or not deferred_close.is_large(status):
        return
    tree = node.mounted.tree
    tree.hashes.forget(node.backing_ino)
    guard = contextlib.nullcontext if node.gone else tree.gate.long_change
    own = node.descriptor(os.O_WRONLY) if fd < 0 else os.dup(fd)
    raise NeedsWork(functools.partial(_truncate, own, size, status, guard))


def _truncate(
    fd: int, size: int, known: os.stat_result, guard: Callable[[], AbstractContextManager[None]]
) -> None:
    """Truncates a file unless anything has happened to it since it was `known`; closes `fd`."""
    try:
        with guard():
            now = os.fstat(fd)
            # A seal that came between and did not commit has linked it: it may be a blob by now.
            if (now.st_nlink, now.st_ctime_ns) == (known.st_nlink, known.st_ctime_ns):
                os.ftruncate(fd, size)
    finally:
        os.close(fd)
