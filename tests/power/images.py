"""Filesystems in files: made, mounted, their power cut, and removed whatever happens.

The GOINGDOWN ioctl of ext4 and xfs with NOLOGFLUSH cuts the power: from then on nothing reaches the image,
not even the journal in memory. The next mount loses what was not synced: a rename whose directory was not
fsynced, the bytes of a file. Needs root and loop devices. Knows nothing of artfs.
"""

from __future__ import annotations

import fcntl
import functools
import gc
import os
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from artfs.linux import syscalls
from tests.conformance.helpers import eventually
from tests.crash.faults import crash

_GOINGDOWN, _NOLOGFLUSH = 0x8004587D, 2
_MIB = 1 << 20
#: The command that makes a filesystem, and its minimum size.
_MAKE = {
    "ext4": (["mkfs.ext4", "-q", "-F", "-I", "256"], 64 * _MIB),
    "ext4, times of a second": (["mkfs.ext4", "-q", "-F", "-I", "128"], 64 * _MIB),
    "xfs": (["mkfs.xfs", "-q", "-f"], 300 * _MIB),
}
_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])


class Image:
    """A mounted filesystem in a file. ``root`` is a directory of it for the files of a test."""

    def __init__(self, kind: str, base: Path, size: int | None = None, inodes: int | None = None) -> None:
        self.kind, self._file, self._point = kind, base / "image", base / "disk"
        self._point.mkdir()
        self.root = self._point / "data"
        command, least = _MAKE[kind]
        self.size = least if size is None else size
        with self._file.open("wb") as file:
            file.truncate(self.size)
        _run(*command, *(() if inodes is None else ("-N", str(inodes))), self._file)
        self.mount()
        self.root.mkdir()
        self.sync()

    def mount(self, *options: str) -> None:
        # Detached at once, the loop device is removed with the mount.
        device = _run("losetup", "--find", "--show", self._file).strip()
        try:
            _run("mount", "-o", ",".join(["rw", *options]), device, self._point)
        finally:
            _run("losetup", "--detach", device)

    def unmount(self) -> None:
        try:
            _run("umount", self._point)
        except subprocess.CalledProcessError:
            gc.collect()  # replaced trees hold descriptors, and refer to each other
            _run("umount", self._point)
        # Another process's new mount namespace may hold the filesystem, which then continues to write.
        eventually(lambda: not _run("losetup", "--associated", self._file), what="the loop device is free")

    def remount(self, *options: str) -> None:
        """Changes options of the mount in place, such as ``ro``."""
        _run("mount", "-o", ",".join(["remount", *options]), self._point)

    def sync(self) -> None:
        """Makes everything durable."""
        fd = os.open(self._point, os.O_RDONLY)
        try:
            syscalls.syncfs(fd)
        finally:
            os.close(fd)

    def go_down(self) -> None:
        """Cuts the power. The filesystem is unusable until :meth:`come_up`."""
        fd = os.open(self._point, os.O_RDONLY)
        try:
            fcntl.ioctl(fd, _GOINGDOWN, struct.pack("I", _NOLOGFLUSH))
        finally:
            os.close(fd)

    def come_up(self) -> None:
        """Mounts what has reached the image. No file of it may be open."""
        self.unmount()
        self.mount()

    def cut_at(self, number: int, action: Callable[[], object]) -> str | None:
        """Runs an action in a process, and cuts the power before its durable step of that number.

        Returns the step's label; None if the action ended before, and the power was cut right after. The
        action must have opened its files itself.
        """

        def act() -> None:
            action()
            self.go_down()

        label = crash(number, act, last=self.go_down)
        self.come_up()
        return label

    def remove(self) -> None:
        """Unmounts all mounts of the image; never fails."""
        subprocess.run(["umount", "-l", self._point], capture_output=True, check=False)
        self._file.unlink(missing_ok=True)


@functools.cache
def why_no_image(kind: str) -> str | None:
    """Returns a line with the reason why no such filesystem can be made here, or None; tries to make one."""
    if os.geteuid() != 0:
        return "loop mounts need root"
    if shutil.which(_MAKE[kind][0][0], path=_PATH) is None:
        return f"there is no {_MAKE[kind][0][0]}"
    try:
        with image(kind) as made:
            made.go_down()
            made.come_up()
    except subprocess.CalledProcessError as error:
        return f"{kind} can't be loop-mounted here: {error.stderr.strip() or error}"
    return None


@contextmanager
def image(kind: str, size: int | None = None, *, inodes: int | None = None) -> Iterator[Image]:
    """A fresh filesystem, removed afterwards; in memory, where fsync takes no time."""
    parent = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    base = Path(tempfile.mkdtemp(prefix="artfs-image-", dir=parent))
    base.chmod(0o755)
    made = None
    try:
        made = Image(kind, base, size, inodes)
        yield made
    finally:
        if made is not None:
            made.remove()
        else:
            subprocess.run(["umount", "-l", base / "disk"], capture_output=True, check=False)
        shutil.rmtree(base, ignore_errors=True)


@contextmanager
def tmpfs(*options: str) -> Iterator[Path]:
    """A small filesystem in memory, with options of tmpfs(5); removed afterwards."""
    base = Path(tempfile.mkdtemp(prefix="artfs-tmpfs-"))
    base.chmod(0o755)
    try:
        _run("mount", "-t", "tmpfs", "-o", ",".join(["mode=755", *options]), "tmpfs", base)
        yield base
    finally:
        subprocess.run(["umount", "-l", base], capture_output=True, check=False)
        base.rmdir()


def needs(kind: str) -> None:
    """Skips the test if no such filesystem can be made."""
    if why := why_no_image(kind):
        pytest.skip(why)


def _run(*command: str | Path) -> str:
    environment = {**os.environ, "PATH": _PATH}
    return subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
