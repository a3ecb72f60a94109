"""An operation on a whole patch crashes or fails at each step: setting a base, a finish, a rebase, a gc.

It is done or not, and then can be done. No change of the patch is ever lost, nor any change that others
committed under the alias of its base.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from artfs.linux import syscalls
from artfs.volume.volume import Volume
from tests.conformance.helpers import fails, read, write
from tests.crash.faults import (
    ERRORS,
    Announced,
    calls,
    crash,
    error_of,
    failing,
    join_threads,
    remove,
    steps,
    trials,
    worth_trying,
)
from tests.crash.harness import Case, Scenario, State, Tree, cloned, prepared
from tests.crash.patches import BASES, FINISHES, GC, JOB, check_one_of, finish_all, write_all
from tests.thorough import THOROUGH

pytestmark = pytest.mark.usefixtures("no_syncs")

# Only in these do many calls follow the last durable step, or come between two of them.
WITH_CALLS = ["set a base", "set another base", "take the base away"]
OPERATIONS = {**BASES, **FINISHES, **GC}


@dataclass
class Expected:
    """An operation without failures."""

    labels: list[str]
    states: list[State]  # before, after, and after a repetition
    between: list[State]  # also possible after a crash or an error
    ends: dict[bytes, Tree]  # the trees of all pending versions when they are finished


def expect(original: Path, path: Path, scenario: Scenario, announced: Announced = steps) -> Expected:
    labels: list[str] = []
    between: list[State] = []
    if scenario.between is not None:
        with cloned(original, path) as case:
            scenario.between(case)
            between.append(case.state())
    with cloned(original, path) as case:
        states = [case.state()]
        with announced(labels.append):
            scenario.act(case)
        states.append(case.state())
        scenario.act(case)
        states.append(case.state())
        ends = finish_all(case)
        case.check_sound()
    return Expected(labels, states, between, ends)


@pytest.fixture
def original(place: Path, name: str) -> Iterator[Path]:
    """A volume in which the operation can be run, to be cloned for each trial."""
    path = place / "original"
    with prepared(path, OPERATIONS[name]):
        pass
    yield path
    remove(path)


def check_crashes(original: Path, place: Path, scenario: Scenario, announced: Announced = steps) -> None:
    expected = expect(original, place / "clean", scenario, announced)
    for number in worth_trying(expected.labels):
        with cloned(original, place / f"volume-{number}") as case:
            path = case.volume.path
            label = crash(number, lambda path=path: scenario.act(Case(Volume.open(path))), announced)  # type: ignore[misc]
            case.volume.recover()
            state = case.state()
            at = f"after a crash at {label}, step {number}"
            assert label == (expected.labels[number] if number < len(expected.labels) else None)
            check_one_of(state, [*expected.between, *expected.states] if label else expected.states[1:], at)
            case.check_sound()
            if number % 3 == 1:
                case.volume.maintenance.gc()
                check_one_of(case.state(), [state], at)
            if number % 3 == 2:
                write_all(case)
                finish_all(case)
            else:
                scenario.act(case)
                scenario.act(case)
                check_one_of(case.state(), expected.states[-1:], at)
                assert finish_all(case) == expected.ends, at
            case.check_sound()


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_is_repeatable_after_a_crash(original: Path, place: Path, name: str) -> None:
    check_crashes(original, place, OPERATIONS[name], calls if name in WITH_CALLS else steps)


@pytest.mark.parametrize("name", ["set another base", "rebase"])
def test_a_crash_without_renameat2_exchange(
    original: Path, place: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NFS has no RENAME_EXCHANGE."""
    renameat2 = syscalls.renameat2

    def plain(src_dir: int, src: bytes, dst_dir: int, dst: bytes, flags: int) -> None:
        if flags & syscalls.RENAME_EXCHANGE:
            raise OSError(22, "Invalid argument")
        renameat2(src_dir, src, dst_dir, dst, flags)

    monkeypatch.setattr(syscalls, "renameat2", plain)
    check_crashes(original, place, OPERATIONS[name], calls if name in WITH_CALLS else steps)


# In the operations with most steps the errors but ENOSPC take turns.
LONGEST = ["set a base", "rebase", "finish onto a base that moved"]
TRIALS = [
    (name, error) for name, error in trials(OPERATIONS) if error == "ENOSPC" or name in LONGEST or THOROUGH
]


@pytest.mark.parametrize(("name", "error"), TRIALS)
def test_an_operation_is_repeatable_after_an_error(
    original: Path, place: Path, name: str, error: str
) -> None:
    scenario = OPERATIONS[name]
    expected = expect(original, place / "clean", scenario)
    for number in worth_trying(expected.labels)[:-1]:
        path = place / f"volume-{number}"
        with cloned(original, path) as case:
            kind = error_of(error, number)
            at = f"{kind} at {expected.labels[number]}, step {number}"
            case.state()  # fills the caches
            assert failing(partial(scenario.act, case), ERRORS[kind](number)) == kind, at
            state = case.state()
            with Volume.open(path) as volume:
                check_one_of(Case(volume).state(), [state], at)
            case.check_sound()
            if case.is_committed:
                check_committed(case, expected)
                if number % 2:
                    with Volume.open(path) as volume:  # the failed one is not used again
                        volume.recover()
                        check_one_of(Case(volume).state(), expected.states[-1:], at)
                        join_threads()
                    continue
            else:
                check_one_of(state, [*expected.between, *expected.states], at)
                if number % 2:
                    write_all(case)
                    finish_all(case)
                    case.check_sound()
                    continue
            scenario.act(case)
            scenario.act(case)
            check_one_of(case.state(), expected.states[-1:], at)
            assert finish_all(case) == expected.ends, at
            case.check_sound()


def check_committed(case: Case, expected: Expected) -> None:
    """Asserts that the version is whole, each alias old or new, and the patch read-only."""
    old, _, new = expected.states
    state = case.state()
    assert state.pending == old.pending
    assert {version: tree for version, (tree, _) in state.versions.items()} == {
        version: tree for version, (tree, _) in new.versions.items()
    }
    for alias, target in state.aliases.items():
        assert target in (old.aliases.get(alias), new.aliases.get(alias))
    fs = case.mounted(JOB)
    with fails(30):
        write(fs, b"brand new")
    for path, entry in case.entries(JOB).items():
        if entry.kind == stat.S_IFREG:
            for flags in (os.O_WRONLY, os.O_RDWR | os.O_TRUNC):
                with fails(30):
                    fs.open(path, flags)
            with fails(30):
                fs.chmod(path, 0o600)
            with fails(30):
                fs.unlink(path)
            assert read(fs, path) == entry.content
