"""What is done to a patch as a whole crashes or fails at each step: a base is set, a finish, a rebase, a gc.

It is done or not, and can be done then. Nothing that was changed in the patch is ever lost, nor is anything
that others brought under the alias which is its base.
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

# Only in these does much come after the last step that is announced, or between two of them.
WITH_CALLS = ["set a base", "set another base", "take the base away"]
OPERATIONS = {**BASES, **FINISHES, **GC}


@dataclass
class Told:
    """What an operation is when nothing goes wrong."""

    labels: list[str]
    states: list[State]  # before, after, and after the same once more
    between: list[State]  # also possible after a crash or an error
    ends: dict[bytes, Tree]  # what comes of all that is pending then


def tell(original: Path, path: Path, scenario: Scenario, announced: Announced = steps) -> Told:
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
    return Told(labels, states, between, ends)


@pytest.fixture
def original(place: Path, name: str) -> Iterator[Path]:
    """A volume in which the operation can be done, to be copied for each trial."""
    path = place / "original"
    with prepared(path, OPERATIONS[name]):
        pass
    yield path
    remove(path)


def check_crashes(original: Path, place: Path, scenario: Scenario, announced: Announced = steps) -> None:
    told = tell(original, place / "clean", scenario, announced)
    for number in worth_trying(told.labels):
        with cloned(original, place / f"volume-{number}") as case:
            path = case.volume.path
            label = crash(number, lambda path=path: scenario.act(Case(Volume.open(path))), announced)  # type: ignore[misc]
            case.volume.recover()
            state = case.state()
            at = f"after a crash at {label}, step {number}"
            assert label == (told.labels[number] if number < len(told.labels) else None)
            check_one_of(state, [*told.between, *told.states] if label else told.states[1:], at)
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
                check_one_of(case.state(), told.states[-1:], at)
                assert finish_all(case) == told.ends, at
            case.check_sound()


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_crash(original: Path, place: Path, name: str) -> None:
    check_crashes(original, place, OPERATIONS[name], calls if name in WITH_CALLS else steps)


@pytest.mark.parametrize("name", ["set another base", "rebase"])
def test_a_crash_where_directories_cant_be_exchanged(
    original: Path, place: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on NFS."""
    renameat2 = syscalls.renameat2

    def plain(src_dir: int, src: bytes, dst_dir: int, dst: bytes, flags: int) -> None:
        if flags & syscalls.RENAME_EXCHANGE:
            raise OSError(22, "Invalid argument")
        renameat2(src_dir, src, dst_dir, dst, flags)

    monkeypatch.setattr(syscalls, "renameat2", plain)
    check_crashes(original, place, OPERATIONS[name], calls if name in WITH_CALLS else steps)


# In the operations that have most steps, each other error is tried at every third step.
LONGEST = ["set a base", "rebase", "finish onto a base that moved"]
TRIALS = [
    (name, error) for name, error in trials(OPERATIONS) if error == "ENOSPC" or name in LONGEST or THOROUGH
]


@pytest.mark.parametrize(("name", "error"), TRIALS)
def test_an_error(original: Path, place: Path, name: str, error: str) -> None:
    scenario = OPERATIONS[name]
    told = tell(original, place / "clean", scenario)
    for number in worth_trying(told.labels)[:-1]:
        path = place / f"volume-{number}"
        with cloned(original, path) as case:
            kind = error_of(error, number)
            at = f"{kind} at {told.labels[number]}, step {number}"
            case.state()  # from here on the kernel knows how it looks
            assert failing(partial(scenario.act, case), ERRORS[kind](number)) == kind, at
            state = case.state()
            with Volume.open(path) as volume:
                check_one_of(Case(volume).state(), [state], at)
            case.check_sound()
            if case.is_committed:
                check_committed(case, told)
                if number % 2:
                    with Volume.open(path) as volume:  # beside the one that failed, which is never used again
                        volume.recover()
                        check_one_of(Case(volume).state(), told.states[-1:], at)
                        join_threads()
                    continue
            else:
                check_one_of(state, [*told.between, *told.states], at)
                if number % 2:
                    write_all(case)
                    finish_all(case)
                    case.check_sound()
                    continue
            scenario.act(case)
            scenario.act(case)
            check_one_of(case.state(), told.states[-1:], at)
            assert finish_all(case) == told.ends, at
            case.check_sound()


def check_committed(case: Case, told: Told) -> None:
    """The version is whole, no alias is anywhere but before or after, and the patch takes no change."""
    old, _, new = told.states
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
