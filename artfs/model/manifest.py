"""The manifest: every entry of a version by its path, as plain values.

Reads pages through a reader, and must not know where they are stored. Any thread may use these.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from artfs.model.digest import text
from artfs.model.entry import RUN, DirEntry, Entry, FileEntry, SymlinkEntry, kind_of
from artfs.model.tree import TreeReader


def walk(reader: TreeReader, root: DirEntry) -> Iterator[tuple[bytes, Entry]]:
    """Yields every entry below `root` with its path, in preorder: a directory, then its entries.

    Holds one page for each level and one path, whatever the size of the version. Raises Damaged.
    """
    reader.check_count(root)
    above = b""
    stack = [(0, reader.entries(root.tree))]
    while stack:
        length, entries = stack[-1]
        # Cut, and not kept for each level: in a deep tree all these paths are large.
        above = above[:length]
        found = next(entries, None)
        if found is None:
            stack.pop()
            continue
        entry = found[1]
        path = above + entry.name
        yield path, entry
        if isinstance(entry, DirEntry):
            reader.check_count(entry)
            above = path + b"/"
            stack.append((len(above), reader.entries(entry.tree)))


def describe(entry: Entry) -> dict[str, Any]:
    """Returns an entry's line of the manifest: those of kind, size, mode, mtime, digest, target, uri it has.

    `mode` is octal text, `mtime` nanoseconds since the epoch. Bytes are decoded with surrogateescape.
    """
    found: dict[str, Any] = {"kind": kind_of(entry)}
    if isinstance(entry, DirEntry):
        found |= {"mode": f"{entry.mode:04o}", "digest": text(entry.content)}
    elif isinstance(entry, SymlinkEntry):
        found |= {"target": _decoded(entry.target)}
    elif isinstance(entry, FileEntry):
        found |= {"size": entry.size, "mode": f"{entry.mode:04o}", "digest": text(entry.blob)}
    else:
        found |= {
            "size": entry.size,
            "mode": f"{entry.mode:04o}",
            "digest": _decoded(entry.checksum),
            "uri": _decoded(entry.uri),
        }
    found["mtime"] = entry.mtime_ns
    if not isinstance(entry, SymlinkEntry):
        run = dict(entry.xattrs).get(RUN)
        if run is not None:
            found["run"] = _decoded(run)
    return found


def find(reader: TreeReader, root: DirEntry, path: bytes) -> Entry | None:
    """Returns the entry at a path below `root` (empty: `root` itself); None if there is none."""
    entry: Entry = root
    for name in path.split(b"/"):
        if not name:
            continue
        if not isinstance(entry, DirEntry):
            return None
        found = reader.find(entry.tree, name)
        if found is None:
            return None
        entry = found[1]
    return entry


def _decoded(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")


__all__ = ["describe", "find", "walk"]
