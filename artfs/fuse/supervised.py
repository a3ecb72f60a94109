"""What a daemon knows of the supervisor that started it.

It comes through the environment, like the pipe of :mod:`artfs.daemon.background`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

_VARIABLE = "ARTFS_RESTARTS"


@dataclass(frozen=True, slots=True)
class Supervised:
    """``restarts`` counts the daemons that this mount had before; ``supervisor`` is the pid of the parent."""

    supervisor: int
    restarts: int

    def now(self) -> bool:
        """Whether the supervisor still runs: a daemon outlives it."""
        return os.getppid() == self.supervisor

    @classmethod
    def from_environment(cls) -> Supervised | None:
        """Returns what the supervisor of this process has told it; None if it has none."""
        told = os.environ.pop(_VARIABLE, None)
        return None if told is None else cls(os.getppid(), int(told))


def environment(restarts: int) -> dict[str, str]:
    """The environment for a daemon of this process. A readiness that systemd waits for is not the daemon's to
    tell."""
    inherited = {name: value for name, value in os.environ.items() if name != "NOTIFY_SOCKET"}
    return {**inherited, _VARIABLE: str(restarts)}
