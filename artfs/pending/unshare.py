"""Gives files of a pending tree inodes of their own again, after a seal that linked them did not commit.

Such an inode is a blob of the store, and another version may already use it, so it must never be written.
This is rare (a crash or a full disk between link and commit) and may be slow.

A file with several names stays one file: its copy has a name beside the tree, with the number of the old
inode, until it has all names. After a crash :func:`complete_copies` does the rest before anything is written.
Event loop's thread, except for :func:`complete_copies` of a tree that is not in use.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator

from artfs.errors import Damaged
from artfs.linux.file_copy import copy_file
from artfs.linux.walk import scan
from artfs.pending import overlay
from artfs.pending.backing_inodes import BackingInode
from artfs.pending.pending_tree import PendingTree
from artfs.pending.pending_version import PendingVersion
from artfs.store import durable, regular_files

_COPY = b"unshared-"  # and the number of the inode that it is a copy of


def unshare(tree: PendingTree, inode: BackingInode) -> None:
    """Replaces the file under all its names in the tree by one copy, if its inode may be shared."""
    complete_copies(tree)  # copies that an error left
    status = inode.stat()
    named = 1 if inode.parent is not None else 0
    if not stat.S_ISREG(status.st_mode) or status.st_nlink <= named:
        return
    copy = _COPY + b"%d" % status.st_ino
    source = inode.descriptor(os.O_RDONLY)
    try:
        backing_ino = _make(tree, source, status, copy)
        _replace_names(tree, status.st_ino, copy)
        inode.inodes.renumber(inode, backing_ino)
        inode.inodes.pin_number(backing_ino, inode.ino)  # its other names may be found later
        tree.hashes.forget(backing_ino)  # of an earlier file with this number
        if inode.parent is None:
            inode.hold_unlinked(regular_files.hold_open(tree.pending_version.fd, copy), status.st_uid)
    finally:
        os.close(source)
    os.unlink(copy, dir_fd=tree.pending_version.fd)


def complete_copies(tree: PendingTree) -> None:
    """Gives the copies that a crash or an error left the names that they lack."""
    staging = tree.pending_version.fd
    for name in map(os.fsencode, durable.names(staging)):
        if not name.startswith(_COPY):
            continue
        old, new = (
            _original(tree.pending_version, name),
            os.stat(name, dir_fd=staging, follow_symlinks=False).st_ino,
        )
        _replace_names(tree, old, name)
        known = tree.inodes.known(old)
        # If the copy was looked up meanwhile, it has a node of its own, and the old one is stale.
        if known is not None and tree.inodes.known(new) is None:
            tree.inodes.renumber(known, new)
            tree.inodes.pin_number(new, known.ino)
            tree.hashes.forget(new)
        os.unlink(name, dir_fd=staging)


def problems(pending_version: PendingVersion) -> Iterator[Damaged]:
    """Yields damage of the copies beside a tree."""
    for name in map(os.fsencode, durable.names(pending_version.fd)):
        if name.startswith(_COPY):
            try:
                _original(pending_version, name)
            except Damaged as error:
                yield error


def _original(pending_version: PendingVersion, name: bytes) -> int:
    """Returns the number of the inode that a copy is of. Raises Damaged."""
    number = name[len(_COPY) :]
    if not number.isdigit() or number != b"%d" % int(number):
        raise Damaged(pending_version.what(name), "its name has no inode number")
    if not stat.S_ISREG(os.stat(name, dir_fd=pending_version.fd, follow_symlinks=False).st_mode):
        raise Damaged(pending_version.what(name), "it is not a regular file")
    return int(number)


def _make(tree: PendingTree, source: int, status: os.stat_result, copy: bytes) -> int:
    """Makes the complete copy durably, and returns the number of its inode."""
    staging, temp = tree.pending_version.fd, durable.temp_name()
    target = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=staging)
    try:
        _copy(source, target, status)
        durable.move(staging, temp, staging, copy, label="unshare")
        return os.fstat(target).st_ino
    except Exception:
        for name in (temp, copy):
            regular_files.unlink_quietly(staging, name)
        raise
    finally:
        os.close(target)


def _copy(source: int, target: int, status: os.stat_result) -> None:
    """Copies bytes, holes, owner, mode, times and attributes."""
    copy_file(source, target)
    if (status.st_uid, status.st_gid) != (os.geteuid(), os.getegid()):
        os.fchown(target, status.st_uid, status.st_gid)
    os.fchmod(target, stat.S_IMODE(status.st_mode))
    for name in os.listxattr(source):
        os.setxattr(target, name, os.getxattr(source, name))
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))
    durable.sync_file(target, label="unshare")


def _replace_names(tree: PendingTree, backing_ino: int, copy: bytes) -> None:
    """Renames a link of `copy` over every name of the inode in the tree."""
    staging = tree.pending_version.fd
    root = tree.open_root()
    try:
        for directory, entries in scan(root, overlay.is_reserved):
            for entry in entries:
                if entry.inode() == backing_ino and entry.is_file(follow_symlinks=False):
                    name = os.fsencode(entry.name)
                    if not _equal(directory, name, staging, copy):
                        continue
                    temp = durable.temp_name()
                    os.link(copy, temp, src_dir_fd=staging, dst_dir_fd=staging)
                    try:
                        durable.step("unshare:replace")
                        with overlay.keeping_mtime(directory):
                            os.rename(temp, name, src_dir_fd=staging, dst_dir_fd=directory)
                    except Exception:
                        regular_files.unlink_quietly(staging, temp)
                        raise
    finally:
        os.close(root)


def _equal(directory: int, name: bytes, staging: int, copy: bytes) -> bool:
    """Compares bytes: another file may have got the number of the inode since the copy was made."""
    with contextlib.ExitStack() as stack:
        opened = []
        for dir_fd, path in ((directory, name), (staging, copy)):
            opened.append(regular_files.open_regular(dir_fd, path))
            stack.callback(os.close, opened[-1])
        return regular_files.same_bytes(*opened)
