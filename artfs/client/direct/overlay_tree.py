"""A patch in a volume that is not mounted, as a program fills it.

Owns a cursor that goes down a tree of which only the changed directories exist: those above a change are
materialized at that time. :mod:`~artfs.pending.overlay_directory` has the rules, and
:mod:`~artfs.pending.overlay` the single steps. Blocking.

Other processes fill the tree at the same time, so a cursor may have seen an older state of its directory. The
lower directory of a directory is only ever dropped, and whiteouts are removed after that. Hence a lower entry
shows if there is no whiteout and, read last, the lower directory is still there. Whatever removes a name or
materializes a directory holds :meth:`exclusive <OverlayTree.exclusive>`: otherwise it could restore what
another process removes between the check and the change.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import pairwise

from artfs.client.direct.direct_references import DirectReferences
from artfs.client.file_attributes import Xattrs, is_users, set_attributes, user_xattrs
from artfs.client.writable_tree import ReferenceTarget, StagedFile, TreeCursor, WritableTree, decode_run
from artfs.errors import Busy
from artfs.model.entry import RUN, DirEntry, Entry, FileEntry, ReferenceEntry, SymlinkEntry, mode_and_size
from artfs.model.tree import TreeReader
from artfs.pending import overlay
from artfs.pending.overlay import Lower, Stub
from artfs.pending.overlay_directory import OverlayDirectory
from artfs.pending.pending_tree import PendingTree
from artfs.printing import printable
from artfs.store import durable, regular_files

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class OverlayTree(WritableTree):
    """The files of `tree`, which must outlive this, as must its root's descriptor."""

    def __init__(self, tree: PendingTree, root_fd: int, references: DirectReferences) -> None:
        self._tree, self._root_fd, self._references = tree, root_fd, references

    def cursor(self) -> TreeCursor:
        return _OverlayCursor(self._tree, self._references, os.open(b".", _DIRECTORY, dir_fd=self._root_fd))

    def status(self) -> os.stat_result:
        return os.fstat(self._root_fd)

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        with _alone(self._tree.pending_version.fd):
            yield


def _alone(staging_fd: int) -> AbstractContextManager[None]:
    # Of the directory beside the tree: where directories can't be locked, the lock is a file in it.
    return durable.directory_lock(staging_fd)


@dataclass
class _Level(OverlayDirectory):
    """A directory on the way down. `fd` is -1, and `entry` describes it, until it is materialized."""

    name: bytes
    fd: int
    tree: PendingTree
    lower: Lower | None
    entry: DirEntry | None = None

    @property
    def reader(self) -> TreeReader:
        return self.tree.store.reader

    @property
    def staging(self) -> int:
        return self.tree.pending_version.fd

    def own_fd(self) -> int:
        return self.fd

    def lower_entry(self, name: bytes) -> Entry | None:
        entry = super().lower_entry(name)
        if entry is not None and self.fd >= 0 and overlay.lower_of(self.fd) is None:
            return None  # another process has dropped it, and then the whiteouts
        return entry

    def open_in(self, above: _Level) -> None:
        self.fd = os.open(self.name, _DIRECTORY, dir_fd=above.fd)
        self.lower, self.entry = overlay.lower_of(self.fd), None


