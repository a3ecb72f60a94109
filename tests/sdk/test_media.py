"""Tables and images: what artfs writes wandb reads, what wandb writes artfs reads, and each reads its own."""

from __future__ import annotations

import datetime
import json
import shutil
from pathlib import Path
from typing import Any

import numpy
import PIL.Image
import pytest

import artfs
from tests.sdk.conftest import Place, saved

pytestmark = pytest.mark.ways(1)

UTC = datetime.UTC
PIXELS: Any = numpy.arange(4 * 5 * 3, dtype="uint8").reshape(4, 5, 3)
CLASSES = [{"id": 0, "name": "road"}, {"id": 1, "name": "cat"}]
BOXES: dict[str, Any] = {
    "truth": {
        "box_data": [
            {
                "position": {"minX": 0, "maxX": 1, "minY": 0, "maxY": 0.5},
                "class_id": 1,
                "scores": {"acc": 0.5},
            },
            {"position": {"middle": [2, 2], "width": 1, "height": 2}, "domain": "pixel", "class_id": 0},
        ],
        "class_labels": {0: "road", 1: "cat"},
    }
}
MASKS: dict[str, Any] = {"guess": {"mask_data": numpy.ones((4, 5), dtype=int), "class_labels": {1: "cat"}}}
COLUMNS = ["n", "text", "yes", "when", "day", "list", "dict", "image", "vector", "array", "nothing", "scalar"]


def rows(module: Any) -> list[list[Any]]:
    """Rows with a value of each type of a table, made with either library."""
    image = module.Image(PIXELS, caption="a cat", boxes=BOXES, masks=MASKS, classes=module.Classes(CLASSES))
    when = datetime.datetime(2020, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)
    more = (numpy.arange(3.0), numpy.arange(4).reshape(2, 2), None, numpy.float32(1.5))
    return [
        [1, "x", True, when, datetime.date(2020, 1, 1), [1, 2], {"a": 1, "b": "c"}, image, *more],
        [2.5, None, False, when, None, [3], {"a": 2, "b": "d"}, None, *more],
    ]


def values(table: Any) -> list[list[Any]]:
    """The plain values of a table, of either library."""
    plain = []
    for row in table.data:
        cells: list[Any] = []
        for value in row:
            if hasattr(value, "image"):
                value = ("image", value._caption, numpy.asarray(value.image).tolist())
            elif hasattr(value, "tolist"):
                value = value.tolist()
            cells.append(value)
        plain.append(cells)
    return plain


EXPECTED = values(artfs.Table(columns=COLUMNS, data=rows(artfs)))
for _row in EXPECTED:  # a date is read as a time
    _row[4] = _row[4] and datetime.datetime(2020, 1, 1, tzinfo=UTC)


class _Local:
    """A directory, with those methods of a wandb artifact that its types need to be read."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def get_entry(self, path: str) -> Any:
        root = self.root

        class Entry:
            def download(self) -> str:
                return str(root / path)

        return Entry()

    def get(self, path: str) -> Any:
        import wandb.data_types as types

        found = json.loads((self.root / path).read_text())
        kinds = {"table": types.Table, "classes": types.Classes, "image-file": types.Image}
        return kinds[found["_type"]].from_json(found, self)


@pytest.fixture
def by_wandb(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """wandb itself, which talks to no server."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    for name in ("WANDB_DIR", "WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(name, str(tmp_path / name))
    return pytest.importorskip("wandb")


def test_a_table_round_trips(artifact: artfs.Artifact) -> None:
    table = artfs.Table(columns=COLUMNS, data=rows(artfs))
    assert artifact.add(table, "results/all").path == "results/all.table.json"
    assert values(artifact.get("results/all")) == EXPECTED  # from a draft, too
    found = saved(artifact)
    for asked in ("results/all", "results/all.table.json"):
        assert values(found.get(asked)) == EXPECTED
    assert {entry.path for entry in found.files() if entry.path.startswith("media/images/mask/")}
    image = found["results/all"].get_column("image")[0]
    assert (image._width, image._height, image.image.size) == (5, 4, (5, 4))
    assert [one["name"] for one in image._classes._class_set] == ["road", "cat"]
    assert image._boxes["truth"]._val == BOXES["truth"]["box_data"]
    assert numpy.asarray(image._masks["guess"].image).tolist() == MASKS["guess"]["mask_data"].tolist()


