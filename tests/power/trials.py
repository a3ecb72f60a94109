"""Cuts the power at each durable step of an operation: the state is the old or the new one.

A cut right after its end keeps what was acknowledged. A missing or misplaced fsync leaves an empty file or a
missing name. The scenarios are those of the crash tests, which crash only
the process, and some more.
"""

from __future__ import annotations

import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from artfs.errors import NotAVolume
from artfs.seal.seal import Request
from artfs.store.layout import Layout
from artfs.volume.volume import Volume
from tests.crash.faults import join_threads, steps, worth_trying
from tests.crash.harness import NAME, SCENARIOS, Case, Scenario, State, many, prepared, small
from tests.crash.maintenance import leave_all
from tests.crash.patches import BASES, FINISHES, GC, STORIES, check_one_of, finish_all, timeless
from tests.crash.test_interrupted_upgrade import check_upgraded, open_and_close
from tests.formats import format_1
from tests.power.images import Image

Numbers = Callable[[list[str]], list[int]]


def _prepare_notes(case: Case) -> None:
    case.commit(b"first", small, "best")
    case.start(b"job", many)


def _note(case: Case) -> None:
    case.collection.update_labels(
        0, description="described", tags=("a", "b"), ttl=3600, metadata={"accuracy": 0.5}
    )


def _describe_pending(case: Case) -> None:
    case.volume.trees.get(NAME, b"job").pending_version.change(
        aliases=("named",), tags=("t",), description="described"
    )


def _join(case: Case) -> None:
    case.volume.trees.get(NAME, b"job").pending_version.runs.join("run-1")


def _force(case: Case) -> None:
    case.volume.finish(case.collection, b"job", Request(("best",), wait=0, force=True, by="tester"))


OPERATIONS: dict[str, Scenario] = {
    **SCENARIOS,
    **BASES,
    **FINISHES,
    "gc beside patches": GC["gc"],
    "note something of a version": Scenario(_prepare_notes, _note),
    "describe what is pending": Scenario(_prepare_notes, _describe_pending),
    "join": Scenario(_prepare_notes, _join),
    "finish by force": Scenario(_prepare_notes, _force),
}
#: Stories whose changes are system calls that are not durable before an fsync.
CHANGES: dict[str, Scenario] = {name: story.scenario for name, story in STORIES.items()}


@dataclass
class Expected:
    """An operation without failures."""

    labels: list[str]
    states: list[State]  # before and after; of a story, after each change
    between: list[State]  # also possible after a cut


class Trial:
    """One operation, run many times in copies of one volume on an image."""

    def __init__(self, image: Image, name: str) -> None:
        self._image, self.name = image, name
        self._scenario = OPERATIONS.get(name) or CHANGES[name]
        self._original = image.root / "original"
        with prepared(self._original, self._scenario):
            pass
        image.sync()
        self.expected = self._expect()

    def __enter__(self) -> Trial:
        return self

    def __exit__(self, *_: object) -> None:
        join_threads()
        shutil.rmtree(self._original, ignore_errors=True)

    def run(self, numbers: Numbers = worth_trying) -> int:
        """Cuts the power at steps of these numbers; returns the number of cuts."""
        tried = numbers(self.expected.labels)
        for number in tried:
            with self._copy(f"volume-{number}") as path:
                self._cut_at(number, path)
        return len(tried)

    def _expect(self) -> Expected:
        expected = Expected([], [], [])
        if self._scenario.between is not None:
            with self._copy("between") as path, Volume.open(path) as volume:
                self._scenario.between(Case(volume))
                expected.between.append(Case(volume).state())
                join_threads()
        with self._copy("clean") as path, Volume.open(path) as volume:
            case = Case(volume)
            expected.states.append(case.state())
            if self.name in CHANGES:
                with steps(expected.labels.append):
                    for op in STORIES[self.name].ops:
                        op(case.mounted(b"job"))
                        expected.states.append(case.state())
            else:
                with steps(expected.labels.append):
                    self._scenario.act(case)
                expected.states.append(case.state())
            join_threads()
        return expected

    def _copy(self, name: str) -> _Copy:
        return _Copy(self._image, self._original, self._image.root / name)

    def _cut_at(self, number: int, path: Path) -> None:
        label = self._image.cut_at(number, lambda: self._scenario.act(Case(Volume.open(path))))
        at = f"{self.name}: after the power was cut at {label}, step {number}"
        assert label == (self.expected.labels[number] if number < len(self.expected.labels) else None), at
        with Volume.open(path) as volume:
            volume.recover(alone=True)
            case = Case(volume)
            state = case.state()
            if self.name in CHANGES:
                # None of the changes was synced, so any prefix of them may exist.
                check_one_of(timeless(state), [timeless(one) for one in self.expected.states], at)
            else:
                check_one_of(state, self._allowed(label), at)
            case.check_sound()
            if number % 2:
                volume.maintenance.gc()
            for name in state.pending:
                leave_all(case, name)
            finish_all(case)
            case.check_sound()
            case.commit(b"another", many)
            case.check_sound()
            join_threads()

    def _allowed(self, label: str | None) -> list[State]:
        old, new = self.expected.states
        return [new] if label is None else [old, *self.expected.between, new]


