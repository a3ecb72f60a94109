"""What wandb's programs call and artfs accepts without keeping it: metrics, charts, media of a browser.

Owns their signatures, and the warning about it, once for each run. ``Artifact.add`` refuses such
values by name; what it takes are files, arrays, data frames, figures, and the types in
:mod:`~artfs.sdk.media`. Any thread.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

from artfs.errors import UsageError
from artfs.sdk.arguments import StrPath
from artfs.sdk.run_record import RunFacts
from artfs.sdk.run_values import Summary
from artfs.sdk.settings import Settings

# Without a handler of the program's own, Python writes a warning as one plain line to stderr.
log = logging.getLogger("artfs")


@dataclass(frozen=True)
class Metric:
    """What ``define_metric`` returns. It changes nothing."""

    name: str
    step_metric: str | None = None
    hidden: bool | None = None
    summary: str | None = None


class RunMetrics(RunFacts):
    """The methods of a run that are about metrics. With ``ARTFS_METRICS=error`` each raises UsageError."""

    _settings: Settings
    _summary: Summary
    _step = 0
    _warned = False

    def _accept(self, call: str) -> None:
        """Says once that metrics are not kept. Raises UsageError if the user wants an error instead."""
        choice = self._settings.metrics
        if choice == "error":
            raise UsageError(
                f"{call}: artfs keeps artifacts, not metrics (ARTFS_METRICS=error asks for this error)"
            )
        if choice == "warn" and not self._warned:
            self._warned = True
            log.warning(
                "artfs: run '%s': %s is accepted, but metrics are not kept, only each name's last value in"
                " run.summary (ARTFS_METRICS=ignore or error)",
                self.id,
                call,
            )

    def log(self, data: dict[str, Any], step: int | None = None, commit: bool | None = None) -> None:
        """Keeps the last number or short text of each name in :attr:`summary`, and nothing else.

        Raises ValueError for what is no dictionary, or has keys that are no text.

        Example:
            >>> run.log({"loss": 0.2})
            >>> run.summary["loss"]
            0.2
        """
        given: Any = data
        if not isinstance(given, Mapping):
            raise ValueError(f"data must be a dictionary, not {type(given).__name__}")
        if wrong := [key for key in given if not isinstance(key, str)]:
            raise ValueError(f"data: its keys must be text, not {type(wrong[0]).__name__}")
        self._accept("log()")
        self._summary.logged(given)
        if step is not None:
            self._step = max(self._step, int(step))
        if commit or (commit is None and step is None):
            self._step += 1

    def define_metric(
        self,
        name: str,
        step_metric: str | Metric | None = None,
        step_sync: bool | None = None,
        hidden: bool | None = None,
        summary: str | None = None,
        overwrite: bool | None = None,
    ) -> Metric:
        """Changes nothing.

        Example:
            >>> run.define_metric("loss", summary="min")
        """
        self._accept("define_metric()")
        step_name = step_metric.name if isinstance(step_metric, Metric) else step_metric
        return Metric(name, step_name, hidden, summary)

    def watch(
        self,
        models: Any,
        criterion: Any = None,
        log: Literal["gradients", "parameters", "all"] | None = "gradients",
        log_freq: int = 1000,
        idx: int | None = None,
        log_graph: bool = False,
    ) -> None:
        """Changes nothing: gradients are not kept.

        Example:
            >>> run.watch(model)
        """
        self._accept("watch()")

    def unwatch(self, models: Any = None) -> None:
        """Changes nothing.

        Example:
            >>> run.unwatch(model)
        """

    def alert(
        self, title: str, text: str, level: Any = None, wait_duration: float | timedelta | None = None
    ) -> None:
        """Sends nothing: there is no service to send it to.

        Example:
            >>> run.alert("Diverged", "The loss is NaN.")
        """
        self._accept("alert()")

    def save(
        self,
        glob_str: StrPath,
        base_path: StrPath | None = None,
        policy: Literal["now", "live", "end"] = "live",
        glob: bool = True,
    ) -> list[str]:
        """Keeps no file: files are kept in artifacts. Returns an empty list, as where nothing matches.

        Example:
            >>> run.save("model.bin")
            []
        """
        self._accept("save(), which keeps no file (log_artifact() does),")
        return []

    def _label(self, **_: object) -> None:
        """Accepts what libraries like transformers tell wandb when they begin a run."""

    @property
    def step(self) -> int:
        """How many steps ``log()`` has counted."""
        return self._step

    @property
    def starting_step(self) -> int:
        """0: steps are not kept."""
        return 0


class DiscardedValue:
    """A value for ``run.log``. It holds nothing of what it was made of."""


class Audio(DiscardedValue):
    """wandb's sound."""

    def __init__(
        self, data_or_path: Any, sample_rate: int | None = None, caption: str | None = None
    ) -> None: ...


class Histogram(DiscardedValue):
    """wandb's histogram."""

    def __init__(self, sequence: Any = None, np_histogram: Any = None, num_bins: int = 64) -> None: ...


class Html(DiscardedValue):
    """wandb's page."""

    def __init__(self, data: Any, inject: bool = True, data_is_not_path: bool = False) -> None: ...


class Video(DiscardedValue):
    """wandb's film."""

    def __init__(
        self, data_or_path: Any, caption: str | None = None, fps: int | None = None, format: str | None = None
    ) -> None: ...


def plot_table(
    vega_spec_name: str,
    data_table: Any,
    fields: dict[str, Any],
    string_fields: dict[str, Any] | None = None,
    split_table: bool = False,
) -> DiscardedValue:
    """Makes a chart for ``run.log``, which is not kept.

    Example:
        >>> run.log({"curve": artfs.plot_table("area", table, {"x": "step", "y": "loss"})})
    """
    return DiscardedValue()


class Plot:
    """``wandb.plot``: each of its functions makes a chart for ``run.log``, which is not kept."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return lambda *_args, **_more: DiscardedValue()


plot = Plot()

_printed: set[str] = set()


def termlog(string: str = "", newline: bool = True, repeat: bool = True, prefix: bool = True) -> None:
    """Prints a line to stderr, as training libraries do by wandb; without `repeat`, only once.

    Example:
        >>> artfs.termlog("resumed from epoch 3")
    """
    if not repeat and string in _printed:
        return
    _printed.add(string)
    print(f"{'artfs: ' if prefix else ''}{string}", file=sys.stderr, end="\n" if newline else "")  # noqa: T201


termwarn = termerror = termlog
