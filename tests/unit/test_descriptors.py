"""How many descriptors a daemon uses, and how many of them one user may have."""

from __future__ import annotations

import errno
import functools
import os
import resource
from pathlib import Path

import pytest

from artfs.fuse.inode_table import InodeTable
from artfs.limits import descriptors
from artfs.limits.numbers import MOST_DESCRIPTORS as MOST
from artfs.vfs.catalog_nodes import VolumeRoot
from artfs.vfs.node import ROOT
from artfs.vfs.view import View
from artfs.volume.volume import Volume
from tests.conformance.helpers import fails


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Replaces the limits of a process that is not root; the last one applies."""
    held = [(1024, 4096)]

    def setrlimit(_which: int, wanted: tuple[int, int]) -> None:
        hard = held[-1][1]
        if hard != resource.RLIM_INFINITY and (wanted[1] > hard or wanted[1] == resource.RLIM_INFINITY):
            raise ValueError("not allowed to raise maximum limit")
        held.append(wanted)

    monkeypatch.setattr(resource, "getrlimit", lambda _which: held[-1])
    monkeypatch.setattr(resource, "setrlimit", setrlimit)
    return held


@pytest.mark.parametrize(
    ("hard", "soft"), [(4096, 4096), (MOST, MOST), (1 << 30, MOST), (resource.RLIM_INFINITY, MOST)]
)
def test_the_limit_is_raised_as_far_as_useful(limits: list[tuple[int, int]], hard: int, soft: int) -> None:
    limits.append((1024, hard))
    descriptors.raise_limit()
    assert limits[-1][0] == soft


def test_an_owner_has_a_share_of_the_pending_versions(limits: list[tuple[int, int]]) -> None:
    limits.append((1600, 1600))  # 1200 of them for users
    check = functools.partial(descriptors.check_for_pending_version, 2)
    check(1001, 112)
    with fails(errno.EMFILE):
        check(1001, 113)
    check(0, 400)
    check(1002, 0)


def test_a_user_has_a_share_of_the_open_files(limits: list[tuple[int, int]]) -> None:
    limits.append((800, 800))  # 600 of them for users
    open_files = descriptors.OpenFiles(2)
    for _ in range(375):
        open_files.check_open(1001)
        open_files.opened(1001)
    with fails(errno.EMFILE):
        open_files.check_open(1001)
    open_files.check_open(1002)
    open_files.closed(1001)
    open_files.check_open(1001)


def test_forgotten_trees_keep_no_descriptor(tmp_path: Path) -> None:

    def held() -> int:
        return len(os.listdir("/proc/self/fd"))

    with Volume.init(tmp_path / "volume") as volume:
        view = View(volume)
        collection = volume.catalog.create("model")
        table = InodeTable(view, root := VolumeRoot(view))
        before, kept = held(), 2 * 64
        for number in range(200):
            volume.start(collection, b"job-%d" % number)
        below = root.collection(collection).lookup(b"pending")
        assert below is not None
        lookups = []
        for number in range(200):
            node = below.lookup(b"job-%d" % number)
            assert node is not None
            made, handle = node.create(b"file", os.O_WRONLY, 0o600, ROOT)
            handle.write(0, b"data")
            handle.release()
            for known in (node, made):
                table.remember(known)
                lookups.append((known.ino, 1))
        del known, node, made, handle
        assert held() >= before + 300
        table.forget(lookups)
        assert held() <= before + kept + 10
        again = below.lookup(b"job-0")
        assert again is not None
        assert again.ino == lookups[0][0]
        assert again.lookup(b"file") is not None
