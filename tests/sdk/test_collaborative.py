"""Many runs fill one version: upsert and finish, and their conflicts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import artfs as wandb
from tests.cli.running import snapshot
from tests.sdk.conftest import Place, draft_of


def test_the_code_of_the_guide_works(place: Place, name: str, tmp_path: Path) -> None:
    group = f"writer-group-{name}"
    for number in range(2):
        with wandb.init(project="demo", group=group, job_type="writer") as run:
            (tmp_path / f"part-{number}").write_text(f"part {number}")
            artifact = wandb.Artifact(name, type="dataset")
            artifact.add_file(f"part-{number}")
            run.upsert_artifact(artifact)
    assert not wandb.Api().artifact_exists(name)
    with wandb.init(project="demo", group=group, job_type="finisher") as run:
        artifact = wandb.Artifact(name, type="dataset")
        run.finish_artifact(artifact, aliases=["whole"])
    assert (artifact.version, artifact.distributed_id, artifact.file_count) == ("v0", group, 2)
    assert wandb.Api().artifact(f"{name}:whole").digest == artifact.digest


def test_a_finisher_adds_its_own_files(place: Place, name: str, files: Path, tmp_path: Path) -> None:
    with wandb.init(id=f"{name}-a") as run:
        artifact = wandb.Artifact(name, "dataset", description="Parts", metadata={"a": 1, "n": 1})
        artifact.add_dir(files)
        run.upsert_artifact(artifact, distributed_id="job-42", aliases=["first"])
    with pytest.raises(wandb.ArtifactFinalizedError):
        artifact.add_file(files / "a.txt", "b.txt")
    with wandb.init(id=f"{name}-b") as run:
        last = wandb.Artifact(name, "dataset", metadata={"b": 2, "n": 2})
        last.add_file(files / "a.txt", "own.txt")
        run.finish_artifact(last, distributed_id="job-42", aliases=["best"])
    # An artifact that was handed over is the version now, too.
    assert artifact.version == last.version == "v0"
    assert last.metadata == {"a": 1, "b": 2, "n": 2}
    assert last.description == "Parts"
    assert last.aliases == ["best", "first", "latest"]
    assert [made.id for made in last.producers()] == [f"{name}-a", f"{name}-b"]
    assert [entry.run for entry in last.files(["a.txt", "own.txt"])] == [f"{name}-a", f"{name}-b"]
    last.download(tmp_path / "out")
    (tmp_path / "out" / "own.txt").unlink()
    assert snapshot(tmp_path / "out") == snapshot(files)


def test_equal_bytes_do_not_conflict(place: Place, name: str) -> None:
    for _ in range(2):
        with wandb.init() as run:
            run.upsert_artifact(draft_of(name, sub__x="same"), distributed_id="id")
    with wandb.init() as run:
        assert run.finish_artifact(wandb.Artifact(name, "dataset"), distributed_id="id").file_count == 1


def test_other_bytes_conflict(place: Place, name: str) -> None:
    with wandb.init(id=f"{name}-first") as run:
        run.upsert_artifact(draft_of(name, sub__x="mine"), distributed_id="id")
    with wandb.init() as run:
        artifact = draft_of(name, sub__x="theirs", new="new")
        artifact.aliases = ["mine"]
        with pytest.raises(wandb.PathConflictError) as caught:
            run.upsert_artifact(artifact, distributed_id="id")
        assert (caught.value.path, caught.value.run) == ("sub/x", f"{name}-first")
        assert "'sub/x'" in str(caught.value)
        assert f"{name}-first" in str(caught.value)
        # Nothing was added, and the artifact can still be changed.
        status = artifact._state.client().pending_status(name, b"id")
        assert (status["files"], status["aliases"]) == (1, [])
        artifact.remove("sub/x")
        run.upsert_artifact(artifact, distributed_id="id")
        replacing = draft_of(name, sub__x="meant")
        run.upsert_artifact(replacing, distributed_id="id", overwrite=True)
        done = run.finish_artifact(wandb.Artifact(name, "dataset"), distributed_id="id")
    with done.open("sub/x") as file:
        assert file.read() == b"meant"
    assert sorted(done.manifest.entries) == ["new", "sub/x"]


def test_a_run_replaces_its_own_file(place: Place, name: str) -> None:
    with wandb.init() as run:
        run.upsert_artifact(draft_of(name, x="1"), distributed_id="id")
        run.upsert_artifact(draft_of(name, x="2"), distributed_id="id")
        done = run.finish_artifact(wandb.Artifact(name, "dataset"), distributed_id="id")
    assert done.get("x") == b"2"


def test_a_file_conflicts_with_a_directory_of_another_run(place: Place, name: str) -> None:
    with wandb.init() as run:
        run.upsert_artifact(draft_of(name, k="file", j__z="in a directory"), distributed_id="id")
    with wandb.init() as run:
        for wrong in (draft_of(name, k__z="x"), draft_of(name, j="x")):
            with pytest.raises(wandb.ArtfsError, match="in this version; remove it first"):
                run.upsert_artifact(wrong, distributed_id="id")
        run.finish_artifact(wandb.Artifact(name, "dataset"), distributed_id="id")


def test_a_finished_id_takes_no_more_files(place: Place, name: str) -> None:
    with wandb.init() as run:
        run.upsert_artifact(draft_of(name, x="1"), distributed_id="id")
        first = run.finish_artifact(wandb.Artifact(name, "dataset"), distributed_id="id")
        again = run.finish_artifact(wandb.Artifact(name, "dataset"), distributed_id="id", aliases=["more"])
        assert (again.version, again.unchanged) == (first.version, True)
        assert again.aliases == ["more", "latest"]
        for late in (run.upsert_artifact, run.finish_artifact):
            artifact = draft_of(name, y="late")
            with pytest.raises(wandb.AlreadyFinishedError, match="v0") as caught:
                late(artifact, distributed_id="id")
            assert caught.value.version == "v0"
        assert wandb.Api().artifact(name).version == "v0"


def test_an_unknown_distributed_id_is_refused(place: Place, name: str) -> None:
    with wandb.init() as run:
        with pytest.raises(wandb.DraftNotFoundError, match="'nobody'"):
            run.finish_artifact(wandb.Artifact(name, "dataset"), distributed_id="nobody")
        assert run.finish_artifact(draft_of(name, x="x"), distributed_id="somebody").version == "v0"
        with pytest.raises(wandb.DraftNotFoundError, match="'nobody'"):
            run.finish_artifact(wandb.Artifact(name, "dataset"), distributed_id="nobody")
        with pytest.raises(TypeError, match="distributed_id is needed"):
            run.upsert_artifact(draft_of(name, x="x"))


def test_any_text_is_a_distributed_id(place: Place, name: str) -> None:
    odd = "../team/7%2F ü"
    with wandb.init(group=odd) as run:
        run.upsert_artifact(draft_of(name, x="x"))
        done = run.finish_artifact(wandb.Artifact(name, "dataset"))
    assert done.distributed_id == odd
    assert wandb.Api().artifact(name).distributed_id == odd


def test_files_of_a_distributed_id_are_shared_at_once(place: Place, name: str, files: Path) -> None:
    with wandb.init(id=f"{name}-a") as run:
        artifact = wandb.Artifact(name, "dataset", distributed_id="id")
        artifact.add_dir(files)
        assert artifact._state.client().pending_status(name, b"id")["files"] == 3
        with pytest.raises(ValueError, match="distributed_id"):
            run.upsert_artifact(artifact, distributed_id="another")
        run.upsert_artifact(artifact)
    with wandb.init(id=f"{name}-b") as run:
        artifact = wandb.Artifact(name, "dataset", distributed_id="id")
        with pytest.raises(wandb.PathConflictError, match=f"{name}-a"), artifact.new_file("a.txt") as file:
            file.write("other")
        run.finish_artifact(artifact)
    assert sorted(artifact.manifest.entries) == [
        "a.txt",
        "link",
        "nowhere",
        *sorted(["sub/big.bin", "sub/empty", "sub/run.sh"]),
    ]


_WRITER = """
import sys
import artfs as wandb

