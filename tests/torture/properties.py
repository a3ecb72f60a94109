"""Runs the property tests with new examples, by time: ``python -m tests.torture.properties --minutes 60``.

``scripts/test`` tries the same examples every time. Each round here is a pytest process with its own seed,
which is printed, over the tests that draw examples: those in memory and those on a mount. Ends with the first
failure: exit status 1, pytest's report, and the command that runs the same round again.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import time
from pathlib import Path

_TOP = Path(__file__).resolve().parents[2]
_TESTS = ("tests/mount/test_patch_random.py", "tests/property")
#: Sequences of operations of a round in each of the tests of patches.
_EXAMPLES = "200"


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="properties", description="Draws new examples for the property tests."
    )
    parser.add_argument("tests", nargs="*", default=list(_TESTS), metavar="TEST", help="default: all of them")
    parser.add_argument("--minutes", type=float, default=5, help="(default: 5)")
    parser.add_argument(
        "--seed", type=int, default=random.SystemRandom().randrange(2**31), help="of the first round"
    )
    given = parser.parse_args()
    environment = {"ARTFS_PATCH_EXAMPLES": _EXAMPLES, **os.environ}
    end, rounds = time.monotonic() + given.minutes * 60, 0
    while time.monotonic() < end:
        seed = given.seed + rounds
        command = [sys.executable, "-m", "pytest", "-q", "-x", *given.tests]
        command += ["--hypothesis-profile=anew", f"--hypothesis-seed={seed}"]
        done = subprocess.run(
            command, cwd=_TOP, env=environment, capture_output=True, text=True, errors="replace", check=False
        )
        if done.returncode:
            print(done.stdout + done.stderr)
            examples = environment["ARTFS_PATCH_EXAMPLES"]
            print(
                f"properties: seed {seed} failed; again: ARTFS_PATCH_EXAMPLES={examples} {' '.join(command)}"
            )
            return 1
        rounds += 1
        print(f"properties: seed {seed}: {done.stdout.strip().splitlines()[-1]}", flush=True)
    print(f"properties: {rounds} rounds, none failed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
