"""Tree pages in memory, and trees made of plain values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec.structs import replace

from artfs.model.digest import Algorithm, TreeId, blob_id
from artfs.model.entry import DirEntry, Entry, FileEntry, ReferenceEntry, SymlinkEntry
from artfs.model.pages import Page, decode
from artfs.model.tree import TreeReader, build

XXH128 = Algorithm.XXH128


class PageStore:
    """Pages in a dict; records which of them are fetched and put."""

    def __init__(self) -> None:
        self.pages: dict[TreeId, Page] = {}
        self.fetched: list[TreeId] = []
        self.put_pages: list[TreeId] = []
        self.reader = TreeReader(self.fetch)

    def put(self, tree: TreeId, data: bytes) -> None:
        self.put_pages.append(tree)
        self.pages[tree] = decode(data)

    def fetch(self, tree: TreeId) -> Page:
        self.fetched.append(tree)
        return self.pages[tree]

    def directory(self, entries: Mapping[str, Any], name: bytes = b"", **attributes: Any) -> DirEntry:
        """Makes a directory: text is a file's bytes, a dict a directory, else an entry; None is left out."""
        made: list[Entry] = []
        for child, value in sorted((c.encode(), value) for c, value in entries.items() if value is not None):
            if isinstance(value, dict):
                made.append(self.directory(value, child))
            else:
                made.append(replace(file(value) if isinstance(value, str) else value, name=child))
        return self.directory_of(made, name, **attributes)

    def directory_of(self, entries: list[Entry], name: bytes = b"", **attributes: Any) -> DirEntry:
        wanted: dict[str, Any] = {"mode": 0o755, "uid": 0, "gid": 0, "mtime_ns": 0, **attributes}
        return build(entries, XXH128, self.put).directory(name, **wanted)


def file(content: str, **attributes: Any) -> FileEntry:
    digest = XXH128.digest(content.encode())
    plain = FileEntry(b"", 0o644, 0, 0, 0, len(content), blob_id(XXH128, digest))
    return replace(plain, **attributes)


def link(target: bytes, **attributes: Any) -> SymlinkEntry:
    return replace(SymlinkEntry(b"", 0, 0, 0, target), **attributes)


def reference(uri: bytes = b"s3://a", checksum: bytes = b"etag", **attributes: Any) -> ReferenceEntry:
    return replace(ReferenceEntry(b"", 0o644, 0, 0, 0, 3, uri, checksum), **attributes)
