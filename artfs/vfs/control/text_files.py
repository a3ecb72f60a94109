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
from artfs.vfs.control.subject import CollectionSubject, PendingSubject, VersionSubject, check_may_name
from artfs.vfs.node import Caller


def _ended(text: str) -> str:
    return text if not text or text.endswith("\n") else text + "\n"


def _lines(texts: Iterable[str]) -> str:
    return "".join(f"{words.line(text)}\n" for text in texts)


def aliases_from(command: bytes) -> tuple[str, ...]:
    """Reads a list of aliases. Raises :class:`~artfs.errors.InvalidName`."""
    return tuple(dict.fromkeys(map(names.check_alias, words.read_list(command))))


class Type(ControlFile[CollectionSubject]):
    name, writable = "type", True

    def read(self, subject: CollectionSubject) -> str:
        return _ended(subject.collection.type)

    def write(self, subject: CollectionSubject, command: bytes, caller: Caller) -> None:
        subject.collection.set_type(decoded(command).strip())


class CollectionDescription(ControlFile[CollectionSubject]):
    name, writable = "description", True

    def read(self, subject: CollectionSubject) -> str:
        return _ended(subject.collection.description)

    def write(self, subject: CollectionSubject, command: bytes, caller: Caller) -> None:
        subject.collection.set_description(decoded(command))


class CollectionTags(ControlFile[CollectionSubject]):
    """A tag is a line."""

    name, writable = "tags", True

    def read(self, subject: CollectionSubject) -> str:
        return _lines(subject.collection.tags)

    def write(self, subject: CollectionSubject, command: bytes, caller: Caller) -> None:
        subject.collection.set_tags(line.strip() for line in decoded(command).splitlines() if line.strip())


class PendingDescription(ControlFile[PendingSubject]):
    name, writable = "description", True

    def read(self, subject: PendingSubject) -> str:
        return _ended(subject.tree.pending_version.labels().description)

    def write(self, subject: PendingSubject, command: bytes, caller: Caller) -> None:
        description = records.check_description(decoded(command))
        with subject.tree.gate.long_change():
            subject.tree.pending_version.change(description=description)


class PendingAliases(ControlFile[PendingSubject]):
    name, writable = "aliases", True

    def read(self, subject: PendingSubject) -> str:
        return _lines(subject.tree.pending_version.labels().aliases)

    def write(self, subject: PendingSubject, command: bytes, caller: Caller) -> None:
        aliases = aliases_from(command)
        check_may_name(caller, subject.collection, aliases)
        with subject.tree.gate.long_change():
            subject.tree.pending_version.change(aliases=aliases)


class PendingTags(ControlFile[PendingSubject]):
    name, writable = "tags", True

    def read(self, subject: PendingSubject) -> str:
        return _lines(subject.tree.pending_version.labels().tags)

    def write(self, subject: PendingSubject, command: bytes, caller: Caller) -> None:
        tags = records.check_tags(words.read_list(command))
        with subject.tree.gate.long_change():
            subject.tree.pending_version.change(tags=tags)


class VersionDescription(ControlFile[VersionSubject]):
    name, writable = "description", True

    def read(self, subject: VersionSubject) -> str:
        return _ended(subject.collection.labels(subject.record.number).description)

    def write(self, subject: VersionSubject, command: bytes, caller: Caller) -> None:
        description = records.check_description(decoded(command))
        subject.collection.update_labels(subject.record.number, description=description)


class VersionAliases(ControlFile[VersionSubject]):
    name = "aliases"

    def read(self, subject: VersionSubject) -> str:
        return _lines(subject.collection.aliases_of(subject.record.number))


class VersionTags(ControlFile[VersionSubject]):
    name, writable = "tags", True

    def read(self, subject: VersionSubject) -> str:
        return _lines(subject.collection.labels(subject.record.number).tags)

    def write(self, subject: VersionSubject, command: bytes, caller: Caller) -> None:
        tags = records.check_tags(words.read_list(command))
        subject.collection.update_labels(subject.record.number, tags=tags)


class CollectionScope(ControlFile[CollectionSubject]):
    """The entity and project that the collection belongs to, ENTITY/PROJECT; either may be empty. What is
    known stays: writing another one is refused."""

    name, writable = "scope", True

    def read(self, subject: CollectionSubject) -> str:
        return _ended(subject.collection.scope)

    def write(self, subject: CollectionSubject, command: bytes, caller: Caller) -> None:
        subject.collection.claim(Scope.parse(decoded(command).strip()))


class CollectionTtl(ControlFile[CollectionSubject]):
    """How long versions live that have no ttl of their own: seconds, or a number with a unit (90m, 12h, 30d,
    2w); `none` for ever."""

    name, writable = "ttl", True

    def read(self, subject: CollectionSubject) -> str:
        return _ttl(subject.collection.ttl)

    def write(self, subject: CollectionSubject, command: bytes, caller: Caller) -> None:
        word = decoded(command).strip()
        subject.collection.set_ttl(None if word in ("", "none") else duration.seconds(word))


class VersionTtl(ControlFile[VersionSubject]):
    """Likewise of one version; `inherit` for the collection's."""

    name, writable = "ttl", True

    def read(self, subject: VersionSubject) -> str:
        labels = subject.collection.labels(subject.record.number)
        return _ttl(records.effective_ttl(labels, subject.collection.ttl))

    def write(self, subject: VersionSubject, command: bytes, caller: Caller) -> None:
        word = decoded(command).strip()
        ttl: int | str | None = word if word == "none" else None
        if word not in ("", "none", "inherit"):
            ttl = duration.seconds(word)
        subject.collection.update_labels(subject.record.number, ttl=ttl)


def _ttl(seconds: int | None) -> str:
    return "none\n" if seconds is None else f"{seconds}\n"
