"""The runs of a program: those that go on, and the one that it is in.

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

#: Names of the package that a program may have covered by assigning to them, as in ``wandb.config = {...}``.
_COVERED = ("config", "run", "summary")


def run() -> Run | None:
    return _current[-1] if _current else None


def run_id() -> str | None:
    return _current[-1].id if _current else None


def scope(run: str | None = None) -> Scope:
    """Returns the entity and project that were named for a run that goes on, by default the program's."""
    here = _current if run is None else [one for one in _active if one.id == run]
    return here[-1].scope if here else Scope()


def active() -> list[Run]:
    """Returns the runs of this process that go on, oldest first."""
    return [one for one in _active if one._pid == os.getpid()]


def began(one: Run, *, alone: bool = True) -> None:
    """Notes a run that began; `alone`, it is the one that the program is in."""
    _active.append(one)
    if alone:
        _current[:] = [one]
        for name in _COVERED:
            vars(sys.modules["artfs"]).pop(name, None)


def ended(one: Run) -> None:
    if one in _active:
        _active.remove(one)
    if one in _current:
        _current.remove(one)
