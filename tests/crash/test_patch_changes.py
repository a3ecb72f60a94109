"""A change of a patch crashes or fails at each of its steps: it is made or not, and then can be made.

The steps are the durable ones, and all other system calls that change something. Of the latter one crashes
and the next one fails; with ``ARTFS_THOROUGH`` each does both. Between them a directory's time may not yet be
restored; nothing else is ever half done.
"""

from __future__ import annotations

import errno
import gc
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from artfs.store import durable
from artfs.volume.volume import Volume
from tests.conformance.helpers import fails
from tests.crash.faults import Announced, bad_sector, calls, crash, full_disk, remove, steps
from tests.crash.harness import Case, State, cloned, prepared
from tests.crash.patches import JOB, STORIES, Op, Story, check_one_of, finish_all, timeless
from tests.thorough import THOROUGH

pytestmark = pytest.mark.usefixtures("no_syncs")


@dataclass
class Expected:
    """A story without failures: its steps, and the state after each change."""

    story: Story
    labels: list[str]
    changes: list[int]  # of each step, which change it belongs to
    states: list[State]

    def worth_trying(self) -> list[int]:
        """Returns the numbers of the steps; of those that repeat within a change only the first."""
        around = [None, *self.labels, None]
        seen = {
            (change, *around[number : number + 3]): number
            for number, change in reversed(list(enumerate(self.changes)))
        }
        return sorted(seen.values())

    def every_other(self, turn: int) -> list[int]:
        """Returns these numbers, but of the steps that are not durable every second one, from ``turn`` on."""
        return [
            number
            for count, number in enumerate(self.worth_trying())
            if THOROUGH or count % 2 == turn or not self.labels[number].startswith("call:")
        ]

    def allowed(self, number: int, *, strictly: bool) -> list[State]:
        """Returns the states allowed after the story stopped before a step."""
        change = self.changes[number] if number < len(self.changes) else len(self.states) - 1
        states = self.states[change : change + 2]
        return states if strictly else [timeless(state) for state in states]


def expect(original: Path, path: Path, story: Story, announced: Announced = calls) -> Expected:
    expected = Expected(story, [], [], [])
    with cloned(original, path) as case:
        expected.states.append(case.state())
        for number, op in enumerate(story.ops):
            with announced(expected.labels.append):
                op(case.mounted(JOB))
            expected.changes += [number] * (len(expected.labels) - len(expected.changes))
            expected.states.append(case.state())
        finish_all(case)
        case.check_sound()
    return expected


def act(case: Case, ops: list[Op]) -> None:
    for op in ops:
        op(case.mounted(JOB))


@pytest.fixture
def original(place: Path, name: str) -> Iterator[Path]:
    """A volume in which the story can be run, to be cloned for each trial."""
    path = place / "original"
    with prepared(path, STORIES[name].scenario):
        pass
    yield path
    remove(path)


@pytest.mark.parametrize("name", STORIES)
def test_a_change_of_a_patch_can_be_repeated_after_a_crash(original: Path, place: Path, name: str) -> None:
    expected = expect(original, place / "clean", STORIES[name])
    for number in [*expected.every_other(0), len(expected.labels)]:
        with cloned(original, place / f"volume-{number}") as case:
            crash_at(number, case, expected)


def crash_at(number: int, case: Case, expected: Expected) -> None:
    path, ops = case.volume.path, expected.story.ops
    label = crash(number, lambda: act(Case(Volume.open(path)), ops), calls)
    case.volume.recover()
    at = f"after a crash at {label}, step {number}"
    assert label == (expected.labels[number] if number < len(expected.labels) else None)
    state = case.state()
    strictly = label is None or not label.startswith("call:")
    check_one_of(state if strictly else timeless(state), expected.allowed(number, strictly=strictly), at)
    if label is not None:
        complete(case, expected, number, state, at)
    finish_all(case)
    case.check_sound()


