"""The volume as wandb's ``Api`` shows it: artifacts, their types and collections, registries, runs.

Owns what may be asked. Every answer is the present state; nothing needs a run. One thread at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from operator import itemgetter
from typing import Any

from artfs.errors import InvalidName, NotFound, RunNotFound
from artfs.sdk import arguments, qualified_names
from artfs.sdk.artifact import Artifact
from artfs.sdk.artifact_collection import ArtifactCollection, Artifacts
from artfs.sdk.artifact_types import ArtifactCollections, ArtifactType, ArtifactTypes
from artfs.sdk.connection import connect
from artfs.sdk.paged_list import PagedList
from artfs.sdk.query import matches, ordered
from artfs.sdk.registries import Registries, Registry, registry_of
from artfs.sdk.run_record import RunRecord

#: The names that wandb has for a run's facts in filters, besides artfs's own.
_RUN_FACTS = {
    "name": "id",
    "display_name": "name",
    "displayName": "name",
    "jobType": "job_type",
    "createdAt": "started_at",
    "created_at": "started_at",
    "summary_metrics": "summary",
}
_RUN_ORDERS = {
    "created_at": "started_at",
    "heartbeat_at": "ended_at",
    "name": "id",
    "state": "state",
    "config": "config",
    "summary_metrics": "summary",
}


class Runs(PagedList[RunRecord]):
    """Runs, in the order that was asked for."""


class Api:
    """The content of the volume.

    Example:
        >>> api = artfs.Api()
        >>> api.artifact("mnist:latest").download()
    """

    def __init__(self, overrides: Any = None, timeout: int | None = None, api_key: str | None = None) -> None:
        self._connection = connect()

    def artifact(self, name: str, type: str | None = None) -> Artifact:
        """Returns a version: ``name:v3``, ``name:alias``, or ``name`` for the newest.

        Raises NotFound, and ValueError if it is of another `type`.

        Example:
            >>> api.artifact("mnist:best").metadata
            {'rows': 60000}
        """
        return Artifact._find(self._connection, "name", name, type)

    def artifacts(
        self,
        type_name: str,
        name: str,
        order: str | None = None,
        per_page: int = 50,
        tags: Iterable[str] | str | None = None,
        start: str | None = None,
    ) -> Artifacts:
        """Returns all versions of a name, newest first; with `tags` those that have them all.

        `order` is ``created_at`` or ``size``, descending with ``-`` before it; `start` is the
        ``cursor`` of an earlier answer.

        Example:
            >>> [artifact.version for artifact in api.artifacts("dataset", "mnist")]
            ['v1', 'v0']
        """
        wanted = set(arguments.tags("tags", tags))
        collection = self.artifact_collection(type_name, name)
        lines = [line for line in reversed(collection._versions()) if wanted <= set(line["tags"])]
        known = {"created_at": "created_at", "createdAt": "created_at", "size": "size"}
        return collection._listed(ordered(lines, order, known), per_page, start)

    def artifact_versions(self, type_name: str, name: str, per_page: int = 50) -> Artifacts:
        """Returns all versions of a name: wandb's older name for :meth:`artifacts`.

        Example:
            >>> len(api.artifact_versions("dataset", "mnist"))
            2
        """
        return self.artifacts(type_name, name, per_page=per_page)

    def artifact_types(self, project: str | None = None, start: str | None = None) -> ArtifactTypes:
        """Returns all types, by name; with a `project` or registry those in it.

        Example:
            >>> [kind.name for kind in api.artifact_types()]
            ['dataset', 'model', 'predictions']
        """
        within = qualified_names.collections(self._connection, "project", project)
        kinds = sorted({found["type"] for found in within} - {""})
        return ArtifactTypes(
            kinds, lambda kind: ArtifactType(self._connection, kind, project), lambda kind: kind, start=start
        )

    def artifact_type(self, type_name: str, project: str | None = None) -> ArtifactType:
        """Returns one type. Raises ValueError if no collection has it.

        Example:
            >>> api.artifact_type("model").collections()
        """
        arguments.text("type_name", type_name)
        if type_name not in (kind.name for kind in self.artifact_types(project)):
            raise ValueError(f"type_name={type_name!r}: no collection has this type")
        return ArtifactType(self._connection, type_name, project)

    def artifact_collections(
        self,
        project_name: str | None,
        type_name: str,
        order: str | None = None,
        per_page: int = 50,
        start: str | None = None,
    ) -> ArtifactCollections:
        """Returns the collections of a type, by name, in a project or registry; in all without one.

        Example:
            >>> api.artifact_collections(None, "dataset")
        """
        found = self.artifact_type(type_name, project_name)
        return found.collections(order=order, per_page=per_page, start=start)

    def artifact_collection(self, type_name: str, name: str) -> ArtifactCollection:
        """Returns one collection. Raises CollectionNotFound, and ValueError if it is of another type.

        Example:
            >>> api.artifact_collection("dataset", "mnist").aliases
            ['best', 'latest']
        """
        arguments.text("type_name", type_name)
        return ArtifactType(self._connection, type_name).collection(name)

    def artifact_exists(self, name: str, type: str | None = None) -> bool:
        """Tells whether there is such a version.

        Example:
            >>> api.artifact_exists("mnist:v99")
            False
        """
        try:
            found = Artifact._find(self._connection, "name", name)
        except NotFound:
            return False
        return type is None or found.type == type

    def artifact_collection_exists(self, name: str, type: str) -> bool:
        """Tells whether there is such a collection.

        Example:
            >>> api.artifact_collection_exists("mnist", "dataset")
            True
        """
        try:
            collection = qualified_names.find(self._connection, "name", name)[0]
            return bool(self._connection.client().collection(collection)["type"] == type)
        except NotFound:
            return False

    def run(self, path: str = "") -> RunRecord:
        """Returns a run by its id, or by ``project/id``.

        Raises RunNotFound, also if the run is of another project.

        Example:
            >>> [artifact.name for artifact in api.run("k3v9x0ab").used_artifacts()]
            ['mnist:v0']
        """
        *above, run = arguments.text("path", path).split("/")
        try:
            found = self._record(self._connection.client().run(run))
        except InvalidName:
            raise RunNotFound(run) from None
        if above and above[-1] and found.project not in (None, above[-1]):
            raise RunNotFound(path)
        return found

    def _record(self, facts: Mapping[str, Any]) -> RunRecord:
        return RunRecord(self._connection, facts, Artifact._from)

    def runs(
        self,
        path: str | None = None,
        filters: Mapping[str, Any] | None = None,
        order: str = "+created_at",
        per_page: int = 50,
        include_sweeps: bool = False,
        lazy: bool = True,
    ) -> Runs:
        """Returns all runs, or those whose project is the last part of `path`.

        `filters` are MongoDB's, over the facts of a run: ``group``, ``state``, ``tags``, ``config.lr``,
        ``summary_metrics.loss`` and the like; ``name`` is the id, ``display_name`` the name. `order` is
        ``created_at``, ``heartbeat_at``, ``config.X`` or ``summary_metrics.X``, descending with ``-``
        before it. `include_sweeps` and `lazy` change nothing.

        Example:
            >>> [run.id for run in api.runs(filters={"group": "nightly", "config.lr": {"$gt": 0.01}})]
        """
        client = self._connection.client()
        project = None if path is None else arguments.text("path", path).rpartition("/")[2]
        lines: list[Mapping[str, Any]] = []
        for facts in map(client.run, client.runs()):
            known = {name: facts[fact] for name, fact in _RUN_FACTS.items()}
            known["display_name"] = known["displayName"] = facts["name"] or facts["id"]
            if project in (None, facts["project"]) and matches({**facts, **known}, filters):
                lines.append(facts)
        return Runs(ordered(lines, order, _RUN_ORDERS), self._record, itemgetter("id"), per_page)

    def registries(
        self,
        organization: str | None = None,
        filter: Mapping[str, Any] | None = None,
        order: str | None = None,
        per_page: int = 100,
        start: str | None = None,
    ) -> Registries:
        """Returns the registries that have a collection, by name; there are no organizations here.

        Example:
            >>> [registry.name for registry in api.registries(filter={"name": {"$regex": "model"}})]
            ['model']
        """
        return Registries(self._connection, filter, order, per_page, start)

    def registry(self, name: str, organization: str | None = None) -> Registry:
        """Returns a registry by its name, without ``wandb-registry-``.

        Raises ValueError if no collection belongs to it.

        Example:
            >>> api.registry("model").collections()
        """
        names = [registry_of(line["name"]) for line in self._connection.client().collections()]
        if arguments.text("name", name) not in names:
            raise ValueError(f"name={name!r}: no collection belongs to a registry of this name")
        return Registry(self._connection, name)

    def flush(self) -> None:
        """Does nothing: no answer is kept.

        Example:
            >>> api.flush()
        """