def test_equal_values_are_an_unchanged_artifact(place: Place, name: str) -> None:
    for number in range(2):
        artifact = artfs.Artifact(name, "dataset")
        artifact.add(artfs.Table(columns=COLUMNS, data=rows(artfs)), "all")
        artifact.add(artfs.Image(PIXELS, masks=MASKS), "image")
        artifact.save()
        assert (artifact.version, artifact.unchanged) == ("v0", number == 1)


def test_wandb_reads_what_artfs_writes(artifact: artfs.Artifact, by_wandb: Any, tmp_path: Path) -> None:
    artifact.add(artfs.Table(columns=COLUMNS, data=rows(artfs)), "all")
    artifact.add(artfs.Image(PIXELS, caption="alone", boxes=BOXES, masks=MASKS, classes=CLASSES), "image")
    keys = artfs.Table(columns=["id"], data=[["a"], ["b"]])
    keys.set_pk("id")
    linked = artfs.Table(columns=["of", "row"], data=[["a", keys.index_ref(1)]])
    linked.set_fk("of", keys, "id")
    artifact.add(linked, "linked")
    root = tmp_path / "files"
    saved(artifact).download(root)
    local = _Local(root)
    table = local.get("all.table.json")
    assert values(table) == EXPECTED
    ours, theirs = (
        {str(column): of for column, of in found._column_types.params["type_map"].items()}
        for found in (table, by_wandb.Table(columns=COLUMNS, data=rows(by_wandb)))
    )
    # wandb, too, writes vectors as lists; of lists it keeps the length of the last one.
    same = [column for column in COLUMNS if column not in ("vector", "list")]
    assert {column: ours[column] for column in same} == {column: theirs[column] for column in same}
    image = local.get("image.image-file.json")
    assert (image._caption, image.image.size, list(image._boxes)) == ("alone", (5, 4), ["truth"])
    row = local.get("linked.table.json").data[0]
    assert (row[0], row[1]) == ("a", 1)
    assert row[1].get_row() == {"id": "b"}


def test_artfs_reads_what_wandb_writes(
    name: str, artifact: artfs.Artifact, by_wandb: Any, tmp_path: Path
) -> None:
    theirs = by_wandb.Artifact("any", "dataset")
    theirs.add(by_wandb.Table(columns=COLUMNS, data=rows(by_wandb)), "all")
    image = by_wandb.Image(
        PIXELS, caption="alone", boxes=BOXES, masks=MASKS, classes=by_wandb.Classes(CLASSES)
    )
    theirs.add(image, "image")
    keys = by_wandb.Table(columns=["id"], data=[["a"], ["b"]])
    keys.set_pk("id")
    linked = by_wandb.Table(columns=["of", "row"], data=[["a", keys.index_ref(1)]])
    linked.set_fk("of", keys, "id")
    theirs.add(linked, "linked")
    theirs.add(by_wandb.JoinedTable(keys, linked, ["id", "of"]), "joined")
    for path, entry in theirs.manifest.entries.items():
        target = tmp_path / "files" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(entry.local_path, target)
    artifact.add_dir(tmp_path / "files")
    found = saved(artifact)
    assert values(found["all"]) == EXPECTED
    assert found["image"] == artfs.Image(PIXELS, caption="alone", classes=CLASSES)
    row = found["linked"].data[0]
    assert (row[0], row[0].table.columns, row[1].get_row()) == ("a", ["id"], {"id": "b"})
    assert found["joined"]._table1.data == [["a"], ["b"]]
    again = artfs.Artifact(name, "dataset")  # a value that was read can be added again
    again.add(found["all"], "all")
    assert values(saved(again)["all"]) == EXPECTED


