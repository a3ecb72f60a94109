"""The draft of an artifact: the pending version that its files go to, from the first one on.

Owns when it is started and discarded. Knows neither files nor wandb's names. Any thread; a forked process
leaves its parent's draft alone.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
import weakref
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any

from artfs.client.interface import Client
from artfs.client.transfer.tree_writer import TreeWriter, WritePolicy, type_conflict
from artfs.client.values import Progress, silent
from artfs.client.writable_tree import ReferenceTarget, TreeCursor, WritableTree
from artfs.errors import AlreadyPending, ArtfsError, CollectionNotFound, NotFound, VolumeError
from artfs.linux.walk import walk
from artfs.model.entry import SEALED_MODE
from artfs.model.names import private_id
from artfs.model.scope import Scope
from artfs.sdk.connection import Connection

_joining = threading.Lock()
_joined: Counter[tuple[Any, ...]] = Counter()


class ArtifactDraft:
    """One pending version: private, under a random id, or shared under a distributed one."""

    def __init__(
        self,
        connection: Connection,
        name: str,
        kind: str,
        *,
        distributed_id: bytes | None = None,
        base: str | None = None,
        link: bool = False,
    ) -> None:
        """Starts nothing yet. `base` is the version that it begins as, or links to: ``v3``, ``model:v3``."""
        self.connection, self.name, self.kind, self.base = connection, name, kind, base
        self.link = link
        self.shared = distributed_id is not None
        self.id = distributed_id or private_id()
        self.started = self._tried = False
        self._owner = 0  # the process that the volume knows as the owner of this draft
        self._lock = threading.Lock()
        self._end: weakref.finalize[..., ArtifactDraft] | None = None

    def has_tree(self) -> bool:
        """Tells whether it may have files."""
        return self.started or self.base is not None

    def start(self) -> Client:
        """Makes the pending version if there is none. Raises what :meth:`Client.new` does."""
        client = self.connection.client()
        with self._lock:
            if not self.started:
                interrupted, self._tried = self._tried, True
                if not self.shared and (self._end is None or not self._end.alive):
                    self._end = weakref.finalize(
                        self, _drop, self.connection, self.name, self.id, os.getpid()
                    )
                    self._end.atexit = False
                    _live.add(self)
                try:
                    client.new(
                        self.name,
                        self.id,
                        kind=self.kind,
                        base=self.base,
                        link=self.link,
                        private=not self.shared,
                    )
                except AlreadyPending:
                    if not self.shared and not interrupted:
                        raise
                    if not self.shared:
                        client.add_owner(self.name, self.id)
                    if interrupted and self.base is not None:
                        self._give_base(client, self.base)
                self.started, self._owner = True, os.getpid()
            elif not self.shared and self._owner != os.getpid():
                client.add_owner(self.name, self.id)  # a fork, which may outlive the process that started it
                self._owner = os.getpid()
        return client

    def claim(self, scope: Scope) -> None:
        """Records the scope that the version is to belong to; see :meth:`Client.claim`."""
        if not scope:
            return
        with contextlib.suppress(CollectionNotFound):
            self.connection.client().claim(self.name, scope)  # before the start: a refusal leaves nothing
            if self.started:
                return
        self.start().claim(self.name, scope)  # again: until then the collection could be removed as unused

    def _give_base(self, client: Client, base: str) -> None:
        """Sets the base of what an interrupted call started, as after Ctrl-C, if it has none yet."""
        if self.link:
            client.set_link(self.name, self.id, base)
        elif client.pending_status(self.name, self.id)["base"] != base:
            client.set_base(self.name, self.id, base)

    def tree(self) -> AbstractContextManager[WritableTree]:
        """Opens the files, to look at them or to change them; starts the pending version."""
        return self.start().open_tree(self.name, self.id)

    @contextlib.contextmanager
    def writer(
        self, *, replace: bool = False, run: str | None = None, total: int = 0, progress: Progress = silent
    ) -> Iterator[TreeWriter]:
        """Opens the files to add some."""
        with self.tree() as tree:
            run = run if self.shared else None
            alone = run is None or not self._runs_elsewhere(run)
            policy = WritePolicy(replace=replace, shared=self.shared, run=run, alone=alone)
            yield TreeWriter(tree, policy, total, progress)

    def _runs_elsewhere(self, run: str) -> bool:
        try:
            return len(self.connection.client().run(run)["processes"]) > 1
        except (NotFound, VolumeError):
            return False  # the run is not recorded, or its record can't be read here

    def references(self) -> list[dict[str, Any]]:
        """Returns path, URI, size and checksum of each file whose bytes are elsewhere."""
        return self.start().references(self.name, self.id)

    def preview_references(
        self, path: bytes, uri: str, *, checksum: bool, max_objects: int | None
    ) -> list[tuple[bytes, ReferenceTarget]]:
        """Returns the references that a URI would make; see :meth:`Client.preview_references`."""
        return self.start().preview_references(
            self.name, self.id, path, uri, checksum=checksum, max_objects=max_objects
        )

    def relabel(self, **what: Any) -> None:
        """Adds to the labels that the version will have; see :meth:`Client.relabel_pending`."""
        self.start().relabel_pending(self.name, self.id, **what)

    @contextlib.contextmanager
    def joined(self, run: str | None) -> Iterator[None]:
        """Joins a run for the time of the block; the version will name it."""
        if run is None:
            yield
            return
        client = self.start()
        # Several threads are one process, which has left when the last of them has.
        key = os.getpid(), self.connection.path, self.name, self.id, run
        with _joining:
            if not _joined[key]:
                client.join(self.name, self.id, run)
            _joined[key] += 1
        try:
            yield
        finally:
            with _joining:
                _joined[key] -= 1
                if not _joined[key]:
                    del _joined[key]
                    client.leave(self.name, self.id, run)

    def finish(self, aliases: list[str], *, wait: float | None = None) -> dict[str, Any]:
        """Makes the version, and returns what :meth:`Client.finish` does."""
        answer = self.start().finish(self.name, self.id, aliases, wait=wait)
        self._ended()
        return answer

    def hand_over(self, target: ArtifactDraft, run: str | None, *, replace: bool = False) -> None:
        """Moves all files into another draft, and discards this one.

        Raises :class:`~artfs.errors.PathConflictError`, before anything is moved, for paths that are taken.
        """
        with self.tree() as ours, target.writer(replace=replace, run=run) as writer:
            with ours.cursor() as source, writer.tree.cursor() as at:
                _agree(writer, source, at)
            with ours.cursor() as source, writer.tree.cursor() as at:
                _move(writer, source, at)
        self.discard()

    def discard(self) -> None:
        """Discards the pending version; one of a distributed id stays, as others fill it too."""
        if self._end is not None and (dropped := self._end.detach()):
            _discard(*dropped[2])
        self.started = False

    def _ended(self) -> None:
        if self._end is not None:
            self._end.detach()

    def status(self) -> Mapping[str, Any]:
        return self.start().pending_status(self.name, self.id)


#: The drafts that are discarded when the process ends.
_live: weakref.WeakSet[ArtifactDraft] = weakref.WeakSet()


@atexit.register
def _discard_all() -> None:
    for draft in list(_live):
        draft.discard()


def _drop(*draft: Any) -> None:
    """Discards a draft to which no reference is left.

    It uses a thread of its own, since the garbage collector may call this anywhere, also while this thread
    holds a lock of the volume. Only at the end of the process no thread can be started; then no lock is held.
    """
    try:
        threading.Thread(target=_discard, args=draft, name="artfs-draft").start()
    except RuntimeError:
        _discard(*draft)


def _discard(connection: Connection, name: str, distributed_id: bytes, pid: int) -> None:
    if os.getpid() == pid:
        with contextlib.suppress(ArtfsError, OSError):
            connection.client().discard(name, distributed_id)


def _agree(writer: TreeWriter, source: TreeCursor, at: TreeCursor) -> None:
    """Checks that everything can be moved, as far as can be known before."""
    missing = 0  # levels below a directory that the target does not have
    for step in walk(source):
        if step.leaving:
            if missing:
                missing -= 1
            else:
                at.leave()
        elif step.is_directory:
            if missing or not _enter_if_there(at, step.name):
                missing += 1
        elif not missing:
            writer.check_move(at, step.name, source, step.status)


def _enter_if_there(at: TreeCursor, name: bytes) -> bool:
    try:
        at.enter(name)
    except FileNotFoundError:
        return False
    except NotADirectoryError:
        raise type_conflict(at, name, "the directory") from None
    return True


def _move(writer: TreeWriter, source: TreeCursor, at: TreeCursor) -> None:
    for step in walk(source):
        if step.leaving:
            status = step.status
            at.set_attributes(
                mode=status.st_mode & SEALED_MODE,
                mtime_ns=status.st_mtime_ns,
                xattrs=source.xattrs(step.name),
            )
            at.leave()
        elif step.is_directory:
            writer.enter(at, step.name)
        else:
            writer.move(at, step.name, source, step.status)
