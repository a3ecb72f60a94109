"""Single system calls of an operation fail: it reports that or does without, and the state is old or new."""

from __future__ import annotations

import errno
import shutil
import subprocess
from pathlib import Path

from artfs.volume.volume import Volume
from tests.crash.faults import join_threads
from tests.crash.harness import Case, State, prepared
from tests.crash.maintenance import leave_all
from tests.crash.patches import check_one_of, finish_all
from tests.power.injecting import Injected, inject
from tests.power.trials import OPERATIONS

_SYNCS = ("fsync", "fdatasync", "syncfs")


class Failing:
    """One operation, run in copies of one volume."""

    def __init__(self, place: Path, name: str) -> None:
        self.name, self._place, self._scenario = name, place, OPERATIONS[name]
        self._original = place / "original"
        with prepared(self._original, self._scenario):
            pass
        self.between: list[State] = []
        if self._scenario.between is not None:
            with Volume.open(self._copy("between")) as volume:
                self._scenario.between(Case(volume))
                self.between.append(Case(volume).state())
                join_threads()
            shutil.rmtree(place / "between")
        path = self._copy("clean")
        with Volume.open(path) as volume:
            case = Case(volume)
            self.old = case.state()
            self._scenario.act(case)
            self.new = case.state()
            join_threads()
        shutil.rmtree(path)

    def run(self, call: str, error: str, when: int) -> bool:
        """Makes one call fail; returns False if there are not so many."""
        path = self._copy("volume")
        opened: list[Case] = []
        found = inject(
            lambda: self._scenario.act(opened[0]),
            call,
            error,
            when,
            prepare=lambda: opened.append(Case(Volume.open(path))),
        )
        at = f"{self.name}: {error} at {call} {when}, told as {errno.errorcode.get(found.error or 0)}"
        with Volume.open(path) as volume:
            volume.recover(alone=True)
            self._check(Case(volume), found, call, at)
            join_threads()
        shutil.rmtree(path)
        return found.hit

    def _check(self, case: Case, found: Injected, call: str, at: str) -> None:
        state = case.state()
        allowed = self._allowed()
        check_one_of(state, [self.new] if found.error is None else allowed, at)
        if found.hit and call in _SYNCS:
            assert found.error is not None, f"{at}: a sync that failed was answered as a success"
        case.check_sound()
        if state != self.new:
            self._scenario.act(case)
            check_one_of(case.state(), [self.new], f"{at}, and then the same again")
        for name in case.state().pending:
            leave_all(case, name)
        finish_all(case)
        case.check_sound()

    def _allowed(self) -> list[State]:
        return [self.old, *self.between, self.new]

    def _copy(self, name: str) -> Path:
        path = self._place / name
        shutil.rmtree(path, ignore_errors=True)
        subprocess.run(["cp", "-a", self._original, path], check=True)
        return path