name, number = sys.argv[1], int(sys.argv[2])
with wandb.init(id=f"{name}-{number}", group="together") as run:
    artifact = wandb.Artifact(name, "dataset", metadata={f"part-{number}": number})
    for file in range(20):
        artifact.add(f"{number} {file}".encode(), f"part-{number}/{file}")
    artifact.add(b"the same of all" * 10_000, "shared/same")
    run.upsert_artifact(artifact, aliases=[f"by-{number}"])
    artifact = wandb.Artifact(name, "dataset")
    artifact.add(str(number).encode() * 100_000, "shared/contested")
    try:
        run.upsert_artifact(artifact)
        print("won")
    except wandb.PathConflictError as error:
        assert error.path == "shared/contested" and error.run.startswith(name), error
        print("conflict")
"""


@pytest.mark.ways(2)
def test_eight_processes_and_one_that_finishes(place: Place, name: str) -> None:
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", _WRITER, name, str(number)], stdout=subprocess.PIPE, text=True
        )
        for number in range(8)
    ]
    outcomes = [writer.communicate(timeout=90)[0].strip() for writer in writers]
    assert [writer.returncode for writer in writers] == [0] * 8
    assert sorted(outcomes) == ["conflict"] * 7 + ["won"]
    with wandb.init(group="together") as run:
        done = run.finish_artifact(wandb.Artifact(name, "dataset"))
    assert len(done.files()) == 8 * 20 + 2
    winner = outcomes.index("won")
    assert done.get("shared/contested") == str(winner).encode() * 100_000
    assert done.get_entry("shared/contested").run == f"{name}-{winner}"
    assert done.metadata == {f"part-{number}": number for number in range(8)}
    assert done.aliases == [f"by-{number}" for number in range(8)] + ["latest"]
    assert {made.id for made in done.producers()} == {*(f"{name}-{number}" for number in range(8)), run.id}


_KILLED = """
import os, sys
import artfs as wandb
from artfs.client.transfer import tree_writer

