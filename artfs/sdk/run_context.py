"""The runs of a process: those that are under way, and the current one.

Owns that fact, so that artifacts need not know runs. Any thread. A forked process inherits its parent's run,
which it may use, but begins one of its own.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from artfs.model.scope import Scope

if TYPE_CHECKING:
    from artfs.sdk.run import Run

_active: list[Run] = []
_current: list[Run] = []

#: Names of the package that a program may have shadowed by assigning to them, as in ``wandb.config = {...}``.
_SHADOWED = ("config", "run", "summary")


def run() -> Run | None:
    return _current[-1] if _current else None


def run_id() -> str | None:
    return _current[-1].id if _current else None


def scope(run: str | None = None) -> Scope:
    """Returns entity and project of a run that is under way, by default of the current one."""
    here = _current if run is None else [one for one in _active if one.id == run]
    return here[-1].scope if here else Scope()


def active() -> list[Run]:
    """Returns the runs of this process that are under way, oldest first."""
    return [one for one in _active if one._pid == os.getpid()]


def began(one: Run, *, alone: bool = True) -> None:
    """Adds a run that began; `alone`, it becomes the current one."""
    _active.append(one)
    if alone:
        _current[:] = [one]
        for name in _SHADOWED:
            vars(sys.modules["artfs"]).pop(name, None)


def ended(one: Run) -> None:
    if one in _active:
        _active.remove(one)
    if one in _current:
        _current.remove(one)
