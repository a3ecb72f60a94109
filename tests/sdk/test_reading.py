"""Versions are read in place, downloaded, checked out and verified; no symlink leads out."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import artfs as wandb
from tests.cli.running import snapshot
from tests.sdk.conftest import Place


@pytest.fixture
def version(place: Place, name: str, files: Path) -> wandb.Artifact:
    """A version with an entry of each kind, found by its name."""
    artifact = wandb.Artifact(name, "dataset")
    artifact.add_dir(files)
    artifact.add_file(files / "a.txt", "subset/a.txt")
    artifact.save()
    return wandb.Api().artifact(name)


def test_entries_describe_files(version: wandb.Artifact) -> None:
    assert [file.name for file in version.files()] == [
        "a.txt",
        "link",
        "nowhere",
        "sub/big.bin",
        "sub/run.sh",
        "subset/a.txt",
    ]
    assert [file.name for file in version.files(names=["a.txt", "link"])] == ["a.txt", "link"]
    assert [file.name for file in version.files(start="sub/run.sh")] == ["sub/run.sh", "subset/a.txt"]
    entry = version.get_entry("a.txt")
    assert (entry.kind, entry.size, entry.mode, entry.mtime_ns) == ("file", 6, 0o644, 981_173_106_123_456_789)
    assert entry.digest == version.get_path("subset/a.txt").digest
    assert version.get_entry("link").target == "sub/run.sh"
    assert version.get_entry("sub/empty/").kind == "directory"
    assert "sub/empty" in version.manifest.entries
    assert "sub" not in version.manifest.entries
    assert [entry.path for entry in version.manifest.get_entries_in_directory("sub")] == [
        "sub/big.bin",
        "sub/empty",
        "sub/run.sh",
    ]
    assert version.manifest.size() == version.size == 6 + 6 + 10 + 1_200_001
    document = version.manifest.to_manifest_json()
    assert document["contents"]["a.txt"] == {"kind": "file", "size": 6, "digest": entry.digest}
    with pytest.raises(KeyError) as caught:
        version.get_entry("missing")
    assert str(caught.value) == f"{version.name} has no 'missing'"


def test_files_open_with_and_without_a_mount(version: wandb.Artifact) -> None:
    with version.open("a.txt", "r") as text:
        assert text.read() == "hello\n"
    with version.get_entry("link").open() as file:
        assert file.read() == b"#!/bin/sh\n"
    for wrong in ("missing", "sub/missing", "nowhere"):
        with pytest.raises(wandb.ArtfsError, match=wrong):
            version.open(wrong)
    with pytest.raises(wandb.ArtfsError, match="'sub' is a directory"):
        version.open("sub")
    with pytest.raises(ValueError, match="mode='w'"):
        version.open("a.txt", "w")


def test_a_version_has_a_directory_on_a_mount(place: Place, version: wandb.Artifact, files: Path) -> None:
    if place.mounted:
        expected = snapshot(files)
        found = {path: facts for path, facts in snapshot(version.path).items() if b"subset" not in path}
        assert found == expected
        with pytest.raises(OSError, match="Read-only"):
            (version.path / "a.txt").write_text("x")
    else:
        with pytest.raises(wandb.ArtfsError, match="without a mount: use open"):
            version.path.stat()


def test_a_download_keeps_other_files(version: wandb.Artifact, tmp_path: Path, files: Path) -> None:
    assert version.download() == os.path.abspath(f"artifacts/{version.name}")
    version.verify()
    out = tmp_path / "deep" / "out"
    out.mkdir(parents=True)
    (out / "mine").write_text("stays")
    (out / "a.txt").write_text("old")
    assert version.download(out) == str(out)
    assert (out / "mine").read_text() == "stays"
    assert (out / "a.txt").read_text() == "hello\n"
    (out / "a.txt").write_text("changed")
    with version.open("a.txt") as file:
        assert file.read() == b"hello\n"
    assert version.get_entry("sub/run.sh").download(tmp_path / "one") == str(
        tmp_path / "one" / "sub" / "run.sh"
    )


def test_a_prefix_is_a_path(version: wandb.Artifact, tmp_path: Path) -> None:
    version.download(tmp_path / "out", path_prefix="sub")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["sub"]
    version.download(tmp_path / "file", path_prefix="sub/run.sh")
    assert sorted(str(path.relative_to(tmp_path)) for path in (tmp_path / "file").rglob("*")) == [
        "file/sub",
        "file/sub/run.sh",
    ]
    for wrong in ("su", "sub/run", "a.txt/x"):
        with pytest.raises(KeyError, match=wrong):
            version.download(tmp_path / "none", path_prefix=wrong)
    assert not (tmp_path / "none").exists()


def test_the_only_file_is_fetched(place: Place, name: str, version: wandb.Artifact, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="6 files"):
        version.file()
    one = wandb.Artifact(f"{name}-one", "dataset")
    one.add("text", "notes")
    one.save()
    assert one.file(tmp_path / "out") == str(tmp_path / "out" / "notes.txt")


def test_no_symlink_is_followed_out(version: wandb.Artifact, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "run.sh").write_text("precious")
    out = tmp_path / "out"
    out.mkdir()
    (out / "sub").symlink_to(elsewhere)
    (out / "a.txt").symlink_to(elsewhere / "run.sh")
    with pytest.raises(wandb.ArtfsError, match="'sub' is no directory in the target"):
        version.download(out)
    assert (elsewhere / "run.sh").read_text() == "precious"
    assert not (out / "a.txt").is_symlink()
    with pytest.raises(ValueError, match="sub is not a directory"):
        version.verify(out)
    version.checkout(out)
    version.verify(out)
    assert not (out / "sub").is_symlink()
    assert sorted(os.listdir(elsewhere)) == ["run.sh"]


def test_checkout_leaves_nothing_else(version: wandb.Artifact, tmp_path: Path, files: Path) -> None:
    out = tmp_path / "out"
    (out / "sub" / "more" / "deeper").mkdir(parents=True)
    (out / "sub" / "more" / "deeper" / "x").write_text("x")
    (out / "a.txt").mkdir()
    (out / "a.txt" / "y").write_text("y")
    (out / "sub" / "empty").write_text("a file")
    (out / "gone").symlink_to("/etc")
    assert version.checkout(out) == str(out)
    found = {path: facts for path, facts in snapshot(out).items() if b"subset" not in path}
    assert found == snapshot(files)
    assert Path("/etc/passwd").exists()


def test_verify_names_what_is_wrong(version: wandb.Artifact, tmp_path: Path) -> None:
    out = tmp_path / "out"
    version.download(out)
    (out / "a.txt").write_text("hellO\n")
    (out / "sub" / "run.sh").unlink()
    (out / "sub" / "run.sh").symlink_to("/etc/passwd")
    (out / "link").unlink()
    (out / "link").symlink_to("elsewhere")
    (out / "subset" / "a.txt").unlink()
    (out / "extra").write_text("x")
    with pytest.raises(ValueError, match="root=") as caught:
        version.verify(out)
    for problem in (
        "a.txt has other bytes",
        "sub/run.sh is not a file",
        "link has another target",
        "subset/a.txt is missing",
        "extra is not in the version",
    ):
        assert problem in str(caught.value)


def test_names_need_not_be_text(artifact: wandb.Artifact, tmp_path: Path) -> None:
    odd = os.fsdecode(b"\xff not utf-8\n")
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / odd).write_text("bytes")
    artifact.add_dir("odd")
    artifact.add_file(tmp_path / "odd" / odd, "copy")
    artifact.save()
    assert [entry.path for entry in artifact.files()] == ["copy", odd]
    with artifact.open(odd) as file:
        assert file.read() == b"bytes"
    artifact.download("out")
    artifact.verify("out")


def test_the_api_finds_what_exists(place: Place, name: str, version: wandb.Artifact, files: Path) -> None:
    api = wandb.Api()
    version.aliases.append("best")
    version.tags = ["a", "b"]
    version.save()
    second = version.collection
    assert (second.name, second.type) == (name, "dataset")
    other = wandb.Artifact(name, "dataset")
    other.add("new", "x")
    other.save()
    assert [one.version for one in api.artifacts("dataset", name)] == ["v1", "v0"]
    assert [one.version for one in api.artifacts("dataset", name, tags=["b"])] == ["v0"]
    assert api.artifact(f"entity/project/{name}:best").version == "v0"
    assert api.artifact(name).version == "v1"
    assert "dataset" in [kind.name for kind in api.artifact_types()]
    assert name in [one.name for one in api.artifact_type("dataset").collections()]
    assert name in [one.name for one in api.artifact_collections(None, "dataset")]
    collection = api.artifact_collection("dataset", name)
    assert [one.version for one in collection.versions()] == ["v1", "v0"]
    assert collection.aliases == ["best", "latest"]
    collection.description = "All of it"
    collection.save()
    assert api.artifact_collection("dataset", name).description == "All of it"
    assert api.artifact_exists(f"{name}:v1")
    assert api.artifact_exists(f"{name}:v1", "dataset")
    assert not api.artifact_exists(f"{name}:v1", "model")
    assert not api.artifact_exists(f"{name}:v7")
    assert api.artifact_collection_exists(name, "dataset")
    assert not api.artifact_collection_exists(name, "model")
    assert not api.artifact_collection_exists("nowhere", "model")
    for wrong in (
        lambda: api.artifact(name, type="model"),
        lambda: api.artifact_type("nothing"),
        lambda: api.artifact_collection("model", name),
    ):
        with pytest.raises(ValueError, match=r"type"):
            wrong()
    with pytest.raises(wandb.ArtfsError, match="no version or alias 'v9'"):
        api.artifact(f"{name}:v9")
    with pytest.raises(wandb.ArtfsError, match="is held by: best"):
        version.delete()
    version.delete(delete_aliases=True)
    assert version.state == "DELETED"
    assert not api.artifact_exists(f"{name}:v0")
    collection.delete()
    assert not api.artifact_collection_exists(name, "dataset")


def test_labels_are_stored_by_save(place: Place, name: str, version: wandb.Artifact) -> None:
    version.description = "Better"
    version.metadata["score"] = float("nan")
    version.metadata["deep"] = {"list": (1, 2)}
    version.aliases += ["best", "prod"]
    version.tags = ["reviewed"]
    updated = version.updated_at
    version.save()
    found = wandb.Api().artifact(f"{name}:prod")
    assert found.description == "Better"
    assert found.metadata == {"score": None, "deep": {"list": [1, 2]}}
    assert (found.aliases, found.tags) == (["best", "prod", "latest"], ["reviewed"])
    assert updated == found.created_at < found.updated_at
    found.aliases.remove("prod")
    found.save()
    assert wandb.Api().artifact(name).aliases == ["best", "latest"]
    other = wandb.Artifact(name, "dataset")
    other.aliases = ["best"]
    other.save()
    found.aliases.remove("best")
    found.save()
    assert wandb.Api().artifact(f"{name}:best").version == "v1"
    version.aliases.append("v7")
    with pytest.raises(ValueError, match="'v7'"):
        version.save()


def test_labels_that_others_changed_stay(place: Place, name: str, version: wandb.Artifact) -> None:
    version.tags = ["kept", "dropped", "theirs-to-drop"]
    version.metadata = {"kept": 1, "dropped": 1, "theirs": 1, "ours": 1, "both": 1}
    version.save()
    theirs = wandb.Api().artifact(name)
    theirs.tags = ["kept", "dropped", "both", "theirs"]
    theirs.metadata.update(theirs=2, both=2, new=2)
    theirs.save()
    version.tags.remove("dropped")
    version.tags += ["both", "ours"]
    del version.metadata["dropped"]
    version.metadata.update(ours=3, both=3)
    version.save()
    for found in (version, wandb.Api().artifact(name)):
        assert found.tags == ["kept", "both", "theirs", "ours"]
        assert found.metadata == {"kept": 1, "theirs": 2, "ours": 3, "both": 3, "new": 2}
    theirs.description = "Better"
    theirs.save()
    assert (theirs.tags, theirs.metadata) == (version.tags, version.metadata)
