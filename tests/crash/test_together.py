"""Concurrent finishes, discards and gc of one process."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from artfs.errors import ArtfsError, Busy, DraftNotFoundError, ReadOnly
from artfs.seal.seal import Request
from artfs.store import durable
from artfs.volume.pending_trees import pending_names
from artfs.volume.volume import Volume
from tests.crash.faults import steps
from tests.crash.harness import NAME, Case, changed, many, put, settle_times, small

pytestmark = pytest.mark.usefixtures("no_syncs")


def at_once(*actions: Callable[[], object]) -> list[Any]:
    """Runs all actions at once; returns what each returned or raised."""
    start = threading.Barrier(len(actions))
    results: list[Any] = [None] * len(actions)

    def run(index: int, action: Callable[[], object]) -> None:
        start.wait()
        try:
            results[index] = action()
        except (ArtfsError, OSError) as error:
            results[index] = error

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(actions)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def holding(content: bytes) -> Callable[[Path], None]:
    """Returns a function that makes a tree of one file."""

    def make(root: Path) -> None:
        put(root, "file", content)

    return make


@pytest.fixture
def case(tmp_path: Path) -> Case:
    volume = Volume.init(tmp_path / "volume")
    volume.catalog.create(NAME)
    return Case(volume)


def pause(_label: str) -> None:
    """Lets the other threads run at each step."""
    time.sleep(0.0005)


def test_concurrent_finishes_of_one_id_make_one_version(case: Case) -> None:
    with steps(pause):
        for number in range(5):
            name = b"job-%d" % number
            case.start(name, holding(b"%d" % number))
            answers = at_once(*[partial(case.finish, name)] * 4)
            assert [answer.version for answer in answers] == [f"v{number}"] * 4
    assert [record.number for record in case.collection.versions()] == list(range(5))
    case.check_sound()


def test_concurrent_seals_get_consecutive_numbers(case: Case) -> None:
    names = [b"job-%d" % number for number in range(8)]
    trees = {}
    for number, name in enumerate(names):
        # Two of them each are equal.
        case.start(name, many)
        put(case.tree(name), "own", b"%d" % (number // 2))
        settle_times(case.tree(name))
        trees[name] = case.below(case.tree(name))
    with steps(pause):
        answers = at_once(*[partial(case.finish, name) for name in names])
    state = case.state()
    assert state.pending == {}
    for name, answer in zip(names, answers, strict=True):
        assert state.ids[name] == answer.version
        assert state.versions[answer.version][0] == trees[name]
    assert list(state.versions) == [f"v{number}" for number in range(len(state.versions))]
    case.check_sound()


def test_concurrent_finish_and_discard_exclude_each_other(case: Case) -> None:
    with steps(pause):
        for number in range(10):
            name = b"job-%d" % number
            case.start(name, holding(b"%d" % number))
            finished, discarded = at_once(
                partial(case.finish, name),
                partial(case.discard, name),
            )
            if isinstance(finished, Exception):
                assert isinstance(finished, DraftNotFoundError | ReadOnly), finished
                assert discarded is None
                assert case.collection.finished(name) is None
            else:
                assert isinstance(discarded, Busy | DraftNotFoundError | ReadOnly), discarded
                assert case.collection.finished(name) is not None
            assert name not in pending_names(case.collection)
    case.check_sound()


def test_an_id_cannot_be_started_during_its_finish(case: Case) -> None:
    with steps(pause):
        for number in range(10):
            name = b"job-%d" % number
            case.start(name, holding(b"%d" % number))

            def start_again(name: bytes = name) -> None:
                while case.collection.finished(name) is None:
                    with pytest.raises(ArtfsError):
                        case.volume.start(case.collection, name)

            at_once(partial(case.finish, name), start_again)
            assert pending_names(case.collection) == []


def test_gc_beside_seals_removes_nothing_needed(case: Case) -> None:
    case.commit(b"first", many)
    for number in range(6):
        case.start(b"job-%d" % number, changed if number % 2 else small)
        put(case.tree(b"job-%d" % number), "own", b"%d" % number)

    def seal_all() -> None:
        for number in range(6):
            case.finish(b"job-%d" % number)
            if number:
                case.collection.delete_version(number)

    def collect() -> None:
        for _ in range(6):
            case.volume.maintenance.gc()

    with steps(pause):
        assert at_once(seal_all, collect) == [None, None]
    assert set(case.state().versions) == {"v0", "v6"}
    case.check_sound()


def test_failed_finishes_leak_no_descriptor(case: Case) -> None:
    case.start(b"job", many)

    def fail(label: str) -> None:
        if label == "seal:commit":
            raise OSError(28, "No space left on device")

    gc.collect()  # garbage of earlier tests is not counted
    before = len(os.listdir("/proc/self/fd"))
    with steps(fail):
        for _ in range(3):
            with pytest.raises(OSError, match="No space"):
                case.finish(b"job")
    assert len(os.listdir("/proc/self/fd")) == before
    assert durable.step is durable._nothing
    assert case.finish(b"job").version == "v0"


def test_finished_trees_close_their_descriptors(case: Case) -> None:
    case.commit(b"job", small)
    before = len(os.listdir("/proc/self/fd"))
    for number in range(5):
        name = b"job-%d" % number
        case.start(name, holding(b"%d" % number))
        case.mounted(name).listdir(b"")
        case.volume.finish(case.collection, name, Request(wait=0))
        case.kernel._names.clear()
    for thread in threading.enumerate():
        if thread.name == "artfs-trash":
            thread.join()
    gc.collect()  # a tree and its nodes refer to each other
    assert len(os.listdir("/proc/self/fd")) <= before + 1
