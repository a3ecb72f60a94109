"""References from Python: files whose bytes stay where they are."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import artfs as wandb
from artfs.errors import ReferenceFailed
from tests.mount.referring import open_to_all
from tests.sdk.conftest import Place

pytestmark = pytest.mark.usefixtures("place")


@pytest.fixture
def outside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory that all users may read, as a mount by root requires."""
    root = tmp_path_factory.mktemp("outside")
    open_to_all(root)
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


def test_a_reference_has_an_entry(artifact: wandb.Artifact, outside: Path) -> None:
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
    assert artifact.add_reference((outside / "a.bin").as_uri())[0].path == "a.bin"  # the same reference again
    assert artifact.get("all/sub/b c.txt") == "b"


def test_a_saved_reference_is_read(saved: wandb.Artifact, outside: Path) -> None:
    assert sorted(saved.manifest.entries) == ["a.bin", "all/a.bin", "all/sub/b c.txt"]
    assert {entry.kind for entry in saved.files()} == {"reference"}
    assert (saved.file_count, saved.size) == (3, 2001)
    with saved.open("a.bin") as file:
        assert file.read() == b"a" * 1000
    entry = saved.get_entry("all/sub/b c.txt")
    assert entry.ref_target() == (outside / "sub" / "b c.txt").as_uri()
    with entry.open("r") as text:
        assert text.read() == "b"


def test_bytes_may_change_without_a_checksum(artifact: wandb.Artifact, outside: Path) -> None:
    [entry] = artifact.add_reference((outside / "a.bin").as_uri(), "x", checksum=False)
    assert (entry.path, entry.digest, entry.size) == ("x", "", 1000)
    (outside / "a.bin").write_bytes(b"c" * 1000)
    artifact.save()
    with artifact.open("x") as file:
        assert file.read() == b"c" * 1000


def test_references_are_downloaded_and_verified(saved: wandb.Artifact, outside: Path, tmp_path: Path) -> None:
    root = saved.download(tmp_path / "d")
    assert (tmp_path / "d" / "all" / "sub" / "b c.txt").read_text() == "b"
    saved.verify(root)
    (tmp_path / "d" / "a.bin").write_bytes(b"b" * 1000)
    with pytest.raises(ValueError, match="other bytes"):
        saved.verify(root)
    (tmp_path / "d" / "more").write_text("more")
    saved.verify(saved.checkout(root))


def test_changed_bytes_are_not_downloaded(saved: wandb.Artifact, outside: Path, tmp_path: Path) -> None:
    (outside / "a.bin").write_bytes(b"b" * 1000)
    with pytest.raises((OSError, ReferenceFailed)):
        saved.download(tmp_path / "d")
    saved.download(tmp_path / "e", allow_missing_references=True)
    assert sorted(path.name for path in (tmp_path / "e").rglob("*")) == ["all", "b c.txt", "sub"]


def test_an_entry_elsewhere_is_a_reference(saved: wandb.Artifact, name: str, tmp_path: Path) -> None:
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


def test_a_reference_conflicts_with_a_file(artifact: wandb.Artifact, outside: Path) -> None:
    artifact.add_file(outside / "sub" / "b c.txt", "taken")
    with pytest.raises(wandb.PathConflictError, match="taken"):
        artifact.add_reference((outside / "a.bin").as_uri(), "taken")
    with pytest.raises((ValueError, wandb.Error, OSError)):
        artifact.add_reference((outside / "a.bin").as_uri(), "taken/below")


def test_two_runs_may_add_one_reference(name: str, outside: Path) -> None:
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


# ---- checksums are kept


def bytes_of(artifact: wandb.Artifact, path: str) -> bytes:
    with artifact.open(path) as file:
        data: bytes = file.read()
    return data


def test_a_hand_over_keeps_checksums(name: str, outside: Path) -> None:
    with wandb.init(group=name) as run:
        artifact = wandb.Artifact(name, "dataset")
        [entry] = artifact.add_reference((outside / "a.bin").as_uri(), "sub/x")
        (outside / "a.bin").write_bytes(b"b" * 1000)
        run.upsert_artifact(artifact)
        found = run.finish_artifact(wandb.Artifact(name, "dataset"))
    saved = found.get_entry("sub/x")
    assert (saved.kind, saved.digest, saved.ref, saved.size) == ("reference", entry.digest, entry.ref, 1000)
    assert saved.run == run.id
    with pytest.raises(ReferenceFailed, match="has changed"):
        bytes_of(found, "sub/x")
    (outside / "a.bin").write_bytes(b"a" * 1000)
    assert bytes_of(found, "sub/x") == b"a" * 1000


