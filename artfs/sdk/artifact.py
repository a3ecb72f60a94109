"""The artifact: wandb's class over a version, or over the pending version that becomes one.

Owns the public names of labels, saving, links and lineage. Those of identity, of reading and of adding files
have modules of their own, which share nothing but the artifact's state
(:class:`~artfs.sdk.artifact_state.ArtifactState`). One thread at a time.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any

from artfs.errors import CollectionNotFound
from artfs.sdk import arguments, qualified_names, run_context
from artfs.sdk.artifact_adding import ArtifactAdding
from artfs.sdk.artifact_collection import ArtifactCollection
from artfs.sdk.artifact_identity import ArtifactIdentity
from artfs.sdk.artifact_labels import ArtifactTTL
from artfs.sdk.artifact_reading import ArtifactReading
from artfs.sdk.artifact_state import ArtifactState
from artfs.sdk.connection import Connection, connect
from artfs.sdk.json_values import checked_metadata
from artfs.sdk.run_record import RunRecord


class Artifact(ArtifactIdentity, ArtifactReading, ArtifactAdding):
    """A version of a named collection, or a draft of one.

    `name` is the collection's, `type` says what it holds, like ``model`` or ``dataset``. Files that are added
    are stored at once; ``save()`` or ``run.log_artifact()`` makes the version. With a `distributed_id`, an
    addition of artfs, they go to the one pending version of that id, which many runs fill; without, they go
    there at ``run.upsert_artifact()``.

    Raises TypeError and ValueError, which name the argument.

    Example:
        >>> artifact = artfs.Artifact("digits", type="dataset", metadata={"rows": 60000})
        >>> artifact.add_dir("data/")
        >>> artifact.save()
        >>> artifact.version
        'v0'
    """

    def __init__(
        self,
        name: str,
        type: str,
        description: str | None = None,
        metadata: Mapping[str, Any] | str | None = None,
        incremental: bool = False,
        use_as: str | None = None,
        *,
        distributed_id: str | None = None,
    ) -> None:
        if incremental:
            raise ValueError("incremental=True is not supported: a version's new_draft() begins the next")
        name, kind = arguments.collection("name", name), arguments.kind("type", type)
        description = arguments.description("description", description)
        metadata = checked_metadata("metadata", metadata)
        encoded = (
            None if distributed_id is None else arguments.distributed_id("distributed_id", distributed_id)
        )
        self._state = ArtifactState(connect(), name, kind, distributed_id=encoded)
        self._state.labels.description, self._state.labels.metadata = description, metadata
        self._state.use_as = use_as

    @classmethod
    def _of(cls, state: ArtifactState) -> Artifact:
        artifact = cls.__new__(cls)
        artifact._state = state
        return artifact

    @classmethod
    def _from(cls, connection: Connection, collection: str, ref: str) -> Artifact:
        """Returns the artifact of a version. Raises NotFound."""
        return cls._of(ArtifactState.of_version(connection, collection, ref))

    @classmethod
    def _find(cls, connection: Connection, argument: str, name: str, kind: str | None = None) -> Artifact:
        """Returns the artifact of a version by its name, which the user gave for an argument.

        Raises NotFound, and ValueError if it is of another type.
        """
        found = cls._from(connection, *qualified_names.find(connection, argument, name))
        return found._checked(kind)

    def _checked(self, kind: str | None) -> Artifact:
        if kind is not None and self.type != kind:
            raise ValueError(f"type={kind!r}: {self.name} has the type {self.type!r}")
        return self

    def __repr__(self) -> str:
        return f"<Artifact {self.name}>"

    # -- labels, which may be changed at any time

    @property
    def description(self) -> str:
        """Free text; :meth:`save` stores what is set."""
        return self._state.labels.description

    @description.setter
    def description(self, value: str | None) -> None:
        self._state.labels.description = arguments.description("description", value)

    @property
    def metadata(self) -> dict[str, Any]:
        """A JSON object, of up to 16 MiB; :meth:`save` stores what is changed in it.

        NaN becomes null, scalars and arrays of numpy become numbers and lists.

        Example:
            >>> artifact.metadata["accuracy"] = 0.91
            >>> artifact.save()
        """
        return self._state.labels.metadata

    @metadata.setter
    def metadata(self, value: Mapping[str, Any] | str | None) -> None:
        self._state.labels.metadata = checked_metadata("metadata", value)

    @property
    def aliases(self) -> list[str]:
        """The aliases that lead to it; :meth:`save` stores what is appended or removed.

        Example:
            >>> artifact.aliases.append("production")
            >>> artifact.save()
        """
        return self._state.labels.aliases

    @aliases.setter
    def aliases(self, value: Iterable[str] | str) -> None:
        self._state.labels.aliases = arguments.aliases("aliases", value)

    @property
    def tags(self) -> list[str]:
        """Tags, which many versions may have; :meth:`save` stores what is appended or removed."""
        return self._state.labels.tags

    @tags.setter
    def tags(self, value: Iterable[str] | str) -> None:
        self._state.labels.tags = arguments.tags("tags", value)

    @property
    def ttl(self) -> timedelta | None:
        """How long after it was made ``artfs gc`` may delete it, unless an alias other than latest holds it.

        None: for ever. Set it to a timedelta, to None, or to ``ArtifactTTL.INHERIT`` for the collection's.

        Example:
            >>> artifact.ttl = timedelta(days=30)
            >>> artifact.save()
        """
        ttl = self._state.labels.ttl
        return None if isinstance(ttl, ArtifactTTL) else ttl

    @ttl.setter
    def ttl(self, value: timedelta | ArtifactTTL | None) -> None:
        if value is not None and not isinstance(value, ArtifactTTL):
            arguments.seconds("ttl", value)
        self._state.labels.ttl, self._state.labels.ttl_is_set = value, True

    # -- saving

    def save(self, project: str | None = None, settings: object = None) -> None:
        """Makes the version, durably; of an existing version, stores its changed labels.

        A run that is under way is recorded as the one that made it. If nothing differs from the newest
        version, no new one is made: the artifact then is that one, and ``unchanged`` is True. Tags and
        metadata that were given are added to those it has, and a description replaces its own; a line on
        stderr says so. In a run with ``mode="disabled"`` it does nothing.

        Aliases, tags and keys of the metadata that others changed since this artifact was last read or saved
        stay as they set them, unless they are changed here, too.

        Example:
            >>> artifact.save()
            >>> artifact.version, artifact.unchanged
            ('v1', False)
        """
        run = run_context.run()
        if run is not None and run.disabled:
            return
        if self.is_draft():
            entity = run_context.scope().entity
            scope = qualified_names.scope_of("project", entity, project) if project else None
            self._state.finish(run_context.run_id(), [], [], scope=scope)
        else:
            self._state.store_labels()

    def finalize(self) -> None:
        """Makes the artifact refuse files from now on; ``save()`` and ``log_artifact()`` still work.

        Example:
            >>> artifact.finalize()
            >>> artifact.save()
        """
        self._state.finalized = True

    def wait(self, timeout: int | None = None) -> Artifact:
        """Returns at once: saving waits by itself.

        Example:
            >>> run.log_artifact(artifact).wait().version
            'v1'
        """
        self._state.version("version")
        return self

    def new_draft(self) -> Artifact:
        """Returns a draft that begins as this version, to be changed and saved as the next one.

        Only what is changed is stored anew. The draft of a link is one of its source, in that collection.

        Example:
            >>> draft = artfs.Api().artifact("mnist:latest").new_draft()
            >>> draft.remove("raw/b.csv")
            >>> draft.add_file("part-3.csv", "raw/c.csv")
            >>> draft.save()
        """
        collection, version = self._state.source()
        draft = ArtifactState(self._state.connection, collection, self.type, base=version)
        draft.labels.description = self.description
        draft.labels.metadata = checked_metadata("metadata", self.metadata)
        draft.open_draft().start()
        return self._of(draft)

    def delete(self, delete_aliases: bool = False) -> None:
        """Deletes the version for good. With `delete_aliases` also those that would hold it.

        Raises HeldByAlias.

        Example:
            >>> artfs.Api().artifact("mnist:v0").delete(delete_aliases=True)
        """
        self._state.delete(with_aliases=delete_aliases)

    # -- links

    @property
    def collection(self) -> ArtifactCollection:
        """The collection: all versions of this name."""
        return self._collection(self._state.collection)

    @property
    def source_collection(self) -> ArtifactCollection:
        """The collection of the version that a link was made from; of any other its own."""
        return self._collection(self._state.source()[0])

    def _collection(self, name: str) -> ArtifactCollection:
        return ArtifactCollection(self._state.connection, name, self._from)

    @property
    def source_artifact(self) -> Artifact:
        """The version that a link was made from; of any other itself. Raises NotFound if it was deleted."""
        return self._from(self._state.connection, *self._state.source()) if self.is_link else self

    @property
    def linked_artifacts(self) -> list[Artifact]:
        """The links to this version; of a link none. Looks through all collections."""
        if self.is_link:
            return []
        state, source = self._state, f"{self._state.collection}:{self._state.version('linked_artifacts')}"
        return [
            self._from(state.connection, found["name"], version)
            for found in state.client().collections()
            if found["name"] != state.collection
            for version in self._links(found["name"], source)
        ]

    def _links(self, collection: str, source: str) -> list[str]:
        """Returns the versions of a collection that are links to `source`."""
        with contextlib.suppress(CollectionNotFound):
            versions = self._state.client().versions(collection)
            return [str(status["version"]) for status in versions if status.get("link") == source]
        return []

    def link(self, target_path: str, aliases: Iterable[str] | str | None = None) -> Artifact:
        """Makes the version one of another collection, too, without copying it, and returns that.

        `target_path` is ``wandb-registry-REGISTRY/NAME``, ``PROJECT/NAME`` or ``NAME``, with an entity before
        it or not. A draft is saved first. The link has the version's description, metadata and tags as they
        are now; a second link to the same version is the first one. A link to a link is one to its source.

        Raises ValueError for the version's own collection, and for one that belongs to another project.

        Example:
            >>> api.artifact("mnist-cnn:best").link("wandb-registry-model/digits", aliases=["candidate"])
        """
        scope, target, _ = qualified_names.parse("target_path", target_path)
        given = arguments.aliases("aliases", aliases)
        if self.is_draft():
            self.save()
        state = self._state
        collection, version = state.source()
        if target == collection:
            raise ValueError(
                f"target_path={target_path!r}: {self.name} is a version of that collection itself"
            )
        scope, source = scope or run_context.scope(), f"{collection}:{version}"
        if there := self._links(target, source):
            if scope:
                state.client().claim(target, scope)
            linked = ArtifactState.of_version(state.connection, target, there[0])
            linked.labels.aliases.extend(given)
            linked.store_labels()
            linked.unchanged = True
        else:
            linked = ArtifactState(state.connection, target, self.type, base=source, link=True)
            linked.labels.description = self.description
            linked.labels.metadata, linked.labels.tags = {**self.metadata}, [*self.tags]
            linked.finish(run_context.run_id(), given, [], scope=scope)
        return self._of(linked)

    def unlink(self) -> None:
        """Deletes a version that :meth:`link` made, with its aliases; the one it was made from stays.

        Raises ValueError for any other.

        Example:
            >>> artfs.Api().artifact("wandb-registry-model/digits:production").unlink()
        """
        if not self.is_link:
            raise ValueError(f"{self.name} is no link: delete() deletes it")
        self.delete(delete_aliases=True)

    # -- lineage

    def logged_by(self) -> RunRecord | None:
        """Returns the run that made the version first; None if no run did.

        Example:
            >>> logged.logged_by().id
            'k3v9x0ab'
        """
        return next(iter(self.producers()), None)

    def producers(self) -> list[RunRecord]:
        """Returns all runs that made the version: those that filled it, and those that made it again.

        Example:
            >>> [run.id for run in api.artifact("predictions:latest").producers()]
            ['part-1', 'part-2', 'finish']
        """
        return self._runs("runs")

    def used_by(self) -> list[RunRecord]:
        """Returns the runs that used the version.

        Example:
            >>> [run.id for run in logged.used_by()]
            ['eval-1', 'eval-2']
        """
        return self._runs("used_by")

    def _runs(self, key: str) -> list[RunRecord]:
        return [RunRecord.find(self._state.connection, run, self._from) for run in self._state.runs(key)]
