"""One collection: versions, aliases, ids, labels; by several processes, after crashes, with foreign files."""

from __future__ import annotations

import functools
import gc
import os
import threading
import tracemalloc
from pathlib import Path

import pytest

from artfs.catalog.collection import Collection
from artfs.catalog.records import Labels
from artfs.catalog.versions import Versions
from artfs.errors import (
    AliasNotFound,
    AlreadyExists,
    AlreadyFinishedError,
    ArtfsError,
    CollectionNotFound,
    Damaged,
    HeldByAlias,
    InvalidCommand,
    InvalidName,
    TypeMismatch,
    VersionNotFound,
)
from artfs.store import durable
from artfs.store.documents import nanoseconds
from tests.unit.catalogs import Volume, commit, crash_at, crashes, in_processes, version
from tests.unit.stores import in_threads


@pytest.fixture
def model(vol: Volume) -> Collection:
    return vol.open().create("model", collection_type="checkpoint")


@pytest.fixture
def again(vol: Volume, model: Collection) -> Collection:
    """The same collection as another process sees it."""
    return vol.open().collection("model")


# --- versions ---


def test_versions_are_numbered_in_order(model, again):
    assert model.next_number() == 0
    assert model.newest() is None
    assert model.versions() == again.versions() == []
    first = commit(model)
    second = commit(again)
    assert model.versions() == again.versions() == [first, second]
    assert model.newest() == again.newest() == second
    assert again.record(0) == first
    assert model.next_number() == again.next_number() == 2


def test_a_version_number_must_be_the_next_one(model, again):
    assert model.commit(version(0, seal="mine"))
    assert not again.commit(version(0, seal="other"))
    assert not again.commit(version(2))
    assert again.record(0).seal == "mine"


@pytest.mark.parametrize(
    "wrong",
    [{"tags": ["a\nb"]}, {"description": "\0"}, {"metadata": {"a": float("inf")}}, {"created_by": "\udcff"}],
)
def test_an_invalid_record_is_not_committed(model, wrong):
    with pytest.raises(InvalidCommand):
        model.commit(version(0, **wrong))
    with pytest.raises(InvalidName):
        model.commit(version(0, aliases=["v1"]))
    assert model.next_number() == 0


def test_unknown_versions_are_not_found(model):
    commit(model)
    for number in (1, 10**15):
        with pytest.raises(VersionNotFound):
            model.record(number)
        with pytest.raises(VersionNotFound):
            model.delete_version(number)


def test_the_number_of_a_deleted_version_is_not_reused(vol, model, again):
    for _ in range(3):
        commit(model)
    assert len(again.versions()) == 3
    model.delete_version(1)
    model.delete_version(2)
    for seen in (model, again, vol.open().collection("model")):
        assert [record.version for record in seen.versions()] == ["v0"]
        assert seen.numbers() == [0]
        assert seen.newest().version == "v0"
        assert seen.resolve("latest") == 0
        assert seen.next_number() == 3
        for call in (seen.record, seen.delete_version, seen.labels, seen.describe):
            with pytest.raises(VersionNotFound):
                call(1)
    model.delete_version(0)
    assert again.newest() is None
    assert commit(again).version == "v3"
    assert [record.version for record in model.versions()] == ["v3"]


def test_versions_of_a_collection_removed_meanwhile_are_not_found(vol, model, monkeypatch):
    commit(model)
    model.delete_version(0)
    find = Versions._find_highest

    def remove_then(self, fd):
        found = find(self, fd)
        monkeypatch.undo()
        vol.open().remove("model")
        return found

    monkeypatch.setattr(Versions, "_find_highest", remove_then)
    with pytest.raises(CollectionNotFound):
        vol.open().collection("model").versions()


def test_a_deletion_removes_labels_and_ids(vol, model, again):
    commit(model)
    commit(model)
    model.record_finished(b"same-content", 0)
    model.update_labels(0, description="x")
    model.delete_version(0)
    assert again.finished(b"job-0") is None
    assert again.finished(b"same-content") is None
    assert again.finished(b"job-1") == 1
    assert os.listdir(vol.files("model") / "ids") == ["job-1"]
    assert os.listdir(vol.files("model") / "notes") == []


