"""Durable changes: their results, what a crash leaves, races."""

from __future__ import annotations

import errno
import fcntl
import itertools
import os
import time
from pathlib import Path

import pytest

from artfs.errors import LostRace
from artfs.linux import syscalls
from artfs.store import durable, tree_removal
from tests.unit.stores import crash_at, crash_points, directory, in_threads


@pytest.fixture
def fd(tmp_path: Path):
    with directory(tmp_path) as fd:
        yield fd


def names(path: Path) -> list[str]:
    return sorted(os.listdir(path))


def test_create_does_not_replace(fd: int, tmp_path: Path) -> None:
    assert durable.create(fd, b"a", b"one", label="t", mode=0o640)
    assert not durable.create(fd, b"a", b"two", label="t")
    assert (tmp_path / "a").read_bytes() == b"one"
    assert (tmp_path / "a").stat().st_mode & 0o7777 == 0o640
    assert names(tmp_path) == ["a"]


def test_create_works_without_renameat2(fd: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EINVAL, "")

    monkeypatch.setattr(syscalls, "renameat2", refuse)
    assert durable.create(fd, b"a", b"one", label="t")
    assert not durable.create(fd, b"a", b"two", label="t")
    (tmp_path / "d").mkdir()
    (tmp_path / "e").mkdir()
    with pytest.raises(FileExistsError):
        durable.move(fd, b"d", fd, b"e", label="t")
    durable.move(fd, b"d", fd, b"f", label="t")
    assert names(tmp_path) == ["a", "e", "f"]
    assert (tmp_path / "a").read_bytes() == b"one"


def test_one_of_many_creators_wins(fd: int, tmp_path: Path) -> None:
    created = in_threads(8, lambda number: durable.create(fd, b"a", b"%d" % number, label="t"))
    [winner] = [number for number, is_first in enumerate(created) if is_first]
    assert (tmp_path / "a").read_bytes() == b"%d" % winner
    assert names(tmp_path) == ["a"]


def test_replace_if_unchanged_refuses_after_a_change(fd: int, tmp_path: Path) -> None:
    def change(expected: bytes | None, data: bytes | None) -> None:
        durable.replace_if_unchanged(fd, b"a", expected, data, label="t")

    with pytest.raises(LostRace):
        change(b"0", b"1")
    change(None, b"1")
    with pytest.raises(LostRace):
        change(None, b"2")
    change(b"1", b"2")
    assert (tmp_path / "a").read_bytes() == b"2"
    with pytest.raises(LostRace):
        change(b"1", None)
    change(b"2", None)
    change(None, None)
    assert names(tmp_path) == []


def test_concurrent_replacements_lose_no_change(fd: int, tmp_path: Path) -> None:
    durable.create(fd, b"n", b"0", label="t")

    def count(_: int) -> None:
        done = 0
        while done < 20:
            old = durable.read(fd, b"n")
            try:
                durable.replace_if_unchanged(fd, b"n", old, b"%d" % (int(old) + 1), label="t")
                done += 1
            except LostRace:
                pass

    in_threads(4, count)
    assert (tmp_path / "n").read_bytes() == b"80"


