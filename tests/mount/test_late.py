"""Processes in a tree that is no longer pending never get into another one, and keep nothing of it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from tests.conformance.helpers import fails
from tests.mount.control import command, commit, control, finish, show_json
from tests.mount.mounting import MountedVolume

pytestmark = pytest.mark.fuse


@pytest.mark.parametrize(("end", "refusal"), [("finish", errno.EROFS), ("discard", errno.ENOENT)])
def test_a_late_writer_never_gets_into_another_tree(model: Path, job: Path, end: str, refusal: int) -> None:
    """The backing filesystem reuses inode numbers of removed directories for the next trees."""
    (job / "sub").mkdir()
    here = os.open(job / "sub", os.O_PATH)
    try:
        command(job, end, "")
        for number in range(20):
            tree = model / "pending" / f"next-{number}"
            for name in range(20):
                (tree / f"sub-{name}").mkdir(parents=True)
        with fails(refusal):
            os.open("late", os.O_WRONLY | os.O_CREAT, 0o644, dir_fd=here)
        assert not list((model / "pending").glob("*/*/late"))
    finally:
        os.close(here)


@pytest.mark.parametrize("name", ["discard", "finish"])
def test_an_old_control_handle_cannot_command_the_next_tree(job: Path, name: str) -> None:
    old = os.open(control(job, name), os.O_RDWR)
    try:
        command(job, "discard", "")
        job.mkdir(mode=0o700)
        (job / "file").write_text("data")
        with fails(errno.EROFS, errno.ENOENT):  # ENOENT once its files are removed
            os.write(old, b"\n")
    finally:
        os.close(old)
    assert (job / "file").read_text() == "data"
    assert show_json(job, "status")["state"] == "pending"


@pytest.mark.parametrize("end", ["rmdir", "discard", "finish"])
def test_an_ended_tree_keeps_no_descriptor(shared_mount: MountedVolume, model: Path, end: str) -> None:
    def descriptors() -> int:
        return len(os.listdir(f"/proc/{shared_mount.pid}/fd"))

    def round_trip(number: int) -> None:
        tree = model / "pending" / f"job-{number}"
        tree.mkdir()
        if end == "rmdir":
            tree.rmdir()
        elif end == "discard":
            command(tree, "discard", "")
        else:
            finish(tree)

    round_trip(0)  # imports, threads
    before = descriptors()
    for number in range(1, 41):
        round_trip(number)
    assert descriptors() < before + 20


def test_a_listing_omits_trees_finished_meanwhile(model: Path, job: Path) -> None:
    (model / "pending" / "other").mkdir()
    with os.scandir(model / "pending") as entries:
        finish(job)
        command(model / "pending" / "other", "discard", "")
        assert [entry.name for entry in entries] == []
    assert os.readlink(job) == "../v0"


def test_a_collection_with_a_damaged_version_can_be_listed(mnt: Path, volume_path: Path) -> None:
    (mnt / "model").mkdir()
    for name in ("one", "two"):
        commit(mnt / "model", name, {"file": name})
    record = volume_path / "collections" / "model" / "versions" / "v0.json"
    sound = record.read_bytes()
    record.chmod(0o600)
    record.write_bytes(b"{")
    try:
        assert sorted(os.listdir(mnt / "model")) == ["latest", "pending", "v1"]
        with fails(errno.EIO):
            os.stat(mnt / "model" / "v0" / "file")
    finally:
        record.write_bytes(sound)
