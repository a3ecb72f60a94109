"""Work that several threads want at once, done once.

Owns: who does it, who waits, and who is the last to leave. Must not know what the work is. Any thread.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Hashable, Iterator
from typing import Generic, TypeVar

from artfs.errors import ArtfsError

_LOOK = 0.2  # seconds between looks whether who waits still does

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


class _Call(Generic[T]):
    def __init__(self) -> None:
        self.done = threading.Event()
        self.users = 0
        self.results: list[T] = []
        self.refusal: ArtfsError | None = None


class SingleFlight(Generic[K, T]):
    """At most one work a key is under way at any time; nothing is remembered once it has ended.

    ``release`` is called with each result when the last of those who shared it has left its with block.
    """

    def __init__(self, release: Callable[[T], None] = lambda _: None) -> None:
        self._lock = threading.Lock()
        self._calls: dict[K, _Call[T]] = {}
        self._release = release

    @contextlib.contextmanager
    def share(self, key: K, work: Callable[[], T], check: Callable[[], None] = lambda: None) -> Iterator[T]:
        """Yields what ``work`` returned, here or in the thread that came first.

        An ArtfsError refuses all who share the work. After any other exception (a signal hit the thread
        that did it) those who waited do it themselves. Who waits calls `check` meanwhile, which ends that by
        raising.
        """
        while True:
            with self._lock:
                flight = self._calls.get(key)
                first = flight is None
                if flight is None:
                    flight = self._calls[key] = _Call()
                flight.users += 1
            try:
                if first:
                    self._do(key, flight, work)
                else:
                    while not flight.done.wait(_LOOK):
                        check()
                if flight.refusal is not None:
                    raise flight.refusal.with_traceback(None)
                if flight.results:
                    yield flight.results[0]
                    return
            finally:
                with self._lock:
                    flight.users -= 1
                    last = not flight.users
                if last:
                    for result in flight.results:
                        self._release(result)

    def _do(self, key: K, flight: _Call[T], work: Callable[[], T]) -> None:
        try:
            flight.results.append(work())
        except ArtfsError as error:
            flight.refusal = error
        finally:
            with self._lock:
                del self._calls[key]
            flight.done.set()
