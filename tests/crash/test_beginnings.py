"""Volumes and collections come and go whole, whatever fails; so do the marks of damaged files."""

from __future__ import annotations

import errno
import os
from functools import partial
from pathlib import Path

import pytest

from artfs.errors import NotAVolume
from artfs.store import durable, reserve
from artfs.store.shards import blob_path
from artfs.volume.volume import Volume
from tests.crash.faults import ERRORS, bad_sector, crash, failing, reads, short_writes, steps, worth_trying
from tests.crash.harness import NAME, Case, Scenario, cloned, prepared, small

pytestmark = pytest.mark.usefixtures("no_syncs")

OTHER = "other"
# What interrupts a command leaves its temps as a crash does, and is tried as one.
OF_THE_DISK = [error for error in ERRORS if error != "KeyboardInterrupt"]


def _init(path: Path) -> None:
    Volume.init(path).close()


def init_steps(place: Path) -> list[str]:
    labels: list[str] = []
    with steps(labels.append):
        _init(place / "whole")
    return labels


@pytest.mark.parametrize("error", OF_THE_DISK)
def test_an_error_while_a_volume_is_made(place: Path, error: str) -> None:
    """What is half made is no volume, and the next init completes it."""
    for number, label in enumerate(init_steps(place)):
        path = place / f"volume-{number}"
        assert failing(partial(_init, path), ERRORS[error](number)) == error, label
        check_made(path)


def test_a_short_write_while_a_volume_is_made(place: Path) -> None:
    with short_writes(0) as sizes:
        _init(place / "whole")
    Volume.open(place / "whole").close()
    for number in range(len(sizes)):
        with short_writes(number, then=errno.ENOSPC) as seen:
            raised = failing(partial(_init, place / f"volume-{number}"), lambda _: None)
        if len(seen) > number + 1 and seen[number] != reserve.SIZE:  # which is had if there is room for it
            assert raised == "ENOSPC"
        check_made(place / f"volume-{number}")
    assert sizes


def check_made(path: Path) -> None:
    """It is a volume, or becomes one, and works."""
    try:
        volume = Volume.open(path)
    except NotAVolume:
        volume = Volume.init(path)
    with volume:
        volume.recover()
        volume.catalog.create(NAME)
        case = Case(volume)
        case.commit(b"job", small, "best")
        case.check_sound()
        left = [name for name in os.listdir(path) if name.startswith(os.fsdecode(durable.TEMP_PREFIX))]
        assert left in ([], [".artfs-tmp.init"])


def _damage(case: Case) -> None:
    """Two versions, of which the newer one's file is damaged, and whose bytes a pending tree still has."""
    case.commit(b"first", lambda root: None)
    case.commit(b"second", small)
    case.start(b"job", small)
    _break(case)


def _break(case: Case) -> None:
    for blob in case.volume.store.blobs():
        (case.volume.path / "objects/blobs" / os.fsdecode(blob_path(blob))).write_bytes(b"SMALL")


def _hopeless(case: Case) -> None:
    case.commit(b"second", small)
    _break(case)


def _marked(case: Case) -> None:
    _damage(case)
    case.volume.discard(case.collection, b"job")
    case.volume.maintenance.check(repair=True)
    case.start(b"job", small)


CHANGES: dict[str, Scenario] = {
    "make a collection": Scenario(
        lambda case: None, lambda case: case.volume.catalog.create(OTHER, 0o750, collection_type="dataset")
    ),
    "remove a collection": Scenario(
        lambda case: case.volume.catalog.create(OTHER, 0o750), lambda case: case.volume.catalog.remove(OTHER)
    ),
    "repair": Scenario(_damage, lambda case: case.volume.maintenance.check(repair=True)),
    "repair what is marked": Scenario(_marked, lambda case: case.volume.maintenance.check(repair=True)),
    "mark as damaged": Scenario(_hopeless, lambda case: case.volume.maintenance.check(repair=True)),
}


def seen(case: Case) -> object:
    """What there is: collections, and which files are sound or known not to be."""
    catalog, store = case.volume.catalog, case.volume.store
    collections = {name: catalog.collection(name).type for name in catalog.names()}
    modes = [(case.volume.path / "collections" / name).stat().st_mode for name in sorted(collections)]
    blobs = sorted((blob, store.verify_blob(blob)[2], blob in store.damaged_blobs) for blob in store.blobs())
    return collections, modes, blobs


@pytest.fixture
def old_temps(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a dead process leaves is swept without waiting for an hour."""
    monkeypatch.setattr(durable, "STALE_AFTER_SECONDS", -1.0)


def tell(place: Path, scenario: Scenario) -> tuple[list[str], list[object]]:
    """Prepares a scenario, to be cloned; returns its steps, and what is seen before and after."""
    with prepared(place / "original", scenario) as case:
        states = [seen(case)]
    labels: list[str] = []
    with cloned(place / "original", place / "clean") as case:
        with steps(labels.append):
            scenario.act(case)
        states.append(seen(case))
    assert labels
    assert states[0] != states[1]
    return labels, states


def check_change(case: Case, scenario: Scenario, states: list[object], at: str) -> None:
    """It is done or not, and then it can be; and nothing is left of it."""
    case.volume.recover()
    if seen(case) != states[1]:
        scenario.act(case)
    case.volume.recover()
    assert seen(case) == states[1], at
    left = os.listdir(case.volume.path / "collections")
    assert [name for name in left if name.startswith(os.fsdecode(durable.TEMP_PREFIX))] == [], at


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.usefixtures("old_temps")
def test_a_crash(place: Path, name: str) -> None:
    scenario = CHANGES[name]
    labels, states = tell(place, scenario)
    for number in worth_trying(labels):
        path = place / f"volume-{number}"
        with cloned(place / "original", path) as case:
            label = crash(number, lambda path=path: scenario.act(Case(Volume.open(path))))  # type: ignore[misc]
            check_change(case, scenario, states, f"after a crash at {label}, step {number}")


@pytest.mark.parametrize("error", OF_THE_DISK)
@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.usefixtures("old_temps")
def test_an_error(place: Path, name: str, error: str) -> None:
    scenario = CHANGES[name]
    labels, states = tell(place, scenario)
    for number in worth_trying(labels)[:-1]:
        with cloned(place / "original", place / f"volume-{number}") as case:
            at = f"{error} at {labels[number]}, step {number}"
            raised = failing(partial(scenario.act, case), ERRORS[error](number))
            assert raised == error or (raised == "nothing" and seen(case) in states), at
            check_change(case, scenario, states, at)


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.usefixtures("old_temps")
def test_short_writes_and_reads_that_fail(place: Path, name: str) -> None:
    scenario = CHANGES[name]
    _, states = tell(place, scenario)
    with cloned(place / "original", place / "short") as case:
        with short_writes(0) as sizes:
            scenario.act(case)
        assert seen(case) == states[1], "all writes are short"
    read: list[str] = []
    with cloned(place / "original", place / "read") as case, reads(read.append):
        scenario.act(case)
    for number in range(len(sizes)):
        with cloned(place / "original", place / f"write-{number}") as case:
            with short_writes(number, then=errno.ENOSPC):
                failing(partial(scenario.act, case), lambda _: None)
            check_change(case, scenario, states, f"ENOSPC after half of write {number}")
    for number in worth_trying(read)[:-1]:
        with cloned(place / "original", place / f"read-{number}") as case:
            failing(partial(scenario.act, case), bad_sector(number), reads)
            check_change(case, scenario, states, f"EIO at {read[number]}, read {number}")
