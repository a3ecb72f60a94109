"""Collections, versions and runs of a volume that is used directly. Blocking."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import to_builtins

from artfs.catalog.collection import Collection
from artfs.client.direct.direct_version_tree import DirectVersionTree
from artfs.client.direct.volume_access import VolumeAccess
from artfs.client.values import INHERIT
from artfs.client.version_operations import VersionOperations
from artfs.client.version_tree import VersionTree
from artfs.model import manifest, names
from artfs.model import scope as scopes
from artfs.model.diff import Change
from artfs.model.label_changes import ADDING
from artfs.model.scope import Scope
from artfs.store.owners import this_process
from artfs.volume.pending_trees import pending_names


class DirectVersions(VolumeAccess, VersionOperations):
    # -- collections

    def collections(self) -> list[dict[str, Any]]:
        return self._volume.catalog.each(self._summary)

    def collection(self, name: str) -> dict[str, Any]:
        return self._summary(self._collection(name))

    def _summary(self, collection: Collection) -> dict[str, Any]:
        numbers = collection.numbers()
        return {
            "name": collection.name,
            "type": collection.type,
            "description": collection.description,
            "tags": collection.tags,
            "versions": len(numbers),
            "pending": len(pending_names(collection)),
            "abandoned": len(self._volume.trees.abandoned(collection)),
            "latest": names.version_name(numbers[-1]) if numbers else None,
        }

    def set_collection_description(self, name: str, description: str) -> None:
        self._collection(name).set_description(description)

    def set_collection_tags(self, name: str, tags: Sequence[str]) -> None:
        self._collection(name).set_tags(tags)

    def collection_ttl(self, name: str) -> int | None:
        return self._collection(name).ttl

    def set_collection_ttl(self, name: str, seconds: int | None) -> None:
        self._collection(name).set_ttl(seconds)

    def scope(self, name: str) -> Scope:
        return scopes.of(name, self._collection(name).scope)

    def claim(self, name: str, scope: Scope) -> None:
        self._collection(name).claim(scope)

    def remove_collection(self, name: str) -> None:
        self._volume.catalog.remove(name)

    def versions(self, name: str) -> list[dict[str, Any]]:
        return self._collection(name).describe_all()

    def version(self, name: str, ref: str) -> dict[str, Any]:
        collection, record = self._record(name, ref)
        labels = collection.labels(record.number)
        more = {"description": labels.description, "metadata": labels.metadata}
        return collection.describe(record.number) | more

    def version_directory(self, name: str, ref: str) -> Path | None:
        self._record(name, ref)
        return None

    def updated_at(self, name: str, ref: str) -> str:
        collection, record = self._record(name, ref)
        return collection.labels(record.number).updated_at or record.created_at

    def _relabel(self, name: str, ref: str, changes: Mapping[str, Any], since: Mapping[str, Any]) -> None:
        collection, record = self._record(name, ref)
        if changes.get("ttl") == INHERIT:
            changes = {**changes, "ttl": None}
        collection.relabel(record.number, changes, since)

    def manifest(self, name: str, ref: str) -> dict[str, Any]:
        _, record = self._record(name, ref)
        walked = manifest.walk(self._volume.store.reader, record.root.entry())
        return {os.fsdecode(path): manifest.describe(entry) for path, entry in walked}

    def diff(self, name: str, old: str, new: str) -> list[Change]:
        collection, before = self._record(name, old)
        return list(self._volume.diff(before, self._volume.look_up(collection, new)[1]))

    @contextlib.contextmanager
    def _version_tree(self, name: str, ref: str) -> Iterator[VersionTree]:
        yield DirectVersionTree(self._volume, name, self._record(name, ref)[1])

    def _alias(self, name: str, ref: str, aliases: Sequence[str]) -> None:
        collection, record = self._record(name, ref)
        for word in aliases:
            collection.set_alias(word, record.version)

    def _unalias(self, name: str, aliases: Sequence[str]) -> None:
        collection = self._collection(name)
        for word in aliases:
            collection.alias_target(word)
        for word in aliases:
            collection.remove_alias(word)

    def _tag(self, name: str, ref: str, tags: Sequence[str]) -> list[str]:
        collection, record = self._record(name, ref)
        return list(collection.relabel(record.number, {"tags": tags}, ADDING).tags)

    def remove(self, name: str, ref: str) -> str:
        collection, record = self._record(name, ref)
        collection.delete_version(record.number)
        return record.version

    def remove_expired(self, name: str, ref: str, now: float) -> bool:
        collection, record = self._record(name, ref)
        return collection.delete_version(record.number, expired_by=now)

    def holding_aliases(self, name: str, ref: str) -> list[str]:
        collection, record = self._record(name, ref)
        return collection.holders(record.number)

    # -- runs

    def run(self, run: str) -> dict[str, Any]:
        found: dict[str, Any] = to_builtins(self._volume.runs.read(run))
        return found

    def runs(self) -> list[str]:
        return self._volume.runs.ids()

    def record_run(self, run: str, document: Mapping[str, Any], *, here: bool = False) -> None:
        self._volume.runs.apply(run, document, process=this_process() if here else None)

    def record_use(self, name: str, ref: str, run: str) -> None:
        collection, record = self._record(name, ref)
        self._volume.record_use(collection, record.number, run)
