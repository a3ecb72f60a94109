"""Runs are recorded, versions name the runs that made and used them, and the CLI shows the graph."""

from __future__ import annotations

import errno
import json
import socket
import subprocess
import sys

import pytest

import artfs as wandb
from artfs.sdk import connection, run_context
from tests.mount.mounting import must
from tests.sdk.conftest import Place


def version_of(run: wandb.Run, name: str, kind: str, content: str) -> wandb.Artifact:
    artifact = wandb.Artifact(name, kind)
    artifact.add(content, "content")
    return run.log_artifact(artifact)


def test_a_run_is_recorded(place: Place, name: str) -> None:
    run = wandb.init(project="demo", group="nightly", job_type="train", id=f"{name}-run", config={"lr": 0.1})
    assert wandb.run is run
    assert run.config["lr"] == 0.1
    found = wandb.Api().run(f"entity/demo/{run.id}")
    assert (found.id, found.project, found.group, found.job_type) == (run.id, "demo", "nightly", "train")
    assert (found.host, found.state, found.ended_at) == (socket.gethostname(), "running", None)
    wandb.finish()
    assert run_context.run() is None
    run.finish(exit_code=1)  # a second call does nothing
    found = wandb.Api().run(run.id)
    assert found.state == "finished"
    assert found.started_at is not None
    assert found.ended_at is not None
    assert found.started_at < found.ended_at
    with pytest.raises(ZeroDivisionError), wandb.init(id=run.id):
        raise ZeroDivisionError
    assert wandb.Api().run(run.id).state == "failed"
    assert run.id in [one.id for one in wandb.Api().runs()]
    for wrong in ("nobody", "..", "entity/"):
        with pytest.raises((wandb.ArtfsError, ValueError)):
            wandb.Api().run(wrong)


@pytest.mark.parametrize(("end", "state"), [("pass", "finished"), ("1 / 0", "failed")])
def test_the_end_of_the_process_ends_its_run(place: Place, name: str, end: str, state: str) -> None:
    script = f"import sys, artfs\nartfs.init(id='{name}')\n{end}\n"
    subprocess.run([sys.executable, "-c", script], check=False, stderr=subprocess.DEVNULL)
    assert wandb.Api().run(name).state == state


@pytest.mark.parametrize(
    ("code", "state"), [("", "finished"), ("0", "finished"), ("3", "failed"), ("'why'", "failed")]
)
def test_an_exit_inside_a_run_ends_it(place: Place, name: str, code: str, state: str) -> None:
    script = f"import sys, artfs\nwith artfs.init(id='{name}'):\n    sys.exit({code})\n"
    subprocess.run([sys.executable, "-c", script], check=False, stderr=subprocess.DEVNULL)
    assert wandb.Api().run(name).state == state


def test_a_reader_is_warned_that_the_use_is_not_recorded(
    place: Place, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with wandb.init() as run:
        data = version_of(run, name, "dataset", "data")

        def refuse(*_: object) -> None:
            raise PermissionError(errno.EACCES, "closed")

        with monkeypatch.context() as patch:
            patch.setattr(type(data._state.client()), "record_use", refuse)
            with pytest.warns(UserWarning, match="is not recorded"):
                assert run.use_artifact(f"{name}:v0").get("content") == "data"


def test_a_run_that_may_not_be_recorded_does_not_begin(
    place: Place, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "closed")

    client = type(connection.connect().client())
    with monkeypatch.context() as patch:
        patch.setattr(client, "record_run", refuse)
        with pytest.raises(PermissionError, match="closed"):
            wandb.init()
    assert run_context.run() is None


def test_a_version_names_its_producers_and_users(place: Place, name: str) -> None:
    with wandb.init(id=f"{name}-make") as run:
        data = version_of(run, f"{name}-data", "dataset", "data")
    with wandb.init(id=f"{name}-train", job_type="train") as run:
        used = run.use_artifact(f"{name}-data:latest", type="dataset")
        run.use_artifact(data)
        model = version_of(run, f"{name}-model", "model", "model")
    assert used.version == "v0"
    made_by = model.logged_by()
    assert made_by is not None
    assert (made_by.id, made_by.job_type) == (f"{name}-train", "train")
    assert [one.id for one in data.used_by()] == [f"{name}-train"]
    record = wandb.Api().run(f"{name}-train")
    assert [one.name for one in record.used_artifacts()] == [f"{name}-data:v0"]
    assert [one.name for one in record.logged_artifacts()] == [f"{name}-model:v0"]
    shown = json.loads(must("--volume", place.path, "show", f"{name}-data", "--json"))
    assert (shown["runs"], shown["used_by"]) == ([f"{name}-make"], [f"{name}-train"])
    data.delete()
    assert record.used_artifacts() == []


def test_a_draft_that_is_used_is_logged_first(place: Place, name: str) -> None:
    with wandb.init() as run:
        artifact = wandb.Artifact(name, "dataset")
        artifact.add("x", "x")
        run.use_artifact(artifact)
    assert artifact.version == "v0"
    assert [one.id for one in artifact.used_by()] == [run.id]


def test_the_graph_is_printed(place: Place, name: str) -> None:
    with wandb.init(id=f"{name}-make") as run:
        version_of(run, f"{name}-data", "dataset", "data")
    for number in range(2):
        with wandb.init(id=f"{name}-train-{number}", group="nightly", job_type="train") as run:
            run.use_artifact(f"{name}-data:latest")
            version_of(run, f"{name}-model", "model", f"model {number}")
    assert must("--volume", place.path, "log", f"{name}-model", "--graph").splitlines() == [
        f"{name}-model:v1 (latest)",
        f"└─ made by {name}-train-1 (nightly, train)",
        f"   └─ used {name}-data:v0 (latest)",
        f"      ├─ made by {name}-make",
        f"      └─ used by {name}-train-0 (nightly, train)",
        f"         └─ made {name}-model:v0",
        f"{name}-model:v0",
        f"└─ made by {name}-train-0 (nightly, train) ...",
    ]
    dot = must("--volume", place.path, "log", f"{name}-model", "--dot")
    assert dot.startswith("digraph lineage {\n")
    assert f'"run {name}-train-1" -> "version {name}-model:v1";' in dot
    assert f'"version {name}-data:v0" [label="{name}-data:v0 (latest)", shape=box];' in dot
    graph = json.loads(must("--volume", place.path, "log", f"{name}-model", "--graph", "--json"))
    assert {"from": f"{name}-data:v0", "to": f"{name}-train-0"} in graph["edges"]
    assert len(graph["nodes"]) == 6
    wandb.Api().artifact(f"{name}-data").delete()
    after = must("--volume", place.path, "log", f"{name}-model", "--graph")
    assert f"└─ used {name}-data:v0\n" in after
