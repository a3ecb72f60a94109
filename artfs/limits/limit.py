"""Counts what each user, and all users together, hold of something that they share.

Owns the counters; a user who holds nothing is in none of them. Must not know what is counted, nor an event
loop. Any thread.
"""

from __future__ import annotations

import contextlib
import errno
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Generic, NamedTuple, Self, TypeVar
from weakref import WeakValueDictionary

from artfs.errors import Interrupted

T = TypeVar("T")

_LOOK = 0.1  # seconds between looks whether a caller that waits for its turn still wants it


class LimitExceededError(OSError):
    """A user, or all users together, may hold no more of something. Each limit has its errno."""


class Limit:
    """How much of something all users together may hold, and how much of that each user.

    Only the total binds root.
    """

    def __init__(self, total: int, per_user: int, refusal: str, number: int = errno.ENOMEM) -> None:
        self.total, self._per_user = total, per_user
        self._refusal, self._errno = refusal, number
        self._held: Counter[int] = Counter()
        self._taken = 0  # by all users together
        self._lock = threading.Lock()

    def share(self) -> int:
        """Returns how much each user may hold."""
        return self._per_user

    def binds(self, uid: int) -> bool:
        """Tells whether a user may hold no more than a share."""
        return uid != 0

    def check(self, uid: int, held: int) -> None:
        """Raises LimitExceededError if a user holds a share or more."""
        if self.binds(uid) and held >= self.share():
            raise self.exceeded()

    def exceeded(self) -> LimitExceededError:
        return LimitExceededError(self._errno, self._refusal)

    def take(self, uid: int, amount: int = 1) -> None:
        """Raises LimitExceededError, and takes nothing, if that is too much for the user or for all."""
        with self._lock:
            held = self._held.get(uid, 0) + amount
            if self._taken + amount > self.total or (self.binds(uid) and held > self.share()):
                raise self.exceeded()
            if held:
                self._held[uid] = held
            self._taken += amount

    def give(self, uid: int, amount: int = 1) -> None:
        with self._lock:
            self._taken -= amount
            self._held[uid] -= amount
            if not self._held[uid]:
                del self._held[uid]

    @contextlib.contextmanager
    def one(self, uid: int) -> Iterator[None]:
        """Holds one for as long as the context lasts. Raises LimitExceededError."""
        self.take(uid)
        try:
            yield
        finally:
            self.give(uid)


class Holding:
    """What is held of a limit for one user: taken piece by piece, given back as a whole."""

    __slots__ = ("_closed", "_limit", "_lock", "_uid", "amount")

    def __init__(self, limit: Limit, uid: int) -> None:
        self._limit, self._uid, self.amount = limit, uid, 0
        self._closed, self._lock = False, threading.Lock()

    def take(self, amount: int) -> None:
        """Raises LimitExceededError, and Interrupted after :meth:`close`, when no caller needs the result."""
        with self._lock:
            if self._closed:
                raise Interrupted
            self._limit.take(self._uid, amount)
            self.amount += amount

    def give_back(self) -> None:
        with self._lock:
            self._limit.give(self._uid, self.amount)
            self.amount = 0

    def close(self) -> None:
        """Gives everything back and takes no more. Harmless if repeated."""
        self._closed = True
        self.give_back()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class PerUser(Generic[T]):
    """An object for each user, made when it is needed, and dropped once nothing refers to it."""

    def __init__(self, make: Callable[[int], T]) -> None:
        """``make`` gets the user's uid."""
        self._make, self._lock = make, threading.Lock()
        self._living: WeakValueDictionary[int, T] = WeakValueDictionary()

    def __getitem__(self, uid: int) -> T:
        with self._lock:
            found = self._living.get(uid)
            if found is None:
                found = self._living[uid] = self._make(uid)
            return found

    def living(self) -> list[T]:
        with self._lock:
            return list(self._living.values())


class ConcurrencyLimit(NamedTuple):
    """How many things of a kind each user may do at the same time; the others wait for their turn."""

    user: int
    root: int

    def of(self, uid: int) -> int:
        return self.user if uid else self.root


class Turns:
    """Turns at what threads of several users do; each user waits for their own turns only."""

    def __init__(self, at_once: ConcurrencyLimit) -> None:
        self._semaphores = PerUser(lambda uid: threading.Semaphore(at_once.of(uid)))

    @contextlib.contextmanager
    def turn(self, uid: int, check: Callable[[], None]) -> Iterator[None]:
        """Waits for a turn. ``check`` is called meanwhile, and raises once the caller has given up."""
        semaphore = self._semaphores[uid]
        while not semaphore.acquire(timeout=_LOOK):
            check()
        try:
            check()
            yield
        finally:
            semaphore.release()


__all__ = ["ConcurrencyLimit", "Holding", "Limit", "LimitExceededError", "PerUser", "Turns"]
