"""Locks of three kinds, across processes, behave as in a real directory, also on files of a base."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import struct
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

import pytest

from tests.conformance.arenas import Arenas
from tests.conformance.comparing import USERS, Record, outcome, turns
from tests.conformance.driver import OsFilesystem
from tests.conformance.helpers import eventually, in_syscall, write
from tests.conformance.processes import Child

pytestmark = pytest.mark.fuse

SH, EX, UN = fcntl.LOCK_SH, fcntl.LOCK_EX, fcntl.LOCK_UN
_TYPES = {SH: fcntl.F_RDLCK, EX: fcntl.F_WRLCK, UN: fcntl.F_UNLCK}
_FLOCK = "hhqqi4x"  # struct flock of 64-bit Linux


class Actor:
    """A process that executes the test's instructions one by one."""

    def __init__(self, fs: OsFilesystem) -> None:
        self._fs = fs
        self._files: dict[str, int] = {}
        asked, self._ask = os.pipe()
        self._answered, answer = os.pipe()
        self._ends = asked, answer
        self._child = Child(self._serve)
        os.close(asked)
        os.close(answer)

    def _serve(self, child: Child) -> None:
        os.close(self._ask)  # else this loop would never end
        asked, answer = self._ends
        with open(asked) as lines:
            for line in lines:
                method, arguments = json.loads(line)
                result = outcome(partial(getattr(self, "do_" + method), *arguments))
                os.write(answer, json.dumps(result).encode() + b"\n")

    # Called in the test.

    def send(self, method: str, *arguments: Any) -> None:
        os.write(self._ask, json.dumps((method, arguments)).encode() + b"\n")

    def answer(self) -> str:
        parts = b""
        while not parts.endswith(b"\n"):
            parts += os.read(self._answered, 1000)
        return str(json.loads(parts))

    def __call__(self, method: str, *arguments: Any) -> str:
        self.send(method, *arguments)
        return self.answer()

    def waits(self) -> None:
        """Waits until the process waits for a lock."""
        eventually(lambda: in_syscall(self._child.pid, "flock", "fcntl"), what="a process waits for a lock")

    def die(self) -> None:
        self._child.kill(signal.SIGKILL)
        self._child.outcome()

    def __enter__(self) -> Actor:
        return self

    def __exit__(self, *exception: object) -> None:
        os.close(self._ask)
        self._child.__exit__(None, None, None)
        os.close(self._answered)

    # Called in the process.

    def do_open(self, file: str, flags: int = os.O_RDWR, path: str = "it") -> None:
        self._files[file] = os.open(self._fs.path(path.encode()), flags | os.O_CLOEXEC)

    def do_dup(self, file: str, new: str) -> None:
        self._files[new] = os.dup(self._files[file])

    def do_close(self, file: str) -> None:
        os.close(self._files.pop(file))

    def do_write(self, file: str) -> None:
        os.pwrite(self._files[file], b"written", 0)

    def do_lock(self, kind: str, file: str, how: int, start: int = 0, length: int = 0) -> None:
        self._lock(kind, self._files[file], how, start, length, wait=False)

    def do_wait(self, kind: str, file: str, how: int, start: int = 0, length: int = 0) -> None:
        self._lock(kind, self._files[file], how, start, length, wait=True)

    def _lock(self, kind: str, fd: int, how: int, start: int, length: int, *, wait: bool) -> None:
        if kind == "flock":
            fcntl.flock(fd, how if wait else how | fcntl.LOCK_NB)
            return
        asked = struct.pack(_FLOCK, _TYPES[how], os.SEEK_SET, start, length, 0)
        if kind == "ofd":
            fcntl.fcntl(fd, fcntl.F_OFD_SETLKW if wait else fcntl.F_OFD_SETLK, asked)
        else:
            fcntl.fcntl(fd, fcntl.F_SETLKW if wait else fcntl.F_SETLK, asked)

    def do_look(self, kind: str, file: str, how: int, start: int, length: int) -> tuple[int, ...]:
        """Returns the conflicting lock, without the number of its process."""
        asked = struct.pack(_FLOCK, _TYPES[how], os.SEEK_SET, start, length, 0)
        command = fcntl.F_OFD_GETLK if kind == "ofd" else fcntl.F_GETLK
        return struct.unpack(_FLOCK, fcntl.fcntl(self._files[file], command, asked))[:4]


