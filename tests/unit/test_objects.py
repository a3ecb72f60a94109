"""The object store: ids, deduplication, links, damage, pages, ordinary users."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from artfs.errors import Damaged, LostRace
from artfs.linux import syscalls
from artfs.linux.file_copy import BLOCK
from artfs.model.digest import Algorithm, BlobId, blob_id, text, tree_id
from artfs.model.pages import Leaf
from artfs.store import durable, layout, objects, regular_files
from artfs.store.objects import ObjectStore
from artfs.store.shards import tree_path
from tests.unit.stores import Volume, as_nobody, directory, in_threads, opened


@pytest.fixture(params=list(Algorithm), ids=lambda a: a.label)
def volume(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Volume]:
    with closing(Volume(tmp_path / "v", request.param)) as made:
        yield made


@pytest.fixture
def xxh(tmp_path: Path) -> Iterator[Volume]:
    with closing(Volume(tmp_path / "x", Algorithm.XXH128)) as made:
        yield made


@pytest.fixture
def source(tmp_path: Path) -> Iterator[tuple[Path, int]]:
    (tmp_path / "source").mkdir()
    with directory(tmp_path / "source") as fd:
        yield tmp_path / "source", fd


def same_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes all files that begin with an exclamation mark collide."""
    real = regular_files.hash_and_size

    def measure(algorithm: Algorithm, fd: int) -> tuple[bytes, int]:
        data = os.pread(fd, 100, 0)
        return (b"\xaa" * 16, len(data)) if data.startswith(b"!") else real(algorithm, fd)

    monkeypatch.setattr(regular_files, "hash_and_size", measure)


