"""`metadata.json`: the user's JSON object; it may come in any number of writes."""

from __future__ import annotations

import json
from typing import Any

from artfs.catalog import records
from artfs.errors import InvalidCommand
from artfs.vfs.control.control_file import ControlFile
from artfs.vfs.control.subject import PendingSubject, VersionSubject
from artfs.vfs.node import Caller


def parsed(document: bytes) -> dict[str, Any]:
    """Reads metadata. Raises :class:`~artfs.errors.InvalidCommand` if it is not legal."""
    return records.check_metadata(json_object("metadata", document))


def json_object(what: str, document: bytes) -> dict[str, Any]:
    """Reads a JSON object. Raises :class:`~artfs.errors.InvalidCommand` for anything else."""
    try:
        value = json.loads(document.decode() or "{}", parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise InvalidCommand(f"{what} must be a JSON object: {error}") from None
    if not isinstance(value, dict):
        raise InvalidCommand(f"{what} must be a JSON object, not {_kind(value)}")
    return value


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _kind(value: object) -> str:
    return {list: "an array", str: "a string", bool: "a boolean", type(None): "null"}.get(
        type(value), "a number"
    )


class _Document:
    """Applies a document as soon as it is whole."""

    name = "metadata.json"
    writable = True
    document = records.METADATA_LIMIT + (1 << 20)  # blanks between the values don't count


class PendingMetadata(_Document, ControlFile[PendingSubject]):
    def read(self, subject: PendingSubject) -> bytes:
        return subject.tree.pending_version.metadata()

    def write(self, subject: PendingSubject, command: bytes, caller: Caller) -> None:
        document = records.dump(parsed(command)).encode()
        with subject.tree.gate.long_change():
            subject.tree.pending_version.set_metadata(document)


class VersionMetadata(_Document, ControlFile[VersionSubject]):
    def read(self, subject: VersionSubject) -> str:
        return records.dump(subject.collection.labels(subject.record.number).metadata) + "\n"

    def write(self, subject: VersionSubject, command: bytes, caller: Caller) -> None:
        subject.collection.update_labels(subject.record.number, metadata=parsed(command))


__all__ = ["PendingMetadata", "VersionMetadata", "json_object", "parsed"]
