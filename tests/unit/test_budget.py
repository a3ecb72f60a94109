"""What one user may have of what all share, and that it is given back."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from artfs.view import open_files, patch_listing
from artfs.view.budget import Budget
from artfs.view.control import snapshot
from artfs.view.control.snapshot import Snapshot
from artfs.view.node import Listing
from artfs.volume import Volume
from tests.conformance.helpers import fails, write
from tests.conformance.view import ViewInMemory

HER, HIM = 1001, 1002


def test_a_user_has_a_share_and_root_what_there_is() -> None:
    budget = Budget(100, 40, "too much")
    budget.take(40, HER)
    with fails(errno.ENOMEM):
        budget.take(1, HER)
    budget.take(40, HIM)
    with fails(errno.ENOMEM):
        budget.take(21, 0)
    budget.take(20, 0)
    budget.give(1, HER)
    budget.take(1, HER)


@pytest.mark.parametrize("size", [100, (1 << 20) + 1])
def test_a_snapshot_counts_until_it_is_closed(
    size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot, "SNAPSHOTS", Budget(3 * size, size, "too much"))
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


@pytest.mark.parametrize("patch", [False, True])
def test_an_open_listing_counts_for_who_opened_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, patch: bool
) -> None:
    for module in (open_files, patch_listing):
        monkeypatch.setattr(module, "NAMES", Budget(100, 4, "too much"))
    with Volume.init(tmp_path / "volume") as volume:
        view = ViewInMemory(volume)
        fs = view.emptied_patch() if patch else view.pending_tree()
        for name in (b"one", b"two", b"three"):
            write(fs, name, b"")
        tree = volume.pending("suite", volume.pending_names(volume.catalog.collection("suite"))[0])

        def opened(uid: int) -> Listing:
            listing = view.view.pending(tree.current()).listing()
            listing.uid = uid
            return listing

        first, second, his = opened(HER), opened(HER), opened(HIM)
        for listing in (first, first, his):
            listing.rewind()
        with fails(errno.ENOMEM):
            second.rewind()
        first.release()
        second.rewind()
