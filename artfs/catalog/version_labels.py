"""The labels of a collection's versions: one small file each, once something was changed.

Owns ``notes/``. Until then a version has the labels of its record. Blocking; any thread may call it, and
several processes work on the same directory.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from msgspec import to_builtins
from msgspec.structs import replace

from artfs.catalog import records, small_files
from artfs.catalog.collection_directory import CollectionDirectory
from artfs.catalog.records import Labels, VersionRecord
from artfs.catalog.versions import Versions
from artfs.errors import Damaged
from artfs.model.label_changes import merged
from artfs.model.names import parse_version, version_name
from artfs.store import durable
from artfs.store.documents import timestamp

DIRECTORY = b"notes"


class VersionLabels:
    def __init__(self, directory: CollectionDirectory, versions: Versions) -> None:
        self._directory, self._versions = directory, versions

    def get(self, number: int) -> Labels:
        """Raises VersionNotFound, Damaged."""
        self._versions.record(number)  # a deleted version may still have a file
        with self._directory.opened(DIRECTORY) as fd:
            return self._read(fd, number)

    def change(self, number: int, change: Callable[[Labels], Labels]) -> Labels:
        """Replaces the labels by what ``change`` makes of them, durably; it may be called several times.

        Raises VersionNotFound, InvalidCommand, Damaged.
        """
        after = Labels()

        def changed(raw: bytes | None) -> bytes | None:
            nonlocal after
            before = self._decode(raw, number)
            after = records.check_labels(change(replace(before, metadata=copy.deepcopy(before.metadata))))
            if after == before:
                return raw
            after = replace(after, updated_at=timestamp())
            return records.encode(after)

        # The lock: else a deletion could miss a ttl that was answered, and leave labels of a deleted version.
        with self._directory.locked(shared=True), self._directory.opened(DIRECTORY) as fd:
            self._versions.record(number)
            small_files.update(fd, file_name(number), self._what(number), changed, label="notes")
        return after

    def relabel(
        self, number: int, changes: Mapping[str, Any], since: Mapping[str, Any] = MappingProxyType({})
    ) -> Labels:
        """Sets fields durably and returns the labels. Fields that others change meanwhile are kept.

        `changes` were made to what was read as `since`: see :func:`~artfs.model.label_changes.merged`.
        """
        records.check_fields(changes)
        return self.change(
            number, lambda labels: replace(labels, **merged(changes, since, to_builtins(labels)))
        )

    def shown(self, fd: int, record: VersionRecord) -> Labels:
        """Returns the labels; while nothing was changed, perhaps without metadata and description."""
        if small_files.identity(fd, file_name(record.number)) is None:
            return records.initial_labels(record)
        return self._read(fd, record.number)

    def drop(self, number: int) -> None:
        """Removes the labels of a deleted version."""
        with self._directory.opened(DIRECTORY) as fd:
            try:
                durable.remove(fd, file_name(number), label="notes")
            except FileNotFoundError:
                pass

    def check_file(self, fd: int, name: bytes) -> None:
        """Raises Damaged."""
        what = self._directory.what(DIRECTORY, name)
        text = name.decode("ascii", "replace")
        number = parse_version(text.removesuffix(".json"))
        if number is None or not text.endswith(".json"):
            raise Damaged(what, "no such file belongs there")
        if number >= self._versions.next_number():
            raise Damaged(what, f"there never was a {version_name(number)}")
        raw = small_files.read(fd, name, what)
        if raw is not None:
            records.decode_labels(raw, what)

    def _read(self, fd: int, number: int) -> Labels:
        return self._decode(small_files.read(fd, file_name(number), self._what(number)), number)

    def _decode(self, raw: bytes | None, number: int) -> Labels:
        if raw is None:
            return self._versions.initial_labels(number)
        return records.decode_labels(raw, self._what(number))

    def _what(self, number: int) -> str:
        return self._directory.what(DIRECTORY, file_name(number))


def file_name(number: int) -> bytes:
    return f"{version_name(number)}.json".encode()
