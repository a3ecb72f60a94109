"""Random kills under load, with an oracle of what was acknowledged: ``scripts/torture kills``.

In turns, several processes work on a mount whose daemon is killed, and directly on the volume, where they are
killed themselves. Then the volume is mounted again (sometimes that daemon is killed too, during its recovery)
and compared with what was acknowledged; ``check`` must find nothing, and nothing may be left over.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from artfs.daemon.unmount import unmount
from artfs.linux import mountinfo
from artfs.store import durable
from artfs.volume.volume import Volume
from tests.torture import oracle
from tests.torture.model import Mine, Op, World, apply
from tests.torture.worker import TEAM, Directly, Log, OnMount, read_log, work

PATIENCE = 60.0
_KEEP_VERSIONS = 3


class Torture:
    """One volume and the processes that use it."""

    def __init__(self, base: Path, seed: int, workers: int, tell: Callable[[str], None]) -> None:
        self.base, self.seed, self.tell = base, seed, tell
        self.volume, self.point = base / "volume", base / "mnt"
        self.random = random.Random(seed)
        self.known = [Mine(number, World(f"own-{number}")) for number in range(workers)]
        self.counts: Counter[str] = Counter()
        self.round = 0
        self.daemon: subprocess.Popen[bytes] | None = None
        self.point.mkdir()
        with Volume.init(self.volume) as volume:
            for name in [TEAM, *(mine.own.name for mine in self.known)]:
                volume.catalog.create(name)

    # -- processes

    def mount(self, *, kill_after: float | None = None) -> None:
        """Mounts the volume; with `kill_after` the daemon is killed so many seconds after its start."""
        line = [sys.executable, "-m", "artfs", "mount", "--foreground", str(self.volume), str(self.point)]
        with (self.base / "daemon.log").open("ab") as log:
            self.daemon = subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        if kill_after is not None:
            time.sleep(kill_after)
            self.kill_daemon()
            self.counts["daemons killed at their start"] += 1
            return
        end = time.monotonic() + PATIENCE
        while not self._answers():
            if self.daemon.poll() is not None or time.monotonic() > end:
                raise oracle.Lost("the volume can't be mounted again")
            time.sleep(0.01)

    def _answers(self) -> bool:
        with contextlib.suppress(OSError):
            return os.path.ismount(self.point) and "team" in os.listdir(self.point)
        return False

    def kill_daemon(self) -> None:
        assert self.daemon is not None
        self.daemon.kill()
        try:
            self.daemon.wait(2)
        except subprocess.TimeoutExpired:
            # A thread waits in the kernel for a lock whose holder waits for the daemon.
            self.counts["of these hung in the kernel"] += 1
            unmount(self.point)
            self.daemon.wait(PATIENCE)
        self.daemon = None

    def unmount(self) -> None:
        if self.daemon is not None:
            self.daemon.terminate()
            self.daemon.wait(PATIENCE)
            self.daemon = None
        self._detach()

    def _detach(self) -> None:
        """Detaches the dead mounts of killed daemons."""
        while any(mount.point == self.point for mount in mountinfo.table()):
            mountinfo.detach(self.point)

    def close(self) -> None:
        """Ends all processes, whatever happened."""
        if self.daemon is not None:
            self.kill_daemon()
        self._detach()

    def fork(self, function: Callable[[], None]) -> int:
        """Runs a function in a process that leads a process group."""
        pid = os.fork()
        if pid:
            return pid
        try:
            os.setsid()
            os.umask(0o022)
            function()
        except BaseException:  # noqa: BLE001  for the report
            with (self.base / "workers.log").open("a") as log:
                traceback.print_exc(file=log)
            os._exit(3)
        finally:
            os._exit(0)

    def _log(self, number: int) -> Path:
        return self.base / f"log-{number}"

    def start_workers(self, hands: Callable[[Mine], OnMount | Directly], *, mounted: bool) -> dict[int, int]:
        """Starts all workers; returns the number of each process id."""
        pids = {}
        for mine in self.known:
            self._log(mine.number).unlink(missing_ok=True)
            seed = f"{self.seed}:{self.round}:{mine.number}"

            def run(mine: Mine = mine, seed: str = seed) -> None:
                work(mine, seed, Log(self._log(mine.number)), hands(mine), mounted=mounted)

            pids[self.fork(run)] = mine.number
        return pids

    # -- rounds

    def mounted_round(self, seconds: float) -> None:
        """Kills the daemon during work on the mount, and maybe during a gc."""
        pids = self.start_workers(lambda mine: OnMount(mine, self.point), mounted=True)
        collector = self.fork(self._collect) if self.random.random() < 0.5 else 0
        time.sleep(seconds)
        killed_at = time.monotonic()
        self.kill_daemon()
        self.counts["daemons killed"] += 1
        if collector:
            os.killpg(collector, signal.SIGKILL)
            os.waitpid(collector, 0)
            self.counts["gcs killed"] += 1
        for pid, number in pids.items():
            self._wait(pid)
            end = read_log(self._log(number))[-1:]
            if end and end[0]["kind"] in ("no", "short", "dead") and end[0]["at"] < killed_at:
                raise oracle.Lost(f"process {number} was refused: {end[0]}")

    def direct_round(self, seconds: float) -> None:
        """Kills the direct workers, each at a random moment."""
        self.unmount()

        def hands(mine: Mine) -> Directly:
            return Directly(mine, self.volume, self.base / f"scratch-{mine.number}")

        pids = self.start_workers(hands, mounted=False)
        moments = sorted((self.random.uniform(seconds / 3, seconds), pid) for pid in pids)
        begun = time.monotonic()
        for moment, pid in moments:
            time.sleep(max(0.0, begun + moment - time.monotonic()))
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
            _, status = os.waitpid(pid, 0)
            if os.WIFEXITED(status):
                end = read_log(self._log(pids[pid]))[-1:]
                raise oracle.Lost(f"process {pids[pid]} ended by itself: {end}")
            self.counts["processes killed"] += 1

    def _collect(self) -> None:
        with Volume.open(self.volume) as volume:
            while True:
                volume.maintenance.gc()
                time.sleep(0.05)

    def _wait(self, pid: int) -> None:
        end = time.monotonic() + PATIENCE
        while os.waitpid(pid, os.WNOHANG)[0] == 0:
            if time.monotonic() > end:
                os.killpg(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                raise oracle.Lost("a process did not come to its end after the daemon had died")
            time.sleep(0.005)

    # -- acknowledged operations

    def replay(self) -> list[Op | None]:
        """Replays all acknowledged operations; returns the unfinished one of each process."""
        under_way: list[Op | None] = []
        for mine in self.known:
            op: Op | None = None
            for said in read_log(self._log(mine.number)):
                if said["kind"] == "try":
                    op = said["op"]
                elif said["kind"] == "yes":
                    op = said["op"]
                    apply(mine, op)
                    self.counts["answered"] += 1
                    if op["do"] == "finish" and op["where"] == "own":
                        self.counts["finishes answered"] += 1
                        if mine.own.ids[op["id"]] != op.get("version", mine.own.ids[op["id"]]):
                            raise oracle.Lost(f"{op} should have been {mine.own.ids[op['id']]}")
                    op = None
                elif said["kind"] == "short":
                    assert op is not None
                    op = {**op, "wrote": said["wrote"]}
                    break
                elif said["kind"] == "no" and said["errno"] != "EIO":
                    op = None
            under_way.append(op)
        return under_way

    def verify(self) -> None:
        """Mounts, compares and checks; then takes over the state found."""
        under_way = self.replay()
        self.counts["without an answer"] += sum(op is not None for op in under_way)
        while self.random.random() < 0.3:
            self.mount(kill_after=self.random.uniform(0.0, 1.0))
        self.mount()
        self.known = oracle.check_team(self.point, self.known, under_way)
        pairs = zip(self.known, under_way, strict=True)
        self.known = [oracle.check_own(self.point, mine, op) for mine, op in pairs]
        self._delete_old_versions()
        with Volume.open(self.volume) as volume:
            report = volume.maintenance.check()
            if not report.sound:
                raise oracle.Lost(f"check found {report.findings}")
            if self.random.random() < 0.2:
                volume.maintenance.gc()

    def _delete_old_versions(self) -> None:
        finisher = self.known[0]
        versions = {version for version in finisher.team_ids.values() if version and version[0] == "v"}
        for old in sorted(versions, key=lambda version: int(version[1:]))[:-_KEEP_VERSIONS]:
            (self.point / TEAM / old).rmdir()
            for name in [name for name, version in finisher.team_ids.items() if version == old]:
                finisher.team_ids[name] = "gone"
                for mine in self.known:
                    mine.team.pop(name, None)

    def leftovers(self) -> list[str]:
        """Returns what dead processes left in the volume, after a gc that takes every temp for stale."""
        self.unmount()
        # The writer of each temp is dead, though its pid may be reused.
        with pytest.MonkeyPatch.context() as patch, Volume.open(self.volume) as volume:
            patch.setattr(durable, "is_stale_temp", lambda name, _: name.startswith(durable.TEMP_PREFIX))
            volume.recover(alone=True)
            volume.maintenance.gc()
        left = []
        for directory, folders, files in os.walk(self.volume):
            left += [f"{directory}/{name}" for name in [*folders, *files] if name.startswith(".artfs-tmp.")]
        return left + [f"{self.volume}/trash/{name}" for name in os.listdir(self.volume / "trash")]

    def run(self, until: Callable[[Counter[str]], bool], longest: float = 2.0) -> None:
        """Continues until `enough`. Raises :class:`oracle.Lost`."""
        self.mount()
        while not until(self.counts):
            self.round += 1
            seconds = self.random.uniform(0.1, longest)
            if self.round % 3:
                self.mounted_round(seconds)
            else:
                self.direct_round(seconds + 0.5)
            self.verify()
            self.tell(f"round {self.round}: {summary(self.counts)}")
        if left := self.leftovers():
            raise oracle.Lost(f"left over: {left[:20]}")

    def story(self) -> str:
        """Returns the ends of all logs, to analyse a failure."""
        said = []
        for mine in self.known:
            said += [
                f"process {mine.number}:",
                *(json.dumps(line) for line in read_log(self._log(mine.number))[-6:]),
            ]
        for name in ("workers.log", "daemon.log", "volume/logs/mount.log"):
            path = self.base / name
            if path.exists():
                said += [f"{name}:", *path.read_text(errors="replace").splitlines()[-15:]]
        return "\n".join(said)


def summary(counts: Counter[str]) -> str:
    return ", ".join(f"{number} {what}" for what, number in sorted(counts.items()))


@contextlib.contextmanager
def torture(
    seed: int, workers: int, tell: Callable[[str], None], place: Path | None = None
) -> Iterator[Torture]:
    """A volume to be tortured, deleted unless something was lost."""
    base = Path(tempfile.mkdtemp(prefix="artfs-torture-", dir=place))
    one = Torture(base, seed, workers, tell)
    try:
        yield one
    except oracle.Lost as error:
        raise oracle.Lost(f"{error}\nseed {seed}, round {one.round}, see {base}\n{one.story()}") from None
    else:
        one.close()
        shutil.rmtree(base)
    finally:
        one.close()


def main() -> int:
    parser = argparse.ArgumentParser(prog="torture kills", description=(__doc__ or "").split("\n\n")[1])
    parser.add_argument("--minutes", type=float, default=5.0, help="how long (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=4, help="processes at once (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=None, help="repeats the choices of a run, not its timing")
    parser.add_argument("--place", type=Path, default=None, help="where the volume lies (default: $TMPDIR)")
    given = parser.parse_args()
    seed = random.SystemRandom().getrandbits(32) if given.seed is None else given.seed
    print(f"kills: seed {seed}", flush=True)
    end = time.monotonic() + given.minutes * 60

    def tell(line: str) -> None:
        print(line, flush=True)

    try:
        with torture(seed, given.workers, tell, given.place) as one:
            one.run(lambda _counts: time.monotonic() > end)
            print(f"kills: nothing was lost in {one.round} rounds: {summary(one.counts)}")
    except oracle.Lost as error:
        print(f"kills: LOST: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