def test_a_recreated_collection_is_not_the_old_one(vol, model, again):
    for _ in range(3):
        commit(model)
    assert again.newest().number == 2
    for number in range(3):
        model.delete_version(number)
    other = vol.open()
    other.remove("model")
    with pytest.raises(CollectionNotFound):
        again.versions()
    other.create("model")
    assert again.next_number() == 0
    record = commit(again, seal="new")
    assert model.versions() == [record]


def test_each_record_is_decoded_once(model, again, monkeypatch):
    for number in range(20):
        assert model.commit(version(number))
    assert len(again.versions()) == 20
    monkeypatch.setattr("artfs.catalog.records.decode_version", None)
    assert len(again.versions()) == 20
    assert again.resolve("latest") == 19


def test_concurrent_processes_commit_different_versions(vol, model):
    script = """
collection = catalog.collection("model")
made = []
while len(made) < 10:
    name = f"{me}-{len(made)}"
    record = version(collection.next_number(), seal=name, distributed_id=name.encode())
    if collection.commit(record):
        collection.complete(record)
        made.append(record.number)
print(json.dumps(made))
"""
    made = in_processes(vol.path, script)
    assert sorted(number for numbers in made for number in numbers) == list(range(40))
    assert model.numbers() == list(range(40))
    for me, numbers in enumerate(made):
        for n, number in enumerate(numbers):
            assert model.record(number).seal == f"{me}-{n}"
            assert model.finished(b"%d-%d" % (me, n)) == number


# --- aliases ---


def test_aliases_can_be_set_moved_and_removed(model, again):
    commit(model)
    commit(model, aliases=["best", "latest"])
    assert model.set_alias("prod", "best") == 1
    assert model.set_alias("edge", "latest") == 1
    assert again.aliases() == {"best": "v1", "edge": "latest", "prod": "best"}
    assert again.alias_names() == ["best", "edge", "prod"]
    assert again.aliases_of(1) == ["best", "edge", "prod", "latest"]
    assert again.aliases_of(0) == []
    assert again.alias_target("prod") == "best"
    assert again.alias_target("latest") == "v1"
    for ref in ("best", "prod", "edge", "latest", "v1"):
        assert again.resolve(ref) == 1
    again.set_alias("best", "v0")
    assert model.resolve("prod") == 0
    commit(again)
    assert model.resolve("edge") == 2
    assert model.describe(2)["aliases"] == ["edge", "latest"]
    model.remove_alias("best")
    with pytest.raises(VersionNotFound, match="prod -> best"):
        again.resolve("prod")
    assert again.alias_target("prod") == "best"
    assert again.aliases_of(0) == []


def test_aliases_ids_and_types_are_small_text_files(vol, model):
    commit(model, aliases=["best"])
    assert (vol.files("model") / "aliases" / "best").read_bytes() == b"v0\n"
    assert (vol.files("model") / "ids" / "job-0").read_bytes() == b"v0\n"
    assert (vol.files("model") / "type").read_bytes() == b"checkpoint\n"


def test_invalid_alias_names_are_refused(model):
    commit(model)
    for name in ("latest", "pending", "v0", "v01", "../x", "", ".x", "a/b", "\udcff"):
        with pytest.raises(InvalidName):
            model.set_alias(name, "v0")
    for ref in ("../versions", "", "v00", "v0\n", "a/b", "none", "v7", "\udcff", "v" + "9" * 30):
        with pytest.raises(VersionNotFound):
            model.resolve(ref)
        with pytest.raises(VersionNotFound):
            model.set_alias("best", ref)
    for name in ("none", "../versions", "\udcff"):
        with pytest.raises(AliasNotFound):
            model.alias_target(name)
    with pytest.raises(AliasNotFound):
        model.remove_alias("none")
    assert model.aliases() == {}


def test_an_empty_collection_has_no_latest(model):
    with pytest.raises(VersionNotFound):
        model.resolve("latest")
    with pytest.raises(AliasNotFound):
        model.alias_target("latest")


def test_moving_an_alias_must_be_requested(model):
    commit(model)
    commit(model, aliases=["best"])
    with pytest.raises(AlreadyExists):
        model.set_alias("best", "v0", replace=False)
    model.set_alias("tmp", "v0", replace=False)
    with pytest.raises(AlreadyExists):
        model.rename_alias("tmp", "best", replace=False)
    model.rename_alias("tmp", "best")
    assert model.aliases() == {"best": "v0"}
    model.rename_alias("best", "best")
    assert model.aliases() == {"best": "v0"}
    with pytest.raises(AliasNotFound):
        model.rename_alias("none", "best")


