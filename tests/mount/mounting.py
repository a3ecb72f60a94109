"""A mounted volume for tests: makes, mounts, watches, unmounts, checks and removes it.

Uses the command line and plain files only. A test that waits for a hanging daemon cannot be killed, so a
watchdog process aborts the FUSE connection when a test takes too long.
"""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests import warm
from tests.conformance.helpers import eventually
from tests.thorough import THOROUGH

REPOSITORY = Path(__file__).resolve().parents[2]
# Read before the tests get a private temporary directory: other users must reach the mounts.
PLACE = tempfile.gettempdir()
#: Errors of a dead mount; the second is that of a call that waited when the daemon died.
CUT_OFF = (errno.ENOTCONN, errno.ECONNABORTED)
_TRACED = 1000  # lines of the daemon's requests that a failure shows
PATIENCE = 3600 if THOROUGH else 400  # seconds a test may take before the connection is cut

_WATCHDOG = """
import os, select, signal, sys
pid, abort = int(sys.argv[1]), sys.argv[2]
timeout = None
while True:
    ready, _, _ = select.select([0], [], [], timeout)
    if not ready:
        print("watchdog: the test took too long, the mount is cut off", file=sys.stderr, flush=True)
        try:
            with open(abort, "w") as file:
                file.write("1")
        except OSError:
            os.kill(pid, signal.SIGKILL)
        timeout = None
        continue
    line = os.read(0, 100)
    if not line:
        break
    timeout = float(line.split()[-1]) or None
"""


