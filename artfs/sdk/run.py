"""Runs that go on: `init` begins one, and what it logs and uses is noted.

Owns how a run is recorded, and how long it goes on: to ``finish()``, the end of its ``with`` block, or the
end of the process. Which artifacts it makes is their business.
"""

from __future__ import annotations

import atexit
import logging
import os
import secrets
import socket
import string
import sys
import warnings
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any

from artfs.catalog.runs import check_run_id
from artfs.errors import InvalidName, NotFound, VolumeError
from artfs.model.scope import Scope
from artfs.sdk import arguments, current, scopes
from artfs.sdk.arguments import StrPath
from artfs.sdk.artifact import Artifact
from artfs.sdk.connection import Connection, connect
from artfs.sdk.records import RunRecord
from artfs.store.clock import timestamp

_ALPHABET = string.ascii_lowercase + string.digits
_ID_LENGTH = 8
_log = logging.getLogger("artfs")


def init(
    entity: str | None = None,
    project: str | None = None,
    *,
    id: str | None = None,  # noqa: A002  (wandb's name)
    group: str | None = None,
    job_type: str | None = None,
    name: str | None = None,
    config: Mapping[str, Any] | None = None,
    **others: Any,
) -> Run:
    """Begins a run, and makes it the one that is noted wherever an artifact is saved.

    `id` is a word of at most 200 bytes; without one it gets one of its own. An id that is known goes on.
    `group` is the default for the distributed id. Its beginning, host, group, job type and end are stored in
    the volume. `config` is kept in the object alone; `entity`, `name` and all other options of wandb's are
    taken and mean nothing here.

    Example:
        >>> with artfs.init(project="demo", group="nightly", job_type="train") as run:
        ...     run.use_artifact("mnist:latest")
        ...     run.log_artifact("model.bin", name="model", type="model")
    """
    del name, others
    given = {"project": project, "group": group, "job_type": job_type}
    for argument, value in given.items():
        if value is not None:
            arguments.line(argument, value)
    if id is not None:
        try:
            check_run_id(arguments.text("id", id))
        except InvalidName as error:
            raise ValueError(f"id={id!r}: {error.rule}") from None
    if config is not None and not isinstance(config, Mapping):
        raise TypeError(f"config is a dictionary, not {type(config).__name__}")
    return Run(connect(), id or _new_id(), given, config or {}, scopes.of("project", entity, project))


def _new_id() -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(_ID_LENGTH))