def test_images_of_files_are_stored(artifact: artfs.Artifact, tmp_path: Path) -> None:
    for directory in ("one", "two"):
        (tmp_path / directory).mkdir()
        PIL.Image.new("RGB", (3, 2), "red" if directory == "one" else "blue").save(
            tmp_path / directory / "same.png"
        )
    table = artfs.Table(columns=["image"])
    for directory in ("one", "two"):
        table.add_data(artfs.Image(tmp_path / directory / "same.png"))
    artifact.add(table, "images")
    artifact.add(artfs.Image(PIL.Image.new("RGB", (2, 2), "white"), file_type="jpg"), "photo")
    found = saved(artifact)
    assert [image.image.getpixel((0, 0)) for image in found["images"].get_column("image")] == [
        (255, 0, 0),
        (0, 0, 255),
    ]
    assert found["photo"].image.format == "JPEG"
    with pytest.raises(FileNotFoundError):
        artfs.Image(tmp_path / "missing.png")
    with pytest.raises(ValueError, match="file_type='gif'"):
        artfs.Image(PIXELS, file_type="gif")
    with pytest.raises(ValueError, match=r"\(2, 7\)|shape"):
        artfs.Image(numpy.zeros((2, 3, 7)))


def test_many_rows_are_checked_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    table = artfs.Table(columns=["a", "b"], data=[[1, "x"], [2, None]])
    with pytest.raises(
        TypeError, match=r"column 'a' holds none or number, and can't take 'y', which is string"
    ):
        table.add_data("y", "x")
    with pytest.raises(ValueError, match="the row has 1 values, and the table 2 columns"):
        table.add_data(1)
    assert table.data == [[1, "x"], [2, None]]
    mixed = artfs.Table(columns=["a"], data=[[1], ["x"]], allow_mixed_types=True)
    assert mixed.get_column("a") == [1, "x"]
    with pytest.raises(TypeError, match="can't take None"):
        artfs.Table(columns=["a"], data=[[None]], dtype=int, optional=False)
    monkeypatch.setattr(artfs.Table, "MAX_ARTIFACT_ROWS", 1)
    artifact = artfs.Artifact("any", "dataset")
    with pytest.raises(ValueError, match=r"2 rows, and an artifact takes 1"):
        artifact.add(table, "table")


def test_columns_are_added_and_computed() -> None:
    table = artfs.Table(columns=["a"], data=[[1], [2]])
    table.add_column("b", [10, 20])
    table.add_computed_columns(lambda index, row: {"sum": row["a"] + row["b"] + index})
    assert table.data == [[1, 10, 11], [2, 20, 23]]
    assert table.get_column("sum", convert_to="numpy").mean() == 17
    with pytest.raises(ValueError, match="3 values, and the table 2 rows"):
        table.add_column("c", [1, 2, 3])
    with pytest.raises(TypeError, match="column 'c'"):
        table.add_column("c", [1, "x"])
    assert table.columns == ["a", "b", "sum"]


def test_any_json_file_may_have_the_suffix_of_a_table(artifact: artfs.Artifact) -> None:
    artifact.add(b'{"columns": 3}', "mine.table.json")
    assert saved(artifact).get("mine.table.json") == {"columns": 3}


@pytest.mark.parametrize(
    ("boxes", "said"),
    [
        ({"box_data": [{"class_id": 1}]}, "has no position"),
        ({"box_data": {}}, "must be a list"),
        ({"box_data": [{"position": {"middle": [1], "width": 1, "height": 1}}]}, "has no position"),
        ({"box_data": [], "class_labels": {"x": "y"}}, "names by number"),
    ],
)
def test_invalid_boxes_are_refused(boxes: Any, said: str) -> None:
    with pytest.raises(TypeError, match=said):
        artfs.Image(PIXELS, boxes={"key": boxes})


@pytest.mark.parametrize("data", [5, None, numpy.zeros(3), numpy.zeros((4, 4, 2))], ids=repr)
def test_invalid_images_are_refused(data: Any) -> None:
    with pytest.raises(ValueError, match="is no image"):
        artfs.Image(data)
