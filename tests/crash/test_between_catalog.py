"""Two direct clients: one changes the catalog during an operation of the other."""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from artfs.catalog.collection_directory import CollectionDirectory
from artfs.client import expiry
from artfs.client.interface import Client
from artfs.client.open import open_client
from artfs.errors import ArtfsError, CollectionNotFound, NotEmpty, VersionNotFound
from artfs.store import durable
from artfs.volume.volume import Volume
from tests.crash.faults import crash, steps
from tests.crash.test_between import NAME, client, content, other, put

__all__ = ["client", "other"]  # fixtures

_PATIENCE = 0.5  # seconds for an action during a step, which may wait for a lock until the step is over


class Beside:
    """An action of another process, and its result."""

    def __init__(self, action: Callable[[], object]) -> None:
        self._action = action
        self._thread = threading.Thread(target=self._run)
        self.answer: object = None
        self.error: ArtfsError | None = None

    @property
    def begun(self) -> bool:
        return self._thread.ident is not None

    def begin(self) -> None:
        self._thread.start()
        self._thread.join(_PATIENCE)

    def end(self) -> None:
        assert self.begun, "the step never came"
        self._thread.join()

    def _run(self) -> None:
        try:
            self.answer = self._action()
        except ArtfsError as error:
            self.error = error


@contextmanager
def beside(label: str, action: Callable[[], object]) -> Iterator[Beside]:
    """Runs an action during the first step of that label; it may have to wait for the following steps."""
    other, previous, thread = Beside(action), durable.step, threading.get_ident()

    def hook(found: str) -> None:
        if threading.get_ident() == thread:
            if found == label and not other.begun:
                other.begin()
            previous(found)

    with steps(hook):
        yield other
    other.end()


def finish(volume: Path, name: bytes) -> str:
    with open_client(volume) as third:
        third.new(NAME, name)
        put(third, name, name)
        return str(third.finish(NAME, name)["version"])


@pytest.mark.parametrize("label", ["collection-removal:rename", "collection-removal:sync-dir"])
def test_a_removal_beside_a_finish_loses_no_version(client: Client, tmp_path: Path, label: str) -> None:
    with beside(label, lambda: finish(tmp_path / "volume", b"job")) as finished:
        client.remove_collection(NAME)
    if finished.answer:
        assert content(tmp_path / "volume", "v0") == {b"job"}
    else:
        assert isinstance(finished.error, CollectionNotFound)
        assert client.collections() == []


@pytest.mark.usefixtures("client")
def test_a_killed_removal_beside_a_finish_loses_no_version(tmp_path: Path) -> None:
    volume, answered = tmp_path / "volume", tmp_path / "answered"

    def finish_beside() -> None:
        finish(volume, b"job")
        answered.touch()

    def remove() -> None:
        with open_client(volume) as mine, beside("collection-removal:rename", finish_beside):
            mine.remove_collection(NAME)

    assert crash(1, remove) == "collection-removal:sync-dir"
    with Volume.open(volume) as opened:
        opened.recover()
    if answered.exists():
        assert content(volume, "v0") == {b"job"}


@pytest.mark.usefixtures("client")
def test_a_removal_waits_for_a_start_and_is_refused(other: Client, tmp_path: Path) -> None:

    def remove() -> None:
        with open_client(tmp_path / "volume") as third:
            third.remove_collection(NAME)

    with beside("start:rename", remove) as removed:
        other.new(NAME, b"job")
    assert isinstance(removed.error, NotEmpty)
    assert other.pending_names(NAME) == [b"job"]


@pytest.mark.usefixtures("client")
def test_a_start_makes_a_removed_collection_again(other: Client, tmp_path: Path) -> None:
    """The removal does not wait for a draft that has no name yet."""

    def remove() -> None:
        with open_client(tmp_path / "volume") as third:
            third.set_collection_tags(NAME, ["gone"])
            third.remove_collection(NAME)

    with beside("start:draft:write", remove) as removed:
        other.new(NAME, b"job")
    assert removed.error is None
    assert other.pending_names(NAME) == [b"job"]
    assert other.collection(NAME)["tags"] == []


_KILLED = """
import contextlib, os, sys
from artfs.client.open import open_client
from artfs.errors import ArtfsError
from artfs.store import durable
durable.step = lambda label: os._exit(77) if label == "alias:sync-dir" else None
with open_client(sys.argv[1]) as client:
    print(flush=True)
    sys.stdin.readline()
    with contextlib.suppress(ArtfsError):
        client.alias("model", "v1", ["best"])
"""


