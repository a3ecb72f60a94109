"""References of a volume: files whose bytes live elsewhere, or in another version of the same volume.

Owns: which references are allowed, the private directory of the cache, and the last failure of each
reference. Must not know where bytes come from: ``references/`` does, and ``version_references.py`` for
``artfs://``. Blocking; any thread.
"""

from __future__ import annotations

import contextlib
import copy
import logging
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from cachetools import LRUCache

from artfs import references
from artfs.errors import AlreadyExists, ArtfsError, Interrupted, InvalidCommand, NotPermitted, Unreachable
from artfs.model import names
from artfs.model.entry import ReferenceEntry
from artfs.printing import printable, printable_uri
from artfs.references import THIS_PROCESS, FoundObject, LocalFile, Requester, Resolver, uris
from artfs.references.uris import ChargeMemory, no_charge
from artfs.seal.patch_base import Find
from artfs.store import durable
from artfs.store.objects import ObjectStore
from artfs.volume import version_references
from artfs.volume.version_references import VersionReferences

log = logging.getLogger(__name__)

SCHEMES = frozenset({"artfs", *references.SCHEMES})
_CACHE = b"cache"
_MODE = 0o644
_KEPT_FAILURES = 1000


@dataclass(frozen=True, slots=True)
class ReferencePolicy:
    """The references that a process follows: those of some schemes.

    ``world_readable_only``: those whose bytes every user may read. For a process that serves other users, and
    may read more than they.
    """

    schemes: frozenset[str] = SCHEMES
    world_readable_only: bool = False


ALL_REFERENCES = ReferencePolicy()


class References:
    """Lists, opens and verifies references. The cache is opened with the first one."""

    def __init__(self, root_fd: int, store: ObjectStore, find: Find, policy: ReferencePolicy) -> None:
        """``root_fd`` must stay open."""
        self.schemes = policy.schemes
        self._policy, self._root_fd, self._algorithm = policy, root_fd, store.algorithm
        self._versions = VersionReferences(store, find, world_readable_only=policy.world_readable_only)
        self._cache_fd: int | None = None
        self._opened_resolver: Resolver | None = None
        self._failures: LRUCache[tuple[str, bytes, bytes], ArtfsError] = LRUCache(_KEPT_FAILURES)
        self._lock = threading.Lock()

    def close(self) -> None:
        if self._opened_resolver is not None:
            self._opened_resolver.close()
        if self._cache_fd is not None:
            os.close(self._cache_fd)

    @property
    def _resolver(self) -> Resolver:
        with self._lock:
            if self._opened_resolver is None:
                with contextlib.suppress(OSError):  # a read-only volume has no cache
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(_CACHE, 0o700, dir_fd=self._root_fd)
                    self._cache_fd = durable.open_directory(self._root_fd, _CACHE)
                self._opened_resolver = Resolver(
                    self._cache_fd,
                    algorithm=self._algorithm,
                    world_readable_only=self._policy.world_readable_only,
                )
            return self._opened_resolver

    def list_objects(
        self,
        uri: str,
        path: bytes = b"",
        *,
        checksum: bool = True,
        max_objects: int = 10_000_000,
        charge: ChargeMemory = no_charge,
        requester: Requester = THIS_PROCESS,
    ) -> list[tuple[bytes, FoundObject]]:
        """Returns what is at a URI now, each object with its path in a tree: `path`, or below it.

        A single object gets `path` itself; its own name if that is empty. The objects of a directory or
        prefix get paths below `path`. In ``artfs://`` an alias counts as the version that it names now, and a
        reference as what it refers to.

        Raises :class:`~artfs.errors.InvalidCommand`, :class:`~artfs.errors.InvalidName`,
        :class:`NotPermitted`, :class:`ReferenceFailed`, :class:`NotFound`; :class:`Interrupted` once the
        requester has gone.
        """
        self._check_allowed(uri)
        if uri.startswith(version_references.SCHEME):
            found, single = self._versions.list_objects(
                uri, checksum=checksum, max_objects=max_objects, charge=charge, check=self._check_allowed
            )
        else:
            found = self._resolver.list_objects(
                uri, checksum=checksum, max_objects=max_objects, charge=charge, requester=requester
            )
            single = len(found) == 1 and uris.names_object(uri, found[0].uri)
        if single and path:
            return [(path, found[0])]
        for object_ in found:
            for name in object_.name.split(b"/"):
                names.check_entry_name(name)
            charge(100 + len(path) + len(object_.name))
        return [(path + b"/" + object_.name if path else object_.name, object_) for object_ in found]

    def check(self, uri: str) -> None:
        """Raises :class:`~artfs.errors.InvalidCommand` for a URI that can't be a reference, and
        :class:`~artfs.errors.NotPermitted` for one that is not allowed here. Does not access it."""
        check_uri(uri)
        self._check_allowed(uri)

    def _check_allowed(self, uri: str) -> None:
        if (refusal := self._refusal(uri)) is not None:
            raise NotPermitted(refusal)

    def open(self, entry: ReferenceEntry, *, of: str = "") -> int:
        """Opens the recorded bytes for reading; the caller closes the descriptor.

        Raises :class:`ReferenceFailed` if they can't be fetched or have changed, and records the failure for
        the version or pending version `of`.
        """
        return self.open_file(entry, of=of).fd

    def open_file(
        self, entry: ReferenceEntry, *, of: str = "", requester: Requester = THIS_PROCESS
    ) -> ReferenceFile:
        """Opens the recorded bytes, as :meth:`open` does, for reading while others may change them.

        Also raises :class:`Interrupted` once the requester has gone; so do the methods of the result.
        """
        uri = os.fsdecode(entry.uri)
        with self._recording_failure(entry, of):
            if (refusal := self._refusal(uri)) is not None:
                raise Unreachable(uri, refusal)
            if uri.startswith(version_references.SCHEME):
                opened: int | LocalFile = self._versions.open(uri, entry)
            else:
                opened = self._resolver.open(uri, entry.size, entry.checksum, requester)
        if isinstance(opened, int):
            return ReferenceFile(opened)
        return _LocalReferenceFile(self, opened, entry, of)

    @contextlib.contextmanager
    def _recording_failure(self, entry: ReferenceEntry, of: str) -> Iterator[None]:
        """Records a failure with a reference, until it succeeds."""
        key = of, entry.uri, entry.checksum
        try:
            yield
        except Interrupted:
            raise
        except ArtfsError as error:
            failure = copy.copy(error)  # without the frames of its traceback
            with self._lock:
                self._failures[key] = failure
            log.error("%s", failure)
            raise
        with self._lock:
            self._failures.pop(key, None)

    def verify(self, entry: ReferenceEntry) -> None:
        """Compares what is there now with what was recorded. Raises :class:`ReferenceFailed`."""
        uri = os.fsdecode(entry.uri)
        if uri.startswith(version_references.SCHEME):
            self._versions.verify(uri, entry)
        else:
            self._resolver.verify(uri, entry.size, entry.checksum)

    def failures(self, of: str) -> dict[str, str]:
        """Returns the URIs, without secrets, that this process failed to read the last time, and why."""
        with self._lock:
            return {
                printable_uri(os.fsdecode(uri)): str(why)
                for (where, uri, _), why in self._failures.items()
                if where == of
            }

    def failure(self, entry: ReferenceEntry, of: str) -> ArtfsError | None:
        """Returns the last failure with a reference; None if it was read since."""
        with self._lock:
            return self._failures.get((of, entry.uri, entry.checksum))

    def _refusal(self, uri: str) -> str | None:
        scheme = uri.partition("://")[0].lower()
        if scheme in self.schemes or scheme not in SCHEMES:
            return None
        known = ",".join(sorted(self.schemes)) or "none"
        return f"this mount does not read {scheme}:// references: it was mounted with --references {known}"


