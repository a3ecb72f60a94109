"""The labels of an artifact: description, metadata, aliases, tags and time to live; no part of its content.

Owns which of them differ from what the volume has, and their checks. Knows no volume. One thread at a time.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum
from typing import Any

from artfs.model.label_changes import merged
from artfs.sdk import arguments
from artfs.sdk.json_values import checked_metadata

STORED = ("description", "metadata", "tags")
"""The labels that one change of a version stores."""


class ArtifactTTL(Enum):
    """What an artifact's ``ttl`` may be set to, besides a timedelta and None (for ever)."""

    INHERIT = "inherit"
    """The ttl of the collection."""


@dataclass
class ArtifactLabels:
    """The labels as the user sees and changes them; ``saved`` are those that the volume has."""

    description: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)
    aliases: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    ttl: timedelta | ArtifactTTL | None = ArtifactTTL.INHERIT
    ttl_is_set: bool = False
    saved: ArtifactLabels | None = None

    @classmethod
    def of_version(cls, status: Mapping[str, Any]) -> ArtifactLabels:
        ttl = status["ttl"]
        labels = cls(
            description=status["description"],
            metadata=status["metadata"],
            aliases=arguments.decoded_aliases(status["aliases"]),
            tags=list(status["tags"]),
            ttl=None if ttl is None else timedelta(seconds=ttl),
        )
        labels.mark_saved()
        return labels

    @property
    def saved_aliases(self) -> set[str]:
        return set(self.saved.aliases) if self.saved is not None else set()

    def mark_saved(self) -> None:
        self.saved = None
        self.saved = copy.deepcopy(self)

    def check(self, aliases: Iterable[str] = (), tags: Iterable[str] = ()) -> None:
        """Adds aliases and tags, and checks all that users may have put into lists and dictionaries.

        Raises TypeError and ValueError.
        """
        self.aliases = list(dict.fromkeys([*arguments.aliases("aliases", self.aliases), *aliases]))
        self.tags = list(dict.fromkeys([*arguments.tags("tags", self.tags), *tags]))
        self.metadata = checked_metadata("metadata", self.metadata)

    def changed(self, *keys: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """Returns which of these labels differ from the saved ones, and what was saved of all of them."""
        saved = self.saved or ArtifactLabels()
        since = {key: getattr(saved, key) for key in keys}
        changes = {key: getattr(self, key) for key in keys}
        return {key: value for key, value in changes.items() if value != since[key]}, since

    def take_changes(self, edited: ArtifactLabels) -> None:
        """Applies what was changed in other labels of the same version and is not saved yet."""
        for key, value in merged(*edited.changed("aliases", *STORED), vars(self)).items():
            setattr(self, key, value)
        if edited.ttl_is_set:
            self.ttl, self.ttl_is_set = edited.ttl, True

    def stored_ttl(self) -> int | str:
        """Returns the ttl as a change of a version has it: seconds, ``none`` or ``inherit``."""
        if isinstance(self.ttl, ArtifactTTL):
            return str(self.ttl.value)
        return "none" if self.ttl is None else arguments.seconds("ttl", self.ttl)