def test_an_alias_set_during_a_deletion_refers_to_an_existing_version(
    client: Client, other: Client, tmp_path: Path
) -> None:
    for name in (b"a", b"b"):
        finish(tmp_path / "volume", name)
    other.alias(NAME, "v0", ["best"])
    # Not fork(2), whose child would inherit the locks with the descriptors.
    words = [sys.executable, "-c", _KILLED, str(tmp_path / "volume")]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as setter:
        assert setter.stdout
        setter.stdout.readline()
        with beside("tombstone:write", lambda: setter.communicate("\n")):
            client.remove(NAME, "v1")
    assert other.version(NAME, "best")["version"] == "v0"


@pytest.mark.parametrize("label", [None, "tombstone:rename"])
def test_a_ttl_raised_during_expiry_is_respected_or_refused(
    client: Client, other: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, label: str | None
) -> None:
    finish(tmp_path / "volume", b"job")
    other.relabel(NAME, "v0", {"ttl": 0})

    def keep() -> None:
        other.relabel(NAME, "v0", {"ttl": "none"})

    if label:
        with beside(label, keep) as kept:
            assert expiry.remove_expired(client) == [(NAME, "v0")]
        assert isinstance(kept.error, VersionNotFound)
        return
    listed = client.versions

    def versions(name: str) -> list[dict[str, Any]]:
        found = listed(name)
        keep()
        return found

    monkeypatch.setattr(client, "versions", versions)
    assert expiry.remove_expired(client) == []
    assert content(tmp_path / "volume", "v0") == {b"job"}


def test_a_type_set_beside_the_first_commit_is_the_versions_type(client: Client, other: Client) -> None:
    other.new(NAME, b"job", kind="model")
    put(other, b"job", b"file")

    def finish_and_look() -> str:
        other.finish(NAME, b"job")
        return str(other.version(NAME, "v0")["type"])

    with beside("type:lock", finish_and_look) as finished:
        client.new(NAME, b"next", kind="dataset")
    assert finished.answer == client.version(NAME, "v0")["type"] == "dataset"


def _recover(client: Client) -> None:
    with client.volume() as volume:
        volume.recover()


def _check(client: Client) -> None:
    with client.volume() as volume:
        assert volume.maintenance.check().sound


def _gc(client: Client) -> None:
    with client.volume() as volume:
        volume.maintenance.gc()


LISTINGS: dict[str, Callable[[Client], object]] = {
    "recover": _recover,
    "check": _check,
    "gc": _gc,
    "describe": lambda client: client.volume_status(),
    "collections": lambda client: client.collections(),
    "discard": lambda client: expiry.discard_idle(client, 0),
    "expire": expiry.remove_expired,
}


@pytest.mark.parametrize("listing", LISTINGS)
def test_a_collection_can_be_removed_during_a_walk_of_all(
    client: Client, other: Client, monkeypatch: pytest.MonkeyPatch, listing: str
) -> None:
    """The removal happens before each access to the collection in turn."""
    opened = CollectionDirectory.opened
    for nth in itertools.count():
        other.new("gone", b"job")
        other.discard("gone", b"job")
        looks = itertools.count()

        def look(
            directory: CollectionDirectory, *sub: bytes, nth: int = nth, looks: Iterator[int] = looks
        ) -> AbstractContextManager[int]:
            if directory.name == "gone" and next(looks) == nth:
                monkeypatch.setattr(CollectionDirectory, "opened", opened)
                other.remove_collection("gone")
            return opened(directory, *sub)

        monkeypatch.setattr(CollectionDirectory, "opened", look)
        LISTINGS[listing](client)
        if CollectionDirectory.opened is not opened:
            break  # there were fewer looks
    monkeypatch.setattr(CollectionDirectory, "opened", opened)
    assert nth
    assert [collection["name"] for collection in client.collections()] == ["gone", NAME]


def test_a_start_and_a_finish_with_aliases_do_not_deadlock(client: Client, other: Client) -> None:
    other.new(NAME, b"job")
    put(other, b"job", b"file")
    with beside("seal:commit", lambda: client.new(NAME, b"next")) as started:
        other.finish(NAME, b"job", aliases=["best"])
    assert started.error is None
    assert other.version(NAME, "best")["version"] == "v0"
    assert other.pending_names(NAME) == [b"next"]
