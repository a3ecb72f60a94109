"""`labels.json`: all labels as one JSON object; one write changes any of them at once.

What is written replaces the labels that it names. `since` says what was read before: then aliases, tags and
keys of the metadata are changed one by one, and what others changed meanwhile stays. So
`{"tags": ["x"], "since": {"tags": []}}` adds a tag.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, Struct, UnsetType

from artfs.catalog import records
from artfs.errors import InvalidCommand
from artfs.seal import pending_labels
from artfs.vfs.control.control_file import ControlFile
from artfs.vfs.control.metadata_file import json_object
from artfs.vfs.control.subject import PendingSubject, VersionSubject, check_may_name
from artfs.vfs.node import Caller

_INHERIT = "inherit"


class _Since(Struct, forbid_unknown_fields=True):
    aliases: list[str] | UnsetType = UNSET
    tags: list[str] | UnsetType = UNSET
    metadata: dict[str, Any] | UnsetType = UNSET


class _OfVersion(Struct, forbid_unknown_fields=True, kw_only=True):
    tags: list[str] | UnsetType = UNSET
    description: str | UnsetType = UNSET
    metadata: dict[str, Any] | UnsetType = UNSET
    ttl: int | str | UnsetType = UNSET
    since: _Since = msgspec.field(default_factory=_Since)


class _OfPending(Struct, forbid_unknown_fields=True, kw_only=True):
    aliases: list[str] | UnsetType = UNSET
    tags: list[str] | UnsetType = UNSET
    description: str | UnsetType = UNSET
    metadata: dict[str, Any] | UnsetType = UNSET
    since: _Since = msgspec.field(default_factory=_Since)


def _parsed(document: bytes, kind: type[Struct]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the changes, and what they were made to. Raises :class:`~artfs.errors.InvalidCommand`."""
    try:
        found = msgspec.convert(json_object("labels", document), kind)
    except msgspec.ValidationError as error:
        raise InvalidCommand(f"labels: {error}") from None
    changes: dict[str, Any] = msgspec.to_builtins(found)
    since = changes.pop("since")
    return changes, since


class _Labels:
    name = "labels.json"
    writable = True
    #: Of the metadata it has two, and descriptions with every character escaped.
    document = 2 * records.METADATA_LIMIT + 8 * records.TEXT_LIMIT


class PendingLabels(_Labels, ControlFile[PendingSubject]):
    def read(self, subject: PendingSubject) -> str:
        pending_version = subject.tree.pending_version
        labels = pending_version.labels()
        words = {"aliases": labels.aliases, "tags": labels.tags, "description": labels.description}
        found = words | {"metadata": pending_labels.metadata_of(pending_version)}
        return records.dump(found) + "\n"

    def write(self, subject: PendingSubject, command: bytes, caller: Caller) -> None:
        changes, since = _parsed(command, _OfPending)
        check_may_name(caller, subject.collection, changes.get("aliases", ()))
        with subject.tree.gate.long_change():
            pending_labels.change(subject.tree.pending_version, changes, since)


class VersionLabels(_Labels, ControlFile[VersionSubject]):
    def read(self, subject: VersionSubject) -> str:
        labels = subject.collection.labels(subject.record.number)
        ttl = _INHERIT if labels.ttl is None else labels.ttl
        found = {
            "tags": labels.tags,
            "description": labels.description,
            "metadata": labels.metadata,
            "ttl": ttl,
        }
        return records.dump(found) + "\n"

    def write(self, subject: VersionSubject, command: bytes, caller: Caller) -> None:
        changes, since = _parsed(command, _OfVersion)
        if changes.get("ttl") == _INHERIT:
            changes["ttl"] = None
        subject.collection.relabel(subject.record.number, changes, since)


__all__ = ["PendingLabels", "VersionLabels"]