def parse_schemes(text: str | None) -> frozenset[str]:
    """Parses a list of schemes, ``file,artfs,https``, or ``none``; without a text, returns all.

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
    """The open bytes of a reference. ``immutable``: no other process changes what ``fd`` reads."""

    immutable = True

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def read(self, offset: int, size: int) -> bytes:
        """Returns recorded bytes. Raises :class:`ReferenceFailed` if they have changed."""
        return os.pread(self.fd, size, offset)

    def check(self, copy: int) -> None:
        """Raises :class:`ReferenceFailed` if a copy of ``fd`` does not have the recorded bytes."""


class _LocalReferenceFile(ReferenceFile):
    """A file of this machine, read in place."""

    immutable = False

    def __init__(self, references: References, file: LocalFile, entry: ReferenceEntry, of: str) -> None:
        super().__init__(file.fd)
        self._references, self._file, self._entry, self._of = references, file, entry, of

    def read(self, offset: int, size: int) -> bytes:
        while True:
            data = os.pread(self.fd, size, offset)
            with self._references._recording_failure(self._entry, self._of):
                if self._file.settled():
                    return data

    def check(self, copy: int) -> None:
        if self._file.moved():
            with self._references._recording_failure(self._entry, self._of):
                self._file.check(copy)


def check_uri(uri: str) -> str:
    """Raises :class:`~artfs.errors.InvalidCommand` for a URI that can't be a reference."""
    if uri.startswith(version_references.SCHEME):
        version_references.parse(uri)
    else:
        uris.check(uri)
    return uri


def new_reference_entry(found: FoundObject, name: bytes, uid: int, gid: int) -> ReferenceEntry:
    """Returns the entry of a new reference to an object."""
    uri = os.fsencode(found.uri)
    return ReferenceEntry(name, _MODE, uid, gid, time.time_ns(), found.size, uri, found.checksum)


def describe_reference(path: bytes, entry: ReferenceEntry | FoundObject) -> dict[str, Any]:
    """Returns what users see of a reference in a pending version."""
    uri = entry.uri if isinstance(entry.uri, str) else os.fsdecode(entry.uri)
    checksum = os.fsdecode(entry.checksum)
    return {"path": os.fsdecode(path), "uri": uri, "size": entry.size, "checksum": checksum}


def path_taken(path: bytes) -> AlreadyExists:
    """Returns the error for a reference whose path is taken."""
    return AlreadyExists(f"'{printable(path)}' exists already: remove it first")
