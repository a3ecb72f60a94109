"""The command line, in a process that stops at a durable step: ``victim.py HOW LABEL ARGUMENT...``.

HOW is ``pause`` (says so on standard output, and goes on when a line comes from standard input) or ``kill``
(ends as by SIGKILL). LABEL may be preceded by ``N*``: the N-th step of that label.
"""

from __future__ import annotations

import os
import signal
import sys

from artfs.cli import main
from artfs.store import durable


def stop_at(how: str, label: str) -> None:
    count, _, wanted = label.rpartition("*")
    left = int(count or 1)

    def step(reached: str) -> None:
        nonlocal left
        if reached != wanted:
            return
        left -= 1
        if left:
            return
        if how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        os.write(1, b"reached\n")
        os.read(0, 1)

    durable.step = step


if __name__ == "__main__":
    stop_at(*sys.argv[1:3])
    del sys.argv[1:3]
    main()
