"""The small texts that a shell can set: type, description, aliases, tags, ttl.

Reading gives the text, of aliases and tags a line each; writing replaces the whole, and takes aliases and
tags as words in one line or as lines (:mod:`artfs.model.words`).
"""

from __future__ import annotations

from collections.abc import Iterable

from artfs.catalog import records
from artfs.model import duration, names, words
from artfs.model.scope import Scope
from artfs.vfs.control.control_file import ControlFile, decoded
from artfs.vfs.control.subject import CollectionPlace, PendingPlace, VersionPlace, check_may_name
from artfs.vfs.node import Caller


def _ended(text: str) -> str:
    return text if not text or text.endswith("\n") else text + "\n"


def _lines(texts: Iterable[str]) -> str:
    return "".join(f"{words.line(text)}\n" for text in texts)


def aliases_from(command: bytes) -> tuple[str, ...]:
    """Reads a list of aliases. Raises :class:`~artfs.errors.InvalidName`."""
    return tuple(dict.fromkeys(map(names.check_alias, words.read_list(command))))


class Type(ControlFile[CollectionPlace]):
    name, writable = "type", True

    def read(self, place: CollectionPlace) -> str:
        return _ended(place.collection.type)

    def write(self, place: CollectionPlace, command: bytes, caller: Caller) -> None:
        place.collection.set_type(decoded(command).strip())


class CollectionDescription(ControlFile[CollectionPlace]):
    name, writable = "description", True

    def read(self, place: CollectionPlace) -> str:
        return _ended(place.collection.description)

    def write(self, place: CollectionPlace, command: bytes, caller: Caller) -> None:
        place.collection.set_description(decoded(command))


class CollectionTags(ControlFile[CollectionPlace]):
    """A tag is a line."""

    name, writable = "tags", True

    def read(self, place: CollectionPlace) -> str:
        return _lines(place.collection.tags)

    def write(self, place: CollectionPlace, command: bytes, caller: Caller) -> None:
        place.collection.set_tags(line.strip() for line in decoded(command).splitlines() if line.strip())


class PendingDescription(ControlFile[PendingPlace]):
    name, writable = "description", True

    def read(self, place: PendingPlace) -> str:
        return _ended(place.tree.draft.settings().description)

    def write(self, place: PendingPlace, command: bytes, caller: Caller) -> None:
        description = records.check_description(decoded(command))
        with place.tree.gate.long_change():
            place.tree.draft.change(description=description)


class PendingAliases(ControlFile[PendingPlace]):
    name, writable = "aliases", True

    def read(self, place: PendingPlace) -> str:
        return _lines(place.tree.draft.settings().aliases)

    def write(self, place: PendingPlace, command: bytes, caller: Caller) -> None:
        aliases = aliases_from(command)
        check_may_name(caller, place.collection, aliases)
        with place.tree.gate.long_change():
            place.tree.draft.change(aliases=aliases)


class PendingTags(ControlFile[PendingPlace]):
    name, writable = "tags", True

    def read(self, place: PendingPlace) -> str:
        return _lines(place.tree.draft.settings().tags)

    def write(self, place: PendingPlace, command: bytes, caller: Caller) -> None:
        tags = records.check_tags(words.read_list(command))
        with place.tree.gate.long_change():
            place.tree.draft.change(tags=tags)


class VersionDescription(ControlFile[VersionPlace]):
    name, writable = "description", True

    def read(self, place: VersionPlace) -> str:
        return _ended(place.collection.notes(place.record.number).description)

    def write(self, place: VersionPlace, command: bytes, caller: Caller) -> None:
        description = records.check_description(decoded(command))
        place.collection.update_notes(place.record.number, description=description)


class VersionAliases(ControlFile[VersionPlace]):
    name = "aliases"

    def read(self, place: VersionPlace) -> str:
        return _lines(place.collection.aliases_of(place.record.number))


class VersionTags(ControlFile[VersionPlace]):
    name, writable = "tags", True

    def read(self, place: VersionPlace) -> str:
        return _lines(place.collection.notes(place.record.number).tags)

    def write(self, place: VersionPlace, command: bytes, caller: Caller) -> None:
        tags = records.check_tags(words.read_list(command))
        place.collection.update_notes(place.record.number, tags=tags)


class CollectionScope(ControlFile[CollectionPlace]):
    """The entity and project that the collection belongs to, ENTITY/PROJECT; either may be empty. What is
    known stays: writing another one is refused."""

    name, writable = "scope", True

    def read(self, place: CollectionPlace) -> str:
        return _ended(place.collection.scope)

    def write(self, place: CollectionPlace, command: bytes, caller: Caller) -> None:
        place.collection.claim(Scope.parse(decoded(command).strip()))


class CollectionTtl(ControlFile[CollectionPlace]):
    """How long versions live that have no ttl of their own: seconds, or a number with a unit (90m, 12h, 30d,
    2w); `none` for ever."""

    name, writable = "ttl", True

    def read(self, place: CollectionPlace) -> str:
        return _ttl(place.collection.ttl)

    def write(self, place: CollectionPlace, command: bytes, caller: Caller) -> None:
        word = decoded(command).strip()
        place.collection.set_ttl(None if word in ("", "none") else duration.seconds(word))


class VersionTtl(ControlFile[VersionPlace]):
    """Likewise of one version; `inherit` for the collection's."""

    name, writable = "ttl", True

    def read(self, place: VersionPlace) -> str:
        notes = place.collection.notes(place.record.number)
        return _ttl(records.effective_ttl(notes, place.collection.ttl))

    def write(self, place: VersionPlace, command: bytes, caller: Caller) -> None:
        word = decoded(command).strip()
        ttl: int | str | None = word if word == "none" else None
        if word not in ("", "none", "inherit"):
            ttl = duration.seconds(word)
        place.collection.update_notes(place.record.number, ttl=ttl)


def _ttl(seconds: int | None) -> str:
    return "none\n" if seconds is None else f"{seconds}\n"
