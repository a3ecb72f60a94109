"""One run, one version: init, Artifact, log, save; files are kept exactly."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest

import artfs as wandb
from tests.cli.running import snapshot
from tests.conformance.helpers import eventually
from tests.sdk.conftest import Place, draft_of


def test_the_code_of_the_guide_works(place: Place, name: str, tmp_path: Path) -> None:
    (tmp_path / "image1.png").write_bytes(b"png")
    with wandb.init(project="demo") as run:
        artifact = wandb.Artifact(name, type="dataset")
        artifact.add_file("image1.png")
        run.log_artifact(artifact)
    found = wandb.Api().artifact(f"{name}:latest")
    assert found.version == "v0"
    assert found.name == f"{name}:v0" == artifact.name
    assert found.type == "dataset"
    with found.open("image1.png") as file:
        assert file.read() == b"png"


def test_an_artifact_is_saved_without_a_run(place: Place, name: str, tmp_path: Path) -> None:
    artifact = wandb.Artifact(name, "dataset", description="Digits", metadata={"rows": 3})
    with artifact.new_file("hello.txt") as file:
        file.write("hello!")
    assert artifact.state == "PENDING"
    assert artifact.is_draft()
    artifact.save()
    assert (artifact.state, artifact.version, artifact.unchanged) == ("COMMITTED", "v0", False)
    found = wandb.Api().artifact(name)
    assert (found.description, found.metadata, found.file_count, found.size) == ("Digits", {"rows": 3}, 1, 6)
    assert found.digest == artifact.digest
    assert found.logged_by() is None
    assert wandb.run is None


def test_a_directory_is_kept_whole(artifact: wandb.Artifact, files: Path, tmp_path: Path) -> None:
    artifact.add_dir(files)
    artifact.add_dir(files, name="again/")
    artifact.save()
    artifact.download(tmp_path / "out")
    expected = snapshot(files)
    found = snapshot(tmp_path / "out")
    assert {path: facts for path, facts in found.items() if not path.startswith(b"again")} == expected
    below = {
        path.removeprefix(b"again/"): facts for path, facts in found.items() if path.startswith(b"again/")
    }
    assert below == expected


def test_files_are_excluded_and_links_followed(
    name: str, artifact: wandb.Artifact, files: Path, tmp_path: Path
) -> None:
    (files / "nowhere").unlink()
    (files / "to-sub").symlink_to("sub")
    (files / "a.tmp").touch()
    artifact.add_dir(files, exclude=["*.tmp", "sub/big.bin", "empty/"], follow_symlinks=True)
    artifact.save()
    assert sorted(artifact.manifest.entries) == [
        "a.txt",
        "link",
        "sub/run.sh",
        "to-sub/big.bin",
        "to-sub/run.sh",
    ]
    assert artifact.get_entry("link").kind == "file"
    (files / "sub" / "up").symlink_to("..")
    with pytest.raises(OSError, match="leads to a directory that holds it"):
        wandb.Artifact(name, "dataset").add_dir(files, follow_symlinks=True)


def test_a_path_is_logged(place: Place, name: str, files: Path) -> None:
    with wandb.init(id=f"run-of-{name}") as run:
        one = run.log_artifact(files / "a.txt", name=name, type="dataset", aliases=["best"], tags=["small"])
        two = run.log_artifact(str(files), name=name, aliases=["latest", "all"], type="dataset")
        three = run.log_artifact(files / "a.txt")
    assert (one.version, one.aliases, one.tags) == ("v0", ["best", "latest"], ["small"])
    assert (two.version, two.aliases) == ("v1", ["all", "latest"])
    assert (three.name, three.type) == (f"run-run-of-{name}-a.txt:v0", "unspecified")
    three.delete()
    three.collection.delete()


def test_an_unchanged_log_returns_the_newest_version(place: Place, name: str, files: Path) -> None:
    with wandb.init(id=f"{name}-1") as run:
        first = run.log_artifact(files, name=name, type="dataset")
    with wandb.init(id=f"{name}-2") as run:
        artifact = wandb.Artifact(name, "dataset")
        artifact.add_dir(files)
        again = run.log_artifact(artifact, aliases=["same"]).wait()
    assert again is artifact
    assert (first.unchanged, again.unchanged) == (False, True)
    assert (again.version, again.aliases) == ("v0", ["same", "latest"])
    assert [made.id for made in again.producers()] == [f"{name}-1", f"{name}-2"]
    made_by = again.logged_by()
    assert made_by is not None
    assert made_by.id == f"{name}-1"
    assert [made.name for made in wandb.Api().run(f"{name}-2").logged_artifacts()] == [f"{name}:v0"]


def test_files_are_stored_when_they_are_added(artifact: wandb.Artifact, tmp_path: Path) -> None:
    source = tmp_path / "data.csv"
    source.write_text("first")
    entry = artifact.add_file(source, name="raw/data.csv")
    digest = entry.digest
    source.write_text("other")
    source.unlink()
    artifact.save()
    with artifact.open("raw/data.csv", "r") as file:
        assert file.read() == "first"
    assert artifact.get_entry("raw/data.csv").digest == digest
    assert (entry.path, entry.size, entry.kind) == ("raw/data.csv", 5, "file")


def test_a_path_is_replaced_only_with_overwrite(artifact: wandb.Artifact, tmp_path: Path) -> None:
    (tmp_path / "one").write_text("1")
    (tmp_path / "two").write_text("2")
    artifact.add_file("one", name="x")
    artifact.add_file("one", name="x")  # the same bytes
    with pytest.raises(wandb.PathConflictError, match="'x'"):
        artifact.add_file("two", name="x")
    artifact.add_file("two", name="x", overwrite=True)
    with artifact.open("x") as file:
        assert file.read() == b"2"
    artifact.save()
    assert artifact.file_count == 1


def test_a_file_and_a_directory_of_one_name_conflict(artifact: wandb.Artifact, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    artifact.add_file("file", name="k/z")
    with pytest.raises(wandb.ArtfsError, match="cannot create the file 'k': 'k' is a directory"):
        artifact.add_file("file", name="k")
    artifact.add_file("file", name="j")
    with pytest.raises(wandb.ArtfsError, match="cannot create the directory 'j': 'j' is a file"):
        artifact.add_file("file", name="j/z", overwrite=True)
    artifact.save()
    assert sorted(artifact.manifest.entries) == ["j", "k/z"]


def test_an_empty_artifact_is_a_version(artifact: wandb.Artifact) -> None:
    artifact.save()
    assert (artifact.version, artifact.file_count, artifact.size) == ("v0", 0, 0)


def test_a_saved_artifact_refuses_files(name: str, artifact: wandb.Artifact, files: Path) -> None:
    for question in ("version", "digest", "created_at"):
        with pytest.raises(wandb.ArtifactNotLoggedError, match=question):
            getattr(artifact, question)
    artifact.add_dir(files)
    artifact.save()
    for change in (
        lambda: artifact.add_file(files / "a.txt"),
        lambda: artifact.add_dir(files),
        lambda: artifact.add("text", "b"),
        lambda: artifact.new_file("c").__enter__(),
        lambda: artifact.remove("a.txt"),
    ):
        with pytest.raises(wandb.ArtifactFinalizedError, match=name):
            change()
    finalized = wandb.Artifact(name, "dataset")
    finalized.finalize()
    with pytest.raises(wandb.ArtifactFinalizedError):
        finalized.add_dir(files)


def test_a_draft_can_be_looked_at_and_changed(artifact: wandb.Artifact, files: Path) -> None:
    assert len(artifact.manifest) == 0
    with pytest.raises(FileNotFoundError, match=r"'a.txt'"):
        artifact.remove("a.txt")
    artifact.add_dir(files)
    assert artifact.file_count == 3
    assert artifact.size == 6 + 10 + 1_200_001
    artifact.remove("sub/")
    artifact.remove(artifact.get_entry("nowhere"))
    with pytest.raises(FileNotFoundError, match=r"'sub/run.sh'"):
        artifact.remove("sub/run.sh")
    assert sorted(artifact.manifest.entries) == ["a.txt", "link"]
    artifact.save()
    assert sorted(artifact.manifest.entries) == ["a.txt", "link"]


def test_a_dropped_draft_leaves_nothing(place: Place, name: str, files: Path) -> None:
    artifact = wandb.Artifact(name, "dataset")
    artifact.add_dir(files)
    client = artifact._state.client()
    assert len(client.pending_names(name)) == 1
    del artifact
    eventually(lambda: name not in {found["name"] for found in client.collections()}, what="the draft goes")


def test_new_file_that_fails_adds_nothing(artifact: wandb.Artifact) -> None:
    with pytest.raises(RuntimeError), artifact.new_file("a/b.txt") as file:
        file.write("half")
        raise RuntimeError
    with artifact.new_file("a/c.bin", "wb") as file:
        file.write(b"\x00whole")
    artifact.save()
    assert sorted(artifact.manifest.entries) == ["a/c.bin"]


def test_a_mount_has_its_directory(place: Place, name: str, artifact: wandb.Artifact, files: Path) -> None:
    artifact.add_dir(files)
    if not place.mounted:
        with pytest.raises(wandb.ArtfsError, match="without a mount"):
            print(artifact.path)
        return
    (artifact.path / "by-hand.txt").write_text("any tool")
    artifact.save()
    assert artifact.path == place.path / name / "v0"
    assert (artifact.path / "by-hand.txt").read_text() == "any tool"
    assert os.listdir(artifact.path / "sub" / "empty") == []


def test_a_missing_volume_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ARTFS_VOLUME", raising=False)
    artifact = draft_of(name, x=b"bytes")
    artifact.save()
    assert (tmp_path / ".artfs-volume" / "artfs.json").exists()
    assert wandb.Api().artifact(name).get("x") == b"bytes"


def stored_bytes(*roots: Path) -> int:
    """Returns the disk usage of some directories, each inode once."""
    found = {}
    for root in roots:
        for directory, _, names in os.walk(root):
            for entry in names:
                with contextlib.suppress(FileNotFoundError):  # a thread empties the trash
                    status = os.lstat(os.path.join(directory, entry))
                    found[status.st_dev, status.st_ino] = status.st_blocks * 512
    return sum(found.values())


def test_a_file_is_stored_once(
    place: Place, name: str, artifact: wandb.Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not (place.volume / "artfs.json").exists():
        pytest.skip("the volume is hidden here")
    home, temp, size = tmp_path / "home", tmp_path / "temp", 8 << 20
    for variable, path in (("HOME", home), ("TMPDIR", temp), ("XDG_CACHE_HOME", home / "cache")):
        path.mkdir(parents=True)
        monkeypatch.setenv(variable, str(path))
    source = tmp_path / "source.bin"
    source.write_bytes(os.urandom(size))
    before = stored_bytes(place.volume)
    artifact.add_file(source)
    assert size <= stored_bytes(place.volume) - before < 1.2 * size
    artifact.save()
    assert size <= stored_bytes(place.volume) - before < 1.2 * size
    with wandb.init() as run:
        again = wandb.Artifact(name, "dataset")
        again.add_file(source)
        again.add("more", "more")
        run.upsert_artifact(again, distributed_id="id")
        run.finish_artifact(wandb.Artifact(name, "dataset"), distributed_id="id")
    eventually(
        lambda: stored_bytes(place.volume) - before < 1.2 * size, what="no second copy is left in the volume"
    )
    assert stored_bytes(home, temp) == 0
    assert source.stat().st_nlink == 1
