"""Types of artifacts, and lists of collections, as wandb's ``Api`` shows them.

Owns which collections a filter means. Every answer is the present state.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from operator import itemgetter
from typing import Any

from artfs.sdk import qualified_names
from artfs.sdk.artifact import Artifact
from artfs.sdk.artifact_collection import ArtifactCollection
from artfs.sdk.connection import Connection
from artfs.sdk.paged_list import PagedList
from artfs.sdk.query import matches, ordered

_ORDERS = {"name": "name", "created_at": "created_at", "updated_at": "updated_at"}


class ArtifactCollections(PagedList[ArtifactCollection]):
    """Collections, by name."""

    def __init__(
        self,
        connection: Connection,
        lines: Iterable[Mapping[str, Any]],
        filters: Mapping[str, Any] | None,
        order: str | None,
        per_page: int,
        start: str | None,
    ) -> None:
        """Makes the list of those of the `lines` that `filters` match."""
        if order is not None and order.lstrip("+-") != "name":
            lines = [_dated(connection, line) for line in lines]
        found = ordered((line for line in lines if matches(line, filters)), order, _ORDERS)
        super().__init__(
            found, lambda line: _collection(connection, line["name"]), itemgetter("name"), per_page, start
        )


def _collection(connection: Connection, name: str) -> ArtifactCollection:
    return ArtifactCollection(connection, name, Artifact._from)


def _dated(connection: Connection, line: Mapping[str, Any]) -> dict[str, Any]:
    collection = _collection(connection, line["name"])
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
        ``created_at`` or ``updated_at``, descending with ``-`` before it.

        Example:
            >>> kind = artfs.Api().artifact_type("model")
            >>> [collection.name for collection in kind.collections(filters={"name": {"$regex": "^mnist"}})]
            ['mnist-cnn']
        """
        within = qualified_names.collections(self._connection, "project", self._project)
        lines = [line for line in within if line["type"] == self.name]
        return ArtifactCollections(self._connection, lines, filters, order, per_page, start)

    def collection(self, name: str) -> ArtifactCollection:
        """Returns one of them. Raises ValueError if it is of another type.

        Example:
            >>> artfs.Api().artifact_type("model").collection("mnist-cnn").aliases
            ['best', 'candidate', 'latest']
        """
        found = _collection(self._connection, qualified_names.find(self._connection, "name", name)[0])
        if found.type != self.name:
            raise ValueError(f"name={name!r}: it has the type {found.type!r}, not {self.name!r}")
        return found


class ArtifactTypes(PagedList[ArtifactType]):
    """Types, by name."""