def test_locks_fall_back_to_a_file(fd: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = fcntl.flock

    def flock(lock_fd: int, how: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{lock_fd}"):
            raise OSError(errno.EBADF, "")
        real(lock_fd, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    durable.replace_if_unchanged(fd, b"a", None, b"1", label="t")
    assert names(tmp_path) == [durable.LOCK_FILE.decode(), "a"]


def test_a_replacement_announces_its_steps(fd: int) -> None:
    labels = crash_points(lambda: durable.replace(fd, b"a", b"1", label="t"))
    assert labels == ["t:write", "t:fsync", "t:rename", "t:sync-dir"]


@pytest.mark.parametrize("how", ["create", "replace", "if_unchanged", "remove", "move"])
def test_a_crash_leaves_the_old_or_the_new(fd: int, tmp_path: Path, how: str) -> None:
    old, new = {"a": b"old"}, {"a": b"new"}
    if how == "create":
        old = {}
    elif how == "remove":
        new = {}
    elif how == "move":
        new = {"b": b"old"}

    def prepare() -> None:
        for name in names(tmp_path):
            os.unlink(tmp_path / name)
        for name, data in old.items():
            (tmp_path / name).write_bytes(data)

    def action() -> None:
        match how:
            case "create":
                durable.create(fd, b"a", b"new", label="t")
            case "replace":
                durable.replace(fd, b"a", b"new", label="t")
            case "if_unchanged":
                durable.replace_if_unchanged(fd, b"a", b"old", b"new", label="t")
            case "remove":
                durable.remove(fd, b"a", label="t")
            case "move":
                durable.move(fd, b"a", fd, b"b", label="t")

    prepare()
    labels = crash_points(action)
    seen = []
    for number in range(len(labels)):
        prepare()
        crash_at(number, action)
        left = names(tmp_path)
        state = {n: (tmp_path / n).read_bytes() for n in left if not n.startswith(".artfs-tmp.")}
        assert state in (old, new), labels[number]
        seen.append(state)
        tree_removal.sweep_temps(fd, any_age=True)
        assert {n: (tmp_path / n).read_bytes() for n in names(tmp_path)} == state
    assert seen[0] == old
    assert seen[-1] == new


def test_a_full_disk_leaves_no_temp(fd: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError):
        durable.replace(fd, b"a", b"1", label="t")
    monkeypatch.undo()
    assert names(tmp_path) == []


def test_only_regular_files_are_read(fd: int, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("target")
    (tmp_path / "target").write_bytes(b"x")
    os.mkfifo(tmp_path / "fifo")
    for name in (b"link", b"fifo"):
        with pytest.raises(OSError):
            durable.read(fd, name)
    with pytest.raises(FileNotFoundError):
        durable.read(fd, b"none")
    assert durable.read(fd, b"target") == b"x"


def test_temps_of_dead_processes_are_stale_after_an_hour() -> None:
    ours = durable.temp_name()
    dead = durable.TEMP_PREFIX + b"999999999.abc"
    assert ours.startswith(b".artfs")
    assert not durable.is_stale_temp(ours, 0)
    assert durable.is_stale_temp(dead, 0)
    assert not durable.is_stale_temp(dead, time.time() - 60)
    assert not durable.is_stale_temp(b"file", 0)


def test_renameat2_exchanges_names(fd: int, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1")
    (tmp_path / "b").write_bytes(b"2")
    syscalls.renameat2(fd, b"a", fd, b"b", syscalls.RENAME_EXCHANGE)
    assert (tmp_path / "a").read_bytes() == b"2"
    with pytest.raises(FileNotFoundError) as caught:
        syscalls.renameat2(fd, b"none", fd, b"b", syscalls.RENAME_NOREPLACE)
    assert caught.value.filename == b"none"


def test_utimensat_keeps_omitted_times(fd: int, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"")
    syscalls.utimensat(fd, b"a", 1_500_000_001, -1)
    syscalls.utimensat(fd, b"a", None, 5)
    found = (tmp_path / "a").stat()
    assert (found.st_atime_ns, found.st_mtime_ns) == (1_500_000_001, 5)
    with (tmp_path / "a").open("rb") as file:
        syscalls.futimens(file.fileno(), 7, None)
    found = (tmp_path / "a").stat()
    assert (found.st_atime_ns, found.st_mtime_ns) == (7, 5)


def test_threads_list_a_directory_through_one_descriptor(fd: int, tmp_path: Path) -> None:
    wanted = {f"name-{number}" for number in range(50)}
    for name in wanted:
        (tmp_path / name).touch()
    found = in_threads(4, lambda _: [durable.names(fd) for _ in range(1000)])
    assert all(len(names) == 50 and set(names) == wanted for names in itertools.chain(*found))


def test_a_child_forked_under_a_directory_lock_does_not_keep_it(fd: int) -> None:
    reading, writing = os.pipe()
    with durable.directory_lock(fd):
        child = os.fork()
        if child == 0:
            os.close(writing)
            os.read(reading, 1)
            os._exit(0)
    mine = durable.open_directory(fd, b".")
    try:
        fcntl.flock(mine, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        for descriptor in (mine, reading, writing):
            os.close(descriptor)
        os.waitpid(child, 0)
