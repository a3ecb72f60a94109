"""Files with holes: their disk usage is reported, and copies keep the holes."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.mount.control import command, finish
from tests.mount.mounting import MountedVolume, must

pytestmark = pytest.mark.fuse

SIZE = 20 << 20
DATA = os.urandom(1 << 20)
HOLE, PART, FULL = "a hole", "data in a hole", "no hole"


def fill(tree: Path) -> None:
    for name in (HOLE, PART):
        with (tree / name).open("wb") as file:
            file.truncate(SIZE)
    with (tree / PART).open("r+b") as file:
        file.seek(7 << 20)
        file.write(DATA)
    (tree / FULL).write_bytes(DATA * 3)


def stored(path: Path) -> int:
    return path.stat().st_blocks * 512


def expect_holes(tree: Path) -> None:
    assert stored(tree / HOLE) < 1 << 16
    assert len(DATA) <= stored(tree / PART) < 2 * len(DATA)
    assert len(DATA) * 3 <= stored(tree / FULL)
    assert {name: (tree / name).stat().st_size for name in (HOLE, PART)} == {HOLE: SIZE, PART: SIZE}
    assert (tree / FULL).read_bytes() == DATA * 3
    assert (tree / PART).read_bytes() == bytes(7 << 20) + DATA + bytes(SIZE - (8 << 20))


@pytest.fixture
def version(model: Path, job: Path) -> Path:
    fill(job)
    expect_holes(job)
    finish(job)
    return model / "v0"


@pytest.fixture
def patch(model: Path, version: Path) -> Path:
    tree = model / "pending" / "patch"
    tree.mkdir()
    command(tree, "base", "v0")
    return tree


def test_sealed_files_keep_their_holes(version: Path) -> None:
    expect_holes(version)
    listed = {entry.name: entry.stat().st_blocks for entry in os.scandir(version)}
    assert listed == {name: (version / name).stat().st_blocks for name in (HOLE, PART, FULL)}


def test_lower_and_copied_files_of_a_patch_keep_their_holes(patch: Path) -> None:
    expect_holes(patch)
    (patch / HOLE).chmod(0o600)
    (patch / PART).chmod(0o600)
    expect_holes(patch)
    for name in (HOLE, PART):
        os.setxattr(patch / name, b"user.name", b"value")
    expect_holes(patch)
    answer = finish(patch)
    expect_holes(patch.parent.parent / answer["version"])


@pytest.mark.parametrize(
    "copy", ["cp {0}/* {1}", "tar -cS -C {0} . | tar -xS -C {1}", "rsync -aS {0}/ {1}"], ids=str.split
)
def test_tools_keep_the_holes(version: Path, tmp_path: Path, copy: str) -> None:
    subprocess.run(copy.format(version, tmp_path), shell=True, check=True)
    expect_holes(tmp_path)


def test_an_archive_has_no_holes(version: Path) -> None:
    done = subprocess.run(["tar", "-cS", "-C", version, "."], check=True, capture_output=True)
    assert len(done.stdout) < 5 * len(DATA)


@pytest.mark.parametrize("way", ["mounted", "direct"])
def test_put_and_get_keep_the_holes(shared_mount: MountedVolume, tmp_path: Path, way: str) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    fill(source)
    volume = shared_mount.volume
    if way == "direct":
        volume = tmp_path / "volume"
        must("init", volume)
    must("--volume", volume, "put", source, "--name", "sparse")
    must("--volume", volume, "get", "sparse", target)
    expect_holes(target)
    if way == "mounted":
        expect_holes(shared_mount.point / "sparse" / "v0")


def test_a_reference_is_not_taken_for_a_hole(
    shared_mount: MountedVolume, model: Path, job: Path, tmp_path: Path
) -> None:
    """GNU tar -S does not read a file without blocks."""
    outside = shared_mount.base / "outside"  # readable by all users
    outside.write_bytes(DATA)
    command(job, "references", f"file {outside.as_uri()}")
    assert [entry.stat().st_blocks * 512 >= len(DATA) for entry in os.scandir(job)] == [True]
    for tree in (job, model / "v0"):
        assert stored(tree / "file") >= len(DATA)
        target = tmp_path / tree.name
        target.mkdir()
        subprocess.run(f"tar -cS -C {tree} file | tar -x -C {target}", shell=True, check=True)
        assert (target / "file").read_bytes() == DATA
        if tree == job:
            finish(job)
