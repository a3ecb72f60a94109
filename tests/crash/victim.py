"""The command line, in a process that stops at a durable step: ``victim.py HOW LABEL ARGUMENT...``.

HOW is ``pause`` (prints ``reached``, and continues after a line on standard input) or ``kill`` (ends by
SIGKILL). LABEL may be preceded by ``N*``: the N-th step of that label. At a second label, behind a ``+``, a
thread prints ``hangs`` and blocks forever.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable

from artfs.cli import main
from artfs.store import durable


def stop_at(how: str, labels: str) -> None:
    at, _, hanging = labels.partition("+")
    stop, hang = _counted(at), _counted(hanging)

    def step(reached: str) -> None:
        if hang(reached):
            os.write(1, b"hangs\n")
            threading.Event().wait()
        if stop(reached):
            if how == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            os.write(1, b"reached\n")
            os.read(0, 1)

    durable.step = step


def _counted(label: str) -> Callable[[str], bool]:
    """Returns whether a step is the one that ``N*LABEL`` means."""
    count, _, wanted = label.rpartition("*")
    left = int(count or 1)

    def reached(step: str) -> bool:
        nonlocal left
        left -= step == wanted
        return step == wanted and left == 0

    return reached


if __name__ == "__main__":
    stop_at(*sys.argv[1:3])
    del sys.argv[1:3]
    main()
