"""A finish, from the frozen tree to the published version.

Owns the order of the durable steps, which is what makes a crash harmless::

    close     nothing changes from here on (pending/gate)
    ingest    hash, write tree objects; all that can refuse is done when it ends
    mark      the pending version says which seal is under way
    link      new files become blobs of the store; then everything is made durable
    commit    the version's record is created: the one atomic step
    settle    aliases, the finished id; the pending files go to the trash

Before the commit a crash leaves a pending version, after it a sealed one; :mod:`artfs.seal.recovery` does
what is left of the last line. Blocking; runs on a worker thread, one seal a tree.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from artfs.catalog.collection import Collection
from artfs.catalog.records import VersionRecord
from artfs.errors import LostRace, VersionNotFound
from artfs.model import names
from artfs.pending.draft import Mark, Settings
from artfs.pending.gate import State, WritableHandle
from artfs.pending.tree import PendingTree
from artfs.seal.ingest import Ingest, Ingested
from artfs.store import durable
from artfs.store.objects import ObjectStore

DEFAULT_WAIT = 2.0  # seconds, for closes that are on their way
_ATTEMPTS = 5  # of ingest, against other seals that store other bytes under the same digest


@dataclass(frozen=True, slots=True)
class Request:
    """What a finish asks for. `wait` is in seconds; `interrupted` tells that the caller gave up."""

    aliases: Sequence[str] = ()
    wait: float = DEFAULT_WAIT
    force: bool = False
    by: str = ""
    interrupted: Callable[[], bool] = lambda: False


@dataclass(frozen=True, slots=True)
class Answer:
    """What a finish made: `unchanged` if the tree was equal to the newest version already."""

    version: str
    unchanged: bool
    digest: str

    def json(self) -> dict[str, Any]:
        return {"version": self.version, "unchanged": self.unchanged, "digest": self.digest}


class Audience(Protocol):
    """Who else knows the tree: a mount. The default audience of a volume without one does nothing."""

    def flush(self, handles: list[WritableHandle]) -> None:
        """Brings what processes wrote into mapped or cached pages of these handles to the backing files."""

    def publish(self, tree: PendingTree, record: VersionRecord) -> None:
        """The tree is `record` now. Called once, after the commit and before the answer; must not raise."""


class NoAudience:
    def flush(self, handles: list[WritableHandle]) -> None:
        pass

    def publish(self, tree: PendingTree, record: VersionRecord) -> None:
        pass


@dataclass(frozen=True, slots=True)
class Sealer:
    """What a seal works with: one volume's store, one collection of it, and who is told."""

    store: ObjectStore
    collection: Collection
    next_serial: Callable[[], int]
    objects_in_use: Callable[[], AbstractContextManager[object]]
    pending_fd: int
    trash_fd: int
    audience: Audience = NoAudience()

    def seal(self, tree: PendingTree, request: Request) -> tuple[Answer, bytes]:
        """Turns `tree` into a version, durably; returns the answer and the trash name of its pending files.

        Raises what the gate, the walk and the backing filesystem refuse with; then nothing has changed.
        """
        for alias in request.aliases:
            if alias != "latest":
                names.check_alias(alias)
        handles = tree.gate.close(
            request.wait, force=request.force, joined=tree.draft.joined, interrupted=request.interrupted
        )
        try:
            with tree.draft.exclusively():
                if handles:
                    self.audience.flush(handles)
                    tree.gate.fence(handles)
                record, unchanged, trash = self._commit_and_settle(tree, request)
        except BaseException:
            tree.gate.settle(State.PENDING)
            raise
        self.audience.publish(tree, record)
        tree.gate.settle(State.SEALED)
        return Answer(record.version, unchanged, record.digest), trash

    def _commit_and_settle(self, tree: PendingTree, request: Request) -> tuple[VersionRecord, bool, bytes]:
        while True:
            with self.objects_in_use():
                record, unchanged = self._commit(tree, request)
            try:
                return record, unchanged, self.settle(tree, record)
            except VersionNotFound:
                if not unchanged:
                    raise
                # The version that the tree is equal to was deleted just now: then it is a new one.

    def _commit(self, tree: PendingTree, request: Request) -> tuple[VersionRecord, bool]:
        settings = tree.draft.settings()
        aliases = tuple(dict.fromkeys(a for a in (*settings.aliases, *request.aliases) if a != "latest"))
        for attempt in range(_ATTEMPTS):
            ingested = self._ingest(tree)
            # Before the look at the newest: a version that comes between the two is then seen by the commit.
            number = self.collection.next_number()
            newest = self.collection.newest()
            if newest is not None and newest.root.entry().content == ingested.root.content:
                tree.draft.set_mark(Mark(newest.seal, aliases, newest.version))
                return newest, True
            mark = Mark(secrets.token_hex(16), aliases)
            tree.draft.set_mark(mark)
            tree.shares_blobs = True
            try:
                self._link(tree, ingested)
            except LostRace:
                if attempt + 1 == _ATTEMPTS:
                    raise
                continue
            self.store.sync()
            record = self._record(number, tree, request, settings, mark, ingested)
            durable.step("seal:commit")
            if self.collection.commit(record):
                return record, False
            # Another seal took the number: compare with its version before taking the next one.
        raise LostRace("other seals of this collection were always faster; try again")

    def _ingest(self, tree: PendingTree) -> Ingested:
        progress = tree.progress
        progress.files = 0

        def count() -> None:
            progress.files += 1

        root = tree.open_root()
        try:
            return Ingest(self.store, tree.hashes.take, count).run(root)
        finally:
            os.close(root)

    def _link(self, tree: PendingTree, ingested: Ingested) -> None:
        durable.step("seal:link")
        fd = tree.open_root()
        here: list[bytes] = []
        try:
            for path, files in ingested.new:
                shared = len(os.path.commonprefix([here, path]))
                for name in [b".."] * (len(here) - shared) + path[shared:]:
                    below = durable.open_directory(fd, name)
                    os.close(fd)
                    fd = below
                here = path
                for file in files:
                    self.store.link(file.blob, fd, file.name)
        finally:
            os.close(fd)

    def _record(
        self,
        number: int,
        tree: PendingTree,
        request: Request,
        settings: Settings,
        mark: Mark,
        ingested: Ingested,
    ) -> VersionRecord:
        return VersionRecord.make(
            number=number,
            serial=self.next_serial(),
            root=ingested.root,
            distributed_id=tree.name,
            seal=mark.seal,
            created_by=request.by or tree.draft.birth.created_by,
            base=settings.base,
            runs=[run.name for run in tree.draft.runs()],
            aliases=mark.aliases,
            tags=settings.tags,
            description=settings.description,
            metadata=json.loads(tree.draft.metadata()),
        )

    def settle(self, tree: PendingTree, record: VersionRecord) -> bytes:
        """Does what follows from a commit, also again after a crash: each step may have been done already."""
        mark = tree.draft.mark()
        assert mark is not None
        if mark.version is not None:
            for run in tree.draft.runs():
                self.collection.add_run(record.number, run.name)
        for alias in mark.aliases:
            self.collection.set_alias(alias, record.version)
        self.collection.record_finished(tree.name, record.number)
        trash = durable.temp_name()
        durable.move(self.pending_fd, tree.name, self.trash_fd, trash, label="seal:drop")
        return trash
