"""`metadata.json`: the user's JSON object, in any number of writes."""

from __future__ import annotations

from typing import Any

from artfs.catalog import records
from artfs.vfs.control.control_file import ControlFile, json_object
from artfs.vfs.control.subject import PendingSubject, VersionSubject
from artfs.vfs.node import Caller


def parsed(document: bytes) -> dict[str, Any]:
    """Reads metadata. Raises :class:`~artfs.errors.InvalidCommand`."""
    return records.check_metadata(json_object("metadata", document))


class _Document:
    name = "metadata.json"
    writable = True
    document = records.METADATA_LIMIT + (1 << 20)  # blanks between the values don't count


class PendingMetadataFile(_Document, ControlFile[PendingSubject]):
    def read(self, subject: PendingSubject) -> bytes:
        return subject.tree.pending_version.metadata()

    def write(self, subject: PendingSubject, command: bytes, caller: Caller) -> None:
        document = records.dump(parsed(command)).encode()
        with subject.tree.gate.long_change():
            subject.tree.pending_version.set_metadata(document)


class VersionMetadataFile(_Document, ControlFile[VersionSubject]):
    def read(self, subject: VersionSubject) -> str:
        return records.dump(subject.collection.labels(subject.record.number).metadata) + "\n"

    def write(self, subject: VersionSubject, command: bytes, caller: Caller) -> None:
        subject.collection.update_labels(subject.record.number, metadata=parsed(command))
