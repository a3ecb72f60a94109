"""How a run begins: ``init``, and what a second ``init`` does while a run is under way.

Owns the arguments, and which run is current for module-level functions.
"""

from __future__ import annotations

import os
import secrets
import string
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from artfs.catalog.runs import check_run_id
from artfs.errors import InvalidName, RunNotFound, UnsupportedError, UsageError, VolumeError
from artfs.sdk import arguments, qualified_names, run_context
from artfs.sdk.arguments import StrPath
from artfs.sdk.config_sources import DEFAULTS, dictionary_of, read
from artfs.sdk.connection import Connection, connect
from artfs.sdk.disabled_run import DisabledRun
from artfs.sdk.no_ops import log
from artfs.sdk.run import Run
from artfs.sdk.settings import Settings, settings_of

_ALPHABET = string.ascii_lowercase + string.digits
_ID_LENGTH = 8
_REINIT = (None, True, False, "default", "return_previous", "finish_previous", "create_new")
_RESUME = (None, True, False, "allow", "must", "never", "auto")

#: Settings that are lines of a run's record, and the argument of init() that each is.
_LINES = {
    "entity": "entity",
    "project": "project",
    "run_group": "group",
    "run_job_type": "job_type",
    "run_name": "name",
}


def init(
    entity: str | None = None,
    project: str | None = None,
    dir: StrPath | None = None,
    id: str | None = None,
    name: str | None = None,
    notes: str | None = None,
    tags: Sequence[str] | None = None,
    config: Any = None,
    config_exclude_keys: list[str] | None = None,
    config_include_keys: list[str] | None = None,
    allow_val_change: bool | None = None,
    group: str | None = None,
    job_type: str | None = None,
    mode: Literal["online", "offline", "disabled", "shared"] | None = None,
    force: bool | None = None,
    reinit: bool | Literal["default", "return_previous", "finish_previous", "create_new"] | None = None,
    resume: bool | Literal["allow", "never", "must", "auto"] | None = None,
    resume_from: str | None = None,
    fork_from: str | None = None,
    save_code: bool | None = None,
    tensorboard: bool | None = None,
    sync_tensorboard: bool | None = None,
    monitor_gym: bool | None = None,
    settings: Settings | Mapping[str, Any] | None = None,
    anonymous: object = None,
) -> Run:
    """Begins a run, and makes it the current one, which is recorded wherever an artifact is saved.

    `id` is a word of at most 200 bytes, by default a random one. A known id is resumed, with its config and
    summary; ``resume="must"`` refuses an unknown id, ``"never"`` a known one. `group` is the default for the
    distributed id. `config` is a dictionary, parsed arguments, or the path of a file of YAML or JSON. Times
    and host, the texts and the config are stored in the volume.

    While a run is under way, `reinit` says what happens: by default that run is returned, in a notebook it is
    finished first; ``"finish_previous"`` (or True), ``"return_previous"`` and ``"create_new"`` say which. The
    last makes a run that does not become current.

    With ``mode="disabled"`` nothing is kept in the volume; ``"offline"`` changes nothing. What is not given
    comes from ``$ARTFS_PROJECT`` or ``$WANDB_PROJECT``, and likewise ``ENTITY``, ``RUN_ID``, ``NAME``,
    ``NOTES``, ``TAGS`` (with commas), ``RUN_GROUP``, ``JOB_TYPE``, ``MODE``, ``RESUME``, ``REINIT`` and
    ``DIR``. Other arguments are wandb's and mean nothing here.

    Raises TypeError and ValueError, which name the argument; UsageError for a config or an `id` that is
    refused; UnsupportedError for `resume_from` and `fork_from`, which need a history of metrics.

    Example:
        >>> with artfs.init(project="demo", group="nightly", job_type="train") as run:
        ...     run.use_artifact("mnist:latest")
        ...     run.log_artifact("model.bin", name="model", type="model")
    """
    if resume_from is not None or fork_from is not None:
        raise UnsupportedError(
            "resume_from and fork_from go back to a step of a run's metrics, which artfs does not keep"
        )
    given: dict[str, Any] = {
        "entity": entity,
        "project": project,
        "root_dir": None if dir is None else arguments.fspath("dir", dir),
        "run_id": id,
        "run_name": name,
        "run_notes": notes,
        "run_tags": tags,
        "allow_val_change": allow_val_change,
        "run_group": group,
        "run_job_type": job_type,
        "mode": mode,
        "reinit": reinit,
        "resume": resume,
    }
    chosen = settings_of(settings, given)
    facts = _facts(chosen)
    values = dictionary_of(config, exclude=config_exclude_keys, include=config_include_keys)
    if os.path.exists(DEFAULTS):
        values = {**read(DEFAULTS), **values}
    if (previous := _previous(chosen)) is not None:
        return previous
    run = chosen.run_id or _new_id()
    chosen.run_id = run
    if chosen.disabled:
        return DisabledRun(connect(), run, facts, values, chosen)
    connection = connect()
    return Run(connection, run, facts, values, chosen, _known(connection, run, chosen.resume))


