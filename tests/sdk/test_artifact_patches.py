"""Patch mode: a draft begins as a version, is changed, and becomes the next one."""

from __future__ import annotations

from pathlib import Path

import pytest

import artfs as wandb
from tests.sdk.conftest import Place


@pytest.fixture
def base(place: Place, name: str, files: Path) -> wandb.Artifact:
    artifact = wandb.Artifact(name, "dataset", metadata={"rows": 3}, description="Base")
    artifact.add_dir(files)
    artifact.save()
    return artifact


def test_the_code_of_the_guide_works(base: wandb.Artifact, name: str, tmp_path: Path) -> None:
    (tmp_path / "changed").write_text("changed")
    with wandb.init(project="demo") as run:
        saved_artifact = run.use_artifact(f"{name}:latest")
        draft_artifact = saved_artifact.new_draft()
        draft_artifact.add_file("changed", "new/file.txt")
        draft_artifact.remove("sub/big.bin")
        draft_artifact.remove("a.txt")
        draft_artifact.add_file("changed", "a.txt")
        run.log_artifact(draft_artifact)
    found = wandb.Api().artifact(f"{name}:latest")
    assert found.version == "v1"
    assert sorted(found.manifest.entries) == [
        "a.txt",
        "link",
        "new/file.txt",
        "nowhere",
        "sub/empty",
        "sub/run.sh",
    ]
    assert found.get("a.txt") == "changed"
    assert (found.metadata, found.description) == ({"rows": 3}, "Base")
    assert sorted(base.manifest.all) == [
        "a.txt",
        "link",
        "nowhere",
        "sub",
        "sub/big.bin",
        "sub/empty",
        "sub/run.sh",
    ]
    assert base.get("a.txt") == "hello\n"


def test_a_draft_shows_its_base(base: wandb.Artifact, name: str) -> None:
    draft = wandb.Api().artifact(f"{name}:latest").new_draft()
    assert draft.is_draft()
    assert draft.source_version == "v0"
    assert sorted(draft.manifest.all) == sorted(base.manifest.all)
    with draft.open("sub/run.sh") as file:
        assert file.read() == b"#!/bin/sh\n"
    with pytest.raises(FileNotFoundError, match="missing"):
        draft.remove("missing")
    with pytest.raises(wandb.PathConflictError, match=r"'a.txt'"):
        draft.add("other", "a.txt")
    draft.add("other", "a.txt", overwrite=True)
    with draft.new_file("sub/more.txt") as more:
        more.write("more")
    draft.save()
    assert (draft.version, draft.get("a.txt"), draft.get("sub/more.txt")) == ("v1", "other", "more")


def test_a_directory_is_removed(base: wandb.Artifact, name: str) -> None:
    draft = base.new_draft()
    draft.remove("sub/")
    draft.add(b"a file now", "sub")
    draft.save()
    assert sorted(draft.manifest.entries) == ["a.txt", "link", "nowhere", "sub"]


def test_an_unchanged_draft_makes_no_version(base: wandb.Artifact) -> None:
    draft = base.new_draft()
    draft.save()
    assert (draft.version, draft.unchanged) == ("v0", True)


def test_two_drafts_of_one_version_do_not_mix(base: wandb.Artifact) -> None:
    first, second = base.new_draft(), base.new_draft()
    first.add("1", "first")
    second.add("2", "second")
    first.save()
    second.save()
    # The base is a number: each is that version with its own changes.
    assert "second.txt" not in first.manifest.all
    assert "first.txt" not in second.manifest.all
    assert (first.version, second.version) == ("v1", "v2")


def test_a_link_is_made_and_removed(base: wandb.Artifact, name: str) -> None:
    linked = base.link(f"registry/{name}-best", aliases=["candidate"])
    assert linked.name == f"{name}-best:v0"
    assert linked.digest == base.digest
    assert linked.is_link
    assert not base.is_link
    with pytest.raises(ValueError, match="is no link"):
        base.unlink()
    with wandb.init() as run:
        assert run.link_artifact(base, f"{name}-best").unchanged
    linked.unlink()
    assert not wandb.Api().artifact_exists(f"{name}-best:v0")
    assert base.get_entry("a.txt").size == 6
