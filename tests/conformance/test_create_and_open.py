"""open(2) and creat(2): what they create and refuse."""

from __future__ import annotations

import os
import stat

import pytest

from tests.conformance.driver import Filesystem, OsFilesystem
from tests.conformance.helpers import read, write


def test_o_trunc_empties_and_keeps_the_node(fs: Filesystem) -> None:
    write(fs, b"file", b"x" * 10000)
    before = fs.stat(b"file")
    fs.open(b"file", os.O_WRONLY | os.O_TRUNC).close()
    after = fs.stat(b"file")
    assert (after.size, after.ino, after.blocks) == (0, before.ino, 0)
    assert read(fs, b"file") == b""


def test_o_trunc_is_seen_by_an_open_reader(fs: Filesystem) -> None:
    write(fs, b"file", b"old bytes")
    with fs.open(b"file", os.O_RDONLY) as reader:
        assert reader.pread(100, 0) == b"old bytes"
        write(fs, b"file", b"new")
        assert reader.pread(100, 0) == b"new"


def test_o_append_writes_at_the_current_end(fs: Filesystem) -> None:
    write(fs, b"log", b"one\n")
    with fs.open(b"log", os.O_WRONLY | os.O_APPEND) as log:
        log.append(b"two\n")
        with fs.open(b"log", os.O_WRONLY) as other:
            other.pwrite(b"three\n", 8)
        log.append(b"four\n")
        log.truncate(0)
        log.append(b"five\n")
        log.append(b"six\n")
    assert read(fs, b"log") == b"five\nsix\n"


@pytest.mark.real
@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_the_umask_is_applied_once(fs: OsFilesystem, umask: int) -> None:
    before = os.umask(umask)
    try:
        write(fs, b"file", mode=0o666)
        fs.mkdir(b"dir", 0o777)
        fs.mknod(b"fifo", stat.S_IFIFO | 0o666)
        fs.mknod(b"node", stat.S_IFREG | 0o666)
    finally:
        os.umask(before)
    assert fs.stat(b"file").permissions == 0o666 & ~umask
    assert fs.stat(b"dir").permissions == 0o777 & ~umask
    assert fs.stat(b"fifo").permissions == 0o666 & ~umask
    assert fs.stat(b"node").permissions == 0o666 & ~umask


@pytest.mark.parametrize("mode", [0o000, 0o200, 0o400, 0o444])
def test_the_mode_does_not_restrict_the_creating_handle(fs: Filesystem, mode: int) -> None:
    with fs.open(b"locked", os.O_RDWR | os.O_CREAT | os.O_EXCL, mode) as file:
        file.pwrite(b"written", 0)
        assert file.pread(10, 0) == b"written"
        assert file.stat().permissions == mode


def test_many_handles_on_one_file_are_one_file(fs: Filesystem) -> None:
    write(fs, b"file", b"....")
    handles = [fs.open(b"file", os.O_RDWR) for _ in range(20)]
    for number, handle in enumerate(handles):
        handle.pwrite(bytes([65 + number]), number)
    expected = bytes(range(65, 85))
    assert all(handle.pread(100, 0) == expected for handle in handles)
    for handle in handles:
        handle.close()
    assert read(fs, b"file") == expected


@pytest.mark.real
def test_a_file_can_be_opened_by_proc_self_fd(fs: OsFilesystem) -> None:
    """Shells and tools that use temporary files open files again in this way."""
    write(fs, b"file", b"before")
    with fs.open(b"file", os.O_RDONLY) as reader:
        again = os.open(f"/proc/self/fd/{reader.fileno()}", os.O_RDWR)
        os.pwrite(again, b"AFTER.", 0)
        os.close(again)
        assert reader.pread(100, 0) == b"AFTER."