def complete(case: Case, expected: Expected, number: int, state: State, at: str) -> None:
    """Makes the remaining changes."""
    made = expected.changes[number] + (timeless(state) != timeless(expected.states[expected.changes[number]]))
    act(case, expected.story.ops[made:])
    check_one_of(timeless(case.state()), [timeless(expected.states[-1])], f"{at}, and then all again")


@pytest.mark.parametrize("name", STORIES)
def test_a_full_disk_leaves_a_patch_unchanged(original: Path, place: Path, name: str) -> None:
    """The change is refused, and leaves nothing that takes space."""
    expected = expect(original, place / "clean", STORIES[name])
    durables = [number for number, label in enumerate(expected.labels) if not label.startswith("call:")]
    for left, number in enumerate(durables):
        with cloned(original, place / f"volume-{number}") as case:
            fill_up_at(number, left, case, expected)


def fill_up_at(number: int, left: int, case: Case, expected: Expected) -> None:
    change, ops = expected.changes[number], expected.story.ops
    at = f"ENOSPC at {expected.labels[number]}, step {number}"
    with steps(full_disk(left)):
        act(case, ops[:change])
        with fails(errno.ENOSPC):
            act(case, ops[change : change + 1])
    check_one_of(case.state(), [expected.states[change]], at)
    with Volume.open(case.volume.path) as volume:
        check_one_of(Case(volume).state(), [expected.states[change]], at)
    act(case, ops[change:])
    check_one_of(case.state(), [expected.states[-1]], f"{at}, and then all again")
    assert left_behind(case) == [], at
    finish_all(case)
    case.check_sound()


@pytest.mark.parametrize("name", STORIES)
def test_a_change_of_a_patch_can_be_repeated_after_an_error(original: Path, place: Path, name: str) -> None:
    """One system call fails: the caller sees what is on disk, and can repeat the change."""
    expected = expect(original, place / "clean", STORIES[name])
    for number in expected.every_other(1):
        with cloned(original, place / f"volume-{number}") as case:
            fail_at(number, case, expected)
            finish_all(case)
            case.check_sound()


@pytest.mark.parametrize("name", ["second names", "xattrs", "modes", "times of files"])
def test_an_error_leaves_no_staged_file(original: Path, place: Path, name: str) -> None:
    """One of the calls on a file without a name fails too."""
    announced = partial(calls, staged=True)
    expected = expect(original, place / "clean", STORIES[name], announced)
    for number in expected.worth_trying():
        with cloned(original, place / f"volume-{number}") as case:
            fail_at(number, case, expected, announced)
            assert left_behind(case) == [], f"EIO at {expected.labels[number]}, step {number}"


def fail_at(number: int, case: Case, expected: Expected, announced: Announced = calls) -> None:
    change, ops = expected.changes[number], expected.story.ops
    at = f"EIO at {expected.labels[number]}, step {number}"
    raised = 0
    with announced(bad_sector(number)):
        act(case, ops[:change])
        try:
            act(case, ops[change : change + 1])
        except OSError as error:
            raised = error.errno or 0
    assert raised in (0, errno.EIO), at
    state = case.state()
    allowed = expected.allowed(number, strictly=False)
    check_one_of(timeless(state), allowed if raised else allowed[1:], at)
    with Volume.open(case.volume.path) as volume:
        check_one_of(Case(volume).state(), [state], f"{at}, opened again")
    complete(case, expected, number, state, at)


def left_behind(case: Case) -> list[str]:
    """Returns what is beside a pending tree, except for whiteouts, which the tree's removal removes."""
    gc.collect()  # the frames of a raised error keep a refused copy
    pending = case.tree(JOB).parent
    found = [entry for entry in pending.iterdir() if entry.name.startswith(os.fsdecode(durable.TEMP_PREFIX))]
    return [entry.name for entry in found if not entry.is_dir() or os.path.lexists(entry / ".artfs@lower")]