def test_aliases_never_form_a_loop(model):
    commit(model, aliases=["a"])
    model.set_alias("b", "a")
    for target in ("a", "b"):
        with pytest.raises(InvalidCommand, match="are a loop"):
            model.set_alias("a", target)
    with pytest.raises(InvalidCommand):
        model.rename_alias("b", "a")
    assert model.aliases() == {"a": "v0", "b": "a"}


def test_a_version_with_an_alias_is_not_deleted(vol, model):
    commit(model, aliases=["best"])
    model.set_alias("prod", "best")
    before = (vol.files("model") / "versions" / "v0.json").read_bytes()
    with pytest.raises(HeldByAlias) as caught:
        model.delete_version(0)
    assert caught.value.aliases == ("best", "prod")
    assert (vol.files("model") / "versions" / "v0.json").read_bytes() == before
    model.remove_alias("best")
    model.delete_version(0)


def test_aliases_of_latest_do_not_prevent_a_deletion(model):
    commit(model)
    commit(model)
    model.set_alias("edge", "latest")
    model.delete_version(1)
    assert model.resolve("edge") == 0


def on_step(monkeypatch, label, action):
    """Runs an action once, just before the first step of that label."""

    def step(found):
        if found == label:
            monkeypatch.setattr(durable, "step", lambda _: None)
            action()

    monkeypatch.setattr(durable, "step", step)


def beside(monkeypatch, label, action):
    """Runs an action in a thread before the first step of that label; returns a function that ends it.

    That function returns the error, or None. The action may have to wait for the following steps.
    """
    raised = []

    def run():
        try:
            action()
        except ArtfsError as error:
            raised.append(error)

    thread = threading.Thread(target=run)

    def begin():
        thread.start()
        thread.join(0.1)

    def end():
        thread.join()
        return raised[0] if raised else None

    on_step(monkeypatch, label, begin)
    return end


def test_setting_an_alias_during_a_deletion_is_refused(model, again, monkeypatch):
    commit(model)
    end = beside(monkeypatch, "tombstone:lock", lambda: again.set_alias("best", "v0"))
    model.delete_version(0)
    assert isinstance(end(), VersionNotFound)
    assert again.aliases() == {}


def test_a_deletion_during_the_setting_of_an_alias_is_refused(model, again, monkeypatch):
    commit(model)
    commit(model, aliases=["best"])
    end = beside(monkeypatch, "alias:lock", lambda: again.delete_version(0))
    model.set_alias("best", "v0")
    assert isinstance(end(), HeldByAlias)
    assert again.resolve("best") == 0


def test_an_alias_moved_during_its_rename_is_not_lost(model, again, monkeypatch):
    commit(model, aliases=["old"])
    commit(model)
    end = beside(monkeypatch, "alias:lock", lambda: again.set_alias("old", "v1"))
    model.rename_alias("old", "new")
    assert end() is None
    assert again.aliases() == {"new": "v0", "old": "v1"}


def test_concurrent_aliases_do_not_form_a_loop(model, again, monkeypatch):
    commit(model, aliases=["a", "b"])
    end = beside(monkeypatch, "alias:lock", lambda: again.set_alias("b", "a"))
    model.set_alias("a", "b")
    assert isinstance(end(), InvalidCommand)
    assert again.aliases() == {"a": "b", "b": "v0"}


def test_concurrent_deletions_and_aliases_leave_no_dangling_alias(vol, model):
    for _ in range(30):
        commit(model)
    script = """
collection = catalog.collection("model")
done = []
for n in range(30):
    try:
        if (n + me) % 2:
            collection.delete_version(n)
            done.append(["deleted", n])
        else:
            collection.set_alias(f"a{n}-{me}", f"v{n}")
            done.append(["set", n])
    except (errors.VersionNotFound, errors.HeldByAlias):
        pass
print(json.dumps(done))
"""
    done = [tuple(one) for part in in_processes(vol.path, script) for one in part]
    deleted = {n for what, n in done if what == "deleted"}
    held = {n for what, n in done if what == "set"}
    assert not deleted & held
    assert deleted | held == set(range(30))
    assert len([one for one in done if one[0] == "deleted"]) == len(deleted)
    for target in model.aliases().values():
        assert model.resolve(target) in held


