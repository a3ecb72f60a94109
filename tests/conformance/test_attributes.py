"""Modes, owners and times: what sets them, and what changes them as a side effect."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from functools import partial

import pytest

from tests.conformance.driver import Filesystem, OsFilesystem
from tests.conformance.helpers import OLD, read, write
from tests.conformance.processes import NOBODY, in_child

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")


def test_the_mode_of_the_root_can_change(fs: Filesystem) -> None:
    for mode in (0o700, 0o1777, 0o755):
        fs.chmod(b"", mode)
        assert fs.stat(b"").permissions == mode


@as_root
@pytest.mark.real
def test_chown_to_the_same_owner_drops_setuid(fs: OsFilesystem) -> None:
    write(fs, b"program", mode=0o777)
    fs.chmod(b"program", 0o6777)
    with suppress(PermissionError):  # as ext4 does; here the kernel does not report a chown
        in_child(lambda: os.chown(fs.path(b"program"), -1, -1), uid=NOBODY)
    assert fs.stat(b"program").permissions == 0o6777
    fs.chown(b"program", -1, -1)
    assert fs.stat(b"program").permissions == 0o777


@as_root
@pytest.mark.real
def test_an_outsiders_write_drops_setgid_without_x(fs: OsFilesystem) -> None:
    """Linux does this since 6.2 (fs/attr.c, setattr_should_drop_sgid); before, it kept the bit."""
    if tuple(map(int, os.uname().release.split(".")[:2])) < (6, 2):
        pytest.skip("this kernel keeps setgid where the group may not execute")
    for name, gid, kept in ((b"theirs", NOBODY, 0o2666), (b"others", 4242, 0o666)):
        write(fs, name, b"data", 0o666)
        fs.chown(name, 0, gid)
        fs.chmod(name, 0o2666)
        in_child(partial(write, fs, name, b"more"), uid=NOBODY)
        assert fs.stat(name).permissions == kept


@as_root
@pytest.mark.real
@pytest.mark.parametrize("change", ["write", "truncate", "open with O_TRUNC"])
def test_another_users_change_of_content_drops_setuid(fs: OsFilesystem, change: str) -> None:
    write(fs, b"program", b"code", 0o777)
    fs.chmod(b"program", 0o6777)
    assert fs.stat(b"program").permissions == 0o6777
    path = fs.path(b"program")

    def alter() -> None:
        if change == "write":
            fd = os.open(path, os.O_WRONLY)
            os.pwrite(fd, b"CODE", 0)
            os.close(fd)
        elif change == "truncate":
            os.truncate(path, 2)
        else:
            os.close(os.open(path, os.O_WRONLY | os.O_TRUNC))

    in_child(alter, uid=NOBODY)
    assert fs.stat(b"program").permissions == 0o777


@pytest.mark.real
def test_setuid_is_kept_by_root_and_by_failed_changes(fs: OsFilesystem) -> None:
    write(fs, b"program", b"code", 0o755)
    fs.chmod(b"program", 0o6755)
    assert read(fs, b"program") == b"code"
    fs.rename(b"program", b"moved")
    fs.link(b"moved", b"linked")
    fs.utimens(b"moved", 1, 2)
    assert fs.stat(b"linked").permissions == 0o6755


@as_root
@pytest.mark.real
def test_a_setgid_directory_passes_on_its_group(fs: OsFilesystem) -> None:
    fs.mkdir(b"team")
    fs.chown(b"team", 0, 4242)
    fs.chmod(b"team", 0o2775)
    write(fs, b"team/file", mode=0o664)
    fs.mkdir(b"team/dir", 0o775)
    fs.symlink(b"file", b"team/link")
    fs.mknod(b"team/fifo", stat.S_IFIFO | 0o600)
    write(fs, b"team/dir/below")
    fs.mkdir(b"team/dir/deeper")
    for name in (b"file", b"dir", b"link", b"fifo", b"dir/below", b"dir/deeper"):
        assert fs.stat(b"team/" + name).gid == 4242, name
    assert fs.stat(b"team/dir").permissions & stat.S_ISGID
    assert fs.stat(b"team/dir/deeper").permissions & stat.S_ISGID
    assert not fs.stat(b"team/file").permissions & stat.S_ISGID
    write(fs, b"outside")
    assert fs.stat(b"outside").gid == os.getegid()


def test_a_write_moves_the_mtime_that_another_handle_sees(fs: Filesystem) -> None:
    write(fs, b"file", b"data")
    with fs.open(b"file", os.O_RDONLY) as reader, fs.open(b"file", os.O_WRONLY) as writer:
        fs.utimens(b"file", OLD, OLD)
        assert reader.stat().mtime == OLD
        writer.pwrite(b"more data", 0)
        assert reader.stat().mtime > OLD
        assert reader.stat() == writer.stat() == fs.stat(b"file")


def test_times_set_on_an_open_file_are_kept(fs: Filesystem) -> None:
    """tar, cp -p and rsync write, set the times, and close."""
    with fs.open(b"file", os.O_WRONLY | os.O_CREAT) as file:
        file.pwrite(b"data" * 10_000, 0)
        fs.utimens(b"file", OLD, OLD)
    assert fs.stat(b"file").mtime == OLD
    assert read(fs, b"file") == b"data" * 10_000
    assert fs.stat(b"file").mtime == OLD
