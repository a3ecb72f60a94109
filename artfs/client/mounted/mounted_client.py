"""A volume used through a mount: nothing but files and directories, so it works where only the mount is seen.

Owns how control files are asked and commanded, and what a refusal that came as an errno means. Must not know
the volume behind it.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import to_builtins

from artfs.catalog import records
from artfs.catalog.runs import check_run_id, check_size
from artfs.client.interface import Client, Entry
from artfs.client.mounted import sealed_trees
from artfs.client.mounted.control_files import (
    LABELS,
    command,
    document,
    documents,
    listed,
    may,
    relabel,
    text,
)
from artfs.client.plain_tree import PlainTree, sweep
from artfs.client.reference_writer import MountedReferences
from artfs.client.writable_tree import ReferenceTarget, WritableTree
from artfs.errors import (
    AliasNotFound,
    AlreadyFinishedError,
    AlreadyPending,
    ArtfsError,
    CollectionNotFound,
    DraftNotFoundError,
    HeldByAlias,
    InvalidCommand,
    InvalidName,
    NotEmpty,
    NotJoined,
    ReadOnly,
    RunNotFound,
    Sealing,
    VersionNotFound,
    VolumeError,
    VolumeInUse,
    printable,
)
from artfs.model import names, words
from artfs.model import scope as scopes
from artfs.model.diff import Change
from artfs.model.digest import Algorithm
from artfs.model.label_changes import ADDING
from artfs.model.scope import Scope
from artfs.pending.census import newest_change
from artfs.pending.pending_version import Owners
from artfs.store import durable
from artfs.store.owners import this_process

if TYPE_CHECKING:
    from artfs.volume.volume import Volume

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class MountedClient(Client):
    """Works on the mount at `root`; owns nothing but a descriptor of that."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._fd = os.open(root, _DIRECTORY)
        self._own: set[tuple[int, int]] | None = None

    def close(self) -> None:
        os.close(self._fd)

    def is_current(self) -> bool:
        try:
            return os.path.samestat(os.fstat(self._fd), os.stat(self.root))
        except OSError:
            return False

    # -- the volume

    def volume_status(self) -> dict[str, Any]:
        status: dict[str, Any] = document(self._fd, b".artfs/status")
        return status

    def algorithm(self) -> Algorithm:
        return Algorithm.named(self.volume_status()["hash"])

    @contextlib.contextmanager
    def volume(self) -> Iterator[Volume]:
        from artfs.volume.volume import Volume

        status = self.volume_status()
        volume: Volume | None
        try:
            volume = Volume.open(status["store"])
        except VolumeInUse:
            raise  # by a daemon of an older artfs
        except (VolumeError, OSError):
            volume = None
        if volume is None or volume.layout.id != status["id"]:
            if volume is not None:
                volume.close()
            raise VolumeError(
                f"this works on the volume itself, and through the mount {self.root} it can't be seen:"
                f" run it where {status['store']} is, as its owner"
            )
        with volume:
            yield volume

    def is_volume(self, status: os.stat_result) -> bool:
        if self._own is None:
            self._own = {_identity(os.fstat(self._fd))}
            with contextlib.suppress(ArtfsError, OSError):
                self._own.add(_identity(os.stat(self.volume_status()["store"])))
        return _identity(status) in self._own

    # -- collections and versions

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
        with may(f"describe '{name}'"), self._collection(name) as fd:
            command(fd, b".artfs/description", records.check_description(description))

    def set_collection_tags(self, name: str, tags: Sequence[str]) -> None:
        with self._collection(name) as fd:
            command(fd, b".artfs/tags", "\n".join(records.check_tags(tags)))

    def collection_ttl(self, name: str) -> int | None:
        with self._collection(name) as fd:
            ttl = text(fd, b".artfs/ttl")
        return None if ttl == "none" else int(ttl)

    def set_collection_ttl(self, name: str, seconds: int | None) -> None:
        records.check_ttl(seconds)
        with may(f"set the ttl of '{name}'"), self._collection(name) as fd:
            command(fd, b".artfs/ttl", "none" if seconds is None else str(seconds))

    def scope(self, name: str) -> Scope:
        with self._collection(name) as fd:
            return scopes.of(name, text(fd, b".artfs/scope"))

    def claim(self, name: str, scope: Scope) -> None:
        with self._collection(name) as fd:
            recorded = text(fd, b".artfs/scope")
            if scopes.claimed(name, recorded, scope) != recorded:
                # Who may finish here and not write in the collection says nothing about where it belongs.
                with contextlib.suppress(PermissionError):
                    command(fd, b".artfs/scope", str(scope))

    def remove_collection(self, name: str) -> None:
        with self._collection(name):
            pass
        try:
            with may(f"remove '{name}'"):
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
            "type": text(fd, b".artfs/type"),
            "description": text(fd, b".artfs/description"),
            "tags": text(fd, b".artfs/tags").splitlines(),
            "versions": len(numbers),
            "pending": len(_listed(fd, b"pending")),
            "abandoned": len(_abandoned(fd)),
            "latest": names.version_name(numbers[-1]) if numbers else None,
        }

    @contextlib.contextmanager
    def _collection(self, name: str) -> Iterator[int]:
        try:
            names.check_collection(name)
            with may(f"enter the collection '{name}'"):
                fd = os.open(name, _DIRECTORY, dir_fd=self._fd)
        except (InvalidName, FileNotFoundError):
            raise CollectionNotFound(name) from None
        try:
            yield fd
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ESTALE) and not _is_there(fd):
                raise CollectionNotFound(name) from None  # it was removed just now
            raise
        finally:
            os.close(fd)

    @contextlib.contextmanager
    def _version(self, name: str, ref: str) -> Iterator[int]:
        """Opens the root of a version, and so stays with it when an alias moves."""
        with self._collection(name) as collection:
            try:
                if names.parse_version(ref) is None:
                    names.check_alias(ref)
                with may(f"read {name}:{ref}"):
                    fd = os.open(ref, _DIRECTORY, dir_fd=collection)
            except (InvalidName, FileNotFoundError):
                raise VersionNotFound(name, ref) from None
            except OSError as error:
                if error.errno != errno.ELOOP:
                    raise
                raise InvalidCommand(f"aliases of '{name}' are a loop: {ref}") from None
        try:
            yield fd
        finally:
            os.close(fd)

    def versions(self, name: str) -> list[dict[str, Any]]:
        with self._collection(name) as fd:
            return documents(fd, b".artfs/versions")

    def version(self, name: str, ref: str) -> dict[str, Any]:
        with self._version(name, ref) as fd:
            status: dict[str, Any] = document(fd, b".artfs/status")
            status["description"] = text(fd, b".artfs/description")
            status["metadata"] = document(fd, b".artfs/metadata.json")
        return status

    def version_directory(self, name: str, ref: str) -> Path | None:
        with self._version(name, ref) as fd:
            return self.root / name / sealed_trees.number_of(fd)

    def updated_at(self, name: str, ref: str) -> str:
        with self._version(name, ref) as fd:
            return text(fd, b".artfs/updated_at")

    def _relabel(self, name: str, ref: str, changes: Mapping[str, Any], since: Mapping[str, Any]) -> None:
        with may(f"change {name}:{ref}"), self._version(name, ref) as fd:
            relabel(fd, changes, since)

    def manifest(self, name: str, ref: str) -> dict[str, Any]:
        with may(f"list every directory of {name}:{ref}"), self._version(name, ref) as fd:
            found: dict[str, Any] = document(fd, b".artfs/manifest.json")
        return found

    def diff(self, name: str, old: str, new: str) -> list[Change]:
        with may(f"list every directory of {name}:{old} and {new}"), self._version(name, old) as fd:
            try:
                return _changes(fd, b".artfs/diff/" + os.fsencode(new))
            except FileNotFoundError:
                other, _, ref = new.rpartition(":")
                with self._version(other or name, ref):  # which says what there is not
                    raise VersionNotFound(name, new) from None

    def list_directory(self, name: str, ref: str, path: bytes) -> list[Entry]:
        with self._version(name, ref) as fd:
            return sealed_trees.listing(fd, name, path)

    def walk(self, name: str, ref: str, prefix: bytes = b"") -> Iterator[Entry]:
        with self._version(name, ref) as fd:
            yield from sealed_trees.entries(fd, name, prefix)

    def open_file(self, name: str, ref: str, path: bytes) -> int:
        with self._version(name, ref) as fd:
            return sealed_trees.open_at(fd, name, path)

    def read_failure(self, name: str, ref: str, path: bytes) -> Exception | None:
        with self._version(name, ref) as fd:
            return sealed_trees.read_failure(fd, path)

    def _alias(self, name: str, ref: str, aliases: Sequence[str]) -> None:
        with may(f"set aliases of '{name}'"), self._version(name, ref) as fd:
            command(fd, b".artfs/finish", listed(aliases))

    def _unalias(self, name: str, aliases: Sequence[str]) -> None:
        with may(f"remove aliases of '{name}'"), self._collection(name) as fd:
            for word in aliases:
                try:
                    os.readlink(word, dir_fd=fd)
                except FileNotFoundError:
                    raise AliasNotFound(name, word) from None
            for word in aliases:
                try:
                    os.unlink(word, dir_fd=fd)
                except FileNotFoundError:
                    raise AliasNotFound(name, word) from None

    def _tag(self, name: str, ref: str, tags: Sequence[str]) -> list[str]:
        with may(f"tag {name}:{ref}"), self._version(name, ref) as fd:
            relabel(fd, {"tags": tags}, ADDING)
            found: list[str] = document(fd, LABELS)["tags"]
        return found

    def remove(self, name: str, ref: str) -> str:
        with self._version(name, ref) as fd:
            version = sealed_trees.number_of(fd)
        with may(f"delete {name}:{version}"), self._collection(name) as fd:
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
            return _holders(fd, sealed_trees.number_of(version))

    # -- runs

    def run(self, run: str) -> dict[str, Any]:
        check_run_id(run)
        try:
            found: dict[str, Any] = document(self._fd, f".artfs/runs/{run}".encode())
        except FileNotFoundError:
            raise RunNotFound(run) from None
        return found

    def runs(self) -> list[str]:
        return sorted(map(os.fsdecode, _listed(self._fd, b".artfs/runs")))

    def record_run(self, run: str, document: Mapping[str, Any], *, here: bool = False) -> None:
        check_run_id(run)
        process = {"process": to_builtins(this_process())} if here else {}
        line = json.dumps({**document, **process}, ensure_ascii=False)
        # A longer write comes in several requests, of which a refused one is told as a short write.
        check_size(len(line.encode("utf-8", "surrogateescape")) + 1)
        path = f".artfs/runs/{run}".encode()
        with may(
            f"record the run '{run}': whoever may write at the root of the mount may; reading needs none"
        ):
            with contextlib.suppress(FileExistsError):
                os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, dir_fd=self._fd))
            command(self._fd, path, line)

    def record_use(self, name: str, ref: str, run: str) -> None:
        with may(f"note that a run used {name}:{ref}"), self._version(name, ref) as fd:
            command(fd, b".artfs/used_by", f"+{run}")

    def join(self, name: str, distributed_id: bytes, run: str) -> None:
        check_run_id(run)
        with _may("join", name, distributed_id), self._pending(name, distributed_id) as fd:
            command(fd, b".artfs/runs", f"+{run} {_this_process()}")

    def leave(self, name: str, distributed_id: bytes, run: str) -> None:
        with self._pending(name, distributed_id) as fd, contextlib.suppress(NotJoined):
            command(fd, b".artfs/runs", f"-{run} {_this_process()}")

    # -- pending versions

    def pending_names(self, name: str) -> list[bytes]:
        with self._collection(name) as fd:
            return _listed(fd, b"pending")

    def abandoned_ids(self, name: str) -> list[bytes]:
        with self._collection(name) as fd:
            return _abandoned(fd)

    @contextlib.contextmanager
    def _pending(self, name: str, distributed_id: bytes, *, finished_too: bool = False) -> Iterator[int]:
        with self._collection(name) as collection:
            names.check_distributed_id(distributed_id)
            path = b"pending/" + distributed_id
            try:
                fd = os.open(path, _DIRECTORY | (0 if finished_too else os.O_NOFOLLOW), dir_fd=collection)
            except FileNotFoundError:
                raise DraftNotFoundError(name, distributed_id) from None
            except OSError as error:
                if error.errno not in (errno.ELOOP, errno.ENOTDIR):
                    raise
                raise self._finished(collection, name, distributed_id) from None
        try:
            yield fd
        finally:
            os.close(fd)

    @staticmethod
    def _finished(collection: int, name: str, distributed_id: bytes) -> ArtfsError:
        target = os.readlink(b"pending/" + distributed_id, dir_fd=collection)
        return AlreadyFinishedError(name, distributed_id, os.fsdecode(os.path.basename(target)))

    def pending_status(self, name: str, distributed_id: bytes) -> dict[str, Any]:
        with self._pending(name, distributed_id) as fd:
            status: dict[str, Any] = document(fd, b".artfs/status")
        return status

    def _need_collection(self, name: str, kind: str) -> bool:
        made = self._make_collection(name)
        if kind:
            with self._collection(name) as fd:
                if text(fd, b".artfs/type") != kind:
                    with may(f"set the type of '{name}'"):
                        command(fd, b".artfs/type", kind)
        return made

    def _make_collection(self, name: str) -> bool:
        try:
            with may("make collections here"):
                os.mkdir(name, dir_fd=self._fd)
        except FileExistsError:
            return False
        return True

    def _start(self, name: str, distributed_id: bytes, owners: Owners | None) -> Path | None:
        with self._collection(name) as fd:
            try:
                with may(f"start pending versions of '{name}'"):
                    os.mkdir(b"pending/" + distributed_id, dir_fd=fd)
            except FileExistsError:
                try:
                    finished = self._finished(fd, name, distributed_id)
                except OSError:  # it is a directory, no symlink
                    raise AlreadyPending(name, distributed_id) from None
                raise finished from None
            except FileNotFoundError:
                raise CollectionNotFound(name) from None
        if owners is not None:
            self._note_owner(name, distributed_id, {"collection": owners.collection})
        return self.root / name / "pending" / os.fsdecode(distributed_id)

    def add_owner(self, name: str, distributed_id: bytes) -> None:
        self._note_owner(name, distributed_id, {})

    def _note_owner(self, name: str, distributed_id: bytes, more: Mapping[str, Any]) -> None:
        with self._pending(name, distributed_id) as fd:
            command(fd, b".artfs/owners", json.dumps({"process": to_builtins(this_process()), **more}))

    def set_base(self, name: str, distributed_id: bytes, ref: str) -> None:
        with _may("set the base of", name, distributed_id), self._pending(name, distributed_id) as fd:
            command(fd, b".artfs/base", words.word(ref), answer=False)

    def set_link(self, name: str, distributed_id: bytes, ref: str) -> None:
        with _may("make a link of", name, distributed_id), self._pending(name, distributed_id) as fd:
            command(fd, b".artfs/link", ref, answer=False)

    def references(self, name: str, distributed_id: bytes) -> list[dict[str, Any]]:
        with self._pending(name, distributed_id) as fd:
            return documents(fd, b".artfs/references")

    def _add_reference(
        self, name: str, distributed_id: bytes, path: bytes, uri: str, most: int, checksum: bool
    ) -> None:
        self._ask_for(name, distributed_id, path, uri, most, checksum, dry_run=False)

    def _preview_references(
        self, name: str, distributed_id: bytes, path: bytes, uri: str, most: int, checksum: bool
    ) -> list[tuple[bytes, ReferenceTarget]]:
        answer = self._ask_for(name, distributed_id, path, uri, most, checksum, dry_run=True)
        found = map(json.loads, answer.splitlines()) if answer != b"ok\n" else ()  # of an empty directory
        return [(os.fsencode(at.pop("path")), ReferenceTarget(**at)) for at in found]

    def _ask_for(
        self,
        name: str,
        distributed_id: bytes,
        path: bytes,
        uri: str,
        most: int,
        checksum: bool,
        *,
        dry_run: bool,
    ) -> bytes:
        # As JSON, since a key in an object store may have blanks.
        wanted = {"path": os.fsdecode(path) or ".", "uri": uri, "max_objects": most}
        options = {"no_checksum": not checksum, "dry_run": dry_run}
        with _may("add references to", name, distributed_id), self._pending(name, distributed_id) as fd:
            return command(fd, b".artfs/references", json.dumps(wanted | options), answer=dry_run)

    def changes(self, name: str, distributed_id: bytes) -> list[Change]:
        with self._pending(name, distributed_id) as fd:
            return _changes(fd, b".artfs/changes")

    @contextlib.contextmanager
    def open_tree(self, name: str, distributed_id: bytes) -> Iterator[WritableTree]:
        with self._pending(name, distributed_id) as fd:
            try:
                yield PlainTree(fd, MountedReferences(fd))
            except ArtfsError:
                raise
            except BaseException as error:
                with contextlib.suppress(OSError):
                    sweep(fd)  # of what an exception of a signal handler came before
                if not isinstance(error, OSError):
                    raise
                if error.errno == errno.EBUSY:
                    raise Sealing from None
                if error.errno != errno.EROFS:
                    raise
                raise self._why_read_only(name, distributed_id) from None

    def _why_read_only(self, name: str, distributed_id: bytes) -> ArtfsError:
        with contextlib.suppress(ArtfsError, OSError), self._collection(name) as collection:
            return self._finished(collection, name, distributed_id)
        return ReadOnly("it is sealed, or the volume is mounted read-only")

    def _relabel_pending(self, name: str, distributed_id: bytes, more: Mapping[str, Any]) -> None:
        with _may("change", name, distributed_id), self._pending(name, distributed_id) as fd:
            relabel(fd, more, ADDING)

    def pending_directory(self, name: str, distributed_id: bytes) -> Path | None:
        with self._pending(name, distributed_id):
            return self.root / name / "pending" / os.fsdecode(distributed_id)

    def last_change(self, name: str, distributed_id: bytes) -> float:
        with self._pending(name, distributed_id) as fd:
            return newest_change(fd)

    def _finish(
        self, name: str, distributed_id: bytes, aliases: Sequence[str], wait: float, force: bool
    ) -> dict[str, Any]:
        options = [f"--wait={wait:f}", *(["--force"] if force else [])]
        doing = _may("finish", name, distributed_id)
        with doing, self._pending(name, distributed_id, finished_too=True) as fd:
            sweep(fd)
            answer: dict[str, Any] = json.loads(
                command(fd, b".artfs/finish", " ".join([listed(aliases), *options]))
            )
        return answer

    def discard(
        self, name: str, distributed_id: bytes, *, idle: float | None = None, abandoned: bool = False
    ) -> None:
        words = [*([] if idle is None else [f"--idle={idle:f}"]), *(["--abandoned"] if abandoned else [])]
        with _may("discard", name, distributed_id), self._pending(name, distributed_id) as fd:
            command(fd, b".artfs/discard", " ".join(words), answer=False)

    def _discard_untouched(self, name: str, distributed_id: bytes) -> None:
        with self._collection(name) as fd:
            os.rmdir(b"pending/" + distributed_id, dir_fd=fd)


