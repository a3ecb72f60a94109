"""Each durable step fails: the call says so, nothing is half done, and the same works afterwards.

Only what follows a commit can't be taken back. When that fails, the version stands and its tree can't change
any more, until the same finish, or the next opening of the volume, does the rest.
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from artfs.volume import Volume
from tests.conformance.helpers import fails, read, write
from tests.crash.faults import (
    ERRORS,
    failing,
    join_threads,
    remove,
    steps,
    worth_trying,
)
from tests.crash.harness import SCENARIOS, Case, State, many, prepared

pytestmark = pytest.mark.usefixtures("no_syncs")


# A full disk is what happens; the others go the same ways where they are tried.
ALL_ERRORS = ["start", "seal with files that are stored", "seal what is unchanged", "discard"]
TRIALS = [(name, error) for name in SCENARIOS for error in ERRORS if error == "ENOSPC" or name in ALL_ERRORS]


@pytest.mark.parametrize(("name", "error"), TRIALS)
def test_an_error_leaves_the_old_or_the_new(tmp_path: Path, name: str, error: str) -> None:
    scenario = SCENARIOS[name]
    labels: list[str] = []
    with prepared(tmp_path / "clean", scenario) as clean:
        with steps(labels.append):
            scenario.act(clean)
        new = clean.state()
    for number in worth_trying(labels)[:-1]:
        path = tmp_path / f"volume-{number}"
        with prepared(path, scenario) as case:
            old = case.state()
            raised = failing(partial(scenario.act, case), ERRORS[error](number))
            at = f"{error} at {labels[number]}, step {number}"
            assert raised == error, at
            state = case.state()
            committed = case.is_committed
            both = replace(new, aliases={**old.aliases, **new.aliases})
            if committed:
                check_committed(case, state, old, new)
            else:
                assert state in ([old, new, both] if scenario.two else [old, new]), at
            case.check_sound()
            if state == old and not committed:
                check_writable(case)
                assert case.state() == old
            if committed and number % 2:
                with Volume.open(path) as volume:  # beside the one that failed, which is never used again
                    volume.recover()
                    assert Case(volume).state() == new, at
                    join_threads()
                remove(path)
                continue
            if committed or state != new:
                scenario.act(case)
                assert case.state() == new, at
            case.check_sound()
            case.finish_all()
            case.commit(b"another", many)
            case.check_sound()
        remove(path)


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
    for name in case.volume.pending_names(case.collection):
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
