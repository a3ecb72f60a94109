"""The collections of a volume and its serial numbers."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from artfs.catalog.catalog import Catalog
from artfs.errors import AlreadyExists, CollectionNotFound, Damaged, InvalidCommand, InvalidName, NotEmpty
from artfs.store import durable
from tests.unit.catalogs import Volume, commit, crash_at, crashes, in_processes
from tests.unit.stores import directory, in_threads


@pytest.fixture
def catalog(vol: Volume) -> Catalog:
    return vol.open()


def pending_of(vol: Volume, name: str) -> Path:
    return vol.files(name) / "pending"


def test_collections_are_created_and_listed(vol, catalog):
    assert catalog.names() == []
    for name in ("model", "data", "7b"):
        assert catalog.create(name).name == name
    assert vol.open().names() == ["7b", "data", "model"]
    assert [collection.name for collection in vol.open().collections()] == ["7b", "data", "model"]
    assert catalog.collection("model") is catalog.collection("model")
    with pytest.raises(AlreadyExists):
        catalog.create("model")
    for name in ("other", ".git", "a b", "", "..", "\udcff", "x" * 300):
        with pytest.raises(CollectionNotFound):
            catalog.collection(name)
    for name in (".git", "a b", "", "..", "\udcff", ".artfs-tmp.1.x"):
        with pytest.raises(InvalidName):
            catalog.create(name)
    with pytest.raises(InvalidCommand):
        catalog.create("bad", collection_type="a\nb")
    assert sorted(os.listdir(vol.path / "collections")) == ["7b", "data", "model"]


def test_a_collection_and_its_pending_have_the_given_mode_and_owner(vol, catalog):
    uid, gid = (1234, 5678) if os.geteuid() == 0 else (os.geteuid(), os.getegid())
    catalog.create("model", 0o2775, uid, gid, collection_type="t")
    for path in (vol.files("model"), pending_of(vol, "model")):
        status = path.stat()
        assert (status.st_mode & 0o7777, status.st_uid, status.st_gid) == (0o2775, uid, gid)
    assert (vol.files("model") / "versions").stat().st_mode & 0o777 == 0o700
    assert vol.open().collection("model").type == "t"


def test_the_umask_does_not_change_the_mode(vol, catalog):
    before = os.umask(0o077)
    try:
        catalog.create("model", 0o777)
    finally:
        os.umask(before)
    assert vol.files("model").stat().st_mode & 0o777 == 0o777


def test_only_empty_collections_are_removed(vol, catalog):
    model = catalog.create("model")
    pending = pending_of(vol, "model") / "job"
    pending.mkdir()
    with pytest.raises(NotEmpty):
        catalog.remove("model")
    pending.rmdir()
    commit(model)
    with pytest.raises(NotEmpty):
        catalog.remove("model")
    model.delete_version(0)
    vol.open().remove("model")
    assert catalog.names() == []
    for call in (catalog.collection, catalog.remove):
        with pytest.raises(CollectionNotFound):
            call("model")
    with pytest.raises(CollectionNotFound):
        model.versions()
    assert os.listdir(vol.path / "collections") == []
    assert catalog.create("model").next_number() == 0


def test_a_refused_removal_moves_nothing(vol, catalog, monkeypatch):
    commit(catalog.create("model"))
    steps = crash_at(monkeypatch, -1)
    with pytest.raises(NotEmpty):
        catalog.remove("model")
    assert steps == []


def test_a_removal_waits_for_a_rename_into_the_collection(vol, catalog):
    model = catalog.create("model", 0o711)
    refused = []

    def remove():
        with pytest.raises(NotEmpty) as caught:
            vol.open().remove("model")
        refused.append(caught.value)

    thread = threading.Thread(target=remove)
    with model.committing():
        thread.start()
        thread.join(0.1)
        (pending_of(vol, "model") / "job").mkdir()
    thread.join()
    assert refused
    assert vol.files("model").stat().st_mode & 0o777 == 0o711


def test_waiting_for_a_removal_ends_without_the_collection(vol, catalog, monkeypatch):
    model = catalog.create("model")
    gone = []

    def keep():
        with pytest.raises(CollectionNotFound), model.committing():
            pass
        gone.append(True)

    thread = threading.Thread(target=keep)

    def step(label):
        if label == "collection-removal:rename":
            thread.start()
            thread.join(0.1)

    monkeypatch.setattr(durable, "step", step)
    vol.open().remove("model")
    thread.join()
    assert gone


def test_temps_in_pending_do_not_prevent_a_removal(vol, catalog):
    catalog.create("model", 0o555)
    (pending_of(vol, "model") / ".artfs-tmp.0.x" / "tree").mkdir(parents=True)
    catalog.remove("model")
    assert os.listdir(vol.path / "collections") == []


def test_foreign_files_among_collections_are_damaged(vol, catalog, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside")
    (vol.path / "collections" / "link").symlink_to(outside)
    (vol.path / "collections" / "file").write_text("")
    (vol.path / "collections" / ".hidden").mkdir()
    assert catalog.names() == []
    for name in ("link", "file"):
        with pytest.raises(Damaged, match=f"collections/{name}"):
            catalog.collection(name)
        with pytest.raises(Damaged):
            catalog.remove(name)
        with pytest.raises(AlreadyExists):
            catalog.create(name)
    assert os.listdir(outside) == []


def test_a_symlink_in_place_of_collections_is_damaged(tmp_path):
    (tmp_path / "collections").symlink_to("/")
    with directory(tmp_path) as fd, pytest.raises(Damaged):
        Catalog(fd)


def sweep(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    """Removes what crashes left, however young it is."""
    with monkeypatch.context() as patch:
        patch.setattr(durable, "is_stale_temp", lambda name, _: name.startswith(durable.TEMP_PREFIX))
        catalog.sweep()


def test_a_crashed_creation_leaves_all_or_nothing(vol, monkeypatch):
    crashed = 0
    for _ in crashes(monkeypatch, lambda: vol.open().create("model", collection_type="t")):
        crashed += 1
        there = vol.open()
        if there.names():
            assert there.collection("model").type == "t"
            commit(there.collection("model"))
            there.collection("model").delete_version(0)
            there.remove("model")
        sweep(there, monkeypatch)
        assert os.listdir(vol.path / "collections") == []
    assert crashed > 5


def test_a_crashed_removal_is_done_or_not_begun(vol, monkeypatch):
    crashed = 0
    vol.open().create("model")
    for _ in crashes(monkeypatch, lambda: vol.open().remove("model")):
        crashed += 1
        sweep(vol.open(), monkeypatch)
        for name in vol.open().names():
            vol.open().remove(name)
        assert os.listdir(vol.path / "collections") == []
        vol.open().create("model")
    assert crashed >= 2


def test_a_sweep_keeps_recent_temps(vol, catalog, monkeypatch):
    temp = vol.path / "collections" / ".artfs-tmp.0.x"
    temp.mkdir()
    catalog.sweep()
    assert temp.exists()
    monkeypatch.setattr(durable, "STALE_AFTER_SECONDS", -1)
    catalog.sweep()
    assert not temp.exists()


def test_a_sweep_keeps_directories_with_versions(vol, catalog, monkeypatch):
    monkeypatch.setattr(durable, "STALE_AFTER_SECONDS", -1)
    temp = vol.path / "collections" / ".artfs-tmp.0.x.model"
    (temp / "versions").mkdir(parents=True)
    (temp / "versions" / "v0.json").touch()
    catalog.sweep()
    assert temp.exists()
    (temp / "versions" / "v0.json").unlink()
    catalog.sweep()
    assert not temp.exists()


def test_serial_numbers_increase(vol, catalog):
    assert [catalog.next_serial() for _ in range(3)] == [1, 2, 3]
    assert vol.open().next_serial() == 4
    assert (vol.path / "serial").read_bytes() == b"4\n"


def test_concurrent_processes_get_different_serial_numbers(vol):
    parts = in_processes(vol.path, "print(json.dumps([catalog.next_serial() for _ in range(25)]))")
    assert sorted(n for part in parts for n in part) == list(range(1, 101))


def test_concurrent_threads_get_different_serial_numbers(catalog):
    parts = in_threads(4, lambda _: [catalog.next_serial() for _ in range(10)])
    assert sorted(n for part in parts for n in part) == list(range(1, 41))


@pytest.mark.parametrize("data", [b"", b"-1\n", b"x\n", b"1 2\n", b"\xb2\n", b"9" * 40])
def test_an_invalid_serial_file_is_damaged(vol, catalog, data):
    (vol.path / "serial").write_bytes(data)
    with pytest.raises(Damaged, match="serial"):
        catalog.next_serial()


def test_concurrent_processes_create_one_collection(vol):
    script = """
made = 0
for n in range(10):
    try:
        catalog.create(f"c{n}", collection_type=str(me))
        made += 1
    except errors.AlreadyExists:
        pass
print(made)
"""
    assert sum(in_processes(vol.path, script)) == 10
    assert sorted(os.listdir(vol.path / "collections")) == [f"c{n}" for n in range(10)]


def test_a_collection_without_write_permission_can_be_removed(vol, catalog):
    catalog.create("model", 0o555)
    commit(catalog.collection("model"))
    catalog.collection("model").delete_version(0)
    catalog.remove("model")
    assert os.listdir(vol.path / "collections") == []