class _Copy:
    """A copy of a volume, durable, for the time of a with block."""

    def __init__(self, image: Image, original: Path, path: Path) -> None:
        self._image, self._original, self._path = image, original, path

    def __enter__(self) -> Path:
        subprocess.run(["cp", "-a", self._original, self._path], check=True)
        self._image.sync()
        return self._path

    def __exit__(self, *_: object) -> None:
        join_threads()
        shutil.rmtree(self._path, ignore_errors=True)


def some(seed: int, most: int) -> Numbers:
    """Chooses random steps; the end is always among them."""

    def numbers(labels: list[str]) -> list[int]:
        worth = worth_trying(labels)
        chosen = random.Random(seed).sample(worth[:-1], min(most, len(worth) - 1))
        return sorted({*chosen, worth[-1]})

    return numbers


def cut_inits(image: Image, numbers: Iterator[int]) -> int:
    """Cuts the power at each step of an init; returns the number of cuts."""
    for count, number in enumerate(numbers, 1):
        path = image.root / f"made-{number}"
        label = image.cut_at(number, lambda path=path: Volume.init(path))  # type: ignore[misc]
        try:
            volume = Volume.open(path)
        except NotAVolume:
            assert label is not None, "a volume that was answered is gone"
            volume = Volume.init(path)
        with volume:
            volume.recover()
            volume.catalog.create(NAME)
            case = Case(volume)
            case.commit(b"job", many, "best")
            case.check_sound()
            join_threads()
        shutil.rmtree(path)
        if label is None:
            return count
    raise AssertionError("it never came to its end")


def cut_collections(image: Image, numbers: Iterator[int]) -> int:
    """Cuts the power at each step of making and removing a collection; returns the number of cuts."""
    for count, number in enumerate(numbers, 1):
        path = image.root / f"with-{number}"
        with Volume.init(path) as volume:
            volume.catalog.create("removed")
        image.sync()

        def act(path: Path = path) -> None:
            with Volume.open(path) as volume:
                volume.catalog.create(NAME, collection_type="type")
                volume.catalog.remove("removed")

        label = image.cut_at(number, act)
        with Volume.open(path) as volume:
            volume.recover()
            names = volume.catalog.names()
            assert names in ([NAME], [NAME, "removed"], ["removed"], []), names
            assert label is not None or names == [NAME]
            if NAME in names:
                assert volume.catalog.collection(NAME).type == "type"
            else:
                volume.catalog.create(NAME)
            Case(volume).commit(b"job", many)
            Case(volume).check_sound()
            join_threads()
        shutil.rmtree(path)
        if label is None:
            return count
    raise AssertionError("it never came to its end")


def cut_upgrades(image: Image, numbers: Iterator[int]) -> int:
    """Cuts the power at each step of opening a volume of format 1; returns the number of cuts."""
    for count, number in enumerate(numbers, 1):
        path = format_1(image.root / f"old-{number}")
        image.sync()
        label = image.cut_at(number, lambda path=path: open_and_close(path))  # type: ignore[misc]
        with Layout.open(path) as layout:
            assert label is not None or layout.is_current
        check_upgraded(path)
        join_threads()
        shutil.rmtree(path)
        if label is None:
            return count
    raise AssertionError("it never came to its end")
