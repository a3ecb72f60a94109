"""Lists of the Api as in wandb: pages, filters, orders; properties of collections."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import artfs as wandb
from artfs.sdk.connection import connect
from artfs.sdk.query import matches, ordered
from tests.sdk.conftest import Place, version_of


def test_versions_are_paged(place: Place, name: str) -> None:
    for number in range(5):
        version_of(name, str(number), tags=["even"] if number % 2 == 0 else [])
    api = wandb.Api()
    found = api.artifacts("dataset", name, per_page=2)
    assert len(found) == 5
    assert [one.version for one in found] == ["v4", "v3", "v2", "v1", "v0"]
    assert (found[0].version, found[-1].version) == ("v4", "v0")
    assert [one.version for one in found[1:3]] == ["v3", "v2"]
    with pytest.raises(IndexError):
        found[5]
    assert found[0] is found[0]

    found = api.artifacts("dataset", name, per_page=2)
    assert (found.more, found.cursor) == (True, "v4")
    assert [next(found).version, found.next().version] == ["v4", "v3"]
    assert (found.more, found.cursor) == (True, "v2")
    rest = api.artifacts("dataset", name, per_page=2, start=found.cursor)
    version_of(name, "meanwhile")
    assert [one.version for one in rest] == ["v2", "v1", "v0"]
    assert (rest.more, rest.cursor) == (False, None)
    with pytest.raises(StopIteration):
        next(rest)
    with pytest.raises(ValueError, match="start='v99'"):
        api.artifacts("dataset", name, start="v99")
    with pytest.raises(ValueError, match="per_page"):
        api.artifacts("dataset", name, per_page=0)

    assert [one.version for one in api.artifacts("dataset", name, tags=["even"])] == ["v4", "v2", "v0"]
    assert [one.version for one in api.artifacts("dataset", name, order="created_at")][:2] == ["v0", "v1"]
    assert api.artifact_versions("dataset", name)[0].version == "v5"
    with pytest.raises(ValueError, match="order='colour'"):
        api.artifacts("dataset", name, order="colour")


def test_a_list_reads_an_item_at_its_first_use(
    place: Place, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4):
        version_of(name, str(number))
    asked: list[str] = []
    client = type(connect().client())
    read = client.version

    def noting(self: Any, name: str, ref: str) -> dict[str, Any]:
        asked.append(ref)
        return read(self, name, ref)

    monkeypatch.setattr(client, "version", noting)
    found = wandb.Api().artifacts("dataset", name)
    assert (len(found), asked) == (4, [])
    assert found[0].version == "v3"
    assert asked == ["v3"]


def test_types_list_their_collections(place: Place, name: str) -> None:
    for number in range(3):
        version_of(f"{name}-{number}", "x", kind=f"kind-of-{name}")
    api = wandb.Api()
    kind = api.artifact_type(f"kind-of-{name}")
    assert (kind.name, kind.id) == (f"kind-of-{name}",) * 2
    assert kind.name in [one.name for one in api.artifact_types()]
    names = [f"{name}-{number}" for number in range(3)]
    assert [one.name for one in kind.collections()] == names
    assert [one.name for one in kind.collections(order="-name")] == names[::-1]
    assert [one.name for one in kind.collections(order="-created_at")] == names[::-1]
    assert [one.name for one in kind.collections(filters={"name": {"$regex": "-1$"}})] == names[1:2]
    assert [one.name for one in api.artifact_collections(None, kind.name, start=names[1])] == names[1:]


def test_a_collection_stores_what_is_set(place: Place, name: str) -> None:
    made = version_of(name, "x")
    api = wandb.Api()
    collection = api.artifact_collection("dataset", name)
    assert (collection.tags, collection.description, collection.id) == ([], "", name)
    assert collection.is_sequence()
    assert collection.created_at == collection.updated_at == made.created_at
    collection.tags, collection.description = ["gold"], "Digits"
    collection.tags.append("frozen")
    assert api.artifact_collection("dataset", name).tags == []
    collection.save()
    again = api.artifact_collection("dataset", name)
    assert (again.tags, again.description) == (["gold", "frozen"], "Digits")
    assert [one.name for one in api.artifact_type("dataset").collections(filters={"tags": "gold"})] == [name]
    again.tags.remove("gold")
    again.save()
    assert api.artifact_collection("dataset", name).tags == ["frozen"]
    if place.mounted:
        control = place.path / name / ".artfs" / "tags"
        assert control.read_text() == "frozen\n"
        control.write_text("one\ntwo\n")
        assert api.artifact_collection("dataset", name).tags == ["one", "two"]
    collection.name, collection.type = name, "dataset"
    for key, value in (("name", "other"), ("type", "model")):
        with pytest.raises(wandb.UnsupportedError, match="can't be"):
            setattr(collection, key, value)


def test_runs_are_filtered_and_ordered(place: Place, name: str) -> None:
    api = wandb.Api()
    for number in range(3):
        config = {"lr": number / 10, "model": {"depth": number}}
        with wandb.init("anna", name, config=config, name=f"run {number}", tags=[f"t{number}"]) as run:
            run.summary["loss"] = 3 - number
    ids = [run.id for run in api.runs(f"anna/{name}")]
    assert len(ids) == 3
    assert run.id == ids[-1]

    def chosen(filters: dict[str, Any], order: str = "+created_at") -> list[int]:
        return [ids.index(run.id) for run in api.runs(f"anna/{name}", filters, order)]

    assert chosen({"config.lr": {"$gt": 0.05}}) == [1, 2]
    assert chosen({"config.model.depth": 0}) == [0]
    assert chosen({"summary_metrics.loss": {"$in": [1, 3]}}) == [0, 2]
    assert chosen({"tags": "t1"}) == chosen({"display_name": "run 1"}) == chosen({"name": ids[1]}) == [1]
    assert chosen({"$or": [{"tags": "t0"}, {"tags": {"$nin": ["t1", "t0"]}}]}) == [0, 2]
    assert (
        chosen({}, "-config.lr")
        == chosen({}, "+summary_metrics.loss")
        == chosen({}, "-created_at")
        == [2, 1, 0]
    )
    assert chosen({"state": "finished"}) == [0, 1, 2]
    assert set(ids) <= {run.id for run in api.runs()}
    for wrong in ({"filters": {"a": {"$like": 1}}}, {"order": "colour"}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            api.runs(f"anna/{name}", **wrong)


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({}, True),
        (None, True),
        ({"a": 1}, True),
        ({"a": 1, "b": "no"}, False),
        ({"missing": None}, True),
        ({"missing": {"$exists": False}}, True),
        ({"a": {"$exists": True}}, True),
        ({"b": {"$gt": 1}}, False),
        ({"a": {"$gte": 1, "$lt": 2}}, True),
        ({"a": {"$ne": 1}}, False),
        ({"c.d": 2}, True),
        ({"e.f.g": 3}, True),
        ({"list": 7}, True),
        ({"list": {"$lte": 7}}, False),
        ({"b": {"$not": {"$regex": "^te"}}}, False),
        ({"$nor": [{"a": 2}, {"b": "x"}]}, True),
        ({"$and": [{"a": 1}, {"b": "text"}]}, True),
        ({"c": {"d": 2}}, True),
    ],
)
def test_a_filter_selects_as_mongodb_does(filters: dict[str, object] | None, found: bool) -> None:
    line = {"a": 1, "b": "text", "c": {"d": 2}, "e.f": {"g": 3}, "list": [6, 7]}
    assert matches(line, filters) == found


def test_lines_without_a_value_come_last() -> None:
    lines: list[dict[str, Any]] = [{"n": 2}, {"n": None}, {"n": 1}, {"n": "b"}, {}]
    assert [line.get("n") for line in ordered(lines, "+n", {"n": "n"})] == [1, 2, "b", None, None]
    assert [line.get("n") for line in ordered(lines, "-n", {"n": "n"})] == ["b", 2, 1, None, None]
    assert ordered(lines, None, {}) == lines


def test_files_are_paged_and_downloaded_as_in_wandb(artifact: wandb.Artifact, tmp_path: Path) -> None:
    for number in range(5):
        artifact.add(str(number), f"{number}.txt")
    artifact.save()
    found = artifact.files(per_page=2)
    assert len(found) == 5
    assert [next(found).name, next(found).name, found.cursor] == ["0.txt", "1.txt", "2.txt"]
    assert [one.name for one in artifact.files(start=found.cursor)] == ["2.txt", "3.txt", "4.txt"]
    [file] = artifact.files(names=["3.txt"])
    assert (file.size, file.path_uri, file.parent_artifact()) == (1, "", artifact)
    assert file.digest_algorithm() == artifact.digest_algorithm
    with file.download(tmp_path / "out") as opened:
        assert (opened.name, opened.read()) == (str(tmp_path / "out" / "3.txt"), "3")
    (tmp_path / "out" / "3.txt").write_text("mine")
    with pytest.raises(ValueError, match="replace=True"):
        file.download(tmp_path / "out")
    with file.download(tmp_path / "out", exist_ok=True) as opened:
        assert opened.read() == "mine"
    with file.download(tmp_path / "out", replace=True) as opened:
        assert opened.read() == "3"
    assert artifact.get_entry("3.txt").to_json()["size"] == 1


def test_an_artifact_has_wandbs_properties(place: Place, name: str, tmp_path: Path, files: Path) -> None:
    (tmp_path / "file").write_text("x")
    artifact = wandb.Artifact(name, "dataset", use_as="train")
    artifact.add_file("file", name="sub/file.txt")
    artifact.add_dir(files, name="dir")
    assert artifact.get_added_local_path_name("file") == "sub/file.txt"
    assert artifact.get_added_local_path_name(tmp_path / "file") == "sub/file.txt"
    assert artifact.get_added_local_path_name(files / "sub" / "run.sh") == "dir/sub/run.sh"
    assert artifact.get_added_local_path_name(files / "missing") is None
    assert artifact.get_added_local_path_name("/nowhere") is None
    with pytest.raises(wandb.ArtifactNotLoggedError):
        artifact.json_encode()
    artifact.save()
    assert artifact.commit_hash == artifact.digest
    assert (artifact.use_as, artifact.url, artifact.history_step, artifact.incremental) == (
        "train",
        "",
        None,
        False,
    )
    assert artifact.json_encode()["id"] == artifact.id
    assert artifact.digest_algorithm in ("xxh128", "sha256")


def test_a_run_record_records_use(place: Place, name: str) -> None:
    made = version_of(name, "x")
    with wandb.init() as run:
        pass
    assert wandb.Api().run(run.id).use_artifact(made) is made
    assert [one.name for one in wandb.Api().run(run.id).used_artifacts()] == [f"{name}:v0"]
    assert [one.id for one in made.used_by()] == [run.id]


@pytest.mark.ways(2)
def test_registries_list_their_collections_and_versions(place: Place, name: str) -> None:
    models, others = f"models-{name}", f"others-{name}"
    source = version_of(name, "x")
    for group, collection in ((models, "digits"), (models, "letters"), (others, "digits")):
        source.link(f"wandb-registry-{group}/{collection}", aliases=["production"])
    api = wandb.Api()
    assert [one.name for one in api.registries(filter={"name": {"$regex": name}})] == [models, others]
    registry = api.registry(models)
    assert (registry.full_name, registry.artifact_types) == (f"wandb-registry-{models}", ["dataset"])
    digits, letters = registry.collections()
    assert (digits.name, digits.project, digits.is_sequence()) == (
        "digits",
        f"wandb-registry-{models}",
        False,
    )
    assert digits.id == f"wandb-registry-{models}.digits"
    assert [one.id for one in registry.collections(filter={"name": "letters"})] == [letters.id]
    assert [one.id for one in registry.collections(order="-name")] == [letters.id, digits.id]
    letters.tags = ["gold"]
    letters.save()
    assert len(registry.versions(filter={"alias": "production"})) == 2
    assert len(registry.versions(filter={"alias": "staging"})) == 0
    every = api.registries(filter={"name": {"$in": [models, others]}})
    assert len(every.versions()) == len(every.collections()) == 3
    [gold] = every.collections(filter={"tag": "gold"}).versions(filter={"alias": "production"})
    assert gold.get("content") == "x"
    with pytest.raises(ValueError, match="no collection belongs"):
        api.registry("missing")
