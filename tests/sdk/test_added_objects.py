"""Objects become files, and files objects."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import artfs as wandb
from artfs.sdk import serializers
from tests.sdk.conftest import Place, saved

pytestmark = pytest.mark.ways(1)


def test_plain_objects_round_trip(artifact: wandb.Artifact) -> None:
    assert artifact.add(b"\x00bytes", "raw").path == "raw"
    assert artifact.add("text ü", "notes").path == "notes.txt"
    assert artifact.add("# Title", "README.md").path == "README.md"
    assert artifact.add({"a": [1, None, True]}, "deep/settings").path == "deep/settings.json"
    assert artifact.add([1, 2], "list.json").path == "list.json"
    artifact["number"] = 7.5
    with pytest.raises(wandb.PathConflictError, match=r"notes\.txt"):
        artifact.add("other", "notes")
    artifact.add("other", "notes", overwrite=True)
    found = saved(artifact)
    assert found.get("raw") == b"\x00bytes"
    assert found.get("notes") == found["notes.txt"] == "other"
    assert found.get("README.md") == b"# Title"
    assert found.get("deep/settings") == {"a": [1, None, True]}
    assert found.get("list") == [1, 2]
    assert found["number"] == 7.5
    with pytest.raises(KeyError, match="missing"):
        found.get("missing")


class Shape:
    """A type of a library that artfs does not know."""

    def __init__(self, sides: int) -> None:
        self.sides = sides


class Square(Shape):
    def __init__(self) -> None:
        super().__init__(4)


def test_more_types_can_be_registered(artifact: wandb.Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    for registry in ("_by_type", "_by_suffix"):
        monkeypatch.setattr(serializers, registry, dict(getattr(serializers, registry)))
    with pytest.raises(TypeError, match=r"obj is a .*Square; known are .*numpy.ndarray"):
        artifact.add(Square(), "square")
    wandb.register_type(
        f"{Shape.__module__}.Shape", ".shape", lambda shape: bytes([shape.sides]), lambda data: Shape(data[0])
    )
    artifact.add(Square(), "square")
    assert saved(artifact).get("square").sides == 4
    with pytest.raises(ValueError, match="suffix"):
        wandb.register_type("x.Y", "shape", bytes, bytes)


def test_numpy_arrays_round_trip(artifact: wandb.Artifact) -> None:
    numpy = pytest.importorskip("numpy")
    array = numpy.arange(12.0).reshape(3, 4)
    assert artifact.add(array, "array").path == "array.npy"
    assert artifact.add(numpy.float32(0.5), "scalar").path == "scalar.json"
    with pytest.raises(ValueError, match=r"[Oo]bject"):
        artifact.add(numpy.array([object()]), "pickled")
    found = saved(artifact)
    assert (found.get("array") == array).all()
    assert found.get("scalar") == 0.5


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_data_frames_round_trip(artifact: wandb.Artifact, library: str) -> None:
    module: Any = pytest.importorskip(library)
    pytest.importorskip("pyarrow")
    table = module.DataFrame({"a": [1, 2], "b": ["x", "y"]})
    assert artifact.add(table, "table").path == "table.parquet"
    assert saved(artifact).get("table").equals(table)


def test_arrow_tables_round_trip(artifact: wandb.Artifact) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    table = pyarrow.table({"a": [1, 2]})
    artifact.add(table, "table")
    assert saved(artifact).get("table").equals(table)


def test_images_round_trip(artifact: wandb.Artifact) -> None:
    image_module: Any = pytest.importorskip("PIL.Image")
    image = image_module.new("RGB", (4, 3), "red")
    assert artifact.add(image, "image").path == "image.png"
    found = saved(artifact).get("image")
    assert (found.size, found.getpixel((0, 0))) == ((4, 3), (255, 0, 0))


def test_figures_become_images(artifact: wandb.Artifact) -> None:
    figures: Any = pytest.importorskip("matplotlib.figure")
    figure = figures.Figure(figsize=(1, 1))
    figure.subplots().plot([1, 2])
    artifact.add(figure, "plot")
    artifact.add(figure, "plot")  # the same figure gives the same file
    assert saved(artifact).get("plot").format == "PNG"


def test_a_library_that_is_missing_is_named(place: Place, name: str, tmp_path: Path) -> None:
    try:
        import numpy  # noqa: F401
    except ImportError:
        (tmp_path / "x.npy").write_bytes(b"any")
        artifact = wandb.Artifact(name, "dataset")
        artifact.add_file("x.npy")
        artifact.save()
        with pytest.raises(ImportError, match="numpy"):
            artifact.get("x")
    else:
        pytest.skip("numpy is here")
