"""A volume as a whole: the composition root of everything that needs no mount.

Owns the operations that span rooms: start, finish, discard, recover. Blocking; any thread may call it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pwd
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from artfs.catalog.catalog import Catalog
from artfs.catalog.collection import Collection
from artfs.catalog.records import VersionRecord
from artfs.catalog.runs import RunCatalog, check_run_id
from artfs.errors import (
    AlreadyFinishedError,
    AlreadyPending,
    ArtfsError,
    CollectionNotFound,
    Damaged,
    DraftNotFoundError,
    InvalidCommand,
    NotEmpty,
)
from artfs.model import names
from artfs.model.diff import Change, diff
from artfs.model.digest import Algorithm
from artfs.pending import pending_version, upgrade
from artfs.pending.gate import State
from artfs.pending.pending_tree import PendingTree, empty_trash
from artfs.pending.pending_version import PENDING, Owners, PendingLabels
from artfs.printing import printable
from artfs.seal import patch_base as bases
from artfs.seal import preview
from artfs.seal.rebase import set_base
from artfs.seal.recovery import recover
from artfs.seal.seal import Answer, Observer, Request, Sealer
from artfs.store import durable, layout, tree_removal
from artfs.store.layout import Layout
from artfs.store.objects import ObjectStore
from artfs.volume.maintenance import Maintenance
from artfs.volume.pending_trees import PendingTrees, is_decided, pending_names
from artfs.volume.volume_references import ALL_REFERENCES, ReferencePolicy, References, describe_reference

log = logging.getLogger(__name__)

_PUBLISHING = 60.0  # seconds within which a mount notifies the kernel of a version


class Volume:
    """An open volume. Close it, or use it in a ``with`` statement."""

    def __init__(
        self,
        opened: Layout,
        policy: ReferencePolicy = ALL_REFERENCES,
        *,
        verify_all: bool = False,
        limited: bool = False,
    ) -> None:
        self.layout = opened
        self.path = Path(opened.path)
        self.store = ObjectStore(opened.fd, opened.algorithm, verify_all=verify_all)
        self.catalog = Catalog(opened.fd)
        self.trees = PendingTrees(opened, self.store, self.catalog, limited=limited)
        self._runs_fd = opened.open_directory(layout.RUNS)
        self._trash_fd = opened.open_directory(layout.TRASH)
        self.runs = RunCatalog(self._runs_fd)
        self.references = References(opened.fd, self.store, self.catalog.collection, policy)
        self.maintenance = Maintenance(opened, self.store, self.catalog, self.runs, self.references)
        self.observer = Observer()

    @classmethod
    def init(cls, path: str | os.PathLike[str], algorithm: Algorithm = Algorithm.XXH128) -> Volume:
        """Makes a volume. Raises :class:`~artfs.errors.VolumeExists` if the directory is not empty."""
        volume = cls(Layout.init(path, algorithm))
        volume.catalog.keep_reserve()
        return volume

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Volume:
        """Opens a volume; upgrades one of an older format to the present one, if it can be written.

        Raises the :class:`~artfs.errors.VolumeError` that says why the volume can't be opened.
        """
        opened = Layout.open(path)
        try:
            upgrade.upgrade_alone(opened)
            return cls(opened)
        except BaseException:
            opened.close()
            raise

    @classmethod
    def open_to_serve(
        cls, path: str | os.PathLike[str], policy: ReferencePolicy, *, verify_all: bool
    ) -> Volume:
        """Opens a volume for a daemon, which calls :meth:`upgrade` once it has the mount's lock.

        Its pending trees leave descriptors to other users. With `verify_all` blobs of every size are verified
        before they are read. Raises as :meth:`open` does.
        """
        opened = Layout.open(path)
        try:
            return cls(opened, policy, verify_all=verify_all, limited=True)
        except BaseException:
            opened.close()
            raise

    def upgrade(self) -> None:
        """Upgrades the volume to the present format. The caller holds the mount's lock exclusively."""
        upgrade.upgrade(self.layout)

    def close(self) -> None:
        self.references.close()
        self.trees.close()
        self.catalog.close()
        self.store.close()
        os.close(self._runs_fd)
        os.close(self._trash_fd)
        self.layout.close()

    def __enter__(self) -> Volume:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- pending versions

    def start(
        self,
        collection: Collection,
        name: bytes,
        *,
        mode: int = 0o755,
        uid: int | None = None,
        gid: int | None = None,
        labels: PendingLabels | None = None,
        owners: Owners | None = None,
    ) -> PendingTree:
        """Starts a pending version, with an empty tree that belongs to `uid` and `gid` (default: ours).

        `owners` are the processes that it is made for: once they are dead, gc discards it. By default it has
        no owners. Raises :class:`AlreadyFinishedError` if the id has its version, :class:`AlreadyPending`,
        :class:`InvalidName`.
        """
        names.check_distributed_id(name)
        self._check_not_finished(collection, name)
        uid = os.geteuid() if uid is None else uid
        gid = os.getegid() if gid is None else gid
        self.trees.check_may_open(uid)
        with collection.opened(PENDING) as fd:
            try:
                pending_version.start(
                    fd,
                    name,
                    mode=mode,
                    uid=uid,
                    gid=gid,
                    created_by=user_name(uid),
                    labels=labels or PendingLabels(),
                    naming=partial(self._naming, collection, name),
                    owners=owners,
                )
            except AlreadyFinishedError:  # a FileExistsError too
                raise
            except FileExistsError:
                raise AlreadyPending(collection.name, name) from None
            except FileNotFoundError:  # the collection was removed
                raise CollectionNotFound(collection.name) from None
        try:
            return self.trees.get_started(collection, name)
        except DraftNotFoundError:  # another process has filled and finished it already
            self._check_not_finished(collection, name)
            raise

    @contextlib.contextmanager
    def _naming(self, collection: Collection, name: bytes) -> Iterator[None]:
        """Excludes finishes, which free a name once the id is recorded as finished.

        Raises :class:`AlreadyFinishedError`.
        """
        with collection.committing():
            self._check_not_finished(collection, name)
            yield

    @staticmethod
    def _check_not_finished(collection: Collection, name: bytes) -> None:
        finished = collection.finished(name)
        if finished is not None:
            raise AlreadyFinishedError(collection.name, name, names.version_name(finished))

    def set_base(
        self,
        collection: Collection,
        tree: PendingTree,
        ref: str,
        request: Request,
        *,
        number: int | None = None,
    ) -> PendingTree:
        """Makes a pending version a patch of `ref`; returns its new tree.

        Raises what :func:`artfs.seal.rebase.set_base` raises.
        """
        tree = tree.current()
        trash = None
        try:
            with self._sealer(collection) as sealer:
                trash = set_base(sealer, tree, ref, request, number)
        finally:
            if tree.gate.state is State.REPLACED:
                self.trees.replace(tree)
        if trash is not None:
            self._empty(trash)
        return tree.current()

    def set_link(
        self,
        collection: Collection,
        tree: PendingTree,
        ref: str,
        request: Request,
        *,
        number: int | None = None,
    ) -> PendingTree:
        """Makes an untouched pending version a link to ``OTHER:vN``, which it shows as a patch does.

        Raises InvalidCommand for any other target, and what :meth:`set_base` does.
        """
        other, version = names.split_reference(ref)
        if other in ("", collection.name) or names.parse_version(version) is None:
            raise InvalidCommand(f"'{printable(ref)}' is not a version of another collection; write OTHER:vN")
        tree = self.set_base(collection, tree, ref, request, number=number)
        tree.pending_version.change(link=ref)
        return tree

    def finish(self, collection: Collection, name: bytes, request: Request) -> Answer:
        """Seals a pending version. A finished id gets the aliases, and its version is returned again.

        The answer is durable. Raises what :meth:`artfs.seal.seal.Sealer.seal` raises.
        """
        try:
            tree = self.trees.get(collection.name, name)
        except DraftNotFoundError:
            finished = collection.finished(name)
            if finished is None:
                raise
            return self.finish_again(collection, finished, request)
        return self.finish_tree(collection, tree, request)

    def finish_tree(self, collection: Collection, tree: PendingTree, request: Request) -> Answer:
        """Seals this tree, as :meth:`finish` does, but never a later one of the same id."""
        tree = tree.current()
        name = tree.name
        with self._sealer(collection) as sealer:
            try:
                answer, trash = sealer.seal(tree, request)
            except ArtfsError:
                # If another finish of the same id was first, its version is the answer.
                finished = collection.finished(name) if tree.ended else None
                if finished is None:
                    raise
                if tree.gate.state is State.SEALED:
                    tree.published.wait(_PUBLISHING)
                return self.finish_again(collection, finished, request)
            finally:
                if tree.ended:
                    self.trees.forget(tree)
        self._empty(trash)
        return answer

    def finish_again(self, collection: Collection, number: int, request: Request) -> Answer:
        """Adds aliases to a version, as the finish of a finished id does."""
        record = collection.record(number)
        collection.set_aliases(request.aliases, record.version)
        return Answer(record.version, True, record.digest)

    def discard(
        self,
        collection: Collection,
        tree: PendingTree,
        *,
        only_empty: bool = False,
        idle: float | None = None,
        abandoned: bool = False,
    ) -> None:
        """Ends this pending version and deletes its files, but never a later one of the same id.

        The id can be started again. A collection that was made for the version is removed with it, unless it
        was used for anything else. Raises :class:`~artfs.errors.NotEmpty` with `only_empty` if it has files,
        :class:`~artfs.errors.NotIdle` with `idle` if it changed within so many seconds or runs have joined,
        :class:`~artfs.errors.Busy` with `abandoned` unless the processes that it was made for are dead.
        """
        owners = None
        try:
            with collection.opened(PENDING) as fd:
                tree = tree.current()
                with contextlib.suppress(Damaged):
                    owners = tree.pending_version.owners()
                trash = tree.discard(
                    self._trash_fd,
                    fd,
                    only_empty=only_empty,
                    idle=idle,
                    abandoned=abandoned,
                    decided=partial(is_decided, collection, tree),
                )
        finally:
            if tree.ended:
                self.trees.forget(tree)
        self._empty(trash)
        if owners is not None and owners.collection is not None:
            with contextlib.suppress(NotEmpty, CollectionNotFound):
                self.catalog.remove_unused(collection.name, owners.collection)

    def recover(self, *, alone: bool = False) -> None:
        """Finishes or undoes what crashes left: seals, temps, the trash. Other processes may use the volume.

        ``alone``: the caller's lock excludes changes of pending versions by other processes.
        """
        self.catalog.sweep()
        self.catalog.keep_reserve()
        for collection in self.catalog.collections():
            try:
                pending = pending_names(collection)
            except CollectionNotFound:  # removed meanwhile
                continue
            except Damaged as error:
                log.warning("pending versions of %s are left as they are: %s", collection.name, error)
                continue
            for name in pending:
                try:
                    with self._sealer(collection) as sealer:
                        tree = self.trees.get(collection.name, name)
                        trash = recover(sealer, tree)
                except (ArtfsError, OSError) as error:
                    # One that can't be settled now (on a full disk) must not block the others.
                    log.warning("%s/%s is left as it is: %s", collection.name, printable(name), error)
                    continue
                if trash is not None:
                    self.trees.forget(tree)
                    self._empty(trash)
                elif alone:
                    with contextlib.suppress(OSError):
                        tree_removal.sweep_temps(tree.pending_version.fd, any_age=True)
                    self.trees.forget(tree)  # opened again when needed: no descriptors are held for it
        left = durable.names(self._trash_fd)
        if left:
            self._empty(*map(os.fsencode, left))

    def _empty(self, *trash: bytes) -> None:
        """Deletes from the trash in a thread, so that no answer waits for it. Never raises.

        The process ends after its threads. If no thread can be started, the next gc deletes.
        """
        with contextlib.suppress(OSError, RuntimeError):
            fd = os.dup(self._trash_fd)
            try:
                threading.Thread(target=empty_trash, args=(fd, *trash), name="artfs-trash").start()
            except BaseException:
                os.close(fd)
                raise

    @contextlib.contextmanager
    def _sealer(self, collection: Collection) -> Iterator[Sealer]:
        with collection.opened(PENDING) as pending_fd:
            yield Sealer(
                store=self.store,
                collection=collection,
                find=self.catalog.collection,
                next_serial=self.catalog.next_serial,
                objects_in_use=self.layout.objects_lock.shared,
                pending_fd=pending_fd,
                trash_fd=self._trash_fd,
                observer=self.observer,
                record_output=self._record_output,
            )

    # -- versions

    def record_of_serial(self, serial: int) -> tuple[Collection, VersionRecord] | None:
        """Finds the version of a serial, which is part of inode numbers; None if it was deleted."""
        found = (known for known in self.maintenance.sound_records() if known[1].serial == serial)
        return next(found, None)

    def look_up(self, collection: Collection, ref: str) -> tuple[Collection, VersionRecord]:
        """Returns the version that ``v3``, an alias or ``other:v3`` names, with its collection.

        Raises :class:`~artfs.errors.NotFound`.
        """
        return bases.record_of(self.catalog.collection, collection.name, ref)

    def diff(self, old: VersionRecord, new: VersionRecord) -> Iterator[Change]:
        """Yields the differences of two versions; reads only what differs.

        It returns no list: all paths of a deep tree may not fit into memory.
        """
        return diff(self.store.reader, old.root.entry(), new.root.entry())

    def changes(self, tree: PendingTree) -> tuple[Iterator[Change], int]:
        """Returns the changes of a pending version since its base, or since nothing, and their reach."""
        return preview.changes(tree.current())

    def references_in(self, tree: PendingTree) -> tuple[Iterator[dict[str, Any]], int]:
        """Returns path, URI, size and checksum of each reference in a pending tree, and the tree's reach."""
        found, reach = preview.references(tree.current())
        return (describe_reference(path, entry) for path, entry in found), reach

    # -- runs

    def record_use(self, collection: Collection, number: int, run: str) -> None:
        """Records durably that a run read a version, with both. The run is made if it does not exist.

        Raises :class:`~artfs.errors.InvalidName`.
        """
        check_run_id(run)
        version = collection.record(number).version
        collection.add_used_by(number, run)
        self.runs.apply(run, {"inputs": [f"{collection.name}:{version}"]})

    def _record_output(self, run: str, version: str) -> None:
        try:
            self.runs.apply(run, {"outputs": [version]})
        except ArtfsError as error:  # a damaged record of a run must not refuse a version
            log.warning("the record of run %s lacks %s, which it made: %s", printable(run), version, error)


def user_name(uid: int) -> str:
    """Returns the name of a user; the number if there is none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


__all__ = ["Volume", "user_name"]
