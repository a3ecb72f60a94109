"""Runs the kill torture for some seconds; ``scripts/torture kills`` runs it longer."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.torture import oracle
from tests.torture.kills import Torture, torture
from tests.torture.model import DIRECTORY, File

pytestmark = pytest.mark.fuse


@pytest.fixture
def tortured(place: Path):
    with torture(seed=20261124, workers=3, tell=lambda _: None, place=place) as one:
        yield one


def test_kills_lose_nothing_acknowledged(tortured: Torture) -> None:
    tortured.run(
        lambda counts: counts["daemons killed"] >= 2 and counts["processes killed"] >= 3, longest=0.6
    )
    assert tortured.counts["answered"] > 20
    tortured.mount()
    check_oracle_detects_loss(tortured)


def check_oracle_detects_loss(tortured: Torture) -> None:
    """Asserts that the oracle detects a differing file, a missing name, and an unknown name."""
    for mine in tortured.known:
        oracle.check_own(tortured.point, mine, None)
    mine = tortured.known[0]
    tree = next(iter(mine.own.pending.values()), None)
    if tree is None:
        tree = mine.own.pending["job-never"] = {}
        with pytest.raises(oracle.Lost):
            oracle.check_own(tortured.point, mine, None)
        return
    before = dict(tree)
    tree["never made"] = File(b"lost")
    with pytest.raises(oracle.Lost, match="never made"):
        oracle.check_own(tortured.point, mine, None)
    tree.clear()
    tree.update({"nor": DIRECTORY, **before})
    with pytest.raises(oracle.Lost, match="nor"):
        oracle.check_own(tortured.point, mine, None)
