"""An error at each durable step: the call reports it, nothing is half done, and a retry succeeds.

Only what follows a commit cannot be undone. If that fails, the version exists and its tree is read-only until
the same finish, or the next opening of the volume, completes it.
"""

from __future__ import annotations

import errno
import os
import stat
from functools import partial
from pathlib import Path

import pytest

from artfs.volume.pending_trees import pending_names
from artfs.volume.volume import Volume
from tests.conformance.helpers import fails, read, write
from tests.crash.faults import (
    ERRORS,
    bad_sector,
    error_of,
    failing,
    join_threads,
    reads,
    short_writes,
    trials,
    worth_trying,
)
from tests.crash.harness import Case, Scenario, State, cloned, many
from tests.crash.maintenance import OPERATIONS, Expected, expect, leave_all

pytestmark = pytest.mark.usefixtures("no_syncs")


@pytest.mark.parametrize(("name", "error"), trials(OPERATIONS))
def test_an_error_leaves_the_old_or_the_new_state(place: Path, name: str, error: str) -> None:
    scenario = OPERATIONS[name]
    expected = expect(place, scenario)
    for number in worth_trying(expected.labels)[:-1]:
        kind = error_of(error, number)
        with cloned(place / "original", place / f"volume-{number}") as case:
            at = f"{kind} at {expected.labels[number]}, step {number}"
            case.state()  # fills the caches
            raised = failing(partial(scenario.act, case), ERRORS[kind](number))
            assert raised == kind or (raised == "nothing" and scenario.forgives), at
            check_after(case, scenario, expected, at, again=bool(number % 2))


@pytest.mark.parametrize("name", OPERATIONS)
def test_short_writes_leave_the_old_or_the_new_state(place: Path, name: str) -> None:
    scenario = OPERATIONS[name]
    expected = expect(place, scenario)
    with cloned(place / "original", place / "short") as case, short_writes(0) as sizes:
        scenario.act(case)
        assert case.state() == expected.new, "all writes are short"
    for number in range(len(sizes)):
        code = (errno.ENOSPC, errno.EDQUOT, errno.EIO)[number % 3]
        with cloned(place / "original", place / f"volume-{number}") as case:
            case.state()
            at = f"{errno.errorcode[code]} after half of write {number}"
            with short_writes(number, then=code) as seen:
                raised = failing(partial(scenario.act, case), lambda _: None)
            if len(seen) <= number + 1 and raised == "nothing":
                continue  # this operation makes fewer writes if only one is short
            assert raised == errno.errorcode[code] or (raised == "nothing" and scenario.forgives), at
            check_after(case, scenario, expected, at, again=bool(number % 2))


READING = ["seal", "seal with files that are stored", "seal what is unchanged", "forced seal", "gc"]


@pytest.mark.parametrize("name", [*READING, "finish what was linked", "finish what was committed"])
def test_a_failed_read_is_an_error_or_does_not_matter(place: Path, name: str) -> None:
    scenario = OPERATIONS[name]
    expected = expect(place, scenario)
    labels: list[str] = []
    with cloned(place / "original", place / "read") as case, reads(labels.append):
        scenario.act(case)
    assert "read:preadv" in labels or name not in READING[:3]
    for number in worth_trying(labels)[:-1]:
        with cloned(place / "original", place / f"volume-{number}") as case:
            case.state()
            at = f"EIO at {labels[number]}, read {number}"
            raised = failing(partial(scenario.act, case), bad_sector(number), reads)
            if raised == "nothing":  # the blob to compare with could not be read, so it is stored again
                assert case.state() == expected.new, at
                case.check_sound()
                continue
            assert raised == "EIO", at
            check_after(case, scenario, expected, at, again=bool(number % 2))


def check_after(case: Case, scenario: Scenario, expected: Expected, at: str, *, again: bool) -> None:
    """Asserts that the state is old, new, or a version whose finish can be repeated; then repeats it."""
    state = case.state()
    committed = case.is_committed
    if committed:
        check_committed(case, state, expected.old, expected.new)
    else:
        assert state in expected.states, at
    case.check_sound()
    if state == expected.old and not committed:
        check_writable(case)
        assert case.state() == expected.old
    if committed and again:
        with Volume.open(case.volume.path) as volume:  # the failed one is not used again
            volume.recover()
            assert Case(volume).state().versions == expected.new.versions, at
            assert Case(volume).state().pending == expected.new.pending, at
            join_threads()
        return
    if committed or state != expected.new:
        scenario.act(case)
        assert case.state() == expected.new, at
    for name in state.pending if state == expected.new else expected.new.pending:
        leave_all(case, name)
    case.finish_all()
    case.commit(b"another", many)
    case.check_sound()


def check_committed(case: Case, state: State, old: State, new: State) -> None:
    """Asserts that the version is whole, each alias old or new, and the tree read-only."""
    assert state.versions.keys() == new.versions.keys()
    assert {version: tree for version, (tree, _) in state.versions.items()} == {
        version: tree for version, (tree, _) in new.versions.items()
    }
    for alias, target in state.aliases.items():
        assert target in (old.aliases.get(alias), new.aliases.get(alias))
    assert state.pending == old.pending
    fs = case.mounted(b"job")
    with fails(errno.EROFS):
        write(fs, b"new")
    for path, entry in case.below(case.tree(b"job")).items():
        if entry.kind == stat.S_IFREG:
            for flags in (os.O_WRONLY, os.O_RDWR | os.O_TRUNC):
                with fails(errno.EROFS):
                    fs.open(path, flags)
            with fails(errno.EROFS):
                fs.truncate(path, 0)
            assert read(fs, path) == entry.content
    with fails(errno.EROFS):
        case.mounted(b"job").chmod(b"", 0o700)


def check_writable(case: Case) -> None:
    """Asserts that all pending files can be changed; restores them."""
    for name in pending_names(case.collection):
        fs = case.mounted(name)
        before = case.below(case.tree(name))
        write(fs, b"new", b"data")
        fs.unlink(b"new")
        for path, entry in before.items():
            if entry.kind == stat.S_IFREG:
                with fs.open(path, os.O_RDWR) as file:
                    file.pwrite(b"changed", 0)
        case.check_sound()
        for path, entry in before.items():
            if entry.kind == stat.S_IFREG:
                write(fs, path, entry.content)
        for path, entry in before.items():
            fs.utimens(path, entry.mtime, entry.mtime, follow=False)
