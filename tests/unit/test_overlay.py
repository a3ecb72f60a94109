"""A patch on disk: decoding, damage, and the exchange of bases."""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from artfs.catalog.collection import Collection
from artfs.errors import Damaged
from artfs.linux import syscalls
from artfs.model.digest import Algorithm, blob_id, parse_tree, text
from artfs.model.entry import FileEntry
from artfs.pending import overlay
from artfs.pending.overlay import Base, Lower, Stub
from artfs.pending.pending_tree import PendingTree
from artfs.seal.seal import Request
from artfs.volume.volume import Volume
from tests.crash.faults import steps
from tests.unit.stores import crash_at, crash_points, directory

TREE = parse_tree("xxh128:" + "0a" * 16)


@pytest.fixture
def fd(tmp_path: Path) -> Iterator[int]:
    with directory(tmp_path) as fd:
        yield fd


@pytest.mark.parametrize("name", [b"a", b"a:b:c", b"\xff\n", b"n" * 255])
@pytest.mark.parametrize("mode", [0, 0o644, 0o4755])
def test_stubs_round_trip(name: bytes, mode: int) -> None:
    stub = Stub(TREE, name, mode)
    assert overlay.decode_target(overlay.encode_stub(stub)) == stub


@pytest.mark.parametrize(
    "target", [b"a", b".artfs-", b".artfs-stub:644:x", b".artfs-link:a", b"/.artfs-stub:"]
)
def test_targets_of_users_round_trip(target: bytes) -> None:
    assert overlay.decode_target(overlay.escape_target(target)) == target


@pytest.mark.parametrize(
    "stored",
    [
        b".artfs-",
        b".artfs-other:a",
        b".artfs-stub:",
        b".artfs-stub:999:xxh128:0a:a",
        b".artfs-stub:644:no:0a:a",
    ],
)
def test_damaged_targets_are_refused(stored: bytes) -> None:
    with pytest.raises(Damaged):
        overlay.decode_target(stored)


def test_the_lower_directory_is_recorded(fd: int, tmp_path: Path) -> None:
    assert overlay.lower_of(fd) is None
    lower = Lower(TREE, 2 * overlay.LOWER_BIT - 1)
    overlay.set_lower(fd, lower)
    assert overlay.lower_of(fd) == lower
    assert not overlay.is_untouched(fd)  # as after a rebase, although it is empty
    overlay.set_base(fd, Base("v0", "model", "v0", text(TREE)))
    assert overlay.is_untouched(fd)
    (tmp_path / "d").symlink_to("nowhere")
    assert not overlay.is_untouched(fd)


@pytest.mark.parametrize("stored", ["", "xxh128:00 1", "xxh128:" + "0a" * 16, "xxh128:" + "0a" * 16 + " no"])
def test_a_damaged_record_is_refused(fd: int, tmp_path: Path, stored: str) -> None:
    if stored:
        (tmp_path / ".artfs@lower").symlink_to(stored)
    else:
        (tmp_path / ".artfs@lower").write_text("no symlink")
    with pytest.raises(Damaged):
        overlay.lower_of(fd)


def test_inode_numbers_differ_by_directory_and_name() -> None:
    def file(name: bytes, content: int) -> FileEntry:
        return FileEntry(name, 0o644, 0, 0, 0, 1, blob_id(Algorithm.XXH128, bytes([content]) * 16))

    files = [file(name, content) for name in (b"a", b"b", b"ab") for content in range(2)]
    numbers = {Lower(TREE, seed).number_of(entry) for seed in range(50) for entry in files}
    assert len(numbers) == 300
    assert {number.bit_length() for number in numbers} == {overlay.LOWER_BIT.bit_length()}


def test_whiteouts_do_not_change_the_mtime(fd: int, tmp_path: Path) -> None:
    os.utime(tmp_path, ns=(1, 2))
    overlay.white_out(fd, b"a")
    overlay.white_out(fd, b"a")
    assert (overlay.is_whited_out(fd, b"a"), overlay.is_whited_out(fd, b"b"), overlay.whiteouts(fd)) == (
        True,
        False,
        {b"a"},
    )
    assert tmp_path.stat().st_mtime_ns == 2


