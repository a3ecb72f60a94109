"""What an artifact is made of: its identity, its draft while it is none yet, its version once it is one.

Owns the states of an artifact and what may be asked in which. The methods that users see are in the classes
on top: :mod:`~artfs.sdk.adding`, :mod:`~artfs.sdk.reading`, :mod:`~artfs.sdk.artifact`.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum
from typing import Any

from artfs.client.interface import Client
from artfs.errors import AlreadyFinishedError, ArtifactFinalizedError, ArtifactNotLoggedError
from artfs.model.label_changes import merged
from artfs.model.names import split_reference
from artfs.sdk import arguments
from artfs.sdk.connection import Connection, connect
from artfs.sdk.draft import Draft


class ArtifactTTL(Enum):
    """What an artifact's ``ttl`` may be set to beside a timedelta and None (never ends)."""

    INHERIT = "inherit"
    """The ttl of the collection."""


@dataclass
class Labels:
    """What may be changed of an artifact at any time; no part of its content."""

    description: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)
    aliases: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    ttl: timedelta | ArtifactTTL | None = ArtifactTTL.INHERIT
    ttl_is_set: bool = False

    def changed(self, saved: Labels, *keys: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """Returns what differs from `saved` of these labels, and what was saved of them."""
        since = {key: getattr(saved, key) for key in keys}
        changes = {key: getattr(self, key) for key in keys}
        return {key: value for key, value in changes.items() if value != since[key]}, since


STORED = ("description", "metadata", "tags")
"""The labels that one change of a version stores."""


class Core:
    """The state of one artifact. ``_draft`` is None once it is a version, whose ``status`` is then known."""

    def __init__(self, connection: Connection, collection: str, kind: str) -> None:
        self._connection = connection
        self._collection, self._type = collection, kind
        self._draft: Draft | None = Draft(connection, collection, kind)
        self._labels, self._saved = Labels(), Labels()
        self._status: dict[str, Any] = {}
        self._finalized = self._deleted = False
        #: Whether saving it found that nothing differed from the newest version, which it then is.
        self.unchanged = False

    @classmethod
    def _of_version(cls, connection: Connection, collection: str, ref: str) -> Any:
        """Returns the artifact of a version. Raises :class:`~artfs.errors.NotFound`."""
        artifact = cls.__new__(cls)
        Core.__init__(artifact, connection, collection, "")
        artifact._become(connection.client().version(collection, ref))
        return artifact

    def _become(self, status: dict[str, Any]) -> None:
        """Takes over what is known of a version."""
        self._draft, self._finalized = None, True
        self._status, self._type = status, str(status["type"])
        ttl = status["ttl"]
        self._labels = Labels(
            description=status["description"],
            metadata=status["metadata"],
            aliases=arguments.decoded_aliases(status["aliases"]),
            tags=list(status["tags"]),
            ttl=None if ttl is None else timedelta(seconds=ttl),
        )
        self._saved = copy.deepcopy(self._labels)

    def _access(self) -> Client:
        return self._connection.client()

    # -- what it must be

    def _version(self, what: str) -> str:
        """Returns the number of the version. Raises :class:`ArtifactNotLoggedError`."""
        if self._draft is not None:
            self._look_whether_finished()
        if self._draft is not None:
            raise ArtifactNotLoggedError(self._collection, what)
        return str(self._status["version"])

    def _source(self) -> tuple[str, str]:
        """Returns collection and number of the version that a link was made from; of any other its own."""
        version = self._version("source")
        link: str | None = self._status.get("link")
        return (self._collection, version) if link is None else split_reference(link)

    def _look_whether_finished(self) -> None:
        """What was handed over may be a version by now, which another run made."""
        draft = self._draft
        if draft is not None and draft.shared and draft.started:
            try:
                draft.status()
            except AlreadyFinishedError as error:
                mine, saved = self._labels, self._saved
                self._become(self._access().version(self._collection, error.version))
                # What was set and is not stored yet is so still: save() stores it.
                changes, since = mine.changed(saved, "aliases", *STORED)
                for key, value in merged(changes, since, vars(self._labels)).items():
                    setattr(self._labels, key, value)
                if mine.ttl_is_set:
                    self._labels.ttl, self._labels.ttl_is_set = mine.ttl, True

    def _open_draft(self) -> Draft:
        """Returns the draft to put files into. Raises :class:`ArtifactFinalizedError`."""
        if self._draft is None or self._finalized:
            raise ArtifactFinalizedError(self._collection)
        return self._draft


__all__ = ["STORED", "ArtifactTTL", "Core", "Labels", "connect"]