def test_concurrent_processes_move_one_alias(vol, model):
    for _ in range(4):
        commit(model)
    script = """
collection = catalog.collection("model")
print(json.dumps([collection.set_alias("best", f"v{me}") for _ in range(20)]))
"""
    assert in_processes(vol.path, script) == [[me] * 20 for me in range(4)]
    assert model.resolve("best") in range(4)


# --- finished ids ---


def test_finished_ids_are_recorded(model, again):
    commit(model)
    commit(model)
    for name in (b"a b", b"\xff\xfe", b"x" * 255, b"v0", b"%2F"):
        assert again.finished(name) is None
        model.record_finished(name, 1)
        model.record_finished(name, 1)
        assert again.finished(name) == 1
    with pytest.raises(AlreadyFinishedError) as caught:
        again.record_finished(b"v0", 0)
    assert caught.value.version == "v1"
    for name in (b"", b".", b"..", b".hidden", b"a/b", b"../aliases/x", b"x" * 256):
        with pytest.raises(InvalidName):
            model.finished(name)
        with pytest.raises(InvalidName):
            model.record_finished(name, 0)


def test_an_id_can_be_finished_again_after_a_deletion(vol, model):
    commit(model)
    (vol.files("model") / "ids" / "left-behind").write_bytes(b"v0\n")
    model.delete_version(0)
    (vol.files("model") / "ids" / "left-behind").write_bytes(b"v0\n")
    commit(model)
    assert model.finished(b"left-behind") is None
    model.record_finished(b"left-behind", 1)
    assert model.finished(b"left-behind") == 1


def test_recording_an_id_during_a_deletion_is_refused(model, again, monkeypatch):
    commit(model)
    on_step(monkeypatch, "finished-id:lock", lambda: again.delete_version(0))
    with pytest.raises(VersionNotFound):
        model.record_finished(b"other", 0)
    assert again.finished(b"other") is None


# --- labels ---


def test_labels_begin_with_those_of_the_record(model, again):
    commit(model, tags=["t"], description="d", metadata={"a": {"b": 1}})
    assert again.labels(0) == Labels(description="d", tags=("t",), metadata={"a": {"b": 1}})
    again.labels(0).metadata["a"]["b"] = 2
    assert again.labels(0).metadata == {"a": {"b": 1}}
    model.update_labels(0, tags=["x", "y", "x"], ttl=60)
    labels = again.labels(0)
    assert (labels.description, labels.tags, labels.ttl, labels.metadata) == (
        "d",
        ("x", "y"),
        60,
        {"a": {"b": 1}},
    )
    assert labels.updated_at is not None
    model.update_labels(0, metadata={})
    assert again.labels(0).metadata == {}
    assert again.record(0).metadata == {"a": {"b": 1}}


def test_runs_and_uses_of_a_version_are_recorded(model):
    commit(model, runs=["r1"])
    for run in ("r1", "r2", "r2"):
        model.add_run(0, run)
        model.add_used_by(0, run)
    assert model.describe(0)["runs"] == ["r1", "r2"]
    assert model.describe(0)["used_by"] == ["r1", "r2"]


@pytest.mark.parametrize(
    "changes",
    [
        {"tags": ["a\nb"]},
        {"tags": [3]},
        {"ttl": -1},
        {"description": "\0"},
        {"metadata": []},
        {"nonsense": 1},
        {"updated_at": "x"},
        {"used_by": [""]},
    ],
)
def test_invalid_labels_are_refused(vol, model, changes):
    commit(model)
    with pytest.raises(InvalidCommand):
        model.update_labels(0, **changes)
    assert os.listdir(vol.files("model") / "notes") == []


def test_labels_changed_during_a_deletion_leave_nothing(vol, model, again, monkeypatch):
    commit(model)
    end = beside(monkeypatch, "notes:lock", lambda: again.delete_version(0))
    model.update_labels(0, ttl=1)
    assert end() is None
    assert os.listdir(vol.files("model") / "notes") == []
    commit(model)
    end = beside(monkeypatch, "tombstone:rename", lambda: again.update_labels(1, ttl=1))
    model.delete_version(1)
    assert isinstance(end(), VersionNotFound)
    assert os.listdir(vol.files("model") / "notes") == []