def _may(do: str, name: str, distributed_id: bytes) -> contextlib.AbstractContextManager[None]:
    return may(f"{do} {name}/{printable(distributed_id)}")


def _is_there(collection: int) -> bool:
    try:
        os.stat(b".artfs", dir_fd=collection)
    except OSError:
        return False
    return True


def _this_process() -> str:
    return json.dumps(to_builtins(this_process()))


def _abandoned(collection: int) -> list[bytes]:
    """Lists the private pending versions whose processes are dead, as the daemon sees it."""
    found = []
    for name in filter(names.is_private, _listed(collection, b"pending")):
        # Others' may be closed to the caller; or it was finished or discarded just now.
        with contextlib.suppress(OSError):
            if document(collection, b"pending/%s/.artfs/owners" % name).get("abandoned"):
                found.append(name)
    return found


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _holders(collection: int, version: str) -> list[str]:
    """Returns the aliases that lead to a version other than by way of ``latest``."""
    status = document(collection, f"{version}/.artfs/status".encode())
    holders = []
    for alias in status["aliases"]:
        at = alias
        with contextlib.suppress(OSError):
            while at not in (names.LATEST, version):
                at = os.readlink(at, dir_fd=collection)
        if at == version:
            holders.append(alias)
    return holders


def _listed(dir_fd: int, path: bytes) -> list[bytes]:
    fd = os.open(path, _DIRECTORY, dir_fd=dir_fd)
    try:
        return sorted(map(os.fsencode, os.listdir(fd)))
    finally:
        os.close(fd)


def _changes(dir_fd: int, path: bytes) -> list[Change]:
    return [Change.read(line) for line in documents(dir_fd, path)]
