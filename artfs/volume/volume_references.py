"""References of a volume: files whose bytes live elsewhere, or in another version of the same volume.

Owns ``artfs://COLLECTION:V/PATH``, the private directory of the cache, and what went wrong last. Where other
bytes come from is the business of ``remote/``. Blocking; any thread.
"""

from __future__ import annotations

import contextlib
import copy
import logging
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import unquote, unquote_to_bytes

from artfs import references as remote
from artfs.errors import (
    AlreadyExists,
    ArtfsError,
    Changed,
    Interrupted,
    InvalidCommand,
    InvalidName,
    NotFound,
    NotPermitted,
    Unreachable,
    printable,
    printable_uri,
)
from artfs.model import digest, manifest, names
from artfs.model.entry import DirEntry, Entry, FileEntry, ReferenceEntry
from artfs.references import OURSELVES, Asker, FoundObject, LocalFile, Resolver, uris
from artfs.references.uris import ChargeMemory, no_charge
from artfs.seal.patch_base import (
    Find,
    record_of,
)
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
        self.world_readable_only = False
        #: Nothing is brought from elsewhere. To be set before the first use.
        self.schemes = SCHEMES
        self._root_fd, self._store, self._find = root_fd, store, find
        self._cache_fd: int | None = None
        self._known_remotes: Resolver | None = None
        self._failures: OrderedDict[tuple[str, bytes, bytes], ArtfsError] = OrderedDict()
        self._lock = threading.Lock()

    def close(self) -> None:
        if self._known_remotes is not None:
            self._known_remotes.close()
        if self._cache_fd is not None:
            os.close(self._cache_fd)

    @property
    def _remotes(self) -> Resolver:
        with self._lock:
            if self._known_remotes is None:
                with contextlib.suppress(OSError):  # a volume that can't be written has no cache
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(CACHE, 0o700, dir_fd=self._root_fd)
                    self._cache_fd = durable.open_directory(self._root_fd, CACHE)
                self._known_remotes = Resolver(
                    self._cache_fd,
                    algorithm=self._store.algorithm,
                    world_readable_only=self.world_readable_only,
                )
            return self._known_remotes

    def list_objects(
        self,
        uri: str,
        path: bytes = b"",
        *,
        checksum: bool = True,
        max_objects: int = 10_000_000,
        charge: ChargeMemory = no_charge,
        asker: Asker = OURSELVES,
    ) -> list[tuple[bytes, FoundObject]]:
        """Tells what is at a URI now, each object with where it would stand: at `path`, or below.

        A single object stands at `path` itself, without one at the top under its own name. What is in a
        directory or prefix stands below `path`, without one directly at the top. In ``artfs://`` an alias is
        taken for the version that it names, and a reference for what it stands for.

        Raises :class:`~artfs.errors.InvalidCommand`, :class:`~artfs.errors.InvalidName`,
        :class:`ReferenceFailed`, :class:`NotFound`; :class:`Interrupted` once the asker has given up.
        """
        self._check_allowed(uri)
        if uri.startswith(_SCHEME):
            found, one = self._look_inside(uri, checksum, max_objects, charge)
        else:
            found = self._remotes.list_objects(
                uri, checksum=checksum, max_objects=max_objects, charge=charge, asker=asker
            )
            one = len(found) == 1 and uris.names_object(uri, found[0].uri)
        if one and path:
            return [(path, found[0])]
        for object_ in found:
            for name in object_.name.split(b"/"):
                names.check_entry_name(name)
            charge(100 + len(path) + len(object_.name))
        return [(path + b"/" + object_.name if path else object_.name, object_) for object_ in found]

    def check(self, uri: str) -> None:
        """Raises :class:`~artfs.errors.InvalidCommand` for what can be no reference, and
        :class:`~artfs.errors.NotPermitted` for what is not brought here. Asks nobody."""
        check_uri(uri)
        self._check_allowed(uri)

    def _check_allowed(self, uri: str) -> None:
        if (refusal := self._refusal(uri)) is not None:
            raise NotPermitted(refusal)

    def open(self, entry: ReferenceEntry, *, of: str = "") -> int:
        """Opens the recorded bytes for reading; the caller closes the descriptor.

        Raises :class:`ReferenceFailed` if they can't be had or are others now, and remembers why, for the
        version or pending version `of` which it is.
        """
        return self.open_file(entry, of=of).fd

    def open_file(self, entry: ReferenceEntry, *, of: str = "", asker: Asker = OURSELVES) -> ReferenceFile:
        """Opens the recorded bytes, as :meth:`open` does, for who reads them while others may change them.

        Raises also :class:`Interrupted` once the asker has given up; so does what is returned.
        """
        uri = os.fsdecode(entry.uri)
        with self._noting(entry, of):
            if (refusal := self._refusal(uri)) is not None:
                raise Unreachable(uri, refusal)
            if uri.startswith(_SCHEME):
                opened: int | LocalFile = self._store.open_verified(
                    self._recorded(uri, entry).blob, entry.size
                )
            else:
                opened = self._remotes.open_checked(uri, entry.size, entry.checksum, asker)
        if isinstance(opened, int):
            return ReferenceFile(opened)
        return _LocalReferenceFile(self, opened, entry, of)

    @contextlib.contextmanager
    def _noting(self, entry: ReferenceEntry, of: str) -> Iterator[None]:
        """Remembers what goes wrong with a reference, until it goes well."""
        key = of, entry.uri, entry.checksum
        try:
            yield
        except Interrupted:
            raise
        except ArtfsError as error:
            failure = copy.copy(error)  # without the frames of its traceback
            with self._lock:
                self._failures[key] = failure
                if len(self._failures) > _KEPT_FAILURES:
                    self._failures.popitem(last=False)
            log.error("%s", failure)
            raise
        with self._lock:
            self._failures.pop(key, None)

    def verify(self, entry: ReferenceEntry) -> None:
        """Compares what is there now with what was recorded. Raises :class:`ReferenceFailed`."""
        uri = os.fsdecode(entry.uri)
        if uri.startswith(_SCHEME):
            self._recorded(uri, entry)
        else:
            self._remotes.verify(uri, entry.size, entry.checksum)

    def failures(self, of: str) -> dict[str, str]:
        """Returns the URIs that could not be read the last time through this process, and why.

        What may be secret of them is left out.
        """
        with self._lock:
            return {
                printable_uri(os.fsdecode(uri)): str(why)
                for (where, uri, _), why in self._failures.items()
                if where == of
            }

    def failure(self, entry: ReferenceEntry, of: str) -> ArtfsError | None:
        """Returns why one of them could not be read the last time; None if it could."""
        with self._lock:
            return self._failures.get((of, entry.uri, entry.checksum))

    def _refusal(self, uri: str) -> str | None:
        scheme = uri.partition("://")[0].lower()
        if scheme in self.schemes or scheme not in SCHEMES:
            return None
        known = ",".join(sorted(self.schemes)) or "none"
        return f"this mount brings no {scheme}:// references: it was mounted with --references {known}"

    # -- within the volume

    def _look_inside(
        self, uri: str, checksum: bool, most: int, charge: ChargeMemory
    ) -> tuple[list[FoundObject], bool]:
        collection, version, way, entry = self._resolve(uri)

        def describe_reference(name: bytes, path: bytes, entry: FileEntry | ReferenceEntry) -> FoundObject:
            if isinstance(entry, ReferenceEntry):
                self._check_allowed(os.fsdecode(entry.uri))
                return FoundObject(
                    name, os.fsdecode(entry.uri), entry.size, entry.checksum if checksum else b""
                )
            recorded = digest.text(entry.blob).encode() if checksum else b""
            return FoundObject(name, uri_of(collection, version, path), entry.size, recorded)

        if isinstance(entry, FileEntry | ReferenceEntry):
            if most < 1:
                raise uris.too_many(uri, most)
            return [describe_reference(entry.name, way, entry)], True
        if not isinstance(entry, DirEntry):
            raise InvalidCommand(f"'{printable(uri)}' is neither a file nor a directory")
        if entry.files > most:
            raise uris.too_many(uri, most)
        above = way + b"/" if way else b""
        found = []
        for path, below in manifest.walk(self._store.reader, entry):
            if isinstance(below, FileEntry | ReferenceEntry):
                found.append(describe_reference(path, above + path, below))
                charge(found[-1].memory)
        return found, False

    def _recorded(self, uri: str, entry: ReferenceEntry) -> FileEntry:
        try:
            found = self._resolve(uri)[3]
        except (NotFound, InvalidCommand, InvalidName) as error:
            raise Unreachable(uri, str(error)) from None
        there = digest.text(found.blob) if isinstance(found, FileEntry) else "no file"
        recorded = entry.checksum.decode("utf-8", "replace")
        if not isinstance(found, FileEntry) or (recorded and recorded != there):
            raise Changed(uri, recorded, there)
        if found.size != entry.size:
            raise Changed(uri, f"{entry.size} bytes", f"{found.size} bytes")
        return found

    def _resolve(self, uri: str) -> tuple[str, str, bytes, Entry]:
        """Returns collection, version and path that a URI names, and the entry there.

        Raises :class:`NotFound`, :class:`InvalidCommand`, :class:`InvalidName`, :class:`Unreachable`.
        """
        version, way = _parts(uri)
        name = version.partition(":")[0]
        if self.world_readable_only:  # first, or the answer would tell what there is
            with self._find(name).opened() as fd:
                if os.fstat(fd).st_mode & _ALL_PASS != _ALL_PASS:
                    raise Unreachable(uri, f"not everybody may read what is in '{name}'")
        collection, record = record_of(self._find, name, version)
        root = record.root.entry()
        if self.world_readable_only:
            self._check_open_to_all(uri, root, way)
        found = manifest.find(self._store.reader, root, b"/".join(way))
        if found is None:
            raise Unreachable(uri, f"{collection.name}:{record.version} has no such path")
        return collection.name, record.version, b"/".join(way), found

    def _check_open_to_all(self, uri: str, root: DirEntry, way: Sequence[bytes]) -> None:
        for depth in range(len(way) + 1):
            entry = manifest.find(self._store.reader, root, b"/".join(way[:depth]))
            last = depth == len(way)
            if isinstance(entry, DirEntry):
                if entry.mode & _ALL_PASS != _ALL_PASS:
                    raise Unreachable(uri, "not everybody may read it: a directory of its path is closed")
                if last and entry.reach & _ALL_LIST != _ALL_LIST:
                    raise Unreachable(uri, "not everybody may list it")
            elif isinstance(entry, FileEntry | ReferenceEntry) and entry.mode & _ALL_READ != _ALL_READ:
                raise Unreachable(uri, "not everybody may read it")


