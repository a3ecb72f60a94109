"""Setting an xattr of a lower reference is done or not, and never changes what it refers to."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import pytest

from artfs.model.entry import ReferenceEntry
from artfs.pending import reference_files
from artfs.volume.volume import Volume
from tests.conformance.helpers import write
from tests.crash.faults import calls, crash, failing, full_disk, steps
from tests.crash.harness import OLD, Case, Scenario, cloned, prepared, settle_times, small
from tests.crash.patches import JOB, patch

pytestmark = pytest.mark.usefixtures("no_syncs")

PATH, URI = b"referred", b"file:///srv/raw/big.bin"


def _prepare(case: Case) -> None:
    tree = case.start(b"base", small)
    tree.expect_references()
    entry = ReferenceEntry(PATH, 0o644, os.geteuid(), os.getegid(), OLD, 5, URI, b"")
    staged = reference_files.stage(tree.pending_version.fd, entry)
    os.rename(staged, b"tree/" + PATH, src_dir_fd=tree.pending_version.fd, dst_dir_fd=tree.pending_version.fd)
    settle_times(case.tree(b"base"))
    case.finish(b"base")
    patch(case, JOB, "v0")


CHANGED = Scenario(_prepare, lambda case: case.mounted(JOB).setxattr(PATH, b"user.key", b"given"))


def seen(case: Case) -> object:
    fs = case.mounted(JOB)
    status = fs.stat(PATH)
    xattrs = sorted((name, fs.getxattr(PATH, name)) for name in fs.listxattr(PATH))
    return status.mode, status.size, xattrs, fs.getxattr(PATH, b"user.artfs.uri"), sorted(fs.listdir(b""))


def check(case: Case, states: list[object], at: str) -> None:
    assert seen(case) in states, at
    CHANGED.act(case)
    assert seen(case) == states[1], at
    write(case.mounted(JOB), b"more")  # else the finish returns v0, whose content is the same
    case.finish(JOB)
    entry = case.volume.store.reader.find(case.collection.record(1).root.entry().tree, PATH)
    assert entry is not None
    assert isinstance(entry[1], ReferenceEntry)
    assert (entry[1].xattrs, entry[1].uri) == (((b"user.key", b"given"),), URI)
    assert case.volume.maintenance.check().sound


def test_an_xattr_of_a_reference_can_be_set_after_a_crash_or_a_full_disk(place: Path) -> None:
    with prepared(place / "original", CHANGED) as case:
        states: list[object] = [seen(case)]
    every: list[str] = []
    durables: list[str] = []
    with cloned(place / "original", place / "clean") as case:
        with calls(every.append):
            CHANGED.act(case)
        states.append(seen(case))
    with cloned(place / "original", place / "again") as case, steps(durables.append):
        CHANGED.act(case)
    assert "overlay:reference" in durables
    for number in range(len(every) + 1):
        with cloned(place / "original", place / f"crash-{number}") as case:
            path = case.volume.path
            label = crash(number, lambda path=path: CHANGED.act(Case(Volume.open(path))), calls)  # type: ignore[misc]
            case.volume.recover()
            check(case, states, f"after a crash at {label}, step {number}")
    for number, label in enumerate(durables):
        with cloned(place / "original", place / f"full-{number}") as case:
            assert failing(partial(CHANGED.act, case), full_disk(number)) == "ENOSPC"
            assert seen(case) == states[0], label
            check(case, states, f"ENOSPC at {label}")
