"""Work that several threads want at once, done once, and the users for whom it is done.

Owns: which thread does the work, which ones wait, and when the result is released. Must not know what the
work is. Any thread.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from artfs.errors import ArtfsError

_CHECK_EVERY = 0.2  # seconds between calls of a waiting thread's `check`

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


class Abandoned(Exception):
    """The requester has gone. Not an ArtfsError: another thread that waits for the same work then does it."""


@dataclass(frozen=True, slots=True)
class Requester:
    """The user for whom work is done; ``has_gone`` tells quickly, in any thread, whether they still wait."""

    uid: int
    has_gone: Callable[[], bool]

    def check(self) -> None:
        """Raises Abandoned if the requester has gone."""
        if self.has_gone():
            raise Abandoned


#: Work that this process does for itself.
THIS_PROCESS = Requester(-1, lambda: False)


class _Call(Generic[T]):
    def __init__(self) -> None:
        self.done = threading.Event()
        self.users = 0
        self.results: list[T] = []
        self.refusal: ArtfsError | None = None


class SingleFlight(Generic[K, T]):
    """Runs at most one call per key at a time; results are not kept once it has ended.

    ``release`` is called with each result when the last thread that shares it has left its with block.
    """

    def __init__(self, release: Callable[[T], None] = lambda _: None) -> None:
        self._lock = threading.Lock()
        self._calls: dict[K, _Call[T]] = {}
        self._release = release

    @contextlib.contextmanager
    def share(self, key: K, work: Callable[[], T], check: Callable[[], None] = lambda: None) -> Iterator[T]:
        """Yields the result of ``work``, called here or by the thread that came first.

        An ArtfsError is raised for all that share the work. After any other exception (a signal hit the
        thread that did it) one of the waiting threads does the work. A waiting thread calls `check`, whose
        exception ends the wait.
        """
        while True:
            with self._lock:
                call = self._calls.get(key)
                first = call is None
                if call is None:
                    call = self._calls[key] = _Call()
                call.users += 1
            try:
                if first:
                    self._do(key, call, work)
                else:
                    while not call.done.wait(_CHECK_EVERY):
                        check()
                if call.refusal is not None:
                    raise call.refusal.with_traceback(None)
                if call.results:
                    yield call.results[0]
                    return
            finally:
                with self._lock:
                    call.users -= 1
                    last = not call.users
                if last:
                    for result in call.results:
                        self._release(result)

    def _do(self, key: K, call: _Call[T], work: Callable[[], T]) -> None:
        try:
            call.results.append(work())
        except ArtfsError as error:
            call.refusal = error
        finally:
            with self._lock:
                del self._calls[key]
            call.done.set()
