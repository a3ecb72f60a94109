"""A run as the volume knows it: its facts and config, the versions that it used and made, its summary.

Owns reading that, and what may be changed of a run that has ended. A run that is under way is in
:mod:`~artfs.sdk.run`.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from artfs.errors import InvalidCommand, NotFound, RunNotFound, UnsupportedError, VolumeError
from artfs.sdk import arguments
from artfs.sdk.connection import Connection
from artfs.sdk.json_values import friendly, storable
from artfs.sdk.paged_list import PagedList

if TYPE_CHECKING:
    from artfs.sdk.artifact import Artifact
    from artfs.sdk.artifact_collection import OpenVersion


class RunFacts:
    """What is known of a run, whether it is under way or has ended."""

    def __init__(self, connection: Connection, facts: Mapping[str, Any], open_version: OpenVersion) -> None:
        self._connection, self._open_version = connection, open_version
        # Without a mount too, lists are lists: JSON has no tuples.
        self._facts: dict[str, Any] = {
            key: list(value) if isinstance(value, tuple) else value for key, value in facts.items()
        }

    def __repr__(self) -> str:
        return f"<Run {self.id}>"

    def _fact(self, key: str) -> str | None:
        value = self._facts.get(key)
        return None if value is None else str(value)

    def _keep(self, document: Mapping[str, Any], *, here: bool = False) -> None:
        """Stores facts in the run's record, durably; `here`, also that it begins or ends in this process.

        Raises ValueError for what a record can't hold.
        """
        try:
            self._connection.client().record_run(self.id, document, here=here)
        except InvalidCommand as error:
            raise ValueError(f"run '{self.id}': {error}") from None
        self._facts |= document

    @property
    def id(self) -> str:
        """The id, one word."""
        return str(self._facts["id"])

    @property
    def name(self) -> str:
        """The name that was given to ``init``; without one the same as :attr:`id`."""
        return self._fact("name") or self.id

    @property
    def entity(self) -> str | None:
        """The entity that was named; it means nothing here."""
        return self._fact("entity")

    @property
    def project(self) -> str | None:
        """The project that was named; it means nothing here."""
        return self._fact("project")

    @property
    def group(self) -> str | None:
        """The group, which is the default for the distributed id."""
        return self._fact("group")

    @property
    def job_type(self) -> str | None:
        """What sort of job it is, like ``train``."""
        return self._fact("job_type")

    @property
    def notes(self) -> str | None:
        """Free text."""
        return self._fact("notes")

    @property
    def host(self) -> str | None:
        """The name of the machine that it ran on."""
        return self._fact("host")

    @property
    def state(self) -> str | None:
        """``running``, ``finished`` or ``failed``; ``crashed`` if its process was killed."""
        return self._fact("state")

    @property
    def started_at(self) -> str | None:
        """ISO 8601 in UTC."""
        return self._fact("started_at")

    @property
    def ended_at(self) -> str | None:
        """ISO 8601 in UTC; None while it is under way."""
        return self._fact("ended_at")

    @property
    def url(self) -> None:
        """None: there is no server that shows runs."""
        return None

    def _path(self) -> list[str]:
        return [part for part in (self.entity, self.project, self.id) if part]

    def logged_artifacts(self, per_page: int = 100) -> PagedList[Artifact]:
        """Returns the versions that the run made, without those that were deleted since.

        Example:
            >>> [artifact.name for artifact in record.logged_artifacts()][:2]
            ['mnist:v0', 'mnist:v1']
        """
        return self._artifacts("outputs", per_page)

    def used_artifacts(self, per_page: int = 100) -> PagedList[Artifact]:
        """Returns the versions that the run used, without those that were deleted since.

        Example:
            >>> [artifact.name for artifact in record.used_artifacts()]
            ['mnist:v0']
        """
        return self._artifacts("inputs", per_page)

    def _artifacts(self, key: str, per_page: int) -> PagedList[Artifact]:
        found = []
        for text in self._connection.client().run(self.id)[key]:
            name, _, version = str(text).partition(":")
            with contextlib.suppress(NotFound):
                found.append(self._open_version(self._connection, name, version))
        return PagedList.of(found, per_page)


class RunRecord(RunFacts):
    """One run that the volume knows; see ``Api.run``. :meth:`update` stores what is set.

    Example:
        >>> run = artfs.Api().run("k3v9x0ab")
        >>> run.group, run.state, run.config["lr"]
        ('nightly', 'finished', 0.1)
    """

    def __init__(self, connection: Connection, facts: Mapping[str, Any], open_version: OpenVersion) -> None:
        super().__init__(connection, facts, open_version)
        self._edited: dict[str, Any] = {}

    @classmethod
    def find(cls, connection: Connection, run: str, open_version: OpenVersion) -> RunRecord:
        """Returns a run that a version names; no more than its id may be known."""
        facts: dict[str, Any] = {"id": run}
        with contextlib.suppress(RunNotFound, VolumeError):
            facts = connection.client().run(run)
        return cls(connection, facts, open_version)

    def _editable(self, key: str, empty: Any) -> Any:
        """Returns a value that the caller may change in place."""
        if key not in self._edited:
            self._edited[key] = copy.deepcopy(self._facts.get(key) or empty)
        return self._edited[key]

    @property
    def name(self) -> str:
        """The name that was given to ``init``; without one the same as :attr:`id`."""
        return self._edited.get("name") or super().name

    @name.setter
    def name(self, value: str) -> None:
        self._edited["name"] = arguments.line("name", value)

    @property
    def notes(self) -> str | None:
        """Free text."""
        return self._edited.get("notes", super().notes)

    @notes.setter
    def notes(self, value: str | None) -> None:
        self._edited["notes"] = arguments.description("notes", value)

    @property
    def tags(self) -> list[str]:
        """Tags of the run."""
        found: list[str] = self._editable("tags", [])
        return found

    @tags.setter
    def tags(self, value: Iterable[str] | str) -> None:
        self._edited["tags"] = arguments.tags("tags", value)

    @property
    def config(self) -> dict[str, Any]:
        """What the run was given."""
        found: dict[str, Any] = self._editable("config", {})
        return found

    @property
    def summary(self) -> dict[str, Any]:
        """What the run came to."""
        found: dict[str, Any] = self._editable("summary", {})
        return found

    @property
    def path(self) -> list[str]:
        """Entity and project, as far as they were named, and the id."""
        return self._path()

    @property
    def created_at(self) -> str | None:
        """The same as :attr:`started_at`."""
        return self.started_at

    def load(self, force: bool = False) -> dict[str, Any]:
        """Reads the record again, and returns it; what was set and not stored is lost.

        Example:
            >>> record.load()["state"]
            'finished'
        """
        self._facts, self._edited = self._connection.client().run(self.id), {}
        return copy.deepcopy(self._facts)

    def update(self) -> None:
        """Stores what was changed of name, notes, tags, config and summary.

        Raises UnsupportedError if a key of the config was removed, and PermissionError for a run of another
        user, where the volume is mounted.

        Example:
            >>> record.summary["verdict"] = "good"
            >>> record.update()
        """
        if "tags" in self._edited:
            self._edited["tags"] = arguments.tags("tags", self._edited["tags"])
        after = {key: storable(friendly(value)) for key, value in self._edited.items()}
        changed = {key: value for key, value in after.items() if value != self._facts.get(key)}
        before = {key: self._facts.get(key) or {} for key in ("config", "summary")}
        if "config" in changed and (removed := sorted(before["config"].keys() - changed["config"].keys())):
            raise UnsupportedError(f"run '{self.id}': config[{removed[0]!r}] can't be removed")
        if "summary" in changed:
            changed["summary"] |= dict.fromkeys(before["summary"].keys() - changed["summary"].keys())
        if changed:
            self._keep(changed)
            self.load()

    def save(self) -> None:
        """The same as :meth:`update`.

        Example:
            >>> record.notes = "The learning rate was too high."
            >>> record.save()
        """
        self.update()

    def use_artifact(self, artifact: Artifact, use_as: str | None = None) -> Artifact:
        """Records that the run used a version, and returns it. `use_as` changes nothing.

        Example:
            >>> record.use_artifact(api.artifact("mnist:v0"))
        """
        artifact._state.record_use(self.id)
        return artifact
