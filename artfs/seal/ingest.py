"""Reads a frozen pending tree bottom up, hashes the files whose digest is not known, and writes tree objects.

Owns the order of the walk, and which attributes of a file become part of a version. It changes nothing in the
pending tree and shares no inode of it. Of a patch it reads the changes alone: a directory over a lower one
becomes the tree of the lower one, updated. Blocking; runs on a sealing thread.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from msgspec.structs import replace

from artfs.errors import CannotSeal, Damaged, naming
from artfs.linux.walk import DIRECTORY, DirectoryStack
from artfs.model import names
from artfs.model.digest import Algorithm, BlobId, TreeId
from artfs.model.entry import (
    RUN,
    SEALED_MODE,
    DirEntry,
    Entry,
    FileEntry,
    PageSummary,
    ReferenceEntry,
    SymlinkEntry,
    Xattrs,
)
from artfs.model.tree import TreeReader, build
from artfs.pending import overlay, reference_files
from artfs.pending.overlay import Lower, Stub
from artfs.pending.pending_tree import PendingTree
from artfs.printing import printable
from artfs.store import regular_files

SPECIAL = {stat.S_IFIFO: "fifo", stat.S_IFSOCK: "socket", stat.S_IFCHR: "device", stat.S_IFBLK: "device"}
_MOST_REFUSED = (
    1 << 20
)  # bytes of the paths of entries that a version can't hold; the error shows only a few of them

#: Returns the digest of a file that was learned while it was written, or None.
Known = Callable[[os.stat_result], bytes | None]


@dataclass(frozen=True, slots=True)
class NewFile:
    """A file whose blob the store does not have yet."""

    name: bytes
    blob: BlobId


@dataclass(frozen=True, slots=True)
class Ingested:
    """The entry of the root, and the files to link, by the path of their directory."""

    root: DirEntry
    new: list[tuple[bytes, list[NewFile]]]


@dataclass(slots=True)
class _Frame:
    """A directory of the walk: its entries so far, and the subdirectories still to be read."""

    name: bytes
    lower: Lower | None = None
    gone: set[bytes] = field(default_factory=set)
    entries: list[Entry] = field(default_factory=list)
    new: list[NewFile] = field(default_factory=list)
    directories: list[bytes] = field(default_factory=list)


class Sink(Protocol):
    """What receives the files and pages of a tree: the part of a store that ingest needs."""

    algorithm: Algorithm
    reader: TreeReader

    def hash_fd(self, fd: int) -> bytes: ...

    def identify(self, digest: bytes, fd: int) -> tuple[BlobId, bool]: ...

    def put(self, tree: TreeId, data: bytes) -> None: ...


class Ingest:
    """One walk of one tree."""

    def __init__(
        self,
        store: Sink,
        known: Known,
        on_file: Callable[[], None],
        *,
        patched: bool = False,
        references: bool = False,
    ) -> None:
        """``patched``: the tree may have overlay directories, whiteouts and stubs.

        ``references``: files may be references. If either is false, no file is examined for it.
        """
        self._store, self._known, self._on_file = store, known, on_file
        self._patched, self._references = patched, references
        self._unsealable: list[tuple[bytes, str]] = []
        self._refused = 0  # bytes of their paths
        self._new: list[tuple[bytes, list[NewFile]]] = []

    def run(self, root_fd: int) -> Ingested:
        """Reads the tree below `root_fd`.

        Raises :class:`CannotSeal`, which names the fifos, sockets and devices in the tree (not all if they
        are very many). After an error all objects that were written are unreferenced.
        """
        with DirectoryStack(os.open(b".", DIRECTORY, dir_fd=root_fd)) as at:
            stack = [self._list(at, b"")]
            while True:
                frame = stack[-1]
                if frame.directories:
                    name = frame.directories.pop()
                    try:
                        at.enter(name)
                    except OSError:
                        with naming(at.below(name)):
                            raise
                    stack.append(self._list(at, name))
                    continue
                entry = self._directory(at, frame)
                if len(stack) == 1:
                    break
                stack.pop()
                at.leave()
                stack[-1].entries.append(entry)
        if self._unsealable:
            raise CannotSeal(sorted(self._unsealable))
        return Ingested(entry, self._new)

    def _list(self, at: DirectoryStack, name: bytes) -> _Frame:
        """Reads the entries of the current directory, but not its subdirectories."""
        frame, fd = _Frame(name), at.fd
        try:
            if self._patched:
                frame.lower = overlay.lower_of(fd)
                frame.gone = overlay.whiteouts(fd)
            children = os.listdir(fd)
        except OSError:
            with naming(at.path or b"."):
                raise
        for child in map(os.fsencode, children):
            if not (self._patched and overlay.is_reserved(child)):
                self._read(at, fd, frame, child)
        return frame

    def _read(self, at: DirectoryStack, fd: int, frame: _Frame, name: bytes) -> None:
        if names.is_reserved(name):  # no such name can be made through artfs
            what = f"'{printable(at.below(name))}' of a pending version"
            raise Damaged(what, "no such name belongs there")
        status = os.stat(name, dir_fd=fd, follow_symlinks=False)
        kind = stat.S_IFMT(status.st_mode)
        if kind == stat.S_IFDIR:
            frame.directories.append(name)
        elif kind == stat.S_IFREG:
            self._on_file()
            try:
                entry = self._reference(fd, name, status) or self._file(fd, frame, name, status)
            except OSError:
                with naming(at.below(name)):
                    raise
            frame.entries.append(entry)
        elif kind == stat.S_IFLNK:
            frame.entries.append(self._symlink(name, os.readlink(name, dir_fd=fd), status))
        else:
            path = at.below(name)
            self._unsealable.append((path, SPECIAL.get(kind, "special file")))
            self._refused += len(path)
            if self._refused > _MOST_REFUSED:
                raise CannotSeal(sorted(self._unsealable))

    def _symlink(self, name: bytes, target: bytes, status: os.stat_result) -> Entry:
        owner = status.st_uid, status.st_gid
        if self._patched:
            meant = overlay.decode_target(target)
            if isinstance(meant, Stub):
                return self._stub(name, meant, *owner, status.st_mtime_ns)
            target = meant
        return SymlinkEntry(name, *owner, status.st_mtime_ns, target)

    def _stub(self, name: bytes, stub: Stub, uid: int, gid: int, mtime_ns: int) -> FileEntry | ReferenceEntry:
        entry = overlay.entry_of_stub(self._store.reader, stub, uid=uid, gid=gid, mtime_ns=mtime_ns)
        return replace(entry, name=name, mode=stub.mode & SEALED_MODE)

    def _reference(self, dir_fd: int, name: bytes, status: os.stat_result) -> ReferenceEntry | None:
        if not self._references:
            return None
        path = b"/proc/self/fd/%d/%s" % (dir_fd, name)
        target = reference_files.read_xattr(path, follow_symlinks=False)
        if target is None:
            return None
        attributes = _attributes(status)
        return ReferenceEntry(name, *attributes, status.st_size, target.uri, target.checksum, _xattrs(path))

    def _file(self, dir_fd: int, frame: _Frame, name: bytes, status: os.stat_result) -> FileEntry:
        digest = self._known(status)
        fd = regular_files.open_regular(dir_fd, name)
        try:
            if os.fstat(fd).st_ino != status.st_ino:
                raise FileNotFoundError(errno.ENOENT, "a file was replaced meanwhile")
            blob, stored = self._store.identify(digest or self._store.hash_fd(fd), fd)
            xattrs = _xattrs(fd)
        finally:
            os.close(fd)
        if not stored:
            frame.new.append(NewFile(name, blob))
        return FileEntry(name, *_attributes(status), status.st_size, blob, xattrs)

    def _directory(self, at: DirectoryStack, frame: _Frame) -> DirEntry:
        status = os.fstat(at.fd)
        summary = self._summary(frame)
        if frame.new:
            self._new.append((at.path, frame.new))
        return summary.directory(frame.name, *_attributes(status), _xattrs(at.fd))

    def _summary(self, frame: _Frame) -> PageSummary:
        if frame.lower is not None:
            changes: dict[bytes, Entry | None] = dict.fromkeys(frame.gone)
            changes.update((entry.name, entry) for entry in frame.entries)
            return self._store.reader.update(frame.lower.tree, changes, self._store.put)
        frame.entries.sort(key=lambda entry: entry.name)
        return build(frame.entries, self._store.algorithm, self._store.put)


def ingest(tree: PendingTree, root_fd: int, store: Sink, on_file: Callable[[], None]) -> Ingested:
    """Reads a pending tree, whose root is open. `on_file` is called for each file.

    Raises what :meth:`Ingest.run` does.
    """
    patched, references = tree.lower is not None, tree.pending_version.has_references()
    return Ingest(store, tree.hashes.take, on_file, patched=patched, references=references).run(root_fd)


def _attributes(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_mode & SEALED_MODE, status.st_uid, status.st_gid, status.st_mtime_ns


def _xattrs(file: int | bytes) -> Xattrs:
    """Returns the xattrs that a version keeps: those of users, and which run added the file."""
    follow = isinstance(file, int)  # a path is not followed
    found = os.listxattr(file, follow_symlinks=follow)
    if not found:
        return ()
    names = sorted(map(os.fsencode, found))
    kept = (n for n in names if n.startswith(b"user.") and (n == RUN or not n.startswith(b"user.artfs.")))
    return tuple((name, os.getxattr(file, name, follow_symlinks=follow)) for name in kept)
