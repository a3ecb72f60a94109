"""The process ends at each durable step: what is there afterwards is the old state or the new one."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import pytest

from artfs.errors import NotAVolume
from artfs.volume import Volume
from tests.crash.faults import crash, remove, steps, worth_trying
from tests.crash.harness import NAME, SCENARIOS, Case, many, prepared

pytestmark = pytest.mark.usefixtures("no_syncs")


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_crash_leaves_the_old_or_the_new(tmp_path: Path, name: str) -> None:
    scenario = SCENARIOS[name]
    labels: list[str] = []
    with prepared(tmp_path / "clean", scenario) as clean:
        with steps(labels.append):
            scenario.act(clean)
        new = clean.state()
    for number in worth_trying(labels):
        path = tmp_path / f"volume-{number}"
        with prepared(path, scenario) as case:
            old = case.state()
        label = crash(number, lambda path=path: scenario.act(Case(Volume.open(path))))  # type: ignore[misc]
        with Volume.open(path) as volume:
            volume.recover()
            case = Case(volume)
            state = case.state()
            both = replace(new, aliases={**old.aliases, **new.aliases})
            allowed = [old, new, both] if scenario.two else [old, new]
            assert state in allowed, f"after a crash at {label}, step {number}"
            assert label == (labels[number] if number < len(labels) else None)
            assert label is not None or state == new
            case.check_sound()
            if number % 2:
                for pending in state.pending:
                    case.write_to_all(pending)
                case.check_sound()
            case.finish_all()
            if state == old and name != "discard":  # else the tree was finished just now
                scenario.act(case)
            case.commit(b"another", many)
            case.check_sound()
        remove(path)


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
