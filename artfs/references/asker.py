"""Who wants bytes, for work that takes long: he takes turns with himself, and nobody works for who is gone.

Owns how many files are hashed at a time. Must not know what is hashed. Any thread.
"""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

_AT_ONCE = 2  # of one user
_LOOK = 0.1  # seconds between looks whether who waits for his turn still does


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


class Turns:
    """Each user has a few at a time."""

    def __init__(self) -> None:
        self._taken: Counter[int] = Counter()
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def turn(self, asker: Asker) -> Iterator[None]:
        """Waits for a turn. Raises GivenUp."""
        with self._changed:
            while asker is not OURSELVES and self._taken[asker.uid] >= _AT_ONCE:
                self._changed.wait(_LOOK)
                asker.check()
            self._taken[asker.uid] += 1
        try:
            yield
        finally:
            with self._changed:
                self._taken[asker.uid] -= 1
                if not self._taken[asker.uid]:
                    del self._taken[asker.uid]
                self._changed.notify_all()


__all__ = ["OURSELVES", "Asker", "GivenUp", "Turns"]
