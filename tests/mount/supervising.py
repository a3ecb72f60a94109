"""A supervised volume for tests, and a supervisor whose daemons die on demand.

Run as ``python -m tests.mount.supervising VOLUME MOUNTPOINT SCRIPT END [DELAY...]``: a supervisor that starts
its daemons by a script of bash. ``$ARTFS_RESTARTS`` is the number of previous daemons, and the script's
arguments are the daemon's: ``exec "$@"`` is the daemon, ``exec "$1" VICTIM kill LABEL "${@:5}"`` one that
dies at a durable step. END and the delays are those of the policy.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from artfs.daemon import background
from artfs.daemon.supervisor import RestartPolicy, Supervisor
from artfs.errors import MountError
from tests.conformance.helpers import eventually
from tests.mount.mounting import CUT_OFF, MountedVolume, artfs, is_alive, must


class SupervisedVolume(MountedVolume):
    """A volume, its mount, its current daemon and the supervisor."""

    def __init__(self, script: str | None, delays: Sequence[float], end: float) -> None:
        super().__init__(["--supervise"])
        self._script, self._numbers = script, [str(end), *map(str, delays)]
        self.seen: set[int] = set()

    def make(self) -> None:
        must("init", self.volume)

    def mount(self) -> None:
        """Mounts, using the script if there is one; returns when the mount answers."""
        if self._script is None:
            must("mount", "--supervise", self.volume, self.point)
        else:
            background.start(
                [str(self.volume), str(self.point), self._script, *self._numbers],
                self.volume / "logs" / "mount.log",
                program=[sys.executable, "-m", "tests.mount.supervising"],
            )
        self.supervisor = self._owner("supervisor")
        self.seen |= {self.supervisor, self.daemon}

    def _owner(self, lock: str) -> int:
        return int(json.loads((self.volume / "locks" / lock).read_text())["pid"])

    @property
    def daemon(self) -> int:
        return self._owner("mount")

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.point / ".artfs" / "status").read_text())
        return found

    def kill(self) -> None:
        os.kill(self.daemon, signal.SIGKILL)

    def restarts(self) -> int:
        """Returns the number of restarts; -1 while the mount is dead."""
        try:
            return int(self.status()["restarts"])
        except OSError as error:
            if error.errno in CUT_OFF:
                return -1
            raise

    def is_back(self, restarts: int) -> None:
        """Waits until the daemon has been restarted so many times."""
        eventually(lambda: self.restarts() == restarts, what=f"restart {restarts}")
        self.seen.add(self.daemon)

    def is_over(self) -> None:
        """Waits until all processes of this mount have ended, and asserts that it is unmounted."""
        for pid in self.seen:
            eventually(lambda pid=pid: not is_alive(pid), what=f"process {pid} ends")  # type: ignore[misc]
        assert os.listdir(self.point) == [], "something was written into the directory beneath"
        assert not os.path.ismount(self.point)

    def stop(self) -> None:
        """Unmounts if necessary; leaves no mount and no process."""
        try:
            if not _is_bare(self.point):
                done = artfs("umount", self.point)
                assert done.returncode == 0, done.stderr
            self.is_over()
        finally:
            for pid in self.seen:
                if is_alive(pid):
                    os.kill(pid, signal.SIGKILL)
            while not _is_bare(self.point):
                subprocess.run(["umount", "-l", self.point], check=True)

    def check(self) -> None:
        must("--volume", self.volume, "check")
        assert "Traceback" not in self.log(), self.log_tail()


def _is_bare(point: Path) -> bool:
    try:
        return not os.path.ismount(point) and os.path.isdir(point)
    except OSError:
        return False


@contextmanager
def supervised_volume(
    script: str | None = None, delays: Sequence[float] = (0,), *, end: float = 45, mounted: bool = True
) -> Iterator[SupervisedVolume]:
    """Yields a new volume under a supervisor; then unmounts, checks and deletes it."""
    volume = SupervisedVolume(script, delays, end)
    try:
        volume.make()
        if mounted:
            volume.mount()
        try:
            yield volume
        finally:
            volume.stop()
        volume.check()
    finally:
        volume.remove()


_OBSERVER = """
import errno, json, os, sys

def identity(path):
    found = os.stat(path)
    return [found.st_ino, found.st_mode]

def listing(path):
    return sorted(os.listdir(path))

def content(path):
    with open(path) as file:
        return file.read()

point, *names = sys.argv[1:]
looks = [(identity, "."), (listing, ".")] + [(content if "." in name else listing, name) for name in names]
seen = {f"{look.__name__} {name}": [] for look, name in looks}
rounds = 0
os.set_blocking(0, False)
print("watching", flush=True)
while sys.stdin.buffer.raw.read(1) is None:
    rounds += 1
    for look, name in looks:
        try:
            found = look(os.path.join(point, name))
        except OSError as error:
            found = errno.errorcode[error.errno]
        if found not in seen[f"{look.__name__} {name}"]:
            seen[f"{look.__name__} {name}"].append(found)
print(json.dumps([rounds, seen]))
"""


@contextmanager
def observed(point: Path, *names: str) -> Iterator[dict[str, list[Any]]]:
    """Reads a mount continuously: its root, directories, and the content of names with a dot.

    Fills in all different results of each; an error as its name.
    """
    seen: dict[str, list[Any]] = {}
    process = subprocess.Popen(
        [sys.executable, "-c", _OBSERVER, point, *names],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "watching\n"
    try:
        yield seen
    finally:
        output, _ = process.communicate(timeout=60)
    rounds, found = json.loads(output)
    assert rounds > 10
    seen.update(found)


def main(arguments: Sequence[str]) -> None:
    volume, point, script = arguments[:3]
    logging.basicConfig(level=logging.INFO)
    end, *delays = map(float, arguments[3:])
    policy = RestartPolicy(end=end, delays=delays)
    daemon = [*background.PROGRAM, "mount", "--foreground", volume, point]
    with background.reporting() as report:
        supervisor = Supervisor(
            Path(volume), Path(point), ["bash", "-c", script, "bash", *daemon], policy=policy
        )
        try:
            supervisor.run(report.ready)
        except MountError as error:
            sys.exit(str(error))


if __name__ == "__main__":
    main(sys.argv[1:])
