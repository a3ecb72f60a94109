"""How many descriptors and threads a daemon takes for itself, and what of them a user has."""

from __future__ import annotations

import errno
import logging
import os
import resource
import threading
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest
import trio

from artfs.errors import Interrupted
from artfs.fuse import shares, threads
from artfs.fuse.inode_table import InodeTable
from artfs.fuse.operations import Operations
from artfs.limits import log_rate_limit
from artfs.vfs.catalog_nodes import VolumeRoot
from artfs.vfs.node import ROOT, Caller, NeedsWork
from artfs.vfs.view import View
from artfs.volume.volume import Volume
from tests.conformance.helpers import fails

if TYPE_CHECKING:
    from artfs.fuse.session import Session

MOST = shares.MOST_DESCRIPTORS


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The limits of a process that is not root; the last are those that hold."""
    held = [(1024, 4096)]

    def setrlimit(_which: int, wanted: tuple[int, int]) -> None:
        hard = held[-1][1]
        if hard != resource.RLIM_INFINITY and (wanted[1] > hard or wanted[1] == resource.RLIM_INFINITY):
            raise ValueError("not allowed to raise maximum limit")
        held.append(wanted)

    monkeypatch.setattr(resource, "getrlimit", lambda _which: held[-1])
    monkeypatch.setattr(resource, "setrlimit", setrlimit)
    return held


@pytest.mark.parametrize(
    ("hard", "soft"),
    [(4096, 4096), (MOST, MOST), (1 << 30, MOST), (resource.RLIM_INFINITY, MOST)],
)
def test_the_limit_is_raised_to_what_there_can_be_use_for(
    limits: list[tuple[int, int]], hard: int, soft: int
) -> None:
    limits.append((1024, hard))
    shares.raise_descriptor_limit()
    assert limits[-1][0] == soft


def test_threads_that_nobody_waits_for_any_more_still_count() -> None:
    """A request that was given up leaves its thread with its token."""
    waiting = shares.Waiting(most=10, share=10, threads=2)
    with waiting.one(1000) as first:
        first.acquire_on_behalf_of_nowait("a thread")
    with waiting.one(1000) as limiter:
        assert limiter is first
        assert limiter.available_tokens == 1
    first.release_on_behalf_of("a thread")
    with waiting.one(1000):
        pass
    with waiting.one(1000) as limiter:
        assert limiter is not first


# ---- pending versions ----------------------------------------------------------------------------------


def test_an_owner_has_a_share_of_the_pending_versions_that_are_held(limits: list[tuple[int, int]]) -> None:
    limits.append((1600, 1600))  # of which 1200 are the users'
    open_files = shares.OpenFiles(probe=2)
    open_files.check_for_tree(1001, 111)
    with fails(errno.EMFILE):
        open_files.check_for_tree(1001, 112)
    open_files.check_for_tree(0, 400)
    open_files.check_for_tree(1002, 0)


def test_what_nobody_knows_any_more_holds_no_descriptor(tmp_path: Path) -> None:
    """A kernel that forgets a pending version, and what is in it, has the daemon close it."""

    def held() -> int:
        return len(os.listdir("/proc/self/fd"))

    with Volume.init(tmp_path / "volume") as volume:
        view = View(volume)
        collection = volume.catalog.create("model")
        table = InodeTable(view, root := VolumeRoot(view))
        before, kept = held(), 2 * 64
        for number in range(200):
            volume.start(collection, b"job-%d" % number)
        below = root.collection(collection).lookup(b"pending")
        assert below is not None
        told = []
        for number in range(200):
            node = below.lookup(b"job-%d" % number)
            assert node is not None
            made, handle = node.create(b"file", os.O_WRONLY, 0o600, ROOT)
            handle.write(0, b"data")
            handle.release()
            for known in (node, made):
                table.remember(known)
                told.append((known.ino, 1))
        del known, node, made, handle
        assert held() >= before + 300
        table.forget(told)
        assert held() <= before + kept + 10
        again = below.lookup(b"job-0")
        assert again is not None
        assert again.ino == told[0][0]
        assert again.lookup(b"file") is not None


# ---- threads for commands ------------------------------------------------------------------------------

HER, HIM = Caller(1001, 1001, 0), Caller(1002, 1002, 0)


class Line:
    """Calls that wait until they are let go."""

    def __init__(self) -> None:
        self.commands = threads.Threads()
        self.go = threading.Event()
        self.running = 0

    def call(self) -> None:
        self.running += 1
        self.go.wait(30)

    async def run(self, caller: Caller, *, computes: bool = False) -> None:
        await self.commands.run(caller, self.call, computes=computes)

    async def stand(
        self, nursery: trio.Nursery, caller: Caller, count: int, *, computes: bool = False
    ) -> None:
        """Lets a user stand in line so often; returns when nothing happens any more."""
        for _ in range(count):
            nursery.start_soon(lambda: self.run(caller, computes=computes))
        await trio.sleep(0.1)


def test_who_sends_many_commands_waits_for_himself() -> None:
    async def main() -> None:
        line = Line()
        async with trio.open_nursery() as nursery:
            await line.stand(nursery, HER, 100)
            assert line.running == 4
            with trio.fail_after(10):
                assert await line.commands.run(HIM, lambda: "his") == "his"
            await line.stand(nursery, ROOT, 10)
            assert line.running == 14
            line.go.set()
        assert line.running == 110

    trio.run(main)


def test_few_compute_and_of_one_user_one() -> None:
    async def main() -> None:
        line = Line()
        async with trio.open_nursery() as nursery:
            await line.stand(nursery, HER, 20, computes=True)
            assert line.running == 1
            with trio.fail_after(10):
                await line.commands.run(HER, lambda: None)
                await line.commands.run(HIM, lambda: None, computes=True)
            await line.stand(nursery, ROOT, 20, computes=True)
            assert line.running == 2
            line.go.set()

    trio.run(main)


def test_a_line_has_an_end() -> None:
    async def main() -> None:
        line = Line()
        async with trio.open_nursery() as nursery:
            await line.stand(nursery, HER, threads._SHARE)
            with fails(errno.EAGAIN):
                await line.commands.run(HER, lambda: None)
            await line.commands.run(HIM, lambda: None)
            line.go.set()

    trio.run(main)


def test_who_gave_up_in_the_line_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    gone: set[int] = set()
    monkeypatch.setattr(threads, "is_signalled", gone.__contains__)
    refused = 0

    async def main() -> None:
        nonlocal refused
        line = Line()

        async def give_up() -> None:
            nonlocal refused
            try:
                await line.run(Caller(HER.uid, HER.gid, 4711))
            except Interrupted:
                refused += 1

        async with trio.open_nursery() as nursery:
            await line.stand(nursery, HER, 4)
            for _ in range(20):
                nursery.start_soon(give_up)
            await trio.sleep(0.1)
            gone.add(4711)
            line.go.set()
        assert line.running == 4

    trio.run(main)
    assert refused == 20


def test_who_waits_for_the_disk_waits_for_himself(tmp_path: Path) -> None:
    """Copies are made on the threads of who opened the file, also where a request tells no more."""

    async def main(operations: Operations) -> None:
        line = Line()
        operations._open.opened(7, HER)

        async def copy() -> None:
            await operations._prepare(NeedsWork(line.call), operations._asking([7, 0, b"data"]))

        async with trio.open_nursery() as nursery:
            for _ in range(100):
                nursery.start_soon(copy)
            with trio.fail_after(10):
                while line.running < 16:
                    await trio.sleep(0.01)
                await operations._on_disk(HIM.uid, lambda: None)
            assert line.running == 16
            line.go.set()
        assert line.running == 100

    with Volume.init(tmp_path / "volume") as volume:
        trio.run(main, Operations(cast("Session", None), View(volume)))


# ---- the log -------------------------------------------------------------------------------------------


class Log:
    """What a log tells of what is logged; the clock stands still."""

    def __init__(self) -> None:
        self.now = 0.0
        self.told: list[str] = []
        self._sparing = log_rate_limit.Sparing(lambda: self.now)

    def tell(self, name: str, text: str) -> None:
        record = logging.LogRecord(name, logging.ERROR, "", 0, "%s", (text,), None)
        if self._sparing.filter(record):
            self.told.append(record.getMessage())


def test_what_users_repeat_is_told_once() -> None:
    log = Log()
    for _ in range(10):
        log.tell("artfs.references", "gone")
        log.tell("artfs.fuse.operations", "not the users'")
    assert log.told.count("gone") == 1
    assert log.told.count("not the users'") == 10
    log.tell("artfs.references", "changed")
    log.now = 4000
    log.tell("artfs.references", "gone")
    assert log.told[-2:] == ["changed", "gone"]


def test_the_log_grows_slowly_whatever_is_told() -> None:
    log = Log()
    for number in range(5000):
        log.tell("artfs.vfs.sealed", f"{number} is damaged")
    assert len(log.told) == 60
    log.now = 61
    log.tell("artfs.vfs.sealed", "1 is damaged")
    log.tell("artfs.vfs.sealed", "4000 is damaged")
    assert log.told[60:] == ["4000 is damaged (and 4940 others before)"]
