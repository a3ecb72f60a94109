"""The loop between requests: turns, yields, ends."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pyfuse3
import pytest
import trio
import trio.testing

from artfs.fuse import loop
from artfs.fuse.loop import TrioInterface, quick_loop


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for fd in ends:
        os.close(fd)


def test_pyfuse3_gets_its_own_trio_back():
    before = pyfuse3.trio  # type: ignore[attr-defined]
    with quick_loop():
        assert isinstance(pyfuse3.trio, TrioInterface)  # type: ignore[attr-defined]
    assert pyfuse3.trio is before  # type: ignore[attr-defined]


def test_waiting_ends_when_there_is_something_to_read(pipe):
    async def main():
        quick = TrioInterface()
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(quick.wait_readable, pipe[0])
                await trio.testing.wait_all_tasks_blocked(0.01)
                os.write(pipe[1], b"x")
            await quick.wait_readable(pipe[0])

    trio.run(main)


@pytest.mark.parametrize("readable", [False, True])
def test_waiting_ends_when_the_loop_ends(pipe, readable):
    if readable:
        os.write(pipe[1], b"x")

    async def main():
        quick = TrioInterface()
        quick.notify_closing(pipe[0])
        with trio.fail_after(10), pytest.raises(trio.ClosedResourceError):
            await quick.wait_readable(pipe[0])

    trio.run(main)


def test_a_sleeping_task_wakes_when_the_loop_ends(pipe):
    async def main():
        quick = TrioInterface()

        async def wait():
            with pytest.raises(trio.ClosedResourceError):
                await quick.wait_readable(pipe[0])

        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait)
                await trio.testing.wait_all_tasks_blocked(0.01)
                quick.notify_closing(pipe[0])

    trio.run(main)


def test_other_tasks_run_during_an_endless_stream_of_requests(pipe):
    os.write(pipe[1], b"x")

    async def main():
        quick = TrioInterface()
        ran = trio.Event()

        async def background():
            ran.set()

        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(background)
                while not ran.is_set():
                    await quick.wait_readable(pipe[0])

    trio.run(main)


def test_turns_exclude_each_other():
    async def main():
        quick = TrioInterface()
        turn = quick.Lock()
        inside = 0

        async def work():
            nonlocal inside
            for _ in range(20):
                async with turn:
                    inside += 1
                    assert inside == 1
                    await trio.lowlevel.checkpoint()
                    inside -= 1

        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                for _ in range(5):
                    nursery.start_soon(work)
        assert quick._turning == 0

    trio.run(main)


def test_a_cancelled_task_releases_its_turn():
    async def main():
        quick = TrioInterface()
        turn = quick.Lock()
        async with turn:
            with trio.move_on_after(0):
                await turn.__aenter__()
        with trio.fail_after(10):
            async with turn:
                pass
        assert quick._turning == 0

    trio.run(main)


def test_a_task_that_returns_at_once_keeps_the_turn():
    """Two requests that are answered without blocking follow each other without a switch of tasks."""

    async def main():
        quick = TrioInterface()
        turn = quick.Lock()
        order = []

        async def other():
            async with turn:
                order.append("other")

        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                async with turn:
                    nursery.start_soon(other)
                    await trio.testing.wait_all_tasks_blocked()
                for _ in range(3):
                    async with turn:
                        order.append("first")
        assert order == ["first", "first", "first", "other"]

    trio.run(main)


def test_an_interrupted_request_does_not_end_the_loop():
    async def main():
        tries = 0

        async def session_loop(argument):
            nonlocal tries
            assert argument == "argument"
            tries += 1
            if tries < 3:
                raise BlockingIOError

        quick = TrioInterface()
        async with quick.open_nursery() as nursery:
            nursery.start_soon(session_loop, "argument", name="name")
        assert tries == 3
        assert quick._living == 0

    trio.run(main)


def test_an_idle_mount_does_not_spin(pipe):
    async def main():
        quick = TrioInterface()
        for _ in range(20):
            with trio.move_on_after(0.002):
                await quick.wait_readable(pipe[0])
        assert quick._window < loop.SPIN / 1000

    trio.run(main)
