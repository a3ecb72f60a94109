"""How many descriptors a daemon takes for itself, and what of them a user has."""

from __future__ import annotations

import resource

import pytest

from artfs.mount import shares

MOST = shares.MOST_DESCRIPTORS


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The limits of a process that is not root; the last are those that hold."""
    held = [(1024, 4096)]

    def setrlimit(_which: int, wanted: tuple[int, int]) -> None:
        hard = held[-1][1]
        if hard != resource.RLIM_INFINITY and (wanted[1] > hard or wanted[1] == resource.RLIM_INFINITY):
            raise ValueError("not allowed to raise maximum limit")
        held.append(wanted)

    monkeypatch.setattr(resource, "getrlimit", lambda _which: held[-1])
    monkeypatch.setattr(resource, "setrlimit", setrlimit)
    return held


@pytest.mark.parametrize(
    ("hard", "soft"),
    [(4096, 4096), (MOST, MOST), (1 << 30, MOST), (resource.RLIM_INFINITY, MOST)],
)
def test_the_limit_is_raised_to_what_there_can_be_use_for(
    limits: list[tuple[int, int]], hard: int, soft: int
) -> None:
    limits.append((1024, hard))
    shares.raise_descriptor_limit()
    assert limits[-1][0] == soft


def test_threads_that_nobody_waits_for_any_more_still_count() -> None:
    """A request that was given up leaves its thread with its token."""
    waiting = shares.Waiting(most=10, share=10, threads=2)
    with waiting.one(1000) as first:
        first.acquire_on_behalf_of_nowait("a thread")
    with waiting.one(1000) as limiter:
        assert limiter is first
        assert limiter.available_tokens == 1
    first.release_on_behalf_of("a thread")
    with waiting.one(1000):
        pass
    with waiting.one(1000) as limiter:
        assert limiter is not first
