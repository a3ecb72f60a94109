"""Mounts of ``tiny`` for the tests of handshake and daemon: in the background, always unmounted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from artfs.daemon import background
from artfs.linux import mountinfo
from tests.conformance.helpers import eventually
from tests.mount.mounting import is_alive


class TinyMounts:
    """A volume's directory and a mountpoint, on which a test may mount repeatedly."""

    def __init__(self, base: Path) -> None:
        base.chmod(0o755)
        self.volume, self.point, self.log_file = base / "volume", base / "mnt", base / "log"
        for directory in (self.point, self.volume, self.volume / "files", self.volume / "locks"):
            directory.mkdir()
        self.pids: list[int] = []

    def start(self, *options: str) -> int:
        pid = background.start(
            [str(self.volume), str(self.point), *options],
            self.log_file,
            program=[sys.executable, "-m", "tests.mount.tiny"],
        )
        self.pids.append(pid)
        return pid

    def facts(self) -> dict[str, Any]:
        facts: dict[str, Any] = json.loads(os.getxattr(self.point, "user.tiny"))
        return facts

    @property
    def log(self) -> str:
        return self.log_file.read_text()

    @property
    def mounted(self) -> bool:
        return mountinfo.at(self.point) is not None

    def has_ended(self, pid: int) -> None:
        """Waits until a daemon's process is gone, and reaps it."""
        eventually(lambda: not is_alive(pid), what=f"daemon {pid} ends")
        try:
            os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            pass

    def clean_up(self) -> None:
        for pid in self.pids:
            if is_alive(pid):
                os.kill(pid, signal.SIGKILL)
            self.has_ended(pid)
        while self.mounted:
            mountinfo.detach(self.point)


@pytest.fixture
def tiny() -> Iterator[TinyMounts]:
    # Not below tmp_path, which other users cannot reach.
    with tempfile.TemporaryDirectory(prefix="artfs-tiny-") as base:
        made = TinyMounts(Path(base))
        try:
            yield made
        finally:
            made.clean_up()


def as_nobody(*command: str) -> subprocess.CompletedProcess[str]:
    """Runs a command as an ordinary user (root only)."""
    user = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
    return subprocess.run([*user, *command], capture_output=True, text=True, timeout=60, check=False)