Script = Callable[[OsFilesystem, Actor, Actor, str], "list[str]"]


def _conflicts(fs: OsFilesystem, a: Actor, b: Actor, kind: str) -> list[str]:
    said = [a("open", "f"), b("open", "f")]
    for held in (SH, EX):
        for asked in (SH, EX):
            said += [a("lock", kind, "f", held), b("lock", kind, "f", asked)]
            said += [a("lock", kind, "f", UN), b("lock", kind, "f", asked), b("lock", kind, "f", UN)]
    return said


def _upgrades(fs: OsFilesystem, a: Actor, b: Actor, kind: str) -> list[str]:
    said = [a("open", "f"), b("open", "f"), a("lock", kind, "f", SH), b("lock", kind, "f", SH)]
    said += [a("lock", kind, "f", EX), b("lock", kind, "f", UN), a("lock", kind, "f", EX)]
    return [*said, b("lock", kind, "f", SH), a("lock", kind, "f", SH), b("lock", kind, "f", SH)]


def _ranges(fs: OsFilesystem, a: Actor, b: Actor, kind: str) -> list[str]:
    said = [a("open", "f"), b("open", "f"), a("lock", kind, "f", EX, 0, 10)]
    said += [
        b("lock", kind, "f", EX, 10, 10),
        b("lock", kind, "f", EX, 5, 10),
        a("lock", kind, "f", UN, 3, 2),
    ]
    said += [b("lock", kind, "f", EX, 3, 2), b("lock", kind, "f", EX, 2, 2), a("lock", kind, "f", EX, 0, 10)]
    if kind != "flock":
        said += [b("look", kind, "f", EX, 0, 100), a("look", kind, "f", SH, 0, 100)]
    return [*said, b("close", "f"), a("lock", kind, "f", EX, 0, 0), a("lock", kind, "f", EX, 1 << 62, 5)]


def _another_handle_closes(fs: OsFilesystem, a: Actor, b: Actor, kind: str) -> list[str]:
    said = [a("open", "f"), a("open", "g"), b("open", "f"), a("lock", kind, "f", EX), a("close", "g")]
    return [*said, b("lock", kind, "f", EX)]


def _a_duplicate_closes(fs: OsFilesystem, a: Actor, b: Actor, kind: str) -> list[str]:
    said = [a("open", "f"), a("dup", "f", "g"), b("open", "f"), a("lock", kind, "f", EX), a("close", "f")]
    return [*said, b("lock", kind, "f", EX), a("close", "g"), b("lock", kind, "f", EX)]


def _handles_of_one_process(fs: OsFilesystem, a: Actor, b: Actor, kind: str) -> list[str]:
    said = [a("open", "f"), a("open", "g"), a("lock", kind, "f", EX), a("lock", kind, "g", EX)]
    return [*said, a("lock", kind, "f", UN), a("lock", kind, "g", SH), a("lock", kind, "f", SH)]


def _ways_to_open(fs: OsFilesystem, a: Actor, b: Actor, kind: str) -> list[str]:
    said = []
    for flags in (os.O_RDONLY, os.O_WRONLY, os.O_PATH):
        said += [a("open", "f", flags), a("lock", kind, "f", SH), a("lock", kind, "f", EX), a("close", "f")]
    return said


def _other_kinds(fs: OsFilesystem, a: Actor, b: Actor, kind: str) -> list[str]:
    said = [a("open", "f"), b("open", "f"), a("lock", kind, "f", EX)]
    return said + [b("lock", other, "f", EX) for other in KINDS if other != kind]


def _the_holder_dies(fs: OsFilesystem, a: Actor, b: Actor, kind: str) -> list[str]:
    said = [a("open", "f"), b("open", "f"), a("lock", kind, "f", EX)]
    b.send("wait", kind, "f", EX)
    b.waits()
    a.die()
    return [*said, b.answer()]


