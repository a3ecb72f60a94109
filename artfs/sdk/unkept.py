"""What training programs make for ``run.log`` alone: charts and media that wandb shows in a browser.

They can be made and logged, so that a program runs, and are not kept. ``Artifact.add`` refuses them by name;
what it takes are files, arrays, data frames, figures, and the types in :mod:`~artfs.sdk.media`.
"""

from __future__ import annotations

import sys
from typing import Any


class Unkept:
    """A value for ``run.log``. It holds nothing of what it was made of."""


class Audio(Unkept):
    """wandb's sound."""

    def __init__(self, data_or_path: Any, sample_rate: int | None = None, caption: str | None = None) -> None:
        del data_or_path, sample_rate, caption


class Histogram(Unkept):
    """wandb's histogram."""

    def __init__(self, sequence: Any = None, np_histogram: Any = None, num_bins: int = 64) -> None:
        del sequence, np_histogram, num_bins


class Html(Unkept):
    """wandb's page."""

    def __init__(self, data: Any, inject: bool = True, data_is_not_path: bool = False) -> None:
        del data, inject, data_is_not_path


class Video(Unkept):
    """wandb's film."""

    def __init__(
        self,
        data_or_path: Any,
        caption: str | None = None,
        fps: int | None = None,
        format: str | None = None,  # noqa: A002  # wandb's name
    ) -> None:
        del data_or_path, caption, fps, format


def plot_table(
    vega_spec_name: str,
    data_table: Any,
    fields: dict[str, Any],
    string_fields: dict[str, Any] | None = None,
    split_table: bool = False,
) -> Unkept:
    """Makes a chart for ``run.log``, which is not kept.

    Example:
        >>> run.log({"curve": artfs.plot_table("area", table, {"x": "step", "y": "loss"})})
    """
    del vega_spec_name, data_table, fields, string_fields, split_table
    return Unkept()


class Plot:
    """``wandb.plot``: each of its functions makes a chart for ``run.log``, which is not kept."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return lambda *_args, **_more: Unkept()


plot = Plot()

_told: set[str] = set()


def termlog(string: str = "", newline: bool = True, repeat: bool = True, prefix: bool = True) -> None:
    """Prints a line to stderr, as training libraries do by wandb. Without `repeat` the same line comes once.

    Example:
        >>> artfs.termlog("resumed from epoch 3")
    """
    if not repeat and string in _told:
        return
    _told.add(string)
    print(f"{'artfs: ' if prefix else ''}{string}", file=sys.stderr, end="\n" if newline else "")  # noqa: T201


termwarn = termerror = termlog
