"""What pyfuse3 uses as trio: the same interface, with a faster way from one request to the next.

Owns how the mount waits for requests. Knows nothing of what the requests are. Everything here runs on the
loop's thread.

pyfuse3 waits for each request by a lock, a checkpoint and epoll, which cost two rounds of trio's scheduler
and a sleep of the CPU. Here a task that has answered a request without blocking looks for the next one at
once: for a short window by poll(2) without a timeout, which releases the GIL to other threads, and only then
in trio. This answers two to four times as many requests a second when client and daemon run on two CPUs.
Bounds:

- The window opens after a request, closes after ``SPIN`` seconds, and shrinks to nothing when requests are
  less frequent than that, so an idle or slow mount costs no CPU.
- The task yields to trio every ``SLICE`` seconds, so timers, signals and background tasks run during an
  endless stream of requests. While other requests wait for threads it yields more often, also within the
  window, so that they get their results.

pyfuse3 looks its module attribute ``trio`` up at each use, and ``pyfuse3.asyncio`` replaces it in the same
way.
"""

from __future__ import annotations

import contextlib
import select
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from time import perf_counter
from typing import Any

import pyfuse3
import trio

SPIN = 0.0001
SLICE = 0.002
SLICE_BESIDE_OTHERS = 0.0001


@contextlib.contextmanager
def quick_loop() -> Iterator[None]:
    """Makes pyfuse3 use this module's waiting while the context lasts."""
    original = pyfuse3.trio  # type: ignore[attr-defined]
    pyfuse3.trio = TrioInterface()  # type: ignore[attr-defined]
    try:
        yield
    finally:
        pyfuse3.trio = original  # type: ignore[attr-defined]


class TrioInterface:
    """The part of trio's interface that pyfuse3 uses."""

    ClosedResourceError = trio.ClosedResourceError
    current_task = staticmethod(trio.lowlevel.current_task)
    current_trio_token = staticmethod(trio.lowlevel.current_trio_token)

    def __init__(self) -> None:
        self.lowlevel = self
        self._poller = select.poll()
        self._polled_fd = -1
        self._closing = False
        self._window = SPIN
        self._yielded_at = 0.0
        # Tasks that have neither the turn nor wait for it work on a request.
        self._living = 0
        self._turning = 0

    def Lock(self) -> _Turn:  # noqa: N802 (trio's name)
        return _Turn(self)

    @contextlib.asynccontextmanager
    async def open_nursery(self) -> AsyncIterator[_Nursery]:
        async with trio.open_nursery() as nursery:
            yield _Nursery(self, nursery)

    def notify_closing(self, fd: int) -> None:
        self._closing = True
        trio.lowlevel.notify_closing(fd)

    async def wait_readable(self, fd: int) -> None:
        """Returns when a request can be read; the caller has the turn.

        Raises:
            trio.ClosedResourceError: the loop ends.
        """
        if fd != self._polled_fd:
            if self._polled_fd >= 0:
                self._poller.unregister(self._polled_fd)
            self._poller.register(fd, select.POLLIN)
            self._polled_fd = fd
        started = perf_counter()
        others = self._living > self._turning
        if started - self._yielded_at > (SLICE_BESIDE_OTHERS if others else SLICE):
            await trio.lowlevel.checkpoint()
            started = self._yielded_at = perf_counter()
        if self._closing:
            raise trio.ClosedResourceError
        if await self._spin(started, others):
            return
        await trio.lowlevel.wait_readable(fd)
        self._yielded_at = perf_counter()
        if self._yielded_at - started < SPIN:
            self._window = SPIN

    async def _spin(self, started: float, others: bool) -> bool:
        poll = self._poller.poll
        if poll(0):
            return True
        deadline = started + self._window
        while (now := perf_counter()) < deadline:
            if poll(0):
                self._window = SPIN
                return True
            if others and now - self._yielded_at > SLICE_BESIDE_OTHERS:
                await trio.lowlevel.checkpoint()
                self._yielded_at = perf_counter()
        self._window /= 2
        return False


class _Turn:
    """The lock of the device. A fair lock would cost a switch of tasks for each request.

    The task that leaves wakes a waiting one, but may enter again before that one runs, which then goes on
    waiting. It has its turn as soon as the first task blocks.
    """

    def __init__(self, loop: TrioInterface) -> None:
        self._loop = loop
        self._taken = False
        self._waiting = trio.lowlevel.ParkingLot()

    async def __aenter__(self) -> None:
        self._loop._turning += 1
        try:
            while self._taken:
                await self._waiting.park()
        except BaseException:
            self._loop._turning -= 1
            raise
        self._taken = True

    async def __aexit__(self, *_: object) -> None:
        self._taken = False
        self._loop._turning -= 1
        if self._waiting:
            self._waiting.unpark()


class _Nursery:
    """A nursery whose tasks survive a request that was taken back before it was read (EAGAIN)."""

    def __init__(self, loop: TrioInterface, nursery: trio.Nursery) -> None:
        self._loop, self._nursery = loop, nursery

    def start_soon(self, function: Callable[..., Awaitable[Any]], *args: Any, name: object = None) -> None:
        async def run() -> None:
            try:
                while True:
                    with contextlib.suppress(BlockingIOError):
                        await function(*args)
                        return
            finally:
                self._loop._living -= 1

        self._loop._living += 1
        self._nursery.start_soon(run, name=name)
