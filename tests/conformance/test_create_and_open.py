"""open(2) and creat(2): what they make, what they refuse."""

from __future__ import annotations

import errno
import os
import stat

import pytest

from tests.conformance.driver import Filesystem, OsFilesystem
from tests.conformance.helpers import exists, fails, read, write


def test_a_created_file_is_empty_regular_and_there(fs: Filesystem) -> None:
    with fs.open(b"new", os.O_WRONLY | os.O_CREAT, 0o640) as file:
        status = file.stat()
    assert status.kind == stat.S_IFREG
    assert status.permissions == 0o640
    assert (status.size, status.nlink, status.blocks) == (0, 1, 0)
    assert (status.uid, status.gid) == (os.geteuid(), os.getegid())
    assert fs.listdir(b"") == [b"new"]
    assert fs.stat(b"new").ino == status.ino


def test_open_of_a_missing_file_is_enoent(fs: Filesystem) -> None:
    with fails(errno.ENOENT):
        fs.open(b"missing", os.O_RDONLY)
    with fails(errno.ENOENT):
        fs.open(b"missing/below", os.O_WRONLY | os.O_CREAT)
    assert fs.listdir(b"") == []


def test_o_creat_opens_what_exists_and_keeps_its_mode(fs: Filesystem) -> None:
    write(fs, b"file", b"kept", 0o600)
    with fs.open(b"file", os.O_RDWR | os.O_CREAT, 0o777) as file:
        assert file.pread(10, 0) == b"kept"
    assert fs.stat(b"file").permissions == 0o600


def test_o_excl_refuses_whatever_has_the_name(fs: Filesystem) -> None:
    write(fs, b"file", b"kept")
    fs.mkdir(b"dir")
    fs.symlink(b"nowhere", b"dangling")
    for name in (b"file", b"dir", b"dangling"):
        with fails(errno.EEXIST):
            fs.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    assert read(fs, b"file") == b"kept"
    assert not exists(fs, b"nowhere")


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


def test_o_append_writes_at_the_end_wherever_that_is(fs: Filesystem) -> None:
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


def test_create_through_a_dangling_symlink_makes_its_target(fs: Filesystem) -> None:
    fs.symlink(b"target", b"link")
    write(fs, b"link", b"through")
    assert read(fs, b"target") == b"through"
    assert fs.stat(b"link").kind == stat.S_IFLNK


def test_a_directory_does_not_open_for_writing(fs: Filesystem) -> None:
    fs.mkdir(b"dir")
    for flags in (os.O_WRONLY, os.O_RDWR, os.O_RDONLY | os.O_CREAT, os.O_WRONLY | os.O_TRUNC):
        with fails(errno.EISDIR):
            fs.open(b"dir", flags)


def test_a_file_is_no_directory(fs: Filesystem) -> None:
    write(fs, b"file", b"kept")
    with fails(errno.ENOTDIR):
        fs.open(b"file/below", os.O_RDONLY)
    with fails(errno.ENOTDIR):
        fs.open(b"file/below", os.O_WRONLY | os.O_CREAT)
    with fails(errno.ENOTDIR):
        fs.open(b"file", os.O_RDONLY | os.O_DIRECTORY)
    with fails(errno.ENOTDIR):
        fs.listdir(b"file")
    with fails(errno.ENOTDIR):
        fs.stat(b"file/below")
    assert read(fs, b"file") == b"kept"


def test_open_of_a_directory_for_reading(fs: Filesystem) -> None:
    fs.mkdir(b"dir")
    with fs.open(b"dir", os.O_RDONLY | os.O_DIRECTORY) as directory:
        assert directory.stat().kind == stat.S_IFDIR
        with fails(errno.EISDIR):
            directory.pread(1, 0)


@pytest.mark.real
def test_o_nofollow(fs: OsFilesystem) -> None:
    write(fs, b"file")
    fs.mkdir(b"dir")
    fs.symlink(b"file", b"to-file")
    fs.symlink(b"dir", b"to-dir")
    with fails(errno.ELOOP):
        fs.open(b"to-file", os.O_RDONLY | os.O_NOFOLLOW)
    with fails(errno.ENOTDIR):
        fs.open(b"to-dir", os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY)
    fs.open(b"file", os.O_RDONLY | os.O_NOFOLLOW).close()


@pytest.mark.real
def test_o_path_gives_a_handle_on_the_link_itself(fs: OsFilesystem) -> None:
    fs.symlink(b"nowhere", b"link")
    with fs.open(b"link", os.O_PATH | os.O_NOFOLLOW) as handle:
        assert handle.stat().kind == stat.S_IFLNK
        assert os.readlink(b"", dir_fd=handle.fileno()) == b"nowhere"


@pytest.mark.real
def test_symlink_loops_are_eloop(fs: OsFilesystem) -> None:
    fs.symlink(b"b", b"a")
    fs.symlink(b"a", b"b")
    for refused in (
        lambda: fs.open(b"a", os.O_RDONLY),
        lambda: fs.stat(b"a", follow=True),
        lambda: fs.open(b"a/below", os.O_WRONLY | os.O_CREAT),
        lambda: fs.mkdir(b"b/below"),
    ):
        with fails(errno.ELOOP):
            refused()
    assert fs.readlink(b"a") == b"b"


@pytest.mark.real
def test_a_handle_does_what_it_was_opened_for(fs: OsFilesystem) -> None:
    write(fs, b"file", b"kept")
    with fs.open(b"file", os.O_RDONLY) as reader:
        with fails(errno.EBADF):
            reader.pwrite(b"x", 0)
        with fails(errno.EINVAL, errno.EBADF):
            reader.truncate(0)
    with fs.open(b"file", os.O_WRONLY) as writer, fails(errno.EBADF):
        writer.pread(1, 0)
    assert read(fs, b"file") == b"kept"


@pytest.mark.real
@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_the_umask_counts_once(fs: OsFilesystem, umask: int) -> None:
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
def test_the_mode_does_not_bind_the_handle_that_creates(fs: Filesystem, mode: int) -> None:
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
def test_opening_by_way_of_proc_self_fd(fs: OsFilesystem) -> None:
    """What shells and tempfile-based tools do to open a file a second time."""
    write(fs, b"file", b"before")
    with fs.open(b"file", os.O_RDONLY) as reader:
        again = os.open(f"/proc/self/fd/{reader.fileno()}", os.O_RDWR)
        os.pwrite(again, b"AFTER.", 0)
        os.close(again)
        assert reader.pread(100, 0) == b"AFTER."
