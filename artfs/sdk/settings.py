"""The settings of a run: arguments, and environment variables where an argument is not given.

Owns the names of the variables: ``ARTFS_X``, else wandb's ``WANDB_X``. Pure but for reading the environment;
any thread.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Literal

from artfs.errors import UsageError

Metrics = Literal["warn", "error", "ignore"]

ARTIFACTS = os.path.join(".", "artifacts")

#: The variable of each setting, without its prefix.
_VARIABLES = {
    "entity": "ENTITY",
    "project": "PROJECT",
    "run_id": "RUN_ID",
    "run_name": "NAME",
    "run_notes": "NOTES",
    "run_tags": "TAGS",
    "run_group": "RUN_GROUP",
    "run_job_type": "JOB_TYPE",
    "mode": "MODE",
    "resume": "RESUME",
    "root_dir": "DIR",
    "reinit": "REINIT",
    "metrics": "METRICS",
}
_MODES = ("online", "offline", "shared", "disabled", "dryrun", "run")
_METRICS = ("warn", "error", "ignore")


def variable(name: str) -> str | None:
    """Returns ``$ARTFS_NAME``, else ``$WANDB_NAME``, else None. An empty one counts as not set."""
    return os.environ.get(f"ARTFS_{name}") or os.environ.get(f"WANDB_{name}") or None


def artifact_dir() -> str:
    """Returns the absolute directory below which artifacts are downloaded by default."""
    return os.path.abspath(variable("ARTIFACT_DIR") or ARTIFACTS)


class Settings:
    """The settings of a run, by wandb's names; ``init(settings=...)`` takes one, or a dictionary.

    These have a meaning here: ``entity``, ``project``, ``run_id``, ``run_name``, ``run_notes``,
    ``run_tags``, ``run_group``, ``run_job_type``, ``mode``, ``reinit``, ``resume``, ``root_dir``,
    ``allow_val_change`` and ``metrics``; others are kept and change nothing. ``metrics`` says what a call
    does that would log metrics, which artfs does not keep: ``"warn"`` (one line for each run), ``"error"``
    or ``"ignore"``.

    Example:
        >>> artfs.init(settings=artfs.Settings(metrics="error"))
    """

    entity: Any = None
    project: Any = None
    run_id: Any = None
    run_name: Any = None
    run_notes: Any = None
    run_tags: Any = None
    run_group: Any = None
    run_job_type: Any = None
    mode: Any = None
    reinit: Any = None
    resume: Any = None
    root_dir: Any = None
    metrics: Any = None
    allow_val_change: bool = False

    def __init__(self, **given: Any) -> None:
        vars(self).update(given)

    def __repr__(self) -> str:
        shown = ", ".join(f"{key}={value!r}" for key, value in vars(self).items() if value is not None)
        return f"Settings({shown})"

    def update(self, **given: Any) -> None:
        """Sets the values that are not None.

        Example:
            >>> settings.update(run_group="nightly")
        """
        for setting, value in given.items():
            if value is not None:
                setattr(self, setting, value)

    @property
    def disabled(self) -> bool:
        """Whether the run leaves nothing in the volume."""
        return bool(self.mode == "disabled")


def settings_of(given: Settings | Mapping[str, Any] | None, arguments: Mapping[str, Any]) -> Settings:
    """Returns the settings of a new run: arguments override `given`, which overrides the environment.

    Raises UsageError for an unknown mode or choice about metrics.
    """
    found = Settings(**{setting: variable(name) for setting, name in _VARIABLES.items()})
    if isinstance(found.run_tags, str):
        found.run_tags = [tag.strip() for tag in found.run_tags.split(",") if tag.strip()]
    found.update(**(vars(given) if isinstance(given, Settings) else given or {}))
    found.update(**arguments)
    found.metrics = found.metrics or "warn"
    _check("mode", found.mode, (None, *_MODES))
    _check("metrics", found.metrics, _METRICS)
    return found


def _check(setting: str, value: object, known: tuple[object, ...]) -> None:
    if value not in known:
        words = ", ".join(repr(one) for one in known if one is not None)
        raise UsageError(f"{setting}={value!r} is none of {words}")