def _facts(settings: Settings) -> dict[str, Any]:
    """Returns the record as it begins. Raises TypeError and ValueError."""
    found: dict[str, Any] = {}
    for setting, argument in _LINES.items():
        if (value := getattr(settings, setting)) is not None:
            found[argument] = arguments.line(argument, value)
    qualified_names.scope_of("project", found.get("entity"), found.get("project"))
    if settings.run_notes is not None:
        found["notes"] = arguments.description("notes", settings.run_notes)
    if settings.run_tags is not None:
        found["tags"] = arguments.tags("tags", settings.run_tags)
    if settings.run_id is not None:
        try:
            check_run_id(arguments.text("id", settings.run_id))
        except InvalidName as error:
            raise ValueError(f"id={settings.run_id!r}: {error.rule}") from None
    return found


def _previous(settings: Settings) -> Run | None:
    """Returns the run under way that init() returns; None, once those that it ends have ended."""
    # The environment has text.
    words: dict[str, Any] = {"true": True, "false": False}
    reinit = words.get(str(settings.reinit).lower(), settings.reinit)
    if reinit not in _REINIT:
        known = ", ".join(repr(word) for word in _REINIT if isinstance(word, str))
        raise UsageError(f"reinit={reinit!r} is none of {known}")
    settings.reinit = reinit
    active = run_context.active()
    if not active or reinit == "create_new":
        return None
    if reinit in (True, "finish_previous") or (reinit in (None, "default") and _in_notebook()):
        for run in reversed(active):
            run.finish()
        return None
    if settings.resume == "must":
        raise UsageError(f"resume='must': the run '{active[-1].id}' goes on; finish() it first")
    log.warning(
        "artfs: init() returns the run '%s', which goes on, and ignores its arguments: finish() that run, or"
        " pass reinit='finish_previous' or 'create_new'",
        active[-1].id,
    )
    return active[-1]


def _in_notebook() -> bool:
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return type(shell).__name__ == "ZMQInteractiveShell"


def _known(connection: Connection, run: str, resume: Any) -> dict[str, Any] | None:
    """Returns the record of a known run. Raises UsageError where `resume` excludes that."""
    if resume not in _RESUME:
        raise UsageError(f"resume={resume!r} is none of 'allow', 'must', 'never', 'auto'")
    try:
        found = connection.client().run(run)
    except (RunNotFound, VolumeError):
        if resume == "must":
            raise UsageError(f"resume='must': there is no run '{run}'") from None
        return None
    if resume == "never":
        raise UsageError(f"resume='never': there is a run '{run}' already")
    return found


def _new_id() -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(_ID_LENGTH))


def finish(exit_code: int | None = None, quiet: bool | None = None) -> None:
    """Ends the current run, if there is one.

    Example:
        >>> artfs.init()
        >>> artfs.finish()
    """
    run = run_context.run()
    if run is not None:
        run.finish(exit_code)


def login(*_: object, **__: object) -> bool:
    """Returns True: there is nothing to log in to.

    Example:
        >>> artfs.login()
        True
    """
    return True
