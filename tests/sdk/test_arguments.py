"""Invalid arguments are refused by name, before anything is stored."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import artfs as wandb
from artfs.sdk.json_values import checked_metadata
from tests.sdk.conftest import Place

HOSTILE = [
    "..",
    ".",
    "../x",
    "a/../b",
    "/etc/passwd",
    "//",
    "",
    "./",
    "./..",
    "/",
    "a\0b",
    ".artfs",
    "a/.artfs@x",
    "x" * 256,
]


@pytest.mark.parametrize("bad", HOSTILE, ids=repr)
def test_hostile_names_are_refused_everywhere(artifact: wandb.Artifact, tmp_path: Path, bad: str) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "dir").mkdir()
    top = bad in ("", ".", "./")  # the top is a legal directory
    ways: dict[str, Callable[[], object]] = {
        "name": lambda: artifact.add_file("file", name=bad),
        "name ": lambda: artifact.add_file("file", bad) if top else artifact.add_dir("dir", bad),
        "name  ": lambda: artifact.add("x", bad),
        "name   ": lambda: artifact.new_file(bad).__enter__(),
        "item": lambda: artifact.remove(bad),
    }
    for argument, way in ways.items():
        with pytest.raises(ValueError, match=rf"^{argument.strip()}\b"):
            way()
    assert not artifact._state.draft or not artifact._state.draft.started
    artifact.add_file("file")
    artifact.save()
    readers: dict[str, Callable[[], object]] = {
        "name": lambda: artifact.open(bad),
        "name ": lambda: artifact.get(bad),
        "name   ": lambda: artifact.files(names=bad or "."),
    }
    if not top:
        readers["path_prefix"] = lambda: artifact.download("out", path_prefix=bad)
        readers["name  "] = lambda: artifact.get_entry(bad)
    for argument, way in readers.items():
        with pytest.raises(ValueError, match=rf"^{argument.strip()}\b"):
            way()
    assert not (tmp_path / "out").exists()


def test_invalid_arguments_of_artifacts_are_refused(place: Place, name: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    new = wandb.Artifact
    cases: list[tuple[type[Exception], str, Callable[[], object]]] = [
        (ValueError, "name", lambda: new("bad name", "dataset")),
        (ValueError, "name", lambda: new("", "dataset")),
        (TypeError, "name", lambda: new(7, "dataset")),  # type: ignore[arg-type]
        (ValueError, "type", lambda: new(name, "")),
        (TypeError, "type", lambda: new(name, None)),  # type: ignore[arg-type]
        (TypeError, "description", lambda: new(name, "dataset", description=3)),  # type: ignore[arg-type]
        (TypeError, "metadata", lambda: new(name, "dataset", metadata=[1])),  # type: ignore[arg-type]
        (ValueError, "metadata", lambda: new(name, "dataset", metadata="{")),
        (ValueError, r"metadata\['x'\] is infinite", lambda: new(name, "dataset", metadata={"x": math.inf})),
        (ValueError, "incremental", lambda: new(name, "dataset", incremental=True)),
        (ValueError, "distributed_id", lambda: new(name, "dataset", distributed_id="")),
        (ValueError, "distributed_id", lambda: new(name, "dataset", distributed_id="x" * 256)),
        (ValueError, "local_path='missing'", lambda: new(name, "dataset").add_file("missing")),
        (ValueError, "local_path", lambda: new(name, "dataset").add_file(tmp_path)),
        (ValueError, "local_path", lambda: new(name, "dataset").add_dir("file")),
        (TypeError, "local_path", lambda: new(name, "dataset").add_file(b"file")),  # type: ignore[arg-type]
        (TypeError, "exclude", lambda: new(name, "dataset").add_dir(tmp_path, exclude=b"*.tmp")),  # type: ignore[arg-type]
        (ValueError, "policy", lambda: new(name, "dataset").add_file("file", policy="none")),
        (ValueError, "mode", lambda: new(name, "dataset").new_file("x", "r").__enter__()),
        (TypeError, "obj", lambda: new(name, "dataset").add(object(), "x")),
        (TypeError, "ttl", lambda: setattr(new(name, "dataset"), "ttl", 30)),
        (ValueError, "ttl", lambda: setattr(new(name, "dataset"), "ttl", datetime.timedelta(0))),
        (TypeError, "aliases", lambda: setattr(new(name, "dataset"), "aliases", b"best")),
        (ValueError, "aliases: 'v7'", lambda: setattr(new(name, "dataset"), "aliases", ["v7"])),
        (ValueError, "tags", lambda: setattr(new(name, "dataset"), "tags", ["two\nlines"])),
        (ValueError, "name", lambda: wandb.Api().artifact(f"{name}:")),
        (ValueError, "id", lambda: wandb.init(id="no/slash")),
        (TypeError, "id", lambda: wandb.init(id=7)),  # type: ignore[arg-type]
        (ValueError, "group", lambda: wandb.init(group="a\nb")),
        (TypeError, "config", lambda: wandb.init(config=[1])),
    ]
    for kind, match, way in cases:
        with pytest.raises(kind, match=rf"^{match}"):
            way()
    assert not wandb.Api().artifact_collection_exists(name, "dataset")


def test_invalid_arguments_of_runs_are_refused(place: Place, name: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with wandb.init() as run:
        artifact = wandb.Artifact(name, "dataset")
        artifact.add_file("file")
        for kind, match, way in [
            (ValueError, "artifact_or_path", lambda: run.log_artifact("missing")),
            (TypeError, "artifact_or_path", lambda: run.log_artifact(7)),  # type: ignore[arg-type]
            (ValueError, "name", lambda: run.log_artifact(artifact, name="another")),
            (ValueError, "name", lambda: run.log_artifact("file", name="bad name")),
            (ValueError, "aliases", lambda: run.log_artifact(artifact, aliases=["v1"])),
            (ValueError, "aliases", lambda: run.log_artifact(artifact, aliases="pending")),
            (ValueError, "tags", lambda: run.log_artifact(artifact, tags=[""])),
            (TypeError, "distributed_id", lambda: run.upsert_artifact(artifact)),
        ]:
            with pytest.raises(kind, match=rf"^{match}"):
                way()
        assert artifact.is_draft()
        run.log_artifact(artifact)
        with pytest.raises(ValueError, match=r"^type='model'"):
            run.use_artifact(f"{name}:v0", type="model")
        with pytest.raises(wandb.ArtfsError, match="versions of the type 'dataset'"):
            run.log_artifact("file", name=name, type="model")
    with pytest.raises(ValueError, match="has ended"):
        run.log_artifact(artifact)


class Color(enum.Enum):
    RED = 1


@dataclasses.dataclass
class Point:
    x: float
    y: float


class Scalar:
    """A scalar like numpy's: no number itself, but item() returns one."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def item(self) -> Any:
        return self.value