def artfs(
    *arguments: str | Path, timeout: float = 60, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs a command of artfs; the caller checks the exit status."""
    variables = {**os.environ, **(environment or {})}
    words = list(map(str, arguments))
    if warm.is_possible():
        return warm.run(words, variables, timeout)
    return subprocess.run(
        [sys.executable, "-m", "artfs", *words],
        env=variables,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def must(*arguments: str | Path, environment: Mapping[str, str] | None = None) -> str:
    """Runs a command of artfs that must succeed; returns its output."""
    done = artfs(*arguments, environment=environment)
    if done.returncode != 0:
        shown = " ".join(map(str, arguments))
        pytest.fail(f"artfs {shown}: exit status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def daemon_of(volume: Path) -> int:
    return int(json.loads((volume / "locks" / "mount").read_text())["pid"])


def is_alive(pid: int) -> bool:
    """Whether a process runs, and is no zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def is_dead(point: Path) -> bool:
    """Whether a mount's daemon has died."""
    try:
        os.statvfs(point)
    except OSError as error:
        return error.errno in CUT_OFF
    return False


class MountedVolume:
    """A volume and its mount, in a directory of their own that other users may enter."""

    #: Makes the daemon record its requests; a failure shows the last ones.
    traced = False

    def __init__(self, options: Sequence[str] = ()) -> None:
        self.base = Path(tempfile.mkdtemp(prefix="artfs-test-", dir=PLACE))
        self.base.chmod(0o755)
        self.volume = self.base / "volume"
        self.point = self.base / "mnt"
        self.point.mkdir()
        self.options = tuple(options)
        self._trace = self.base / "trace"
        self.pid: int | None = None
        self._watchdog: subprocess.Popen[bytes] | None = None
        self._watchdog_log = self.base / "watchdog.log"

    def start(self) -> None:
        """Makes the volume if there is none, and mounts it; returns when the mount answers."""
        if not self.volume.exists():
            must("init", self.volume)
        self._mount()
        assert os.path.ismount(self.point), "artfs mount returned, but nothing is mounted"
        self.pid = daemon_of(self.volume)
        abort = f"/sys/fs/fuse/connections/{os.minor(self.point.stat().st_dev)}/abort"
        with self._watchdog_log.open("ab") as log:
            self._watchdog = subprocess.Popen(
                [sys.executable, "-c", _WATCHDOG, str(self.pid), abort],
                stdin=subprocess.PIPE,
                stderr=log,
            )

    def mount_again(self, *options: str) -> None:
        """Mounts again, also over the dead mount of a killed daemon; with other options if any are given."""
        must("mount", *(options or self.options), self.volume, self.point)
        self.pid = daemon_of(self.volume)

    def _mount(self) -> None:
        environment = {"ARTFS_TRACE": str(self._trace)} if self.traced else {}
        must("mount", *self.options, self.volume, self.point, environment=environment)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Limits the time of one test, after which the mount must still answer."""
        self._tell_watchdog(PATIENCE)
        try:
            yield
        finally:
            self._tell_watchdog(0)
        assert self.answers(), f"the mount is dead\n{self.log_tail()}{self._watchdog_log.read_text()}"

    def _tell_watchdog(self, seconds: float) -> None:
        assert self._watchdog is not None
        assert self._watchdog.stdin is not None
        self._watchdog.stdin.write(f"{seconds}\n".encode())
        self._watchdog.stdin.flush()

    def answers(self) -> bool:
        """Whether a daemon serves the mountpoint."""
        try:
            os.listdir(self.point)
        except OSError:
            return False
        return os.path.ismount(self.point)

    def stop(self) -> None:
        """Unmounts and waits for the daemon's end; leaves nothing mounted, whatever fails."""
        problems: list[str] = []
        self._tell_watchdog(PATIENCE)
        try:
            if self.answers():
                done = artfs("umount", self.point)
                if done.returncode != 0:
                    problems.append(f"artfs umount: exit status {done.returncode}\n{done.stderr}")
            if os.path.ismount(self.point) or not _is_directory(self.point):
                problems.append("the mount was left over")
                subprocess.run(["umount", "-l", str(self.point)], capture_output=True, check=False)
            if self.pid is not None and not self._daemon_ends(self.pid):
                problems.append("the daemon did not end")
                os.kill(self.pid, signal.SIGKILL)
        finally:
            self._end_watchdog()
        assert not problems, "\n".join([*problems, self.log_tail()])

    def _daemon_ends(self, pid: int) -> bool:
        try:
            eventually(lambda: not is_alive(pid), what="the daemon ends")
        except pytest.fail.Exception:
            return False
        return True

    def _end_watchdog(self) -> None:
        if self._watchdog is not None:
            assert self._watchdog.stdin is not None
            self._watchdog.stdin.close()
            self._watchdog.wait(30)
            self._watchdog = None

    def check(self) -> None:
        """Checks the unmounted volume, and that the daemon's log has no warning."""
        must("--volume", self.volume, "check")
        # A reference's target is outside the volume, and may be missing or changed.
        surprises = [
            line
            for line in self.log().splitlines()
            if re.search(r"Traceback|WARNING|ERROR(?! artfs\.volume\.volume_references: )|CRITICAL", line)
        ]
        assert not surprises, f"in the daemon's log: {surprises}\n{self.log_tail()}"

    def log(self) -> str:
        """The daemon's log."""
        path = self.volume / "logs" / "mount.log"
        return path.read_text(errors="backslashreplace") if path.exists() else "(no log)"

    def log_tail(self) -> str:
        """Returns the end of the daemon's log, for the report of a failure."""
        lines = ["--- mount.log:", *self.log().splitlines()[-40:], ""]
        if self.traced and self._trace.exists():
            lines += ["--- requests:", *self._trace.read_text().splitlines()[-_TRACED:], ""]
        return "\n".join(lines)

    def remove(self) -> None:
        """Deletes the volume and the mountpoint, unless it is still mounted."""
        if _is_directory(self.point) and not os.path.ismount(self.point):
            # shutil cannot remove trees deeper than Python's stack.
            subprocess.run(["rm", "-rf", self.base], check=True)


def _is_directory(path: Path) -> bool:
    # A dead mount answers ENOTCONN.
    try:
        return path.stat() is not None
    except OSError:
        return False


@contextmanager
def mounted_volume(
    options: Sequence[str] = (), kind: type[MountedVolume] = MountedVolume, *, traced: bool = False
) -> Iterator[MountedVolume]:
    """A fresh volume, mounted; afterwards unmounted, checked and deleted."""
    mounted = kind(options)
    mounted.traced = traced
    try:
        mounted.start()
        try:
            yield mounted
        finally:
            mounted.stop()
        mounted.check()
    finally:
        mounted.remove()


def add_log_to_failure(item: pytest.Item, report: pytest.TestReport) -> None:
    """Adds the daemon's log to the report of a failed test; for pytest_runtest_makereport."""
    if report.passed or report.skipped:
        return
    for value in list(getattr(item, "funcargs", {}).values()):
        if isinstance(value, MountedVolume):
            report.sections.append(("daemon's log", value.log_tail()))