def test_a_version_that_is_not_expired_is_not_deleted_as_such(model):
    created = nanoseconds(commit(model).created_at) / 1e9
    assert not model.delete_version(0, expired_by=created + 10)
    model.set_ttl(10)
    assert not model.delete_version(0, expired_by=created + 9)
    model.update_labels(0, ttl="none")
    assert not model.delete_version(0, expired_by=created + 10)
    model.update_labels(0, ttl=10)
    model.set_alias("best", "v0")
    with pytest.raises(HeldByAlias):
        model.delete_version(0, expired_by=created + 10)
    model.remove_alias("best")
    assert model.delete_version(0, expired_by=created + 10)
    assert model.numbers() == []


def test_concurrent_changes_of_labels_are_kept(vol, model):
    commit(model)
    script = """
collection = catalog.collection("model")
for n in range(10):
    collection.add_used_by(0, f"run-{me}-{n}")
print("0")
"""
    in_processes(vol.path, script)
    assert sorted(model.labels(0).used_by) == sorted(f"run-{me}-{n}" for me in range(4) for n in range(10))


# --- type, description, all at once ---


def test_type_and_description_can_be_set(model, again):
    assert (model.type, model.description) == ("checkpoint", "")
    model.set_type("data set")
    assert again.type == "data set"
    for text in ("two\nlines\n", "é", ""):
        model.set_description(text)
        assert again.description == text
    commit(model)
    with pytest.raises(TypeMismatch):
        again.set_type("other")
    again.set_type("data set")
    for wrong in ("a\nb", " a", "\0", "\udcff", "x" * 257):
        with pytest.raises(InvalidCommand):
            again.set_type(wrong)
    with pytest.raises(InvalidCommand):
        again.set_description("\0")


def test_versions_are_shown_with_all_fields(model):
    commit(model, aliases=["best"], tags=["t"])
    commit(model)
    commit(model)
    model.delete_version(1)
    model.update_labels(0, ttl=5)
    assert model.describe_all() == [model.describe(0), model.describe(2)]
    assert [(one["version"], one["aliases"], one["ttl"]) for one in model.describe_all()] == [
        ("v0", ["best"], 5),
        ("v2", ["latest"], None),
    ]


def test_threads_can_use_one_collection(model):
    def work(me):
        for n in range(5):
            model.set_alias(f"a{me}", "v0")
            model.add_used_by(0, f"{me}-{n}")
            assert model.describe_all()

    commit(model)
    in_threads(4, work)
    assert len(model.labels(0).used_by) == 20


# --- crafted and damaged directories ---


def everything(collection: Collection) -> None:
    collection.versions()
    collection.describe_all()
    collection.next_number()
    collection.resolve("best")


@pytest.fixture
def outside(tmp_path_factory) -> Path:
    """A directory that no symlink may lead to."""
    path: Path = tmp_path_factory.mktemp("outside")
    return path


@pytest.mark.parametrize(
    "kind", ["symlink", "dangling", "directory", "fifo", "truncated", "other", "binary", "missing"]
)
def test_an_invalid_record_is_damaged(vol, model, again, outside, kind):
    commit(model)
    commit(model, aliases=["best"])
    path = vol.files("model") / "versions" / "v0.json"
    good = path.read_bytes()
    path.unlink()
    if kind == "symlink":
        (outside / "record").write_bytes(good)
        path.symlink_to(outside / "record")
    elif kind == "dangling":
        path.symlink_to(outside / "none")
    elif kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "truncated":
        path.write_bytes(good[:100])
    elif kind == "other":
        path.write_bytes((path.parent / "v1.json").read_bytes())
    elif kind == "binary":
        path.write_bytes(b"\0\xff")
    for seen in (model, again):
        for call in (
            seen.versions,
            seen.describe_all,
            functools.partial(seen.record, 0),
            functools.partial(seen.set_alias, "x", "v0"),
        ):
            with pytest.raises(Damaged, match=r"collections/model/versions/v0\.json"):
                call()
        assert seen.resolve("best") == seen.resolve("latest") == 1
        assert seen.numbers() == [0, 1]
        assert [error.what for error in seen.problems()] == ["collections/model/versions/v0.json"]
    assert not os.path.lexists(outside / "none")
    if kind in ("truncated", "other", "binary", "missing"):
        model.delete_version(0)
        assert again.numbers() == [1]
        assert list(again.problems()) == []


