"""Registries: collections to which versions are linked, grouped by the registry's name.

Owns what is asked of them. A registry is there while it has a collection; how its name stands in theirs is
:mod:`artfs.model.scope`'s.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from artfs.model.scope import REGISTRY, split
from artfs.sdk.artifact import Artifact
from artfs.sdk.collections import ArtifactCollections, Artifacts
from artfs.sdk.connection import Connection
from artfs.sdk.listing import Listing
from artfs.sdk.query import matches, ordered

_ORDERS = {"name": "name"}
_VERSION_ORDERS = {"created_at": "created_at", "artifact_size": "size", "linked_at": "created_at"}


def registry_of(collection: str) -> str | None:
    """Returns the registry to which a collection belongs, None if it belongs to none."""
    project, _ = split(collection)
    return project.removeprefix(REGISTRY) or None


@dataclass(frozen=True)
class _Chosen:
    """What filters mean of a volume's registries and of their collections."""

    connection: Connection
    registries: Mapping[str, Any] | None = None
    collections: Mapping[str, Any] | None = None

    def lines(self) -> Iterator[dict[str, Any]]:
        """Yields the collections. Filters know them by the name within the registry."""
        for line in self.connection.client().collections():
            registry = registry_of(line["name"])
            short = split(line["name"])[1]
            named = {**line, "name": short, "tag": line["tags"]}
            if registry is None or not matches({"name": registry}, self.registries):
                continue
            if matches(named, self.collections):
                yield line

    def listed(self, order: str | None, per_page: int, start: str | None) -> RegistryCollections:
        found = RegistryCollections.chosen(self.connection, self.lines(), None, order, per_page, start)
        assert isinstance(found, RegistryCollections)
        found._chosen = self
        return found

    def versions(
        self, filters: Mapping[str, Any] | None, order: str | None, per_page: int, start: str | None
    ) -> Artifacts:
        client = self.connection.client()
        lines = [
            {**version, "alias": version["aliases"], "tag": version["tags"], "collection": line["name"]}
            for line in self.lines()
            for version in reversed(client.versions(line["name"]))
        ]
        return Artifacts(
            ordered((line for line in lines if matches(line, filters)), order, _VERSION_ORDERS),
            lambda line: Artifact._from(self.connection, line["collection"], line["version"]),
            lambda line: f"{line['collection']}:{line['version']}",
            per_page,
            start,
        )


class RegistryCollections(ArtifactCollections):
    """Collections of registries, by name.

    Example:
        >>> [collection.name for collection in api.registries().collections()]
        ['digits']
    """

    _chosen: _Chosen

    def versions(
        self,
        filter: Mapping[str, Any] | None = None,  # noqa: A002  (wandb's name)
        order: str | None = None,
        per_page: int = 100,
        start: str | None = None,
    ) -> Artifacts:
        """Returns the versions in all these collections.

        Example:
            >>> api.registries().collections(filter={"tag": "gold"}).versions(filter={"alias": "production"})
        """
        return self._chosen.versions(filter, order, per_page, start)


class Registry:
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

    @property
    def name(self) -> str:
        """The name without ``wandb-registry-``."""
        return self._name

    @property
    def full_name(self) -> str:
        """The name with ``wandb-registry-``: what stands before the collection in a path."""
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
        return sorted({collection["type"] for collection in self._chosen().lines()} - {""})

    def _chosen(self, collections: Mapping[str, Any] | None = None) -> _Chosen:
        return _Chosen(self._connection, {"name": self._name}, collections)

    def collections(
        self,
        filter: dict[str, Any] | None = None,  # noqa: A002  (wandb's name)
        order: str | None = None,
        per_page: int = 100,
        start: str | None = None,
    ) -> RegistryCollections:
        """Returns its collections, by name; see ``ArtifactType.collections`` for filter and order.

        Example:
            >>> len(artfs.Api().registry("model").collections())
            1
        """
        return self._chosen(filter).listed(order, per_page, start)

    def versions(
        self,
        filter: dict[str, Any] | None = None,  # noqa: A002  (wandb's name)
        order: str | None = None,
        per_page: int = 100,
        start: str | None = None,
    ) -> Artifacts:
        """Returns the versions that are linked to it; `filter` asks for keys of a status, like ``tags``.

        `order` is ``created_at``, ``artifact_size`` or ``linked_at``.

        Example:
            >>> [version.name for version in registry.versions(filter={"alias": "production"})]
            ['digits:v0']
        """
        return self._chosen().versions(filter, order, per_page, start)


class Registries(Listing[Registry]):
    """Registries, by name.

    Example:
        >>> [registry.name for registry in artfs.Api().registries()]
        ['model']
    """

    _connection: Connection
    _filter: Mapping[str, Any] | None

    @classmethod
    def chosen(
        cls,
        connection: Connection,
        filters: Mapping[str, Any] | None,
        order: str | None,
        per_page: int,
        start: str | None,
    ) -> Registries:
        """Makes the list of those that a filter means."""
        names = {registry_of(line["name"]) for line in connection.client().collections()} - {None}
        lines = [
            line for line in ({"name": name} for name in sorted(map(str, names))) if matches(line, filters)
        ]
        found = cls(
            ordered(lines, order, _ORDERS),
            lambda line: Registry(connection, line["name"]),
            lambda line: str(line["name"]),
            per_page,
            start,
        )
        found._connection, found._filter = connection, filters
        return found

    def collections(
        self,
        filter: Mapping[str, Any] | None = None,  # noqa: A002  (wandb's name)
        order: str | None = None,
        per_page: int = 100,
        start: str | None = None,
    ) -> RegistryCollections:
        """Returns the collections of all these registries.

        Example:
            >>> api.registries().collections(filter={"tags": "gold"})
        """
        return _Chosen(self._connection, self._filter, filter).listed(order, per_page, start)

    def versions(
        self,
        filter: Mapping[str, Any] | None = None,  # noqa: A002  (wandb's name)
        order: str | None = None,
        per_page: int = 100,
        start: str | None = None,
    ) -> Artifacts:
        """Returns the versions in all these registries.

        Example:
            >>> api.registries().versions(filter={"alias": "production"})
        """
        return _Chosen(self._connection, self._filter).versions(filter, order, per_page, start)
