"""Two direct clients: one acts between the other's check of a pending version and its lock."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from artfs.client import expiry
from artfs.client.interface import Client
from artfs.client.open import open_client
from artfs.client.transfer.sources import Sources
from artfs.client.transfer.tree_writer import TreeWriter, WritePolicy
from artfs.errors import AlreadyFinishedError, Busy, ReadOnly, RunsJoined, TreeTouched
from artfs.pending import pending_version
from artfs.pending.pending_version import PendingVersion
from artfs.volume.volume import Volume
from tests.crash.faults import crash, steps
from tests.crash.harness import Case

NAME = "model"


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    path = tmp_path / "volume"
    with Volume.init(path) as volume:
        volume.catalog.create(NAME)
    with open_client(path) as opened:
        yield opened


@pytest.fixture
def other(client: Client, tmp_path: Path) -> Iterator[Client]:
    with open_client(tmp_path / "volume") as opened:
        yield opened


def put(client: Client, pending: bytes, path: bytes) -> None:
    source = os.memfd_create("source")
    os.write(source, b"data")
    sources = Sources([b"/proc/self/fd/%d" % source], at=path.split(b"/"))
    try:
        with client.open_tree(NAME, pending) as tree:
            sources.copy(TreeWriter(tree, WritePolicy(replace=True)))
    finally:
        os.close(source)


def before_the_lock(monkeypatch: pytest.MonkeyPatch, lock: str, action: Callable[[], object]) -> None:
    """Runs an action once, just before a lock of a pending version is requested."""
    real = getattr(PendingVersion, lock)

    def locking(pending_version: PendingVersion) -> object:
        monkeypatch.setattr(PendingVersion, lock, real)
        action()
        return real(pending_version)

    monkeypatch.setattr(PendingVersion, lock, locking)


def content(volume: Path, version: str) -> set[bytes]:
    with Volume.open(volume) as opened:
        case = Case(opened)
        case.check_sound()
        return {path for path, entry in case.version(version).items() if entry.content}


ACTS: dict[str, tuple[str, Callable[[Client, bytes], object]]] = {
    "put": ("together", lambda client, name: put(client, name, b"late")),
    "join": ("together", lambda client, name: client.join(NAME, name, "run-1")),
    "discard": ("exclusively", lambda client, name: client.discard(NAME, name)),
    "set a base": ("exclusively", lambda client, name: client.set_base(NAME, name, "v0")),
}


@pytest.mark.parametrize("unchanged", [False, True], ids=["a new version", "unchanged"])
@pytest.mark.parametrize("act", ACTS)
def test_nothing_changes_a_tree_after_a_killed_finish_decided(
    client: Client, other: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, act: str, unchanged: bool
) -> None:
    volume = tmp_path / "volume"
    other.new(NAME, b"first")
    put(other, b"first", b"same")
    other.finish(NAME, b"first")
    refused = 0
    for number in itertools.count():
        name = b"job-%d" % number
        other.new(NAME, name)
        if act != "set a base":
            put(other, name, b"same" if unchanged else b"file-%d" % number)
        client.pending_status(NAME, name)  # so that this client knows the tree
        label: list[str | None] = []
        lock, action = ACTS[act]

        def finish(name: bytes = name, label: list[str | None] = label, number: int = number) -> None:
            label.append(crash(number, lambda: open_client(volume).finish(NAME, name)))

        before_the_lock(monkeypatch, lock, finish)
        try:
            action(client, name)
        except AlreadyFinishedError as error:
            refused, finished = refused + 1, error.version
        else:
            finished = ""
        if finished:
            assert b"late" not in content(volume, finished)
        else:
            with open_client(volume) as third:
                if act == "discard":
                    assert name not in third.pending_names(NAME)
                    third.new(NAME, name)
                elif act == "put":
                    version = third.finish(NAME, name)["version"]
                    assert b"late" in content(volume, version)
                    third.remove(NAME, version)  # else later trees would be equal to it
                elif act == "join":
                    assert "run-1" in third.pending_status(NAME, name)["runs"]
        if label == [None]:
            break
    assert refused >= 2


@pytest.fixture
def based(client: Client, other: Client) -> None:
    """v0 has two files in a directory, v1 another one in it; `client` knows `job`, without a base."""
    for name, path in [(b"a", b"dir/one"), (b"a", b"dir/two"), (b"b", b"dir/three")]:
        if name not in other.pending_names(NAME):
            other.new(NAME, name)
        put(other, name, path)
    for name in (b"a", b"b"):
        other.finish(NAME, name)
    other.new(NAME, b"job")
    client.pending_status(NAME, b"job")


@pytest.mark.usefixtures("based")
@pytest.mark.parametrize("when", ["before", "before the lock"])
def test_a_patch_made_by_another_process_is_filled_as_a_patch(
    client: Client, other: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    if when == "before":
        other.set_base(NAME, b"job", "v0")
    else:
        before_the_lock(monkeypatch, "together", lambda: other.set_base(NAME, b"job", "v0"))
    put(client, b"job", b"dir/new")
    assert client.finish(NAME, b"job")["version"] == "v2"
    assert content(tmp_path / "volume", "v2") == {b"dir/one", b"dir/two", b"dir/new"}


@pytest.mark.usefixtures("based")
@pytest.mark.parametrize("times", [1, 2, 3])
@pytest.mark.parametrize("when", ["before", "before the lock"])
def test_a_finish_sees_a_base_set_by_another_process(
    client: Client, other: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str, times: int
) -> None:
    """With two changes of the base, the new tree may have the inode number of the known one."""

    def change() -> None:
        for number in range(times):
            other.set_base(NAME, b"job", f"v{(times + number) % 2}")
        put(other, b"job", b"dir/new")

    if when == "before":
        change()
    else:
        before_the_lock(monkeypatch, "exclusively", change)
    assert client.finish(NAME, b"job")["version"] == "v2"
    assert {b"dir/new", b"dir/three"} == content(tmp_path / "volume", "v2")


# Started ids


def test_an_id_finished_during_its_start_is_not_started(
    client: Client, other: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The finish records the id and frees its name between the check of the start and its rename."""
    other.new(NAME, b"job")
    put(other, b"job", b"file")
    start = pending_version.start

    def finish_first(*arguments: Any, **more: Any) -> None:
        with open_client(tmp_path / "volume") as third:
            assert third.finish(NAME, b"job")["version"] == "v0"
        start(*arguments, **more)

    monkeypatch.setattr(pending_version, "start", finish_first)
    with pytest.raises(AlreadyFinishedError):
        client.new(NAME, b"job")
    monkeypatch.undo()
    assert other.pending_names(NAME) == []
    with pytest.raises(AlreadyFinishedError):
        put(other, b"job", b"late")


