"""A change of a patch crashes or fails at each of its steps: made or not, and then it can be.

The steps are the durable ones, and all other system calls that change something. Of the latter one crashes
and the next one fails; with ``ARTFS_THOROUGH`` each does both. Between them a directory may have a time that
is about to be set back; nothing else is ever half done.
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
from tests.crash.patches import JOB, STORIES, Op, Story, check_one_of, finish_all, loosely
from tests.thorough import THOROUGH

pytestmark = pytest.mark.usefixtures("no_syncs")


@dataclass
class Told:
    """What a story is when nothing goes wrong: its steps, and what is seen after each change."""

    story: Story
    labels: list[str]
    changes: list[int]  # of each step, which change it belongs to
    states: list[State]

    def worth_trying(self) -> list[int]:
        """Returns the numbers of the steps, but of those that repeat within a change the first only."""
        around = [None, *self.labels, None]
        seen = {
            (change, *around[number : number + 3]): number
            for number, change in reversed(list(enumerate(self.changes)))
        }
        return sorted(seen.values())

    def every_other(self, turn: int) -> list[int]:
        """Returns these numbers, but of the steps that are not durable every other one, from ``turn`` on."""
        return [
            number
            for count, number in enumerate(self.worth_trying())
            if THOROUGH or count % 2 == turn or not self.labels[number].startswith("call:")
        ]

    def allowed(self, number: int, *, strictly: bool) -> list[State]:
        """What may be seen after the story ended before a step."""
        change = self.changes[number] if number < len(self.changes) else len(self.states) - 1
        states = self.states[change : change + 2]
        return states if strictly else [loosely(state) for state in states]


def tell(original: Path, path: Path, story: Story, announced: Announced = calls) -> Told:
    told = Told(story, [], [], [])
    with cloned(original, path) as case:
        told.states.append(case.state())
        for number, op in enumerate(story.ops):
            with announced(told.labels.append):
                op(case.mounted(JOB))
            told.changes += [number] * (len(told.labels) - len(told.changes))
            told.states.append(case.state())
        finish_all(case)
        case.check_sound()
    return told


def act(case: Case, ops: list[Op]) -> None:
    for op in ops:
        op(case.mounted(JOB))


@pytest.fixture
def original(place: Path, name: str) -> Iterator[Path]:
    """A volume in which the story can be acted, to be copied for each trial."""
    path = place / "original"
    with prepared(path, STORIES[name].scenario):
        pass
    yield path
    remove(path)


@pytest.mark.parametrize("name", STORIES)
def test_a_crash_in_a_change(original: Path, place: Path, name: str) -> None:
    told = tell(original, place / "clean", STORIES[name])
    for number in [*told.every_other(0), len(told.labels)]:
        with cloned(original, place / f"volume-{number}") as case:
            crash_at(number, case, told)


def crash_at(number: int, case: Case, told: Told) -> None:
    path, ops = case.volume.path, told.story.ops
    label = crash(number, lambda: act(Case(Volume.open(path)), ops), calls)
    case.volume.recover()
    at = f"after a crash at {label}, step {number}"
    assert label == (told.labels[number] if number < len(told.labels) else None)
    state = case.state()
    strictly = label is None or not label.startswith("call:")
    check_one_of(state if strictly else loosely(state), told.allowed(number, strictly=strictly), at)
    if label is not None:
        go_on(case, told, number, state, at)
    finish_all(case)
    case.check_sound()


def go_on(case: Case, told: Told, number: int, state: State, at: str) -> None:
    """Makes the changes that were not made."""
    made = told.changes[number] + (loosely(state) != loosely(told.states[told.changes[number]]))
    act(case, told.story.ops[made:])
    check_one_of(loosely(case.state()), [loosely(told.states[-1])], f"{at}, and then all again")


@pytest.mark.parametrize("name", STORIES)
def test_a_full_disk_in_a_change(original: Path, place: Path, name: str) -> None:
    """It is refused, has changed nothing, and leaves nothing that takes space."""
    told = tell(original, place / "clean", STORIES[name])
    durables = [number for number, label in enumerate(told.labels) if not label.startswith("call:")]
    for left, number in enumerate(durables):
        with cloned(original, place / f"volume-{number}") as case:
            fill_up_at(number, left, case, told)


def fill_up_at(number: int, left: int, case: Case, told: Told) -> None:
    change, ops = told.changes[number], told.story.ops
    at = f"ENOSPC at {told.labels[number]}, step {number}"
    with steps(full_disk(left)):
        act(case, ops[:change])
        with fails(errno.ENOSPC):
            act(case, ops[change : change + 1])
    check_one_of(case.state(), [told.states[change]], at)
    with Volume.open(case.volume.path) as volume:
        check_one_of(Case(volume).state(), [told.states[change]], at)
    act(case, ops[change:])
    check_one_of(case.state(), [told.states[-1]], f"{at}, and then all again")
    assert left_behind(case) == [], at
    finish_all(case)
    case.check_sound()


@pytest.mark.parametrize("name", STORIES)
def test_an_error_in_a_change(original: Path, place: Path, name: str) -> None:
    """Any system call fails once: who goes on sees what is on disk, and can do the same again."""
    told = tell(original, place / "clean", STORIES[name])
    for number in told.every_other(1):
        with cloned(original, place / f"volume-{number}") as case:
            fail_at(number, case, told)
            finish_all(case)
            case.check_sound()


@pytest.mark.parametrize("name", ["second names", "xattrs", "modes", "times of files"])
def test_an_error_while_something_is_built(original: Path, place: Path, name: str) -> None:
    """So does any of those that make what has no name yet: it is gone then."""
    announced = partial(calls, staged=True)
    told = tell(original, place / "clean", STORIES[name], announced)
    for number in told.worth_trying():
        with cloned(original, place / f"volume-{number}") as case:
            fail_at(number, case, told, announced)
            assert left_behind(case) == [], f"EIO at {told.labels[number]}, step {number}"


def fail_at(number: int, case: Case, told: Told, announced: Announced = calls) -> None:
    change, ops = told.changes[number], told.story.ops
    at = f"EIO at {told.labels[number]}, step {number}"
    raised = 0
    with announced(bad_sector(number)):
        act(case, ops[:change])
        try:
            act(case, ops[change : change + 1])
        except OSError as error:
            raised = error.errno or 0
    assert raised in (0, errno.EIO), at
    state = case.state()
    allowed = told.allowed(number, strictly=False)
    check_one_of(loosely(state), allowed if raised else allowed[1:], at)
    with Volume.open(case.volume.path) as volume:
        check_one_of(Case(volume).state(), [state], f"{at}, when it is opened anew")
    go_on(case, told, number, state, at)


def left_behind(case: Case) -> list[str]:
    """Returns what is left beside a pending tree, without whiteouts, which are removed with the tree."""
    gc.collect()  # a copy that was refused goes with the error, which its frames know
    pending = case.tree(JOB).parent
    found = [entry for entry in pending.iterdir() if entry.name.startswith(os.fsdecode(durable.TEMP_PREFIX))]
    return [entry.name for entry in found if not entry.is_dir() or os.path.lexists(entry / ".artfs@lower")]
