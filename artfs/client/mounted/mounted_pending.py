"""Pending versions through the files of a mount. Blocking."""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import to_builtins

from artfs.catalog.runs import check_run_id
from artfs.client.mounted.control_files import (
    command,
    join_words,
    permission_to,
    read_document,
    read_documents,
    read_text,
    relabel,
)
from artfs.client.mounted.mount_paths import MountPaths, abandoned_ids, list_names, read_changes
from artfs.client.mounted.mounted_references import MountedReferences
from artfs.client.pending_operations import PendingOperations
from artfs.client.plain_tree import PlainTree, remove_stale_temps
from artfs.client.values import ReferenceRequest
from artfs.client.writable_tree import ReferenceTarget, WritableTree
from artfs.errors import AlreadyPending, ArtfsError, CollectionNotFound, NotJoined, ReadOnly, Sealing
from artfs.model import words
from artfs.model.diff import Change
from artfs.model.label_changes import ADDING
from artfs.pending.census import newest_change
from artfs.pending.pending_version import Owners
from artfs.printing import printable
from artfs.store.owners import this_process


class MountedPending(MountPaths, PendingOperations):
    @contextlib.contextmanager
    def _pending_to(
        self, do: str, name: str, distributed_id: bytes, *, finished_too: bool = False
    ) -> Iterator[int]:
        """Opens a pending version to `do` something, which a PermissionError names."""
        with (
            permission_to(f"{do} {name}/{printable(distributed_id)}"),
            self._pending(name, distributed_id, finished_too=finished_too) as fd,
        ):
            yield fd

    def pending_names(self, name: str) -> list[bytes]:
        with self._collection(name) as fd:
            return list_names(fd, b"pending")

    def abandoned_ids(self, name: str) -> list[bytes]:
        with self._collection(name) as fd:
            return abandoned_ids(fd)

    def pending_status(self, name: str, distributed_id: bytes) -> dict[str, Any]:
        with self._pending(name, distributed_id) as fd:
            status: dict[str, Any] = read_document(fd, b".artfs/status")
        return status

    def _need_collection(self, name: str, kind: str) -> bool:
        made = self._make_collection(name)
        if kind:
            with self._collection(name) as fd:
                if read_text(fd, b".artfs/type") != kind:
                    with permission_to(f"set the type of '{name}'"):
                        command(fd, b".artfs/type", kind)
        return made

    def _make_collection(self, name: str) -> bool:
        try:
            with permission_to("make collections here"):
                os.mkdir(name, dir_fd=self._fd)
        except FileExistsError:
            return False
        return True

    def _start(self, name: str, distributed_id: bytes, owners: Owners | None) -> Path | None:
        with self._collection(name) as fd:
            try:
                with permission_to(f"start pending versions of '{name}'"):
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
            self._add_owner(name, distributed_id, {"collection": owners.collection})
        return self.root / name / "pending" / os.fsdecode(distributed_id)

    def add_owner(self, name: str, distributed_id: bytes) -> None:
        self._add_owner(name, distributed_id, {})

    def _add_owner(self, name: str, distributed_id: bytes, more: Mapping[str, Any]) -> None:
        with self._pending(name, distributed_id) as fd:
            command(fd, b".artfs/owners", json.dumps({"process": to_builtins(this_process()), **more}))

    def set_base(self, name: str, distributed_id: bytes, ref: str) -> None:
        with self._pending_to("set the base of", name, distributed_id) as fd:
            command(fd, b".artfs/base", words.word(ref), answer=False)

    def set_link(self, name: str, distributed_id: bytes, ref: str) -> None:
        with self._pending_to("make a link of", name, distributed_id) as fd:
            command(fd, b".artfs/link", ref, answer=False)

    def references(self, name: str, distributed_id: bytes) -> list[dict[str, Any]]:
        with self._pending(name, distributed_id) as fd:
            return read_documents(fd, b".artfs/references")

    def _add_references(self, name: str, distributed_id: bytes, wanted: ReferenceRequest) -> None:
        self._request_references(name, distributed_id, wanted, dry_run=False)

    def _preview_references(
        self, name: str, distributed_id: bytes, wanted: ReferenceRequest
    ) -> list[tuple[bytes, ReferenceTarget]]:
        answer = self._request_references(name, distributed_id, wanted, dry_run=True)
        found = map(json.loads, answer.splitlines()) if answer != b"ok\n" else ()  # of an empty directory
        return [(os.fsencode(at.pop("path")), ReferenceTarget(**at)) for at in found]

    def _request_references(
        self, name: str, distributed_id: bytes, wanted: ReferenceRequest, *, dry_run: bool
    ) -> bytes:
        # As JSON, since a key in an object store may have blanks.
        request = {
            "path": os.fsdecode(wanted.path) or ".",
            "uri": wanted.uri,
            "max_objects": wanted.max_objects,
            "no_checksum": not wanted.checksum,
            "dry_run": dry_run,
        }
        with self._pending_to("add references to", name, distributed_id) as fd:
            return command(fd, b".artfs/references", json.dumps(request), answer=dry_run)

    def changes(self, name: str, distributed_id: bytes) -> list[Change]:
        with self._pending(name, distributed_id) as fd:
            return read_changes(fd, b".artfs/changes")

    @contextlib.contextmanager
    def open_tree(self, name: str, distributed_id: bytes) -> Iterator[WritableTree]:
        with self._pending(name, distributed_id) as fd:
            try:
                yield PlainTree(fd, MountedReferences(fd))
            except ArtfsError:
                raise
            except BaseException as error:
                with contextlib.suppress(OSError):
                    remove_stale_temps(fd)  # an exception of a signal handler may have left one
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
        with self._pending_to("change", name, distributed_id) as fd:
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
        with self._pending_to("finish", name, distributed_id, finished_too=True) as fd:
            remove_stale_temps(fd)
            answer: dict[str, Any] = json.loads(
                command(fd, b".artfs/finish", " ".join([join_words(aliases), *options]))
            )
        return answer

    def discard(
        self, name: str, distributed_id: bytes, *, idle: float | None = None, abandoned: bool = False
    ) -> None:
        words = [*([] if idle is None else [f"--idle={idle:f}"]), *(["--abandoned"] if abandoned else [])]
        with self._pending_to("discard", name, distributed_id) as fd:
            command(fd, b".artfs/discard", " ".join(words), answer=False)

    def _discard_untouched(self, name: str, distributed_id: bytes) -> None:
        with self._collection(name) as fd:
            os.rmdir(b"pending/" + distributed_id, dir_fd=fd)

    def join(self, name: str, distributed_id: bytes, run: str) -> None:
        check_run_id(run)
        with self._pending_to("join", name, distributed_id) as fd:
            command(fd, b".artfs/runs", f"+{run} {_this_process()}")

    def leave(self, name: str, distributed_id: bytes, run: str) -> None:
        with self._pending(name, distributed_id) as fd, contextlib.suppress(NotJoined):
            command(fd, b".artfs/runs", f"-{run} {_this_process()}")


def _this_process() -> str:
    return json.dumps(to_builtins(this_process()))
