"""The power is cut at durable steps: a part of what ``python -m tests.torture.power`` tries for hours."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from tests.power.images import Image, image, needs
from tests.power.trials import OPERATIONS, Trial, cut_collections, cut_inits, some

SEED = 5


@pytest.fixture(scope="module")
def disk() -> Iterator[Image]:
    needs("ext4")
    with image("ext4") as made:
        yield made


@pytest.mark.parametrize("name", OPERATIONS)
def test_power_is_cut(disk: Image, name: str) -> None:
    with Trial(disk, name) as trial:
        trial.run(some(SEED, 2))


def test_power_is_cut_while_a_volume_is_made(disk: Image) -> None:
    assert cut_inits(disk, itertools.count()) >= 5


def test_power_is_cut_while_a_collection_is_made_and_removed(disk: Image) -> None:
    assert cut_collections(disk, itertools.count()) >= 5