def parse_schemes(text: str | None) -> frozenset[str]:
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


class ReferenceFile:
    """The open bytes of a reference. ``stays``: nobody changes what ``fd`` reads."""

    stays = True

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def read(self, offset: int, size: int) -> bytes:
        """Returns recorded bytes. Raises :class:`ReferenceFailed` if they are others by now."""
        return os.pread(self.fd, size, offset)

    def check(self, copy: int) -> None:
        """Raises :class:`ReferenceFailed` if what was copied from ``fd`` may be other bytes, and is."""


class _LocalReferenceFile(ReferenceFile):
    """A file of this machine, read where it is."""

    stays = False

    def __init__(self, references: References, file: LocalFile, entry: ReferenceEntry, of: str) -> None:
        super().__init__(file.fd)
        self._references, self._file, self._entry, self._of = references, file, entry, of

    def read(self, offset: int, size: int) -> bytes:
        while True:
            data = os.pread(self.fd, size, offset)
            with self._references._noting(self._entry, self._of):
                if self._file.settled():
                    return data

    def check(self, copy: int) -> None:
        if self._file.moved():
            with self._references._noting(self._entry, self._of):
                self._file.check(copy)


def check_uri(uri: str) -> str:
    """Raises :class:`~artfs.errors.InvalidCommand` for what can be no reference."""
    if uri.startswith(_SCHEME):
        _parts(uri)
    else:
        uris.check(uri)
    return uri


