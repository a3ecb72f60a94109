"""The state of an artifact: a draft until it is saved, a version from then on.

Owns the way from one to the other, what may be asked in which, and how labels are stored. Knows no file, and
no name of wandb's. One thread at a time.
"""

from __future__ import annotations

import contextlib
import logging
from typing import Any

from artfs.client.interface import Client
from artfs.errors import (
    AlreadyFinishedError,
    ArtifactFinalizedError,
    ArtifactNotLoggedError,
    DraftNotFoundError,
    NotFound,
)
from artfs.model import names
from artfs.model.names import split_reference
from artfs.model.scope import Scope
from artfs.sdk import arguments, run_context
from artfs.sdk.artifact_draft import ArtifactDraft
from artfs.sdk.artifact_labels import STORED, ArtifactLabels
from artfs.sdk.connection import Connection
from artfs.sdk.qualified_names import VersionLocation

_log = logging.getLogger("artfs")


class ArtifactState:
    """One artifact. ``draft`` is None once it is a version, whose ``status`` is then known."""

    def __init__(self, connection: Connection, collection: str, kind: str, **draft: Any) -> None:
        """`draft` says how the draft begins; see :class:`ArtifactDraft`."""
        self.connection, self.collection, self.kind = connection, collection, kind
        self.draft: ArtifactDraft | None = self._new_draft(**draft)
        self.labels = ArtifactLabels()
        self.status: dict[str, Any] = {}
        self.added: dict[str, str] = {}  # paths in the artifact by the absolute local path
        self.use_as: str | None = None
        self.finalized = self.deleted = False
        #: Whether saving found that nothing differs from the newest version, which the artifact then is.
        self.unchanged = False

    @classmethod
    def of_version(cls, connection: Connection, collection: str, ref: str) -> ArtifactState:
        """Returns the state of a version. Raises :class:`~artfs.errors.NotFound`."""
        state = cls(connection, collection, "")
        state._become(connection.client().version(collection, ref))
        return state

    def _new_draft(self, **how: Any) -> ArtifactDraft:
        return ArtifactDraft(self.connection, self.collection, self.kind, **how)

    def _become(self, status: dict[str, Any]) -> None:
        """Makes this the state of a version."""
        self.draft, self.finalized = None, True
        self.status, self.kind = status, str(status["type"])
        self.labels = ArtifactLabels.of_version(status)

    def client(self) -> Client:
        return self.connection.client()

    # -- what it is

    def settled_draft(self) -> ArtifactDraft | None:
        """Returns the draft; None if it is a version, which another run may have made of a shared draft."""
        draft = self.draft
        if draft is not None and draft.shared and draft.started:
            try:
                draft.status()
            except AlreadyFinishedError as error:
                edited = self.labels
                self._become(self.client().version(self.collection, error.version))
                self.labels.take_changes(edited)  # save() stores them
        return self.draft

    def version(self, what: str) -> str:
        """Returns the number of the version, for which `what` is asked. Raises ArtifactNotLoggedError."""
        if self.settled_draft() is not None:
            raise ArtifactNotLoggedError(self.collection, what)
        return str(self.status["version"])

    def fact(self, key: str) -> str:
        """Returns what the status of the version says. Raises ArtifactNotLoggedError."""
        self.version(key)
        return str(self.status[key])

    def distributed_id(self) -> bytes:
        if self.draft is not None:
            return self.draft.id
        return str(self.status["distributed_id"]).encode("utf-8", "surrogateescape")

    def is_link(self) -> bool:
        return self.status.get("link") is not None

    def location(self) -> VersionLocation:
        version = None if self.draft is not None else str(self.status["version"])
        return VersionLocation(self.connection, self.collection, version)

    def source(self) -> tuple[str, str]:
        """Returns collection and number of the version that a link was made from; of any other its own."""
        version = self.version("source")
        return split_reference(self.status["link"]) if self.is_link() else (self.collection, version)

    def source_location(self) -> VersionLocation:
        return VersionLocation(self.connection, *self.source()) if self.is_link() else self.location()

    def open_draft(self) -> ArtifactDraft:
        """Returns the draft to put files into. Raises ArtifactFinalizedError."""
        if self.draft is None or self.finalized:
            raise ArtifactFinalizedError(self.collection)
        return self.draft

    def share(self, distributed_id: bytes | None) -> None:
        """Sets the distributed id of a draft that has no files. Raises ValueError."""
        if self.open_draft().started:
            raise ValueError("distributed_id can't be set once a file is added")
        self.draft = self._new_draft(distributed_id=distributed_id)

    # -- saving

    def finish(
        self,
        run: str | None,
        aliases: list[str],
        tags: list[str],
        wait: float | None = None,
        *,
        scope: Scope | None = None,
    ) -> None:
        """Turns the draft into a version, in a scope that is by default the run's."""
        draft, labels = self.draft, self.labels
        assert draft is not None
        if draft.shared and not draft.started:
            self._find(draft)
        labels.check(aliases, tags)
        named = arguments.encoded_aliases(labels.aliases)
        draft.claim(scope or run_context.scope(run))
        self.finalized = True
        try:
            self._annotate(draft)
            with draft.joined(run):
                pass  # the version names all runs that joined
            answer = draft.finish(named, wait=wait)
        except AlreadyFinishedError:
            # Another run finished this very draft: harmless, as finishing it again is.
            answer = self.client().finish(self.collection, draft.id, named)
            answer |= {"unchanged": True, "updated": self._store_late(answer["version"])}
        except BaseException:
            self.finalized = False
            raise
        version = str(answer["version"])
        if updated := answer.get("updated"):
            text = "%s:%s is there already: it got the given %s"
            _log.warning(text, self.collection, version, ", ".join(updated))
        if labels.ttl_is_set:
            self.client().relabel(self.collection, version, {"ttl": labels.stored_ttl()})
        self.unchanged = bool(answer["unchanged"])
        self._become(self.client().version(self.collection, version))

    def _find(self, draft: ArtifactDraft) -> None:
        """Raises DraftNotFoundError if no run started the id."""
        try:
            self.client().pending_status(self.collection, draft.id)
        except AlreadyFinishedError:
            pass
        except NotFound:
            raise DraftNotFoundError(self.collection, draft.id) from None
        draft.started = True

    def _annotate(self, draft: ArtifactDraft) -> None:
        labels = self.labels
        draft.relabel(
            aliases=arguments.encoded_aliases(labels.aliases),
            tags=labels.tags,
            description=labels.description,
            metadata=labels.metadata,
        )
        labels.mark_saved()

    def _store_late(self, version: str) -> list[str]:
        """Adds the labels that the draft was not given before it was finished; returns which there are."""
        changes, since = self.labels.changed(*STORED)
        changes = {key: value for key, value in changes.items() if value}
        if changes:
            self.client().relabel(self.collection, version, changes, since)
        return sorted(changes)

    def store_labels(self) -> None:
        """Stores what was changed of the labels of a version; what others changed meanwhile stays."""
        client, version, labels = self.client(), self.version("labels"), self.labels
        labels.check()
        changes, since = labels.changed(*STORED)
        if labels.ttl_is_set:
            changes["ttl"] = labels.stored_ttl()
        if changes:
            client.relabel(self.collection, version, changes, since)
        if added := [alias for alias in labels.aliases if alias not in labels.saved_aliases]:
            client.alias(self.collection, version, arguments.encoded_aliases(added))
        # An alias that others have moved to another version meanwhile is not removed.
        removed = arguments.encoded_aliases(labels.saved_aliases - {*labels.aliases, names.LATEST})
        has = client.version(self.collection, version)["aliases"]
        if still := [alias for alias in has if alias in removed]:
            client.unalias(self.collection, still)
        self._become(client.version(self.collection, version))

    def hand_over(self, distributed_id: bytes, run: str, *, overwrite: bool = False) -> None:
        """Moves the files to the pending version of a distributed id, which becomes the draft."""
        own = self.open_draft()
        if own.shared and own.id != distributed_id:
            given = arguments.decoded_id(own.id)
            raise ValueError(f"distributed_id: the artifact's files are in {given!r} already")
        self.labels.check()
        target = own if own.shared else self._new_draft(distributed_id=distributed_id)
        target.claim(run_context.scope(run))
        target.start()
        with target.joined(run):
            if own is not target and own.started:
                own.hand_over(target, run, replace=overwrite)
            self._annotate(target)
        self.draft, self.finalized = target, True

    def finish_distributed(
        self, distributed_id: bytes, run: str, aliases: list[str], *, overwrite: bool, wait: float | None
    ) -> None:
        """Makes the version of a distributed id, with the files of this artifact if it has any."""
        draft = self.draft
        if draft is None:
            if self.distributed_id() != distributed_id:
                raise ValueError(
                    f"artifact_or_path: it is {self.location().name} already, of another distributed_id"
                )
            self.labels.aliases.extend(aliases)
            self.store_labels()
            return
        if draft.started and not draft.shared:
            self.hand_over(distributed_id, run, overwrite=overwrite)
        elif draft.id != distributed_id:
            self.draft = self._new_draft(distributed_id=distributed_id)
        self.finish(run, aliases, [], wait=wait)

    def delete(self, *, with_aliases: bool) -> None:
        version, client = self.version("delete"), self.client()
        if with_aliases and (holding_aliases := client.holding_aliases(self.collection, version)):
            client.unalias(self.collection, holding_aliases)
        client.remove(self.collection, version)
        self.deleted = True

    def record_use(self, run: str) -> None:
        self.client().record_use(self.collection, self.version("version"), run)

    def runs(self, key: str) -> list[str]:
        """Returns ids of runs that the version has now; for a link, those that made its source."""
        client = self.client()
        status = client.version(self.collection, self.version(key))
        if key == "runs" and self.is_link():
            with contextlib.suppress(NotFound):
                status = client.version(*self.source())
        return [str(run) for run in status[key]]
