"""Where the work of requests is done: on which threads, by how many at a time, and for how long.

Owns whose turn is next. Must not know what the requests are. Event loop's thread only. What ends within
microseconds is done on the loop's thread instead.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import AsyncIterator, Callable
from typing import TypeVar

import trio

from artfs.errors import Interrupted
from artfs.fuse.handshake import MAX_WRITE
from artfs.limits import numbers
from artfs.limits.limit import ConcurrencyLimit, PerUser
from artfs.linux.procfs import is_signalled
from artfs.vfs.node import Caller, NeedsWork, Work

T = TypeVar("T")

_LOOK = 0.2  # seconds between looks whether a caller still waits


def _turns(at_once: ConcurrencyLimit) -> PerUser[trio.CapacityLimiter]:
    """Turns at threads. A thread whose caller has gone holds its turn, and the limiter."""
    return PerUser(lambda uid: trio.CapacityLimiter(at_once.of(uid)))


class Workers:
    """Threads of several kinds. Of each a user has a few; the user's other requests wait for these."""

    def __init__(self, stopping: Callable[[], bool]) -> None:
        """``stopping`` tells whether the mount is about to end, so that nothing waits for others any more."""
        self._stopping = stopping
        self._disk, self._verifying = _turns(numbers.DISK_THREADS), _turns(numbers.VERIFYING_THREADS)
        self._commands = _turns(numbers.COMMAND_THREADS)
        self._computing = _turns(numbers.COMPUTING_THREADS)
        self._all_computing = trio.CapacityLimiter(numbers.COMPUTING_AT_ONCE)
        self._for_others, self._for_machines = (_turns(numbers.WAITING_THREADS) for _ in range(2))

    async def run(self, work: Work, caller: Caller, call: Callable[..., T], *arguments: object) -> T:
        """Calls on a thread for this kind of work, for as long as that takes.

        Raises LimitExceededError if too many requests wait already. Commands raise Interrupted if the caller
        is signalled by the time of their turn: the caller can't end before it has an answer.
        """
        match work:
            case Work.DISK:
                return await trio.to_thread.run_sync(call, *arguments, limiter=self._disk[caller.uid])
            case Work.VERIFYING:
                return await trio.to_thread.run_sync(call, *arguments, limiter=self._verifying[caller.uid])
            case Work.WAITING:
                return await self._wait_for_others(caller, call, *arguments)
        with numbers.COMMANDS.one(caller.uid):
            threads = self._commands[caller.uid]
            if work is Work.COMMAND and threads.available_tokens >= 1:
                return await trio.to_thread.run_sync(call, *arguments, limiter=threads)
            async with self._turn_to_compute(caller) if work is Work.COMPUTING else contextlib.nullcontext():
                return await trio.to_thread.run_sync(
                    _unless_signalled, caller, call, *arguments, limiter=threads
                )

    @contextlib.asynccontextmanager
    async def _turn_to_compute(self, caller: Caller) -> AsyncIterator[None]:
        async with self._computing[caller.uid], self._all_computing:
            yield

    async def _wait_for_others(self, caller: Caller, call: Callable[..., T], *arguments: object) -> T:
        threads = self._for_others[caller.uid]
        with numbers.WAITING_FOR_OTHERS.one(caller.uid):
            while threads.available_tokens < 1:
                if self._stopping() or is_signalled(caller.pid):
                    raise Interrupted
                await trio.sleep(_LOOK)
            return await trio.to_thread.run_sync(call, *arguments, limiter=threads)

    async def prepare(self, needed: NeedsWork, uid: int) -> None:
        """Does what a request of this user needs first. Raises what that raises."""
        if needed.waiter is None:
            await trio.to_thread.run_sync(needed.prepare, limiter=self._disk[uid])
        else:
            await self._prepare_elsewhere(needed, needed.waiter)

    async def _prepare_elsewhere(self, needed: NeedsWork, caller: Caller) -> None:
        outcome: list[Exception | None] = []

        def prepare() -> None:
            try:
                needed.prepare()
                outcome.append(None)
            except Exception as error:  # noqa: BLE001  (raised below)
                outcome.append(error)

        try:
            with numbers.WAITING_FOR_MACHINES.one(caller.uid):
                threads = self._for_machines[caller.uid]
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._cancel_when_unwanted, caller, nursery.cancel_scope)
                    await trio.to_thread.run_sync(prepare, limiter=threads, abandon_on_cancel=True)
                    nursery.cancel_scope.cancel()
        except OSError as too_many:
            needed.abandon(too_many)
            return
        if not outcome:
            needed.abandon(Interrupted())
        elif outcome[0] is not None:
            raise outcome[0]

    async def _cancel_when_unwanted(self, caller: Caller, scope: trio.CancelScope) -> None:
        while not (self._stopping() or is_signalled(caller.pid)):
            await trio.sleep(_LOOK)
        scope.cancel()


def _unless_signalled(caller: Caller, call: Callable[..., T], *arguments: object) -> T:
    if is_signalled(caller.pid):
        raise Interrupted
    return call(*arguments)


class CachedReads:
    """Reads that the page cache of the backing filesystem answers (RWF_NOWAIT): no thread, no copy.

    There is one buffer, and an answer is valid until the next read: pyfuse3 passes it to the kernel before it
    awaits anything.
    """

    def __init__(self) -> None:
        self._buffer = memoryview(bytearray(MAX_WRITE))
        self._flags = os.RWF_NOWAIT

    def read(self, fd: int, offset: int, size: int) -> memoryview | None:
        """Returns up to `size` bytes, fewer only at the end of the file; None if that has to wait."""
        if size > len(self._buffer):
            return None
        try:
            count = os.preadv(fd, [self._buffer[:size]], offset, self._flags)
        except BlockingIOError:
            return None
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP or not self._flags:
                raise
            self._flags = 0  # a filesystem that can't tell, tmpfs for example: then the read may wait
            return self.read(fd, offset, size)
        if count < size and offset + count < os.fstat(fd).st_size:
            return None  # it ended at a page that is not cached; the kernel would take that for the end
        return self._buffer[:count]