class Run(RunRecord):
    """A run that goes on; ``init`` makes it. Used in a ``with`` statement it ends with the block."""

    def __init__(
        self,
        connection: Connection,
        run: str,
        given: Mapping[str, str | None],
        config: Mapping[str, Any],
        scope: Scope,
    ) -> None:
        self.scope = scope
        facts = {key: value for key, value in given.items() if value is not None}
        begun = {
            "started_at": timestamp(),
            "ended_at": None,
            "state": "running",
            "host": socket.gethostname(),
        }
        super().__init__(connection, {"id": run, **facts, **begun})
        try:
            connection.access().record_run(run, {**facts, **begun}, here=True)
        except PermissionError as error:
            why = f"a run is begun by who may write to the root of {connection.path}; Api() reads without one"
            raise PermissionError(error.errno, why) from None
        if others := self._others():
            _log.warning("the run %s goes on in another process, too, as one run: %s", run, others)
        self.config = dict(config)
        self._pid, self._ended = os.getpid(), False
        current.began(self)
        atexit.register(self._at_exit)

    def _others(self) -> str:
        """Names the other processes that the run goes on in."""
        try:
            known = self._connection.access().run(self.id)["processes"]
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

    def finish(self, exit_code: int | None = None, quiet: bool | None = None) -> None:
        """Ends the run: as finished, or failed if the exit code is not 0. The second call does nothing.

        The end of the process ends it too: as failed if that is an exception that nobody caught.

        Example:
            >>> run = artfs.init()
            >>> run.finish()
        """
        del quiet
        if self._ended:
            return
        self._ended = True
        current.ended(self)
        atexit.unregister(self._at_exit)
        end = {"state": "failed" if exit_code else "finished", "ended_at": timestamp()}
        self._facts |= end
        self._connection.access().record_run(self.id, end, here=True)

    def _at_exit(self) -> None:
        # A fork is no end. What no program caught, Python has put there when it ends by it.
        if os.getpid() == self._pid:
            self.finish(exit_code=1 if getattr(sys, "last_type", None) is not None else 0)

    def log_artifact(
        self,
        artifact_or_path: Artifact | StrPath,
        name: str | None = None,
        type: str | None = None,  # noqa: A002  (wandb's name)
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
            artifact._finish(self.id, given, labels)
        else:
            artifact.aliases.extend(given)
            artifact.tags.extend(labels)
            artifact._store_labels()
        return artifact

    def upsert_artifact(
        self,
        artifact_or_path: Artifact | StrPath,
        name: str | None = None,
        type: str | None = None,  # noqa: A002  (wandb's name)
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
            >>> artifact = artfs.Artifact("predictions", type="dataset")
            >>> artifact.add_file("part-3.csv")
            >>> run.upsert_artifact(artifact, distributed_id="job-42")
        """
        artifact = self._artifact(artifact_or_path, name, type)
        given = arguments.aliases("aliases", aliases)
        wanted = self._distributed_id(artifact, distributed_id)
        artifact.aliases.extend(given)
        artifact._upsert(wanted, self.id, overwrite=overwrite)
        return artifact

    def finish_artifact(
        self,
        artifact_or_path: Artifact | StrPath,
        name: str | None = None,
        type: str | None = None,  # noqa: A002  (wandb's name)
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
            >>> artifact = artfs.Artifact("predictions", type="dataset")
            >>> run.finish_artifact(artifact, distributed_id="job-42", aliases=["nightly"])
        """
        artifact = self._artifact(artifact_or_path, name, type)
        given = arguments.aliases("aliases", aliases)
        wanted = self._distributed_id(artifact, distributed_id)
        artifact._finish_distributed(wanted, self.id, given, overwrite=overwrite, wait=wait)
        return artifact

    def use_artifact(
        self,
        artifact_or_name: Artifact | str,
        type: str | None = None,  # noqa: A002  (wandb's name)
        aliases: Iterable[str] | str | None = None,
        use_as: str | None = None,
    ) -> Artifact:
        """Returns a version, and notes that the run used it. A draft is saved first.

        Who may read the version but not write to its collection gets it all the same, with a warning that the
        use is not noted.

        Example:
            >>> run.use_artifact("mnist:latest").open("train.csv")
        """
        del use_as
        if isinstance(artifact_or_name, Artifact):
            artifact = artifact_or_name
            if artifact.is_draft():
                self.log_artifact(artifact, aliases=aliases)
        else:
            collection, ref = scopes.find(self._connection, "artifact_or_name", artifact_or_name)
            artifact = Artifact._from(self._connection, collection, ref)
        if type is not None and artifact.type != type:
            raise ValueError(f"type={type!r}: {artifact.name} has the type {artifact.type!r}")
        try:
            artifact._note_use(self.id)
        except PermissionError:
            text = (
                f"{artifact.name}: that {self.id} used it is not noted: you may not write to its collection"
            )
            warnings.warn(text, stacklevel=2)
        return artifact

    def link_artifact(
        self, artifact: Artifact, target_path: str, aliases: Iterable[str] | str | None = None
    ) -> Artifact:
        """Makes the same content a version of another collection; see ``Artifact.link``.

        Example:
            >>> run.link_artifact(artifact, "registry/best-models", aliases=["candidate"])
        """
        if artifact.is_draft():
            self.log_artifact(artifact)
        return artifact.link(target_path, aliases)

    # -- inside

    def _artifact(
        self,
        artifact_or_path: Artifact | StrPath,
        name: str | None,
        type: str | None,  # noqa: A002  (wandb's name)
    ) -> Artifact:
        if self._ended:
            raise ValueError(f"the run '{self.id}' has ended")
        if isinstance(artifact_or_path, Artifact):
            if name is not None and name != artifact_or_path._collection:
                raise ValueError(f"name={name!r}: the artifact is called {artifact_or_path._collection!r}")
            return artifact_or_path
        path = arguments.fspath("artifact_or_path", artifact_or_path)
        if not os.path.exists(path):
            raise ValueError(f"artifact_or_path={path!r} is neither an artifact nor a file or directory")
        base = os.path.basename(os.path.abspath(path))
        artifact = Artifact(name or f"run-{self.id}-{base}", type or "unspecified")
        if os.path.isdir(path):
            artifact.add_dir(path)
        else:
            artifact.add_file(path)
        return artifact

    def _distributed_id(self, artifact: Artifact, given: str | None) -> bytes:
        wanted = given or artifact.distributed_id or self.group
        if not wanted:
            raise TypeError("distributed_id is needed, as the run has no group")
        return arguments.distributed_id("distributed_id", wanted)


def login(*_: object, **__: object) -> bool:
    """Returns True: there is nothing to log in to. wandb's programs ask.

    Example:
        >>> artfs.login()
        True
    """
    return True


def finish(exit_code: int | None = None, quiet: bool | None = None) -> None:
    """Ends the run that goes on, if there is one.

    Example:
        >>> artfs.init()
        >>> artfs.finish()
    """
    run = current.run()
    if run is not None:
        run.finish(exit_code, quiet)
