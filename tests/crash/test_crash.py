"""The process ends at each durable step: what is there afterwards is the old state or the new one."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from artfs.errors import NotAVolume
from artfs.volume.volume import Volume
from tests.crash.faults import crash, worth_trying
from tests.crash.harness import NAME, Case, cloned, many
from tests.crash.maintenance import OPERATIONS, leave_all, tell

pytestmark = pytest.mark.usefixtures("no_syncs")


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_crash_leaves_the_old_or_the_new(place: Path, name: str) -> None:
    scenario = OPERATIONS[name]
    told = tell(place, scenario)
    for number in worth_trying(told.labels):
        path = place / f"volume-{number}"
        with cloned(place / "original", path) as case:
            label = crash(number, lambda path=path: scenario.act(Case(Volume.open(path))))  # type: ignore[misc]
            case.volume.recover()
            state = case.state()
            assert state in told.states, f"after a crash at {label}, step {number}"
            assert label == (told.labels[number] if number < len(told.labels) else None)
            assert label is not None or state == told.new
            case.check_sound()
            if number % 2:
                for pending in state.pending:
                    case.write_to_all(pending)
                case.check_sound()
            for pending in state.pending:
                leave_all(case, pending)
            case.finish_all()
            if state == told.old and not told.ends_pending:
                scenario.act(case)
            case.commit(b"another", many)
            case.check_sound()


def test_a_crash_while_a_volume_is_made(tmp_path: Path) -> None:
    for number in itertools.count():
        path = tmp_path / f"volume-{number}"
        label = crash(number, lambda path=path: Volume.init(path))  # type: ignore[misc]
        try:
            volume = Volume.open(path)
        except NotAVolume:
            assert label is not None
            volume = Volume.init(path)
        with volume:
            volume.recover()
            volume.catalog.create(NAME)
            case = Case(volume)
            case.commit(b"job", many, "best")
            case.check_sound()
        if label is None:
            break
    assert number >= 5


def test_a_crash_while_a_collection_is_made(tmp_path: Path) -> None:
    for number in itertools.count():
        path = tmp_path / f"volume-{number}"
        Volume.init(path).close()

        def act(path: Path = path) -> None:
            Volume.open(path).catalog.create(NAME, collection_type="type")

        label = crash(number, act)
        with Volume.open(path) as volume:
            volume.recover()
            if NAME in volume.catalog.names():
                assert volume.catalog.collection(NAME).type == "type"
            else:
                assert label is not None
                volume.catalog.create(NAME)
            Case(volume).commit(b"job", many)
        if label is None:
            break
    assert number >= 3
