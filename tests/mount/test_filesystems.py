"""What the backing filesystem is: one that does not do is refused in words, one that does is used.

Needs bindfs, whose files are paths: it stands for all filesystems that keep no open file whose name goes.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from artfs.daemon import background
from tests.mount.control import finish
from tests.mount.mounting import MountedVolume, artfs, mounted_volume, must

pytestmark = pytest.mark.fuse


@pytest.fixture
def bound(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """A directory, and what bindfs shows of it."""
    if shutil.which("bindfs") is None:
        pytest.skip("bindfs is not installed")
    real, shown = tmp_path / "real", tmp_path / "shown"
    real.mkdir()
    shown.mkdir()
    subprocess.run(["bindfs", real, shown], check=True)
    try:
        yield real, shown
    finally:
        subprocess.run(["fusermount3", "-u", shown], check=True)


def refused(*words: str | Path) -> str:
    """Runs a command that is to be refused; returns the one line that says why."""
    done = artfs(*words)
    assert done.returncode == 1, done
    [line] = done.stderr.splitlines()
    return line


def test_no_volume_is_made_where_files_are_paths(bound: tuple[Path, Path]) -> None:
    real, shown = bound
    (real / "empty").mkdir(0o751)
    for path in (shown / "new", shown / "empty"):
        line = refused("init", path)
        assert line.startswith(f"artfs: {path} cannot hold a volume: its filesystem (fuse) lacks ")
        assert "choose a directory on a local filesystem" in line
    assert [path.name for path in real.iterdir()] == ["empty"]
    assert (real / "empty").stat().st_mode & 0o777 == 0o751


def test_a_volume_is_read_there_and_not_written(bound: tuple[Path, Path], tmp_path: Path) -> None:
    real, shown = bound
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "file").write_text("bytes")
    (tmp_path / "mnt").mkdir()
    must("init", real / "vol")
    must("--volume", real / "vol", "put", tmp_path / "source", "--name", "model")
    for words in (
        ("mount", shown / "vol", tmp_path / "mnt"),
        ("--volume", shown / "vol", "put", tmp_path / "source", "--name", "other"),
    ):
        line = refused(*words)
        assert f"{shown / 'vol'} cannot be used there: its filesystem (fuse) lacks " in line
        assert "move the volume to a local filesystem" in line
    assert must("--volume", shown / "vol", "cat", "model:v0", "file") == "bytes"
    must("mount", "--read-only", shown / "vol", tmp_path / "mnt")
    try:
        assert (tmp_path / "mnt/model/v0/file").read_text() == "bytes"
    finally:
        must("umount", tmp_path / "mnt")
    must("--volume", real / "vol", "check")
    assert not [name for name in os.listdir(real / "vol") if name.startswith(".")]


def test_doctor_tells_the_same(bound: tuple[Path, Path], tmp_path: Path) -> None:
    real, shown = bound
    done = artfs("doctor", shown / "not" / "yet", "--json")
    told = json.loads(done.stdout)
    assert (done.returncode, told["path"], told["filesystem"], told["fit"]) == (1, str(shown), "fuse", False)
    missing = {need["need"] for need in told["needs"] if need["state"] == "missing"}
    assert {"hard links", "open files that are removed", "open files with two names"} <= missing
    assert "mounting" not in missing
    assert os.listdir(real) == []
    must("init", tmp_path / "vol")
    with_volume = json.loads(must("doctor", tmp_path / "vol", "--json"))
    assert with_volume["fit"]
    assert {need["state"] for need in with_volume["needs"]} == {"ok"}


def test_doctor_looks_behind_a_mount(own_mount: MountedVolume) -> None:
    (own_mount.point / "model").mkdir()
    told = json.loads(must("doctor", own_mount.point / "model", "--json"))
    assert (told["path"], told["fit"]) == (str(own_mount.volume), True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts a tmpfs")
def test_a_volume_in_memory(tmp_path: Path) -> None:
    """A filesystem that is not known by its type, and does all."""
    disk, point = tmp_path / "disk", tmp_path / "mnt"
    disk.mkdir()
    point.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m", "artfs-test", disk], check=True)
    try:
        must("init", disk / "vol")
        must("mount", disk / "vol", point)
        try:
            job = point / "model/pending/job"
            job.mkdir(parents=True)
            for name in ("file", "lock"):
                (job / name).write_text(name)
            (job / "lock").rename(job / "file")
            assert finish(job)["version"] == "v0"
            assert (point / "model/v0/file").read_text() == "lock"
        finally:
            must("umount", point)
        must("--volume", disk / "vol", "check")
        (tmp_path / "source").mkdir()
        must("--volume", disk / "vol", "put", tmp_path / "source", "--name", "other")
    finally:
        subprocess.run(["umount", disk], check=True)


_CEPH = """
import os, sys
from types import SimpleNamespace
from artfs.cli.main import main
from artfs.fuse import operations

def fstatvfs(fd):
    found = os.fstatvfs(fd)
    fields = {name: getattr(found, name) for name in dir(found) if name.startswith("f_")}
    return SimpleNamespace(**{**fields, "f_ffree": -1, "f_favail": -1})

operations.os = SimpleNamespace(**{**vars(os), "fstatvfs": fstatvfs})
main()
"""


class OnCeph(MountedVolume):
    """A volume whose filesystem counts free inodes below zero."""

    def _mount(self) -> None:
        background.start(
            ["mount", "--foreground", "--", str(self.volume), str(self.point)],
            self.volume / "logs" / "mount.log",
            program=[sys.executable, "-c", _CEPH],
        )


def test_statfs_where_free_inodes_are_not_counted() -> None:
    with mounted_volume(kind=OnCeph) as mounted:
        found = os.statvfs(mounted.point)
    assert (found.f_ffree, found.f_favail) == (0, 0)
    assert found.f_bavail > 0
