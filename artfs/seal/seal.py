"""A finish, from the frozen tree to the published version.

Owns the order of the durable steps, which is what makes a crash harmless::

    close     nothing changes from here on (pending/gate)
    ingest    hash, write tree objects
    merge     only if the base of a patch is an alias that moved; after it nothing can refuse
    mark      the pending version records which seal is under way
    link      new files become blobs of the store; then everything is made durable
    commit    the version's record is created: the one atomic step
    settle    runs, labels, aliases, the finished id; the pending files go to the trash

A crash before the commit leaves a pending version, a crash after it a version. :mod:`artfs.seal.recovery` or
the next finish then completes the last step. Once its version exists a tree never changes again, also after
an error. Blocking; runs on a worker thread, one seal for each tree.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

from artfs.catalog import records
from artfs.catalog.collection import Collection
from artfs.catalog.records import VersionRecord
from artfs.errors import (
    AlreadyFinishedError,
    ArtfsError,
    Damaged,
    DraftNotFoundError,
    Interrupted,
    LostRace,
    NotFound,
    Sealing,
    VersionNotFound,
)
from artfs.linux.walk import DirectoryStack, go_to
from artfs.model import names
from artfs.model.entry import DirEntry
from artfs.pending.gate import State, WritableHandle
from artfs.pending.overlay import Base
from artfs.pending.pending_tree import PendingTree
from artfs.pending.pending_version import Mark, PendingLabels
from artfs.seal import patch_base as bases
from artfs.seal import pending_labels
from artfs.seal.ingest import Ingested, ingest
from artfs.seal.patch_base import Admission, Find
from artfs.store import durable
from artfs.store.objects import ObjectStore

DEFAULT_WAIT = 2.0  # seconds in which files may still be closed
_POLL = 0.05  # seconds between looks at a seal in another process
T = TypeVar("T")

_ATTEMPTS = 5  # against other seals that store other bytes under the same digest


@dataclass(frozen=True, slots=True)
class Request:
    """The request of a finish. `wait` is in seconds; `interrupted` tells whether the caller was signalled.

    `admit` decides which versions the caller may use as a base.
    """

    aliases: Sequence[str] = ()
    wait: float = DEFAULT_WAIT
    force: bool = False
    by: str = ""
    interrupted: Callable[[], bool] = lambda: False
    admit: Admission = bases.EVERYBODY


@dataclass(frozen=True, slots=True)
class Answer:
    """The result of a finish; it is `unchanged` if the tree is equal to the newest version.

    Then `updated` names the labels of that version that the finish changed: description, metadata, tags.
    """

    version: str
    unchanged: bool
    digest: str
    updated: tuple[str, ...] = ()

    def json(self) -> dict[str, Any]:
        answer = {"version": self.version, "unchanged": self.unchanged, "digest": self.digest}
        return answer | ({"updated": list(self.updated)} if self.updated else {})


class Observer:
    """Is notified of seals: a mount overrides this one, which does nothing."""

    def flush(self, handles: list[WritableHandle]) -> None:
        """Writes the dirty pages of these handles to the backing files."""

    def publish(self, tree: PendingTree, record: VersionRecord) -> None:
        """The tree became `record`. Called once, after the commit and before the answer; must not raise."""


class Settled(NamedTuple):
    """The end of a seal: the trash name of the pending files, and `updated` of :class:`Answer`."""

    trash: bytes
    updated: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Sealer:
    """What a seal works with: the store of a volume, one of its collections, and the observer."""

    store: ObjectStore
    collection: Collection
    find: Find
    next_serial: Callable[[], int]
    objects_in_use: Callable[[], AbstractContextManager[object]]
    pending_fd: int
    trash_fd: int
    observer: Observer = field(default_factory=Observer)
    #: Records with a run that it made a version, such as ``model:v3``; may be repeated.
    record_output: Callable[[str, str], None] = lambda _run, _version: None

    def seal(self, tree: PendingTree, request: Request) -> tuple[Answer, bytes]:
        """Turns `tree` into a version durably; returns the answer and the trash name of its pending files.

        Raises the errors of the gate, the walk and the backing filesystem; then nothing has changed. But an
        OSError may also be raised after the commit: then the version exists, the tree takes no more changes,
        and the next finish completes it.
        """
        for alias in request.aliases:
            if alias != "latest":
                names.check_alias(alias)
        try:
            handles = tree.gate.close(
                request.wait,
                force=request.force,
                joined=tree.pending_version.runs.refusal,
                unwritten=tree.unwritten.paths,
                interrupted=request.interrupted,
            )
        except DraftNotFoundError:  # another process sealed or discarded it
            if not tree.ended:
                tree.gate.settle(State.DISCARDED)
            raise
        try:
            with self.alone(tree, request.interrupted):
                mark = tree.pending_version.mark()
                record = decided(self.collection, mark)
                if mark is not None and record is not None:
                    unchanged = mark.version is not None
                    settled = self.resume(tree, record, request.aliases)
                else:
                    # It was checked before the gate was closed and other processes were excluded.
                    if not request.force and (refusal := tree.pending_version.runs.refusal()):
                        raise refusal
                    if handles:
                        self.observer.flush(handles)
                        tree.gate.fence(handles)
                    record, unchanged, settled = self.again(lambda: self._attempt(tree, request))
        except BaseException:
            state = self._state_after_failure(tree)
            if state is State.PENDING:
                tree.gate.unfence(handles)
            tree.gate.settle(state)
            raise
        # In this order: a lookup after the kernel was notified must not find the pending version.
        tree.gate.settle(State.SEALED)
        try:
            self.observer.publish(tree, record)
        finally:
            tree.published.set()
        return Answer(record.version, unchanged, record.digest, settled.updated), settled.trash

    @contextlib.contextmanager
    def alone(self, tree: PendingTree, interrupted: Callable[[], bool]) -> Iterator[None]:
        """Excludes other processes from the tree, after a wait for the end of their seal.

        Raises :class:`DraftNotFoundError` if they sealed or discarded the tree, and :class:`Sealing` if they
        set another base.
        """
        with contextlib.ExitStack() as stack:
            while True:
                try:
                    stack.enter_context(tree.pending_version.exclusively())
                    break
                except Sealing:
                    if interrupted():
                        raise Interrupted from None
                    time.sleep(_POLL)
            if not tree.pending_version.has_name_in(self.pending_fd):
                raise DraftNotFoundError(tree.collection, tree.name)
            if not tree.has_own_files():
                raise Sealing  # another process has set another base: get the tree again
            yield

    def _state_after_failure(self, tree: PendingTree) -> State:
        """Returns the state of the tree after a failed seal, by what is on disk."""
        try:
            if not tree.pending_version.has_name_in(self.pending_fd):
                return State.DISCARDED
            undone = decided(self.collection, tree.pending_version.mark()) is None
        except (ArtfsError, OSError):
            undone = False  # not known: changes would be lost if the tree is found to be sealed later
        return State.PENDING if undone else State.COMMITTED

    def again(self, attempt: Callable[[], T]) -> T:
        """Returns the result of `attempt`, which is repeated if another process won a race against it.

        Raises :class:`LostRace` if the others win each time.
        """
        for _ in range(_ATTEMPTS):
            with contextlib.suppress(LostRace):
                return attempt()
        raise LostRace("other seals stored other files under the same digests, or failed, again and again")

    def _attempt(self, tree: PendingTree, request: Request) -> tuple[VersionRecord, bool, Settled]:
        """Makes the version and settles it, or finds that the newest version is equal to the tree.

        Raises :class:`LostRace` as :meth:`_decide` does, and if that equal version was deleted meanwhile.
        """
        with _Turn(self.collection) as turn:
            with self.objects_in_use():
                record, unchanged = self._decide(tree, request, turn)
            turn.take()
            try:
                return record, unchanged, self.settle(tree, record)
            except VersionNotFound:
                if not unchanged:
                    raise
                raise LostRace("the version that is equal to the tree was deleted") from None

    def _decide(self, tree: PendingTree, request: Request, turn: _Turn) -> tuple[VersionRecord, bool]:
        """Makes the version, or finds that it is the newest one already.

        Raises :class:`LostRace` if another seal stored other bytes under the digest of one of our files, or
        failed to make its own durable, and :class:`~artfs.errors.Collision`.
        """
        since = self.store.begin()
        ingested = self.ingest(tree)
        labels, base = tree.pending_version.labels(), tree.base()
        if base is not None and base.follows:
            turn.take()
        aliases = tuple(dict.fromkeys(a for a in (*labels.aliases, *request.aliases) if a != "latest"))
        mark: Mark | None = None
        while True:  # the seal that took the number has made a version, so the seals together make progress
            # Before the newest is read: the commit fails if another version is made in between.
            number = self.collection.next_number()
            newest = self.collection.newest()
            root, named = self._onto(tree, base, ingested.root, request.admit)
            whole = base is not None and ingested.root.tree == base.tree_id
            link = labels.link if whole and labels.link == named else None
            # A link has one source: equal content is not enough.
            same = newest is not None and newest.root.entry().content == root.content
            if newest is not None and same and link in (None, newest.link):
                try:
                    pending_labels.check(self.collection, newest, tree.pending_version, request.admit)
                except VersionNotFound:  # deleted just now
                    continue
                tree.pending_version.set_mark(Mark(newest.seal, aliases, newest.version))
                return newest, True
            linked = mark is not None
            mark = mark or Mark(secrets.token_hex(16), aliases, lowest=number)
            # Made here, since nothing may refuse after the first link.
            record = self._record(number, tree, request, labels, mark, root, named, link)
            records.check_labels(records.initial_labels(record))
            if not linked:
                tree.pending_version.set_mark(mark)
                tree.shares_blobs = True
                self.link(tree, ingested)
            if not linked or tree.merged:
                self.store.sync(since=since)
            turn.take()
            self._set_aliases_of_newest()
            durable.step("seal:commit")
            if self.collection.commit(record):
                return record, False

    def _onto(
        self, tree: PendingTree, base: Base | None, root: DirEntry, admit: Admission
    ) -> tuple[DirEntry, str | None]:
        """Returns the root of the new version, merged with the moved base, and the name of that base."""
        if base is None:
            return root, None
        self._set_aliases_of_newest()
        onto = bases.moved(self.find, base, self.collection.name, admit)
        if onto is None:
            return root, base.name_in(self.collection.name)
        tree.merged = True
        return bases.rebased(self.store, tree.pending_version, base, root, onto), onto.name_in(
            self.collection.name
        )

    def _set_aliases_of_newest(self) -> None:
        """Sets the aliases that a seal left unset that was killed after its commit.

        The holder of the turn does this first: it must not build on the target that an alias had before that
        commit, and no later commit may happen in between.
        """
        newest = self.collection.newest()
        if newest is None or not newest.aliases or self.collection.finished(newest.id) == newest.number:
            return
        with contextlib.suppress(NotFound, AlreadyFinishedError):  # deleted just now
            self.collection.complete(newest)

    def ingest(self, tree: PendingTree) -> Ingested:
        progress = tree.progress
        progress.files = 0

        def count() -> None:
            progress.files += 1

        root = tree.open_root()
        try:
            return ingest(tree, root, self.store, count)
        finally:
            os.close(root)

    def link(self, tree: PendingTree, ingested: Ingested) -> None:
        durable.step("seal:link")
        with DirectoryStack(tree.open_root()) as at:
            for path, files in ingested.new:
                go_to(at, path)
                for file in files:
                    self.store.link(file.blob, at.fd, file.name)

    def _record(
        self,
        number: int,
        tree: PendingTree,
        request: Request,
        labels: PendingLabels,
        mark: Mark,
        root: DirEntry,
        base: str | None,
        link: str | None,
    ) -> VersionRecord:
        return VersionRecord.make(
            number=number,
            serial=self.next_serial(),
            root=root,
            distributed_id=tree.name,
            seal=mark.seal,
            created_by=request.by or tree.pending_version.birth.created_by,
            base=base,
            link=link,
            runs=[run.name for run in tree.pending_version.runs.all()],
            aliases=mark.aliases,
            tags=labels.tags,
            description=labels.description,
            metadata=pending_labels.metadata_of(tree.pending_version),
        )

    def resume(self, tree: PendingTree, record: VersionRecord, aliases: Sequence[str] = ()) -> Settled:
        """Settles a seal that was decided earlier, and sets more aliases. The caller excludes others."""
        # The deciding process may have died before its decision was durable.
        durable.sync_dir(tree.pending_version.fd, label="resume:mark")
        with self.collection.opened(b"versions") as versions:
            durable.sync_dir(versions, label="resume:commit")
        with self.collection.committing():
            self.collection.set_aliases(aliases, record.version)
            return self.settle(tree, record)

    def settle(self, tree: PendingTree, record: VersionRecord) -> Settled:
        """Does what follows from a commit. Repeatable: each step may be done already."""
        mark = tree.pending_version.mark()
        assert mark is not None
        for run in tree.pending_version.runs.all():
            if mark.version is not None:
                self.collection.add_run(record.number, run.name)
            self.record_output(run.name, f"{self.collection.name}:{record.version}")
        updated: tuple[str, ...] = ()
        # The id is recorded last: if it is, all else is set.
        if self.collection.finished(tree.name) != record.number:
            if mark.version is not None:
                updated = pending_labels.give(self.collection, record.number, tree.pending_version)
            for alias in mark.aliases:
                self.collection.set_alias(alias, record.version)
        self.collection.record_finished(tree.name, record.number)
        trash = durable.temp_name()
        durable.move(self.pending_fd, tree.name, self.trash_fd, trash, label="seal:drop")
        return Settled(trash, updated)


class _Turn:
    """The turn of a seal among those of its collection: once taken, it lasts until the seal is settled."""

    def __init__(self, collection: Collection) -> None:
        self._collection = collection
        self._held = contextlib.ExitStack()
        self._taken = False

    def take(self) -> None:
        if not self._taken:
            self._held.enter_context(self._collection.committing())
            self._taken = True

    def __enter__(self) -> _Turn:
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()


def decided(collection: Collection, mark: Mark | None) -> VersionRecord | None:
    """Returns the version that the seal with this mark made; None if it was not committed."""
    if mark is None:
        return None
    if mark.version is not None:
        try:
            record = collection.record(collection.resolve(mark.version))
        except VersionNotFound:
            return None
        if record.seal != mark.seal:  # the pending files may not be in that version
            what = f"the mark of a seal in '{collection.name}'"
            raise Damaged(what, f"it names {record.version}, which another seal made")
        return record
    for number in range(mark.lowest, collection.next_number()):
        with contextlib.suppress(VersionNotFound, Damaged):
            record = collection.record(number)
            if record.seal == mark.seal:
                return record
    return None
