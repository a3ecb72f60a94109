"""Volumes, collections and marks of damaged files are made and removed atomically, whatever fails."""

from __future__ import annotations

import errno
import itertools
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
# An interrupted command leaves temps as a crash does, and is tested as a crash.
DISK_ERRORS = [error for error in ERRORS if error != "KeyboardInterrupt"]


def _init(path: Path) -> None:
    Volume.init(path).close()


@pytest.fixture
def old_temps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sweeps the temps of dead processes at once."""
    monkeypatch.setattr(durable, "STALE_AFTER_SECONDS", -1.0)


def init_steps(place: Path) -> list[str]:
    labels: list[str] = []
    with steps(labels.append):
        _init(place / "whole")
    return labels


@pytest.mark.parametrize("error", DISK_ERRORS)
def test_init_completes_a_volume_whose_init_failed(place: Path, error: str) -> None:
    for number, label in enumerate(init_steps(place)):
        path = place / f"volume-{number}"
        assert failing(partial(_init, path), ERRORS[error](number)) == error, label
        check_made(path)
        check_no_temps(path)


def test_short_writes_do_not_damage_a_new_volume(place: Path) -> None:
    with short_writes(0) as sizes:
        _init(place / "whole")
    Volume.open(place / "whole").close()
    for number in range(len(sizes)):
        with short_writes(number, then=errno.ENOSPC) as seen:
            raised = failing(partial(_init, place / f"volume-{number}"), lambda _: None)
        if len(seen) > number + 1 and seen[number] != reserve.SIZE:  # the reserve is optional
            assert raised == "ENOSPC"
        check_made(place / f"volume-{number}")
        check_no_temps(place / f"volume-{number}")
    assert sizes


def test_init_completes_a_volume_whose_init_crashed(place: Path) -> None:
    for number in itertools.count():
        path = place / f"volume-{number}"
        label = crash(number, lambda path=path: Volume.init(path))  # type: ignore[misc]
        if label is None:
            Volume.open(path).close()
        check_made(path)
        if label is None:
            break
    assert number >= 5


def check_made(path: Path) -> None:
    """Asserts that a usable volume exists, or can be made."""
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


def check_no_temps(path: Path) -> None:
    left = [name for name in os.listdir(path) if name.startswith(os.fsdecode(durable.TEMP_PREFIX))]
    assert left in ([], [".artfs-tmp.init"])


def _damage(case: Case) -> None:
    """Makes two versions, of which the newer has a damaged file that a pending tree can repair."""
    case.commit(b"first", lambda root: None)
    case.commit(b"second", small)
    case.start(b"job", small)
    _break(case)


def _break(case: Case) -> None:
    for blob in case.volume.store.blobs():
        (case.volume.path / "objects/blobs" / os.fsdecode(blob_path(blob))).write_bytes(b"SMALL")


def _irreparable(case: Case) -> None:
    case.commit(b"second", small)
    _break(case)


def _marked(case: Case) -> None:
    _damage(case)
    case.discard(b"job")
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
    "mark as damaged": Scenario(_irreparable, lambda case: case.volume.maintenance.check(repair=True)),
}


def seen(case: Case) -> object:
    """Returns the collections, and which blobs are sound or marked as damaged."""
    catalog, store = case.volume.catalog, case.volume.store
    collections = {name: catalog.collection(name).type for name in catalog.names()}
    modes = [(case.volume.path / "collections" / name).stat().st_mode for name in sorted(collections)]
    blobs = sorted((blob, store.verify_blob(blob)[2], blob in store.damaged_blobs) for blob in store.blobs())
    return collections, modes, blobs


def expect(place: Path, scenario: Scenario) -> tuple[list[str], list[object]]:
    """Prepares a scenario, to be cloned; returns its steps, and the states before and after."""
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
    """Asserts that the change is complete or can be repeated, and leaves no temps."""
    case.volume.recover()
    if seen(case) != states[1]:
        scenario.act(case)
    case.volume.recover()
    assert seen(case) == states[1], at
    left = os.listdir(case.volume.path / "collections")
    assert [name for name in left if name.startswith(os.fsdecode(durable.TEMP_PREFIX))] == [], at


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.usefixtures("old_temps")
def test_a_change_completes_after_a_crash(place: Path, name: str) -> None:
    scenario = CHANGES[name]
    labels, states = expect(place, scenario)
    for number in worth_trying(labels):
        path = place / f"volume-{number}"
        with cloned(place / "original", path) as case:
            label = crash(number, lambda path=path: scenario.act(Case(Volume.open(path))))  # type: ignore[misc]
            check_change(case, scenario, states, f"after a crash at {label}, step {number}")


@pytest.mark.parametrize("error", DISK_ERRORS)
@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.usefixtures("old_temps")
def test_a_change_completes_after_an_error(place: Path, name: str, error: str) -> None:
    scenario = CHANGES[name]
    labels, states = expect(place, scenario)
    for number in worth_trying(labels)[:-1]:
        with cloned(place / "original", place / f"volume-{number}") as case:
            at = f"{error} at {labels[number]}, step {number}"
            raised = failing(partial(scenario.act, case), ERRORS[error](number))
            assert raised == error or (raised == "nothing" and seen(case) in states), at
            check_change(case, scenario, states, at)


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.usefixtures("old_temps")
def test_a_change_completes_after_short_writes_and_failed_reads(place: Path, name: str) -> None:
    scenario = CHANGES[name]
    _, states = expect(place, scenario)
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