def test_references_of_two_runs_conflict(name: str, outside: Path) -> None:
    uri = (outside / "a.bin").as_uri()
    with wandb.init(id=f"{name}-first") as run:
        artifact = wandb.Artifact(name, "dataset")
        artifact.add_reference(uri, "dir/x")
        run.upsert_artifact(artifact, distributed_id="id")
    (outside / "same").write_bytes(b"a" * 1000)
    others: list[Callable[[wandb.Artifact], object]] = [
        lambda other: other.add_reference((outside / "same").as_uri(), "dir/x"),
        lambda other: other.add_reference(uri, "dir/x", checksum=False),
        lambda other: other.add_file(outside / "a.bin", "dir/x"),  # a file of the same bytes is no reference
    ]
    for other in others:
        with wandb.init() as run:
            artifact = wandb.Artifact(name, "dataset")
            other(artifact)
            artifact.add_file(outside / "sub" / "b c.txt", "new")
            with pytest.raises(wandb.PathConflictError) as caught:
                run.upsert_artifact(artifact, distributed_id="id")
            assert (caught.value.path, caught.value.run) == ("dir/x", f"{name}-first")
            assert artifact._state.client().pending_status(name, b"id")["files"] == 1  # nothing was moved
    with wandb.init() as run:
        artifact = wandb.Artifact(name, "dataset")
        artifact.add_file(outside / "sub" / "b c.txt", "dir/x")
        run.upsert_artifact(artifact, distributed_id="id", overwrite=True)
        artifact = wandb.Artifact(name, "dataset")
        artifact.add_reference((outside / "same").as_uri(), "dir/x")
        run.upsert_artifact(artifact, distributed_id="id")  # a run may replace its own file
        found = run.finish_artifact(wandb.Artifact(name, "dataset"), distributed_id="id")
    assert found.get_entry("dir/x").ref == (outside / "same").as_uri()


def test_a_path_in_use_is_refused(artifact: wandb.Artifact, outside: Path) -> None:
    uri = (outside / "a.bin").as_uri()
    artifact.add_reference(outside.as_uri(), "all")
    (outside / "a.bin").write_bytes(b"changed")
    with pytest.raises(wandb.PathConflictError, match=r"'all/a.bin'"):
        artifact.add_reference(outside.as_uri(), "all")
    with pytest.raises(wandb.PathConflictError, match=r"'all/a.bin'"):
        artifact.add_file(outside / "a.bin", "all/a.bin")
    for path in ("all", "all/sub"):
        with pytest.raises(wandb.ArtfsError, match=f"'{path}' is a directory in this version"):
            artifact.add_reference(uri, path)
    with pytest.raises(wandb.ArtfsError, match=r"'all/a.bin' is a file in this version"):
        artifact.add_reference(outside.as_uri(), "all/a.bin")
    [one, two] = artifact.add_reference(outside.as_uri(), "all", overwrite=True)
    assert (one.path, one.size, two.path) == ("all/a.bin", 7, "all/sub/b c.txt")
    artifact.add_file(outside / "a.bin", "all/a.bin", overwrite=True)
    artifact.remove("all/sub/b c.txt")
    artifact.save()
    assert [(entry.path, entry.kind) for entry in artifact.files()] == [("all/a.bin", "file")]


def test_a_draft_never_shows_zeros(saved: wandb.Artifact, name: str, outside: Path) -> None:
    draft = saved.new_draft()
    draft.add_reference((outside / "a.bin").as_uri(), "again")
    assert bytes_of(draft, "a.bin") == bytes_of(draft, "again") == b"a" * 1000
    (outside / "a.bin").write_bytes(b"b" * 1000)
    for path in ("a.bin", "again", "all/a.bin"):
        try:
            assert bytes_of(draft, path) == b"a" * 1000  # from the page cache
        except (ReferenceFailed, OSError):
            continue
    draft.remove("a.bin")
    draft.add_file(outside / "a.bin", "a.bin")
    draft.save()
    assert bytes_of(wandb.Api().artifact(name), "a.bin") == b"b" * 1000


