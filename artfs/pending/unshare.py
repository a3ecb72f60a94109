"""Gives files of a pending tree an inode of their own again, after a seal that linked them did not commit.

Such an inode is a blob of the store, and another version may already rest on it: it must never be written.
Rare (a crash or a full disk between link and commit), so this may be slow; and a crash in it may part the
names of one file, as the seal would have. Event loop's thread.
"""

from __future__ import annotations

import os
import stat

from artfs.pending import overlay
from artfs.pending.place import Place
from artfs.pending.tree import PendingTree
from artfs.pending.walk import directories
from artfs.store import durable
from artfs.store.files import copy_fd


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
    copy_fd(source, target)
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
    try:
        for directory, entries in directories(root):
            for entry in entries:
                if entry.inode() == serial and entry.is_file(follow_symlinks=False):
                    temp = durable.temp_name()
                    os.link(copy, temp, src_dir_fd=tree.draft.fd, dst_dir_fd=tree.draft.fd)
                    with overlay.unseen(directory):
                        os.rename(temp, entry.name, src_dir_fd=tree.draft.fd, dst_dir_fd=directory)
    finally:
        os.close(root)