def test_foreign_files_are_reported_and_ignored(vol, model):
    commit(model, aliases=["best"])
    here = vol.files("model")
    for name in ("versions/v00.json", "versions/note.txt", "versions/v5", "notes/x", "ids/.x", "aliases/.a"):
        (here / name).write_text("v0\n")
    (here / "aliases" / "v7").symlink_to("/etc")
    (here / "versions" / ".artfs-tmp.1.x").write_text("")
    everything(model)
    assert model.next_number() == 1
    found = sorted(error.what.removeprefix("collections/model/") for error in model.problems())
    assert found == [
        "aliases/.a",
        "aliases/v7",
        "ids/.x",
        "notes/x",
        "versions/note.txt",
        "versions/v00.json",
        "versions/v5",
    ]


@pytest.mark.parametrize("sub", ["versions", "aliases", "ids", "notes", ""])
@pytest.mark.parametrize("kind", ["symlink", "file"])
def test_another_file_in_place_of_a_directory_is_damaged(vol, model, outside, sub, kind):
    commit(model, aliases=["best"])
    path = vol.files("model") / sub if sub else vol.files("model")
    path.rename(outside / "moved")
    before = sorted(os.listdir(outside / "moved"))
    if kind == "symlink":
        path.symlink_to(outside / "moved")
    else:
        path.write_text("")
    used = {
        "versions": [model.versions, model.next_number, lambda: model.commit(version(1))],
        "aliases": [model.aliases, lambda: model.resolve("best"), lambda: model.set_alias("x", "v0")],
        "ids": [lambda: model.finished(b"x"), lambda: model.record_finished(b"x", 0)],
        "notes": [lambda: model.labels(0), lambda: model.update_labels(0, ttl=1)],
        "": [model.versions, model.aliases, lambda: model.type, lambda: model.set_description("x")],
    }
    for call in used[sub]:
        with pytest.raises(Damaged, match="not a directory"):
            call()
    assert sorted(os.listdir(outside / "moved")) == before


@pytest.mark.parametrize(
    "data", [b"", b"v0", b"../x\n", b"\xff\n", b"v00\n", b"pending\n", b"a/b\n", b".x\n"]
)
def test_an_invalid_alias_or_id_is_damaged(vol, model, data):
    commit(model, aliases=["best"])
    (vol.files("model") / "aliases" / "best").write_bytes(data)
    (vol.files("model") / "ids" / "job-0").write_bytes(data)
    for call in (
        lambda: model.resolve("best"),
        model.aliases,
        lambda: model.set_alias("best", "v0"),
        lambda: model.delete_version(0),
        lambda: model.finished(b"job-0"),
        lambda: model.record_finished(b"job-0", 0),
    ):
        with pytest.raises(Damaged):
            call()
    assert model.numbers() == [0]
    assert len(list(model.problems())) == 2


def test_a_symlink_in_place_of_an_alias_or_id_is_not_followed(vol, model, outside):
    commit(model)
    (outside / "target").write_bytes(b"v0\n")
    (vol.files("model") / "aliases" / "best").symlink_to(outside / "target")
    (vol.files("model") / "ids" / "x").symlink_to(outside / "target")
    for call in (
        lambda: model.resolve("best"),
        lambda: model.set_alias("best", "v0"),
        lambda: model.finished(b"x"),
    ):
        with pytest.raises(Damaged, match="not a regular file"):
            call()
    assert (outside / "target").read_bytes() == b"v0\n"


def test_a_crafted_loop_of_aliases_is_refused(vol, model):
    commit(model)
    for name, target in (("a", "b"), ("b", "c"), ("c", "a"), ("self", "self")):
        (vol.files("model") / "aliases" / name).write_text(f"{target}\n")
    for name in ("a", "self"):
        with pytest.raises(InvalidCommand, match="are a loop"):
            model.resolve(name)
    assert model.aliases_of(0) == ["latest"]
    assert model.describe(0)["aliases"] == ["latest"]
    model.set_alias("b", "v0")
    assert model.resolve("a") == 0
    model.remove_alias("self")


