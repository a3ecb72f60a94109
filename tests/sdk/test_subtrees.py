"""A container in which one collection, or one pending version, is mounted and nothing else."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import artfs as wandb
from artfs.sdk import connection
from tests.mount.mounting import MountedVolume, mounted_volume

pytestmark = [
    pytest.mark.fuse,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can bind a subtree of a mount"),
]

Given = Callable[[str], Path]


@pytest.fixture(scope="module")
def mounted() -> Iterator[MountedVolume]:
    with mounted_volume() as made:
        (made.point / "model").mkdir()
        yield made


@pytest.fixture
def given(mounted: MountedVolume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Given]:
    """Binds a directory of the mount to a path of its own, which the SDK then uses."""
    here = tmp_path / "model"  # an empty collection has the name of its directory here
    here.mkdir()

    def bind(folder: str) -> Path:
        subprocess.run(["mount", "--bind", mounted.point / folder, here], check=True)
        monkeypatch.setenv("ARTFS_VOLUME", str(here))
        return here

    yield bind
    connection.forget()
    subprocess.run(["umount", here], check=True)


def test_the_sdk_works_in_one_collection(given: Given, mounted: MountedVolume, tmp_path: Path) -> None:
    here = given("model")
    (tmp_path / "weights").write_text("weights")
    with wandb.init(id="train", group="job-42") as run:
        first = run.log_artifact(tmp_path / "weights", name="model", type="model", aliases=["best"])
        part = wandb.Artifact("model", "model")
        part.add("part", "part")
        run.upsert_artifact(part)
    with wandb.init(id="evaluate", group="job-42") as run:
        run.use_artifact("model:best")
        second = run.finish_artifact(wandb.Artifact("model", "model"))
    assert first.path == here / "v0"
    assert (second.version, second.get("part")) == ("v1", "part")
    assert [one.id for one in first.used_by()] == ["evaluate"]
    assert [one.id for one in second.producers()] == ["train", "evaluate"]
    assert [one.version for one in wandb.Api().artifacts("model", "model")] == ["v1", "v0"]
    first.download(tmp_path / "out")
    first.verify(tmp_path / "out")
    with pytest.raises(wandb.ArtfsError, match="nothing but the collection 'model'"):
        wandb.Artifact("other", "model").save()
    with pytest.raises(wandb.ArtfsError, match="nothing but the collection 'model'"):
        wandb.Api().run("train")


def test_the_sdk_works_in_one_pending_version(given: Given, mounted: MountedVolume, tmp_path: Path) -> None:
    (mounted.point / "model" / "pending" / "job-43").mkdir()
    here = given("model/pending/job-43")
    with wandb.init(id="train") as run:
        artifact = wandb.Artifact("model", "model", distributed_id="job-43")
        artifact.add("weights", "weights")
        assert artifact.path == here
        run.upsert_artifact(artifact)
        done = run.finish_artifact(wandb.Artifact("model", "model"), distributed_id="job-43")
    assert done.get("weights") == "weights"
    assert [one.id for one in done.producers()] == ["train"]
    with pytest.raises(wandb.ArtfsError, match="nothing but"):
        wandb.Artifact("model", "model").save()
