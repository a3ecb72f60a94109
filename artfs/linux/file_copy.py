"""The one copy of a file's bytes, from descriptor to descriptor.

Owns when extents are shared, when the kernel copies, and when bytes are read and written. Must not know
what is copied, nor digests: a caller that wants one passes a hasher. Blocking; any thread. Moves both
offsets.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from typing import Protocol

from artfs.linux import syscalls

BLOCK = 1 << 20
_SMALL = 16 << 10
_ZEROS = memoryview(bytes(BLOCK))

_buffers = threading.local()


class SupportsUpdate(Protocol):
    def update(self, data: bytes | memoryview, /) -> object: ...


def thread_block(which: str) -> bytearray:
    """Returns this thread's block: a fresh MiB for each small file would cost more than hashing it."""
    block: bytearray | None = getattr(_buffers, which, None)
    if block is None:
        block = bytearray(BLOCK)
        setattr(_buffers, which, block)
    return block


def ignore(_count: int) -> None:
    """The progress of a copy that is not reported."""


def copy_file(
    source: int,
    target: int,
    *,
    share: bool = True,
    in_order: bool = False,
    zeros_as_holes: bool = False,
    status: os.stat_result | None = None,
    hasher: SupportsUpdate | None = None,
    copied: Callable[[int], None] = ignore,
) -> bool:
    """Copies a whole file into an empty one; returns whether every byte of it went through the `hasher`.

    Shares the extents where the filesystem can, and keeps holes. Where the source has holes and its
    filesystem does not tell where, as over FUSE, or with `zeros_as_holes`, blocks of zeros become holes.
    Without `share` all bytes are written anew as they are read, for a source whose extents may hold others,
    as after a failed write-back; no hole is copied as one unless zeros are read. `in_order` writes front to
    back and does not set the size first, so that a mount can hash what passes through.

    Each byte is as it was at some moment of the copy: hash the result if the source may be written
    meanwhile. `status` is the source's, if it is known. Calls `copied` with the size of each piece; an
    exception of that ends the copy.
    """
    status = status or os.fstat(source)
    size = status.st_size
    if in_order and size < _SMALL:
        # One read and one write: for so little, to ask for anything more costs more than it saves.
        data = os.pread(source, _SMALL, 0)
        if len(data) < _SMALL:
            _write_all(target, memoryview(data), 0)
            if hasher is not None:
                hasher.update(data)
            copied(len(data))
            return True
    if share and syscalls.reflink(target, source):
        copied(size)
        return False
    sparse = status.st_blocks * 512 < size
    if sparse and _next_data(source, 0, size) == (0, size):
        zeros_as_holes = True
    elif share and (sparse or not (in_order or zeros_as_holes)):
        _copy_extents(source, target, size, copied)
        return False
    _copy_blocks(source, target, hasher, copied, zeros_as_holes=zeros_as_holes or not share)
    return True


def _copy_blocks(
    source: int,
    target: int,
    hasher: SupportsUpdate | None,
    copied: Callable[[int], None],
    *,
    zeros_as_holes: bool,
) -> None:
    block, offset = thread_block("a"), 0
    view = memoryview(block)
    while count := os.preadv(source, [block], offset):
        if not (zeros_as_holes and block.startswith(_ZEROS[:count])):
            _write_all(target, view[:count], offset)
        if hasher is not None:
            hasher.update(view[:count])
        offset += count
        copied(count)
    if zeros_as_holes:
        os.ftruncate(target, offset)


def _copy_extents(source: int, target: int, size: int, copied: Callable[[int], None]) -> None:
    os.ftruncate(target, size)
    offset = 0
    while offset < size:
        start, end = _next_data(source, offset, size)
        copied(start - offset)
        offset = start
        while offset < end:
            count = _copy_range(source, target, offset, end - offset)
            if count == 0:  # the source was cut meanwhile
                os.ftruncate(target, offset)
                return
            offset += count
            copied(count)


def _next_data(fd: int, offset: int, size: int) -> tuple[int, int]:
    try:
        start = os.lseek(fd, offset, os.SEEK_DATA)
        return start, os.lseek(fd, start, os.SEEK_HOLE)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return size, size
        if error.errno in (errno.EINVAL, errno.ENOTSUP):
            return offset, size
        raise


def _copy_range(source: int, target: int, offset: int, count: int) -> int:
    try:
        if copied := os.copy_file_range(source, target, min(count, 1 << 30), offset, offset):
            return copied
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM):
            raise
    # Also after a 0: procfs and some network filesystems answer so for files that do have bytes.
    data = os.pread(source, min(count, BLOCK), offset)
    _write_all(target, memoryview(data), offset)
    return len(data)


def _write_all(fd: int, data: memoryview, offset: int) -> None:
    while data:
        written = os.pwrite(fd, data, offset)
        data, offset = data[written:], offset + written
