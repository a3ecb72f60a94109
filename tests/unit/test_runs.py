"""Runs: made, changed by several processes, refused."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from artfs.catalog.runs import RecordedRun, RunCatalog, check_run_id
from artfs.errors import AlreadyExists, Damaged, InvalidCommand, InvalidName, RunNotFound
from tests.unit.catalogs import Volume, in_processes
from tests.unit.stores import directory


@pytest.fixture
def runs(vol: Volume) -> Iterator[RunCatalog]:
    with directory(vol.path / "runs") as fd:
        yield RunCatalog(fd)


def test_a_run_can_be_created_and_changed(runs):
    run = runs.create(RecordedRun(id="r1", group="g", job_type="train", host="h"))
    assert run.started_at is not None
    assert run.state == "running"
    assert runs.read("r1") == run
    with pytest.raises(AlreadyExists):
        runs.create(RecordedRun(id="r1"))
    runs.record_input("r1", "data:v0")
    runs.record_input("r1", "data:v0")
    runs.record_output("r1", "model:v1")
    ended = runs.end("r1", "failed")
    assert (ended.inputs, ended.outputs, ended.state) == (("data:v0",), ("model:v1",), "failed")
    assert ended.ended_at is not None
    assert runs.read("r1") == ended


def test_runs_are_listed(vol, runs):
    for run in ("b", "a", "größe"):
        runs.create(RecordedRun(id=run))
    (vol.path / "runs" / "note.txt").write_text("")
    (vol.path / "runs" / ".artfs-tmp.1.x.json").write_text("")
    assert runs.ids() == ["a", "b", "größe"]


def test_a_json_object_creates_and_changes_a_run(runs):
    document = {"group": "g", "inputs": ["data:v0"]}
    first = runs.apply("r1", document)
    assert runs.apply("r1", document) == first
    assert first.group == "g"
    assert first.started_at is not None
    second = runs.apply(
        "r1", {"id": "r1", "state": "finished", "inputs": ["data:v1"], "outputs": ["model:v0"]}
    )
    assert (second.group, second.inputs, second.state) == ("g", ("data:v0", "data:v1"), "finished")
    assert runs.read("r1") == second


@pytest.mark.parametrize(
    "document",
    [
        {"id": "other"},
        {"x": 1},
        {"inputs": "a"},
        {"group": 3},
        {"state": None},
        {"group": "a\nb"},
        {"host": "\udcff"},
        {"inputs": ["\0"]},
        {"owner": 1000},
        {"inputs": [f"model:v{number}" for number in range(100_000)]},
    ],
)
def test_invalid_runs_are_refused(runs, document):
    with pytest.raises(InvalidCommand):
        runs.apply("r1", document)
    assert runs.ids() == []


@pytest.mark.parametrize("run", ["", ".", "..", ".x", "a/b", "../x", "a b", "a\n", "\0", "\udcff", "x" * 201])
def test_invalid_names_of_runs_are_refused(runs, run):
    for call in (
        check_run_id,
        runs.read,
        lambda name: runs.create(RecordedRun(id=name)),
        lambda name: runs.record_input(name, "x"),
    ):
        with pytest.raises(InvalidName):
            call(run)


def test_a_run_grows_to_its_limit(runs):
    for number in range(5):
        runs.apply("r1", {"inputs": [f"{number}-{n}-{'x' * 180}" for n in range(1000)]})
    with pytest.raises(InvalidCommand, match="at most 1048576 bytes"):
        runs.apply("r1", {"inputs": [f"last-{n}-{'x' * 180}" for n in range(1000)]})
    assert len(runs.read("r1").inputs) == 5000


def test_a_run_belongs_to_its_creator(runs):
    runs.create(RecordedRun(id="hers", owner=1001))
    runs.create(RecordedRun(id="roots", owner=0))
    runs.create(RecordedRun(id="nobodys"))
    assert runs.apply("hers", {"group": "a"}, by=1001).owner == 1001
    assert runs.apply("hers", {"group": "b"}).group == "b"
    runs.apply("nobodys", {"group": "a"}, by=1002)
    for run in ("hers", "roots"):
        with pytest.raises(PermissionError):
            runs.apply(run, {"group": "c"}, by=1002)
    assert runs.read("hers").group == "b"


def test_the_existence_of_a_run_is_known_without_reading(vol, runs):
    (vol.path / "runs" / "r1.json").write_bytes(b"{")
    assert runs.exists("r1")
    assert not runs.exists("r2")


def test_an_unknown_run_is_not_found(runs):
    for call in (runs.read, runs.end, lambda run: runs.record_output(run, "x:v0")):
        with pytest.raises(RunNotFound):
            call("none")


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"[]", b'{"id": "other"}', b'{"id": "r1", "inputs": 3}', b"\xff"]
)
def test_an_invalid_run_file_is_damaged(vol, runs, data):
    (vol.path / "runs" / "r1.json").write_bytes(data)
    for call in (runs.read, runs.end, lambda run: runs.apply(run, {})):
        with pytest.raises(Damaged, match=r"runs/r1\.json"):
            call("r1")


def test_a_symlink_in_place_of_a_run_is_not_followed(vol, runs, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside") / "r1.json"
    outside.write_text('{"id": "r1"}')
    (vol.path / "runs" / "r1.json").symlink_to(outside)
    for call in (runs.read, runs.end):
        with pytest.raises(Damaged, match="not a regular file"):
            call("r1")
    with pytest.raises(AlreadyExists):
        runs.create(RecordedRun(id="r1"))
    assert outside.read_text() == '{"id": "r1"}'


def test_concurrent_changes_of_a_run_are_kept(vol, runs):
    script = """
runs = RunCatalog(os.open(sys.argv[1] + "/runs", os.O_RDONLY))
for n in range(10):
    runs.apply("r1", {"outputs": [f"model:v{me}{n}"]})
print(0)
"""
    in_processes(vol.path, script)
    assert sorted(runs.read("r1").outputs) == sorted(f"model:v{me}{n}" for me in range(4) for n in range(10))


def test_config_and_summary_are_merged(runs):
    runs.apply("r1", {"config": {"lr": 0.1, "seed": None}, "summary": {"loss": 1, "best": None}})
    runs.apply("r1", {"config": {"lr": 0.2}, "summary": {"best": 3}})
    found = runs.apply("r1", {"summary": {"loss": None}, "notes": "two\nlines", "tags": ["a tag"]})
    assert (found.config, found.summary) == ({"lr": 0.2, "seed": None}, {"best": 3})
    assert (found.notes, found.tags) == ("two\nlines", ("a tag",))
    assert runs.read("r1") == found
    for wrong in ({"config": [1]}, {"notes": "a\0b"}, {"tags": ["a\nb"]}, {"name": "a\nb"}):
        with pytest.raises(InvalidCommand):
            runs.apply("r1", wrong)
    assert runs.read("r1") == found
