"""The entries of a directory: frozen values, one type for each kind of entry.

An entry is a MessagePack array that begins with its tag; the order of the fields here is that of the bytes
(``artfs/store/FORMAT.md``). The types have the bounds, so that decoding enforces them; ``pages.py`` checks
what types can't express. Must not know pages. Any thread may use these.
"""

from __future__ import annotations

import stat
from typing import Annotated, TypeAlias

from msgspec import Meta, Struct

from artfs.model.digest import LONGEST_ID, BlobId, ContentDigest, TreeId

MAX_INT = 2**63 - 1
# The xattr with the run that added a file.
RUN = b"user.artfs.run"
# As owner or group of child directories: there are none, or they differ.
NONE = -1
MANY = -2

# A class that has a field `bytes` must not use the type's name: hence an alias for each use.
Name: TypeAlias = Annotated[bytes, Meta(max_length=255)]
Target: TypeAlias = Annotated[bytes, Meta(min_length=1, max_length=4095)]
Uri: TypeAlias = Annotated[bytes, Meta(min_length=1, max_length=65535)]
Checksum: TypeAlias = Annotated[bytes, Meta(max_length=65535)]
Xattrs: TypeAlias = tuple[tuple[bytes, bytes], ...]
# Sealed entries have no setuid and setgid bits; the format has no place for them.
SEALED_MODE = 0o1777
Mode: TypeAlias = Annotated[int, Meta(ge=0, le=SEALED_MODE)]
Owner: TypeAlias = Annotated[int, Meta(ge=0, le=2**32 - 1)]
Count: TypeAlias = Annotated[int, Meta(ge=0, le=MAX_INT)]
ListMask: TypeAlias = Annotated[int, Meta(ge=0, le=0o555)]
BlobRef: TypeAlias = Annotated[BlobId, Meta(min_length=17, max_length=LONGEST_ID)]
TreeRef: TypeAlias = Annotated[TreeId, Meta(min_length=17, max_length=33)]
ContentRef: TypeAlias = Annotated[ContentDigest, Meta(min_length=17, max_length=33)]


class FileEntry(Struct, frozen=True, array_like=True, tag=0, gc=False):
    """A regular file. ``mode`` is the permission bits; ``xattrs`` are sorted by name."""

    name: Name
    mode: Mode
    uid: Owner
    gid: Owner
    mtime_ns: int
    size: Count
    blob: BlobRef
    xattrs: Xattrs = ()


class DirEntry(Struct, frozen=True, array_like=True, tag=1, gc=False):
    """A directory, with sums over all entries below it.

    ``entries`` counts all entries below, at every depth; ``files`` the files and references among them;
    ``bytes`` is the sum of their sizes (at most 2**63 - 1). ``reach`` is the mask, of r and x bits, with
    which every directory from here down can be listed (:meth:`PageSummary.directory` computes it).

    The root of a version is one with the name ``b""``.
    """

    name: Name
    mode: Mode
    uid: Owner
    gid: Owner
    mtime_ns: int
    tree: TreeRef
    content: ContentRef
    entries: Count
    files: Count
    bytes: Count
    reach: ListMask
    xattrs: Xattrs = ()


class SymlinkEntry(Struct, frozen=True, array_like=True, tag=2, gc=False):
    """A symbolic link; its target is never interpreted."""

    name: Name
    uid: Owner
    gid: Owner
    mtime_ns: int
    target: Target


class ReferenceEntry(Struct, frozen=True, array_like=True, tag=3, gc=False):
    """A file whose bytes live at a URI outside the volume; ``checksum`` may be empty."""

    name: Name
    mode: Mode
    uid: Owner
    gid: Owner
    mtime_ns: int
    size: Count
    uri: Uri
    checksum: Checksum
    xattrs: Xattrs = ()


Entry: TypeAlias = FileEntry | DirEntry | SymlinkEntry | ReferenceEntry
"""Tags 4 and up are reserved; the next one is meant for a file whose blob is made of chunks."""


def kind_of(entry: Entry) -> str:
    """Returns ``file``, ``directory``, ``symlink`` or ``reference``."""
    if isinstance(entry, FileEntry):
        return "file"
    if isinstance(entry, DirEntry):
        return "directory"
    return "symlink" if isinstance(entry, SymlinkEntry) else "reference"


def mode_and_size(entry: Entry) -> tuple[int, int]:
    """Returns ``st_mode``, with the kind, and ``st_size`` of an entry; a directory's size is 0."""
    if isinstance(entry, DirEntry):
        return stat.S_IFDIR | entry.mode, 0
    if isinstance(entry, SymlinkEntry):
        return stat.S_IFLNK | 0o777, len(entry.target)
    return stat.S_IFREG | entry.mode, entry.size


class PageSummary(Struct, frozen=True, array_like=True, gc=False):
    """The sums over a page and all pages below it.

    It is an item of an index page, and the result of building or updating a directory.

    ``last`` is the last name in or below the page (``b""`` for an empty directory), ``names`` the number of
    direct entries of the directory in or below the page; ``entries``, ``files`` and ``bytes`` count at
    every depth, as in :class:`DirEntry`. ``reach``, ``uid`` and ``gid`` say how the child directories
    among them can be listed: the intersection of their reaches, and their owner and group, which are
    ``NONE`` without child directories and ``MANY`` where they differ.
    """

    last: Name
    tree: TreeRef
    content: ContentRef
    names: Count
    entries: Count
    files: Count
    bytes: Count
    reach: ListMask = 0o555
    uid: Annotated[int, Meta(ge=MANY, le=2**32 - 1)] = NONE
    gid: Annotated[int, Meta(ge=MANY, le=2**32 - 1)] = NONE

    def directory(
        self, name: Name, mode: int, uid: int, gid: int, mtime_ns: int, xattrs: Xattrs = ()
    ) -> DirEntry:
        """Makes the entry of the directory that this summary is of; computes its ``reach``.

        A user with a class's bits of the reach can list every directory from here down, whatever their class
        there is. So where owners differ, the owner gets no bits and all others need the bits of the owners
        below, since they may be those; likewise for groups.
        """
        reach = mode & 0o555 & self.reach
        if self.uid not in (NONE, uid):
            reach &= (self.reach >> 6) * 0o011
        if self.gid not in (NONE, gid):
            reach &= 0o500 | (self.reach >> 3 & 0o5)
        return DirEntry(
            name,
            mode,
            uid,
            gid,
            mtime_ns,
            self.tree,
            self.content,
            self.entries,
            self.files,
            self.bytes,
            reach,
            xattrs,
        )


class Listable:
    """Combines how the child directories of a page can be listed. The order of adding does not matter."""

    __slots__ = ("gid", "reach", "uid")

    def __init__(self) -> None:
        self.reach, self.uid, self.gid = 0o555, NONE, NONE

    def add(self, reach: int, uid: int, gid: int) -> None:
        """Adds a directory, or the summary of a page below."""
        self.reach &= reach
        self.uid = _common(self.uid, uid)
        self.gid = _common(self.gid, gid)


def _common(one: int, other: int) -> int:
    if one == NONE:
        return other
    return one if other in (NONE, one) else MANY
