"""The volume as wandb's ``Api`` shows it: artifacts, their types and collections, runs.

Owns lists. Every answer is the present state; nothing needs a run.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from artfs.errors import InvalidName, NotFound, RunNotFound
from artfs.sdk import arguments, scopes
from artfs.sdk.artifact import Artifact
from artfs.sdk.connection import Connection, connect
from artfs.sdk.records import RunRecord


class ArtifactCollection:
    """All versions of one name.

    Example:
        >>> collection = artfs.Api().artifact_collection("model", "mnist-cnn")
        >>> [artifact.version for artifact in collection.artifacts()]
        ['v1', 'v0']
    """

    def __init__(self, connection: Connection, name: str) -> None:
        self._connection, self._name = connection, name
        self._facts = connection.access().collection(name)
        self._description = str(self._facts["description"])

    def __repr__(self) -> str:
        return f"<ArtifactCollection {self.name} ({self.type})>"

    @property
    def name(self) -> str:
        """The name, of a collection in a registry the one within it."""
        return scopes.short(self._name)

    @property
    def type(self) -> str:
        """What its versions hold, like ``model``."""
        return str(self._facts["type"])

    @property
    def description(self) -> str:
        """Free text; what is set is stored by :meth:`save`."""
        return self._description

    @description.setter
    def description(self, value: str | None) -> None:
        self._description = arguments.description("description", value)

    @property
    def ttl(self) -> timedelta | None:
        """How long its versions live that have no ttl of their own; None: for ever. Setting it stores it.

        Example:
            >>> collection.ttl = timedelta(days=30)
        """
        found = self._connection.access().collection_ttl(self._name)
        return None if found is None else timedelta(seconds=found)

    @ttl.setter
    def ttl(self, value: timedelta | None) -> None:
        seconds = None if value is None else arguments.seconds("ttl", value)
        self._connection.access().set_collection_ttl(self._name, seconds)

    @property
    def aliases(self) -> list[str]:
        """All aliases of its versions."""
        versions = self._connection.access().versions(self._name)
        return arguments.decoded_aliases(alias for version in versions for alias in version["aliases"])

    def artifacts(self, per_page: int = 50) -> list[Artifact]:
        """Returns its versions, newest first.

        Example:
            >>> [artifact.version for artifact in collection.artifacts()]
            ['v1', 'v0']
        """
        del per_page
        versions = self._connection.access().versions(self._name)
        return [
            Artifact._from(self._connection, self._name, version["version"]) for version in reversed(versions)
        ]

    versions = artifacts

    def save(self) -> None:
        """Stores the description.

        Example:
            >>> collection.description = "Digits, cleaned"
            >>> collection.save()
        """
        self._connection.access().describe_collection(self._name, self._description)

    def delete(self) -> None:
        """Deletes all its versions and aliases, and the collection.

        Raises NotEmpty if something is pending, after the versions are gone.

        Example:
            >>> artfs.Api().artifact_collection("dataset", "scratch").delete()
        """
        access = self._connection.access()
        for version in access.versions(self._name):
            if holders := access.holders(self._name, version["version"]):
                access.unalias(self._name, holders)
            access.remove(self._name, version["version"])
        access.remove_collection(self._name)


class ArtifactType:
    """All collections of one type.

    Example:
        >>> [collection.name for collection in artfs.Api().artifact_type("model").collections()]
        ['mnist-cnn']
    """

    def __init__(self, connection: Connection, name: str, project: str | None = None) -> None:
        self._connection, self.name, self._project = connection, name, project

    def __repr__(self) -> str:
        return f"<ArtifactType {self.name}>"

    def collections(self, per_page: int = 50) -> list[ArtifactCollection]:
        """Returns its collections, by name.

        Example:
            >>> [collection.name for collection in artfs.Api().artifact_type("model").collections()]
            ['mnist-cnn']
        """
        del per_page
        return [
            ArtifactCollection(self._connection, found["name"])
            for found in scopes.collections(self._connection, "project", self._project)
            if found["type"] == self.name
        ]

    def collection(self, name: str) -> ArtifactCollection:
        """Returns one of them. Raises ValueError if it is of another type.

        Example:
            >>> artfs.Api().artifact_type("model").collection("mnist-cnn").aliases
            ['best', 'latest']
        """
        found = ArtifactCollection(self._connection, scopes.find(self._connection, "name", name)[0])
        if found.type != self.name:
            raise ValueError(f"name={name!r}: it has the type {found.type!r}, not {self.name!r}")
        return found


class Api:
    """What there is in the volume.

    Example:
        >>> api = artfs.Api()
        >>> api.artifact("mnist:latest").download()
    """

    def __init__(self, overrides: Any = None, timeout: int | None = None, api_key: str | None = None) -> None:
        del overrides, timeout, api_key
        self._connection = connect()

    def artifact(self, name: str, type: str | None = None) -> Artifact:  # noqa: A002
        """Returns a version: ``name:v3``, ``name:alias``, or ``name`` for the newest.

        Raises NotFound, and ValueError if it is of another `type`.

        Example:
            >>> api.artifact("mnist:best").metadata
            {'rows': 60000}
        """
        found = Artifact._from(self._connection, *scopes.find(self._connection, "name", name))
        if type is not None and found.type != type:
            raise ValueError(f"type={type!r}: {found.name} has the type {found.type!r}")
        return found

    def artifacts(
        self, type_name: str, name: str, per_page: int = 50, tags: Iterable[str] | str | None = None
    ) -> list[Artifact]:
        """Returns all versions of a name, newest first; with `tags` those that bear them all.

        Example:
            >>> [artifact.version for artifact in api.artifacts("dataset", "mnist")]
            ['v1', 'v0']
        """
        del per_page
        wanted = set(arguments.tags("tags", tags))
        found = self.artifact_collection(type_name, name).artifacts()
        return [artifact for artifact in found if wanted <= set(artifact.tags)]

    def artifact_types(self, project: str | None = None) -> list[ArtifactType]:
        """Returns all types that there are, by name; with a `project` or registry those in it.

        Example:
            >>> [kind.name for kind in api.artifact_types()]
            ['dataset', 'model']
        """
        kinds = {found["type"] for found in scopes.collections(self._connection, "project", project)} - {""}
        return [ArtifactType(self._connection, kind, project) for kind in sorted(kinds)]

    def artifact_type(self, type_name: str, project: str | None = None) -> ArtifactType:
        """Returns one type. Raises ValueError if no collection has it.

        Example:
            >>> api.artifact_type("model").collections()
        """
        arguments.text("type_name", type_name)
        if type_name not in [kind.name for kind in self.artifact_types(project)]:
            raise ValueError(f"type_name={type_name!r}: no collection has this type")
        return ArtifactType(self._connection, type_name, project)

    def artifact_collections(
        self, project_name: str | None, type_name: str, per_page: int = 50
    ) -> list[ArtifactCollection]:
        """Returns the collections of a type, by name, in a project or registry; in all without one.

        Example:
            >>> api.artifact_collections(None, "dataset")
        """
        del per_page
        return self.artifact_type(type_name, project_name).collections()

    def artifact_collection(self, type_name: str, name: str) -> ArtifactCollection:
        """Returns one collection. Raises CollectionNotFound, and ValueError if it is of another type.

        Example:
            >>> api.artifact_collection("dataset", "mnist").aliases
            ['best', 'latest']
        """
        arguments.text("type_name", type_name)
        return ArtifactType(self._connection, type_name).collection(name)

    def artifact_exists(self, name: str, type: str | None = None) -> bool:  # noqa: A002
        """Tells whether there is such a version.

        Example:
            >>> api.artifact_exists("mnist:v99")
            False
        """
        try:
            found = Artifact._from(self._connection, *scopes.find(self._connection, "name", name))
        except NotFound:
            return False
        return type is None or found.type == type

    def artifact_collection_exists(self, name: str, type: str) -> bool:  # noqa: A002
        """Tells whether there is such a collection.

        Example:
            >>> api.artifact_collection_exists("mnist", "dataset")
            True
        """
        try:
            found = ArtifactCollection(self._connection, scopes.find(self._connection, "name", name)[0])
        except NotFound:
            return False
        return found.type == type

    def run(self, path: str = "") -> RunRecord:
        """Returns a run by its id, with its project before it or not: ``project/id``.

        Raises RunNotFound, also for a run of another project.

        Example:
            >>> [artifact.name for artifact in api.run("k3v9x0ab").used_artifacts()]
            ['mnist:v0']
        """
        *above, run = arguments.text("path", path).split("/")
        try:
            found = RunRecord(self._connection, self._connection.access().run(run))
        except InvalidName:
            raise RunNotFound(run) from None
        if above and above[-1] and found.project not in (None, above[-1]):
            raise RunNotFound(path)
        return found

    def runs(self) -> list[RunRecord]:
        """Returns all runs, by id.

        Example:
            >>> [run.id for run in api.runs() if run.group == "nightly"]
        """
        access = self._connection.access()
        return [RunRecord(self._connection, access.run(run)) for run in access.runs()]
