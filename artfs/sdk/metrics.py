"""What programs log beside artifacts: accepted, so that they run, and not kept.

Owns what a user is told about that, once for each run, and the count of steps. Any thread.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from artfs.errors import UsageError
from artfs.sdk import settings
from artfs.sdk.summary import Summary

# Without a handler of the program's own, Python writes a warning as one plain line to stderr.
log = logging.getLogger("artfs")


@dataclass(frozen=True)
class Metric:
    """What ``define_metric`` returns. It changes nothing."""

    name: str
    step_metric: str | None = None
    hidden: bool | None = None
    summary: str | None = None


class Metrics:
    """The calls of one run that would log metrics; ``step`` is the number of the next one."""

    def __init__(self, run: str, choice: settings.Metrics, summary: Summary) -> None:
        self._run, self._choice, self._summary = run, choice, summary
        self._told = False
        self.step = 0

    def log(self, data: Mapping[str, Any], step: int | None, commit: bool | None) -> None:
        """Takes the last values over into the summary. Raises ValueError for what wandb refuses, too."""
        given: Any = data
        if not isinstance(given, Mapping):
            raise ValueError(f"data is a dictionary, not {type(given).__name__}")
        if wrong := [key for key in given if not isinstance(key, str)]:
            raise ValueError(f"data: its keys are text, not {type(wrong[0]).__name__}")
        self.accept("log()")
        self._summary.logged(given)
        if step is not None:
            self.step = max(self.step, int(step))
        if commit or (commit is None and step is None):
            self.step += 1

    def accept(self, call: str) -> None:
        """Says once that metrics are not kept. Raises UsageError if the user wants an error instead."""
        if self._choice == "error":
            raise UsageError(
                f"{call}: artfs keeps artifacts, not metrics (ARTFS_METRICS=error asks for this error)"
            )
        if self._choice == "warn" and not self._told:
            self._told = True
            log.warning(
                "artfs: run '%s': %s is accepted, but metrics are not kept, only each name's last value in"
                " run.summary (ARTFS_METRICS=ignore or error)",
                self._run,
                call,
            )
