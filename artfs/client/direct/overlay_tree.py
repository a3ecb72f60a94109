"""A patch in a volume that nobody mounted, as who fills it uses it.

Owns the way down a tree of which only the changed directories are there: those above a change are planted
when it comes. :mod:`~artfs.pending.overlay` has the single steps, and says why their order is safe. Blocking.

Other processes fill the tree at the same time, so that what a cursor once saw of its directory may be past.
What a directory lies over is only ever taken away from it. So a lower entry shows as long as there is no
whiteout and then, read last, still what it lies over: whiteouts go after that does. Whatever removes a name
or plants a directory holds :meth:`exclusive <OverlaidTree.exclusive>`: else one that plants might bring back
what was removed between its look and its step.
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

from artfs.client.file_attributes import Xattrs, is_users, set_attributes, user_xattrs
from artfs.client.reference_writer import DirectReferences
from artfs.client.writable_tree import (
    ReferenceTarget,
    StagedFile,
    TreeCursor,
    WritableTree,
    as_run,
)
from artfs.errors import Busy, printable
from artfs.model.entry import RUN, DirEntry, Entry, FileEntry, ReferenceEntry, SymlinkEntry, mode_and_size
from artfs.pending import overlay
from artfs.pending.overlay import Lower, Stub
from artfs.pending.tree import PendingTree
from artfs.store import durable, regular_files

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class OverlaidTree(WritableTree):
    """The files of `tree`, which must outlive this, as must its root's descriptor."""

    def __init__(self, tree: PendingTree, root_fd: int, references: DirectReferences) -> None:
        self._tree, self._root_fd, self._references = tree, root_fd, references

    def cursor(self) -> TreeCursor:
        return _OverlaidCursor(self._tree, self._references, os.open(b".", _DIRECTORY, dir_fd=self._root_fd))

    def status(self) -> os.stat_result:
        return os.fstat(self._root_fd)

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        with _alone(self._tree.pending_version.fd):
            yield


def _alone(staging_fd: int) -> AbstractContextManager[None]:
    # Of the directory beside the tree: where directories can't be locked, the lock is a file in it.
    return durable.directory_lock(staging_fd)


@dataclass(slots=True)
class _Level:
    """A directory on the way down: `fd` is -1 and `entry` says what it is while it only shows through."""

    name: bytes
    fd: int
    lower: Lower | None
    entry: DirEntry | None = None

    def open_in(self, above: _Level) -> None:
        self.fd = os.open(self.name, _DIRECTORY, dir_fd=above.fd)
        self.lower, self.entry = overlay.lower_of(self.fd), None


