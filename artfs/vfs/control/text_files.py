"""The short texts that a shell can set: type, scope, description, aliases, tags, ttl.

A read returns the text; of aliases and tags a line each. A write replaces the whole, and takes aliases and
tags as words in one line or as lines (:mod:`artfs.model.words`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from artfs.catalog import records
from artfs.catalog.collection import Collection
from artfs.model import duration, names, words
from artfs.model.scope import Scope
from artfs.vfs.control.control_file import ControlFile, decoded
from artfs.vfs.control.subject import CollectionSubject, PendingSubject, VersionSubject, check_may_name
from artfs.vfs.node import Caller


def aliases_from(command: bytes) -> tuple[str, ...]:
    """Reads a list of aliases. Raises :class:`~artfs.errors.InvalidName`."""
    return tuple(dict.fromkeys(map(names.check_alias, words.read_list(command))))


def _tags_from(command: bytes) -> tuple[str, ...]:
    return records.check_tags(words.read_list(command))


def _description_from(command: bytes) -> str:
    return records.check_description(decoded(command))


def _shown(value: str | Iterable[str]) -> str:
    if not isinstance(value, str):
        return "".join(f"{words.line(text)}\n" for text in value)
    return value if not value or value.endswith("\n") else value + "\n"


class _CollectionTextFile(ControlFile[CollectionSubject]):
    """A text of a collection, which `set_text` sets."""

    writable = True

    def __init__(self, name: str, set_text: Callable[[Collection, str], object]) -> None:
        self.name, self._set_text = name, set_text

    def read(self, subject: CollectionSubject) -> str:
        return _shown(getattr(subject.collection, self.name))

    def write(self, subject: CollectionSubject, command: bytes, caller: Caller) -> None:
        self._set_text(subject.collection, decoded(command))


class _PendingLabelFile(ControlFile[PendingSubject]):
    """A label of a pending version."""

    writable = True

    def __init__(self, name: str, parse: Callable[[bytes], str | tuple[str, ...]]) -> None:
        self.name, self._parse = name, parse

    def read(self, subject: PendingSubject) -> str:
        return _shown(getattr(subject.tree.pending_version.labels(), self.name))

    def write(self, subject: PendingSubject, command: bytes, caller: Caller) -> None:
        value = self._parse(command)
        if self.name == "aliases":
            check_may_name(caller, subject.collection, value)
        with subject.tree.gate.long_change():
            subject.tree.pending_version.change(**{self.name: value})


class _VersionLabelFile(ControlFile[VersionSubject]):
    """A label of a version."""

    writable = True

    def __init__(self, name: str, parse: Callable[[bytes], str | tuple[str, ...]]) -> None:
        self.name, self._parse = name, parse

    def read(self, subject: VersionSubject) -> str:
        return _shown(getattr(subject.collection.labels(subject.record.number), self.name))

    def write(self, subject: VersionSubject, command: bytes, caller: Caller) -> None:
        subject.collection.update_labels(subject.record.number, **{self.name: self._parse(command)})


class _AliasesFile(ControlFile[VersionSubject]):
    name = "aliases"

    def read(self, subject: VersionSubject) -> str:
        return _shown(subject.collection.aliases_of(subject.record.number))


class _CollectionTtlFile(ControlFile[CollectionSubject]):
    """How long versions live that have no ttl of their own: seconds, or a number with a unit (90m, 12h, 30d,
    2w); `none` is for ever."""

    name, writable = "ttl", True

    def read(self, subject: CollectionSubject) -> str:
        return _ttl(subject.collection.ttl)

    def write(self, subject: CollectionSubject, command: bytes, caller: Caller) -> None:
        word = decoded(command).strip()
        subject.collection.set_ttl(None if word in ("", "none") else duration.seconds(word))


class _VersionTtlFile(ControlFile[VersionSubject]):
    """The same for one version; `inherit` is the collection's."""

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


COLLECTION_TEXTS = (
    _CollectionTextFile("type", lambda collection, text: collection.set_type(text.strip())),
    _CollectionTextFile("description", lambda collection, text: collection.set_description(text)),
    # A tag is a line here, and may contain blanks.
    _CollectionTextFile("tags", lambda collection, text: collection.set_tags(_lines(text))),
    # ENTITY/PROJECT, either of which may be empty. Once known, neither can be changed.
    _CollectionTextFile("scope", lambda collection, text: collection.claim(Scope.parse(text.strip()))),
    _CollectionTtlFile(),
)
PENDING_TEXTS = (
    _PendingLabelFile("aliases", aliases_from),
    _PendingLabelFile("tags", _tags_from),
    _PendingLabelFile("description", _description_from),
)
VERSION_TEXTS = (
    _AliasesFile(),
    _VersionLabelFile("tags", _tags_from),
    _VersionLabelFile("description", _description_from),
    _VersionTtlFile(),
)


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]