class _OverlayCursor(TreeCursor):
    _levels: list[_Level] = []  # for __del__, should __init__ have been interrupted

    def __init__(self, tree: PendingTree, references: DirectReferences, root_fd: int) -> None:
        self._tree, self._references = tree, references
        self._staging_fd = tree.pending_version.fd
        self._levels = [_Level(b"", root_fd, tree, overlay.lower_of(root_fd))]

    @property
    def path(self) -> bytes:
        return b"/".join(level.name for level in self._levels[1:])

    def close(self) -> None:
        while self._levels:
            self._close(self._levels.pop())

    __del__ = close

    @staticmethod
    def _close(level: _Level) -> None:
        if level.fd >= 0:
            os.close(level.fd)

    # -- the current directory

    def enter(self, name: bytes) -> None:
        found, here = self._find(name), self._levels[-1]
        if isinstance(found, DirEntry):
            assert here.lower is not None
            lower = Lower(found.tree, here.lower.number_of(found))
            self._levels.append(_Level(name, -1, self._tree, lower, found))
        elif isinstance(found, os.stat_result) and stat.S_ISDIR(found.st_mode):
            fd = os.open(name, _DIRECTORY, dir_fd=here.fd)
            self._levels.append(_Level(name, fd, self._tree, overlay.lower_of(fd)))
        else:
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), name)

    def leave(self) -> None:
        self._close(self._levels.pop())

    def _here(self) -> int:
        """Returns the directory's descriptor, after materializing it and all above it if need be.

        Raises Busy if another process removed it.
        """
        self._open_materialized()
        if self._levels[-1].fd < 0:
            with _alone(self._staging_fd):
                return self._materialize()
        return self._existing()

    def _materialize(self) -> int:
        """Does as :meth:`_here` for a caller that is alone."""
        self._open_materialized()
        for above, level in pairwise(self._levels):
            if level.fd < 0:
                assert level.entry is not None
                assert level.lower is not None
                above.materialize_below(level.name, level.entry, level.lower)
                level.open_in(above)
        fd = self._existing()
        self._levels[-1].lower = overlay.lower_of(fd)
        return fd

    def _open_materialized(self) -> None:
        """Opens directories that others have materialized since. Raises Busy for one that they removed."""
        if self._levels[-1].fd >= 0:
            return
        for above, level in pairwise(self._levels):
            if level.fd < 0:
                try:
                    level.open_in(above)
                except (FileNotFoundError, NotADirectoryError):
                    if above.lower_entry(level.name) is None:
                        raise self._removed() from None
                    return  # it shows through, and so does all below it

    def _existing(self) -> int:
        fd = self._levels[-1].fd
        if os.fstat(fd).st_nlink == 0:
            raise self._removed()
        return fd

    def _removed(self) -> Busy:
        return Busy(f"'{printable(self.path)}' was removed by another process; try again")

    # -- its entries

    def _find(self, name: bytes) -> os.stat_result | Entry:
        """Returns an own entry's status, or what a lower one or a stub shows. Raises FileNotFoundError."""
        self._open_materialized()
        level = self._levels[-1]
        if level.fd >= 0:
            with contextlib.suppress(FileNotFoundError):
                status = os.stat(name, dir_fd=level.fd, follow_symlinks=False)
                if not stat.S_ISLNK(status.st_mode):
                    return status
                target = overlay.decode_target(os.readlink(name, dir_fd=level.fd))
                times = {"uid": status.st_uid, "gid": status.st_gid, "mtime_ns": status.st_mtime_ns}
                if isinstance(target, Stub):
                    return overlay.entry_of_stub(level.reader, target, **times)
                return SymlinkEntry(name, target=target, **times)
        entry = level.lower_entry(name)
        if entry is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
        return entry

    def status(self, name: bytes = b".") -> os.stat_result:
        if name == b".":
            self._open_materialized()
            level = self._levels[-1]
            return _status(level.entry) if level.entry is not None else os.fstat(level.fd)
        found = self._find(name)
        return found if isinstance(found, os.stat_result) else _status(found)

    def names(self) -> list[bytes]:
        self._open_materialized()
        level = self._levels[-1]
        found: set[bytes] = set()
        if level.lower is not None:
            found.update(entry.name for _, entry in level.reader.entries(level.lower.tree))
        if level.fd >= 0:
            found -= overlay.whiteouts(level.fd)
            if overlay.lower_of(level.fd) is None:
                found.clear()
            found.update(map(os.fsencode, os.listdir(level.fd)))
        return sorted(name for name in found if not overlay.is_reserved(name))

    def open(self, name: bytes, *, fetch: bool = True) -> int:
        found = self._find(name)
        if isinstance(found, FileEntry):
            return self._tree.store.open_verified(found.blob, found.size)
        if isinstance(found, ReferenceEntry) and fetch:
            return self._references.open(found)
        if isinstance(found, os.stat_result):
            fd = regular_files.open_regular(self._levels[-1].fd, name)
            return self._references.fetch(fd) if fetch else fd
        code = errno.ELOOP if isinstance(found, SymlinkEntry) else errno.EINVAL
        raise OSError(code, os.strerror(code), name)

    def reference(self, name: bytes) -> ReferenceTarget | None:
        found = self._find(name)
        if isinstance(found, ReferenceEntry):
            return ReferenceTarget(os.fsdecode(found.uri), found.size, os.fsdecode(found.checksum))
        return (
            self._references.target_of(self._proc_path(name)) if isinstance(found, os.stat_result) else None
        )

    def _proc_path(self, name: bytes) -> bytes:
        return b"/proc/self/fd/%d/%s" % (self._levels[-1].fd, name)

    def symlink_target(self, name: bytes) -> bytes:
        found = self._find(name)
        if isinstance(found, SymlinkEntry):
            return found.target
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), name)

    def xattrs(self, name: bytes) -> list[tuple[bytes, bytes]]:
        found = self._find(name)
        if isinstance(found, os.stat_result):
            return user_xattrs(self._proc_path(name))
        return [] if isinstance(found, SymlinkEntry) else [x for x in found.xattrs if is_users(x[0])]

    def run_of(self, name: bytes) -> str | None:
        found = self._find(name)
        if isinstance(found, os.stat_result):
            return super().run_of(name)
        # Not the xattr of the blob's inode: that is of the first file with these bytes.
        recorded = None if isinstance(found, SymlinkEntry) else dict(found.xattrs).get(RUN)
        return None if recorded is None else decode_run(recorded)

    # -- changes

    def _vacant(self, name: bytes) -> int:
        """Returns the directory's descriptor for something new of that name."""
        if self.find(name) is not None:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name)
        return self._here()

    def make_directory(self, name: bytes, mode: int) -> None:
        os.mkdir(name, mode, dir_fd=self._vacant(name))

    def stage(self, mode: int) -> StagedFile:
        return StagedFile.create(self._staging_fd, durable.temp_name(), mode)

    def stage_symlink(self, target: bytes, mtime_ns: int) -> StagedFile:
        entry = SymlinkEntry(b"", os.geteuid(), os.getegid(), mtime_ns, target)
        return StagedFile(self._staging_fd, overlay.stage_symlink(self._staging_fd, entry))

    def stage_reference(self, target: ReferenceTarget) -> StagedFile:
        return self._references.stage(target, durable.temp_name())

    def take(self, name: bytes) -> StagedFile:
        raise OSError(errno.EXDEV, "a file of a patch can only be copied", name)

    def publish(self, staged: StagedFile, name: bytes, *, replace: bool) -> None:
        if replace:
            with contextlib.suppress(FileNotFoundError):
                if stat.S_ISDIR(self.status(name).st_mode):
                    raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), name)
            os.rename(staged.name, name, src_dir_fd=staged.dir_fd, dst_dir_fd=self._materialize())
        else:
            durable.rename_noreplace(staged.dir_fd, staged.name, self._vacant(name), name)
        staged.published = True

    def remove(self, name: bytes) -> None:
        with _alone(self._staging_fd), contextlib.ExitStack() as stack:
            below: _Level | None = None
            if stat.S_ISDIR(self.status(name).st_mode):
                self.enter(name)
                below = self._levels.pop()
                stack.callback(self._close, below)
                if not below.is_empty():
                    raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), name)
            fd = self._materialize()
            self._levels[-1].prepare_removal(name, below)
            with contextlib.suppress(FileNotFoundError):  # it only showed through
                (os.unlink if below is None else os.rmdir)(name, dir_fd=fd)

    def set_attributes(self, *, mode: int | None, mtime_ns: int, xattrs: Xattrs) -> None:
        set_attributes(self._here(), mode=mode, mtime_ns=mtime_ns, xattrs=xattrs)


def _status(entry: Entry) -> os.stat_result:
    """Returns what stat(2) would say of an entry, as far as it is known."""
    mode, size = mode_and_size(entry)
    seconds = entry.mtime_ns // 1_000_000_000
    known = (mode, 0, 0, 1, entry.uid, entry.gid, size, seconds, seconds, seconds)
    return os.stat_result(known, {"st_mtime_ns": entry.mtime_ns, "st_atime_ns": entry.mtime_ns})