@pytest.mark.parametrize("size", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK])
def test_sizes_around_a_block_are_hashed_and_compared(volume: Volume, tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    (tmp_path / "a").write_bytes(data)
    (tmp_path / "b").write_bytes(data)
    (tmp_path / "c").write_bytes(data[:-1] + bytes([data[-1] ^ 1]) if data else b"x")
    with opened(tmp_path / "a") as a, opened(tmp_path / "b") as b, opened(tmp_path / "c") as c:
        assert volume.store.hash_fd(a) == volume.store.algorithm.digest(data)
        assert regular_files.same_bytes(a, b)
        assert regular_files.same_bytes(a, a)
        assert not regular_files.same_bytes(a, c)


def test_a_linked_file_is_the_blob(volume: Volume, source: tuple[Path, int]) -> None:
    path, fd = source
    (path / "f").write_bytes(b"data")
    with opened(path / "f") as file:
        blob, stored = volume.store.identify(volume.store.hash_fd(file), file)
        assert not stored
        volume.store.link(blob, fd, b"f", fd=file)
        volume.store.sync(since=0)
        assert volume.store.identify(volume.store.hash_fd(file), file) == (blob, True)
    assert volume.blob_file(blob).stat().st_ino == (path / "f").stat().st_ino
    assert list(volume.store.blobs()) == [blob]
    got = volume.store.open_blob(blob, 4)
    assert os.pread(got, 10, 0) == b"data"
    os.close(got)
    assert volume.store.verify_blob(blob)[1:] == (4, "")


def test_equal_bytes_are_stored_once(volume: Volume, source: tuple[Path, int]) -> None:
    path, fd = source
    for name in ("a", "b"):
        (path / name).write_bytes(b"same")
    with opened(path / "a") as a, opened(path / "b") as b:
        first, _ = volume.store.identify(volume.store.hash_fd(a), a)
        second, _ = volume.store.identify(volume.store.hash_fd(b), b)
        assert first == second
        volume.store.link(first, fd, b"a")
        volume.store.link(first, fd, b"b")  # no error: the same bytes
    assert (path / "a").stat().st_nlink == 2
    assert (path / "b").stat().st_nlink == 1


def test_collisions_get_counters(
    xxh: Volume, source: tuple[Path, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    same_digest(monkeypatch)
    path, fd = source
    blobs = []
    for name in ("!a", "!b", "!longer"):
        (path / name).write_bytes(name.encode())
        with opened(path / name) as file:
            blob, stored = xxh.store.identify(xxh.store.hash_fd(file), file)
            assert not stored
            xxh.store.link(blob, fd, name.encode())
            assert xxh.store.identify(xxh.store.hash_fd(file), file) == (blob, True)
            blobs.append(blob)
    assert blobs == [blob_id(Algorithm.XXH128, b"\xaa" * 16, n) for n in range(3)]
    assert xxh.blob_file(blobs[2]).name.endswith("-2")
    assert set(xxh.store.blobs()) == set(blobs)
    with pytest.raises(LostRace):
        xxh.store.link(blobs[0], fd, b"!b")


@pytest.mark.parametrize("how", ["other bytes", "short", "directory-less symlink"])
def test_a_damaged_blob_is_replaced(volume: Volume, source: tuple[Path, int], how: str) -> None:
    path, fd = source
    blob = volume.add(b"data")
    stored = volume.blob_file(blob)
    if how == "directory-less symlink":
        stored.unlink()
        stored.symlink_to("nowhere")
    else:
        stored.write_bytes(b"DATA" if how == "other bytes" else b"d")
    volume.store.damaged_blobs.add(blob)
    with pytest.raises(Damaged):
        volume.store.open_blob(blob, 4)
    (path / "f").write_bytes(b"data")
    with opened(path / "f") as file:
        assert volume.store.identify(volume.store.hash_fd(file), file) == (blob, False)
        volume.store.link(blob, fd, b"f", fd=file)
    assert stored.read_bytes() == b"data"
    assert blob not in volume.store.damaged_blobs
    os.close(volume.store.open_blob(blob, 4))
    assert not [n for n in os.listdir(volume.path / "objects/blobs") if n.startswith(".")]


def test_reading_a_damaged_blob_names_it(volume: Volume) -> None:
    blob = volume.add(b"data")
    with pytest.raises(Damaged, match="4 bytes instead of 5"):
        volume.store.open_blob(blob, 5)
    volume.blob_file(blob).unlink()
    with pytest.raises(Damaged, match="missing"):
        volume.store.open_blob(blob, 4)
    for make in (lambda p: os.symlink("x", p), os.mkfifo, os.mkdir):
        make(volume.blob_file(blob))
        with pytest.raises(Damaged, match="not a regular file"):
            volume.store.open_blob(blob)
        path = volume.blob_file(blob)
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()


def test_other_processes_see_marks_at_once(volume: Volume) -> None:
    blob, other = volume.add(b"data"), ObjectStore(volume.layout.fd, volume.store.algorithm)
    for _ in range(3):
        os.close(other.open_blob(blob))
        volume.store.damaged_blobs.add(blob)
        volume.store.damaged_blobs.add(blob)
        assert os.listdir(volume.path / "damaged") == [text(blob)]
        with pytest.raises(Damaged, match="a check found"):
            other.open_blob(blob)
        volume.store.damaged_blobs.remove(blob)
        volume.store.damaged_blobs.remove(blob)
    other.close()


def test_without_hard_links_a_copy_is_stored(
    volume: Volume, source: tuple[Path, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, fd = source
    real = os.link

    def link(src: bytes, *args: object, src_dir_fd: int, **more: object) -> None:
        if src_dir_fd == fd and not os.path.exists(volume.blob_file(blob)):
            raise OSError(errno.EMLINK, "")
        real(src, *args, src_dir_fd=src_dir_fd, **more)  # type: ignore[arg-type]

    (path / "f").write_bytes(b"data")
    (path / "f").chmod(0)
    with opened(path / "f") as file:
        blob, _ = volume.store.identify(volume.store.hash_fd(file), file)
    monkeypatch.setattr(os, "link", link)
    volume.store.link(blob, fd, b"f")
    assert volume.blob_file(blob).read_bytes() == b"data"
    assert (path / "f").stat().st_nlink == 1
    assert (path / "f").stat().st_mode & 0o7777 == 0
    volume.blob_file(blob).unlink()
    (path / "f").write_bytes(b"changed since")
    with pytest.raises(LostRace):
        volume.store.link(blob, fd, b"f")
    assert not volume.blob_file(blob).exists()


def test_a_file_replaced_during_its_hashing_is_not_stored(volume: Volume, source: tuple[Path, int]) -> None:
    path, fd = source
    (path / "f").write_bytes(b"data")
    with opened(path / "f") as file:
        blob, _ = volume.store.identify(volume.store.hash_fd(file), file)
        (path / "g").write_bytes(b"else")
        (path / "g").rename(path / "f")
        with pytest.raises(LostRace):
            volume.store.link(blob, fd, b"f", fd=file)
    (path / "f").unlink()
    (path / "f").symlink_to("g")
    with pytest.raises(LostRace):
        volume.store.link(blob, fd, b"f")
    assert list(volume.store.blobs()) == []


def test_add_file_stores_a_copy(volume: Volume, tmp_path: Path) -> None:
    with (tmp_path / "f").open("wb") as file:
        file.write(b"begin")
        file.seek(5 * BLOCK)
        file.write(b"end")
        file.truncate(7 * BLOCK)
    with opened(tmp_path / "f") as fd:
        blob = volume.store.add_file(fd)
        assert volume.store.add_file(fd) == blob
    stored = volume.blob_file(blob)
    assert stored.read_bytes() == (tmp_path / "f").read_bytes()
    assert stored.stat().st_nlink == 1
    assert stored.stat().st_blocks * 512 < 6 * BLOCK
    assert not [n for n in os.listdir(volume.path / "objects/blobs") if n.startswith(".")]


def test_threads_can_store_the_same_file(volume: Volume, source: tuple[Path, int]) -> None:
    path, fd = source

    def run(number: int) -> None:
        for i in range(30):
            name = f"{number}-{i}"
            (path / name).write_bytes(b"%d" % i)
            with opened(path / name) as file:
                blob, stored = volume.store.identify(volume.store.hash_fd(file), file)
                if not stored:
                    volume.store.link(blob, fd, name.encode(), fd=file)
        volume.store.sync(since=0)

    in_threads(4, run)
    blobs = list(volume.store.blobs())
    assert len(blobs) == 30
    assert all(volume.store.verify_blob(blob)[2] == "" for blob in blobs)


def test_pages_are_verified_and_replaced(volume: Volume) -> None:
    root = volume.tree({"a": b"1", "d": {"b": b"2"}, "e": {}})
    page = volume.store.page(root.tree)
    assert isinstance(page, Leaf)
    assert volume.store.page(root.tree) is page
    assert tree_id(volume.store.algorithm, page.encode()) == root.tree
    volume.store.put(root.tree, page.encode())
    file = volume.path / "objects/trees" / tree_path(root.tree).decode()
    good = file.read_bytes()
    assert set(volume.store.trees()) == {root.tree, *(e.tree for e in page.items if hasattr(e, "tree"))}
    for bad, why in ((good[:-1], "do not match"), (b"", "do not match"), (None, "missing")):
        file.unlink()
        if bad is not None:
            file.write_bytes(bad)
        fresh = ObjectStore(volume.layout.fd, volume.store.algorithm)
        with pytest.raises(Damaged, match=why):
            fresh.page(root.tree)
        fresh.put(root.tree, good)
        assert fresh.page(root.tree).encode() == good
        fresh.close()
    assert not [n for n in os.listdir(volume.path / "objects/trees") if n.startswith(".")]


def test_the_cache_of_pages_is_bounded(volume: Volume, monkeypatch: pytest.MonkeyPatch) -> None:
    roots = [volume.tree({f"{n}-{i}": b"" for i in range(9)}) for n in range(5)]
    monkeypatch.setattr(objects, "_CACHED_ENTRIES", 25)
    small = ObjectStore(volume.layout.fd, volume.store.algorithm)
    kept = [small.page(root.tree) for root in roots]
    assert small.page(roots[4].tree) is kept[4]
    assert small.page(roots[3].tree) is kept[3]
    assert small.page(roots[0].tree) is not kept[0]
    small.close()


def test_sync_without_syncfs(volume: Volume, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(syscalls, "LOCAL_FILESYSTEMS", ())
    synced: list[int] = []
    real = os.fsync
    store = ObjectStore(volume.layout.fd, volume.store.algorithm)
    volume.store.close()
    volume.store = store
    root = volume.tree({"a": b"1", "b": b"2"})

    def fsync(fd: int) -> None:
        if len(synced) == 3:
            synced.append(0)
            raise OSError(errno.EIO, "")
        synced.append(os.fstat(fd).st_ino)
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError):
        store.sync(since=0)
    store.sync(since=store.failed_flush.count)  # syncs everything again
    page = volume.path / "objects/trees" / tree_path(root.tree).decode()
    blobs = [volume.blob_file(blob) for blob in store.blobs()]
    for path in (page, page.parent, page.parent.parent, *blobs, *(b.parent for b in blobs)):
        assert path.stat().st_ino in synced[4:]
    synced.clear()
    store.sync(since=store.failed_flush.count)
    assert synced == []


def test_sync_is_one_syncfs_on_known_filesystems(volume: Volume, monkeypatch: pytest.MonkeyPatch) -> None:
    if syscalls.filesystem_type(volume.layout.fd) not in syscalls.LOCAL_FILESYSTEMS:
        pytest.skip("no syncfs for this filesystem")
    calls: list[int] = []
    monkeypatch.setattr(syscalls, "syncfs", calls.append)
    volume.store.sync(since=0)
    assert len(calls) == 1


def test_foreign_files_are_ignored(volume: Volume) -> None:
    shard = volume.path / "objects/blobs/00"
    shard.mkdir()
    (volume.path / "objects/trees/xyz").mkdir()
    for name in ("x", "ab", ".artfs-tmp.1.2", "ab-0", "a" * 30 + "-0", "A" * 30, "a" * 30 + "-99999999999"):
        (shard / name).write_bytes(b"")
    assert list(volume.store.blobs()) == []
    assert list(volume.store.trees()) == []


def test_an_ordinary_user_can_store_unreadable_files() -> None:
    def run(place: Path) -> None:
        volume = Volume(place / "v")
        (place / "f").write_bytes(b"data")
        with opened(place / "f") as file, directory(place) as fd:
            (place / "f").chmod(0)
            blob, _ = volume.store.identify(volume.store.hash_fd(file), file)
            volume.store.link(blob, fd, b"f")
        for _ in range(2):
            got = volume.store.open_blob(blob, 4)
            assert os.pread(got, 10, 0) == b"data"
            os.close(got)
            assert (place / "f").stat().st_mode & 0o7777 == 0
        (place / "g").write_bytes(b"data")
        with opened(place / "g") as file:
            assert volume.store.identify(volume.store.hash_fd(file), file) == (blob, True)
        volume.close()

    as_nobody(run)


def test_storing_announces_its_steps(volume: Volume, monkeypatch: pytest.MonkeyPatch) -> None:
    labels: list[str] = []
    monkeypatch.setattr(durable, "step", labels.append)
    volume.tree({"a": b"1"})
    volume.store.sync(since=0)
    assert labels == ["objects:link", "objects:put", "objects:sync"]


def test_all_descriptors_are_closed(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    volume = Volume(tmp_path / "v")
    volume.tree({"a": b"1", "d": {"b": b"2"}})
    list(volume.store.blobs())
    with pytest.raises(Damaged):
        volume.store.open_blob(BlobId(b"\x01" + bytes(16)))
    volume.store.sync(since=0)
    volume.close()
    assert len(os.listdir("/proc/self/fd")) == before
    assert layout.is_volume(tmp_path / "v")
