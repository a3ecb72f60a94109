"""Threads for requests to control files and for changes of directories: what waits for the disk, or computes.

Owns who has his turn next. Must not know what the requests are. Event loop's thread only.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TypeVar

import trio

from artfs.errors import Interrupted
from artfs.fuse.shares import Waiting
from artfs.linux.procfs import is_signalled
from artfs.vfs.node import Caller

T = TypeVar("T")

_MOST = 768  # requests that have a thread, or will
_SHARE = 256  # of these one user's
_THREADS, _THREADS_OF_ROOT = 4, 32
_COMPUTING = 2  # at the same time: they share one interpreter with the loop, which answers everybody
_COMPUTING_SHARE = 1  # of these one user's, so that the turn of others comes


class Threads:
    """Each user has a few of them, and the others of his requests wait in a line of his own."""

    def __init__(self) -> None:
        self._turns = Waiting(_MOST, _SHARE, _THREADS, of_root=_THREADS_OF_ROOT)
        self._computing = Waiting(_MOST, _SHARE, _COMPUTING_SHARE, of_root=_COMPUTING)
        self._all_computing = trio.CapacityLimiter(_COMPUTING)

    async def run(
        self, caller: Caller, call: Callable[..., T], *arguments: object, computes: bool = False
    ) -> T:
        """Calls on a thread. What ``computes`` for long has few of its kind beside it.

        Raises EAGAIN if too many wait already, and Interrupted if the caller wants to end when his turn
        comes: he can't before he is answered.
        """
        async with contextlib.AsyncExitStack() as turns:
            threads = turns.enter_context(self._turns.one(caller.uid))
            if computes:
                await turns.enter_async_context(turns.enter_context(self._computing.one(caller.uid)))
                await turns.enter_async_context(self._all_computing)
            if computes or threads.available_tokens < 1:
                call = _unless_given_up(caller, call)
            return await trio.to_thread.run_sync(call, *arguments, limiter=threads)


def _unless_given_up(caller: Caller, call: Callable[..., T]) -> Callable[..., T]:
    def run(*arguments: object) -> T:
        if is_signalled(caller.pid):
            raise Interrupted
        return call(*arguments)

    return run


__all__ = ["Threads"]
