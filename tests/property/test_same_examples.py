"""The suite draws the same examples in each run."""

from __future__ import annotations

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.skipif(not hypothesis.settings().derandomize, reason="the profile draws new examples")
def test_the_suite_draws_the_same_examples_each_time():
    drawn: list[list[bytes]] = []

    @given(st.binary(max_size=40))
    def draw(data: bytes) -> None:
        drawn[-1].append(data)

    for _ in range(2):
        drawn.append([])
        draw()
    assert drawn[0] == drawn[1]
    assert len(set(drawn[0])) > 50


def test_examples_of_earlier_runs_are_not_used():
    assert hypothesis.settings().database is None
