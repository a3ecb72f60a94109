"""One collection: its type, versions, aliases, labels and finished ids, as everything above sees it.

Owns how these fit together: what a deletion takes along, what a commit brings with it, what users are shown
of a version. Must not know pending trees and objects. Blocking; any thread may call it, and several
processes work on the same collection. It holds no descriptor and no state but a cache of decoded records.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from functools import partial
from types import MappingProxyType
from typing import Any

from msgspec import to_builtins
from msgspec.structs import replace

from artfs.catalog import (
    records,
    small_files,
)
from artfs.catalog.aliases import Aliases
from artfs.catalog.records import Labels, VersionRecord
from artfs.catalog.versions import Home, Versions
from artfs.errors import (
    AlreadyFinishedError,
    ArtfsError,
    Damaged,
    HeldByAlias,
    InvalidCommand,
    InvalidName,
    LostRace,
    TypeMismatch,
    VersionNotFound,
)
from artfs.model import scope as scopes
from artfs.model.label_changes import merged
from artfs.model.names import LATEST, check_alias, check_distributed_id, parse_version, version_name
from artfs.model.scope import Scope
from artfs.store import durable, reserve
from artfs.store.documents import timestamp

TTL_DIGITS = 18
"""So many at most has the number of seconds of a ttl."""


class Collection:
    def __init__(self, collections_fd: int, name: str) -> None:
        """``collections_fd`` must stay open while this is used; ``name`` is a legal one."""
        self.name = name
        self._collections_fd = collections_fd
        self._home = Home(collections_fd, name)
        self._versions = Versions(self._home)
        self._aliases = Aliases(self._home, self._versions)

    def __repr__(self) -> str:
        return f"Collection({self.name!r})"

    def opened(self, sub: bytes | None = None) -> AbstractContextManager[int]:
        """Opens the collection's directory or one in it (``b"pending"``) for a ``with`` block's time."""
        return self._home.opened(sub)

    # --- type and description ---

    @property
    def type(self) -> str:
        """The type; empty if none was set."""
        return self._text(b"type")

    def set_type(self, text: str) -> None:
        """Raises TypeMismatch if there are versions, and it would be another type; InvalidCommand."""
        records.check_type(text)
        with self.committing():  # else the first version could come between
            found = self.type
            if text == found:
                with self._home.opened() as fd:
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
        with self.committing():  # else who removes the collection as unused could miss it
            self._set_text(b"description", text)

    @property
    def scope(self) -> str:
        """The entity and project that it belongs to, ``ENTITY/PROJECT``; empty while nobody named any."""
        text = self._text(b"scope")
        try:
            return str(Scope.parse(text))
        except InvalidName as error:
            raise Damaged(self._home.what(b"scope"), str(error)) from None

    def claim(self, scope: Scope) -> None:
        """Notes durably in which scope something is logged here. Raises InvalidCommand if it has another."""
        self.scope  # noqa: B018  (raises Damaged for what nobody can have set)
        with self.committing():  # else a removal of the collection as unused could miss it
            self._change_text(b"scope", lambda before: scopes.claimed(self.name, before, scope))

    @property
    def tags(self) -> list[str]:
        """The collection's own tags, in the order in which they were set."""
        return self._text(b"tags").splitlines()

    def set_tags(self, tags: Iterable[str]) -> None:
        """Replaces them. Raises InvalidCommand."""
        text = "\n".join(records.check_tags(tags))
        with self.committing():  # else a removal of the collection as unused could miss them
            self._set_text(b"tags", text)

    @property
    def ttl(self) -> int | None:
        """The seconds that a version lives that has no ttl of its own; None: for ever."""
        text = self._text(b"ttl")
        if text and not (text.isdecimal() and len(text) <= TTL_DIGITS):
            raise Damaged(self._home.what(b"ttl"), "it holds no number of seconds")
        return int(text) if text else None

    def set_ttl(self, seconds: int | None) -> None:
        """Raises InvalidCommand."""
        records.check_ttl(seconds)
        with self.committing():  # likewise
            self._set_text(b"ttl", "" if seconds is None else str(seconds))

    # --- versions ---

    def versions(self) -> list[VersionRecord]:
        """Returns all records, oldest first. Raises Damaged rather than leave one out (gc relies on it)."""
        return self._versions.all()

    def numbers(self) -> list[int]:
        """Returns the numbers of all versions, oldest first, also of those whose record is damaged."""
        return self._versions.numbers()

    def record(self, number: int) -> VersionRecord:
        """Raises VersionNotFound if there is none or it was deleted, and Damaged."""
        return self._versions.record(number)

    def newest(self) -> VersionRecord | None:
        """Returns the record of the highest number that is not deleted."""
        return self._versions.newest()

    def next_number(self) -> int:
        """Returns the number for the next commit: one more than was ever used."""
        return self._versions.next_number()

    def commit(self, record: VersionRecord) -> bool:
        """Makes the version exist, durably, in one atomic step. False if its number is not the next one.

        Raises InvalidCommand or InvalidName, before anything was done, for texts that are not legal.
        """
        records.check_labels(records.initial_labels(record))
        for alias in record.aliases:
            check_alias(alias)
        return self._versions.commit(record)

    def committing(self) -> AbstractContextManager[None]:
        """Keeps other holders away, from whatever thread or process.

        Held from a commit until the aliases that come with it are set; and before it by who builds on what
        an alias names, or on that there is no version yet. By who gives a pending version its name, and by
        who removes the collection.
        """
        return self._home.locked(b"pending")

    def complete(self, record: VersionRecord) -> None:
        """Sets what a commit brings with it: the aliases, and last the finished id. Can be repeated."""
        for alias in record.aliases:
            if alias != LATEST:
                self.set_alias(alias, record.version)
        self.record_finished(record.id, record.number)

    def delete_version(self, number: int, *, expired_by: float | None = None) -> bool:
        """Puts a tombstone in the version's place and drops its labels and ids. The number stays used.

        With ``expired_by`` only if its ttl has passed at that moment; else False. Raises HeldByAlias if an
        alias leads to it other than through ``latest``; VersionNotFound.
        """
        with self._home.locked():  # as who changes aliases or a ttl has it
            if expired_by is not None and not self._has_expired(number, expired_by):
                return False
            if aliases := self.holders(number):
                raise HeldByAlias(version_name(number), aliases)
            spent = self._put_tombstone(number)
        self._drop_what_belonged_to(number)
        if spent:
            reserve.ensure(self._collections_fd)  # for the next one, in the room that this one has given back
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

    def remove_alias(self, name: str) -> None:
        """Raises AliasNotFound."""
        self._aliases.remove(name)

    def rename_alias(self, old: str, new: str, *, replace: bool = True) -> None:
        self._aliases.rename(old, new, replace=replace)

    def aliases_of(self, number: int) -> list[str]:
        """Returns the aliases that lead to a version, sorted, ``latest`` last."""
        return [name for name, leads in self._aliases.leading().items() if leads.number == number]

    def holders(self, number: int) -> list[str]:
        """Returns the aliases that keep a version from being deleted: those that don't follow ``latest``."""
        leading = self._aliases.leading().items()
        return [name for name, leads in leading if leads.held and leads.number == number]

    # --- finished ids ---

    def finished(self, distributed_id: bytes) -> int | None:
        """Returns the version that an id was finished as, None if it wasn't or the version was deleted."""
        check_distributed_id(distributed_id)
        with self._home.opened(b"ids") as fd:
            number = self._finished(fd, distributed_id)[1]
        return number if number is not None and self._versions.exists(number) else None

    def record_finished(self, distributed_id: bytes, number: int) -> None:
        """Notes durably that an id was finished as a version. Again with the same version: nothing happens.

        Raises AlreadyFinishedError if it is finished as another one, VersionNotFound if the version is
        deleted meanwhile: then nothing is noted, and whoever would drop the pending tree for it still has it.
        """
        check_distributed_id(distributed_id)
        data = f"{version_name(number)}\n".encode()
        with self._home.opened(b"ids") as fd:
            while True:
                raw, before = self._finished(fd, distributed_id)
                if before == number:
                    durable.confirm(fd, label="finished-id")
                    break
                if before is not None and self._versions.exists(before):
                    raise AlreadyFinishedError(self.name, distributed_id, version_name(before))
                try:
                    durable.replace_if_unchanged(fd, distributed_id, raw, data, label="finished-id")
                    break
                except LostRace:
                    continue
        # A deletion drops ids after its tombstone: it saw this one, or this sees the tombstone.
        self._versions.record(number)

    # --- labels ---

    def labels(self, number: int) -> Labels:
        """Returns what can change of a version. Raises VersionNotFound, Damaged."""
        self.record(number)  # a deleted one may have labels, still
        with self._home.opened(b"notes") as fd:
            return self._read_labels(fd, number)[1]

    def update_labels(self, number: int, **changes: Any) -> Labels:
        """Sets fields of the labels, durably, and returns them. Others' changes of other fields are kept.

        Raises VersionNotFound, InvalidCommand.
        """
        return self.relabel(number, changes)

    def relabel(
        self, number: int, changes: Mapping[str, Any], since: Mapping[str, Any] = MappingProxyType({})
    ) -> Labels:
        """Sets fields of the labels as :meth:`update_labels` does; `changes` were made to what was `since`.

        :func:`~artfs.model.label_changes.merged` says what that means.
        """
        records.check_fields(changes)
        return self.change_labels(
            number, lambda labels: replace(labels, **merged(changes, since, to_builtins(labels)))
        )

    def change_labels(self, number: int, change: Callable[[Labels], Labels]) -> Labels:
        """Replaces the labels by what ``change`` makes of them; it is called again if another came first."""
        # Else a deletion could miss a ttl that was answered, and leave labels of what is gone.
        with self._home.locked(shared=True), self._home.opened(b"notes") as fd:
            self.record(number)
            while True:
                raw, before = self._read_labels(fd, number)
                labels = records.check_labels(
                    change(replace(before, metadata=copy.deepcopy(before.metadata)))
                )
                if labels == before:
                    durable.confirm(fd, label="notes")
                    return labels
                labels = replace(labels, updated_at=timestamp())
                try:
                    data = records.encode(labels)
                    durable.replace_if_unchanged(fd, _labels_file(number), raw, data, label="notes")
                    return labels
                except LostRace:
                    continue

    def add_used_by(self, number: int, run: str) -> None:
        """Notes that a run read the version."""
        self.change_labels(number, lambda labels: replace(labels, used_by=_with(labels.used_by, run)))

    def add_run(self, number: int, run: str) -> None:
        """Notes that a run produced the version, or the same content again."""
        if run not in self.record(number).runs:
            self.change_labels(number, lambda labels: replace(labels, runs=_with(labels.runs, run)))

    # --- what users see ---

    def describe(self, number: int) -> dict[str, Any]:
        """Returns the JSON of one version's ``status``. Raises VersionNotFound, Damaged."""
        record = self.record(number)
        with self._home.opened(b"notes") as fd:
            labels = self._shown_labels(fd, record)
        return records.describe(
            record,
            labels,
            self.aliases_of(number),
            collection=self.name,
            collection_type=self.type,
            collection_ttl=self.ttl,
        )

    def describe_all(self) -> list[dict[str, Any]]:
        """Returns ``describe`` of all versions, oldest first, with each alias read once."""
        text, ttl = self.type, self.ttl
        aliases: dict[int, list[str]] = {}
        for name, leads in self._aliases.leading().items():
            aliases.setdefault(leads.number, []).append(name)
        found = []
        with self._home.opened(b"notes") as fd:
            # One listing instead of thousands of opens that fail: most versions have none.
            noted = {os.fsencode(entry) for entry in os.listdir(fd)}
            for record in self.versions():
                held = aliases.get(record.number, [])
                changed = _labels_file(record.number) in noted
                labels = self._shown_labels(fd, record) if changed else records.initial_labels(record)
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
        """Yields everything in the collection's directory that is damaged or doesn't belong there."""
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
            b"ids": self._check_id_file,
            b"notes": self._check_labels_file,
        }
        for sub, check in checks.items():
            yield from _told(partial(self._problems_in, sub, check))

    def _problems_in(self, sub: bytes, check: Callable[[int, bytes], object]) -> Iterator[Damaged]:
        with self._home.opened(sub) as fd:
            for name in sorted(os.fsencode(entry) for entry in os.listdir(fd)):
                try:
                    if not small_files.is_internal(name):
                        check(fd, name)
                except Damaged as error:
                    yield error
                except ArtfsError as error:
                    yield Damaged(self._home.what(sub, name), str(error))

    # --- inside ---

    def _has_expired(self, number: int, now: float) -> bool:
        created_at = self.record(number).created_at
        return records.has_expired(created_at, records.effective_ttl(self.labels(number), self.ttl), now)

    def _put_tombstone(self, number: int) -> bool:
        """Tells whether the reserve was needed."""
        try:
            self._versions.delete(number)
        except OSError as error:
            if error.errno not in reserve.FULL or not reserve.release(self._collections_fd):
                raise
            try:
                self._versions.delete(number)
            except VersionNotFound:  # the tombstone was there already, and could not be made durable
                raise error from None
            return True
        return False

    def _drop_what_belonged_to(self, number: int) -> None:
        """Removes labels and ids of a deleted version; an id that is left behind counts as none anyway."""
        with self._home.opened(b"notes") as fd:
            _remove(fd, _labels_file(number), "notes")
        with self._home.opened(b"ids") as fd:
            for distributed_id in map(os.fsencode, os.listdir(fd)):
                if small_files.is_internal(distributed_id):
                    continue
                try:
                    raw, found = self._finished(fd, distributed_id)
                except Damaged:
                    continue  # `problems` tells.
                if found == number:
                    try:
                        durable.replace_if_unchanged(fd, distributed_id, raw, None, label="finished-id")
                    except LostRace:
                        continue  # Finished anew.

    def _finished(self, fd: int, distributed_id: bytes) -> tuple[bytes | None, int | None]:
        what = self._home.what(b"ids", distributed_id)
        raw = small_files.read(fd, distributed_id, what)
        if raw is None:
            return None, None
        number = parse_version(raw.removesuffix(b"\n").decode("ascii", "replace"))
        if number is None or not raw.endswith(b"\n"):
            raise Damaged(what, "it names no version")
        return raw, number

    def _read_labels(self, fd: int, number: int) -> tuple[bytes | None, Labels]:
        """Returns the bytes of the labels, None if nothing was changed yet, and the labels."""
        name = _labels_file(number)
        what = self._home.what(b"notes", name)
        raw = small_files.read(fd, name, what)
        if raw is None:
            return None, self._versions.initial_labels(number)
        return raw, records.decode_labels(raw, what)

    def _shown_labels(self, fd: int, record: VersionRecord) -> Labels:
        """Returns the labels; as long as nothing was changed, perhaps without metadata and description."""
        if small_files.identity(fd, _labels_file(record.number)) is None:
            return records.initial_labels(record)
        return self._read_labels(fd, record.number)[1]

    def _check_alias_file(self, _: int, name: bytes) -> None:
        self._aliases.resolve(check_alias(os.fsdecode(name)))

    def _check_id_file(self, fd: int, name: bytes) -> None:
        number = self._finished(fd, check_distributed_id(name))[1]
        if number is not None and number >= self.next_number():
            raise Damaged(self._home.what(b"ids", name), f"there never was a {version_name(number)}")

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
            raise Damaged(self._home.what(name), str(error)) from None

    def _check_pending(self) -> None:
        with self._home.opened(b"pending"):
            pass

    def _check_labels_file(self, fd: int, name: bytes) -> None:
        what = self._home.what(b"notes", name)
        text = name.decode("ascii", "replace")
        number = parse_version(text.removesuffix(".json"))
        if number is None or not text.endswith(".json"):
            raise Damaged(what, "no such file belongs there")
        if number >= self.next_number():
            raise Damaged(what, f"there never was a {version_name(number)}")
        raw = small_files.read(fd, name, what)
        if raw is not None:
            records.decode_labels(raw, what)

    def _text(self, name: bytes) -> str:
        with self._home.opened() as fd:
            raw = small_files.read(fd, name, self._home.what(name))
        return self._decoded(name, raw)

    def _decoded(self, name: bytes, raw: bytes | None) -> str:
        try:
            return (raw or b"").decode().removesuffix("\n")
        except UnicodeDecodeError:
            raise Damaged(self._home.what(name), "it is not UTF-8") from None

    def _set_text(self, name: bytes, text: str) -> None:
        self._change_text(name, lambda _before: text)

    def _change_text(self, name: bytes, change: Callable[[str], str]) -> None:
        """Replaces a text by what ``change`` makes of it; it is called again if another came first."""
        with self._home.opened() as fd:
            while True:
                before = small_files.read(fd, name, self._home.what(name))
                data = f"{change(self._decoded(name, before))}\n".encode()
                try:
                    if before != data:
                        durable.replace_if_unchanged(fd, name, before, data, label=name.decode())
                    else:
                        durable.confirm(fd, label=name.decode())
                    return
                except LostRace:
                    continue


def _told(problems: Callable[[], Iterator[Damaged]]) -> Iterator[Damaged]:
    """Yields problems; that they can't be looked for is one."""
    try:
        yield from problems()
    except Damaged as error:
        yield error


def _labels_file(number: int) -> bytes:
    return f"{version_name(number)}.json".encode()


def _with(words: tuple[str, ...], word: str) -> tuple[str, ...]:
    return words if word in words else (*words, word)


def _remove(fd: int, name: bytes, label: str) -> None:
    try:
        durable.remove(fd, name, label=label)
    except FileNotFoundError:
        pass
