"""Scenarios of changes to a collection other than sealing: labels, runs, metadata, recovery.

They are run like those of :mod:`tests.crash.harness`.
"""

from __future__ import annotations

import contextlib
import errno
import os
from dataclasses import dataclass
from pathlib import Path

from artfs.catalog.runs import RecordedRun
from artfs.model.scope import Scope
from artfs.pending.pending_version import PendingLabels
from artfs.seal.seal import Request
from tests.crash.faults import steps
from tests.crash.harness import (
    NAME,
    SCENARIOS,
    Case,
    Scenario,
    State,
    cloned,
    many,
    prepared,
    settle_times,
    small,
)

JOB = b"job"


def _version(case: Case) -> None:
    case.commit(b"first", small, "best")


def _labelled(case: Case) -> None:
    _version(case)
    case.collection.update_labels(0, tags=("old",))


def _started(case: Case) -> None:
    case.start(JOB, small, aliases=("early",), tags=("t",))
    case.volume.trees.get(NAME, JOB).pending_version.runs.join("run-0")


def _force(case: Case) -> None:
    with contextlib.ExitStack() as stack:
        if not case.is_committed:  # else nothing can be opened to write any more
            stack.enter_context(case.mounted(JOB).open(b"small", os.O_RDWR))
        case.volume.finish(case.collection, JOB, Request(("best",), force=True, by="tester"))


def _draft(case: Case):
    return case.volume.trees.get(NAME, JOB).pending_version


def _failed_after_the_commit(case: Case) -> None:
    """Leaves a version whose finish did not complete."""
    case.start(JOB, many, aliases=("best",))

    def fail(label: str) -> None:
        if label == "alias:lock":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with steps(fail), contextlib.suppress(OSError):
        case.finish(JOB)
    assert case.is_committed


def _failed_before_the_commit(case: Case) -> None:
    """Leaves a pending tree whose files are linked to blobs."""

    def fail(label: str) -> None:
        if label == "seal:commit":
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    def linked(root):
        many(root)
        os.link(root / "plain", root / "dir" / "a third name")
        settle_times(root)

    case.start(JOB, linked)
    with steps(fail), contextlib.suppress(OSError):
        case.finish(JOB)


def _failed_flush(case: Case) -> None:
    case.volume.store.failed_flush.record(OSError(errno.EIO, os.strerror(errno.EIO)))


def _version_and_failed_flush(case: Case) -> None:
    _version(case)
    _failed_flush(case)


MAINTENANCE = {
    "forced seal": Scenario(lambda case: case.start(JOB, small), _force),
    "finish what was committed": Scenario(_failed_after_the_commit, lambda case: case.finish(JOB, "best")),
    "recover what was committed": Scenario(
        _failed_after_the_commit, lambda case: case.volume.recover(), forgives=True
    ),
    "finish what was linked": Scenario(_failed_before_the_commit, lambda case: case.finish(JOB)),
    "discard what was linked": Scenario(_failed_before_the_commit, lambda case: case.discard(JOB)),
    "describe a collection": Scenario(_version, lambda case: case.collection.set_description("told")),
    "set its scope": Scenario(_version, lambda case: case.collection.claim(Scope("me", "demo"))),
    "tag the collection": Scenario(_version, lambda case: case.collection.set_tags(["gold", "frozen"])),
    "set its ttl": Scenario(_version, lambda case: case.collection.set_ttl(3600)),
    "give a collection a type": Scenario(lambda case: None, lambda case: case.collection.set_type("dataset")),
    "change labels": Scenario(
        _version,
        lambda case: case.collection.update_labels(
            0, description="told", tags=("a", "b"), metadata={"accuracy": 0.5}, ttl=60
        ),
    ),
    "change labels again": Scenario(
        _labelled,
        lambda case: case.collection.update_labels(0, tags=("new",)),
    ),
    "change pending labels": Scenario(
        _started, lambda case: _draft(case).change(aliases=("other",), tags=(), description="told")
    ),
    "change metadata": Scenario(_started, lambda case: _draft(case).set_metadata(b'{"a": 1}')),
    "change pending labels and metadata": Scenario(
        _started,
        lambda case: _draft(case).annotate(
            lambda _settings, _metadata: (PendingLabels(("x",)), b'{"b": 2}\n')
        ),
        between=lambda case: _draft(case).set_metadata(b'{"b": 2}'),
    ),
    "record a failed flush": Scenario(_version, _failed_flush, forgives=True),
    "gc after a failed flush": Scenario(_version_and_failed_flush, lambda case: case.volume.maintenance.gc()),
    "a run joins": Scenario(_started, lambda case: _draft(case).runs.join("run-1")),
    "a run leaves": Scenario(_started, lambda case: _draft(case).runs.leave("run-0")),
    "expect references": Scenario(
        _started, lambda case: case.volume.trees.get(NAME, JOB).expect_references()
    ),
    "a run begins": Scenario(_version, lambda case: case.volume.runs.create(RecordedRun(id="run-1"))),
    "a run ends": Scenario(
        lambda case: case.volume.runs.create(RecordedRun(id="run-1")),
        lambda case: case.volume.runs.end("run-1"),
    ),
    "a run uses a version": Scenario(
        _version,
        lambda case: case.volume.record_use(case.collection, 0, "run-1"),
        between=lambda case: case.collection.add_used_by(0, "run-1"),
    ),
}

#: All operations on a collection without patches.
OPERATIONS = {**SCENARIOS, **MAINTENANCE}


@dataclass
class Expected:
    """An operation without failures: its steps, and the visible states before and after."""

    labels: list[str]
    old: State
    new: State
    #: What may be seen after a crash.
    states: list[State]
    #: Whether it ends a pending version, and so cannot be repeated.
    ends_pending: bool


def expect(place: Path, scenario: Scenario) -> Expected:
    """Prepares a scenario in ``place/original``, to be cloned for each trial, and runs it in a clone."""
    with prepared(place / "original", scenario) as case:
        old = case.state()
    states = [old]
    if scenario.between is not None:
        with cloned(place / "original", place / "between") as case:
            scenario.between(case)
            states.append(case.state())
    labels: list[str] = []
    with cloned(place / "original", place / "clean") as case:
        with steps(labels.append):
            scenario.act(case)
        states.append(case.state())
    return Expected(labels, old, states[-1], states, bool(old.pending))


def leave_all(case: Case, name: bytes) -> None:
    """Makes every run leave the pending version, so that it can be finished."""
    pending_version = case.volume.trees.get(NAME, name).pending_version
    for run in pending_version.runs.names():
        pending_version.runs.leave(run)
