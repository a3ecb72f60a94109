"""Garbage collection: what it keeps, what it removes, and when it refuses."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from artfs.errors import Damaged
from artfs.model.digest import TreeId
from artfs.model.entry import DirEntry
from artfs.store import tree_removal
from artfs.store.gc import Collected, collect
from tests.unit.stores import Volume, as_nobody, directory


def run(volume: Volume, *roots: DirEntry, dry_run: bool = False) -> Collected:
    return collect(volume.layout, volume.store, lambda: [r.tree for r in roots], dry_run=dry_run)


def objects_of(volume: Volume) -> set[bytes]:
    return {*volume.store.blobs(), *volume.store.trees()}


def test_gc_keeps_only_reachable_objects(volume: Volume) -> None:
    kept = volume.tree({"a": b"1", "d": {f"{n}": b"%d" % n for n in range(1200)}})
    needed = objects_of(volume)
    volume.tree({"a": b"1", "other": {"b": b"garbage", "empty": {}}})
    everything = objects_of(volume)
    would = run(volume, kept, dry_run=True)
    assert objects_of(volume) == everything
    did = run(volume, kept)
    assert objects_of(volume) == needed
    assert (did.blobs, did.trees, did.bytes) == (would.blobs, would.trees, would.bytes)
    assert (did.blobs, did.trees) == (1, 3)
    assert did.kept_blobs + did.kept_trees == len(needed)
    again = run(volume, kept)
    assert (again.blobs, again.trees, again.bytes) == (0, 0, 0)
    run(volume)
    assert objects_of(volume) == set()


def test_open_blobs_stay_readable(volume: Volume) -> None:
    blob = volume.add(b"data")
    volume.store.damaged_blobs.add(blob)
    volume.store.damaged_blobs.remove(blob)
    fd = volume.store.open_blob(blob)
    run(volume)
    assert os.pread(fd, 10, 0) == b"data"
    os.close(fd)


def test_marks_are_removed_with_their_blobs(volume: Volume) -> None:
    volume.store.damaged_blobs.add(volume.add(b"data"))
    run(volume)
    assert os.listdir(volume.path / "damaged") == []


def test_gc_refuses_if_a_needed_page_is_missing(volume: Volume) -> None:
    root = volume.tree({"d": {"f": b"1"}})
    volume.add(b"garbage")
    found = volume.store.reader.find(root.tree, b"d")
    assert found is not None
    volume.store.remove_tree(found[1].tree)  # type: ignore[union-attr]
    before = objects_of(volume)
    with pytest.raises(Damaged):
        run(volume, root)
    assert objects_of(volume) == before


def test_gc_waits_for_a_running_seal(volume: Volume) -> None:
    roots: list[TreeId] = []
    asked = threading.Event()

    def give() -> list[TreeId]:
        asked.set()
        return list(roots)

    sealing = volume.layout.objects_lock.shared()
    result: list[Collected] = []
    thread = threading.Thread(target=lambda: result.append(collect(volume.layout, volume.store, give)))
    thread.start()
    assert asked.wait(10)
    root = volume.tree({"late": b"but in time"})
    roots.append(root.tree)
    assert not result
    sealing.release()
    thread.join(10)
    assert (result[0].blobs, result[0].kept_blobs) == (0, 1)


def test_gc_sweeps_temps_and_trash(volume: Volume) -> None:
    young = [volume.path / p / ".artfs-tmp.1.ff" for p in ("objects/blobs", "objects/trees")]
    for path in young:
        path.write_bytes(b"")
    (volume.path / "runs/.artfs-tmp.1.ff").write_bytes(b"")  # its writer may be alive
    (volume.path / "trash/x/y").mkdir(parents=True)
    (volume.path / "trash/x/y/z").write_bytes(b"")
    assert run(volume, dry_run=True).temps == 2
    assert (volume.path / "trash/x/y/z").exists()
    did = run(volume)
    assert (did.temps, did.trash) == (2, 1)
    assert not any(path.exists() for path in young)
    assert (volume.path / "runs/.artfs-tmp.1.ff").exists()
    assert os.listdir(volume.path / "trash") == []


def test_gc_removes_stale_pending_versions_and_keeps_collections(
    volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("artfs.store.durable.STALE_AFTER_SECONDS", -1.0)
    pending = volume.path / "collections/m/pending"
    (pending / ".artfs-tmp.999999999.1/tree/d").mkdir(parents=True)
    (pending / "job/tree").mkdir(parents=True)
    (pending / "job/.artfs-tmp.999999999.1").write_bytes(b"")
    (volume.path / "collections/.artfs-tmp.999999999.1.m").mkdir()  # the catalog sweeps it
    assert run(volume).temps == 2
    assert os.listdir(pending) == ["job"]
    assert os.listdir(pending / "job") == ["tree"]
    assert len(os.listdir(volume.path / "collections")) == 2


def test_gc_empties_trash_of_any_mode_and_depth() -> None:
    def check(place: Path) -> None:
        os.mkdir(place / "trash")
        with directory(place / "trash") as fd:
            os.makedirs(place / "trash/t/a/b")
            (place / "trash/t/a/b/f").write_bytes(b"")
            (place / "trash/t/a/link").symlink_to("/")
            os.mkfifo(place / "trash/t/fifo")
            for path, mode in (("t/a/b/f", 0), ("t/a/b", 0o500), ("t/a", 0), ("t", 0)):
                os.chmod(place / "trash" / path, mode)
            deep = os.dup(fd)
            for _ in range(1200):
                os.mkdir(b"deep", dir_fd=deep)
                below = os.open(b"deep", os.O_RDONLY, dir_fd=deep)
                os.close(deep)
                deep = below
            os.close(deep)
            assert tree_removal.empty_trash(fd, dry_run=True) == 2
            assert tree_removal.empty_trash(fd) == 2
            assert os.listdir(fd) == []

    as_nobody(check)