def uri_of(collection: str, version: str, path: bytes) -> str:
    """Returns the URI of a path in a version, percent-encoded."""
    return f"{_SCHEME}{collection}:{version}/{uris.quoted(path)}".rstrip("/")


def _parts(uri: str) -> tuple[str, list[bytes]]:
    """Takes ``artfs://COLLECTION:V/PATH`` apart: the version, and the names of the path.

    Version and path are percent-encoded.
    """
    version, _, path = uri.removeprefix(_SCHEME).partition("/")
    name, ref = names.split_reference(version)
    if not (name and ref):
        raise InvalidCommand(f"'{printable(uri)}' is not artfs://COLLECTION:V/PATH")
    raw = unquote_to_bytes(path.encode("utf-8", "surrogateescape"))
    way = [part for part in raw.split(b"/") if part]
    if b"\0" in raw or not {b".", b".."}.isdisjoint(way):
        raise InvalidCommand(f"'{printable(uri)}' must have neither . nor .. nor %00 in its path")
    return f"{name}:{unquote(ref)}", way


def new_reference_entry(found: FoundObject, name: bytes, uid: int, gid: int) -> ReferenceEntry:
    """Returns the entry of a new reference to what a look found."""
    uri = os.fsencode(found.uri)
    return ReferenceEntry(name, _MODE, uid, gid, time.time_ns(), found.size, uri, found.checksum)


def describe_reference(path: bytes, entry: ReferenceEntry | FoundObject) -> dict[str, Any]:
    """Returns what is told of a reference in a pending version."""
    uri = entry.uri if isinstance(entry.uri, str) else os.fsdecode(entry.uri)
    checksum = os.fsdecode(entry.checksum)
    return {"path": os.fsdecode(path), "uri": uri, "size": entry.size, "checksum": checksum}


def path_taken(path: bytes) -> AlreadyExists:
    """Says that something stands where a reference is to be made."""
    return AlreadyExists(f"'{printable(path)}' is there already: remove it first")


__all__ = [
    "CACHE",
    "SCHEMES",
    "ReferenceFile",
    "References",
    "check_uri",
    "describe_reference",
    "new_reference_entry",
    "parse_schemes",
    "path_taken",
    "uri_of",
]
