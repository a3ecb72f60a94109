"""One collection: its type, versions, aliases, labels and finished ids.

Owns how these fit together: what a deletion removes, what follows from a commit, what users see of a version.
Must not know pending trees and objects. Blocking; any thread may call it, and several processes work on the
same collection. It holds no descriptor and no state but a cache of decoded records.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

from msgspec.structs import replace

from artfs.catalog import records, small_files, version_labels
from artfs.catalog.aliases import Aliases
from artfs.catalog.collection_directory import CollectionDirectory
from artfs.catalog.finished_ids import FinishedIds
from artfs.catalog.records import Labels, VersionRecord
from artfs.catalog.version_labels import VersionLabels
from artfs.catalog.versions import Versions
from artfs.errors import (
    ArtfsError,
    Damaged,
    HeldByAlias,
    InvalidCommand,
    InvalidName,
    TypeMismatch,
    VersionNotFound,
)
from artfs.model import scope as scopes
from artfs.model.names import LATEST, check_alias, version_name
from artfs.model.scope import Scope
from artfs.store import durable, reserve

TTL_DIGITS = 18
"""Digits that the seconds of a ttl may have."""


class Collection:
    def __init__(self, collections_fd: int, name: str) -> None:
        """``collections_fd`` must stay open while this is used. ``name`` must be legal."""
        self.name = name
        self._collections_fd = collections_fd
        self._directory = CollectionDirectory(collections_fd, name)
        self._versions = Versions(self._directory)
        self._aliases = Aliases(self._directory, self._versions)
        self._ids = FinishedIds(self._directory, self._versions)
        self._labels = VersionLabels(self._directory, self._versions)

    def __repr__(self) -> str:
        return f"Collection({self.name!r})"

    def opened(self, sub: bytes | None = None) -> AbstractContextManager[int]:
        """Opens the collection's directory, or a subdirectory (``b"pending"``), for a ``with`` block."""
        return self._directory.opened(sub)

    # --- type and description ---

    @property
    def type(self) -> str:
        """The type; empty if none was set."""
        return self._text(b"type")

    def set_type(self, text: str) -> None:
        """Raises TypeMismatch if there are versions of another type, and InvalidCommand."""
        records.check_type(text)
        with self.committing():  # else the first version could be committed in between
            found = self.type
            if text == found:
                with self._directory.opened() as fd:
                    durable.confirm(fd, label="type")
                return
            if self.newest() is not None:
                raise TypeMismatch(self.name, found, text)
            self._set_text(b"type", text)

    @property
    def description(self) -> str:
        return self._text(b"description")

    def set_description(self, text: str) -> None:
        records.check_description(text)
        with self.committing():  # else a removal of the unused collection could miss it
            self._set_text(b"description", text)

    @property
    def scope(self) -> str:
        """The entity and project that it belongs to, ``ENTITY/PROJECT``; empty if none was named."""
        text = self._text(b"scope")
        try:
            return str(Scope.parse(text))
        except InvalidName as error:
            raise Damaged(self._directory.what(b"scope"), str(error)) from None

    def claim(self, scope: Scope) -> None:
        """Records durably the scope of what is logged here. Raises InvalidCommand if it has another scope."""
        self.scope  # noqa: B018  (raises Damaged for what no user can have set)
        with self.committing():  # else a removal of the unused collection could miss it
            self._change_text(b"scope", lambda before: scopes.claimed(self.name, before, scope))

    @property
    def tags(self) -> list[str]:
        """The collection's own tags, in the order in which they were set."""
        return self._text(b"tags").splitlines()

    def set_tags(self, tags: Iterable[str]) -> None:
        """Replaces them. Raises InvalidCommand."""
        text = "\n".join(records.check_tags(tags))
        with self.committing():  # else a removal of the unused collection could miss them
            self._set_text(b"tags", text)

    @property
    def ttl(self) -> int | None:
        """The ttl in seconds of versions that have none of their own; None: they never expire."""
        text = self._text(b"ttl")
        if text and not (text.isdecimal() and len(text) <= TTL_DIGITS):
            raise Damaged(self._directory.what(b"ttl"), "it holds no number of seconds")
        return int(text) if text else None

    def set_ttl(self, seconds: int | None) -> None:
        """Raises InvalidCommand."""
        records.check_ttl(seconds)
        with self.committing():  # as for the tags
            self._set_text(b"ttl", "" if seconds is None else str(seconds))

    # --- versions ---

    def versions(self) -> list[VersionRecord]:
        """Returns all records, oldest first. Raises Damaged rather than leave one out, on which gc relies."""
        return self._versions.all()

    def numbers(self) -> list[int]:
        """Returns the numbers of all versions, oldest first, including those with a damaged record."""
        return self._versions.numbers()

    def record(self, number: int) -> VersionRecord:
        """Raises VersionNotFound if the version does not exist or was deleted, and Damaged."""
        return self._versions.record(number)

    def newest(self) -> VersionRecord | None:
        """Returns the record of the highest number that is not deleted."""
        return self._versions.newest()

    def next_number(self) -> int:
        """Returns the number for the next commit: one more than the highest ever used."""
        return self._versions.next_number()

    def commit(self, record: VersionRecord) -> bool:
        """Makes the version exist, durably, in one atomic step. False if its number is not the next one.

        Raises InvalidCommand or InvalidName for illegal texts, before anything is changed.
        """
        records.check_labels(records.initial_labels(record))
        for alias in record.aliases:
            check_alias(alias)
        return self._versions.commit(record)

    def committing(self) -> AbstractContextManager[None]:
        """Holds the lock of commits, against all threads and processes.

        It is held from a commit until the aliases of the commit are set, and before that by a caller who
        relies on what an alias names, or on the absence of versions. It is held while a pending version gets
        its name, and while the collection is removed.
        """
        return self._directory.locked(b"pending")

    def complete(self, record: VersionRecord) -> None:
        """Sets what follows from a commit: the aliases, and last the finished id. Can be repeated."""
        self.set_aliases(record.aliases, record.version)
        self.record_finished(record.id, record.number)

    def delete_version(self, number: int, *, expired_by: float | None = None) -> bool:
        """Replaces the version by a tombstone and removes its labels and ids. The number stays used.

        With ``expired_by`` (seconds since the epoch) it returns False if the ttl has not passed by then.
        Raises HeldByAlias if an alias leads to the version other than through ``latest``, and
        VersionNotFound.
        """
        with self._directory.locked():  # as for a change of aliases or of a ttl
            if expired_by is not None and not self._has_expired(number, expired_by):
                return False
            if aliases := self.holders(number):
                raise HeldByAlias(version_name(number), aliases)
            spent = self._put_tombstone(number)
        self._labels.drop(number)
        self._ids.drop(number)  # one that is left behind by a crash counts as not finished
        if spent:
            # For the next deletion, in the space that this one has freed.
            reserve.ensure(self._collections_fd)
        return True

    # --- aliases ---

    def resolve(self, ref: str) -> int:
        """Returns the number of ``latest``, ``vN`` or an alias.

        Raises VersionNotFound, and InvalidCommand for aliases that lead back to themselves.
        """
        return self._aliases.resolve(ref)

    def alias_names(self) -> list[str]:
        """Returns the names of the aliases, sorted, without ``latest`` and without reading them."""
        return self._aliases.names()

    def aliases(self) -> dict[str, str]:
        """Returns what each alias names, without ``latest``: a version, ``latest`` or another alias."""
        return self._aliases.targets()

    def alias_target(self, name: str) -> str:
        """Returns what one alias names; for ``latest`` the newest version. Raises AliasNotFound."""
        return self._aliases.target(name)

    def set_alias(self, name: str, target: str, *, replace: bool = True) -> int:
        """Sets or moves an alias and returns the number it leads to; raises what ``Aliases.set`` does."""
        return self._aliases.set(name, target, replace=replace)

    def set_aliases(self, aliases: Iterable[str], target: str) -> None:
        """Sets several aliases, or none if a name is illegal. ``latest`` is skipped, as it is computed."""
        for name in [check_alias(name) for name in aliases if name != LATEST]:
            self.set_alias(name, target)

    def remove_alias(self, name: str) -> None:
        """Raises AliasNotFound."""
        self._aliases.remove(name)

    def rename_alias(self, old: str, new: str, *, replace: bool = True) -> None:
        self._aliases.rename(old, new, replace=replace)

    def aliases_of(self, number: int) -> list[str]:
        """Returns the aliases that lead to a version, sorted, ``latest`` last."""
        return [name for name, leads in self._aliases.leading().items() if leads.number == number]

    def holders(self, number: int) -> list[str]:
        """Returns the aliases that keep a version from being deleted: all that don't follow ``latest``."""
        leading = self._aliases.leading().items()
        return [name for name, leads in leading if leads.held and leads.number == number]

    # --- finished ids ---

    def finished(self, distributed_id: bytes) -> int | None:
        """Returns the version that an id was finished as; None if it was not, or the version was deleted."""
        return self._ids.version(distributed_id)

    def record_finished(self, distributed_id: bytes, number: int) -> None:
        """Records durably that an id was finished as a version; see :meth:`FinishedIds.record`."""
        self._ids.record(distributed_id, number)

    # --- labels ---

    def labels(self, number: int) -> Labels:
        """Returns what can be changed of a version. Raises VersionNotFound, Damaged."""
        return self._labels.get(number)

    def update_labels(self, number: int, **changes: Any) -> Labels:
        """Sets fields of the labels; see :meth:`VersionLabels.relabel`."""
        return self._labels.relabel(number, changes)

    def relabel(self, number: int, changes: Mapping[str, Any], since: Mapping[str, Any]) -> Labels:
        """Sets fields of the labels that were read as `since`; see :meth:`VersionLabels.relabel`."""
        return self._labels.relabel(number, changes, since)

    def change_labels(self, number: int, change: Callable[[Labels], Labels]) -> Labels:
        """Replaces the labels; see :meth:`VersionLabels.change`."""
        return self._labels.change(number, change)

    def add_used_by(self, number: int, run: str) -> None:
        """Records that a run read the version."""
        self.change_labels(number, lambda labels: replace(labels, used_by=_with(labels.used_by, run)))

    def add_run(self, number: int, run: str) -> None:
        """Records that a run produced the version, or the same content again."""
        if run not in self.record(number).runs:
            self.change_labels(number, lambda labels: replace(labels, runs=_with(labels.runs, run)))

    # --- what users see ---

    def describe(self, number: int) -> dict[str, Any]:
        """Returns the JSON of one version's ``status``. Raises VersionNotFound, Damaged."""
        record = self.record(number)
        with self._directory.opened(version_labels.DIRECTORY) as fd:
            labels = self._labels.shown(fd, record)
        return records.describe(
            record,
            labels,
            self.aliases_of(number),
            collection=self.name,
            collection_type=self.type,
            collection_ttl=self.ttl,
        )

    def describe_all(self) -> list[dict[str, Any]]:
        """Describes all versions, oldest first, and reads each alias once."""
        text, ttl = self.type, self.ttl
        aliases: dict[int, list[str]] = {}
        for name, leads in self._aliases.leading().items():
            aliases.setdefault(leads.number, []).append(name)
        found = []
        with self._directory.opened(version_labels.DIRECTORY) as fd:
            # One listing instead of thousands of failing opens: most versions have no such file.
            changed = {os.fsencode(entry) for entry in os.listdir(fd)}
            for record in self.versions():
                held = aliases.get(record.number, [])
                has_file = version_labels.file_name(record.number) in changed
                labels = self._labels.shown(fd, record) if has_file else records.initial_labels(record)
                found.append(
                    records.describe(
                        record,
                        labels,
                        held,
                        collection=self.name,
                        collection_type=text,
                        collection_ttl=ttl,
                    )
                )
        return found

    def problems(self) -> Iterator[Damaged]:
        """Yields all damage in the collection's directory, and what doesn't belong there."""
        yield from _told(self._versions.problems)
        for look in (
            self._check_type,
            self._check_ttl,
            self._check_scope,
            self._check_tags,
            self._check_description,
            self._check_pending,
        ):
            try:
                look()
            except Damaged as error:
                yield error
        checks: dict[bytes, Callable[[int, bytes], object]] = {
            b"aliases": self._check_alias_file,
            b"ids": self._ids.check_file,
            version_labels.DIRECTORY: self._labels.check_file,
        }
        for sub, check in checks.items():
            yield from _told(partial(self._problems_in, sub, check))

    def _problems_in(self, sub: bytes, check: Callable[[int, bytes], object]) -> Iterator[Damaged]:
        with self._directory.opened(sub) as fd:
            for name in sorted(os.fsencode(entry) for entry in os.listdir(fd)):
                try:
                    if not small_files.is_internal(name):
                        check(fd, name)
                except Damaged as error:
                    yield error
                except ArtfsError as error:
                    yield Damaged(self._directory.what(sub, name), str(error))

    # --- inside ---

    def _has_expired(self, number: int, now: float) -> bool:
        created_at = self.record(number).created_at
        return records.has_expired(created_at, records.effective_ttl(self.labels(number), self.ttl), now)

    def _put_tombstone(self, number: int) -> bool:
        """Returns whether the reserve was used."""
        try:
            self._versions.delete(number)
        except OSError as error:
            if error.errno not in durable.FULL or not reserve.release(self._collections_fd):
                raise
            try:
                self._versions.delete(number)
            except VersionNotFound:  # the tombstone exists, but could not be made durable
                raise error from None
            return True
        return False

    def _check_alias_file(self, _: int, name: bytes) -> None:
        self._aliases.resolve(check_alias(os.fsdecode(name)))

    def _check_type(self) -> None:
        self._check_text(b"type", records.check_type)

    def _check_ttl(self) -> None:
        self.ttl  # noqa: B018

    def _check_scope(self) -> None:
        self.scope  # noqa: B018

    def _check_tags(self) -> None:
        self._check_text(b"tags", lambda text: records.check_tags(text.splitlines()))

    def _check_description(self) -> None:
        self._check_text(b"description", records.check_description)

    def _check_text(self, name: bytes, check: Callable[[str], object]) -> None:
        try:
            check(self._text(name))
        except InvalidCommand as error:
            raise Damaged(self._directory.what(name), str(error)) from None

    def _check_pending(self) -> None:
        with self._directory.opened(b"pending"):
            pass

    def _text(self, name: bytes) -> str:
        with self._directory.opened() as fd:
            raw = small_files.read(fd, name, self._directory.what(name))
        return self._decoded(name, raw)

    def _decoded(self, name: bytes, raw: bytes | None) -> str:
        try:
            return (raw or b"").decode().removesuffix("\n")
        except UnicodeDecodeError:
            raise Damaged(self._directory.what(name), "it is not UTF-8") from None

    def _set_text(self, name: bytes, text: str) -> None:
        self._change_text(name, lambda _before: text)

    def _change_text(self, name: bytes, change: Callable[[str], str]) -> None:
        """Replaces a text by what ``change`` makes of it, durably; it may be called several times."""

        def changed(raw: bytes | None) -> bytes:
            return f"{change(self._decoded(name, raw))}\n".encode()

        with self._directory.opened() as fd:
            small_files.update(fd, name, self._directory.what(name), changed, label=name.decode())


def _told(problems: Callable[[], Iterator[Damaged]]) -> Iterator[Damaged]:
    """Yields problems; a failure of the search is one, too."""
    try:
        yield from problems()
    except Damaged as error:
        yield error


def _with(words: tuple[str, ...], word: str) -> tuple[str, ...]:
    return words if word in words else (*words, word)
