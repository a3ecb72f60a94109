"""A machine whose power can be cut: a volume on an image, and the daemon that serves it.

Knows of artfs only the command line and plain files.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.conformance.helpers import eventually
from tests.mount.mounting import daemon_of, is_alive, must
from tests.power.images import Image, image


class Machine:
    """``mnt`` is the mountpoint of the volume while the machine runs."""

    def __init__(self, disk: Image, mnt: Path, *options: str) -> None:
        self.disk, self.mnt, self.options = disk, mnt, options
        self.volume = disk.root / "volume"
        self.cuts = 0
        self._pid: int | None = None

    def boot(self) -> None:
        must("mount", *self.options, self.volume, self.mnt)
        self._pid = daemon_of(self.volume)

    def lose_power(self) -> None:
        """From now on nothing reaches the disk, and running processes are useless."""
        self.disk.go_down()
        self.cuts += 1

    def reboot(self) -> None:
        """Restarts after a loss of power: the daemon is gone, and the disk's content is mounted again."""
        self._end()
        self.disk.come_up()
        self.boot()

    def cut(self) -> None:
        self.lose_power()
        self.reboot()

    def stop(self) -> None:
        """Ends the mount as an administrator does, and checks the volume."""
        must("umount", self.mnt)
        assert self._pid is not None
        pid, self._pid = self._pid, None
        eventually(lambda: not is_alive(pid), what="the daemon ends")
        must("--volume", self.volume, "check")

    def _end(self) -> None:
        pid, self._pid = self._pid, None
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            eventually(lambda: not is_alive(pid), what="the daemon ends")
        subprocess.run(["umount", "-l", self.mnt], capture_output=True, check=False)

    def remove(self) -> None:
        """Removes everything that still exists; never fails."""
        with contextlib.suppress(BaseException):
            self._end()


@contextmanager
def machine(kind: str, base: Path, *options: str) -> Iterator[Machine]:
    """A running machine with an empty volume; afterwards it is stopped, checked and removed."""
    mnt = base / "mnt"
    mnt.mkdir()
    with image(kind) as disk:
        made = Machine(disk, mnt, *options)
        try:
            must("init", made.volume)
            made.boot()
            yield made
            made.stop()
        finally:
            made.remove()
