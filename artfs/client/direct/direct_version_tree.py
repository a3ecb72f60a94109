"""The tree of one version, read from the objects of a volume. Blocking."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from artfs.catalog.records import VersionRecord
from artfs.client.file_attributes import is_users
from artfs.client.values import VersionEntry, unchecked
from artfs.client.version_tree import VersionTree
from artfs.model import manifest
from artfs.model.entry import DirEntry, Entry, FileEntry, ReferenceEntry, SymlinkEntry, mode_and_size
from artfs.volume.volume import Volume
from artfs.volume.volume_references import References


class DirectVersionTree(VersionTree):
    def __init__(self, volume: Volume, collection: str, record: VersionRecord) -> None:
        self._label = f"{collection}:{record.version}"
        self._store, self._references = volume.store, volume.references
        self._root = record.root.entry()

    def label(self) -> str:
        return self._label

    def find(self, path: Sequence[bytes]) -> VersionEntry | None:
        found = self._tree_entry(path)
        return None if found is None else self._entry(b"/".join(path), found)

    def _tree_entry(self, path: Sequence[bytes]) -> Entry | None:
        return manifest.find(self._store.reader, self._root, b"/".join(path))

    def children(self, path: Sequence[bytes]) -> Iterator[VersionEntry]:
        for _, entry in self._store.reader.entries(self._directory(path).tree):
            yield self._entry(b"/".join([*path, entry.name]), entry)

    def below(self, path: Sequence[bytes]) -> Iterator[VersionEntry]:
        above = b"".join(name + b"/" for name in path)
        for below, entry in manifest.walk(self._store.reader, self._directory(path)):
            yield self._entry(above + below, entry)

    def _directory(self, path: Sequence[bytes]) -> DirEntry:
        entry = self._tree_entry(path)
        assert isinstance(entry, DirEntry)
        return entry

    def open(self, path: Sequence[bytes]) -> int:
        entry = self._tree_entry(path)
        return self._references.open(entry) if isinstance(entry, ReferenceEntry) else self._open_blob(entry)

    def _open_blob(self, entry: Entry | None) -> int:
        assert isinstance(entry, FileEntry)
        return self._store.open_verified(entry.blob, entry.size)

    def _entry(self, path: bytes, entry: Entry) -> VersionEntry:
        mode, size = mode_and_size(entry)
        target, xattrs = b"", list[tuple[bytes, bytes]]()
        if isinstance(entry, SymlinkEntry):
            target = entry.target
        else:
            xattrs = [xattr for xattr in entry.xattrs if is_users(xattr[0])]
        open_file: Callable[[], int] = partial(self._open_blob, entry)
        check: Callable[[int], None] = unchecked
        if isinstance(entry, ReferenceEntry):
            reader = _ReferenceReader(self._references, entry)
            open_file, check = reader.open, reader.check
        return VersionEntry(
            path,
            {DirEntry: "directory", SymlinkEntry: "symlink"}.get(type(entry), "file"),
            stat.S_IMODE(mode),
            entry.uid,
            entry.gid,
            size,
            entry.mtime_ns,
            target,
            lambda: xattrs,
            open_file,
            check,
        )


class _ReferenceReader:
    """Reads a reference once."""

    def __init__(self, references: References, entry: ReferenceEntry) -> None:
        self._references, self._entry = references, entry

    def open(self) -> int:
        self._opened = self._references.open_file(self._entry)
        return self._opened.fd

    def check(self, copy: int) -> None:
        self._opened.check(copy)
