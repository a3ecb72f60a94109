"""Collections of versions, and their types, as wandb's ``Api`` shows them.

Owns what may be changed of a collection. Every answer but what was set and not saved is the present state.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any

from artfs.errors import UnsupportedError
from artfs.model.scope import split
from artfs.sdk import arguments, scopes
from artfs.sdk.artifact import Artifact
from artfs.sdk.connection import Connection
from artfs.sdk.listing import Listing
from artfs.sdk.query import matches, ordered

_ORDERS = {"name": "name", "created_at": "created_at", "updated_at": "updated_at"}


class Artifacts(Listing[Artifact]):
    """Versions, newest first. An item is read from the volume when it is asked for.

    Example:
        >>> [artifact.version for artifact in api.artifacts("dataset", "mnist")]
        ['v1', 'v0']
    """


class ArtifactCollection:
    """All versions of one name.

    Example:
        >>> collection = artfs.Api().artifact_collection("model", "mnist-cnn")
        >>> [artifact.version for artifact in collection.artifacts()]
        ['v1', 'v0']
    """

    def __init__(self, connection: Connection, name: str) -> None:
        self._connection, self._name = connection, name
        self._facts = connection.client().collection(name)
        self._description = str(self._facts["description"])
        self._tags: list[str] = list(self._facts["tags"])

    def __repr__(self) -> str:
        return f"<ArtifactCollection {self.name} ({self.type})>"

    @property
    def name(self) -> str:
        """Its name, in a registry the one within it.

        A collection can't be renamed: pending versions, links and runs know it by its name.
        """
        return scopes.short(self._name)

    @name.setter
    def name(self, value: str) -> None:
        if value != self.name:
            raise UnsupportedError(
                f"'{self.name}' can't be renamed: Artifact.link() makes its versions those of '{value}', too"
            )

    @property
    def id(self) -> str:
        """The name in the volume, which has a registry before it."""
        return self._name

    @property
    def type(self) -> str:
        """What its versions hold, like ``model``. It is one for all of them, and stays."""
        return str(self._facts["type"])

    @type.setter  # noqa: A003
    def type(self, value: str) -> None:
        if value != self.type:
            raise UnsupportedError(f"'{self.name}' has the type '{self.type}', which can't be changed")

    @property
    def entity(self) -> str:
        """The entity that it belongs to; empty if none was ever named."""
        return self._connection.client().scope(self._name).entity

    @property
    def project(self) -> str:
        """The project or registry that it belongs to; empty if none was ever named."""
        return self._connection.client().scope(self._name).project

    @property
    def description(self) -> str:
        """Free text; what is set is stored by :meth:`save`."""
        return self._description

    @description.setter
    def description(self, value: str | None) -> None:
        self._description = arguments.description("description", value)

    @property
    def tags(self) -> list[str]:
        """Free labels of the collection; what is set, appended or removed is stored by :meth:`save`."""
        return self._tags

    @tags.setter
    def tags(self, value: Iterable[str] | str) -> None:
        self._tags = arguments.tags("tags", value)

    @property
    def ttl(self) -> timedelta | None:
        """How long its versions live that have no ttl of their own; None: for ever. Setting it stores it.

        Example:
            >>> collection.ttl = timedelta(days=30)
        """
        found = self._connection.client().collection_ttl(self._name)
        return None if found is None else timedelta(seconds=found)

    @ttl.setter
    def ttl(self, value: timedelta | None) -> None:
        seconds = None if value is None else arguments.seconds("ttl", value)
        self._connection.client().set_collection_ttl(self._name, seconds)

    @property
    def aliases(self) -> list[str]:
        """All aliases of its versions."""
        return arguments.decoded_aliases(
            alias for version in self._versions() for alias in version["aliases"]
        )

    @property
    def created_at(self) -> str | None:
        """When its oldest version was made, of those that are there; None if there are none."""
        return next((str(version["created_at"]) for version in self._versions()), None)

    @property
    def updated_at(self) -> str | None:
        """When its newest version was made; None if there are none."""
        return next((str(version["created_at"]) for version in reversed(self._versions())), None)

    def is_sequence(self) -> bool:
        """Tells whether versions are logged to it; to a registry's collection they are linked.

        Example:
            >>> api.artifact_collection("dataset", "mnist").is_sequence()
            True
        """
        return not split(self._name)[0]

    def _versions(self) -> list[dict[str, Any]]:
        return self._connection.client().versions(self._name)

    def artifacts(self, per_page: int = 50, start: str | None = None) -> Artifacts:
        """Returns its versions, newest first; `start` is the ``cursor`` of an earlier answer.

        Example:
            >>> [artifact.version for artifact in collection.artifacts()]
            ['v1', 'v0']
        """
        return self._listed(list(reversed(self._versions())), per_page, start)

    def _listed(self, lines: list[Any], per_page: int, start: str | None) -> Artifacts:
        return Artifacts(
            lines,
            lambda line: Artifact._from(self._connection, self._name, line["version"]),
            lambda line: str(line["version"]),
            per_page,
            start,
        )

    versions = artifacts

    def save(self) -> None:
        """Stores description and tags.

        Example:
            >>> collection.description = "Digits, cleaned"
            >>> collection.tags.append("gold")
            >>> collection.save()
        """
        client = self._connection.client()
        tags = arguments.tags("tags", self._tags)
        client.set_collection_description(self._name, self._description)
        if tags != list(self._facts["tags"]):
            client.set_collection_tags(self._name, tags)
        self._facts = client.collection(self._name)

    def delete(self) -> None:
        """Deletes all its versions and aliases, and the collection.

        Raises NotEmpty if something is pending, after the versions are gone.

        Example:
            >>> artfs.Api().artifact_collection("dataset", "scratch").delete()
        """
        client = self._connection.client()
        for version in client.versions(self._name):
            if holders := client.holding_aliases(self._name, version["version"]):
                client.unalias(self._name, holders)
            client.remove(self._name, version["version"])
        client.remove_collection(self._name)


class ArtifactCollections(Listing[ArtifactCollection]):
    """Collections, by name.

    Example:
        >>> [collection.name for collection in api.artifact_collections(None, "model")]
        ['mnist-cnn', 'digits']
    """

    @classmethod
    def chosen(
        cls,
        connection: Connection,
        lines: Iterable[Mapping[str, Any]],
        filters: Mapping[str, Any] | None,
        order: str | None,
        per_page: int,
        start: str | None,
    ) -> ArtifactCollections:
        """Makes the list of those that `filters` mean."""
        dated = order is not None and order.lstrip("+-") != "name"
        found = [_dated(connection, line) if dated else line for line in lines]
        chosen = ordered((line for line in found if matches(line, filters)), order, _ORDERS)
        return cls(
            chosen,
            lambda line: ArtifactCollection(connection, line["name"]),
            lambda line: str(line["name"]),
            per_page,
            start,
        )


def _dated(connection: Connection, line: Mapping[str, Any]) -> dict[str, Any]:
    collection = ArtifactCollection(connection, line["name"])
    return {**line, "created_at": collection.created_at, "updated_at": collection.updated_at}


class ArtifactType:
    """All collections of one type.

    Example:
        >>> [collection.name for collection in artfs.Api().artifact_type("model").collections()]
        ['mnist-cnn', 'digits']
    """

    def __init__(self, connection: Connection, name: str, project: str | None = None) -> None:
        self._connection, self._name, self._project = connection, name, project

    def __repr__(self) -> str:
        return f"<ArtifactType {self.name}>"

    @property
    def name(self) -> str:
        """The word for it, like ``model``."""
        return self._name

    @property
    def id(self) -> str:
        """The same as :attr:`name`."""
        return self._name

    def collections(
        self,
        filters: Mapping[str, Any] | None = None,
        order: str | None = None,
        per_page: int = 50,
        start: str | None = None,
    ) -> ArtifactCollections:
        """Returns its collections, by name.

        `filters` are MongoDB's, over ``name``, ``description`` and ``tags``; `order` is ``name``,
        ``created_at`` or ``updated_at``, with ``-`` before it for the other way round.

        Example:
            >>> kind = artfs.Api().artifact_type("model")
            >>> [collection.name for collection in kind.collections(filters={"name": {"$regex": "^mnist"}})]
            ['mnist-cnn']
        """
        within = scopes.collections(self._connection, "project", self._project)
        lines = [line for line in within if line["type"] == self.name]
        return ArtifactCollections.chosen(self._connection, lines, filters, order, per_page, start)

    def collection(self, name: str) -> ArtifactCollection:
        """Returns one of them. Raises ValueError if it is of another type.

        Example:
            >>> artfs.Api().artifact_type("model").collection("mnist-cnn").aliases
            ['best', 'candidate', 'latest']
        """
        found = ArtifactCollection(self._connection, scopes.find(self._connection, "name", name)[0])
        if found.type != self.name:
            raise ValueError(f"name={name!r}: it has the type {found.type!r}, not {self.name!r}")
        return found


class ArtifactTypes(Listing[ArtifactType]):
    """Types, by name.

    Example:
        >>> [kind.name for kind in api.artifact_types()]
        ['dataset', 'model', 'predictions']
    """
