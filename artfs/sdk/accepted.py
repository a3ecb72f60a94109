"""The methods of a run that wandb's programs call for metrics: they run, and keep nothing.

Owns their signatures. What they say is in :mod:`~artfs.sdk.metrics`.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Literal

from artfs.sdk.arguments import StrPath
from artfs.sdk.metrics import Metric, Metrics


class Accepted:
    """The half of a run that is about metrics. With ``ARTFS_METRICS=error`` each call raises UsageError."""

    _metrics: Metrics

    def log(self, data: dict[str, Any], step: int | None = None, commit: bool | None = None) -> None:
        """Keeps the last number or short text of each name in :attr:`summary`, and nothing else.

        Example:
            >>> run.log({"loss": 0.2})
            >>> run.summary["loss"]
            0.2
        """
        self._metrics.log(data, step, commit)

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
        del step_sync, overwrite
        self._metrics.accept("define_metric()")
        return Metric(
            name, step_metric.name if isinstance(step_metric, Metric) else step_metric, hidden, summary
        )

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
        del models, criterion, log, log_freq, idx, log_graph
        self._metrics.accept("watch()")

    def unwatch(self, models: Any = None) -> None:
        """Changes nothing.

        Example:
            >>> run.unwatch(model)
        """
        del models

    def alert(
        self,
        title: str,
        text: str,
        level: Any = None,
        wait_duration: float | timedelta | None = None,
    ) -> None:
        """Sends nothing: there is nobody to send it to.

        Example:
            >>> run.alert("Diverged", "The loss is NaN.")
        """
        del title, text, level, wait_duration
        self._metrics.accept("alert()")

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
        del glob_str, base_path, policy, glob
        self._metrics.accept("save(), which keeps no file (log_artifact() does),")
        return []

    def _label(self, **_: object) -> None:
        """Takes the words by which libraries tell wandb that they began a run, as transformers does."""

    @property
    def step(self) -> int:
        """How many steps ``log()`` has counted."""
        return self._metrics.step

    @property
    def starting_step(self) -> int:
        """0: steps are not kept."""
        return 0
