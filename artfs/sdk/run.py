"""Runs that are under way: what a run logs, uses and is given is recorded until it ends.

Owns how a run is recorded, and how long it lasts: to ``finish()``, the end of its ``with`` block, or the
end of the process. How one begins is in :mod:`~artfs.sdk.run_init`.
"""

from __future__ import annotations

import atexit
import os
import socket
import sys
import time
import warnings
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any

from artfs.errors import ArtfsError, NotFound, UsageError, VolumeError
from artfs.model.scope import Scope
from artfs.sdk import arguments, run_context
from artfs.sdk.arguments import StrPath
from artfs.sdk.artifact import Artifact
from artfs.sdk.connection import Connection
from artfs.sdk.no_ops import RunMetrics, log
from artfs.sdk.run_models import RunModels, of_path
from artfs.sdk.run_values import Config, Summary
from artfs.sdk.settings import Settings
from artfs.store.documents import timestamp

_OF_OTHERS = ("inputs", "outputs", "processes")
"""Facts of a run that the volume adds to while it is under way."""


class Run(RunMetrics, RunModels):
    """A run that is under way; ``init`` makes it. A ``with`` block ends it."""

    def __init__(
        self,
        connection: Connection,
        run: str,
        given: Mapping[str, Any],
        config: Mapping[str, Any],
        settings: Settings,
        known: Mapping[str, Any] | None = None,
    ) -> None:
        """`given` has keys of the record; `known` is the record of a run that is resumed."""
        start = {
            "started_at": timestamp(),
            "ended_at": None,
            "state": "running",
            "host": socket.gethostname(),
        }
        before = {key: value for key, value in (known or {}).items() if key not in _OF_OTHERS}
        super().__init__(connection, {**before, "id": run, **given, **start}, Artifact._from)
        self._settings, self._resumed = settings, known is not None
        self._pid, self._ended, self._started = os.getpid(), False, time.time()
        self._keep({**given, **start}, here=True)
        if others := self._others():
            log.warning("the run %s goes on in another process, too, as one run: %s", run, others)
        self._summary = Summary(before.get("summary") or {}, lambda summary: self._keep({"summary": summary}))
        self._config = Config(
            before.get("config") or {},
            store=lambda config: self._keep({"config": config}),
            use=self._used,
            may_change=settings.allow_val_change,
        )
        try:
            if config:
                self._config.update(config, allow_val_change=True)
        except BaseException:
            self._end(failed=True)
            raise
        run_context.began(self, alone=settings.reinit != "create_new")
        atexit.register(self._at_exit)

    def _others(self) -> str:
        """Returns the other processes of the run, as text."""
        try:
            known = self._connection.client().run(self.id)["processes"]
        except (NotFound, VolumeError):
            return ""
        return ", ".join(f"{one['pid']} on {one['host']}" for one in known[:-1])

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        code = error.code if isinstance(error, SystemExit) else error
        self.finish(exit_code=0 if code in (None, 0) else 1)

    def finish(self, exit_code: int | None = None, *, quiet: bool | None = None) -> None:
        """Ends the run: as finished, or failed if the exit code is not 0. The second call does nothing.

        The end of the process ends it too: as failed after an exception that was not caught.

        Example:
            >>> run = artfs.init()
            >>> run.finish()
        """
        if self._ended:
            return
        self._ended = True
        run_context.ended(self)
        atexit.unregister(self._at_exit)
        try:
            self._summary.flush()
        except (ValueError, ArtfsError) as error:
            log.warning("artfs: run '%s': its summary is not kept: %s", self.id, error)
        self._end(failed=bool(exit_code))

    def _end(self, *, failed: bool) -> None:
        self._keep({"state": "failed" if failed else "finished", "ended_at": timestamp()}, here=True)

    # -- what it is

    @property
    def name(self) -> str:
        """The name that was given to ``init``; without one the same as :attr:`id`. Setting it stores it."""
        return super().name

    @name.setter
    def name(self, value: str) -> None:
        self._keep({"name": arguments.line("name", value)})

    @property
    def notes(self) -> str | None:
        """Free text. Setting it stores it."""
        return super().notes

    @notes.setter
    def notes(self, value: str | None) -> None:
        self._keep({"notes": arguments.description("notes", value)})

    @property
    def tags(self) -> tuple[str, ...]:
        """Tags of the run. Setting them stores them."""
        return tuple(self._facts.get("tags") or ())

    @tags.setter
    def tags(self, value: Iterable[str] | str) -> None:
        self._keep({"tags": arguments.tags("tags", value)})

    @property
    def group(self) -> str:
        """The group, which is the default for the distributed id; empty if there is none."""
        return super().group or ""

    @property
    def job_type(self) -> str:
        """What sort of job it is, like ``train``; empty if there is none."""
        return super().job_type or ""

    @property
    def entity(self) -> str:
        """The entity that was named; it means nothing here."""
        return super().entity or ""

    @property
    def path(self) -> str:
        """Entity and project, as far as they were named, and the id: ``Api().run`` takes it."""
        return "/".join(self._path())

    @property
    def scope(self) -> Scope:
        """Entity and project, to which the collections that it logs to belong."""
        return Scope(self.entity, self.project or "")

    @property
    def project_url(self) -> None:
        """None: there is no server that shows projects."""
        return None

    @property
    def config(self) -> Config:
        """What the run was given; see :class:`~artfs.sdk.run_values.Config`."""
        return self._config

    @property
    def config_static(self) -> dict[str, Any]:
        """The config as a dictionary of its own."""
        return self._config.as_dict()

    @property
    def summary(self) -> Summary:
        """What the run came to; see :class:`~artfs.sdk.run_values.Summary`."""
        return self._summary

    @property
    def settings(self) -> Settings:
        """The settings that it began with."""
        return self._settings

    @property
    def dir(self) -> str:
        """A directory for files of the run, ``./artfs-runs/ID`` or below what ``init(dir=)`` says.

        It is made at the first use. Files there are no part of the volume: ``log_artifact`` keeps them.
        """
        path = os.path.join(os.path.abspath(self._settings.root_dir or "."), "artfs-runs", self.id)
        os.makedirs(path, exist_ok=True)
        return path

    @property
    def resumed(self) -> bool:
        """Whether a run of this id existed before."""
        return self._resumed

    @property
    def offline(self) -> bool:
        """Whether it was started with ``mode="offline"``, which changes nothing: nothing is ever uploaded."""
        return self._settings.mode in ("offline", "dryrun")

    @property
    def disabled(self) -> bool:
        """Whether the run leaves nothing in the volume: ``mode="disabled"``."""
        return self._settings.disabled

    @property
    def start_time(self) -> float:
        """When it began, in seconds since the epoch."""
        return self._started

    def _at_exit(self) -> None:
        # The end of a fork is not the run's. Python sets last_type when an exception ends the process.
        if os.getpid() == self._pid:
            self.finish(exit_code=1 if getattr(sys, "last_type", None) is not None else 0)

    def log_artifact(
        self,
        artifact_or_path: Artifact | StrPath,
        name: str | None = None,
        type: str | None = None,
        aliases: Iterable[str] | str | None = None,
        tags: Iterable[str] | str | None = None,
    ) -> Artifact:
        """Makes a version of an artifact, or of a file or directory, and records that the run made it.

        The version is durable when this returns. If nothing differs from the newest version, no new one is
        made: ``unchanged`` is True then, that version gets the given labels (see ``Artifact.save``), and the
        run is recorded as one more that made it.

        Example:
            >>> run.log_artifact("out/", name="predictions", type="predictions", aliases=["nightly"])
        """
        artifact = self._artifact(artifact_or_path, name, type)
        given, labels = arguments.aliases("aliases", aliases), arguments.tags("tags", tags)
        if artifact.is_draft():
            artifact._state.finish(self.id, given, labels)
        else:
            artifact.aliases.extend(given)
            artifact.tags.extend(labels)
            artifact._state.store_labels()
        return artifact

    def upsert_artifact(
        self,
        artifact_or_path: Artifact | StrPath,
        name: str | None = None,
        type: str | None = None,
        aliases: Iterable[str] | str | None = None,
        distributed_id: str | None = None,
        *,
        overwrite: bool = False,
    ) -> Artifact:
        """Adds an artifact's files to the one version that many runs make together.

        They share the distributed id, by default the run's group; ``finish_artifact`` makes the version. A
        file that another run added under the same path with the same bytes is no conflict.

        Raises PathConflictError, which names path and run, for other bytes under the same path, unless
        `overwrite`; then nothing is added. Raises AlreadyFinishedError, which names the version, if the id
        was finished.

        Example:
            >>> artifact = artfs.Artifact("predictions", type="predictions")
            >>> artifact.add_file("part-3.csv")
            >>> run.upsert_artifact(artifact, distributed_id="job-42")
        """
        artifact = self._artifact(artifact_or_path, name, type)
        given = arguments.aliases("aliases", aliases)
        wanted = self._distributed_id(artifact, distributed_id)
        artifact.aliases.extend(given)
        artifact._state.hand_over(wanted, self.id, overwrite=overwrite)
        return artifact

    def finish_artifact(
        self,
        artifact_or_path: Artifact | StrPath,
        name: str | None = None,
        type: str | None = None,
        aliases: Iterable[str] | str | None = None,
        distributed_id: str | None = None,
        *,
        overwrite: bool = False,
        wait: float | None = None,
    ) -> Artifact:
        """Makes the version that many runs have filled, with this artifact's own files too, if it has any.

        It waits up to `wait` seconds (default: 2) for runs that have joined. Finishing again without files
        returns the same version.

        Raises RunsJoined if such runs have not left then, DraftNotFoundError if it has no files and no run
        started the id, AlreadyFinishedError if it has files and the id was finished.

        Example:
            >>> artifact = artfs.Artifact("predictions", type="predictions")
            >>> run.finish_artifact(artifact, distributed_id="job-41", aliases=["nightly"])
        """
        artifact = self._artifact(artifact_or_path, name, type)
        given = arguments.aliases("aliases", aliases)
        wanted = self._distributed_id(artifact, distributed_id)
        artifact._state.finish_distributed(wanted, self.id, given, overwrite=overwrite, wait=wait)
        return artifact

    def use_artifact(
        self,
        artifact_or_name: Artifact | str,
        type: str | None = None,
        aliases: Iterable[str] | str | None = None,
        use_as: str | None = None,
    ) -> Artifact:
        """Returns a version, and records that the run used it. A draft is saved first.

        A user who may read the version but not write to its collection gets a UserWarning that the use is not
        recorded. Raises NotFound, and ValueError if it is of another `type`.

        Example:
            >>> run.use_artifact("mnist:latest").download()
        """
        if isinstance(artifact_or_name, Artifact):
            artifact = artifact_or_name
            if artifact.is_draft():
                self.log_artifact(artifact, aliases=aliases)
        else:
            artifact = Artifact._find(self._connection, "artifact_or_name", artifact_or_name)
        self._used(artifact._checked(type))
        return artifact

    def _used(self, artifact: Artifact) -> None:
        try:
            artifact._state.record_use(self.id)
        except PermissionError:
            text = (
                f"{artifact.name}: its use by {self.id} is not recorded: you may not write to its collection"
            )
            warnings.warn(text, stacklevel=3)

    def link_artifact(
        self, artifact: Artifact, target_path: str, aliases: Iterable[str] | str | None = None
    ) -> Artifact:
        """Makes the same content a version of another collection; see ``Artifact.link``.

        Example:
            >>> run.link_artifact(api.artifact("mnist-cnn:v0"), "wandb-registry-model/digits", ["old"])
        """
        if artifact.is_draft():
            self.log_artifact(artifact)
        return artifact.link(target_path, aliases)

    # -- inside

    def _artifact(self, artifact_or_path: Artifact | StrPath, name: str | None, type: str | None) -> Artifact:
        self._check_not_ended()
        if isinstance(artifact_or_path, Artifact):
            called = artifact_or_path._state.collection
            if name is not None and name != called:
                raise ValueError(f"name={name!r}: the artifact is called {called!r}")
            return artifact_or_path
        return of_path(self.id, artifact_or_path, name, type)

    def _check_not_ended(self) -> None:
        if self._ended:
            raise UsageError(f"the run '{self.id}' has ended")

    def _distributed_id(self, artifact: Artifact, given: str | None) -> bytes:
        wanted = given or artifact.distributed_id or self.group
        if not wanted:
            raise TypeError("distributed_id is needed, as the run has no group")
        return arguments.distributed_id("distributed_id", wanted)
