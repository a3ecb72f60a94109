"""Unsuitable backing filesystems are refused with a reason; suitable ones work.

Needs bindfs, which stands for all filesystems that do not keep open files whose name is removed.
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
    """A directory, and its bindfs mount."""
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
    """Runs a command that is refused; returns the line with the reason."""
    done = artfs(*words)
    assert done.returncode == 1, done
    [line] = done.stderr.splitlines()
    return line


def test_init_refuses_an_unsuitable_filesystem(bound: tuple[Path, Path]) -> None:
    real, shown = bound
    (real / "empty").mkdir(0o751)
    for path in (shown / "new", shown / "empty"):
        line = refused("init", path)
        assert line.startswith(f"artfs: {path} cannot hold a volume: its filesystem (fuse) lacks ")
        assert "choose a directory on a local filesystem" in line
    assert [path.name for path in real.iterdir()] == ["empty"]
    assert (real / "empty").stat().st_mode & 0o777 == 0o751


def test_a_volume_on_an_unsuitable_filesystem_is_read_only(bound: tuple[Path, Path], tmp_path: Path) -> None:
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


def test_doctor_reports_an_unsuitable_filesystem(bound: tuple[Path, Path], tmp_path: Path) -> None:
    real, shown = bound
    done = artfs("doctor", shown / "not" / "yet", "--json")
    report = json.loads(done.stdout)
    assert (done.returncode, report["path"], report["filesystem"], report["fit"]) == (
        1,
        str(shown),
        "fuse",
        False,
    )
    missing = {need["need"] for need in report["needs"] if need["state"] == "missing"}
    assert {"hard links", "open files that are removed", "open files with two names"} <= missing
    assert "mounting" not in missing
    assert os.listdir(real) == []
    must("init", tmp_path / "vol")
    with_volume = json.loads(must("doctor", tmp_path / "vol", "--json"))
    assert with_volume["fit"]
    assert {need["state"] for need in with_volume["needs"]} == {"ok"}


def test_doctor_checks_the_volume_of_a_mount(own_mount: MountedVolume) -> None:
    (own_mount.point / "model").mkdir()
    report = json.loads(must("doctor", own_mount.point / "model", "--json"))
    assert (report["path"], report["fit"]) == (str(own_mount.volume), True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts a tmpfs")
def test_a_volume_on_tmpfs_works(tmp_path: Path) -> None:
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
    """A volume whose filesystem reports negative numbers of free inodes."""

    def _mount(self) -> None:
        background.start(
            ["mount", "--foreground", "--", str(self.volume), str(self.point)],
            self.volume / "logs" / "mount.log",
            program=[sys.executable, "-c", _CEPH],
        )


def test_statfs_reports_negative_inode_counts_as_zero() -> None:
    with mounted_volume(kind=OnCeph) as mounted:
        found = os.statvfs(mounted.point)
    assert (found.f_ffree, found.f_favail) == (0, 0)
    assert found.f_bavail > 0