def test_a_long_chain_of_aliases_resolves(vol, model):
    commit(model)
    (vol.files("model") / "aliases" / "a0").write_text("v0\n")
    for n in range(1, 100):
        (vol.files("model") / "aliases" / f"a{n}").write_text(f"a{n - 1}\n")
    assert model.resolve("a39") == 0
    with pytest.raises(InvalidCommand):
        model.resolve("a99")


def test_invalid_label_files_are_damaged(vol, model):
    commit(model)
    (vol.files("model") / "notes" / "v0.json").write_text("{")
    for call in (lambda: model.labels(0), lambda: model.update_labels(0, ttl=1), lambda: model.describe(0)):
        with pytest.raises(Damaged, match=r"notes/v0\.json"):
            call()
    assert model.record(0)
    model.delete_version(0)
    assert list(model.problems()) == []


# --- crashes ---


def test_a_crashed_commit_is_done_or_not_begun(vol, model, monkeypatch):
    def commit_the_next() -> None:
        collection = vol.open().collection("model")
        assert collection.commit(version(collection.next_number()))

    ends = []
    for steps in crashes(monkeypatch, commit_the_next):
        ends.append(steps[-1])
        there = vol.open().collection("model")
        assert there.numbers() == list(range(steps[-1] == "commit:sync-dir"))
        assert list(there.problems()) == []
    assert ends == ["commit:write", "commit:fsync", "commit:rename", "commit:sync-dir"]


def test_a_crashed_deletion_is_done_or_undone(vol, model, monkeypatch):
    def labelled() -> int:
        number = commit(model, distributed_id=b"job").number
        model.update_labels(number, ttl=1)
        return number

    crashed, number = 0, labelled()
    for steps in crashes(monkeypatch, lambda: model.delete_version(model.numbers()[-1])):
        crashed += 1
        there = vol.open().collection("model")
        if there.numbers() == [number]:
            assert steps[-1] in ("tombstone:write", "tombstone:fsync", "tombstone:rename", "tombstone:lock")
            assert there.finished(b"job") == number
            assert there.labels(number).ttl == 1
            there.delete_version(number)
        assert there.finished(b"job") is None
        assert list(there.problems()) == []
        number = labelled()
    assert crashed > 8
    assert model.numbers() == []


def test_a_crashed_move_of_an_alias_leaves_the_old_or_the_new(vol, model, monkeypatch):
    commit(model, aliases=["best"])
    commit(model)
    crashed = 0
    for _ in crashes(monkeypatch, lambda: model.set_alias("best", "v1")):
        crashed += 1
        there = vol.open().collection("model")
        assert there.resolve("best") in (0, 1)
        there.set_alias("best", "v0")
    assert crashed > 3
    assert model.resolve("best") == 1


def test_completing_a_commit_again_succeeds(vol, model):
    record = version(0, aliases=["best", "latest"])
    assert model.commit(record)
    for _ in range(2):
        model.complete(record)
    assert model.finished(b"job-0") == 0
    assert model.aliases() == {"best": "v0"}


def test_unchanged_values_are_made_durable_too(model, monkeypatch) -> None:
    """Their writer may have been killed before syncing; see durable.confirm."""
    model.set_type("dataset")
    model.set_description("told")
    model.set_ttl(60)
    for again in (
        lambda: model.set_type("dataset"),
        lambda: model.set_description("told"),
        lambda: model.set_ttl(60),
    ):
        with monkeypatch.context() as patch:
            steps = crash_at(patch, -1)
            again()
        assert [step for step in steps if step.endswith(":sync-dir")]


def test_long_records_take_little_memory(vol):
    model = vol.open().create("model")
    metadata: dict[str, list[object]] = {"many": [{} for _ in range(20_000)]}
    for _ in range(3):
        commit(model, metadata=metadata, description="x" * 100_000, tags=["a", "b"])
    tracemalloc.start()
    try:
        other = vol.open().collection("model")
        assert [record.version for record in other.versions()] == ["v0", "v1", "v2"]
        for number in range(3):
            assert other.labels(number).metadata == metadata
            assert other.labels(number).description == "x" * 100_000
            assert other.describe(number)["tags"] == ["a", "b"]
        other.update_labels(1, tags=["c"])
        assert other.labels(1).metadata == metadata
        assert [told["tags"] for told in other.describe_all()] == [["a", "b"], ["c"], ["a", "b"]]
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] < 1 << 20
    finally:
        tracemalloc.stop()