tree_writer.set_attributes = lambda *_, **__: os._exit(9)
with wandb.init() as run:
    artifact = wandb.Artifact(sys.argv[1], "dataset", distributed_id="id")
    artifact.add_file(sys.argv[2])
"""


def test_a_killed_process_leaves_no_partial_file(place: Place, name: str, files: Path) -> None:
    command = [sys.executable, "-c", _KILLED, name, str(files / "sub" / "big.bin")]
    assert subprocess.run(command, check=False).returncode == 9
    with wandb.init() as run:
        done = run.finish_artifact(wandb.Artifact(name, "dataset"), distributed_id="id")
    assert list(done.manifest.all) == []


def test_a_fork_leaves_the_draft_to_its_parent(place: Place, name: str, files: Path) -> None:
    with wandb.init() as run:
        artifact = wandb.Artifact(name, "dataset")
        artifact.add_dir(files)
        script = (
            "import os, sys, artfs\n"
            f"artifact = artfs.Artifact({name!r}, 'dataset')\n"
            "artifact.add(b'x', 'x')\n"
            "if os.fork() == 0:\n"
            "    sys.exit()\n"
            "os.wait()\n"
            "artifact.save()\n"
            "assert artifact.get('x') == b'x'\n"
        )
        subprocess.run([sys.executable, "-W", "error", "-c", script], check=True)
        run.log_artifact(artifact)
    assert artifact.version == "v1"
    assert os.environ["ARTFS_VOLUME"] == str(place.path)
