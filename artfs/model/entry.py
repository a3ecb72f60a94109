"""Owns the entries of a directory: frozen values, one type for each kind of entry.

An entry is a MessagePack array that begins with its tag; the order of the fields here is the order of the
bytes (``artfs/store/FORMAT.md``). Bounds stand in the types, so that decoding enforces them; what types
can't say is checked in ``pages.py``. Must not know pages. Any thread may use these.
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

from msgspec import Meta, Struct

from artfs.model.digest import LONGEST_ID, BlobId, ContentDigest, TreeId

MAX_INT = 2**63 - 1
ANY_OWNER = -1

# A class that has a field `bytes` must not use the type's name: hence an alias for each use.
Name: TypeAlias = Annotated[bytes, Meta(max_length=255)]
Target: TypeAlias = Annotated[bytes, Meta(min_length=1, max_length=4095)]
Uri: TypeAlias = Annotated[bytes, Meta(min_length=1, max_length=65535)]
Checksum: TypeAlias = Annotated[bytes, Meta(max_length=65535)]
Xattrs: TypeAlias = tuple[tuple[bytes, bytes], ...]
# Sealed entries bear no setuid and no setgid bit; the format has no place for them.
Mode: TypeAlias = Annotated[int, Meta(ge=0, le=0o1777)]
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
    """A directory, with what is known about all that is below it.

    ``entries`` counts all entries below, at every depth; ``files`` the files and references among them;
    ``bytes`` is the sum of their sizes (at most 2**63 - 1). ``reach`` is the mask, of r and x bits, with
    which every directory from here down can be listed: ``mode & 0o555`` and the reach of each child
    directory, whose owner bits count as none if its uid differs, group bits if its gid differs.

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


class Summary(Struct, frozen=True, array_like=True, gc=False):
    """What is known about a page and all that is below it, without reading it.

    It is an item of an index page, and what building or updating a directory returns.

    ``last`` is the last name in or below the page (``b""`` for an empty directory), ``names`` the number of
    direct entries of the directory in or below the page; ``entries``, ``files`` and ``bytes`` count at
    every depth, as in :class:`DirEntry`. ``reach``, ``uid`` and ``gid`` say how the child directories
    among them can be listed: the mask with which all can, by that owner and that group; ``ANY_OWNER``
    where no child directory or no owner (group) bit is left to compare.
    """

    last: Name
    tree: TreeRef
    content: ContentRef
    names: Count
    entries: Count
    files: Count
    bytes: Count
    reach: ListMask = 0o555
    uid: Annotated[int, Meta(ge=ANY_OWNER, le=2**32 - 1)] = ANY_OWNER
    gid: Annotated[int, Meta(ge=ANY_OWNER, le=2**32 - 1)] = ANY_OWNER

    def directory(
        self, name: Name, mode: int, uid: int, gid: int, mtime_ns: int, xattrs: Xattrs = ()
    ) -> DirEntry:
        """Makes the entry of the directory that this summary is of; computes its ``reach``."""
        reach = mode & 0o555 & self.reach
        if self.uid not in (ANY_OWNER, uid):
            reach &= ~0o500
        if self.gid not in (ANY_OWNER, gid):
            reach &= ~0o050
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
    """Adds up how the child directories of a page can be listed. The order of adding makes no difference."""

    __slots__ = ("gid", "reach", "uid")

    def __init__(self) -> None:
        self.reach, self.uid, self.gid = 0o555, ANY_OWNER, ANY_OWNER

    def add(self, reach: int, uid: int, gid: int) -> None:
        """Adds directories that are listable with these bits by this owner and group."""
        self.reach &= reach
        if self.uid == ANY_OWNER:
            self.uid = uid
        elif uid not in (ANY_OWNER, self.uid):
            self.reach &= ~0o500
        if self.gid == ANY_OWNER:
            self.gid = gid
        elif gid not in (ANY_OWNER, self.gid):
            self.reach &= ~0o050
        if not self.reach & 0o500:
            self.uid = ANY_OWNER
        if not self.reach & 0o050:
            self.gid = ANY_OWNER
