"""Cuts the power at any moment while versions are made on a mount: acknowledged data survives complete.

A process works and reports each acknowledgement over a pipe before it continues; so a reader of the pipe
knows at least what was acknowledged, and at most one operation was in progress.
"""

from __future__ import annotations

import json
import os
import random
import signal
import time
import warnings
from pathlib import Path

from tests.mount.control import command, finish
from tests.power.failing_machine import Machine

Files = dict[str, bytes]


def files_of(seed: int) -> Files:
    """Returns the files of the version of that number."""
    chance = random.Random(seed)
    return {
        f"dir-{chance.randrange(4)}/{number}": chance.randbytes(chance.choice([0, 10, 5_000, 200_000]))
        for number in range(chance.randrange(1, 12))
    }


def work(model: Path, first: int, tell: int) -> None:
    """Makes versions until the mount fails."""
    number = first
    while True:
        tree = model / "pending" / f"job-{number}"
        tree.mkdir()
        for name, data in files_of(number).items():
            path = tree / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(data)
        if number % 3 == 0:  # stays pending, and is durable
            for name in files_of(number):
                fd = os.open(tree / name, os.O_RDONLY)
                os.fsync(fd)
                os.close(fd)
                fd = os.open((tree / name).parent, os.O_RDONLY)
                os.fsync(fd)
                os.close(fd)
            os.write(tell, b"pending %d -\n" % number)
        else:
            version = finish(tree, "best")["version"]
            os.write(tell, b"sealed %d %s\n" % (number, version.encode()))
            command(model / version, "tags", f"number-{number}")
            os.write(tell, b"tagged %d %s\n" % (number, version.encode()))
        number += 1


def one_round(machine: Machine, model: Path, first: int, seconds: float) -> int:
    """Works for a time, cuts the power, and checks what was acknowledged; returns the next free number."""
    told, tell = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        try:
            work(model, first, tell)
        finally:
            os._exit(0)
    os.close(tell)
    time.sleep(seconds)  # any moment will do
    machine.lose_power()
    os.kill(child, signal.SIGKILL)
    with open(told) as said:
        answered = [line.split() for line in said.read().splitlines()]
    machine.reboot()
    os.waitpid(child, 0)
    last = first
    for what, number, version in answered:
        last = max(last, int(number))
        check(model, what, int(number), version)
    sealed = [version for what, _, version in answered if what == "sealed"]
    if sealed:
        # That, or the version of the finish that was in progress.
        assert int(os.readlink(model / "best")[1:]) - int(sealed[-1][1:]) in (0, 1)
    for name in os.listdir(model):
        if name[0] == "v":
            job = Path(os.fsdecode(_id_of(model / name)))
            assert _read(model / name) == files_of(int(job.name.partition("-")[2])), name
    return last + 2


def check(model: Path, what: str, number: int, version: str) -> None:
    if what == "pending":
        assert _read(model / "pending" / f"job-{number}") == files_of(number), number
    elif what == "sealed":
        assert _read(model / version) == files_of(number), (number, version)
        assert os.readlink(model / "pending" / f"job-{number}") == f"../{version}"
    else:
        assert (model / version / ".artfs" / "tags").read_text().split() == [f"number-{number}"]


def _id_of(version: Path) -> bytes:
    status = json.loads((version / ".artfs" / "status").read_text())
    return os.fsencode(status["distributed_id"])


def _read(tree: Path) -> Files:
    return {str(path.relative_to(tree)): path.read_bytes() for path in tree.rglob("*") if path.is_file()}