@pytest.mark.ways(2)
def test_references_of_another_process_are_seen(place: Place, name: str, outside: Path) -> None:
    """The finishing process read the tree before another one added a reference to it."""
    mine = wandb.Artifact(name, "dataset", distributed_id="id")
    mine.add_file(outside / "sub" / "b c.txt", "file")
    code = (
        "import artfs, sys; artifact = artfs.Artifact(sys.argv[1], 'dataset', distributed_id='id');"
        " artifact.add_reference(sys.argv[2], 'theirs')"
    )
    uri = (outside / "a.bin").as_uri()
    subprocess.run([sys.executable, "-c", code, name, uri], check=True)
    assert mine.get_entry("theirs").ref == uri
    assert bytes_of(mine, "theirs") == b"a" * 1000
    mine.add_reference(uri, "mine")
    mine.save()
    assert {entry.path: entry.kind for entry in mine.files()} == {
        "file": "file",
        "mine": "reference",
        "theirs": "reference",
    }
    assert bytes_of(mine, "theirs") == b"a" * 1000


@pytest.mark.ways(2)
def test_eight_processes_add_references_at_once(place: Place, name: str, outside: Path) -> None:
    code = (
        "import artfs, sys; run = artfs.init(group='all');"
        " artifact = artfs.Artifact(sys.argv[1], 'dataset');"
        " artifact.add_reference(sys.argv[2], 'shared');"
        " artifact.add_reference(sys.argv[2] + '/a.bin', 'own/' + sys.argv[3]);"
        " run.upsert_artifact(artifact); run.finish()"
    )
    words = [sys.executable, "-c", code, name, outside.as_uri()]
    processes = [subprocess.Popen([*words, str(number)]) for number in range(8)]
    assert [process.wait(120) for process in processes] == [0] * 8
    with wandb.init(group="all") as run:
        found = run.finish_artifact(wandb.Artifact(name, "dataset"))
    assert {entry.kind for entry in found.files()} == {"reference"}
    assert found.file_count == 10
    assert bytes_of(found, "own/7") == b"a" * 1000


# ---- invalid arguments, and error texts


def test_invalid_references_store_nothing(artifact: wandb.Artifact, outside: Path) -> None:
    uri = (outside / "a.bin").as_uri()
    invalid_uris = ["", "a.bin", str(outside / "a.bin"), "file://host/x", "file:///a/../b", f"{uri}\n"]
    invalid_uris += [
        "s3://",
        "s3://bucket/a/../b",
        "http://",
        "gopher://x/y",
        "artfs://x/y",
        "artfs://x:v0/../y",
    ]
    wrong_type: list[Any] = [None, 7, outside / "a.bin"]
    cases: list[tuple[type[Exception], str, list[Any], dict[str, Any]]] = [
        *((ValueError, "uri", [wrong], {}) for wrong in invalid_uris),
        *((TypeError, "uri", [wrong], {}) for wrong in wrong_type),
        *((ValueError, "name", [uri, wrong], {}) for wrong in ("/x", "../up", "a/../x", ".artfs@x")),
        (TypeError, "name", [uri, 7], {}),
        (TypeError, "max_objects", [uri], {"max_objects": "1"}),
        (TypeError, "max_objects", [uri], {"max_objects": True}),
        (ValueError, "max_objects", [uri], {"max_objects": 0}),
    ]
    for kind, argument, given, named in cases:
        with pytest.raises(kind, match=rf"^{argument}\b"):
            artifact.add_reference(*given, **named)
    assert artifact._state.draft is not None
    assert not artifact._state.draft.started
    with pytest.raises(ValueError, match=r"uri: .* more than 1 objects"):
        artifact.add_reference(outside.as_uri(), max_objects=1)
    with pytest.raises(wandb.ArtfsError, match="no collection 'nowhere'"):
        artifact.add_reference("artfs://nowhere:v0/x")
    for unreachable, why in ((f"{uri}-not", "no such file"), ("s3://a b/c", "uri")):
        with pytest.raises((wandb.Error, ValueError), match=why):
            artifact.add_reference(unreachable)
    assert artifact.files() == []
    artifact.save()
    with pytest.raises(wandb.ArtifactFinalizedError):
        artifact.add_reference(uri)


