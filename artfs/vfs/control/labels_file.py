"""`labels.json`: all labels as one JSON object; one write changes any number of them at once.

A write replaces the labels that it names. `since` has what was read before: then only aliases, tags and keys
of the metadata that differ from it are changed, and changes of others stay. So `{"tags": ["x"], "since":
{"tags": []}}` adds a tag.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, Struct, UnsetType

from artfs.catalog import records
from artfs.seal import pending_labels
from artfs.vfs.control.control_file import ControlFile, converted, json_object
from artfs.vfs.control.subject import PendingSubject, VersionSubject, check_may_name
from artfs.vfs.node import Caller

_INHERIT = "inherit"


class _LabelsSince(Struct, forbid_unknown_fields=True):
    aliases: list[str] | UnsetType = UNSET
    tags: list[str] | UnsetType = UNSET
    metadata: dict[str, Any] | UnsetType = UNSET


class _VersionLabelChanges(Struct, forbid_unknown_fields=True, kw_only=True):
    tags: list[str] | UnsetType = UNSET
    description: str | UnsetType = UNSET
    metadata: dict[str, Any] | UnsetType = UNSET
    ttl: int | str | UnsetType = UNSET
    since: _LabelsSince = msgspec.field(default_factory=_LabelsSince)


class _PendingLabelChanges(Struct, forbid_unknown_fields=True, kw_only=True):
    aliases: list[str] | UnsetType = UNSET
    tags: list[str] | UnsetType = UNSET
    description: str | UnsetType = UNSET
    metadata: dict[str, Any] | UnsetType = UNSET
    since: _LabelsSince = msgspec.field(default_factory=_LabelsSince)


def _parsed(document: bytes, kind: type[Struct]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the changes, and the state before them. Raises :class:`~artfs.errors.InvalidCommand`."""
    found = converted("labels", json_object("labels", document), kind)
    changes: dict[str, Any] = msgspec.to_builtins(found)
    since = changes.pop("since")
    return changes, since


class _Labels:
    name = "labels.json"
    writable = True
    #: It may have the metadata twice, and a description with every character escaped.
    document = 2 * records.METADATA_LIMIT + 8 * records.TEXT_LIMIT


class PendingLabelsFile(_Labels, ControlFile[PendingSubject]):
    def read(self, subject: PendingSubject) -> str:
        pending_version = subject.tree.pending_version
        labels = pending_version.labels()
        texts = {"aliases": labels.aliases, "tags": labels.tags, "description": labels.description}
        return records.dump(texts | {"metadata": pending_labels.metadata_of(pending_version)}) + "\n"

    def write(self, subject: PendingSubject, command: bytes, caller: Caller) -> None:
        changes, since = _parsed(command, _PendingLabelChanges)
        check_may_name(caller, subject.collection, changes.get("aliases", ()))
        with subject.tree.gate.long_change():
            pending_labels.change(subject.tree.pending_version, changes, since)


class VersionLabelsFile(_Labels, ControlFile[VersionSubject]):
    def read(self, subject: VersionSubject) -> str:
        labels = subject.collection.labels(subject.record.number)
        ttl = _INHERIT if labels.ttl is None else labels.ttl
        texts = {"tags": labels.tags, "description": labels.description}
        return records.dump(texts | {"metadata": labels.metadata, "ttl": ttl}) + "\n"

    def write(self, subject: VersionSubject, command: bytes, caller: Caller) -> None:
        changes, since = _parsed(command, _VersionLabelChanges)
        if changes.get("ttl") == _INHERIT:
            changes["ttl"] = None
        subject.collection.relabel(subject.record.number, changes, since)
