"""The power is cut at durable steps: a part of ``python -m tests.torture.power``."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import pytest

from artfs.catalog.collection import Collection
from artfs.store import durable
from artfs.volume.volume import Volume
from tests.crash.harness import NAME, Case, small
from tests.power.images import Image, image, needs
from tests.power.trials import OPERATIONS, Trial, cut_collections, cut_inits, cut_upgrades, some

SEED = 5


@pytest.fixture(scope="module")
def disk() -> Iterator[Image]:
    needs("ext4")
    with image("ext4") as made:
        yield made


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_power_cut_leaves_the_old_or_the_new_state(disk: Image, name: str) -> None:
    with Trial(disk, name) as trial:
        trial.run(some(SEED, 2))


def _alias(collection: Collection) -> None:
    collection.set_alias("best", "v0")


def _texts(collection: Collection) -> None:
    collection.set_description("told")


def _notes(collection: Collection) -> None:
    collection.update_labels(0, tags=("a",))


def _finished(collection: Collection) -> None:
    collection.record_finished(b"job", 0)


@pytest.mark.parametrize("say", [_alias, _texts, _notes, _finished])
def test_unchanged_values_are_durable_once_acknowledged(
    disk: Image, say: Callable[[Collection], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process may have set the value, and been killed before it was durable."""
    path = disk.root / say.__name__
    with Volume.init(path) as volume:
        volume.catalog.create(NAME)
        Case(volume).commit(b"first", small)
    disk.sync()

    def act() -> None:
        with Volume.open(path) as volume:
            collection = volume.catalog.collection(NAME)
            with monkeypatch.context() as killed:
                killed.setattr(durable, "sync_dir", lambda fd, *, label: None)
                say(collection)
            say(collection)

    assert disk.cut_at(1_000, act) is None
    with Volume.open(path) as volume:
        collection = volume.catalog.collection(NAME)
        found = {
            "_alias": collection.aliases() == {"best": "v0"},
            "_texts": collection.description == "told",
            "_notes": collection.labels(0).tags == ("a",),
            "_finished": collection.finished(b"job") == 0,
        }
        assert found[say.__name__]


def test_a_power_cut_leaves_a_volume_or_none(disk: Image) -> None:
    assert cut_inits(disk, itertools.count()) >= 5


def test_a_power_cut_leaves_a_collection_or_none(disk: Image) -> None:
    assert cut_collections(disk, itertools.count()) >= 5


def test_an_upgrade_completes_after_a_power_cut(disk: Image) -> None:
    assert cut_upgrades(disk, itertools.count()) >= 5
