"""Measures `Artifact.add_dir` and `save` beside wandb's `add_dir` alone, in one run on one filesystem.

wandb is installed from PyPI into a venv of its own and works offline: its `add_dir` copies the files to its
staging directory and hashes them; nothing is uploaded. artfs makes a durable version. Each round measures
both, so that other load on the machine affects both. Nothing is deleted before the end: ext4 makes files
slowly where others were deleted minutes ago. With --mounted artfs works through a mount.

    scripts/bench-sdk [--files 20000] [--size 4096] [--rounds 3] [--directory DIR] [--mounted]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]

_WANDB = """
import json, sys, time
import wandb
artifact = wandb.Artifact("bench", "dataset")
begin = time.perf_counter()
artifact.add_dir(sys.argv[1])
print(json.dumps({"add_dir": time.perf_counter() - begin}))
"""

_ARTFS = """
import json, sys, time
import artfs
artifact = artfs.Artifact("bench", "dataset")
begin = time.perf_counter()
artifact.add_dir(sys.argv[1])
added = time.perf_counter()
artifact.save()
print(json.dumps({"add_dir": added - begin, "save": time.perf_counter() - added}))
"""


def make_source(root: Path, files: int, size: int) -> None:
    """Makes files that all differ, a thousand in each directory."""
    for number in range(files):
        directory = root / f"{number // 1000:03}"
        if number % 1000 == 0:
            directory.mkdir(parents=True)
        (directory / f"{number:06}.bin").write_bytes(os.urandom(size))


def python_with_wandb(place: Path) -> str:
    """Makes the venv if it does not exist; returns its interpreter."""
    python = place / "bin" / "python"
    if not python.exists():
        print(f"installs wandb into {place}", file=sys.stderr)
        venv.create(place, with_pip=True)
        install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "wandb"]
        subprocess.run(install, check=True, stdout=sys.stderr)
    return str(python)


def run(python: str, script: str, source: Path, environment: dict[str, str]) -> dict[str, float]:
    """Runs one measurement in a process of its own, after earlier writes are on disk."""
    os.sync()
    command = [python, "-c", script, str(source)]
    done = subprocess.run(
        command, env={**os.environ, **environment}, check=True, capture_output=True, text=True
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def artfs(*words: str | Path) -> None:
    subprocess.run([sys.executable, "-m", "artfs", *map(str, words)], check=True, cwd=REPOSITORY)


@contextmanager
def volume(place: Path, *, mounted: bool) -> Iterator[Path]:
    """Makes a volume; yields the value for $ARTFS_VOLUME."""
    artfs("init", place / "volume")
    if not mounted:
        yield place / "volume"
        return
    (place / "mnt").mkdir()
    artfs("mount", place / "volume", place / "mnt")
    try:
        yield place / "mnt"
    finally:
        artfs("umount", place / "mnt")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--size", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--directory", type=Path, help="work here; default: the temporary directory")
    parser.add_argument("--mounted", action="store_true", help="let artfs work through a mount")
    arguments = parser.parse_args()
    wandb_python = python_with_wandb(REPOSITORY / ".venv-wandb")
    base = Path(tempfile.mkdtemp(prefix="artfs-bench-", dir=arguments.directory))
    try:
        source = base / "source"
        make_source(source, arguments.files, arguments.size)
        ratios = []
        for number in range(arguments.rounds):
            place = base / f"round-{number}"
            place.mkdir()
            offline = {"WANDB_MODE": "offline", "WANDB_SILENT": "true"}
            places = {f"WANDB_{key}_DIR": str(place / key.lower()) for key in ("CACHE", "DATA", "CONFIG")}
            theirs = run(wandb_python, _WANDB, source, {**offline, **places, "WANDB_DIR": str(place)})
            with volume(place, mounted=arguments.mounted) as named:
                ours = run(sys.executable, _ARTFS, source, {"ARTFS_VOLUME": str(named)})
            ratios.append(theirs["add_dir"] / (ours["add_dir"] + ours["save"]))
            print(
                f"round {number + 1}: wandb add_dir {theirs['add_dir']:.2f} s;"
                f" artfs add_dir {ours['add_dir']:.2f} s + save {ours['save']:.2f} s;"
                f" {ratios[-1]:.2f} times as fast",
                flush=True,
            )
        print(f"median of {len(ratios)} rounds, {arguments.files} files of {arguments.size} bytes:", end=" ")
        print(f"{statistics.median(ratios):.2f} times as fast")
    finally:
        shutil.rmtree(base, ignore_errors=True)


if __name__ == "__main__":
    main()
