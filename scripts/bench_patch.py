"""Times patches of small and of large versions: their cost is in proportion to the change.

Each base is a collection of one volume. Each round measures every base in turn, so that other load on the
machine affects all of them; the result is the median of the rounds. The bases consist of tree objects whose
files share one small blob: what is timed never reads more of them.
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
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table

from artfs.catalog.records import VersionRecord
from artfs.model.digest import BlobId
from artfs.model.entry import DirEntry, Entry, FileEntry
from artfs.model.tree import build
from artfs.volume.volume import Volume

NOTES = """\
Milliseconds, and ratios to the first base.
add 10:  mkdir pending/ID, write base, write 10 files of 4 KiB, finish.
start:   mkdir pending/ID, write base, list the root.
rename:  mv of the unchanged directory that holds all files of the base.
change:  append one byte to a file of the base (4 KiB), finish.
disk:    bytes that `add 10` put into objects/, beyond the 10 files."""

PER_DIRECTORY = 500
ADDED, SIZE = 10, 4096
#: The highest ratio of a large base to the small one that --check accepts.
LIMITS = {"1m": 1.5, "1m-flat": 2.0}


def entries(store_blob: BlobId, first: int, count: int) -> Iterator[Entry]:
    for number in range(first, first + count):
        yield FileEntry(b"file-%07d" % number, 0o644, os.geteuid(), os.getegid(), number, SIZE, store_blob)


def tree(volume: Volume, blob: BlobId, files: int, *, flat: bool) -> DirEntry:
    """Builds the tree of a version: all files in the directory `all`, or in directories of 500 below it."""

    def directory(name: bytes, below: Iterator[Entry]) -> DirEntry:
        summary = build(below, volume.store.algorithm, volume.store.put)
        return summary.directory(name, 0o755, os.geteuid(), os.getegid(), 0)

    if flat:
        top = directory(b"all", entries(blob, 0, files))
    else:
        starts = range(0, files, PER_DIRECTORY)
        parts = (
            directory(b"part-%05d" % (n // PER_DIRECTORY), entries(blob, n, PER_DIRECTORY)) for n in starts
        )
        top = directory(b"all", parts)
    return directory(b"", iter([top]))


def make_base(volume: Volume, name: str, blob: BlobId, files: int, *, flat: bool) -> None:
    collection = volume.catalog.create(name)
    root = tree(volume, blob, files, flat=flat)
    record = VersionRecord.make(
        number=0,
        serial=volume.catalog.next_serial(),
        root=root,
        distributed_id=b"base",
        seal="base",
        created_by="bench",
    )
    volume.store.sync(since=0)
    if not collection.commit(record):
        sys.exit("bench: the base could not be committed")
    collection.complete(record)


class Bases:
    """One mounted volume with a collection for each base."""

    def __init__(self, home: Path) -> None:
        self.mount, self.objects = home / "mnt", home / "volume" / "objects"
        self._number = 0

    def start(self, name: str) -> Path:
        self._number += 1
        pending = self.mount / name / "pending" / f"job-{self._number}"
        pending.mkdir()
        (pending / ".artfs" / "base").write_text("v0\n")
        return pending

    def files(self, name: str) -> Path:
        """Returns the directory of the base in which files are changed."""
        return Path("all") if name.endswith("flat") else Path("all", "part-00001")

    def finish(self, pending: Path) -> None:
        (pending / ".artfs" / "finish").write_text("\n")

    def drop(self, name: str) -> None:
        """Deletes all versions but the base, so that every round starts from the same state."""
        for version in (self.mount / name).glob("v[1-9]*"):
            version.rmdir()

    # -- the rows: each returns seconds

    def add(self, name: str) -> float:
        seed = os.urandom(SIZE)
        begin = time.perf_counter()
        pending = self.start(name)
        where = pending / self.files(name)
        for number in range(ADDED):
            (where / f"new-{number}").write_bytes(b"%d" % number + seed)
        self.finish(pending)
        return time.perf_counter() - begin

    def begin(self, name: str) -> float:
        begin = time.perf_counter()
        pending = self.start(name)
        os.listdir(pending)
        seconds = time.perf_counter() - begin
        (pending / ".artfs" / "discard").write_text("\n")
        return seconds

    def rename(self, name: str) -> float:
        pending = self.start(name)
        begin = time.perf_counter()
        (pending / "all").rename(pending / "moved")
        seconds = time.perf_counter() - begin
        (pending / ".artfs" / "discard").write_text("\n")
        return seconds

    def change(self, name: str) -> float:
        pending = self.start(name)
        path = pending / self.files(name) / "file-0000700"
        begin = time.perf_counter()
        with open(path, "ab") as file:
            file.write(os.urandom(1))
        self.finish(pending)
        return time.perf_counter() - begin

    def disk(self, name: str) -> int:
        """Returns the bytes that adding 10 files adds to objects/, without those of the files."""
        before = stored(self.objects)
        self.add(name)
        return stored(self.objects) - before - ADDED * SIZE


def stored(objects: Path) -> int:
    return sum(path.stat().st_size for path in objects.rglob("*") if path.is_file())


ROWS = {"add 10": Bases.add, "start": Bases.begin, "rename": Bases.rename, "change": Bases.change}


def measure(home: Path, sizes: dict[str, tuple[int, bool]], rounds: int) -> dict[str, Any]:
    artfs = Path(sys.executable).with_name("artfs")
    bases = Bases(home)
    bases.mount.mkdir()
    source = home / "source"
    source.write_bytes(bytes(SIZE))
    with Volume.init(home / "volume") as volume:
        fd = os.open(source, os.O_RDONLY)
        blob = volume.store.add_file(fd)
        os.close(fd)
        for name, (files, flat) in sizes.items():
            print(f"bench: makes a base of {files:,} files", file=sys.stderr, flush=True)
            make_base(volume, name, blob, files, flat=flat)
    subprocess.run([artfs, "mount", home / "volume", bases.mount], check=True)
    try:
        seconds: dict[str, dict[str, list[float]]] = {row: {name: [] for name in sizes} for row in ROWS}
        for round_ in track(range(rounds + 1), "measuring", console=Console(stderr=True), transient=True):
            for row, call in ROWS.items():
                for name in sizes:
                    taken = call(bases, name)
                    if round_:  # the first one warms up
                        seconds[row][name].append(taken)
                    bases.drop(name)
        disk = {name: bases.disk(name) for name in sizes}
    finally:
        subprocess.run([artfs, "umount", bases.mount], check=True)
    return {"seconds": seconds, "disk": disk, "files": {name: size[0] for name, size in sizes.items()}}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="scripts/bench patch", description=NOTES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--quick", action="store_true", help="100,000 files instead of a million")
    parser.add_argument("--dir", default=tempfile.gettempdir(), help="its filesystem is the backing one")
    parser.add_argument("--json", action="store_true", help="print JSON, with the seconds of every round")
    parser.add_argument("--check", action="store_true", help="exit 1 if `add 10` exceeds its ratio")
    options = parser.parse_args()
    many = 100_000 if options.quick else 1_000_000
    sizes = {"1k": (1_000, False), "1m": (many, False), "1m-flat": (many, True)}
    home = Path(tempfile.mkdtemp(prefix="artfs-bench-", dir=options.dir))
    try:
        result = measure(home, sizes, options.rounds)
    finally:
        shutil.rmtree(home)
    medians = {
        row: {name: statistics.median(times) for name, times in by_base.items()}
        for row, by_base in result["seconds"].items()
    }
    ratios = {
        row: {n: taken / by_base["1k"] for n, taken in by_base.items()} for row, by_base in medians.items()
    }
    if options.json:
        print(json.dumps({**result, "medians": medians, "ratios": ratios}, indent=2))
    else:
        show(result, medians, ratios)
    over = [
        f"{name} {ratios['add 10'][name]:.2f}"
        for name, most in LIMITS.items()
        if ratios["add 10"][name] > most
    ]
    if options.check and over:
        sys.exit(f"bench: adding 10 files exceeds its ratio: {', '.join(over)}")


def show(
    result: dict[str, Any], medians: dict[str, dict[str, float]], ratios: dict[str, dict[str, float]]
) -> None:
    table = Table(box=box.SIMPLE)
    table.add_column("")
    titles = {"1k": "{:,} files", "1m": "{:,} in directories of 500", "1m-flat": "{:,} in one directory"}
    for name, files in result["files"].items():
        table.add_column(titles[name].format(files), justify="right")
    for row, by_base in medians.items():
        cells = [f"{taken * 1000:.1f} ms ({ratios[row][name]:.2f})" for name, taken in by_base.items()]
        table.add_row(row, *cells)
    table.add_row("disk", *(f"{count:,} bytes" for count in result["disk"].values()))
    console = Console()
    console = console if console.is_terminal else Console(width=120)
    console.print(table)
    console.print(NOTES, highlight=False, markup=False)


if __name__ == "__main__":
    main()