def test_metadata_is_converted_as_wandb_does() -> None:
    given: dict[Any, Any] = {
        "nan": math.nan,
        "color": Color.RED,
        "point": Point(1, math.nan),
        "day": datetime.date(2030, 1, 2),
        "set": {1},
        "tuple": (1, "a"),
        "bytes": b"text",
        "scalar": Scalar(3),
        "nan scalar": Scalar(math.nan),
        "none": None,
        1: True,
        "type": Point,
        "deep": [{"x": [math.nan]}],
    }
    assert checked_metadata("metadata", given) == {
        "nan": None,
        "color": "RED",
        "point": {"x": 1, "y": None},
        "day": "2030-01-02",
        "set": [1],
        "tuple": [1, "a"],
        "bytes": "text",
        "scalar": 3,
        "nan scalar": None,
        "none": None,
        "1": True,
        "type": f"{Point.__module__}.Point",
        "deep": [{"x": [None]}],
    }
    assert checked_metadata("metadata", '{"a": 1}') == {"a": 1}
    assert checked_metadata("metadata", None) == {}


def test_numpy_metadata_is_converted() -> None:
    numpy = pytest.importorskip("numpy")
    given = {
        "a": numpy.float32(0.5),
        "b": numpy.int64(7),
        "c": numpy.arange(100),
        "d": numpy.float64("nan"),
        "e": numpy.bool_(True),
        "f": numpy.array([[1.0, math.nan]]),
    }
    assert checked_metadata("metadata", given) == {
        "a": 0.5,
        "b": 7,
        "c": list(range(100)),
        "d": None,
        "e": True,
        "f": [[1.0, None]],
    }


def test_large_metadata_is_stored(place: Place, name: str) -> None:
    much = {f"key {number}": "x" * 1000 for number in range(5000)}
    artifact = wandb.Artifact(name, "dataset", metadata=much)
    artifact.save()
    assert wandb.Api().artifact(name).metadata == much
    itself: dict[str, Any] = {}
    itself["x"] = itself
    with pytest.raises(ValueError, match=r"^metadata"):
        artifact.metadata = itself


def test_files_that_no_version_can_hold_are_refused(
    place: Place, name: str, artifact: wandb.Artifact, tmp_path: Path
) -> None:
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    (root / "a").write_text("a")
    os.mkfifo(root / "sub" / "pipe")
    with pytest.raises(wandb.ArtfsError, match=r"sub/pipe \(fifo\)"):
        artifact.add_dir(root)
    with pytest.raises(ValueError, match="is not a file"):
        artifact.add_file(root / "sub" / "pipe")
    (root / "sub" / "pipe").unlink()
    (root / "sub" / ".artfs@thing").touch()
    with pytest.raises(wandb.ArtfsError, match=r"\.artfs"):
        artifact.add_dir(root)
    with pytest.raises(wandb.ArtfsError, match="the volume itself"):
        artifact.add_dir(place.path)
    with pytest.raises(wandb.ArtfsError, match=r"is the volume itself; exclude it"):
        artifact.add_dir(place.path.parent)
    assert not wandb.Api().artifact_collection_exists(name, "dataset")
    artifact.add_dir(root, exclude=[".artfs@*"])
    artifact.save()
    assert sorted(artifact.manifest.entries) == ["a", "sub"]
