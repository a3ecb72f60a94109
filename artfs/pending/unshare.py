"""Gives files of a pending tree an inode of their own again, after a seal that linked them did not commit.

Such an inode is a blob of the store, and another version may already rest on it: it must never be written.
Rare (a crash or a full disk between link and commit), so this may be slow. Event loop's thread.
"""

from __future__ import annotations

import os
import stat

from artfs.pending.place import Place
from artfs.pending.tree import PendingTree
from artfs.store import durable, syscalls


def unshare(tree: PendingTree, place: Place) -> None:
    """Replaces the file under all its names in the tree by one copy, if anything else may have its inode."""
    status = place.stat()
    named = 1 if place.parent is not None else 0
    if not stat.S_ISREG(status.st_mode) or status.st_nlink <= named:
        return
    copy = durable.temp_name()
    source = place.descriptor(os.O_RDONLY)
    try:
        target = os.open(
            copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=tree.draft.fd
        )
        try:
            _copy(source, target, status)
            serial = os.fstat(target).st_ino
        finally:
            os.close(target)
        _replace_names(tree, status.st_ino, copy)
        place.places.renumber(place, serial)
        tree.hashes.forget(serial)  # of another file that had this number before
        if place.parent is None:
            held = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
            place.hold(os.open(copy, held, dir_fd=tree.draft.fd))
    finally:
        os.close(source)
        os.unlink(copy, dir_fd=tree.draft.fd)


def _copy(source: int, target: int, status: os.stat_result) -> None:
    """Copies bytes, holes, owner, mode, times and attributes."""
    if not syscalls.reflink(target, source):
        position = 0
        while position < status.st_size:
            try:
                position = os.lseek(source, position, os.SEEK_DATA)
            except OSError:
                break  # ENXIO: a hole to the end
            end = os.lseek(source, position, os.SEEK_HOLE)
            while position < end:
                data = os.pread(source, min(1 << 20, end - position), position)
                os.pwrite(target, data, position)
                position += len(data)
        os.ftruncate(target, status.st_size)
    if (status.st_uid, status.st_gid) != (os.geteuid(), os.getegid()):
        os.fchown(target, status.st_uid, status.st_gid)
    os.fchmod(target, stat.S_IMODE(status.st_mode))
    for name in os.listxattr(source):
        os.setxattr(target, name, os.getxattr(source, name))
    os.fsync(target)
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))


def _replace_names(tree: PendingTree, serial: int, copy: bytes) -> None:
    """Renames a link of `copy` over every name of inode `serial` in the tree."""
    root = tree.open_root()
    pending = [root]
    try:
        while pending:
            directory = pending.pop()
            try:
                with os.scandir(directory) as found:
                    entries = [(os.fsencode(entry.name), entry) for entry in found]
                for name, entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(durable.open_directory(directory, name))
                    elif entry.inode() == serial:
                        temp = durable.temp_name()
                        os.link(copy, temp, src_dir_fd=tree.draft.fd, dst_dir_fd=tree.draft.fd)
                        os.rename(temp, name, src_dir_fd=tree.draft.fd, dst_dir_fd=directory)
            finally:
                os.close(directory)
    finally:
        for directory in pending:
            os.close(directory)
