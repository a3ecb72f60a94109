"""Each durable step fails: the call says so, nothing is half done, and the same works afterwards.

Only what follows a commit can't be taken back. When that fails, the version stands and its tree can't change
any more, until the same finish, or the next opening of the volume, does the rest.
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
from tests.crash.maintenance import OPERATIONS, Told, leave_all, tell

pytestmark = pytest.mark.usefixtures("no_syncs")


@pytest.mark.parametrize(("name", "error"), trials(OPERATIONS))
def test_an_error_leaves_the_old_or_the_new(place: Path, name: str, error: str) -> None:
    scenario = OPERATIONS[name]
    told = tell(place, scenario)
    for number in worth_trying(told.labels)[:-1]:
        kind = error_of(error, number)
        with cloned(place / "original", place / f"volume-{number}") as case:
            at = f"{kind} at {told.labels[number]}, step {number}"
            case.state()  # from here on the kernel knows how it looks
            raised = failing(partial(scenario.act, case), ERRORS[kind](number))
            assert raised == kind or (raised == "nothing" and scenario.forgives), at
            check_after(case, scenario, told, at, again=bool(number % 2))


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_write_that_is_short_before_the_disk_is_full(place: Path, name: str) -> None:
    scenario = OPERATIONS[name]
    told = tell(place, scenario)
    with cloned(place / "original", place / "short") as case, short_writes(0) as sizes:
        scenario.act(case)
        assert case.state() == told.new, "all writes are short"
    for number in range(len(sizes)):
        code = (errno.ENOSPC, errno.EDQUOT, errno.EIO)[number % 3]
        with cloned(place / "original", place / f"volume-{number}") as case:
            case.state()
            at = f"{errno.errorcode[code]} after half of write {number}"
            with short_writes(number, then=code) as seen:
                raised = failing(partial(scenario.act, case), lambda _: None)
            if len(seen) <= number + 1 and raised == "nothing":
                continue  # fewer writes than where each is short
            assert raised == errno.errorcode[code] or (raised == "nothing" and scenario.forgives), at
            check_after(case, scenario, told, at, again=bool(number % 2))


READING = ["seal", "seal with files that are stored", "seal what is unchanged", "forced seal", "gc"]


@pytest.mark.parametrize("name", [*READING, "finish what was linked", "finish what was committed"])
def test_a_read_that_fails(place: Path, name: str) -> None:
    """Of what is hashed, compared or looked up: nothing is taken for something else than it is."""
    scenario = OPERATIONS[name]
    told = tell(place, scenario)
    labels: list[str] = []
    with cloned(place / "original", place / "read") as case, reads(labels.append):
        scenario.act(case)
    assert "read:preadv" in labels or name not in READING[:3]
    for number in worth_trying(labels)[:-1]:
        with cloned(place / "original", place / f"volume-{number}") as case:
            case.state()
            at = f"EIO at {labels[number]}, read {number}"
            raised = failing(partial(scenario.act, case), bad_sector(number), reads)
            if raised == "nothing":  # the store's own file could not be read: it is stored anew
                assert case.state() == told.new, at
                case.check_sound()
                continue
            assert raised == "EIO", at
            check_after(case, scenario, told, at, again=bool(number % 2))


def check_after(case: Case, scenario: Scenario, told: Told, at: str, *, again: bool) -> None:
    """What an error leaves is the old or the new, or a version whose finish can be done again."""
    state = case.state()
    committed = case.is_committed
    if committed:
        check_committed(case, state, told.old, told.new)
    else:
        assert state in told.states, at
    case.check_sound()
    if state == told.old and not committed:
        check_writable(case)
        assert case.state() == told.old
    if committed and again:
        with Volume.open(case.volume.path) as volume:  # beside the one that failed, which is never used again
            volume.recover()
            assert Case(volume).state().versions == told.new.versions, at
            assert Case(volume).state().pending == told.new.pending, at
            join_threads()
        return
    if committed or state != told.new:
        scenario.act(case)
        assert case.state() == told.new, at
    for name in state.pending if state == told.new else told.new.pending:
        leave_all(case, name)
    case.finish_all()
    case.commit(b"another", many)
    case.check_sound()


def check_committed(case: Case, state: State, old: State, new: State) -> None:
    """The version is whole, no alias is anywhere but before or after, and its tree takes no change."""
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
    """All that was pending can be changed, and is put back as it was."""
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
