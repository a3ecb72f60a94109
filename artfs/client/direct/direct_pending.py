"""Pending versions of a volume that is used directly.

Owns how a pending version is kept from being sealed, discarded and mounted while it changes. Blocking.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from artfs.catalog.runs import check_run_id
from artfs.client.direct.direct_references import DirectReferences
from artfs.client.direct.overlay_tree import OverlayTree
from artfs.client.direct.volume_access import VolumeAccess
from artfs.client.file_attributes import umask
from artfs.client.pending_operations import PendingOperations
from artfs.client.plain_tree import PlainTree
from artfs.client.transfer.tree_writer import TreeWriter, WritePolicy
from artfs.client.values import ReferenceRequest
from artfs.client.writable_tree import ReferenceTarget, WritableTree
from artfs.errors import (
    AlreadyExists,
    AlreadyFinishedError,
    BeingFilled,
    CollectionNotFound,
    CutShort,
    DraftNotFoundError,
    NotJoined,
    PathConflictError,
    RunsJoined,
    Sealing,
)
from artfs.model import names
from artfs.model.diff import Change
from artfs.pending.pending_tree import PendingTree
from artfs.pending.pending_version import Owners
from artfs.seal import pending_labels
from artfs.seal.seal import Request
from artfs.store.owners import this_process
from artfs.volume.pending_trees import pending_names
from artfs.volume.status import describe_pending
from artfs.volume.volume import user_name
from artfs.volume.volume_references import path_taken

_SETTLING = 2.0  # seconds that others may take to set a base, or to end a finish that was killed
_POLL = 0.05  # seconds between looks at what another process does


class DirectPending(VolumeAccess, PendingOperations):
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
                # A seal is under way or was interrupted. Its decision is carried out first.
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
        self._check_filesystem()  # before anything is created
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
        return list(self._volume.references_in(self._pending(name, distributed_id))[0])

    def _add_references(self, name: str, distributed_id: bytes, wanted: ReferenceRequest) -> None:
        found = self._preview_references(name, distributed_id, wanted)
        with self.open_tree(name, distributed_id) as tree:
            try:
                TreeWriter(tree, WritePolicy()).references(found)
            except PathConflictError as error:
                raise path_taken(os.fsencode(error.path)) from None

    def _preview_references(
        self, name: str, distributed_id: bytes, wanted: ReferenceRequest
    ) -> list[tuple[bytes, ReferenceTarget]]:
        self._pending(name, distributed_id)
        found = self._volume.references.list_objects(
            wanted.uri, wanted.path, checksum=wanted.checksum, max_objects=wanted.max_objects
        )
        return [(path, ReferenceTarget(at.uri, at.size, os.fsdecode(at.checksum))) for path, at in found]

    def changes(self, name: str, distributed_id: bytes) -> list[Change]:
        return list(self._volume.changes(self._pending(name, distributed_id))[0])

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
                    # It was sealed, discarded or given a base before it was locked here, or a finish was
                    # interrupted after its decision. Several processes that find that block each other.
                    stack.pop_all().close()
                    if time.monotonic() > deadline:
                        raise CutShort
                except Sealing:  # or a base is being set, or an interrupted finish is being ended
                    if time.monotonic() > deadline:
                        raise
                time.sleep(_POLL)
            yield tree

    @contextlib.contextmanager
    def _not_finished(self, name: str, distributed_id: bytes) -> Iterator[None]:
        """Raises AlreadyFinishedError if a finish came first; ends one that was interrupted."""
        try:
            yield
        except (CutShort, DraftNotFoundError):
            self._pending(name, distributed_id)
            raise

    @contextlib.contextmanager
    def open_tree(self, name: str, distributed_id: bytes) -> Iterator[WritableTree]:
        with self._held(name, distributed_id) as tree:
            root, references = tree.open_root(), DirectReferences(tree, self._volume.references)
            try:
                if tree.lower is None:
                    yield PlainTree(root, references, tree.pending_version.fd, tree.hashes)
                else:
                    yield OverlayTree(tree, root, references)
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
                    # Another process may have set its base.
                    self._volume.trees.get_from_disk(collection, distributed_id)
                try:
                    return self._volume.finish(collection, distributed_id, request).json()
                except Sealing:
                    pass  # by a living process: its version is the answer once it exists
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
            tree = self._pending(name, distributed_id)
            with self._not_finished(name, distributed_id):
                self._volume.discard(self._collection(name), tree, idle=idle, abandoned=abandoned)

    def _discard_untouched(self, name: str, distributed_id: bytes) -> None:
        with self._unmounted():
            collection = self._collection(name)
            tree = self._volume.trees.get(collection.name, distributed_id)
            self._volume.discard(collection, tree, only_empty=True)

    def join(self, name: str, distributed_id: bytes, run: str) -> None:
        check_run_id(run)
        with self._held(name, distributed_id) as tree:
            tree.pending_version.runs.join(run, this_process())

    def leave(self, name: str, distributed_id: bytes, run: str) -> None:
        with self._held(name, distributed_id) as tree, contextlib.suppress(NotJoined):
            tree.pending_version.runs.leave(run, this_process())
