"""A volume used directly, without a mount.

Owns nothing but the way to :class:`~artfs.volume.volume.Volume`. While it changes pending versions it holds
the lock that a daemon would need, so that no mount comes up over half of it.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from msgspec import to_builtins

from artfs.catalog.collection import Collection
from artfs.catalog.records import VersionRecord
from artfs.catalog.runs import check_run_id
from artfs.client.direct.overlay_tree import OverlaidTree
from artfs.client.file_attributes import is_users, umask
from artfs.client.interface import INHERIT, Client, Entry, nothing
from artfs.client.plain_tree import PlainTree
from artfs.client.reference_writer import DirectReferences
from artfs.client.transfer.tree_paths import no_file, parts, resolved
from artfs.client.transfer.tree_writer import TreeWriter, WritePolicy
from artfs.client.writable_tree import ReferenceTarget, WritableTree
from artfs.errors import (
    AlreadyExists,
    AlreadyFinishedError,
    BeingFilled,
    Busy,
    CollectionNotFound,
    CutShort,
    DraftNotFoundError,
    NotJoined,
    PathConflictError,
    PathNotFound,
    RunsJoined,
    Sealing,
    VolumeInUse,
)
from artfs.model import manifest, names
from artfs.model import scope as scopes
from artfs.model.diff import Change
from artfs.model.digest import Algorithm
from artfs.model.entry import DirEntry, FileEntry, ReferenceEntry, SymlinkEntry, mode_and_size
from artfs.model.entry import Entry as TreeEntry
from artfs.model.label_changes import ADDING
from artfs.model.scope import Scope
from artfs.pending.pending_version import Owners
from artfs.pending.tree import PendingTree
from artfs.seal import pending_labels
from artfs.seal.seal import Request
from artfs.store import probe
from artfs.store.owners import this_process
from artfs.volume.pending_trees import pending_names
from artfs.volume.status import describe, describe_pending
from artfs.volume.volume import Volume, user_name
from artfs.volume.volume_references import References, path_taken

_SETTLING = 2.0  # seconds that others may take to end what a killed finish had decided, or to set a base
_POLL = 0.05  # seconds between looks at what another process does


class DirectClient(Client):
    """Owns `volume` and closes it."""

    def __init__(self, volume: Volume) -> None:
        self._volume = volume
        self._fit = False  # whether the filesystem is known to do what is needed

    def close(self) -> None:
        self._volume.close()

    def is_current(self) -> bool:
        return self._volume.layout.mount_lock.read_owner() is None

    # -- the volume

    def volume_status(self) -> dict[str, Any]:
        return describe(self._volume)

    def algorithm(self) -> Algorithm:
        return self._volume.layout.algorithm

    @contextlib.contextmanager
    def volume(self) -> Iterator[Volume]:
        yield self._volume

    def is_volume(self, status: os.stat_result) -> bool:
        own = os.fstat(self._volume.layout.fd)
        return (own.st_dev, own.st_ino) == (status.st_dev, status.st_ino)

    @contextlib.contextmanager
    def _unmounted(self) -> Iterator[None]:
        lock = self._volume.layout.mount_lock
        try:
            held = lock.shared(blocking=False)
        except Busy:
            raise VolumeInUse(str(self._volume.path), str(lock.owner())) from None
        with held:
            self._check_filesystem()
            yield

    def _check_filesystem(self) -> None:
        """Raises UnsupportedFilesystem. Filesystems of types that are known to work are not tried."""
        if not self._fit:
            layout = self._volume.layout
            if not probe.is_known(layout.fd):
                layout.check_filesystem()
            self._fit = True

    def _collection(self, name: str) -> Collection:
        return self._volume.catalog.collection(name)

    # -- collections and versions

    def collections(self) -> list[dict[str, Any]]:
        return self._volume.catalog.each(self._summary)

    def collection(self, name: str) -> dict[str, Any]:
        return self._summary(self._collection(name))

    def _summary(self, collection: Collection) -> dict[str, Any]:
        numbers = collection.numbers()
        return {
            "name": collection.name,
            "type": collection.type,
            "description": collection.description,
            "tags": collection.tags,
            "versions": len(numbers),
            "pending": len(pending_names(collection)),
            "abandoned": len(self._volume.trees.abandoned(collection)),
            "latest": names.version_name(numbers[-1]) if numbers else None,
        }

    def set_collection_description(self, name: str, description: str) -> None:
        self._collection(name).set_description(description)

    def set_collection_tags(self, name: str, tags: Sequence[str]) -> None:
        self._collection(name).set_tags(tags)

    def collection_ttl(self, name: str) -> int | None:
        return self._collection(name).ttl

    def set_collection_ttl(self, name: str, seconds: int | None) -> None:
        self._collection(name).set_ttl(seconds)

    def scope(self, name: str) -> Scope:
        return scopes.of(name, self._collection(name).scope)

    def claim(self, name: str, scope: Scope) -> None:
        self._collection(name).claim(scope)

    def remove_collection(self, name: str) -> None:
        self._volume.catalog.remove(name)

    def versions(self, name: str) -> list[dict[str, Any]]:
        return self._collection(name).describe_all()

    def _record(self, name: str, ref: str) -> tuple[Collection, VersionRecord]:
        collection = self._collection(name)
        return collection, collection.record(collection.resolve(ref))

    def version(self, name: str, ref: str) -> dict[str, Any]:
        collection, record = self._record(name, ref)
        labels = collection.labels(record.number)
        more = {"description": labels.description, "metadata": labels.metadata}
        return collection.describe(record.number) | more

    def version_directory(self, name: str, ref: str) -> Path | None:
        self._record(name, ref)
        return None

    def updated_at(self, name: str, ref: str) -> str:
        collection, record = self._record(name, ref)
        return collection.labels(record.number).updated_at or record.created_at

    def _relabel(self, name: str, ref: str, changes: Mapping[str, Any], since: Mapping[str, Any]) -> None:
        collection, record = self._record(name, ref)
        if changes.get("ttl") == INHERIT:
            changes = {**changes, "ttl": None}
        collection.relabel(record.number, changes, since)

    def manifest(self, name: str, ref: str) -> dict[str, Any]:
        _, record = self._record(name, ref)
        walked = manifest.walk(self._volume.store.reader, record.root.entry())
        return {os.fsdecode(path): manifest.describe(entry) for path, entry in walked}

    def diff(self, name: str, old: str, new: str) -> list[Change]:
        collection, before = self._record(name, old)
        return self._volume.diff(before, self._volume.look_up(collection, new)[1])

    def list_directory(self, name: str, ref: str, path: bytes) -> list[Entry]:
        _, record = self._record(name, ref)
        found = self._find(record, parts(path))
        if found is None:
            raise PathNotFound(f"{name}:{record.version}", path)
        above = b"/".join(parts(path))
        if not isinstance(found, DirEntry):
            return [self._entry(above, found)]
        entries = self._volume.store.reader.entries(found.tree)
        return [self._entry(_join(above, entry.name), entry) for _, entry in entries]

    def walk(self, name: str, ref: str, prefix: bytes = b"") -> Iterator[Entry]:
        _, record = self._record(name, ref)
        way = parts(prefix)
        entry: TreeEntry | None = None
        for depth in range(len(way) + 1):
            entry = self._find(record, way[:depth])
            if entry is None:
                raise PathNotFound(f"{name}:{record.version}", prefix)
            yield self._entry(b"/".join(way[:depth]), entry)
        if isinstance(entry, DirEntry):
            for path, below in manifest.walk(self._volume.store.reader, entry):
                yield self._entry(_join(b"/".join(way), path), below)

    def open_file(self, name: str, ref: str, path: bytes) -> int:
        _, record = self._record(name, ref)

        def link_at(way: list[bytes]) -> bytes | None:
            found = self._find(record, way)
            return found.target if isinstance(found, SymlinkEntry) else None

        way = resolved(parts(path), link_at)
        found = None if way is None else self._find(record, way)
        if found is None:
            raise PathNotFound(f"{name}:{record.version}", path)
        return self._open(path, found)

    def _open(self, path: bytes, entry: TreeEntry) -> int:
        if isinstance(entry, ReferenceEntry):
            return self._volume.references.open(entry)
        if not isinstance(entry, FileEntry):
            raise no_file(path, _kind(entry))
        return self._volume.store.open_verified(entry.blob, entry.size)

    def _find(self, record: VersionRecord, way: list[bytes]) -> TreeEntry | None:
        return manifest.find(self._volume.store.reader, record.root.entry(), b"/".join(way))

    def _entry(self, path: bytes, entry: TreeEntry) -> Entry:
        mode, size = mode_and_size(entry)
        target, xattrs = b"", list[tuple[bytes, bytes]]()
        if isinstance(entry, SymlinkEntry):
            target = entry.target
        else:
            xattrs = [xattr for xattr in entry.xattrs if is_users(xattr[0])]
        open_file: Callable[[], int] = partial(self._open, path, entry)
        check: Callable[[int], None] = nothing
        if isinstance(entry, ReferenceEntry):
            reader = _Reader(self._volume.references, entry)
            open_file, check = reader.open, reader.check
        return Entry(
            path,
            _kind(entry),
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

    def _alias(self, name: str, ref: str, aliases: Sequence[str]) -> None:
        collection, record = self._record(name, ref)
        for word in aliases:
            collection.set_alias(word, record.version)

    def _unalias(self, name: str, aliases: Sequence[str]) -> None:
        collection = self._collection(name)
        for word in aliases:
            collection.alias_target(word)
        for word in aliases:
            collection.remove_alias(word)

    def _tag(self, name: str, ref: str, tags: Sequence[str]) -> list[str]:
        collection, record = self._record(name, ref)
        return list(collection.relabel(record.number, {"tags": tags}, ADDING).tags)

    def remove(self, name: str, ref: str) -> str:
        collection, record = self._record(name, ref)
        collection.delete_version(record.number)
        return record.version

    def remove_expired(self, name: str, ref: str, now: float) -> bool:
        collection, record = self._record(name, ref)
        return collection.delete_version(record.number, expired_by=now)

    def holding_aliases(self, name: str, ref: str) -> list[str]:
        collection, record = self._record(name, ref)
        return collection.holders(record.number)

    # -- runs

    def run(self, run: str) -> dict[str, Any]:
        found: dict[str, Any] = to_builtins(self._volume.runs.read(run))
        return found

    def runs(self) -> list[str]:
        return self._volume.runs.ids()

    def record_run(self, run: str, document: Mapping[str, Any], *, here: bool = False) -> None:
        self._volume.runs.apply(run, document, process=this_process() if here else None)

    def record_use(self, name: str, ref: str, run: str) -> None:
        collection, record = self._record(name, ref)
        self._volume.record_use(collection, record.number, run)

    def join(self, name: str, distributed_id: bytes, run: str) -> None:
        check_run_id(run)
        with self._held(name, distributed_id) as tree:
            tree.pending_version.join(run, this_process())

    def leave(self, name: str, distributed_id: bytes, run: str) -> None:
        with self._held(name, distributed_id) as tree, contextlib.suppress(NotJoined):
            tree.pending_version.leave(run, this_process())

    # -- pending versions

    def pending_names(self, name: str) -> list[bytes]:
        return pending_names(self._collection(name))

    def abandoned_ids(self, name: str) -> list[bytes]:
        return self._volume.trees.abandoned(self._collection(name))

    def pending_status(self, name: str, distributed_id: bytes) -> dict[str, Any]:
        return describe_pending(self._volume, self._pending(name, distributed_id))

    def _pending(self, name: str, distributed_id: bytes) -> PendingTree:
        collection = self._collection(name)
        names.check_distributed_id(distributed_id)
        try:
            tree = self._volume.trees.get_from_disk(collection, distributed_id)
            if tree.pending_version.mark() is not None:
                # A seal that was cut short, or is under way. What it decided comes first.
                with self._unmounted():
                    self._volume.recover()
                tree = self._volume.trees.get(name, distributed_id)
            return tree
        except DraftNotFoundError:
            finished = collection.finished(distributed_id)
            if finished is None:
                raise
            raise AlreadyFinishedError(name, distributed_id, names.version_name(finished)) from None

    def _need_collection(self, name: str, kind: str) -> bool:
        self._check_filesystem()  # before anything of what is about to be started stands there
        catalog = self._volume.catalog
        try:
            collection = catalog.collection(name)
        except CollectionNotFound:
            try:
                catalog.create(name, 0o777 & ~umask(), collection_type=kind)
                return True
            except AlreadyExists:
                collection = catalog.collection(name)
        if kind:
            collection.set_type(kind)
        return False

    def _start(self, name: str, distributed_id: bytes, owners: Owners | None) -> Path | None:
        self._volume.start(self._collection(name), distributed_id, mode=0o777 & ~umask(), owners=owners)
        return None

    def add_owner(self, name: str, distributed_id: bytes) -> None:
        with self._held(name, distributed_id) as tree:
            tree.pending_version.own(this_process())

    def set_base(self, name: str, distributed_id: bytes, ref: str) -> None:
        with self._unmounted():
            tree = self._pending(name, distributed_id)
            with self._not_finished(name, distributed_id):
                self._volume.set_base(self._collection(name), tree, ref, Request())

    def set_link(self, name: str, distributed_id: bytes, ref: str) -> None:
        with self._unmounted():
            tree = self._pending(name, distributed_id)
            with self._not_finished(name, distributed_id):
                self._volume.set_link(self._collection(name), tree, ref, Request())

    def references(self, name: str, distributed_id: bytes) -> list[dict[str, Any]]:
        return self._volume.references_of(self._pending(name, distributed_id))

    def _add_reference(
        self, name: str, distributed_id: bytes, path: bytes, uri: str, most: int, checksum: bool
    ) -> None:
        found = self._preview_references(name, distributed_id, path, uri, most, checksum)
        with self.open_tree(name, distributed_id) as tree:
            try:
                TreeWriter(tree, WritePolicy()).references(found)
            except PathConflictError as error:
                raise path_taken(os.fsencode(error.path)) from None

    def _preview_references(
        self, name: str, distributed_id: bytes, path: bytes, uri: str, most: int, checksum: bool
    ) -> list[tuple[bytes, ReferenceTarget]]:
        self._pending(name, distributed_id)
        found = self._volume.references.list_objects(uri, path, checksum=checksum, max_objects=most)
        return [(where, ReferenceTarget(at.uri, at.size, os.fsdecode(at.checksum))) for where, at in found]

    def changes(self, name: str, distributed_id: bytes) -> list[Change]:
        return self._volume.changes(self._pending(name, distributed_id))

    @contextlib.contextmanager
    def _held(self, name: str, distributed_id: bytes) -> Iterator[PendingTree]:
        """Keeps a pending version from being sealed, discarded and mounted.

        Raises what :meth:`open_tree` does.
        """
        with self._unmounted(), contextlib.ExitStack() as stack:
            deadline = time.monotonic() + _SETTLING
            while True:
                tree = self._pending(name, distributed_id)
                try:
                    with contextlib.suppress(DraftNotFoundError):
                        stack.enter_context(tree.pending_version.together())
                    if self._volume.trees.can_change(self._collection(name), tree):
                        break
                    # Sealed, discarded or given a base between the look and the lock, or a finish was cut
                    # short there after it had decided. Several who find that keep each other from ending it.
                    stack.pop_all().close()
                    if time.monotonic() > deadline:
                        raise CutShort
                except Sealing:  # or it gets a base, or is looked at by who ends what was cut short
                    if time.monotonic() > deadline:
                        raise
                time.sleep(_POLL)
            yield tree

    @contextlib.contextmanager
    def _not_finished(self, name: str, distributed_id: bytes) -> Iterator[None]:
        """Raises AlreadyFinishedError where a finish came first; one that was cut short is ended then."""
        try:
            yield
        except (CutShort, DraftNotFoundError):
            self._pending(name, distributed_id)
            raise

    @contextlib.contextmanager
    def open_tree(self, name: str, distributed_id: bytes) -> Iterator[WritableTree]:
        with self._held(name, distributed_id) as tree, self._opened(tree) as opened:
            yield opened

    @contextlib.contextmanager
    def _opened(self, tree: PendingTree) -> Iterator[WritableTree]:
        root, references = tree.open_root(), DirectReferences(tree, self._volume.references)
        try:
            if tree.lower is None:
                yield PlainTree(root, references, tree.pending_version.fd, tree.hashes)
            else:
                yield OverlaidTree(tree, root, references)
        finally:
            os.close(root)

    def _relabel_pending(self, name: str, distributed_id: bytes, more: Mapping[str, Any]) -> None:
        with self._held(name, distributed_id) as tree:
            pending_labels.change(tree.pending_version, more)

    def pending_directory(self, name: str, distributed_id: bytes) -> Path | None:
        self._pending(name, distributed_id)
        return None

    def last_change(self, name: str, distributed_id: bytes) -> float:
        return self._pending(name, distributed_id).last_change()

    def _finish(
        self, name: str, distributed_id: bytes, aliases: Sequence[str], wait: float, force: bool
    ) -> dict[str, Any]:
        collection = self._collection(name)
        names.check_distributed_id(distributed_id)
        request = Request(aliases, wait, force, by=user_name(os.geteuid()))
        deadline = time.monotonic() + wait
        with self._unmounted():
            while True:
                with contextlib.suppress(DraftNotFoundError):
                    self._volume.trees.get_from_disk(
                        collection, distributed_id
                    )  # others may have given it a base
                try:
                    return self._volume.finish(collection, distributed_id, request).json()
                except Sealing:
                    pass  # by another process, which lives: its version is the answer once it is there
                except (BeingFilled, RunsJoined):
                    if time.monotonic() >= deadline:
                        raise
                except DraftNotFoundError:
                    if collection.finished(distributed_id) is None:
                        raise
                time.sleep(_POLL)

    def discard(
        self, name: str, distributed_id: bytes, *, idle: float | None = None, abandoned: bool = False
    ) -> None:
        with self._unmounted():
            self._pending(name, distributed_id)
            with self._not_finished(name, distributed_id):
                self._volume.discard(self._collection(name), distributed_id, idle=idle, abandoned=abandoned)

    def _discard_untouched(self, name: str, distributed_id: bytes) -> None:
        with self._unmounted():
            self._volume.discard(self._collection(name), distributed_id, only_empty=True)


class _Reader:
    """Reads a reference once."""

    def __init__(self, references: References, entry: ReferenceEntry) -> None:
        self._references, self._entry = references, entry

    def open(self) -> int:
        self._brought = self._references.open_file(self._entry)
        return self._brought.fd

    def check(self, copy: int) -> None:
        self._brought.check(copy)


def _kind(entry: TreeEntry) -> str:
    return {DirEntry: "directory", SymlinkEntry: "symlink"}.get(type(entry), "file")


def _join(above: bytes, name: bytes) -> bytes:
    return above + b"/" + name if above else name
