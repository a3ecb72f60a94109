"""The artifact: wandb's class over a version, or over the pending version that becomes one.

Owns saving, and what is known of an artifact beside its files.
"""

from __future__ import annotations

import contextlib
import copy
import logging
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from artfs.errors import AlreadyFinishedError, CollectionNotFound, DraftNotFoundError, NotFound
from artfs.model import names
from artfs.model.scope import Scope
from artfs.sdk import arguments, current, metadata, scopes
from artfs.sdk.adding import Adding
from artfs.sdk.core import STORED, ArtifactTTL, Core, Labels, connect
from artfs.sdk.draft import Draft
from artfs.sdk.facts import Facts
from artfs.sdk.naming import Naming

if TYPE_CHECKING:
    from artfs.sdk.collections import ArtifactCollection
    from artfs.sdk.records import RunRecord

_log = logging.getLogger("artfs")


class Artifact(Adding, Naming, Facts):
    """A version of a named collection, or what shall become one.

    `name` is the collection's, `type` says what it holds, like ``model`` or ``dataset``. Files that are added
    are stored at once; ``save()`` or ``run.log_artifact()`` makes the version. With a `distributed_id` (ours)
    they go to the one pending version of that id, which many runs fill, as they are added; without, they go
    there when ``run.upsert_artifact()`` says so.

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
        type: str,  # noqa: A002  (wandb's name)
        description: str | None = None,
        metadata: Mapping[str, Any] | str | None = None,
        incremental: bool = False,
        use_as: str | None = None,
        *,
        distributed_id: str | None = None,
    ) -> None:
        if incremental:
            raise ValueError("incremental: an artifact begins as another one by that one's new_draft()")
        name, kind = arguments.collection("name", name), arguments.kind("type", type)
        described, given = arguments.description("description", description), _metadata(metadata)
        encoded = (
            None if distributed_id is None else arguments.distributed_id("distributed_id", distributed_id)
        )
        super().__init__(connect(), name, kind)
        self._use_as = use_as
        self._labels.description, self._labels.metadata = described, given
        if encoded is not None:
            self._draft = Draft(self._connection, name, kind, distributed_id=encoded)

    @classmethod
    def _from(cls, connection: Any, collection: str, ref: str) -> Artifact:
        found: Artifact = cls._of_version(connection, collection, ref)
        return found

    @classmethod
    def _named(cls, name: str) -> Artifact:
        """Returns the artifact of a version by what a user calls it. Raises NotFound."""
        connection = connect()
        return cls._from(connection, *scopes.find(connection, "name", name))

    def __repr__(self) -> str:
        return f"<Artifact {self.name}>"

    # -- what it is

    @property
    def type(self) -> str:
        """What it holds, like ``model``; one for all versions of a name."""
        return self._type

    @property
    def id(self) -> str:
        """The name and number of the version."""
        return f"{self._collection}:{self._version('id')}"

    @property
    def version(self) -> str:
        """The number of the version: ``v0``. Raises ArtifactNotLoggedError before there is one."""
        return self._version("version")

    @property
    def digest(self) -> str:
        """The digest of names, kinds, contents, exec bits and link targets: equal for equal versions."""
        return self._fact("digest")

    @property
    def size(self) -> int:
        """The bytes of all files; of a draft as it stands."""
        return self._count("size", "bytes")

    @property
    def file_count(self) -> int:
        """The number of files; of a draft as it stands."""
        return self._count("file_count", "files")

    def _count(self, key: str, pending_key: str) -> int:
        if self._draft is not None:
            self._look_whether_finished()
        draft = self._draft
        if draft is None:
            return int(self._status[key])
        return int(draft.status()[pending_key]) if draft.started or draft.base else 0

    @property
    def created_at(self) -> str:
        """When the version was made: ISO 8601 in UTC."""
        return self._fact("created_at")

    @property
    def updated_at(self) -> str:
        """When its description, metadata, tags or ttl were last changed; at first when it was made."""
        return self._access().updated_at(self._collection, self._version("updated_at"))

    @property
    def distributed_id(self) -> str | None:
        """The id under which many runs made it; None for an artifact of one."""
        raw = self._draft.id if self._draft is not None else _bytes(self._status["distributed_id"])
        return None if names.is_private(raw) else arguments.decoded_id(raw)

    @distributed_id.setter
    def distributed_id(self, value: str | None) -> None:
        encoded = None if value is None else arguments.distributed_id("distributed_id", value)
        draft = self._open_draft()
        if draft.started:
            raise ValueError("distributed_id: it is set before the first file is added")
        self._draft = Draft(self._connection, self._collection, self._type, distributed_id=encoded)

    @property
    def state(self) -> str:
        """``PENDING``, ``COMMITTED`` or ``DELETED``."""
        if self._deleted:
            return "DELETED"
        return "PENDING" if self.is_draft() else "COMMITTED"

    def is_draft(self) -> bool:
        """Tells whether it is no version yet.

        Example:
            >>> artfs.Artifact("mnist", type="dataset").is_draft()
            True
        """
        if self._draft is not None:
            self._look_whether_finished()
        return self._draft is not None

    def _fact(self, key: str) -> str:
        self._version(key)
        return str(self._status[key])

    # -- what may be changed at any time; save() stores it

    @property
    def description(self) -> str:
        """Free text. Of a version ``save()`` stores what is set."""
        return self._labels.description

    @description.setter
    def description(self, value: str | None) -> None:
        self._labels.description = arguments.description("description", value)

    @property
    def metadata(self) -> dict[str, Any]:
        """A JSON object, of up to 16 MiB. NaN becomes null, numpy's scalars and arrays numbers and lists.

        Example:
            >>> artifact.metadata["accuracy"] = 0.91
            >>> artifact.save()
        """
        return self._labels.metadata

    @metadata.setter
    def metadata(self, value: Mapping[str, Any] | str | None) -> None:
        self._labels.metadata = _metadata(value)

    @property
    def aliases(self) -> list[str]:
        """The aliases that lead to it. What is appended or removed counts from ``save()`` on.

        Example:
            >>> artifact.aliases.append("production")
            >>> artifact.save()
        """
        return self._labels.aliases

    @aliases.setter
    def aliases(self, value: Iterable[str] | str) -> None:
        self._labels.aliases = arguments.aliases("aliases", value)

    @property
    def tags(self) -> list[str]:
        """Free labels; many versions may bear the same."""
        return self._labels.tags

    @tags.setter
    def tags(self, value: Iterable[str] | str) -> None:
        self._labels.tags = arguments.tags("tags", value)

    @property
    def ttl(self) -> timedelta | None:
        """How long after it was made ``artfs gc`` may take it, unless an alias other than latest holds it.

        None: for ever. Set it to a timedelta, to None, or to ``ArtifactTTL.INHERIT`` for the collection's.

        Example:
            >>> artifact.ttl = timedelta(days=30)
            >>> artifact.save()
        """
        if isinstance(self._labels.ttl, ArtifactTTL):
            return None
        return self._labels.ttl

    @ttl.setter
    def ttl(self, value: timedelta | ArtifactTTL | None) -> None:
        if value is not None and not isinstance(value, ArtifactTTL):
            arguments.seconds("ttl", value)
        self._labels.ttl, self._labels.ttl_is_set = value, True

    # -- saving

    def save(self, project: str | None = None, settings: object = None) -> None:
        """Makes the version, durably, and of one that is there stores its changed labels.

        In a run that is going on, the run is noted as the one that made it. If nothing differs from the
        newest version no new one is made: it is that one then, and ``unchanged`` is True. Tags and metadata
        that were given are added to those it has, and a description replaces its own; a line on stderr says
        so.

        In a run with ``mode="disabled"`` it does nothing.

        Aliases, tags and keys of the metadata that others changed since this artifact was last read or saved
        stay as they set them, unless they are changed here, too.

        Example:
            >>> artifact.save()
            >>> artifact.version, artifact.unchanged
            ('v1', False)
        """
        del settings
        run = current.run()
        if run is not None and run.disabled:
            return
        if self.is_draft():
            scope = scopes.of("project", current.scope().entity, project) if project else None
            self._finish(current.run_id(), [], [], scope=scope)
        else:
            self._store_labels()

    def _finish(
        self,
        run: str | None,
        aliases: list[str],
        tags: list[str],
        wait: float | None = None,
        *,
        scope: Scope | None = None,
    ) -> None:
        """Turns the draft into a version, in a scope that is by default the run's."""
        draft = self._draft
        assert draft is not None
        if draft.shared and not draft.started:
            self._find_draft(draft)
        labels = self._checked_labels(aliases, tags)
        draft.claim(scope or current.scope(run))
        self._finalized = True
        try:
            self._note(draft, labels)
            with draft.joined(run):
                pass  # to have been there: the version then names it
            answer = draft.finish(arguments.encoded_aliases(labels.aliases), wait=wait)
        except AlreadyFinishedError:
            # Of this very draft, by another run: harmless, as finishing again is.
            named = arguments.encoded_aliases(labels.aliases)
            answer = self._access().finish(self._collection, draft.id, named)
            answer |= {"unchanged": True, "updated": self._store_late(answer["version"])}
        except BaseException:
            self._finalized = False
            raise
        if updated := answer.get("updated"):
            what = f"{self._collection}:{answer['version']}"
            _log.warning("%s is there already: it got the given %s", what, ", ".join(updated))
        if labels.ttl_is_set:
            self._access().relabel(self._collection, answer["version"], {"ttl": _ttl(labels.ttl)})
        self.unchanged = bool(answer["unchanged"])
        self._become(self._access().version(self._collection, answer["version"]))

    def _store_late(self, version: str) -> list[str]:
        """Adds the labels that the draft was not given before it was finished; returns which there are."""
        changes, since = self._labels.changed(self._saved, *STORED)
        changes = {key: value for key, value in changes.items() if value}
        if changes:
            self._access().relabel(self._collection, version, changes, since)
        return sorted(changes)

    def _find_draft(self, draft: Draft) -> None:
        """Raises DraftNotFoundError if nobody started the id."""
        try:
            draft.connection.client().pending_status(self._collection, draft.id)
        except AlreadyFinishedError:
            pass
        except NotFound:
            raise DraftNotFoundError(self._collection, draft.id) from None
        draft.started = True

    def _checked_labels(self, aliases: list[str], tags: list[str]) -> Labels:
        """Checks what users may have put into the lists and dictionaries that they were given."""
        labels = self._labels
        labels.aliases = list(dict.fromkeys([*arguments.aliases("aliases", labels.aliases), *aliases]))
        labels.tags = list(dict.fromkeys([*arguments.tags("tags", labels.tags), *tags]))
        labels.metadata = _metadata(labels.metadata)
        return labels

    def _note(self, draft: Draft, labels: Labels) -> None:
        draft.note(
            aliases=arguments.encoded_aliases(labels.aliases),
            tags=labels.tags,
            description=labels.description,
            metadata=labels.metadata,
        )
        self._saved = copy.deepcopy(labels)

    def _store_labels(self) -> None:
        labels, saved, client = self._checked_labels([], []), self._saved, self._access()
        version = self._version("labels")
        changes, since = labels.changed(saved, *STORED)
        if labels.ttl_is_set:
            changes["ttl"] = _ttl(labels.ttl)
        if changes:
            client.relabel(self._collection, version, changes, since)
        if added := [alias for alias in labels.aliases if alias not in saved.aliases]:
            client.alias(self._collection, version, arguments.encoded_aliases(added))
        # What others have moved to another version meanwhile is theirs.
        has = client.version(self._collection, version)["aliases"]
        given_up = arguments.encoded_aliases({*saved.aliases} - {*labels.aliases, names.LATEST})
        if removed := [alias for alias in has if alias in given_up]:
            client.unalias(self._collection, removed)
        self._become(client.version(self._collection, version))

    def _upsert(self, distributed_id: bytes, run: str, *, overwrite: bool = False) -> None:
        """Hands the files over to the pending version of a distributed id."""
        own = self._open_draft()
        if own.shared and own.id != distributed_id:
            raise ValueError(f"distributed_id: the artifact's files are in {self.distributed_id!r} already")
        labels = self._checked_labels([], [])
        target = own
        if not own.shared:
            target = Draft(self._connection, self._collection, self._type, distributed_id=distributed_id)
        target.claim(current.scope(run))
        target.start()
        with target.joined(run):
            if own is not target and own.started:
                own.hand_over(target, run, replace=overwrite)
            self._note(target, labels)
        self._draft, self._finalized = target, True

    def _finish_distributed(
        self, distributed_id: bytes, run: str, aliases: list[str], *, overwrite: bool, wait: float | None
    ) -> None:
        """Makes the version of a distributed id, with the files of this artifact if it has any."""
        if self._draft is None:
            own = _bytes(self._status["distributed_id"])
            if own != distributed_id:
                raise ValueError(f"artifact_or_path: it is {self.name} already, of another distributed_id")
        elif self._draft.started and not self._draft.shared:
            self._upsert(distributed_id, run, overwrite=overwrite)
        elif self._draft.id != distributed_id:
            self._draft = Draft(self._connection, self._collection, self._type, distributed_id=distributed_id)
        if self._draft is None:
            self._labels.aliases.extend(aliases)
            self._store_labels()
        else:
            self._finish(run, aliases, [], wait=wait)

    def _note_use(self, run: str) -> None:
        self._access().record_use(self._collection, self._version("version"), run)

    def finalize(self) -> None:
        """Lets the artifact take no files any more; ``save()`` and ``log_artifact()`` still work.

        Example:
            >>> artifact.finalize()
            >>> artifact.save()
        """
        self._finalized = True

    def wait(self, timeout: int | None = None) -> Artifact:
        """Returns at once: saving waits by itself.

        Example:
            >>> run.log_artifact(artifact).wait().version
            'v1'
        """
        del timeout
        self._version("version")
        return self

    def new_draft(self) -> Artifact:
        """Returns a draft that begins as this version, to be changed and saved as the next one.

        Only what is changed is stored anew. Of a link it is one of its source, in that collection.

        Example:
            >>> draft = artfs.Api().artifact("mnist:latest").new_draft()
            >>> draft.remove("raw/b.csv")
            >>> draft.add_file("part-3.csv", "raw/c.csv")
            >>> draft.save()
        """
        collection, version = self._source()
        draft = type(self).__new__(type(self))
        Core.__init__(draft, self._connection, collection, self._type)
        draft._labels.description = self.description
        draft._labels.metadata = _metadata(self.metadata)
        draft._draft = Draft(self._connection, collection, self._type, base=version)
        draft._draft.start()
        return draft

    def delete(self, delete_aliases: bool = False) -> None:
        """Deletes the version for good. With `delete_aliases` also those that would hold it.

        Raises HeldByAlias.

        Example:
            >>> artfs.Api().artifact("mnist:v0").delete(delete_aliases=True)
        """
        version, client = self._version("delete"), self._access()
        if delete_aliases and (holders := client.holding_aliases(self._collection, version)):
            client.unalias(self._collection, holders)
        client.remove(self._collection, version)
        self._deleted = True

    @property
    def linked_artifacts(self) -> list[Artifact]:
        """The links to this version; of a link none. Looks through all collections."""
        if self.is_link:
            return []
        source, client = f"{self._collection}:{self._version('linked_artifacts')}", self._access()
        return [
            self._from(self._connection, found["name"], status["version"])
            for found in client.collections()
            if found["name"] != self._collection
            for status in self._links(found["name"], source)
        ]

    def _links(self, collection: str, source: str) -> list[dict[str, Any]]:
        with contextlib.suppress(CollectionNotFound):
            return [status for status in self._access().versions(collection) if status.get("link") == source]
        return []

    # -- making and removing links

    def link(self, target_path: str, aliases: Iterable[str] | str | None = None) -> Artifact:
        """Makes the version one of another collection, too, without copying it, and returns that.

        `target_path` is ``wandb-registry-REGISTRY/NAME``, ``PROJECT/NAME`` or ``NAME``, with an entity before
        it or not. A draft is saved first. The link has the version's description, metadata and tags as they
        are now; a second link to the same version is the first one. A link to a link is one to its source.

        Raises ValueError for the version's own collection, and for one that belongs to another project.

        Example:
            >>> api.artifact("mnist-cnn:best").link("wandb-registry-model/digits", aliases=["candidate"])
        """
        scope, target, _ = scopes.parse("target_path", target_path)
        given = arguments.aliases("aliases", aliases)
        if self.is_draft():
            self.save()
        collection, version = self._source()
        if target == collection:
            raise ValueError(
                f"target_path={target_path!r}: {self.name} is a version of that collection itself"
            )
        source = f"{collection}:{version}"
        scope = scope or current.scope()
        if there := self._links(target, source):
            if scope:
                self._access().claim(target, scope)
            linked = self._from(self._connection, target, there[0]["version"])
            linked.aliases.extend(given)
            linked._store_labels()
            linked.unchanged = True
            return linked
        linked = type(self).__new__(type(self))
        Core.__init__(linked, self._connection, target, self._type)
        labels = linked._labels
        labels.description, labels.metadata, labels.tags = self.description, {**self.metadata}, [*self.tags]
        linked._draft = Draft(self._connection, target, self._type, base=source, link=True)
        linked._finish(current.run_id(), given, [], scope=scope)
        return linked

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
        made = self.producers()
        return made[0] if made else None

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
        from artfs.sdk.records import RunRecord

        status = self._access().version(self._collection, self._version(key))
        if key == "runs" and self.is_link:  # which the source's runs have made
            with contextlib.suppress(NotFound):
                status = self._access().version(*self._source())
        return [RunRecord.find(self._connection, run) for run in status[key]]

    @property
    def collection(self) -> ArtifactCollection:
        """The collection: all versions of this name."""
        from artfs.sdk.collections import ArtifactCollection

        return ArtifactCollection(self._connection, self._collection)


def _metadata(value: Mapping[str, Any] | str | None) -> dict[str, Any]:
    return metadata.converted("metadata", value)


def _ttl(value: timedelta | ArtifactTTL | None) -> int | str:
    if isinstance(value, ArtifactTTL):
        return str(value.value)
    return "none" if value is None else arguments.seconds("ttl", value)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


__all__ = ["Artifact"]