def test_new_reports_an_id_that_others_finished_at_once(
    client: Client, other: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = pending_version.start

    def finish_then(*arguments: Any, **more: Any) -> None:
        start(*arguments, **more)
        put(other, b"job", b"file")
        other.finish(NAME, b"job")

    monkeypatch.setattr(pending_version, "start", finish_then)
    with pytest.raises(AlreadyFinishedError):
        client.new(NAME, b"job")


@pytest.mark.usefixtures("based")
@pytest.mark.parametrize("base", ["v0", "v1", None])
def test_new_keeps_files_added_before_its_base_is_set(
    client: Client, other: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base: str | None
) -> None:
    """It succeeds only if the other client set the same base."""
    set_base = type(client).set_base

    def put_first(self: Client, *arguments: Any) -> None:
        if self is client:
            if base is not None:
                other.set_base(NAME, b"new", base)
            put(other, b"new", b"dir/late")
        set_base(self, *arguments)

    monkeypatch.setattr(type(client), "set_base", put_first)
    if base == "v0":
        client.new(NAME, b"new", base="v0")
    else:
        with pytest.raises(TreeTouched):
            client.new(NAME, b"new", base="v0")
    assert b"dir/late" in content(tmp_path / "volume", str(other.finish(NAME, b"new")["version"]))


# Runs, and discarded trees


def test_a_finish_waits_for_a_run_that_joins_before_its_lock(
    client: Client, other: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    other.new(NAME, b"job")
    client.pending_status(NAME, b"job")
    before_the_lock(monkeypatch, "exclusively", lambda: other.join(NAME, b"job", "run-1"))
    with pytest.raises(RunsJoined):
        client.finish(NAME, b"job", wait=0)
    other.leave(NAME, b"job", "run-1")
    assert client.finish(NAME, b"job", wait=0)["version"] == "v0"


@pytest.mark.parametrize("act", ["put", "join"])
def test_a_tree_used_again_is_not_discarded_as_idle(
    client: Client, other: Client, monkeypatch: pytest.MonkeyPatch, act: str
) -> None:
    other.new(NAME, b"job")
    put(other, b"job", b"file")
    monkeypatch.setattr(type(client), "last_change", lambda *_: time.time() - 3600)
    before_the_lock(monkeypatch, "exclusively", lambda: ACTS[act][1](other, b"job"))
    assert expiry.discard_idle(client, 60) == []
    assert other.pending_names(NAME) == [b"job"]


def test_deleting_a_version_with_an_incomplete_finish_makes_it_pending(
    client: Client, other: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    other.new(NAME, b"job")
    put(other, b"job", b"file")

    def full(label: str) -> None:
        if label == "seal:drop:rename":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with steps(full), pytest.raises(OSError, match="No space"):
        client.finish(NAME, b"job")
    volume: Volume = client._volume  # type: ignore[attr-defined]
    with pytest.raises(ReadOnly):
        volume.discard(volume.catalog.collection(NAME), volume.trees.get(NAME, b"job"))
    Volume.open(volume.path).catalog.collection(NAME).delete_version(0)
    put(client, b"job", b"more")
    client.discard(NAME, b"job")
    assert other.pending_names(NAME) == []


# Forks


def test_a_forked_child_neither_keeps_nor_releases_a_lock(client: Client, other: Client) -> None:
    other.new(NAME, b"job")
    reading, writing = os.pipe()

    def child() -> None:
        os.close(writing)
        os.read(reading, 1)

    with client.open_tree(NAME, b"job"):
        pid = os.fork()
        if pid == 0:
            child()
            os._exit(0)
        gone = os.fork()
        if gone == 0:
            with contextlib.suppress(BaseException):
                raise SystemExit  # leaves the block as a program would that ends
        if gone:
            os.waitpid(gone, 0)
            with pytest.raises(Busy):
                other.finish(NAME, b"job", wait=0)
    if not gone:
        os._exit(0)
    try:
        assert other.finish(NAME, b"job", wait=0)["version"] == "v0"
    finally:
        os.close(writing)
        os.waitpid(pid, 0)
        os.close(reading)
