"""Collections of versions, as wandb's ``Api`` shows them.

Owns what may be changed of a collection. Every answer is the present state, but for values that are set and
not saved.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import timedelta
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from artfs.client.interface import Client
from artfs.errors import UnsupportedError
from artfs.model.scope import split
from artfs.sdk import arguments
from artfs.sdk.connection import Connection
from artfs.sdk.paged_list import PagedList
from artfs.sdk.qualified_names import short

if TYPE_CHECKING:
    from artfs.sdk.artifact import Artifact

OpenVersion = Callable[[Connection, str, str], "Artifact"]
"""Makes the artifact of a version: given the collection, and a number or alias."""


class Artifacts(PagedList["Artifact"]):
    """Versions, newest first. An item is read from the volume when it is asked for."""


class ArtifactCollection:
    """All versions of one name.

    Example:
        >>> collection = artfs.Api().artifact_collection("model", "mnist-cnn")
        >>> [artifact.version for artifact in collection.artifacts()]
        ['v1', 'v0']
    """

    def __init__(self, connection: Connection, name: str, open_version: OpenVersion) -> None:
        self._connection, self._name, self._open_version = connection, name, open_version
        self._facts = self._client().collection(name)
        self._description = str(self._facts["description"])
        self._tags: list[str] = list(self._facts["tags"])

    def _client(self) -> Client:
        return self._connection.client()

    def __repr__(self) -> str:
        return f"<ArtifactCollection {self.name} ({self.type})>"

    @property
    def name(self) -> str:
        """The name; in a registry, the name within it.

        A collection can't be renamed: pending versions, links and runs know it by its name.
        """
        return short(self._name)

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
        """What all its versions hold, like ``model``. It can't be changed."""
        return str(self._facts["type"])

    @type.setter
    def type(self, value: str) -> None:
        if value != self.type:
            raise UnsupportedError(f"'{self.name}' has the type '{self.type}', which can't be changed")

    @property
    def entity(self) -> str:
        """The entity that it belongs to; empty if none was ever named."""
        return self._client().scope(self._name).entity

    @property
    def project(self) -> str:
        """The project or registry that it belongs to; empty if none was ever named."""
        return self._client().scope(self._name).project

    @property
    def description(self) -> str:
        """Free text; :meth:`save` stores what is set."""
        return self._description

    @description.setter
    def description(self, value: str | None) -> None:
        self._description = arguments.description("description", value)

    @property
    def tags(self) -> list[str]:
        """Tags of the collection; :meth:`save` stores what is set, appended or removed."""
        return self._tags

    @tags.setter
    def tags(self, value: Iterable[str] | str) -> None:
        self._tags = arguments.tags("tags", value)

    @property
    def ttl(self) -> timedelta | None:
        """The time to live of versions that have none of their own; None: for ever. Setting it stores it.

        Example:
            >>> collection.ttl = timedelta(days=30)
        """
        found = self._client().collection_ttl(self._name)
        return None if found is None else timedelta(seconds=found)

    @ttl.setter
    def ttl(self, value: timedelta | None) -> None:
        seconds = None if value is None else arguments.seconds("ttl", value)
        self._client().set_collection_ttl(self._name, seconds)

    @property
    def aliases(self) -> list[str]:
        """All aliases of its versions."""
        return arguments.decoded_aliases(
            alias for version in self._versions() for alias in version["aliases"]
        )

    @property
    def created_at(self) -> str | None:
        """When its oldest version that is not deleted was made; None if there is none."""
        return next((str(version["created_at"]) for version in self._versions()), None)

    @property
    def updated_at(self) -> str | None:
        """When its newest version was made; None if there is none."""
        return next((str(version["created_at"]) for version in reversed(self._versions())), None)

    def is_sequence(self) -> bool:
        """Tells whether versions are logged to it; those of a registry's collection are linked.

        Example:
            >>> api.artifact_collection("dataset", "mnist").is_sequence()
            True
        """
        return not split(self._name)[0]

    def _versions(self) -> list[dict[str, Any]]:
        return self._client().versions(self._name)

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
            lambda line: self._open_version(self._connection, self._name, line["version"]),
            itemgetter("version"),
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
        client = self._client()
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
        client = self._client()
        for version in client.versions(self._name):
            if holding_aliases := client.holding_aliases(self._name, version["version"]):
                client.unalias(self._name, holding_aliases)
            client.remove(self._name, version["version"])
        client.remove_collection(self._name)
