"""A pending version is discarded: by `discard`, by rmdir, or because it is idle."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import pytest

from tests.conformance.helpers import fails
from tests.mount.control import ask, command, control, finish, show

pytestmark = pytest.mark.fuse


def test_discard_removes_the_tree_and_frees_the_id(model: Path, job: Path) -> None:
    (job / "dir").mkdir()
    (job / "dir" / "file").write_text("data")
    command(job, "discard", "")
    assert os.listdir(model / "pending") == []
    assert not os.path.lexists(job)
    job.mkdir()
    assert os.listdir(job) == []
    (job / "file").write_text("new life")
    assert finish(job)["version"] == "v0"


def test_rmdir_discards_an_empty_pending_version_only(model: Path, job: Path) -> None:
    (job / "file").write_text("data")
    with fails(errno.ENOTEMPTY):
        job.rmdir()
    (job / "file").unlink()
    job.rmdir()
    assert os.listdir(model / "pending") == []
    job.mkdir()
    assert os.listdir(model / "pending") == ["job"]


def test_a_version_cannot_be_discarded(model: Path, job: Path) -> None:
    finish(job)
    assert not control(model / "v0", "discard").exists()
    with fails(errno.EPERM, errno.ENOENT):
        ask(model / "v0", "discard", "")
    assert (model / "v0").is_dir()


@pytest.mark.parametrize("change", ["a file is made", "a run joins", "a mode changes"])
def test_a_tree_in_use_is_not_discarded_as_idle(model: Path, job: Path, change: str) -> None:
    (job / "file").write_text("data")
    time.sleep(1.1)
    if change == "a file is made":
        (job / "new").touch()
    elif change == "a mode changes":
        (job / "file").chmod(0o600)
    else:
        command(job, "runs", "+run")
    with fails(errno.EBUSY):
        command(job, "discard", "--idle=1")
    assert "it is in use" in show(job, "error")
    assert (job / "file").read_text() == "data"
    if change == "a run joins":
        command(job, "runs", "-run")
    time.sleep(1.1)
    command(job, "discard", "--idle=1")
    assert os.listdir(model / "pending") == []


@pytest.mark.parametrize(
    "word",
    ["--idle=", "--idle=-1", "--idle=nan", "--idle=x", "--idle", "no", "--dry-run", "job", "yes please"],
)
def test_discard_refuses_unknown_options(job: Path, word: str) -> None:
    with fails(errno.EINVAL):
        command(job, "discard", word)
    assert os.listdir(job) == []
