"""The interface to collections, versions and runs.

Owns the checks that both implementations share. Blocking; one thread at a time may use an object.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from artfs.catalog import records
from artfs.client.values import INHERIT, NOTHING_READ, VersionEntry
from artfs.errors import InvalidName
from artfs.model import names

if TYPE_CHECKING:
    from artfs.client.version_tree import VersionTree
    from artfs.model.diff import Change
    from artfs.model.scope import Scope


class VersionOperations(ABC):
    """What a program does with collections, versions and runs."""

    # -- collections

    @abstractmethod
    def collections(self) -> list[dict[str, Any]]:
        """Returns name, type, description, tags, numbers of versions, pending and abandoned, ``latest``."""

    @abstractmethod
    def collection(self, name: str) -> dict[str, Any]:
        """Returns the same of one collection. Raises :class:`~artfs.errors.CollectionNotFound`."""

    @abstractmethod
    def set_collection_description(self, name: str, description: str) -> None: ...

    @abstractmethod
    def set_collection_tags(self, name: str, tags: Sequence[str]) -> None: ...

    @abstractmethod
    def collection_ttl(self, name: str) -> int | None:
        """Returns how many seconds versions without a ttl of their own live; None: for ever."""

    @abstractmethod
    def set_collection_ttl(self, name: str, seconds: int | None) -> None: ...

    @abstractmethod
    def scope(self, name: str) -> Scope:
        """Returns the entity and project that a collection belongs to, as far as they are known.

        Raises :class:`~artfs.errors.CollectionNotFound`.
        """

    @abstractmethod
    def claim(self, name: str, scope: Scope) -> None:
        """Records the scope in which something is logged to a collection, which belongs to it from then on.

        Raises :class:`~artfs.errors.InvalidCommand` if it belongs to another one.
        """

    @abstractmethod
    def remove_collection(self, name: str) -> None:
        """Removes a collection without versions and pending versions, else raises :class:`NotEmpty`."""

    # -- versions

    @abstractmethod
    def versions(self, name: str) -> list[dict[str, Any]]:
        """Returns the ``status`` of every version, oldest first."""

    @abstractmethod
    def version(self, name: str, ref: str) -> dict[str, Any]:
        """Returns the ``status`` of a version, given by number or alias, with description and metadata."""

    @abstractmethod
    def version_directory(self, name: str, ref: str) -> Path | None:
        """Returns the directory of a version on the mount, by its number; None without a mount."""

    def relabel(
        self, name: str, ref: str, changes: Mapping[str, Any], since: Mapping[str, Any] = NOTHING_READ
    ) -> None:
        """Sets labels of a version: ``description``, ``tags``, ``metadata``, ``ttl``; no part of its content.

        Each that is given is replaced whole. But where `since` has the tags or metadata that were read
        before, changes that others made meanwhile stay (:mod:`artfs.model.label_changes`). A ttl is seconds,
        ``none`` for ever, or :data:`INHERIT`. Raises :class:`~artfs.errors.InvalidCommand`.
        """
        records.check_fields(changes)
        ttl = changes.get("ttl")
        records.check_labels(records.Labels(**{**changes, "ttl": None if ttl == INHERIT else ttl}))
        self._relabel(name, ref, changes, since)

    @abstractmethod
    def _relabel(self, name: str, ref: str, changes: Mapping[str, Any], since: Mapping[str, Any]) -> None: ...

    @abstractmethod
    def updated_at(self, name: str, ref: str) -> str:
        """Returns when any label was changed last; when the version was made if none was."""

    @abstractmethod
    def manifest(self, name: str, ref: str) -> dict[str, Any]:
        """Returns every entry of a version by its path."""

    @abstractmethod
    def diff(self, name: str, old: str, new: str) -> list[Change]:
        """Returns the difference of two versions, given by number or alias: :func:`artfs.model.diff.diff`.

        Reads only where the versions differ. `new` may be of another collection, ``other:v3``. Raises
        :class:`~artfs.errors.NotFound`.
        """

    def list_directory(self, name: str, ref: str, path: bytes) -> list[VersionEntry]:
        """Lists a directory of a version, by name; for anything else the one entry.

        Raises :class:`~artfs.errors.PathNotFound`.
        """
        with self._version_tree(name, ref) as tree:
            return tree.list_directory(path)

    def walk(self, name: str, ref: str, prefix: bytes = b"") -> Iterator[VersionEntry]:
        """Yields the directories that lead to a path, the entry there, and all that is below it, in preorder.

        The first is the version's root, with an empty path. Raises :class:`~artfs.errors.PathNotFound`.
        """
        with self._version_tree(name, ref) as tree:
            yield from tree.walk(prefix)

    def open_file(self, name: str, ref: str, path: bytes) -> int:
        """Opens a file of a version for reading; follows symlinks as long as they stay in its tree.

        The caller closes the descriptor. Raises :class:`~artfs.errors.PathNotFound`.
        """
        with self._version_tree(name, ref) as tree:
            return tree.open_file(path)

    @abstractmethod
    def _version_tree(self, name: str, ref: str) -> AbstractContextManager[VersionTree]: ...

    def read_failure(self, name: str, ref: str, path: bytes) -> Exception | None:  # noqa: ARG002
        """Returns why a file can't be read, if the error of the read does not say it."""
        return None

    def alias(self, name: str, ref: str, aliases: Sequence[str]) -> None:
        """Sets or moves each alias to the version; all of them are checked first."""
        for word in aliases:
            _check_settable(word)
        self._alias(name, ref, aliases)

    @abstractmethod
    def _alias(self, name: str, ref: str, aliases: Sequence[str]) -> None: ...

    def unalias(self, name: str, aliases: Sequence[str]) -> None:
        """Removes aliases. Raises :class:`~artfs.errors.AliasNotFound`."""
        for word in aliases:
            _check_settable(word)
        self._unalias(name, aliases)

    @abstractmethod
    def _unalias(self, name: str, aliases: Sequence[str]) -> None: ...

    def tag(self, name: str, ref: str, tags: Sequence[str]) -> list[str]:
        """Adds tags to those of a version; returns all."""
        return self._tag(name, ref, records.check_tags(tags))

    @abstractmethod
    def _tag(self, name: str, ref: str, tags: Sequence[str]) -> list[str]: ...

    @abstractmethod
    def remove(self, name: str, ref: str) -> str:
        """Deletes a version and returns its name, ``v3``. Raises :class:`~artfs.errors.HeldByAlias`."""

    @abstractmethod
    def remove_expired(self, name: str, ref: str, now: float) -> bool:
        """Deletes a version if its ttl has passed at that moment; returns whether it has.

        Reads the ttl again. Without a mount it never misses one that is set at the same time. Raises
        :class:`~artfs.errors.HeldByAlias`.
        """

    @abstractmethod
    def holding_aliases(self, name: str, ref: str) -> list[str]:
        """Returns the aliases that protect a version from removal: those that don't follow ``latest``."""

    # -- runs

    @abstractmethod
    def run(self, run: str) -> dict[str, Any]:
        """Returns the document of a run. Raises :class:`~artfs.errors.RunNotFound`."""

    @abstractmethod
    def runs(self) -> list[str]:
        """Returns the ids of all runs, sorted."""

    @abstractmethod
    def record_run(self, run: str, document: Mapping[str, Any], *, here: bool = False) -> None:
        """Creates or updates the document of a run, as :meth:`artfs.catalog.runs.RunCatalog.apply` does.

        `here` says that the run goes on in this process, or with any other state that it ends here: it ends
        when it has ended in all of its processes.

        Does nothing where only a part of a mount can be seen: there runs are known by their ids, and by what
        versions say of them.
        """

    @abstractmethod
    def record_use(self, name: str, ref: str, run: str) -> None:
        """Records that a run read a version, in both."""


def _check_settable(alias: str) -> None:
    if names.check_alias(alias) == names.LATEST:
        raise InvalidName("an alias", alias, "it always names the newest version by itself")
