"""Several processes: appends, races, mappings, locks, and what each sees of the others."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import struct
from collections.abc import Callable

import pytest

from tests.conformance.driver import OsFilesystem
from tests.conformance.helpers import eventually, exists, fails, read, write
from tests.conformance.processes import Child

pytestmark = pytest.mark.real


def all_at_once(function: Callable[[int], object], count: int) -> list[object]:
    """Runs ``function(number)`` in so many processes at once; returns their results in order."""

    def run(number: int) -> Callable[[Child], object]:
        def body(child: Child) -> object:
            child.say()
            child.pause()
            return function(number)

        return body

    children = [Child(run(number)) for number in range(count)]
    try:
        for child in children:
            child.heard()
        for child in children:
            child.go()
        return [child.value() for child in children]
    finally:
        for child in children:
            child.__exit__(None, None, None)


def test_concurrent_appends_are_all_complete(fs: OsFilesystem) -> None:
    write(fs, b"log")

    def append(number: int) -> None:
        fd = os.open(fs.path(b"log"), os.O_WRONLY | os.O_APPEND)
        for line in range(100):
            os.write(fd, b"%d %d %s\n" % (number, line, b"x" * (line * 3)))
        os.close(fd)

    all_at_once(append, 4)
    lines = read(fs, b"log").splitlines()
    expected = {b"%d %d %s" % (n, line, b"x" * (line * 3)) for n in range(4) for line in range(100)}
    assert len(lines) == 400
    assert set(lines) == expected
    for number in range(4):
        own = [line for line in lines if line.startswith(b"%d " % number)]
        assert own == sorted(own, key=lambda line: int(line.split()[1]))


def test_concurrent_writes_to_parts_of_a_file_are_kept(fs: OsFilesystem) -> None:
    write(fs, b"file")

    def fill(number: int) -> None:
        fd = os.open(fs.path(b"file"), os.O_WRONLY)
        for block in range(number, 200, 4):
            os.pwrite(fd, bytes([block]) * 1000, block * 1000)
        os.close(fd)

    all_at_once(fill, 4)
    assert read(fs, b"file") == b"".join(bytes([block]) * 1000 for block in range(200))


@pytest.mark.parametrize("how", ["O_EXCL", "mkdir", "link", "symlink", "rename noreplace"])
def test_exactly_one_process_wins_a_name(fs: OsFilesystem, how: str) -> None:
    def claim(number: int) -> list[int]:
        won = []
        own = b"own-%d" % number
        if how in ("link", "rename noreplace"):
            write(fs, own)
        for race in range(30):
            name = b"race-%d" % race
            try:
                if how == "O_EXCL":
                    fs.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL).close()
                elif how == "mkdir":
                    fs.mkdir(name)
                elif how == "link":
                    fs.link(own, name)
                elif how == "symlink":
                    fs.symlink(own, name)
                else:
                    fs.rename(own, name, 1)
                    write(fs, own)
                won.append(race)
            except FileExistsError:
                pass
        return won

    winners = all_at_once(claim, 4)
    claimed = [race for won in winners for race in won]  # type: ignore[attr-defined]
    assert sorted(claimed) == list(range(30))


def test_a_replaced_file_is_never_missing_or_torn(fs: OsFilesystem) -> None:
    """Write-and-rename: readers see one version or the next, complete."""
    write(fs, b"config", b"0" * 5000)

    def run(number: int) -> int:
        if number == 0:
            for version in range(1, 100):
                write(fs, b"config.tmp", b"%d" % (version % 10) * 5000)
                fs.rename(b"config.tmp", b"config")
            return 0
        seen = set()
        for _ in range(200):
            data = read(fs, b"config")
            assert len(data) == 5000
            assert len(set(data)) == 1
            seen.add(data[0])
        return len(seen)

    assert all_at_once(run, 3)[0] == 0
    assert read(fs, b"config") == b"9" * 5000


def test_changes_are_visible_to_other_processes_at_once(fs: OsFilesystem) -> None:
    write(fs, b"file", b"old")
    fs.mkdir(b"dir")

    def change(child: Child) -> None:
        child.pause()
        with fs.open(b"file", os.O_WRONLY) as file:
            file.pwrite(b"new and longer", 0)
            child.say()
            child.pause()
        fs.unlink(b"file")
        write(fs, b"dir/made", b"by the child")
        fs.rename(b"dir", b"moved")
        child.say()

    with Child(change) as child:
        # Everything that the kernel caches: size, content, existing and missing names.
        assert fs.stat(b"file").size == 3
        assert read(fs, b"file") == b"old"
        assert fs.listdir(b"dir") == []
        assert not exists(fs, b"dir/made")
        assert not exists(fs, b"moved")
        child.go()
        child.heard()
        assert fs.stat(b"file").size == 14
        assert read(fs, b"file") == b"new and longer"
        child.go()
        child.heard()
        assert not exists(fs, b"file")
        assert read(fs, b"moved/made") == b"by the child"
        assert fs.listdir(b"") == [b"moved"]
        child.value()


def test_a_killed_writers_data_is_kept(fs: OsFilesystem) -> None:
    def run(child: Child) -> None:
        fd = os.open(fs.path(b"file"), os.O_WRONLY | os.O_CREAT)
        os.write(fd, b"answered")
        child.say()
        child.pause()

    with Child(run) as child:
        child.heard()
        child.kill()
        assert child.outcome() == {"signal": signal.SIGKILL}
    assert read(fs, b"file") == b"answered"


# Mappings


def test_a_program_runs_from_the_tree(fs: OsFilesystem) -> None:
    write(fs, b"script", b"#!/bin/sh\nexit 7\n", 0o755)
    with open("/bin/sh", "rb") as shell:
        write(fs, b"sh", shell.read(), 0o755)
    assert os.spawnv(os.P_WAIT, fs.path(b"script"), [b"script"]) == 7
    assert os.spawnv(os.P_WAIT, fs.path(b"sh"), [b"sh", b"-c", b"exit 9"]) == 9


def test_a_running_program_cannot_be_written(fs: OsFilesystem) -> None:
    with open("/bin/sleep", "rb") as program:
        write(fs, b"sleep", program.read(), 0o755)
    pid = os.spawnv(os.P_NOWAIT, fs.path(b"sleep"), [b"sleep", b"1000"])
    try:
        eventually(lambda: os.readlink(f"/proc/{pid}/exe").endswith("/sleep"))
        eventually(lambda: os.stat(f"/proc/{pid}/exe").st_ino == fs.stat(b"sleep").ino)
        with fails(errno.ETXTBSY):
            fs.open(b"sleep", os.O_WRONLY)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


# Locks


def test_record_locks_apply_to_ranges(fs: OsFilesystem) -> None:
    write(fs, b"db", bytes(100))

    def hold(child: Child) -> None:
        with fs.open(b"db", os.O_RDWR) as file:
            fcntl.lockf(file.fileno(), fcntl.LOCK_EX, 10, 20)
            child.say()
            child.pause()

    with Child(hold) as child, fs.open(b"db", os.O_RDWR) as file:
        child.heard()
        fd = file.fileno()
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 20, 0)
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 30)
        with fails(errno.EAGAIN, errno.EACCES):
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 29)
        # struct flock of 64-bit Linux; F_GETLK returns the conflicting lock.
        asked = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 100, 0)
        kind, _, start, length, pid = struct.unpack("hhqqi4x", fcntl.fcntl(fd, fcntl.F_GETLK, asked))
        assert (kind, start, length, pid) == (fcntl.F_WRLCK, 20, 10, child.pid)
        child.go()
        child.value()
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 100, 0)


def test_locks_protect_a_counter_of_many_processes(fs: OsFilesystem) -> None:
    write(fs, b"counter", b"0")

    def count(_number: int) -> None:
        for _ in range(50):
            with fs.open(b"counter", os.O_RDWR) as file:
                fcntl.flock(file.fileno(), fcntl.LOCK_EX)
                value = int(file.pread(20, 0))
                file.pwrite(b"%d" % (value + 1), 0)

    all_at_once(count, 4)
    assert read(fs, b"counter") == b"200"
