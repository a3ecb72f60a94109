"""A crash at each durable step leaves the old state or the new one."""

from __future__ import annotations

from pathlib import Path

import pytest

from artfs.volume.volume import Volume
from tests.crash.faults import crash, worth_trying
from tests.crash.harness import Case, cloned, many
from tests.crash.maintenance import OPERATIONS, expect, leave_all

pytestmark = pytest.mark.usefixtures("no_syncs")


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_crash_leaves_the_old_or_the_new_state(place: Path, name: str) -> None:
    scenario = OPERATIONS[name]
    expected = expect(place, scenario)
    for number in worth_trying(expected.labels):
        path = place / f"volume-{number}"
        with cloned(place / "original", path) as case:
            label = crash(number, lambda path=path: scenario.act(Case(Volume.open(path))))  # type: ignore[misc]
            case.volume.recover()
            state = case.state()
            assert state in expected.states, f"after a crash at {label}, step {number}"
            assert label == (expected.labels[number] if number < len(expected.labels) else None)
            assert label is not None or state == expected.new
            case.check_sound()
            if number % 2:
                for pending in state.pending:
                    case.write_to_all(pending)
                case.check_sound()
            for pending in state.pending:
                leave_all(case, pending)
            case.finish_all()
            if state == expected.old and not expected.ends_pending:
                scenario.act(case)
            case.commit(b"another", many)
            case.check_sound()
