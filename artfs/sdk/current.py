"""The run that a program is in: the last one begun that has not ended.

Owns that one fact, so that artifacts need not know runs. Any thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from artfs.model.scope import Scope

if TYPE_CHECKING:
    from artfs.sdk.run import Run

_runs: list[Run] = []


def run() -> Run | None:
    return _runs[-1] if _runs else None


def run_id() -> str | None:
    return _runs[-1].id if _runs else None


def scope(run: str | None = None) -> Scope:
    """Returns the entity and project that were named for a run that goes on, by default this one."""
    found = next((one for one in reversed(_runs) if run in (None, one.id)), None)
    return found.scope if found is not None else Scope()


def began(one: Run) -> None:
    _runs.append(one)


def ended(one: Run) -> None:
    if one in _runs:
        _runs.remove(one)
