"""References from Python: files whose bytes stay where they are, in every kind of place."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import artfs as wandb
from artfs.errors import ReferenceFailed

pytestmark = pytest.mark.usefixtures("place")


@pytest.fixture
def outside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory that everybody may read, which a mount by root asks for."""
    root = tmp_path_factory.mktemp("outside")
    for above in (root, *root.parents):
        if above != Path("/") and not above.stat().st_mode & 0o1:
            above.chmod(above.stat().st_mode | 0o55)
    (root / "sub").mkdir()
    (root / "a.bin").write_bytes(b"a" * 1000)
    (root / "sub" / "b c.txt").write_text("b")
    for path in (root, root / "sub", root / "a.bin", root / "sub" / "b c.txt"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return root


@pytest.fixture
def saved(name: str, outside: Path) -> wandb.Artifact:
    artifact = wandb.Artifact(name, "dataset")
    artifact.add_reference((outside / "a.bin").as_uri())
    artifact.add_reference(outside.as_uri(), name="all")
    artifact.save()
    return wandb.Api().artifact(name)


def test_what_is_returned(name: str, outside: Path) -> None:
    artifact = wandb.Artifact(name, "dataset")
    [one] = artifact.add_reference((outside / "a.bin").as_uri())
    assert (one.path, one.kind, one.size, one.ref) == (
        "a.bin",
        "reference",
        1000,
        (outside / "a.bin").as_uri(),
    )
    assert one.ref_target() == one.ref_url() == one.ref
    many = artifact.add_reference(outside.as_uri() + "/", name="all")
    assert sorted(entry.path for entry in many) == ["all/a.bin", "all/sub/b c.txt"]
    assert many[0].digest is not None
    assert artifact.add_reference((outside / "a.bin").as_uri())[0].path == "a.bin"  # the same again agrees
    assert artifact.get("all/sub/b c.txt") == "b"


def test_a_saved_one(saved: wandb.Artifact, outside: Path) -> None:
    assert sorted(saved.manifest.entries) == ["a.bin", "all/a.bin", "all/sub/b c.txt"]
    assert {entry.kind for entry in saved.files()} == {"reference"}
    assert (saved.file_count, saved.size) == (3, 2001)
    with saved.open("a.bin") as file:
        assert file.read() == b"a" * 1000
    entry = saved.get_entry("all/sub/b c.txt")
    assert entry.ref_target() == (outside / "sub" / "b c.txt").as_uri()
    with entry.open("r") as text:
        assert text.read() == "b"


def test_without_checksum(name: str, outside: Path) -> None:
    artifact = wandb.Artifact(name, "dataset")
    [entry] = artifact.add_reference((outside / "a.bin").as_uri(), "x", checksum=False)
    assert (entry.path, entry.digest, entry.size) == ("x", "", 1000)
    (outside / "a.bin").write_bytes(b"c" * 1000)
    artifact.save()
    with artifact.open("x") as file:
        assert file.read() == b"c" * 1000


def test_download_checkout_and_verify(saved: wandb.Artifact, outside: Path, tmp_path: Path) -> None:
    root = saved.download(tmp_path / "d")
    assert (tmp_path / "d" / "all" / "sub" / "b c.txt").read_text() == "b"
    saved.verify(root)
    (tmp_path / "d" / "a.bin").write_bytes(b"b" * 1000)
    with pytest.raises(ValueError, match="other bytes"):
        saved.verify(root)
    (tmp_path / "d" / "more").write_text("more")
    saved.verify(saved.checkout(root))


def test_bytes_that_changed(saved: wandb.Artifact, outside: Path, tmp_path: Path) -> None:
    (outside / "a.bin").write_bytes(b"b" * 1000)
    with pytest.raises((OSError, ReferenceFailed)):
        saved.download(tmp_path / "d")
    saved.download(tmp_path / "e", allow_missing_references=True)
    assert sorted(path.name for path in (tmp_path / "e").rglob("*")) == ["all", "b c.txt", "sub"]


def test_an_entry_of_another_artifact(saved: wandb.Artifact, name: str, tmp_path: Path) -> None:
    (tmp_path / "own").write_text("own")
    first = wandb.Artifact(f"{name}-first", "dataset")
    own = first.add_file(tmp_path / "own", "dir/own")
    with pytest.raises(ValueError, match="not saved"):
        first.add_reference(own, "x")
    first.save()
    second = wandb.Artifact(f"{name}-second", "dataset")
    [entry] = second.add_reference(first.get_entry("dir/own"), "from first")
    [other] = second.add_reference(saved.get_entry("a.bin"), "a")
    assert entry.ref == f"artfs://{name}-first:v0/dir/own"
    assert other.ref == saved.get_entry("a.bin").ref
    second.save()
    assert second.get("from first") == b"own"


def test_conflicts(name: str, outside: Path) -> None:
    artifact = wandb.Artifact(name, "dataset")
    artifact.add_file(outside / "sub" / "b c.txt", "taken")
    with pytest.raises(wandb.PathConflictError, match="taken"):
        artifact.add_reference((outside / "a.bin").as_uri(), "taken")
    with pytest.raises((ValueError, wandb.Error, OSError)):
        artifact.add_reference((outside / "a.bin").as_uri(), "taken/below")


@pytest.mark.parametrize("uri", ["", "a.bin", "ftp://x/y", "s3://a b/c", "file://relative"])
def test_uris_that_are_none(name: str, uri: str) -> None:
    artifact = wandb.Artifact(name, "dataset")
    with pytest.raises(ValueError, match="uri"):
        artifact.add_reference(uri)


def test_other_bad_input(name: str, outside: Path) -> None:
    artifact = wandb.Artifact(name, "dataset")
    uri = (outside / "a.bin").as_uri()
    with pytest.raises(TypeError, match="uri"):
        artifact.add_reference(7)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="name"):
        artifact.add_reference(uri, "../up")
    with pytest.raises(ValueError, match="max_objects"):
        artifact.add_reference(outside.as_uri(), max_objects=1)
    with pytest.raises(wandb.Error, match="no such file"):
        artifact.add_reference(uri + "-not")
    assert artifact.files() == []


def test_many_runs_and_a_reference(name: str, outside: Path) -> None:
    for number in range(2):
        with wandb.init(group=name) as run:
            artifact = wandb.Artifact(name, "dataset")
            artifact.add_reference((outside / "a.bin").as_uri(), "shared")
            (outside / f"own-{number}").write_text(str(number))
            artifact.add_file(outside / f"own-{number}")
            run.upsert_artifact(artifact)
    with wandb.init(group=name) as run:
        run.finish_artifact(wandb.Artifact(name, "dataset"))
    found = wandb.Api().artifact(name)
    assert {path: entry.kind for path, entry in found.manifest.entries.items()} == {
        "own-0": "file",
        "own-1": "file",
        "shared": "reference",
    }


def test_a_patch_keeps_references(saved: wandb.Artifact, name: str, outside: Path) -> None:
    draft = saved.new_draft()
    draft.remove("all/a.bin")
    [entry] = draft.add_reference((outside / "sub" / "b c.txt").as_uri(), "b")
    assert entry.size == 1
    assert sorted(draft.manifest.entries) == ["a.bin", "all/sub/b c.txt", "b"]
    assert draft.get("all/sub/b c.txt") == "b"
    draft.save()
    found = wandb.Api().artifact(name)
    assert found.version == "v1"
    assert {entry.kind for entry in found.files()} == {"reference"}
    assert os.fspath(outside) in str(found.get_entry("b").ref)
