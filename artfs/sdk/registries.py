"""Registries: collections to which versions are linked, grouped by the registry's name.

Owns what is asked of them. A registry exists while it has a collection; :mod:`artfs.model.scope` says how its
name is part of theirs.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from operator import itemgetter
from typing import Any

from artfs.model.scope import REGISTRY, split
from artfs.sdk.artifact import Artifact
from artfs.sdk.artifact_collection import Artifacts
from artfs.sdk.artifact_types import ArtifactCollections
from artfs.sdk.connection import Connection
from artfs.sdk.paged_list import PagedList
from artfs.sdk.query import matches, ordered

_VERSION_ORDERS = {"created_at": "created_at", "artifact_size": "size", "linked_at": "created_at"}

_Filter = Mapping[str, Any] | None


def registry_of(collection: str) -> str | None:
    """Returns the registry to which a collection belongs, None if it belongs to none."""
    return split(collection)[0].removeprefix(REGISTRY) or None


def _lines(connection: Connection, registries: _Filter, collections: _Filter) -> Iterator[dict[str, Any]]:
    """Yields collections of registries. Filters have their names within the registry."""
    for line in connection.client().collections():
        registry = registry_of(line["name"])
        if registry is not None and matches({"name": registry}, registries):
            named = {**line, "name": split(line["name"])[1], "tag": line["tags"]}
            if matches(named, collections):
                yield line


class _RegistryScope:
    """What can be asked of one registry, of several, and of some of their collections."""

    @abstractmethod
    def _chosen(self) -> tuple[Connection, _Filter, _Filter]:
        """Returns the volume, and filters of its registries and of their collections."""

    def versions(
        self, filter: _Filter = None, order: str | None = None, per_page: int = 100, start: str | None = None
    ) -> Artifacts:
        """Returns the versions that are linked to it; `filter` asks for keys of a status, like ``tags``.

        `order` is ``created_at``, ``artifact_size`` or ``linked_at``.

        Example:
            >>> [version.name for version in registry.versions(filter={"alias": "production"})]
            ['digits:v0']
            >>> api.registries().collections(filter={"tag": "gold"}).versions(filter={"alias": "production"})
        """
        connection, *filters = self._chosen()
        lines = [
            {**version, "alias": version["aliases"], "tag": version["tags"], "collection": line["name"]}
            for line in _lines(connection, *filters)
            for version in reversed(connection.client().versions(line["name"]))
        ]
        return Artifacts(
            ordered((line for line in lines if matches(line, filter)), order, _VERSION_ORDERS),
            lambda line: Artifact._from(connection, line["collection"], line["version"]),
            lambda line: f"{line['collection']}:{line['version']}",
            per_page,
            start,
        )


class RegistryCollections(ArtifactCollections, _RegistryScope):
    """Collections of registries, by name."""

    def __init__(
        self, chosen: tuple[Connection, _Filter, _Filter], order: str | None, per_page: int, start: str | None
    ) -> None:
        self._filters = chosen
        super().__init__(chosen[0], _lines(*chosen), None, order, per_page, start)

    def _chosen(self) -> tuple[Connection, _Filter, _Filter]:
        return self._filters


class _Registries(_RegistryScope):
    """One registry, or several."""

    def collections(
        self, filter: _Filter = None, order: str | None = None, per_page: int = 100, start: str | None = None
    ) -> RegistryCollections:
        """Returns its collections, by name; see ``ArtifactType.collections`` for filter and order.

        Example:
            >>> len(artfs.Api().registry("model").collections(filter={"tags": "gold"}))
            1
        """
        connection, registries, _ = self._chosen()
        return RegistryCollections((connection, registries, filter), order, per_page, start)


class Registry(_Registries):
    """One registry.

    Example:
        >>> registry = artfs.Api().registry("model")
        >>> [collection.name for collection in registry.collections()]
        ['digits']
    """

    def __init__(self, connection: Connection, name: str) -> None:
        self._connection, self._name = connection, name

    def __repr__(self) -> str:
        return f"<Registry {self.name}>"

    def _chosen(self) -> tuple[Connection, _Filter, _Filter]:
        return self._connection, {"name": self._name}, None

    @property
    def name(self) -> str:
        """The name without ``wandb-registry-``."""
        return self._name

    @property
    def full_name(self) -> str:
        """The name with ``wandb-registry-``, as it is before the collection in a path."""
        return REGISTRY + self._name

    @property
    def id(self) -> str:
        """The same as :attr:`full_name`."""
        return self.full_name

    @property
    def entity(self) -> str:
        """Empty: there are no entities here."""
        return ""

    @property
    def organization(self) -> str:
        """Empty: there are no organizations here."""
        return ""

    @property
    def path(self) -> list[str]:
        """The full name alone."""
        return [self.full_name]

    @property
    def artifact_types(self) -> list[str]:
        """The types of its collections."""
        return sorted({line["type"] for line in _lines(*self._chosen())} - {""})


class Registries(PagedList[Registry], _Registries):
    """Registries, by name."""

    def __init__(
        self, connection: Connection, filter: _Filter, order: str | None, per_page: int, start: str | None
    ) -> None:
        self._connection, self._filter = connection, filter
        names = {registry_of(line["name"]) for line in connection.client().collections()} - {None}
        lines = [
            line for line in ({"name": name} for name in sorted(map(str, names))) if matches(line, filter)
        ]
        super().__init__(
            ordered(lines, order, {"name": "name"}),
            lambda line: Registry(connection, line["name"]),
            itemgetter("name"),
            per_page,
            start,
        )

    def _chosen(self) -> tuple[Connection, _Filter, _Filter]:
        return self._connection, self._filter, None
