"""The user for whom long work is done, which ends once nobody waits for it any more. Any thread."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


class GivenUp(Exception):
    """Nobody wants it any more. No ArtfsError: who waits for the same work does it himself then."""


@dataclass(frozen=True, slots=True)
class Asker:
    """A user, and what tells from any thread, quickly, whether he wants no answer any more."""

    uid: int
    given_up: Callable[[], bool]

    def check(self) -> None:
        """Raises GivenUp."""
        if self.given_up():
            raise GivenUp


#: Who waits himself, in a process of his own.
OURSELVES = Asker(-1, lambda: False)


__all__ = ["OURSELVES", "Asker", "GivenUp"]
