"""References of a volume: files whose bytes live elsewhere, or in another version of the same volume.

Owns ``artfs://COLLECTION:V/PATH``, the private directory of the cache, and what went wrong last. Where other
bytes come from is the business of ``remote/``. Blocking; any thread.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence

from artfs import remote
from artfs.errors import (
    AlreadyExists,
    ArtfsError,
    Changed,
    InvalidCommand,
    NotFound,
    NotPermitted,
    Unreachable,
    printable,
)
from artfs.model import digest, manifest
from artfs.model.entry import DirEntry, Entry, FileEntry, ReferenceEntry
from artfs.remote import Found, Remotes
from artfs.seal.base import Find, record_of
from artfs.store import durable
from artfs.store.objects import ObjectStore

log = logging.getLogger(__name__)

_SCHEME = "artfs://"
SCHEMES = frozenset({"artfs", *remote.SCHEMES})
CACHE = b"cache"
_MODE = 0o644
_KEPT_FAILURES = 1000
# Everybody: group and others, since a class may have fewer bits than a later one.
_ALL_PASS, _ALL_READ, _ALL_LIST = 0o011, 0o044, 0o055


class References:
    """The way to the bytes of references. Costs nothing until there is one."""

    def __init__(self, root_fd: int, store: ObjectStore, find: Find) -> None:
        """``root_fd`` must stay open."""
        #: Whether who asks is served by a process that may read more than he: then only what everybody may
        #: read is read for him. To be set before the first use.
        self.careful = False
        #: Nothing is brought from elsewhere. To be set before the first use.
        self.schemes = SCHEMES
        self._root_fd, self._store, self._find = root_fd, store, find
        self._cache_fd: int | None = None
        self._known_remotes: Remotes | None = None
        self._failures: OrderedDict[tuple[str, bytes, bytes], str] = OrderedDict()
        self._lock = threading.Lock()

    def close(self) -> None:
        if self._known_remotes is not None:
            self._known_remotes.close()
        if self._cache_fd is not None:
            os.close(self._cache_fd)

    @property
    def _remotes(self) -> Remotes:
        with self._lock:
            if self._known_remotes is None:
                with contextlib.suppress(OSError):  # a volume that can't be written has no cache
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(CACHE, 0o700, dir_fd=self._root_fd)
                    self._cache_fd = durable.open_directory(self._root_fd, CACHE)
                self._known_remotes = Remotes(
                    self._cache_fd, algorithm=self._store.algorithm, careful=self.careful
                )
            return self._known_remotes

    def look(self, uri: str, *, checksum: bool = True, max_objects: int = 10_000_000) -> list[Found]:
        """Tells what is at a URI now: one object, or all below a directory or prefix, with its names.

        An alias in ``artfs://`` is taken for the version that it names. Raises
        :class:`~artfs.errors.InvalidCommand`, :class:`ReferenceFailed`, :class:`NotFound`.
        """
        if (refusal := self._refusal(uri)) is not None:
            raise NotPermitted(refusal)
        if not uri.startswith(_SCHEME):
            return self._remotes.look(uri, checksum=checksum, max_objects=max_objects)
        where, entry = self._resolve(uri)
        name = uri.rstrip("/").rpartition("/")[2].encode()
        if isinstance(entry, FileEntry):
            return [Found(name, where, entry.size, digest.text(entry.blob).encode())]
        if not isinstance(entry, DirEntry):
            raise InvalidCommand(f"'{printable(uri)}' is neither a file nor a directory")
        if entry.files > max_objects:
            raise InvalidCommand(f"{printable(uri)} has {entry.files} files: refer to a part of it")
        return [
            Found(path, f"{where}/{os.fsdecode(path)}", below.size, digest.text(below.blob).encode())
            for path, below in manifest.walk(self._store.reader, entry)
            if isinstance(below, FileEntry)
        ]

    def open(self, entry: ReferenceEntry, *, of: str = "") -> int:
        """Opens the recorded bytes for reading; the caller closes the descriptor.

        Raises :class:`ReferenceFailed` if they can't be had or are others now, and remembers why, for the
        version or pending version `of` which it is.
        """
        uri = os.fsdecode(entry.uri)
        try:
            if (refusal := self._refusal(uri)) is not None:
                raise Unreachable(uri, refusal)
            if not uri.startswith(_SCHEME):
                fd = self._remotes.open(uri, entry.size, entry.checksum)
            else:
                fd = self._store.open_blob(self._recorded(uri, entry).blob, entry.size)
        except ArtfsError as error:
            with self._lock:
                self._failures[of, entry.uri, entry.checksum] = str(error)
                if len(self._failures) > _KEPT_FAILURES:
                    self._failures.popitem(last=False)
            log.error("%s", error)
            raise
        with self._lock:
            self._failures.pop((of, entry.uri, entry.checksum), None)
        return fd

    def verify(self, entry: ReferenceEntry) -> None:
        """Compares what is there now with what was recorded. Raises :class:`ReferenceFailed`."""
        uri = os.fsdecode(entry.uri)
        if uri.startswith(_SCHEME):
            self._recorded(uri, entry)
        else:
            self._remotes.verify(uri, entry.size, entry.checksum)

    def failures(self, of: str) -> dict[str, str]:
        """Returns the URIs that could not be read the last time through this process, and why."""
        with self._lock:
            return {os.fsdecode(uri): why for (where, uri, _), why in self._failures.items() if where == of}

    def _refusal(self, uri: str) -> str | None:
        scheme = uri.partition("://")[0].lower()
        if scheme in self.schemes or scheme not in SCHEMES:
            return None
        known = ",".join(sorted(self.schemes)) or "none"
        return f"this mount brings no {scheme}:// references: it was mounted with --references {known}"

    # -- within the volume

    def _recorded(self, uri: str, entry: ReferenceEntry) -> FileEntry:
        try:
            _, found = self._resolve(uri)
        except (NotFound, InvalidCommand) as error:
            raise Unreachable(uri, str(error)) from None
        there = digest.text(found.blob) if isinstance(found, FileEntry) else "no file"
        recorded = entry.checksum.decode("utf-8", "replace")
        if not isinstance(found, FileEntry) or (recorded and recorded != there):
            raise Changed(uri, recorded, there)
        return found

    def _resolve(self, uri: str) -> tuple[str, Entry]:
        """Returns the URI with the version's own name, and the entry. Raises NotFound, InvalidCommand."""
        version, _, path = uri.removeprefix(_SCHEME).partition("/")
        name, colon, _ = version.partition(":")
        if not name or not colon:
            raise InvalidCommand(f"'{printable(uri)}' is not artfs://COLLECTION:V/PATH")
        collection, record = record_of(self._find, name, version)
        root, way = record.root.entry(), os.fsencode(path).strip(b"/")
        found = manifest.find(self._store.reader, root, way)
        if found is None:
            raise Unreachable(uri, f"{collection.name}:{record.version} has no such path")
        if self.careful:
            with collection.opened() as fd:
                if os.fstat(fd).st_mode & _ALL_PASS != _ALL_PASS:
                    raise Unreachable(uri, f"not everybody may read what is in '{collection.name}'")
            self._check_open_to_all(uri, root, way)
        return f"{_SCHEME}{collection.name}:{record.version}/{os.fsdecode(way)}".rstrip("/"), found

    def _check_open_to_all(self, uri: str, root: DirEntry, way: bytes) -> None:
        names = way.split(b"/") if way else []
        for depth in range(len(names) + 1):
            entry = manifest.find(self._store.reader, root, b"/".join(names[:depth]))
            if isinstance(entry, DirEntry):
                if entry.mode & _ALL_PASS != _ALL_PASS:
                    raise Unreachable(uri, "not everybody may read it: a directory of its path is closed")
                if depth == len(names) and entry.reach & _ALL_LIST != _ALL_LIST:
                    raise Unreachable(uri, "not everybody may list it")
            elif isinstance(entry, FileEntry) and entry.mode & _ALL_READ != _ALL_READ:
                raise Unreachable(uri, "not everybody may read it")


