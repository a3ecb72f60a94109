"""Loss of power and failing system calls, by time: ``python -m tests.torture.power --minutes 30 --seed 1``.

In rounds, on ext4 and on xfs: an operation with the power cut at each of its durable steps, likewise a story
of changes, a mount under load that is cut at any moment, and an operation of which each system call fails in
turn. Ends at the first failure, and prints the seed.
"""

from __future__ import annotations

import argparse
import itertools
import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.power.failing_machine import machine
from tests.power.failures import Failing
from tests.power.images import image, why_no_image
from tests.power.injecting import FAILURES, why_no_strace
from tests.power.load import one_round
from tests.power.trials import CHANGES, OPERATIONS, Trial, cut_collections, cut_inits, cut_upgrades

_MOST = 80  # calls of one name that fail in turn


def labels(kind: str, name: str) -> int:
    with image(kind) as disk, Trial(disk, name) as trial:
        return trial.run(lambda labels: list(range(len(labels) + 1)))


def beginnings(kind: str) -> int:
    with image(kind) as disk:
        return sum(cut(disk, itertools.count()) for cut in (cut_inits, cut_collections, cut_upgrades))


def load(kind: str, chance: random.Random, rounds: int = 10) -> int:
    with tempfile.TemporaryDirectory() as place, machine(kind, Path(place)) as computer:
        model = computer.mnt / "model"
        model.mkdir()
        number = 0
        for _ in range(rounds):
            number = one_round(computer, model, number, chance.uniform(0.05, 2))
        return computer.cuts


def failures(name: str) -> int:
    count = 0
    with tempfile.TemporaryDirectory() as place:
        failing = Failing(Path(place), name)
        for call, error in FAILURES:
            for when in range(1, _MOST + 1):
                count += 1
                if not failing.run(call, error, when):
                    break
    return count


def rounds(chance: random.Random) -> Iterator[tuple[str, int]]:
    """Yields a description of each round and the number of its cuts or failures; never ends."""
    kinds = [kind for kind in ("ext4", "xfs") if why_no_image(kind) is None]
    if not kinds:
        raise SystemExit(f"power: {why_no_image('ext4')}")
    while True:
        for kind in kinds:
            yield f"{kind}: init and collections", beginnings(kind)
            yield f"{kind}: a mount under load", load(kind, chance)
            for name in chance.sample([*OPERATIONS, *CHANGES], len(OPERATIONS) + len(CHANGES)):
                yield f"{kind}: {name}", labels(kind, name)
        if why_no_strace() is None:
            for name in chance.sample([*OPERATIONS], len(OPERATIONS)):
                yield f"system calls of: {name}", failures(name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=None)
    arguments = parser.parse_args()
    seed = random.randrange(1 << 32) if arguments.seed is None else arguments.seed
    print(f"power: --seed {seed}", flush=True)
    end = time.monotonic() + arguments.minutes * 60
    total = 0
    for what, count in rounds(random.Random(seed)):
        total += count
        print(f"power: {what}: {count}", flush=True)
        if time.monotonic() > end:
            break
    print(f"power: {total} cuts and failures, nothing lost", flush=True)


if __name__ == "__main__":
    main()
