"""Modes, owners and times: what sets them, what changes them by the way."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import pytest

from tests.conformance.driver import RENAME_EXCHANGE, Filesystem, OsFilesystem, When
from tests.conformance.helpers import OLD, fails, read, tick, write
from tests.conformance.processes import NOBODY, in_child

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")


@pytest.mark.parametrize("mode", [0o000, 0o007, 0o644, 0o755, 0o777, 0o1777, 0o2755, 0o4755, 0o6711, 0o7777])
def test_chmod_keeps_all_twelve_bits(fs: Filesystem, mode: int) -> None:
    write(fs, b"file")
    fs.mkdir(b"dir")
    for name, kind in ((b"file", stat.S_IFREG), (b"dir", stat.S_IFDIR)):
        fs.chmod(name, mode)
        assert fs.stat(name).mode == kind | mode
    with fs.open(b"file", os.O_RDONLY) as file:
        file.chmod(0o640)
        assert file.stat().permissions == 0o640
    assert fs.stat(b"file").permissions == 0o640


def test_chmod_follows_symlinks_and_refuses_what_is_missing(fs: Filesystem) -> None:
    write(fs, b"file", mode=0o644)
    fs.symlink(b"file", b"link")
    fs.symlink(b"nowhere", b"dangling")
    fs.chmod(b"link", 0o600)
    assert fs.stat(b"file").permissions == 0o600
    for missing in (b"missing", b"dangling"):
        with fails(errno.ENOENT):
            fs.chmod(missing, 0o600)
    with fails(errno.ENOTDIR):
        fs.chmod(b"file/below", 0o600)


def test_the_mode_of_the_root_can_change(fs: Filesystem) -> None:
    for mode in (0o700, 0o1777, 0o755):
        fs.chmod(b"", mode)
        assert fs.stat(b"").permissions == mode


@as_root
def test_chown_sets_owner_group_or_both(fs: Filesystem) -> None:
    write(fs, b"file")
    fs.mkdir(b"dir")
    for name in (b"file", b"dir"):
        fs.chown(name, 1234, 5678)
        assert (fs.stat(name).uid, fs.stat(name).gid) == (1234, 5678)
        fs.chown(name, 42, -1)
        assert (fs.stat(name).uid, fs.stat(name).gid) == (42, 5678)
        fs.chown(name, -1, 43)
        assert (fs.stat(name).uid, fs.stat(name).gid) == (42, 43)
    fs.chown(b"file", 4_000_000_000, 4_000_000_001)
    assert (fs.stat(b"file").uid, fs.stat(b"file").gid) == (4_000_000_000, 4_000_000_001)


@as_root
def test_chown_of_a_symlink_itself_and_through_it(fs: Filesystem) -> None:
    write(fs, b"file")
    fs.symlink(b"file", b"link")
    fs.chown(b"link", 10, 20, follow=False)
    assert (fs.stat(b"link").uid, fs.stat(b"link").gid) == (10, 20)
    assert fs.stat(b"file").uid == 0
    fs.chown(b"link", 30, 40)
    assert (fs.stat(b"file").uid, fs.stat(b"file").gid) == (30, 40)
    assert (fs.stat(b"link").uid, fs.stat(b"link").gid) == (10, 20)


@as_root
@pytest.mark.real
def test_chown_of_an_executable_drops_setuid(fs: OsFilesystem) -> None:
    write(fs, b"program", mode=0o755)
    fs.chmod(b"program", 0o6755)
    fs.chown(b"program", 1000, 1000)
    assert fs.stat(b"program").permissions == 0o755
    fs.mkdir(b"dir")
    fs.chmod(b"dir", 0o2755)
    fs.chown(b"dir", 1000, 1000)
    assert fs.stat(b"dir").permissions == 0o2755


@as_root
@pytest.mark.real
def test_chown_to_nobody_else_drops_setuid(fs: OsFilesystem) -> None:
    write(fs, b"program", mode=0o777)
    fs.chmod(b"program", 0o6777)
    with suppress(PermissionError):  # ext4 says so; here the kernel doesn't tell that it was a chown
        in_child(lambda: os.chown(fs.path(b"program"), -1, -1), uid=NOBODY)
    assert fs.stat(b"program").permissions == 0o6777
    fs.chown(b"program", -1, -1)
    assert fs.stat(b"program").permissions == 0o777


@as_root
@pytest.mark.real
def test_setgid_without_x_goes_when_an_outsider_writes(fs: OsFilesystem) -> None:
    """As Linux has it since 6.2 (fs/attr.c, setattr_should_drop_sgid); before it kept the bit."""
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
def test_a_change_of_the_bytes_by_another_drops_setuid(fs: OsFilesystem, change: str) -> None:
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
def test_setuid_bits_stay_where_root_or_nobody_changes_anything(fs: OsFilesystem) -> None:
    write(fs, b"program", b"code", 0o755)
    fs.chmod(b"program", 0o6755)
    assert read(fs, b"program") == b"code"
    fs.rename(b"program", b"moved")
    fs.link(b"moved", b"linked")
    fs.utimens(b"moved", 1, 2)
    assert fs.stat(b"linked").permissions == 0o6755


@as_root
@pytest.mark.real
def test_a_setgid_directory_hands_down_its_group(fs: OsFilesystem) -> None:
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


@as_root
@pytest.mark.real
def test_what_a_user_makes_belongs_to_the_user(fs: OsFilesystem) -> None:
    fs.chmod(b"", 0o777)
    path = fs.path

    def make() -> None:
        os.umask(0o022)
        os.close(os.open(path(b"file"), os.O_WRONLY | os.O_CREAT, 0o666))
        os.mkdir(path(b"dir"))
        os.symlink(b"file", path(b"link"))
        os.mkfifo(path(b"fifo"))
        os.close(os.open(path(b"dir/below"), os.O_WRONLY | os.O_CREAT, 0o600))

    in_child(make, uid=NOBODY, gid=1357)
    for name in (b"file", b"dir", b"link", b"fifo", b"dir/below"):
        status = fs.stat(name)
        assert (status.uid, status.gid) == (NOBODY, 1357), name
    assert fs.stat(b"file").permissions == 0o644


@as_root
@pytest.mark.real
def test_permission_bits_bind_other_users(fs: OsFilesystem) -> None:
    write(fs, b"private", b"secret", 0o600)
    write(fs, b"public", b"open", 0o644)
    fs.mkdir(b"closed", 0o700)
    write(fs, b"closed/file", b"secret", 0o644)
    fs.mkdir(b"unlisted", 0o711)
    write(fs, b"unlisted/file", b"by name", 0o644)
    path = fs.path

    def attempt() -> dict[str, int | None]:
        trials: dict[str, Callable[[], object]] = {
            "read private": lambda: os.open(path(b"private"), os.O_RDONLY),
            "read public": lambda: os.open(path(b"public"), os.O_RDONLY),
            "write public": lambda: os.open(path(b"public"), os.O_WRONLY),
            "below closed": lambda: os.stat(path(b"closed/file")),
            "list unlisted": lambda: os.listdir(path(b"unlisted")),
            "below unlisted": lambda: os.open(path(b"unlisted/file"), os.O_RDONLY),
            "create": lambda: os.open(path(b"new"), os.O_WRONLY | os.O_CREAT),
            "mkdir": lambda: os.mkdir(path(b"new")),
            "unlink": lambda: os.unlink(path(b"public")),
            "rename": lambda: os.rename(path(b"public"), path(b"moved")),
            "truncate": lambda: os.truncate(path(b"public"), 0),
            "chmod": lambda: os.chmod(path(b"public"), 0o777),
            "chown": lambda: os.chown(path(b"public"), NOBODY, NOBODY),
            "utimens": lambda: os.utime(path(b"public"), (1, 1)),
            "touch": lambda: os.utime(path(b"public")),
            "setxattr": lambda: os.setxattr(path(b"public"), b"user.x", b"y"),
            "getxattr": lambda: os.getxattr(path(b"private"), b"user.x"),
        }
        results: dict[str, int | None] = {}
        for name, trial in trials.items():
            try:
                trial()
                results[name] = None
            except OSError as error:
                results[name] = error.errno
        return results

    allowed = {"read public", "below unlisted"}
    owners_only = {"chmod", "chown", "utimens"}
    for name, result in in_child(attempt, uid=NOBODY).items():
        expected = None if name in allowed else errno.EPERM if name in owners_only else errno.EACCES
        assert result == expected, name


@as_root
@pytest.mark.real
def test_a_sticky_directory_protects_other_peoples_files(fs: OsFilesystem) -> None:
    fs.mkdir(b"tmp")
    fs.chmod(b"tmp", 0o1777)
    write(fs, b"tmp/of-root", b"kept", 0o666)
    path = fs.path

    def attempt() -> list[int]:
        os.close(os.open(path(b"tmp/own"), os.O_WRONLY | os.O_CREAT))
        refused = []
        for trial in (
            lambda: os.unlink(path(b"tmp/of-root")),
            lambda: os.rename(path(b"tmp/of-root"), path(b"tmp/stolen")),
            lambda: os.rename(path(b"tmp/own"), path(b"tmp/of-root")),
        ):
            try:
                trial()
            except OSError as error:
                refused.append(error.errno or 0)
        os.unlink(path(b"tmp/own"))
        return refused

    assert in_child(attempt, uid=NOBODY) == [errno.EPERM] * 3
    assert read(fs, b"tmp/of-root") == b"kept"
    assert fs.listdir(b"tmp") == [b"of-root"]


@pytest.mark.parametrize("time", [0, 1, 10**9 - 1, OLD, 2**31 * 10**9 + 7, 4_000_000_000 * 10**9 + 999])
def test_utimens_keeps_nanoseconds(fs: Filesystem, time: int) -> None:
    write(fs, b"file")
    fs.mkdir(b"dir")
    fs.symlink(b"file", b"link")
    for name in (b"file", b"dir", b"link"):
        fs.utimens(name, time + 5, time, follow=False)
        assert (fs.stat(name).atime, fs.stat(name).mtime) == (time + 5, time)


def test_utimens_before_the_epoch(fs: Filesystem) -> None:
    write(fs, b"file")
    fs.utimens(b"file", -1_500_000_000, -(10**9) * 86_400 + 1)
    assert (fs.stat(b"file").atime, fs.stat(b"file").mtime) == (-1_500_000_000, -(10**9) * 86_400 + 1)


def test_utimens_now_and_omit(fs: Filesystem) -> None:
    write(fs, b"file")
    tick(fs)
    write(fs, b"clock")
    start = fs.stat(b"clock").mtime
    fs.utimens(b"file", OLD, OLD)
    fs.utimens(b"file", When.OMIT, OLD + 1)
    assert (fs.stat(b"file").atime, fs.stat(b"file").mtime) == (OLD, OLD + 1)
    fs.utimens(b"file", OLD + 2, When.OMIT)
    assert (fs.stat(b"file").atime, fs.stat(b"file").mtime) == (OLD + 2, OLD + 1)
    fs.utimens(b"file", When.NOW, When.OMIT)
    assert fs.stat(b"file").atime >= start
    assert fs.stat(b"file").mtime == OLD + 1
    fs.utimens(b"file", OLD, When.NOW)
    assert fs.stat(b"file").atime == OLD
    assert fs.stat(b"file").mtime >= start
    fs.utimens(b"file", OLD, OLD)
    fs.utimens(b"file", When.NOW, When.NOW)
    assert min(fs.stat(b"file").atime, fs.stat(b"file").mtime) >= start


def test_utimens_follows_only_when_told(fs: Filesystem) -> None:
    write(fs, b"file")
    fs.symlink(b"file", b"link")
    before = fs.stat(b"link").mtime
    fs.utimens(b"link", OLD, OLD)
    assert fs.stat(b"file").mtime == OLD
    assert fs.stat(b"link").mtime == before
    fs.utimens(b"link", OLD + 1, OLD + 1, follow=False)
    assert fs.stat(b"link").mtime == OLD + 1
    assert fs.stat(b"file").mtime == OLD


def test_utimens_of_what_is_missing(fs: Filesystem) -> None:
    with fails(errno.ENOENT):
        fs.utimens(b"missing", OLD, OLD)


def _write_in_place(fs: Filesystem) -> None:
    with fs.open(b"dir/it", os.O_WRONLY) as file:
        file.pwrite(b"X", 0)


def _append(fs: Filesystem) -> None:
    with fs.open(b"dir/it", os.O_WRONLY | os.O_APPEND) as file:
        file.append(b"X")


def _truncate_by_handle(fs: Filesystem) -> None:
    with fs.open(b"dir/it", os.O_WRONLY) as file:
        file.truncate(2)


# What each change does to the times of the node "it" in "dir": name -> (change, of the node: mtime and ctime
# move, of the directory: they move). ctime moves with each change of a node, also of its link count.
CHANGES: dict[str, tuple[Callable[[Filesystem], object], tuple[bool, bool] | None, bool]] = {
    "pwrite": (_write_in_place, (True, True), False),
    "append": (_append, (True, True), False),
    "truncate": (lambda fs: fs.truncate(b"dir/it", 1), (True, True), False),
    "grow": (lambda fs: fs.truncate(b"dir/it", 100), (True, True), False),
    "ftruncate": (_truncate_by_handle, (True, True), False),
    "O_TRUNC": (lambda fs: fs.open(b"dir/it", os.O_WRONLY | os.O_TRUNC).close(), (True, True), False),
    "chmod": (lambda fs: fs.chmod(b"dir/it", 0o600), (False, True), False),
    "chown": (lambda fs: fs.chown(b"dir/it", os.geteuid(), os.getegid()), (False, True), False),
    "chown(-1, -1)": (lambda fs: fs.chown(b"dir/it", -1, -1), (False, True), False),
    "utimens": (lambda fs: fs.utimens(b"dir/it", OLD, When.OMIT), (False, True), False),
    "setxattr": (lambda fs: fs.setxattr(b"dir/it", b"user.k", b"v"), (False, True), False),
    "removexattr": (lambda fs: fs.removexattr(b"dir/it", b"user.there"), (False, True), False),
    "link": (lambda fs: fs.link(b"dir/it", b"dir/other"), (False, True), True),
    "unlink of a link": (lambda fs: fs.unlink(b"dir/second"), (False, True), True),
    "rename": (lambda fs: fs.rename(b"dir/it", b"dir/new"), None, True),
    "rename away": (lambda fs: fs.rename(b"dir/it", b"new"), None, True),
    "rename into": (lambda fs: fs.rename(b"outside", b"dir/new"), (False, False), True),
    "rename over": (lambda fs: fs.rename(b"outside", b"dir/it"), None, True),
    "exchange": (lambda fs: fs.rename(b"outside", b"dir/it", RENAME_EXCHANGE), None, True),
    "unlink": (lambda fs: fs.unlink(b"dir/it"), None, True),
    "create": (lambda fs: write(fs, b"dir/new"), (False, False), True),
    "mkdir": (lambda fs: fs.mkdir(b"dir/new"), (False, False), True),
    "rmdir": (lambda fs: fs.rmdir(b"dir/empty"), (False, False), True),
    "symlink": (lambda fs: fs.symlink(b"it", b"dir/new"), (False, False), True),
    "mknod": (lambda fs: fs.mknod(b"dir/new", stat.S_IFIFO | 0o600), (False, False), True),
    "read": (lambda fs: read(fs, b"dir/it"), (False, False), False),
    "list": (lambda fs: fs.listdir(b"dir"), (False, False), False),
    "open for writing": (lambda fs: fs.open(b"dir/it", os.O_RDWR).close(), (False, False), False),
    "change below": (lambda fs: write(fs, b"dir/empty/new"), (False, False), False),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_moves_the_times(fs: Filesystem, change: str) -> None:
    fs.mkdir(b"dir")
    fs.mkdir(b"dir/empty")
    write(fs, b"outside", b"outside")
    write(fs, b"dir/it", b"four")
    fs.setxattr(b"dir/it", b"user.there", b"value")
    if change == "unlink of a link":
        fs.link(b"dir/it", b"dir/second")
    fs.utimens(b"dir/it", OLD, OLD)
    fs.utimens(b"dir", OLD, OLD)
    node, directory = fs.stat(b"dir/it"), fs.stat(b"dir")
    tick(fs)

    act, moves, directory_moves = CHANGES[change]
    act(fs)

    after = fs.stat(b"dir")
    assert (after.mtime > OLD, after.ctime > directory.ctime) == (directory_moves, directory_moves)
    if moves is not None:
        now = fs.stat(b"dir/it")
        assert (now.mtime > OLD, now.ctime > node.ctime) == moves


@pytest.mark.parametrize("make", ["create", "mkdir", "symlink", "mknod"])
def test_new_nodes_have_the_present_time(fs: Filesystem, make: str) -> None:
    write(fs, b"before")
    {
        "create": lambda: write(fs, b"new"),
        "mkdir": lambda: fs.mkdir(b"new"),
        "symlink": lambda: fs.symlink(b"x", b"new"),
        "mknod": lambda: fs.mknod(b"new", stat.S_IFIFO | 0o600),
    }[make]()
    fs.chmod(b"before", 0o600)
    status, before = fs.stat(b"new"), fs.stat(b"before")
    assert before.mtime <= status.mtime <= before.ctime
    assert before.mtime <= status.ctime <= before.ctime


def test_a_write_moves_the_mtime_that_another_handle_sees(fs: Filesystem) -> None:
    write(fs, b"file", b"data")
    with fs.open(b"file", os.O_RDONLY) as reader, fs.open(b"file", os.O_WRONLY) as writer:
        fs.utimens(b"file", OLD, OLD)
        assert reader.stat().mtime == OLD
        writer.pwrite(b"more data", 0)
        assert reader.stat().mtime > OLD
        assert reader.stat() == writer.stat() == fs.stat(b"file")


def test_times_set_on_a_file_open_for_writing_stay(fs: Filesystem) -> None:
    """What tar, cp -p and rsync do: write, set the times, close."""
    with fs.open(b"file", os.O_WRONLY | os.O_CREAT) as file:
        file.pwrite(b"data" * 10_000, 0)
        fs.utimens(b"file", OLD, OLD)
    assert fs.stat(b"file").mtime == OLD
    assert read(fs, b"file") == b"data" * 10_000
    assert fs.stat(b"file").mtime == OLD