class _OverlaidCursor(TreeCursor):
    _way: list[_Level] = []  # for __del__, should __init__ have been interrupted

    def __init__(self, tree: PendingTree, references: DirectReferences, root_fd: int) -> None:
        self._references = references
        self._store, self._reader = tree.store, tree.store.reader
        self._staging_fd = tree.pending_version.fd
        self._way = [_Level(b"", root_fd, overlay.lower_of(root_fd))]

    @property
    def path(self) -> bytes:
        return b"/".join(level.name for level in self._way[1:])

    def close(self) -> None:
        while self._way:
            self._close(self._way.pop())

    __del__ = close

    @staticmethod
    def _close(level: _Level) -> None:
        if level.fd >= 0:
            os.close(level.fd)

    # -- where it stands

    def enter(self, name: bytes) -> None:
        found = self._find(name)
        if isinstance(found, DirEntry):
            lower = self._way[-1].lower
            assert lower is not None
            self._way.append(_Level(name, -1, Lower(found.tree, lower.number_of(found)), found))
        elif isinstance(found, os.stat_result) and stat.S_ISDIR(found.st_mode):
            fd = os.open(name, _DIRECTORY, dir_fd=self._way[-1].fd)
            self._way.append(_Level(name, fd, overlay.lower_of(fd)))
        else:
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), name)

    def leave(self) -> None:
        self._close(self._way.pop())

    def _here(self) -> int:
        """Returns the directory's descriptor; it is planted, with all above it, if it only shows through.

        Raises Busy if others removed it.
        """
        self._open_planted()
        if self._way[-1].fd < 0:
            with _alone(self._staging_fd):
                return self._plant()
        return self._living()

    def _plant(self) -> int:
        """Does as :meth:`_here` for who is alone."""
        self._open_planted()
        for above, level in pairwise(self._way):
            if level.fd < 0:
                assert level.entry is not None
                assert level.lower is not None
                staged = overlay.stage_directory(self._staging_fd, level.entry, level.lower)
                overlay.place_new(self._staging_fd, staged, above.fd, level.name)
                level.open_in(above)
        return self._living()

    def _open_planted(self) -> None:
        """Opens what others have planted of the way since. Raises Busy for what they removed."""
        if self._way[-1].fd >= 0:
            return
        for above, level in pairwise(self._way):
            if level.fd < 0:
                try:
                    level.open_in(above)
                except (FileNotFoundError, NotADirectoryError):
                    if overlay.is_gone(above.fd, level.name) or overlay.lower_of(above.fd) is None:
                        raise self._removed() from None
                    return  # it shows through, with all below it

    def _living(self) -> int:
        fd = self._way[-1].fd
        if os.fstat(fd).st_nlink == 0:
            raise self._removed()
        return fd

    def _removed(self) -> Busy:
        return Busy(f"'{printable(self.path)}' was removed by others meanwhile; try again")

    # -- what is there

    def _find(self, name: bytes) -> os.stat_result | Entry:
        """Returns an own entry's status, or what a lower one or a stub shows. Raises FileNotFoundError."""
        self._open_planted()
        level = self._way[-1]
        if level.fd >= 0:
            with contextlib.suppress(FileNotFoundError):
                status = os.stat(name, dir_fd=level.fd, follow_symlinks=False)
                if not stat.S_ISLNK(status.st_mode):
                    return status
                target = overlay.read_target(os.readlink(name, dir_fd=level.fd))
                times = {"uid": status.st_uid, "gid": status.st_gid, "mtime_ns": status.st_mtime_ns}
                if isinstance(target, Stub):
                    return overlay.stubbed(self._reader, target, **times)
                return SymlinkEntry(name, target=target, **times)
        found = None if level.lower is None else self._reader.find(level.lower.tree, name)
        if found is None or (
            level.fd >= 0 and (overlay.is_gone(level.fd, name) or overlay.lower_of(level.fd) is None)
        ):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
        return found[1]

    def _shows(self, name: bytes) -> bool:
        try:
            self._find(name)
        except FileNotFoundError:
            return False
        return True

    def status(self, name: bytes = b".") -> os.stat_result:
        if name == b".":
            self._open_planted()
            level = self._way[-1]
            return _status(level.entry) if level.entry is not None else os.fstat(level.fd)
        found = self._find(name)
        return found if isinstance(found, os.stat_result) else _status(found)

    def names(self) -> list[bytes]:
        self._open_planted()
        level = self._way[-1]
        found: set[bytes] = set()
        if level.lower is not None:
            found.update(entry.name for _, entry in self._reader.entries(level.lower.tree))
        if level.fd >= 0:
            found -= overlay.gone(level.fd)
            if overlay.lower_of(level.fd) is None:
                found.clear()
            found.update(name for name in map(os.fsencode, os.listdir(level.fd)))
        return sorted(name for name in found if not overlay.is_reserved(name))

    def open(self, name: bytes, *, fetch: bool = True) -> int:
        found = self._find(name)
        if isinstance(found, FileEntry):
            return self._store.open_verified(found.blob, found.size)
        if isinstance(found, ReferenceEntry) and fetch:
            return self._references.open(found)
        if isinstance(found, os.stat_result):
            fd = regular_files.open_regular(self._way[-1].fd, name)
            return self._references.fetched(fd) if fetch else fd
        code = errno.ELOOP if isinstance(found, SymlinkEntry) else errno.EINVAL
        raise OSError(code, os.strerror(code), name)

    def reference(self, name: bytes) -> ReferenceTarget | None:
        found = self._find(name)
        if isinstance(found, ReferenceEntry):
            return ReferenceTarget(os.fsdecode(found.uri), found.size, os.fsdecode(found.checksum))
        return self._references.origin(self._path(name)) if isinstance(found, os.stat_result) else None

    def _path(self, name: bytes) -> bytes:
        return b"/proc/self/fd/%d/%s" % (self._way[-1].fd, name)

    def symlink_target(self, name: bytes) -> bytes:
        found = self._find(name)
        if isinstance(found, SymlinkEntry):
            return found.target
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), name)

    def xattrs(self, name: bytes) -> list[tuple[bytes, bytes]]:
        found = self._find(name)
        if isinstance(found, os.stat_result):
            return user_xattrs(self._path(name))
        return [] if isinstance(found, SymlinkEntry) else [x for x in found.xattrs if is_users(x[0])]

    def run_of(self, name: bytes) -> str | None:
        found = self._find(name)
        if isinstance(found, os.stat_result):
            return super().run_of(name)
        # Not as the blob's inode says: that is of whoever stored these bytes first.
        noted = None if isinstance(found, SymlinkEntry) else dict(found.xattrs).get(RUN)
        return None if noted is None else as_run(noted)

    # -- what is changed

    def _vacant(self, name: bytes) -> int:
        if self._shows(name):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name)
        return self._here()

    def make_directory(self, name: bytes, mode: int) -> None:
        os.mkdir(name, mode, dir_fd=self._vacant(name))

    def stage(self, mode: int) -> StagedFile:
        return StagedFile.create(self._staging_fd, durable.temp_name(), mode)

    def stage_symlink(self, target: bytes, mtime_ns: int) -> StagedFile:
        entry = SymlinkEntry(b"", os.geteuid(), os.getegid(), mtime_ns, target)
        return StagedFile(self._staging_fd, overlay.stage_symlink(self._staging_fd, entry))

    def stage_reference(self, origin: ReferenceTarget) -> StagedFile:
        return self._references.stage(origin, durable.temp_name())

    def take(self, name: bytes) -> StagedFile:
        raise OSError(errno.EXDEV, "what is in a patch is copied, not taken", name)

    def publish(self, staged: StagedFile, name: bytes, *, replace: bool) -> None:
        if replace:
            with contextlib.suppress(FileNotFoundError):
                if stat.S_ISDIR(self.status(name).st_mode):
                    raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), name)
            os.rename(staged.name, name, src_dir_fd=staged.dir_fd, dst_dir_fd=self._plant())
        else:
            durable.rename_noreplace(staged.dir_fd, staged.name, self._vacant(name), name)
        staged.published = True

    def remove(self, name: bytes) -> None:
        with _alone(self._staging_fd):
            directory = stat.S_ISDIR(self.status(name).st_mode)
            if directory:
                self._refuse_unless_empty(name)
            fd = self._plant()
            lower = overlay.lower_of(fd)
            if lower is not None and self._reader.find(lower.tree, name) is not None:
                overlay.hide(fd, name)
            with contextlib.suppress(FileNotFoundError):  # it only showed through
                if directory:
                    with durable.directory(fd, name) as below:
                        overlay.drop_lower(below, self._staging_fd)
                    os.rmdir(name, dir_fd=fd)
                else:
                    os.unlink(name, dir_fd=fd)

    def _refuse_unless_empty(self, name: bytes) -> None:
        self.enter(name)
        try:
            if self.names():
                raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), name)
        finally:
            self.leave()

    def set_attributes(self, *, mode: int | None, mtime_ns: int, xattrs: Xattrs) -> None:
        set_attributes(self._here(), mode=mode, mtime_ns=mtime_ns, xattrs=xattrs)


def _status(entry: Entry) -> os.stat_result:
    """Returns what stat(2) would say of an entry, as far as it is known."""
    mode, size = mode_and_size(entry)
    seconds = entry.mtime_ns // 1_000_000_000
    known = (mode, 0, 0, 1, entry.uid, entry.gid, size, seconds, seconds, seconds)
    return os.stat_result(known, {"st_mtime_ns": entry.mtime_ns, "st_atime_ns": entry.mtime_ns})


__all__ = ["OverlaidTree"]
