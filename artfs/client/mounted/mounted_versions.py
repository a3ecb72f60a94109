"""Collections, versions and runs through the files of a mount. Blocking."""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from msgspec import to_builtins

from artfs.catalog import records
from artfs.catalog.runs import check_run_id, check_size
from artfs.client.mounted.control_files import (
    LABELS,
    command,
    join_words,
    permission_to,
    read_document,
    read_documents,
    read_text,
    relabel,
)
from artfs.client.mounted.mount_paths import MountPaths, abandoned_ids, list_names, read_changes
from artfs.client.mounted.mounted_version_tree import MountedVersionTree, read_failure, version_at
from artfs.client.version_operations import VersionOperations
from artfs.client.version_tree import VersionTree
from artfs.errors import (
    AliasNotFound,
    CollectionNotFound,
    HeldByAlias,
    NotEmpty,
    RunNotFound,
    VersionNotFound,
)
from artfs.model import names
from artfs.model import scope as scopes
from artfs.model.diff import Change
from artfs.model.label_changes import ADDING
from artfs.model.scope import Scope
from artfs.store import durable
from artfs.store.owners import this_process


class MountedVersions(MountPaths, VersionOperations):
    # -- collections

    def collections(self) -> list[dict[str, Any]]:
        found = []
        for name in sorted(durable.names(self._fd)):
            with contextlib.suppress(CollectionNotFound), self._collection(name) as fd:
                found.append(self._summary(name, fd))
        return found

    def collection(self, name: str) -> dict[str, Any]:
        with self._collection(name) as fd:
            return self._summary(name, fd)

    def set_collection_description(self, name: str, description: str) -> None:
        with permission_to(f"describe '{name}'"), self._collection(name) as fd:
            command(fd, b".artfs/description", records.check_description(description))

    def set_collection_tags(self, name: str, tags: Sequence[str]) -> None:
        with self._collection(name) as fd:
            command(fd, b".artfs/tags", "\n".join(records.check_tags(tags)))

    def collection_ttl(self, name: str) -> int | None:
        with self._collection(name) as fd:
            ttl = read_text(fd, b".artfs/ttl")
        return None if ttl == "none" else int(ttl)

    def set_collection_ttl(self, name: str, seconds: int | None) -> None:
        records.check_ttl(seconds)
        with permission_to(f"set the ttl of '{name}'"), self._collection(name) as fd:
            command(fd, b".artfs/ttl", "none" if seconds is None else str(seconds))

    def scope(self, name: str) -> Scope:
        with self._collection(name) as fd:
            return scopes.of(name, read_text(fd, b".artfs/scope"))

    def claim(self, name: str, scope: Scope) -> None:
        with self._collection(name) as fd:
            recorded = read_text(fd, b".artfs/scope")
            if scopes.claimed(name, recorded, scope) != recorded:
                # A user who may finish here but not write in the collection does not decide its scope.
                with contextlib.suppress(PermissionError):
                    command(fd, b".artfs/scope", str(scope))

    def remove_collection(self, name: str) -> None:
        with self._collection(name):
            pass
        try:
            with permission_to(f"remove '{name}'"):
                os.rmdir(name, dir_fd=self._fd)
        except OSError as error:
            if error.errno != errno.ENOTEMPTY:
                raise
            found = self.collection(name)
            pending, versions = bool(found["pending"]), found["versions"]
            raise NotEmpty.collection(name, pending=pending, versions=versions) from None

    @staticmethod
    def _summary(name: str, fd: int) -> dict[str, Any]:
        numbers = sorted(n for n in map(names.parse_version, os.listdir(fd)) if n is not None)
        return {
            "name": name,
            "type": read_text(fd, b".artfs/type"),
            "description": read_text(fd, b".artfs/description"),
            "tags": read_text(fd, b".artfs/tags").splitlines(),
            "versions": len(numbers),
            "pending": len(list_names(fd, b"pending")),
            "abandoned": len(abandoned_ids(fd)),
            "latest": names.version_name(numbers[-1]) if numbers else None,
        }

    # -- versions

    def versions(self, name: str) -> list[dict[str, Any]]:
        with self._collection(name) as fd:
            return read_documents(fd, b".artfs/versions")

    def version(self, name: str, ref: str) -> dict[str, Any]:
        with self._version(name, ref) as fd:
            status: dict[str, Any] = read_document(fd, b".artfs/status")
            status["description"] = read_text(fd, b".artfs/description")
            status["metadata"] = read_document(fd, b".artfs/metadata.json")
        return status

    def version_directory(self, name: str, ref: str) -> Path | None:
        with self._version(name, ref) as fd:
            return self.root / name / version_at(fd)

    def updated_at(self, name: str, ref: str) -> str:
        with self._version(name, ref) as fd:
            return read_text(fd, b".artfs/updated_at")

    def _relabel(self, name: str, ref: str, changes: Mapping[str, Any], since: Mapping[str, Any]) -> None:
        with permission_to(f"change {name}:{ref}"), self._version(name, ref) as fd:
            relabel(fd, changes, since)

    def manifest(self, name: str, ref: str) -> dict[str, Any]:
        with permission_to(f"list every directory of {name}:{ref}"), self._version(name, ref) as fd:
            found: dict[str, Any] = read_document(fd, b".artfs/manifest.json")
        return found

    def diff(self, name: str, old: str, new: str) -> list[Change]:
        with permission_to(f"list every directory of {name}:{old} and {new}"), self._version(name, old) as fd:
            try:
                return read_changes(fd, b".artfs/diff/" + os.fsencode(new))
            except FileNotFoundError:
                other, _, ref = new.rpartition(":")
                with self._version(other or name, ref):  # raises for what does not exist
                    raise VersionNotFound(name, new) from None

    @contextlib.contextmanager
    def _version_tree(self, name: str, ref: str) -> Iterator[VersionTree]:
        with self._version(name, ref) as fd, contextlib.closing(MountedVersionTree(fd, name)) as tree:
            yield tree

    def read_failure(self, name: str, ref: str, path: bytes) -> Exception | None:
        with self._version(name, ref) as fd:
            return read_failure(fd, path)

    def _alias(self, name: str, ref: str, aliases: Sequence[str]) -> None:
        with permission_to(f"set aliases of '{name}'"), self._version(name, ref) as fd:
            command(fd, b".artfs/finish", join_words(aliases))

    def _unalias(self, name: str, aliases: Sequence[str]) -> None:
        with permission_to(f"remove aliases of '{name}'"), self._collection(name) as fd:
            # None is removed unless all exist.
            calls: tuple[Callable[..., object], ...] = (os.readlink, os.unlink)
            for call, word in product(calls, aliases):
                try:
                    call(word, dir_fd=fd)
                except FileNotFoundError:
                    raise AliasNotFound(name, word) from None

    def _tag(self, name: str, ref: str, tags: Sequence[str]) -> list[str]:
        with permission_to(f"tag {name}:{ref}"), self._version(name, ref) as fd:
            relabel(fd, {"tags": tags}, ADDING)
            found: list[str] = read_document(fd, LABELS)["tags"]
        return found

    def remove(self, name: str, ref: str) -> str:
        with self._version(name, ref) as fd:
            version = version_at(fd)
        with permission_to(f"delete {name}:{version}"), self._collection(name) as fd:
            try:
                os.rmdir(version, dir_fd=fd)
            except FileNotFoundError:
                raise VersionNotFound(name, version) from None
            except OSError as error:
                holders = _holders(fd, version) if error.errno == errno.EBUSY else []
                if not holders:
                    raise
                raise HeldByAlias(version, holders) from None
        return version

    def remove_expired(self, name: str, ref: str, now: float) -> bool:
        status = self.version(name, ref)
        if expired := records.has_expired(status["created_at"], status["ttl"], now):
            self.remove(name, status["version"])
        return expired

    def holding_aliases(self, name: str, ref: str) -> list[str]:
        with self._version(name, ref) as version, self._collection(name) as fd:
            return _holders(fd, version_at(version))

    # -- runs

    def run(self, run: str) -> dict[str, Any]:
        check_run_id(run)
        try:
            found: dict[str, Any] = read_document(self._fd, f".artfs/runs/{run}".encode())
        except FileNotFoundError:
            raise RunNotFound(run) from None
        return found

    def runs(self) -> list[str]:
        return sorted(map(os.fsdecode, list_names(self._fd, b".artfs/runs")))

    def record_run(self, run: str, read_document: Mapping[str, Any], *, here: bool = False) -> None:
        check_run_id(run)
        process = {"process": to_builtins(this_process())} if here else {}
        line = json.dumps({**read_document, **process}, ensure_ascii=False)
        # A longer write becomes several requests, and a refusal of a later one a short write.
        check_size(len(line.encode("utf-8", "surrogateescape")) + 1)
        path = f".artfs/runs/{run}".encode()
        with permission_to(f"record the run '{run}' at the root of the mount"):
            with contextlib.suppress(FileExistsError):
                os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, dir_fd=self._fd))
            command(self._fd, path, line)

    def record_use(self, name: str, ref: str, run: str) -> None:
        with permission_to(f"record that a run used {name}:{ref}"), self._version(name, ref) as fd:
            command(fd, b".artfs/used_by", f"+{run}")


def _holders(collection: int, version: str) -> list[str]:
    """Returns the aliases that lead to a version other than by way of ``latest``."""
    status = read_document(collection, f"{version}/.artfs/status".encode())
    holders = []
    for alias in status["aliases"]:
        at = alias
        with contextlib.suppress(OSError):
            while at not in (names.LATEST, version):
                at = os.readlink(at, dir_fd=collection)
        if at == version:
            holders.append(alias)
    return holders
