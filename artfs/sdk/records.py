"""A run as it is known to the volume: who it was, what it read, what it made.

Owns reading that. What a run that is going on does is in :mod:`~artfs.sdk.run`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from artfs.errors import NotFound, RunNotFound, VolumeError
from artfs.sdk.connection import Connection

if TYPE_CHECKING:
    from artfs.sdk.artifact import Artifact


class RunRecord:
    """One run of those that the volume knows; see ``Api.run``.

    Example:
        >>> run = artfs.Api().run("k3v9x0ab")
        >>> run.group, run.state
        ('nightly', 'finished')
    """

    def __init__(self, connection: Connection, facts: Mapping[str, Any]) -> None:
        self._connection, self._facts = connection, dict(facts)

    @classmethod
    def find(cls, connection: Connection, run: str) -> RunRecord:
        """Returns a run that a version names, of which no more than that may be known."""
        try:
            return cls(connection, connection.access().run(run))
        except (RunNotFound, VolumeError):
            return cls(connection, {"id": run})

    def __repr__(self) -> str:
        return f"<Run {self.id}>"

    def _fact(self, key: str) -> str | None:
        value = self._facts.get(key)
        return None if value is None else str(value)

    @property
    def id(self) -> str:
        """The id, one word."""
        return str(self._facts["id"])

    @property
    def name(self) -> str:
        """The same as :attr:`id`."""
        return self.id

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
        """ISO 8601 in UTC; None while it goes on."""
        return self._fact("ended_at")

    def logged_artifacts(self, per_page: int = 100) -> list[Artifact]:
        """Returns the versions that the run made, without those that were deleted since.

        Example:
            >>> [artifact.name for artifact in run.logged_artifacts()]
            ['model:v3']
        """
        del per_page
        return self._artifacts("outputs")

    def used_artifacts(self, per_page: int = 100) -> list[Artifact]:
        """Returns the versions that the run used, without those that were deleted since.

        Example:
            >>> [artifact.name for artifact in run.used_artifacts()]
            ['mnist:v0']
        """
        del per_page
        return self._artifacts("inputs")

    def _artifacts(self, key: str) -> list[Artifact]:
        from artfs.sdk.artifact import Artifact

        found = []
        for text in self._connection.access().run(self.id)[key]:
            name, _, version = str(text).partition(":")
            with contextlib.suppress(NotFound):
                found.append(Artifact._from(self._connection, name, version))
        return found
