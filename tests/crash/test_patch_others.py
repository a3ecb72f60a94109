"""Other processes after a crash or an error: the next finish, readers, writers, and gc."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from artfs.volume.pending_trees import pending_names
from artfs.volume.volume import Volume
from tests.conformance.helpers import fails, read, write
from tests.crash.faults import ERRORS, bad_sector, calls, crash, failing, full_disk, steps, worth_trying
from tests.crash.harness import Case, Scenario, cloned, prepared, small
from tests.crash.patches import (
    JOB,
    append,
    check_one_of,
    chmod,
    edit,
    finish_all,
    layered,
    link,
    moved,
    patch,
    put_at,
    put_in,
    set_base,
    settle,
    timeless,
)

pytestmark = pytest.mark.usefixtures("no_syncs")


# The second of two patches of one alias


def _prepare_two(case: Case) -> None:
    case.commit(b"base", layered, "best")
    patch(case, b"one", "best", put_in(b"plain", b"ONE"))
    patch(case, b"two", "best", put_in(b"large", b"TWO"))
    patch(case, b"three", "best", settle)


TWO = Scenario(_prepare_two, lambda case: case.finish(b"one", "best"))

BETWEEN: dict[str, Callable[[Case], object]] = {
    "nothing": lambda case: None,
    "a finish without aliases": lambda case: case.commit(b"plain", small),
    "a finish with another alias": lambda case: case.commit(b"plain", small, "other"),
    "an untouched patch of it": lambda case: case.finish(b"three", "best"),
    "an edit of a new patch of it": lambda case: patch(case, b"four", "best", put_in(b"marked", b"FOUR")),
    "a gc": lambda case: case.volume.maintenance.gc(),
}


def check_both(case: Case) -> None:
    """Asserts that the alias names a version with both changes, before and after recovery."""
    for _ in range(2):
        best = case.version("best")
        committed = case.collection.finished(b"one") is not None
        assert best[b"plain"].content == (b"ONEin" if committed else b"plain")
        assert best[b"large"].content[:3] == b"TWO"
        case.volume.recover()
    case.check_sound()


@pytest.mark.parametrize("between", BETWEEN)
def test_a_patch_builds_on_what_a_killed_finish_committed(place: Path, between: str) -> None:
    with prepared(place / "original", TWO):
        pass
    labels: list[str] = []
    with cloned(place / "original", place / "clean") as case, steps(labels.append):
        TWO.act(case)
    for number in worth_trying(labels):
        if between != "nothing" and number < labels.index("seal:commit"):
            continue
        with cloned(place / "original", place / f"volume-{number}") as case:
            path = case.volume.path
            crash(number, lambda path=path: TWO.act(Case(Volume.open(path))))  # type: ignore[misc]
            BETWEEN[between](case)
            case.finish(b"two", "best")
            check_both(case)
            case.finish(b"one", *([] if case.collection.finished(b"one") else ["best"]))
            if b"four" in pending_names(case.collection):
                case.finish(b"four", "best")
                assert case.version("best")[b"marked"].content.startswith(b"FOUR")
            check_both(case)


def test_a_patch_builds_on_what_a_failed_finish_committed(place: Path) -> None:
    with prepared(place / "original", TWO):
        pass
    labels: list[str] = []
    with cloned(place / "original", place / "clean") as case, steps(labels.append):
        TWO.act(case)
    for number in range(labels.index("seal:commit"), len(labels)):
        with cloned(place / "original", place / f"volume-{number}") as case:
            assert failing(partial(TWO.act, case), full_disk(number)) == "ENOSPC"
            case.finish(b"two", "best")
            check_both(case)
            case.finish(b"one", *([] if case.collection.finished(b"one") else ["best"]))
            check_both(case)


# A gc that has read a patch before its rebase


def test_gc_keeps_what_a_rebase_meanwhile_needs(place: Path) -> None:
    def prepare(case: Case) -> None:
        case.commit(b"base", layered, "best")
        patch(case, JOB, "best", edit)
        case.commit(b"next", moved, "best")

    with prepared(place / "volume", Scenario(prepare, prepare)) as case:
        case.state()
        rebased = False

        def rebase(*_: object) -> None:
            nonlocal rebased
            if not rebased:
                rebased = True
                with Volume.open(case.volume.path) as other:
                    set_base(Case(other), "best")
                    put_at(Case(other).mounted(JOB), b"dir/deeper/same", b"written after")
                    states.append(Case(other).state())

        states: list[object] = []
        case.volume.maintenance.gc(progress=rebase)
        with Volume.open(case.volume.path) as volume:
            assert [Case(volume).state()] == states
            finish_all(Case(volume))
            Case(volume).check_sound()


# Open files


@pytest.mark.parametrize("label", ["copy-up:write", "copy-up:fsync", "overlay:lift", "overlay:copy-up"])
def test_readers_see_writes_after_a_failed_copy_up(place: Path, label: str) -> None:
    """Readers switch to the copy once it has its name, and never to one that gets none."""

    def prepare(case: Case) -> None:
        case.commit(b"base", layered)
        patch(case, JOB, "v0")

    def fail(reached: str) -> None:
        if reached == label:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with prepared(place / "volume", Scenario(prepare, prepare)) as case:
        fs = case.mounted(JOB)
        path = b"dir/deeper/same"
        with fs.open(path, os.O_RDONLY) as reader, fs.open(path, os.O_RDONLY) as other:
            for _ in range(2):
                with steps(fail), fails(errno.ENOSPC):
                    put_at(fs, path, b"SAME")
                assert reader.pread(10, 0) == b"same"
            put_at(fs, path, b"SAME")
            assert reader.pread(10, 0) == other.pread(10, 0) == read(fs, path) == b"SAME"
            write(fs, path, b"anew")
            assert reader.pread(10, 0) == b"anew"


def test_a_failed_chmod_loses_no_later_write(place: Path) -> None:
    """Handles opened before and after the error refer to the same file."""

    def prepare(case: Case) -> None:
        case.commit(b"base", layered)
        patch(case, JOB, "v0", settle)

    labels: list[str] = []
    path = b"plain"
    with prepared(place / "original", Scenario(prepare, prepare)):
        pass
    with cloned(place / "original", place / "clean") as case, calls(labels.append):
        case.mounted(JOB).chmod(path, 0o600)
    for number in range(len(labels)):
        with cloned(place / "original", place / f"volume-{number}") as case:
            fs = case.mounted(JOB)
            with fs.open(path, os.O_RDONLY):
                ino = fs.stat(path).ino
                failing(partial(fs.chmod, path, 0o600), bad_sector(number), calls)
            with fs.open(path, os.O_RDONLY) as file:
                case.kernel.forget_all()  # names, not open files
                write(fs, path, b"written")
                file.chmod(0o600)
                at = f"after EIO at {labels[number]}"
                assert read(fs, path) == b"written", at
                assert file.pread(10, 0) == b"written", at
                assert fs.stat(path).ino == ino, at
                assert fs.stat(path).mode & 0o777 == 0o600, at


# Files that may be blobs


def _prepare_shared(case: Case) -> None:
    """Makes a patch whose finish failed after its files were linked."""
    case.commit(b"base", layered)
    patch(case, JOB, "v0", edit, chmod(b"other/one", 0o600), link(b"added/new", b"added/third"), settle)

    def fail(reached: str) -> None:
        if reached == "seal:commit":
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    with steps(fail), fails(errno.EIO):
        case.finish(JOB)


SHARED = Scenario(_prepare_shared, lambda case: append(b"added/new", b"more")(case.mounted(JOB)))


def test_a_crash_in_the_first_write_to_a_linked_file_spares_the_blob(place: Path) -> None:
    with prepared(place / "original", SHARED):
        pass
    labels: list[str] = []
    with cloned(place / "original", place / "clean") as case:
        old = case.state()
        with calls(labels.append):
            SHARED.act(case)
        new = case.state()
        assert timeless(new).pending[JOB][0].keys() == timeless(old).pending[JOB][0].keys()
    for number in range(len(labels) + 1):
        with cloned(place / "original", place / f"volume-{number}") as case:
            path = case.volume.path
            label = crash(number, lambda path=path: SHARED.act(Case(Volume.open(path))), calls)  # type: ignore[misc]
            case.volume.recover()
            at = f"after a crash at {label}, step {number}"
            state = case.state()
            check_one_of(timeless(state), [timeless(one) for one in (old, new)], at)
            case.check_sound()
            finish_all(case)
            case.check_sound()


@pytest.mark.parametrize("error", ["ENOSPC", "EIO"])
def test_an_error_in_the_first_write_to_a_linked_file_spares_the_blob(place: Path, error: str) -> None:
    """A retry writes the file under all its names."""
    with prepared(place / "original", SHARED):
        pass
    labels: list[str] = []
    with cloned(place / "original", place / "clean") as case:
        old = case.state()
        with steps(labels.append):
            SHARED.act(case)
        new = case.state()
    assert "unshare:replace" in labels
    for number in range(len(labels)):
        with cloned(place / "original", place / f"volume-{number}") as case:
            at = f"{error} at {labels[number]}, step {number}"
            assert failing(partial(SHARED.act, case), ERRORS[error](number)) == error, at
            with Volume.open(case.volume.path) as volume:
                names = timeless(Case(volume).state()).pending[JOB][0].keys()
                assert names == timeless(old).pending[JOB][0].keys(), at
            case.check_sound()
            case.kernel.forget_all()  # as the kernel does after ESTALE
            SHARED.act(case)
            check_one_of(timeless(case.state()), [timeless(new)], at)
            case.check_sound()
            left = [path.name for path in case.tree(JOB).parent.iterdir() if path.name.startswith("unshared")]
            assert left == [], at