def test_errors_hide_secrets(artifact: wandb.Artifact) -> None:
    secret = "http://user:password@localhost:1/x?token=secret"
    with pytest.raises((wandb.ArtfsError, ValueError)) as caught:
        artifact.add_reference(secret)
    with pytest.raises(ValueError, match=r"^uri") as refused:
        artifact.add_reference(secret.replace("localhost:1", "localhost:port"))
    for shown in (str(caught.value), str(refused.value)):
        assert "password" not in shown
        assert "secret" not in shown


# ---- entries of other versions


def test_directories_of_other_versions_are_referred_to(name: str, outside: Path) -> None:
    odd = os.fsdecode(b"dir/\xff 100%.txt")
    first = wandb.Artifact(f"{name}-first", "dataset")
    first.add("text", odd)
    first.add("more", "dir/more.txt")
    first.add_reference((outside / "a.bin").as_uri(), "dir/far")
    first.save()
    assert first.get_entry(odd).ref_url() == f"artfs://{name}-first:v0/dir/%FF%20100%25.txt"
    second = wandb.Artifact(name, "dataset")
    [one] = second.add_reference(first.get_entry(odd))
    assert one.path == odd.removeprefix("dir/")
    found = second.add_reference(first.get_entry("dir"), "copy")
    assert sorted(entry.path for entry in found) == ["copy/far", "copy/more.txt", odd.replace("dir", "copy")]
    second.add_reference(f"artfs://{name}-first:latest/dir/")  # at the top
    second.save()
    assert second.get_entry("copy/far").ref == second.get_entry("far").ref == (outside / "a.bin").as_uri()
    assert second.get_entry("more.txt").ref == f"artfs://{name}-first:v0/dir/more.txt"
    assert bytes_of(second, odd.replace("dir", "copy")) == b"text"
    second.verify(second.download("out"))
    Path("out", "more.txt").write_text("less")
    with pytest.raises(ValueError, match=r"more.txt has other bytes"):
        second.verify("out")
    third = wandb.Artifact(f"{name}-third", "dataset")
    third.add_reference(first.get_entry("dir/more.txt"), "x")
    third.save()
    first.delete()
    with pytest.raises(ReferenceFailed, match="can't be fetched"):
        bytes_of(third, "x")


# ---- bytes that can't be read


def test_unreachable_references_are_named(saved: wandb.Artifact, outside: Path) -> None:
    (outside / "a.bin").unlink()
    for way in (
        lambda: saved.open("all/a.bin").read(),
        lambda: saved.download("whole"),
        lambda: saved.download("part", path_prefix="all/a.bin"),
        lambda: saved.get_path("a.bin").download("one"),
        lambda: saved.checkout("out"),
    ):
        with pytest.raises(ReferenceFailed, match=r"a.bin can't be fetched: there is no such file"):
            way()
    assert not any(path.name.startswith(".~") for path in Path().rglob("*"))
    saved.download("left", allow_missing_references=True, path_prefix="all")
    assert [path.as_posix() for path in Path("left").rglob("*.*")] == ["left/all/sub/b c.txt"]
    saved.verify(saved.download("left", allow_missing_references=True))  # a reference may be missing


def test_only_references_may_be_missing(saved: wandb.Artifact, name: str, outside: Path) -> None:
    draft = saved.new_draft()
    draft.add("text", "file")
    draft.save()
    (outside / "a.bin").unlink()
    Path("out").mkdir()
    Path("out", "file.txt").mkdir()
    with pytest.raises(wandb.ArtfsError, match=r"cannot create the file 'file.txt'"):
        draft.download("out", allow_missing_references=True)


def test_verify_compares_the_size_where_there_is_no_digest(artifact: wandb.Artifact, outside: Path) -> None:
    artifact.add_reference((outside / "a.bin").as_uri(), checksum=False)
    artifact.save()
    artifact.download("out")
    Path("out", "a.bin").write_bytes(b"x" * 1000)
    artifact.verify("out")
    Path("out", "a.bin").write_bytes(b"x" * 999)
    with pytest.raises(ValueError, match=r"a.bin has other bytes"):
        artifact.verify("out")
