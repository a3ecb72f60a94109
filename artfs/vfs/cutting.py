"""Cuts large files of a pending tree: to free tens of thousands of extents takes the disk seconds.

Event loop's thread, but for what is done first on a worker thread. No lock is held there; the gate sees to it
that no seal comes between, and the kernel to it that nobody writes (fs/fuse/dir.c, fuse_set_nowrite).
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from artfs.pending import deferred_close
from artfs.vfs.node import NeedsWork

if TYPE_CHECKING:
    from artfs.vfs.pending import PendingNode


def cut_aside(node: PendingNode, size: int, fd: int = -1) -> None:
    """Raises NeedsWork if it takes long to cut a file: when this is asked again it is short.

    `fd` is one that may write, if there is one. The file must have bytes of its own.
    """
    status = node.stat() if fd < 0 else os.fstat(fd)
    if size >= status.st_size or not deferred_close.is_large(status):
        return
    tree = node.branch.tree
    tree.hashes.forget(node.backing_ino)
    guard = contextlib.nullcontext if node.gone else tree.gate.long_change
    own = node.descriptor(os.O_WRONLY) if fd < 0 else os.dup(fd)
    raise NeedsWork(functools.partial(_cut, own, size, status, guard))


def _cut(
    fd: int, size: int, known: os.stat_result, guard: Callable[[], AbstractContextManager[None]]
) -> None:
    """Cuts a file that nothing has happened to since it was `known`, and closes `fd`."""
    try:
        with guard():
            now = os.fstat(fd)
            # A seal that came between and did not commit has linked it: then it may be a blob by now.
            if (now.st_nlink, now.st_ctime_ns) == (known.st_nlink, known.st_ctime_ns):
                os.ftruncate(fd, size)
    finally:
        os.close(fd)


__all__ = ["cut_aside"]