@pytest.mark.parametrize("same", [False, True])
def test_concurrent_first_whiteouts_succeed(fd: int, monkeypatch: pytest.MonkeyPatch, same: bool) -> None:
    real = os.mkdir

    def mkdir(*arguments: Any, **named: Any) -> None:
        monkeypatch.setattr(os, "mkdir", real)
        overlay.white_out(fd, b"a" if same else b"b")
        real(*arguments, **named)

    monkeypatch.setattr(os, "mkdir", mkdir)
    overlay.white_out(fd, b"a")
    assert overlay.whiteouts(fd) == ({b"a"} if same else {b"a", b"b"})


@pytest.mark.parametrize(
    ("ref", "follows"), [("v3", False), ("o:v0", False), ("best", True), ("o:latest", True)]
)
def test_an_alias_is_followed(ref: str, follows: bool) -> None:
    assert Base(ref, "o", "v3", "").follows is follows


# -- bases where directories cannot be exchanged atomically


@pytest.fixture
def volume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Volume]:
    def refuse(*arguments: object) -> None:
        raise OSError(errno.EINVAL, "as on NFS")

    monkeypatch.setattr(syscalls, "renameat2", refuse)
    with Volume.init(tmp_path / "volume") as volume:
        commit(volume, "first")
        yield volume


def collection(volume: Volume) -> Collection:
    return volume.catalog.collection("model") if volume.catalog.names() else volume.catalog.create("model")


def commit(volume: Volume, content: str) -> None:
    tree = volume.start(collection(volume), content.encode())
    (path(volume, content) / "file").write_text(content)
    volume.finish_tree(collection(volume), tree, Request())


def path(volume: Volume, name: str) -> Path:
    return volume.path / "collections/model/pending" / name / "tree"


def shown(volume: Volume) -> str | None:
    """Returns the version of the base, as a process sees it that opens the volume now."""
    with Volume.open(volume.path) as again:
        tree = again.trees.get("model", b"job")
        base = tree.base()
        assert (tree.lower is None) == (base is None)
        return None if base is None else base.version


def set_base(volume: Volume, tree: PendingTree, ref: str) -> PendingTree:
    return volume.set_base(collection(volume), tree, ref, Request(wait=0))


def test_a_base_can_be_set_without_an_exchange(volume: Volume) -> None:
    commit(volume, "second")
    tree = volume.start(collection(volume), b"job", mode=0o2750)
    for ref in ("v0", "v1", "", "latest"):
        tree = set_base(volume, tree, ref)
        assert shown(volume) == {"": None, "latest": "v1"}.get(ref, ref)
    assert stat.S_IMODE(path(volume, "job").stat().st_mode) == 0o2750
    assert volume.finish_tree(collection(volume), tree, Request()).unchanged


def test_a_crash_in_the_exchange_leaves_the_old_or_the_new_base(volume: Volume) -> None:
    commit(volume, "second")
    set_base(volume, volume.start(collection(volume), b"job"), "v0")

    def act() -> None:
        with Volume.open(volume.path) as again:
            set_base(again, again.trees.get("model", b"job"), "v1")

    seen = set()
    for number in range(len(crash_points(act))):
        set_base(volume, volume.trees.get_from_disk(collection(volume), b"job"), "v0")
        crash_at(number, act)
        seen.add(shown(volume))
    assert seen == {"v0", "v1"}
    act()
    assert shown(volume) == "v1"


def test_a_reader_waits_for_a_running_exchange(volume: Volume) -> None:
    commit(volume, "second")
    tree = set_base(volume, volume.start(collection(volume), b"job"), "v0")
    seen: list[str | None] = []
    looking = threading.Thread(target=lambda: seen.append(shown(volume)))

    def hook(label: str) -> None:
        if label == "base:rename" and not looking.ident and not path(volume, "job").exists():
            looking.start()
            looking.join(0.2)

    with steps(hook):
        set_base(volume, tree, "v1")
    looking.join()
    assert seen == [shown(volume)] == ["v1"]


def test_a_missing_tree_is_not_found(volume: Volume) -> None:
    tree = volume.start(collection(volume), b"job")
    path(volume, "job").rmdir()
    with pytest.raises(FileNotFoundError):
        tree.open_root()
