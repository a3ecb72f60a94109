"""The share of each user in common resources, and its release."""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from artfs.catalog.runs import RecordedRun
from artfs.errors import Interrupted
from artfs.limits.limit import Holding, Limit
from artfs.references import THIS_PROCESS
from artfs.vfs import listings
from artfs.vfs.catalog_nodes import VolumeRoot
from artfs.vfs.control import references_file, snapshot
from artfs.vfs.control.snapshot import Snapshot
from artfs.vfs.node import Listing, Node
from artfs.volume.pending_trees import pending_names
from artfs.volume.volume import Volume
from tests.conformance.helpers import fails, write
from tests.conformance.view import ViewInMemory

HER, HIM = 1001, 1002


def test_a_user_has_a_share_and_root_everything() -> None:
    limit = Limit(100, 40, "too much")
    limit.take(HER, 40)
    with fails(errno.ENOMEM):
        limit.take(HER, 1)
    limit.take(HIM, 40)
    with fails(errno.ENOMEM):
        limit.take(0, 21)
    limit.take(0, 20)
    limit.give(HER, 1)
    limit.take(HER, 1)


@pytest.mark.parametrize("size", [100, (1 << 20) + 1])
def test_a_snapshot_counts_until_it_is_closed(
    size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot, "SNAPSHOTS", Limit(3 * size, size, "too much"))
    first = Snapshot(b"x" * size, str(tmp_path), HER)
    with fails(errno.ENOMEM):
        Snapshot(b"y", str(tmp_path), HER)
    other = Snapshot(b"y" * size, str(tmp_path), HIM)
    assert first.read(size - 3, 10) == b"xxx"
    first.close()
    first.close()
    again = Snapshot(b"z" * size, str(tmp_path), HER)
    assert again.read(0, 1) == b"z"
    again.close()
    other.close()


def test_a_snapshot_grows_up_to_its_readers_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "SNAPSHOTS", Limit(20 << 20, 4 << 20, "too much"))
    given = 0

    def pieces() -> Iterator[str]:
        nonlocal given
        while True:
            given += 1000
            yield f"{given:1000}"

    with fails(errno.ENOMEM):
        Snapshot(pieces(), str(tmp_path), HER)
    assert given <= 5 << 20
    first = Snapshot(itertools.islice(pieces(), 3000), str(tmp_path), HER)
    whole = b"".join(first.read(offset, 99_999) for offset in range(0, 3_100_000, 99_999))
    assert len(whole) == 3_000_000
    assert whole[-1000:].strip() == b"%d" % given
    first.close()
    assert os.listdir(tmp_path) == []


def test_a_snapshot_without_disk_space_keeps_little_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot, "SNAPSHOTS_IN_MEMORY", Limit(10 << 20, 3 << 20, "too much"))
    nowhere = str(tmp_path / "missing")
    first = Snapshot([b"x" * (2 << 20), "y"], nowhere, HER)
    assert first.read((2 << 20) - 2, 10) == b"xxy"
    with fails(errno.ENOMEM):
        Snapshot(["x" * 1000] * 2000, nowhere, HER)
    small = Snapshot(b"z" * (1 << 19), str(tmp_path), HER)
    # A small snapshot beyond the share in memory is stored on the disk.
    other = Snapshot(b"z" * (3 << 18), str(tmp_path), HER)
    assert other.read(3, 5) == b"zzzzz"
    for one in (first, small, other):
        one.close()
    Snapshot([b"x" * (2 << 20)], nowhere, HER).close()


def test_listed_references_count_until_they_are_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = Limit(1 << 20, 50_000, "too much")
    monkeypatch.setattr(references_file, "FOUND_OBJECTS", limit)
    for directory, count in (("few", 20), ("many", 200)):
        (tmp_path / directory).mkdir()
        for number in range(count):
            (tmp_path / directory / str(number)).touch()
    with Volume.init(tmp_path / "volume") as volume:

        def look(directory: str, room: Holding) -> int:
            wanted = references_file.ReferenceQuery.parse(f"x {(tmp_path / directory).as_uri()}".encode())
            return len(wanted.run(volume.references, room, THIS_PROCESS))

        with Holding(limit, HER) as room:
            assert look("few", room) == 20
            with Holding(limit, HER) as second, fails(errno.ENOMEM):
                look("many", second)
            with Holding(limit, HIM) as his:
                assert look("few", his) == 20
        with pytest.raises(Interrupted):
            look("few", room)  # an abandoned lookup
        limit.take(HER, 50_000)
        limit.take(0, (1 << 20) - 50_000)


@pytest.mark.parametrize("patch", [False, True])
def test_an_open_listing_counts_for_its_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, patch: bool
) -> None:
    monkeypatch.setattr(listings, "LISTED_NAMES", Limit(100, 4, "too much"))
    with Volume.init(tmp_path / "volume") as volume:
        view = ViewInMemory(volume)
        fs = view.emptied_patch() if patch else view.pending_tree()
        for name in (b"one", b"two", b"three"):
            write(fs, name, b"")
        tree = volume.trees.get("suite", pending_names(volume.catalog.collection("suite"))[0])

        def opened(uid: int) -> Listing:
            return view.view.pending(tree.current()).listing(uid)

        first, second, his = opened(HER), opened(HER), opened(HIM)
        for listing in (first, first, his):
            listing.rewind()
        with fails(errno.ENOMEM):
            second.rewind()
        first.release()
        second.rewind()


def test_an_open_internal_listing_counts_for_its_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Volume.init(tmp_path / "volume") as volume:
        view = ViewInMemory(volume).view
        for number in range(3):
            volume.runs.create(RecordedRun(id=f"run-{number}"))
            volume.catalog.create(f"other-{number}")
        root = VolumeRoot(view)
        control = root.lookup(b".artfs")
        assert control is not None
        for directory in (root, control, control.lookup(b"runs")):
            assert directory is not None
            limit = Limit(100, 15, "too much")
            monkeypatch.setattr(listings, "LISTED_NAMES", limit)

            def opened(uid: int, directory: Node = directory) -> Listing:
                return directory.listing(uid)

            first = opened(HER)
            first.rewind()
            listed = list(first.entries(0))
            assert len({entry.name for entry in listed}) == len(listed) > 1
            held = [opened(HER) for _ in range(15 // len(listed))]
            for listing in held[1:]:
                listing.rewind()
            with fails(errno.ENOMEM):
                held[0].rewind()
            opened(HIM).rewind()
            first.rewind()
            for listing in (first, *held):
                listing.release()
            limit.take(HER, 15)
