"""Runs that go on: what a run logs, uses and is given is noted, until it ends.

Owns how a run is recorded, and how long it goes on: to ``finish()``, the end of its ``with`` block, or the
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

_OF_MANY = ("inputs", "outputs", "processes")
"""Facts of a run that others add to while it goes on."""


class Run(RunMetrics, RunModels):
    """A run that goes on; ``init`` makes it. Used in a ``with`` statement it ends with the block."""

    def __init__(
        self,
        connection: Connection,
        run: str,
        given: Mapping[str, Any],
        config: Mapping[str, Any],
        settings: Settings,
        known: Mapping[str, Any] | None = None,
    ) -> None:
        """`given` has keys of the record; `known` is that of a run of this id, which goes on then."""
        begun = {
            "started_at": timestamp(),
            "ended_at": None,
            "state": "running",
            "host": socket.gethostname(),
        }
        before = {key: value for key, value in (known or {}).items() if key not in _OF_MANY}
        super().__init__(connection, {**before, "id": run, **given, **begun}, Artifact._from)
        self._settings, self._resumed = settings, known is not None
        self._pid, self._ended, self._started = os.getpid(), False, time.time()
        self._keep({**given, **begun}, here=True)
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
        """Names the other processes that the run goes on in."""
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

        The end of the process ends it too: as failed if that is an exception that nobody caught.

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
        """Free labels of the run. Setting them stores them."""
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
        """What sort of job it is, like ``train``; empty if nobody said."""
        return super().job_type or ""

    @property
    def entity(self) -> str:
        """The entity that was named; it means nothing here."""
        return super().entity or ""

    @property
    def path(self) -> str:
        """Entity and project, as far as they were named, and the id: ``Api().run`` takes it."""
        return "/".join(self._way())

    @property
    def scope(self) -> Scope:
        """Entity and project, to which the collections belong that it logs to."""
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
        """What it was begun with."""
        return self._settings

    @property
    def dir(self) -> str:
        """A directory for files of the run, ``./artfs-runs/ID`` or below what ``init(dir=)`` says.

        It is made when it is asked for. What lies there is no part of the volume: ``log_artifact`` keeps it.
        """
        path = os.path.join(os.path.abspath(self._settings.root_dir or "."), "artfs-runs", self.id)
        os.makedirs(path, exist_ok=True)
        return path

    @property
    def resumed(self) -> bool:
        """Whether a run of this id was there before."""
        return self._resumed

    @property
    def offline(self) -> bool:
        """Whether it was begun with ``mode="offline"``, which changes nothing: nothing is ever uploaded."""
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
        # A fork is no end. What no program caught, Python has put there when it ends by it.
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
        """Makes a version of an artifact, or of a file or directory, and notes that the run made it.

        It is there, durably, when this returns. If nothing differs from the newest version, it is that one:
        ``unchanged`` is True then, it gets the labels that were given (see ``save``), and the run is noted as
        one more that made it.

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

        They meet by the distributed id, by default the run's group; ``finish_artifact`` makes the version.
        Files that another run brought under the same path with the same bytes are agreed on; with other
        bytes it is a PathConflictError, which names path and run, unless `overwrite`, and nothing is added.

        Raises AlreadyFinishedError, which names the version, if the id was finished.

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

        It waits `wait` seconds (default: 2) for runs that are at it. Finishing again without files gives the
        same version.

        Raises DraftNotFoundError if it has no files and nobody started the id, AlreadyFinishedError if it
        has files and the id was finished.

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
        """Returns a version, and notes that the run used it. A draft is saved first.

        Who may read the version but not write to its collection gets it all the same, with a warning that the
        use is not noted.

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
                f"{artifact.name}: that {self.id} used it is not noted: you may not write to its collection"
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

    def _artifact(
        self,
        artifact_or_path: Artifact | StrPath,
        name: str | None,
        type: str | None,
    ) -> Artifact:
        self._check_goes_on()
        if isinstance(artifact_or_path, Artifact):
            called = artifact_or_path._state.collection
            if name is not None and name != called:
                raise ValueError(f"name={name!r}: the artifact is called {called!r}")
            return artifact_or_path
        return of_path(self.id, artifact_or_path, name, type)

    def _check_goes_on(self) -> None:
        if self._ended:
            raise UsageError(f"the run '{self.id}' has ended")

    def _distributed_id(self, artifact: Artifact, given: str | None) -> bytes:
        wanted = given or artifact.distributed_id or self.group
        if not wanted:
            raise TypeError("distributed_id is needed, as the run has no group")
        return arguments.distributed_id("distributed_id", wanted)