def schemes_from(text: str | None) -> frozenset[str]:
    """Reads a list of schemes, ``file,artfs,https``, or ``none``; without one all are meant.

    Raises InvalidCommand.
    """
    if text is None:
        return SCHEMES
    words = frozenset(word.strip().lower() for word in text.split(",")) - {"none"}
    if unknown := words - SCHEMES:
        raise InvalidCommand(
            f"no such references: {', '.join(sorted(unknown))}; there are {', '.join(sorted(SCHEMES))}"
        )
    return words


def placed(path: bytes, uri: str, found: Sequence[Found]) -> Iterator[tuple[bytes, Found]]:
    """Yields the path in a tree of each object that a look at `uri` found, which shall stand at `path`.

    That is the path of a single object itself; what is in a directory comes below it. With an empty path a
    single object stands at the top under its own name, and what is in a directory directly there.
    """
    one = len(found) == 1 and found[0].uri.count("/") == uri.rstrip("/").count("/")
    for object_ in found:
        if not path:
            yield object_.name, object_
        else:
            yield path if one else path + b"/" + object_.name, object_


def referring(found: Found, name: bytes, uid: int, gid: int) -> ReferenceEntry:
    """Returns the entry of a new reference to what a look found."""
    uri = os.fsencode(found.uri)
    return ReferenceEntry(name, _MODE, uid, gid, time.time_ns(), found.size, uri, found.checksum)


def name_taken(path: bytes) -> AlreadyExists:
    """Says that something stands where a reference is to be made."""
    return AlreadyExists(f"'{printable(path)}' is there already: remove it first")


__all__ = ["CACHE", "SCHEMES", "References", "name_taken", "placed", "referring", "schemes_from"]