def _waiting(fs: OsFilesystem, a: Actor, b: Actor, kind: str) -> list[str]:
    said = [a("open", "f"), b("open", "f"), a("lock", kind, "f", SH)]
    b.send("wait", kind, "f", EX)
    b.waits()
    return [*said, a("lock", kind, "f", UN), b.answer(), a("lock", kind, "f", SH)]


def _deadlock(fs: OsFilesystem, a: Actor, b: Actor, kind: str) -> list[str]:
    if kind != "fcntl":
        return []  # deadlocks are detected for these only
    said = [a("open", "f"), b("open", "f"), a("lock", kind, "f", EX, 0, 1), b("lock", kind, "f", EX, 1, 1)]
    a.send("wait", kind, "f", EX, 1, 1)
    a.waits()
    return [*said, b("wait", kind, "f", EX, 0, 1), b("lock", kind, "f", UN, 1, 1), a.answer()]


def _readers_before_the_first_writer(fs: OsFilesystem, a: Actor, b: Actor, kind: str) -> list[str]:
    """In a patch this write gives the file a new inode."""
    said = [a("open", "f", os.O_RDONLY), a("lock", kind, "f", SH), b("open", "f"), b("lock", kind, "f", EX)]
    said += [b("lock", kind, "f", SH), b("write", "f"), b("lock", kind, "f", EX), a("lock", kind, "f", UN)]
    return [*said, b("lock", kind, "f", EX), a("lock", kind, "f", SH)]


def _names_come_and_go(fs: OsFilesystem, a: Actor, b: Actor, kind: str) -> list[str]:
    said = [a("open", "f", os.O_RDONLY), a("lock", kind, "f", SH)]
    fs.rename(b"it", b"moved")
    said += [b("open", "f", os.O_RDWR, "moved"), b("lock", kind, "f", EX)]
    fs.link(b"moved", b"second")
    said += [b("open", "g", os.O_RDWR, "second"), b("lock", kind, "g", EX)]
    fs.unlink(b"moved")
    fs.unlink(b"second")
    write(fs, b"it", b"another")
    said += [b("open", "h", os.O_RDWR, "it"), b("lock", kind, "h", EX), b("lock", kind, "f", EX)]
    return [*said, a("close", "f"), b("lock", kind, "f", EX)]


KINDS = ("flock", "fcntl", "ofd")
SCRIPTS: dict[str, Script] = {
    "conflicts": _conflicts,
    "upgrades": _upgrades,
    "ranges": _ranges,
    "another handle closes": _another_handle_closes,
    "a duplicate closes": _a_duplicate_closes,
    "handles of one process": _handles_of_one_process,
    "ways to open": _ways_to_open,
    "other kinds": _other_kinds,
    "the holder dies": _the_holder_dies,
    "waiting": _waiting,
    "deadlock": _deadlock,
    "readers before the first writer": _readers_before_the_first_writer,
    "names come and go": _names_come_and_go,
}


def _build(fs: OsFilesystem, first: bool) -> None:
    if first:
        for kind in KINDS:
            fs.mkdir(kind.encode())
            write(fs, kind.encode() + b"/it", b"locked")


_SLOTS = dict.fromkeys(SCRIPTS, _build)


@pytest.mark.parametrize(("make", "user", "script"), turns([*SCRIPTS] * 2, ["root"]))
def test_locks_behave_as_in_a_real_directory(arenas: Arenas, make: str, user: str, script: str) -> None:
    slot = arenas.slot("locks", _SLOTS, make, script, user)

    def run(fs: OsFilesystem) -> Record:
        record = {}
        for kind in KINDS:
            with ExitStack() as stack:
                here = OsFilesystem(fs.path(kind.encode()))
                a, b = (stack.enter_context(Actor(here)) for _ in range(2))
                for step, said in enumerate(SCRIPTS[script](here, a, b, kind)):
                    record[f"{kind}, {step}"] = said
        return record

    with arenas.mounted.watched():
        slot.compare(USERS[user], run)
