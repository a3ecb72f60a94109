"""Fuzzes the decoders, guided by coverage.

``python -m tests.torture.fuzz [--minutes N] [--seed S] [DECODER...]`` needs atheris, which is no dependency
(``pip install atheris``). Each decoder runs in a process of its own, since libFuzzer ends that. Exit status 1
and the bytes, as hex, if one is found that is neither a value nor refused in order.
"""

from __future__ import annotations

import argparse
import importlib.util
import re
import subprocess
import sys
import tempfile
from pathlib import Path

_TOP = Path(__file__).resolve().parents[2]


def main() -> int:
    parser = argparse.ArgumentParser(prog="fuzz", description="Fuzzes artfs's decoders with atheris.")
    parser.add_argument("decoders", nargs="*", metavar="DECODER", help="default: all")
    parser.add_argument("--minutes", type=float, default=5, help="in all (default: 5)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--one", metavar="DIRECTORY", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if importlib.util.find_spec("atheris") is None:
        print("fuzz: needs atheris, which is not installed: .venv/bin/pip install atheris", file=sys.stderr)
        return 2
    if given.one:
        return _fuzz(given.decoders[0], Path(given.one), given.minutes * 60, given.seed)
    from tests.torture.decoders import DECODERS

    unknown = set(given.decoders) - DECODERS.keys()
    if unknown:
        parser.error(f"no such decoder: {', '.join(sorted(unknown))}; there are {', '.join(DECODERS)}")
    chosen = given.decoders or list(DECODERS)
    bad = total = 0
    for name in chosen:
        executions, failure = _run(name, given.minutes / len(chosen), given.seed)
        total += executions
        bad += bool(failure)
        print(f"{name:20} {executions:>10} executions{': ' + failure if failure else ''}", flush=True)
    print(f"{len(chosen)} decoders, {total} executions, {bad} failed (seed {given.seed})")
    return 1 if bad else 0


def _run(name: str, minutes: float, seed: int) -> tuple[int, str]:
    """Fuzzes one decoder; returns the number of runs, and the error."""
    with tempfile.TemporaryDirectory(prefix="artfs-fuzz-") as place:
        options = ["--one", place, "--minutes", str(minutes), "--seed", str(seed), name]
        done = subprocess.run(
            [sys.executable, "-m", "tests.torture.fuzz", *options],
            cwd=_TOP,
            capture_output=True,
            text=True,
            errors="backslashreplace",
            check=False,
        )
        counts = re.findall(r"^#(\d+)\t|stat::number_of_executed_units: (\d+)", done.stderr, re.MULTILINE)
        executions = max((int(a or b) for a, b in counts), default=0)
        crashes = [path.read_bytes().hex() for path in Path(place).glob("crash-*")]
        if done.returncode == 0 and not crashes:
            return executions, ""
        lines = [line for line in done.stderr.splitlines() if re.match(r"\S*(Error|Exception)\b", line)]
        reason = lines[-1] if lines else (done.stderr.strip().splitlines() or ["no output"])[-1]
        return executions, f"{reason} for {', '.join(crashes) or 'no bytes that were kept'}"


def _fuzz(name: str, place: Path, seconds: float, seed: int) -> int:
    import atheris  # type: ignore[import-not-found, import-untyped, unused-ignore]

    with atheris.instrument_imports(include=["artfs", "json"]):
        from tests.torture.decoders import DECODERS
    decoder = DECODERS[name]
    corpus = place / "corpus"
    corpus.mkdir()
    for number, example in enumerate(decoder.examples):
        (corpus / str(number)).write_bytes(example)
    options = [f"-max_total_time={max(1, int(seconds))}", f"-seed={seed}", "-max_len=4096", "-timeout=20"]
    options += [f"-artifact_prefix={place}/", "-print_final_stats=1", "-rss_limit_mb=2048", str(corpus)]
    atheris.Setup([sys.argv[0], *options], lambda data: decoder.once(bytes(data)) and None)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
