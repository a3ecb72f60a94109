"""Labels for an artifact that is a version already, and concurrent changes: no label is lost."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

import artfs as wandb
from tests.sdk.conftest import Place


def draft(name: str, **labels: object) -> wandb.Artifact:
    artifact = wandb.Artifact(name, "model", **labels)  # type: ignore[arg-type]
    with artifact.new_file("w") as file:
        file.write("same")
    return artifact


def test_an_unchanged_log_adds_its_labels(place: Place, name: str, caplog: pytest.LogCaptureFixture) -> None:
    with wandb.init(id=f"{name}-0") as run:
        first = draft(name, metadata={"acc": 0.1, "seed": 1}, description="first")
        run.log_artifact(first, aliases=["a0"], tags=["t0"])
    with wandb.init(id=f"{name}-1") as run, caplog.at_level(logging.WARNING, "artfs"):
        again = draft(name, metadata={"acc": 0.9, "epochs": None}, description="second")
        again.ttl = timedelta(days=3)
        run.log_artifact(again, aliases=["a1"], tags=["t1"])
    assert caplog.messages == [f"{name}:v0 is there already: it got the given description, metadata, tags"]
    found = wandb.Api().artifact(f"{name}:v0")
    for artifact in (again, found):
        assert artifact.version == "v0"
        assert artifact.metadata == {"acc": 0.9, "seed": 1, "epochs": None}
        assert artifact.description == "second"
        assert artifact.tags == ["t0", "t1"]
        assert artifact.aliases == ["a0", "a1", "latest"]
        assert artifact.ttl == timedelta(days=3)
    assert again.unchanged
    assert [run.id for run in found.producers()] == [f"{name}-0", f"{name}-1"]


def test_an_unchanged_log_without_labels_changes_none(
    place: Place, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    draft(name, metadata={"acc": 0.1}, description="first").save()
    updated = wandb.Api().artifact(f"{name}:v0").updated_at
    again = draft(name)
    again.save()
    assert (again.unchanged, again.metadata, again.description) == (True, {"acc": 0.1}, "first")
    assert again.updated_at == updated
    assert not caplog.messages


def test_labels_after_the_finish_are_stored(place: Place, name: str) -> None:
    with wandb.init() as run:
        early = run.upsert_artifact(draft(name, metadata={"a": 1, "n": 1}), distributed_id="job")
        run.finish_artifact(wandb.Artifact(name, "model"), distributed_id="job")
        wandb.Api().artifact(f"{name}:v0")
        late = wandb.Artifact(name, "model", description="late", metadata={"b": 2})
        late.tags = ["late"]
        run.finish_artifact(late, distributed_id="job", aliases=["again"])
        assert late.version == "v0"
        assert late.unchanged
        # Labels that were handed over earlier do not undo those that others set later.
        early.metadata["c"] = 3
        early.tags.append("early")
        early.save()
    found = wandb.Api().artifact(f"{name}:again")
    assert found.metadata == {"a": 1, "n": 1, "b": 2, "c": 3}
    assert (found.description, found.tags) == ("late", ["late", "early"])


def test_concurrent_changes_of_labels_merge(place: Place, name: str, tmp_path: Path) -> None:
    draft(name).save()
    code = """
import sys, artfs
name, who = sys.argv[1:]
for number in range(20):
    artifact = artfs.Api().artifact(f"{name}:v0")
    artifact.metadata[f"{who}-{number}"] = number
    artifact.tags.append(f"{who}-{number}")
    artifact.save()
"""
    children = [subprocess.Popen([sys.executable, "-c", code, name, who]) for who in "abc"]
    assert [child.wait(120) for child in children] == [0, 0, 0]
    found = wandb.Api().artifact(f"{name}:v0")
    assert found.metadata == {f"{who}-{number}": number for who in "abc" for number in range(20)}
    assert sorted(found.tags) == sorted(found.metadata)


def test_concurrent_changes_of_a_draft_s_metadata_merge(place: Place, name: str) -> None:
    code = """
import sys, artfs
name, who = sys.argv[1:]
with artfs.init() as run:
    for number in range(10):
        artifact = artfs.Artifact(name, "model", metadata={f"{who}-{number}": number})
        run.upsert_artifact(artifact, distributed_id="job")
"""
    children = [subprocess.Popen([sys.executable, "-c", code, name, who]) for who in "abc"]
    if place.mounted:  # as a shell does, without a lock of the SDK
        path = place.path / name / "pending" / "job"
        path.mkdir(parents=True, exist_ok=True)
        for number in range(10):
            document = {"metadata": {f"sh-{number}": number}, "since": {"metadata": {}}}
            (path / ".artfs" / "labels.json").write_text(json.dumps(document))
    assert [child.wait(120) for child in children] == [0, 0, 0]
    with wandb.init() as run:
        made = run.finish_artifact(wandb.Artifact(name, "model"), distributed_id="job", wait=20)
    everybody = ["a", "b", "c", *(["sh"] if place.mounted else [])]
    assert made.metadata == {f"{who}-{number}": number for who in everybody for number in range(10)}
