"""Threads for requests: how many each user has, and that users do not wait for each other."""

from __future__ import annotations

import errno
import functools
import threading
from collections.abc import Awaitable, Callable

import pytest
import trio

from artfs.errors import Interrupted
from artfs.fuse import workers
from artfs.fuse.workers import Workers
from artfs.vfs.node import ROOT, Caller, NeedsWork, Work
from tests.conformance.helpers import fails

HER, HIM = Caller(1001, 1001, 0), Caller(1002, 1002, 0)


class Line:
    """Calls that wait until they are released."""

    def __init__(self) -> None:
        self.workers = Workers(lambda: False)
        self.go = threading.Event()
        self.running = 0

    def call(self) -> None:
        self.running += 1
        self.go.wait(30)

    async def run(self, caller: Caller, work: Work = Work.COMMAND) -> None:
        await self.workers.run(work, caller, self.call)

    async def prepare(self, caller: Caller) -> None:
        await self.workers.prepare(NeedsWork(self.call), caller.uid)

    async def start(
        self, nursery: trio.Nursery, count: int, call: Callable[..., Awaitable[None]], *arguments: object
    ) -> None:
        """Starts a call several times; returns when all tasks are blocked."""
        for _ in range(count):
            nursery.start_soon(call, *arguments)
        await trio.sleep(0.1)


def in_trio(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    @functools.wraps(test)
    def run(*arguments: object, **named: object) -> None:
        trio.run(functools.partial(test, *arguments, **named))

    return run


@in_trio
async def test_many_commands_of_a_user_delay_no_other_user() -> None:
    line = Line()
    async with trio.open_nursery() as nursery:
        await line.start(nursery, 100, line.run, HER)
        assert line.running == 4
        with trio.fail_after(10):
            assert await line.workers.run(Work.COMMAND, HIM, lambda: "his") == "his"
        await line.start(nursery, 10, line.run, ROOT)
        assert line.running == 14
        line.go.set()
    assert line.running == 110


@in_trio
async def test_one_command_per_user_and_two_of_all_compute() -> None:
    line = Line()
    async with trio.open_nursery() as nursery:
        await line.start(nursery, 20, line.run, HER, Work.COMPUTING)
        assert line.running == 1
        with trio.fail_after(10):
            await line.workers.run(Work.COMMAND, HER, lambda: None)
            await line.workers.run(Work.COMPUTING, HIM, lambda: None)
        await line.start(nursery, 20, line.run, ROOT, Work.COMPUTING)
        assert line.running == 2
        line.go.set()


@in_trio
async def test_commands_beyond_a_users_share_are_refused() -> None:
    line = Line()
    async with trio.open_nursery() as nursery:
        await line.start(nursery, 256, line.run, HER)
        with fails(errno.EAGAIN):
            await line.run(HER)
        await line.workers.run(Work.COMMAND, HIM, lambda: None)
        line.go.set()


@in_trio
async def test_a_command_whose_caller_was_signalled_is_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    signalled: set[int] = set()
    monkeypatch.setattr(workers, "is_signalled", signalled.__contains__)
    refused = 0
    line = Line()

    async def interrupted() -> None:
        nonlocal refused
        try:
            await line.run(Caller(HER.uid, HER.gid, 4711))
        except Interrupted:
            refused += 1

    async with trio.open_nursery() as nursery:
        await line.start(nursery, 4, line.run, HER)
        await line.start(nursery, 20, interrupted)
        signalled.add(4711)
        line.go.set()
    assert line.running == 4
    assert refused == 20


@in_trio
async def test_a_user_waiting_for_the_disk_delays_no_other() -> None:
    line = Line()
    async with trio.open_nursery() as nursery:
        await line.start(nursery, 50, line.prepare, HER)
        await line.start(nursery, 50, line.run, HER, Work.DISK)
        with trio.fail_after(10):
            await line.workers.run(Work.DISK, HIM, lambda: None)
        assert line.running == 16
        line.go.set()
    assert line.running == 100


@in_trio
async def test_abandoned_threads_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupted caller leaves a thread that still waits for another machine."""
    signalled: set[int] = set()
    monkeypatch.setattr(workers, "is_signalled", signalled.__contains__)
    why: list[Exception] = []
    line = Line()
    first, second = Caller(1001, 1001, 1), Caller(1001, 1001, 2)

    async def wait(caller: Caller) -> None:
        await line.workers.prepare(NeedsWork(line.call, waiter=caller, abandon=why.append), caller.uid)

    async with trio.open_nursery() as nursery:
        await line.start(nursery, 128, wait, first)
        signalled.add(1)
        with trio.fail_after(10):
            while len(why) < 128:
                await trio.sleep(0.01)
        await line.start(nursery, 1, wait, second)
        assert line.running == 128
        line.go.set()
    assert line.running == 129
    assert all(isinstance(error, Interrupted) for error in why)
