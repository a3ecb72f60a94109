"""rename(2) and renameat2(2), over everything there is."""

from __future__ import annotations

import errno
import os
import stat

import pytest

from tests.conformance.driver import RENAME_EXCHANGE, RENAME_NOREPLACE, Filesystem, OsFilesystem
from tests.conformance.helpers import exists, fails, read, write


def make(fs: Filesystem, kind: str, path: bytes) -> None:
    """One node of a kind, which tells by its content that it was made here."""
    if kind == "file":
        write(fs, path, path)
    elif kind == "symlink":
        fs.symlink(b"target of " + path, path)
    elif kind == "fifo":
        fs.mknod(path, stat.S_IFIFO | 0o600)
    else:
        fs.mkdir(path)
        if kind == "full":
            write(fs, path + b"/inside", path)


KINDS = ["file", "symlink", "fifo", "empty", "full"]
DIRECTORIES = {"empty", "full"}


@pytest.mark.parametrize("kind", KINDS)
def test_renaming_to_a_free_name(fs: Filesystem, kind: str) -> None:
    make(fs, kind, b"old")
    fs.mkdir(b"dir")
    before = fs.stat(b"old")
    fs.rename(b"old", b"dir/new")
    after = fs.stat(b"dir/new")
    assert not exists(fs, b"old")
    assert (after.ino, after.kind, after.mtime, after.nlink) == (
        before.ino,
        before.kind,
        before.mtime,
        before.nlink,
    )
    assert fs.listdir(b"") == [b"dir"]
    assert fs.listdir(b"dir") == [b"new"]
    if kind == "full":
        assert read(fs, b"dir/new/inside") == b"old"


@pytest.mark.parametrize("new", KINDS)
@pytest.mark.parametrize("old", KINDS)
def test_renaming_over_another(fs: Filesystem, old: str, new: str) -> None:
    make(fs, old, b"old")
    make(fs, new, b"new")
    moved, stood = fs.stat(b"old"), fs.stat(b"new")
    refused = None
    if old in DIRECTORIES and new not in DIRECTORIES:
        refused = (errno.ENOTDIR,)
    elif old not in DIRECTORIES and new in DIRECTORIES:
        refused = (errno.EISDIR,)
    elif new == "full":
        refused = (errno.ENOTEMPTY,)
    if refused is not None:
        with fails(*refused):
            fs.rename(b"old", b"new")
        assert (fs.stat(b"old").ino, fs.stat(b"new").ino) == (moved.ino, stood.ino)
    else:
        fs.rename(b"old", b"new")
        assert not exists(fs, b"old")
        assert (fs.stat(b"new").ino, fs.stat(b"new").kind) == (moved.ino, moved.kind)
        if old == "file":
            assert read(fs, b"new") == b"old"
        if old == "full":
            assert read(fs, b"new/inside") == b"old"


def test_renaming_what_is_missing(fs: Filesystem) -> None:
    write(fs, b"file", b"kept")
    with fails(errno.ENOENT):
        fs.rename(b"missing", b"file")
    with fails(errno.ENOENT):
        fs.rename(b"file", b"missing/new")
    with fails(errno.ENOTDIR):
        fs.rename(b"file", b"file/new")
    with fails(errno.ENOENT):
        fs.rename(b"missing", b"missing")
    assert read(fs, b"file") == b"kept"


def test_renaming_to_the_same_name_does_nothing(fs: Filesystem) -> None:
    write(fs, b"file", b"kept")
    fs.mkdir(b"dir")
    write(fs, b"dir/inside", b"kept too")
    fs.rename(b"file", b"file")
    fs.rename(b"dir", b"dir")
    assert read(fs, b"file") == b"kept"
    assert read(fs, b"dir/inside") == b"kept too"


def test_renaming_a_directory_into_itself_is_einval(fs: Filesystem) -> None:
    fs.mkdir(b"a")
    fs.mkdir(b"a/b")
    with fails(errno.EINVAL):
        fs.rename(b"a", b"a/new")
    with fails(errno.EINVAL):
        fs.rename(b"a", b"a/b/new")
    with fails(errno.ENOTEMPTY, errno.EINVAL):
        fs.rename(b"a/b", b"a")
    assert fs.listdir(b"a") == [b"b"]


def test_renaming_one_hard_link_over_the_other_does_nothing(fs: Filesystem) -> None:
    write(fs, b"one", b"data")
    fs.link(b"one", b"two")
    fs.rename(b"one", b"two")
    assert sorted(fs.listdir(b"")) == [b"one", b"two"]
    assert fs.stat(b"one").nlink == 2


def test_an_open_file_survives_being_renamed_over(fs: Filesystem) -> None:
    write(fs, b"old", b"new bytes")
    write(fs, b"file", b"old bytes")
    with fs.open(b"file", os.O_RDWR) as file:
        fs.rename(b"old", b"file")
        assert file.pread(100, 0) == b"old bytes"
        assert file.stat().nlink == 0
        file.pwrite(b"OLD", 0)
        assert file.pread(100, 0) == b"OLD bytes"
    assert read(fs, b"file") == b"new bytes"


def test_an_open_file_follows_its_rename(fs: Filesystem) -> None:
    write(fs, b"file", b"0123")
    fs.mkdir(b"dir")
    with fs.open(b"file", os.O_RDWR) as file:
        fs.rename(b"file", b"dir/moved")
        fs.rename(b"dir", b"other")
        file.pwrite(b"XY", 1)
        assert file.stat().nlink == 1
        assert file.stat().ino == fs.stat(b"other/moved").ino
    assert read(fs, b"other/moved") == b"0XY3"


def test_renaming_a_large_directory_moves_everything_below(fs: Filesystem) -> None:
    fs.mkdir(b"tree")
    for outer in range(10):
        fs.mkdir(b"tree/%d" % outer)
        for inner in range(10):
            write(fs, b"tree/%d/%d" % (outer, inner), b"%d-%d" % (outer, inner))
    assert len(fs.listdir(b"tree/3")) == 10
    fs.rename(b"tree", b"moved")
    with fails(errno.ENOENT):
        fs.stat(b"tree/3/4")
    for outer in range(10):
        for inner in range(10):
            assert read(fs, b"moved/%d/%d" % (outer, inner)) == b"%d-%d" % (outer, inner)


def test_a_name_can_change_its_kind(fs: Filesystem) -> None:
    """Stale knowledge of the old kind would show here."""
    for kind in [*KINDS, *reversed(KINDS)]:
        make(fs, kind, b"new")
        fs.rename(b"new", b"name")
        shown = fs.stat(b"name").kind
        expected = {"file": stat.S_IFREG, "symlink": stat.S_IFLNK, "fifo": stat.S_IFIFO}
        assert shown == expected.get(kind, stat.S_IFDIR)
        if kind == "full":
            fs.unlink(b"name/inside")
        if kind in DIRECTORIES:
            fs.rmdir(b"name")
        else:
            fs.unlink(b"name")
        assert not exists(fs, b"name")


@pytest.mark.parametrize("new", KINDS)
def test_noreplace_refuses_a_taken_name(fs: Filesystem, new: str) -> None:
    write(fs, b"old", b"kept")
    make(fs, new, b"new")
    before = fs.stat(b"new").ino
    with fails(errno.EEXIST):
        fs.rename(b"old", b"new", RENAME_NOREPLACE)
    assert read(fs, b"old") == b"kept"
    assert fs.stat(b"new").ino == before


def test_noreplace_renames_to_a_free_name(fs: Filesystem) -> None:
    write(fs, b"old", b"moved")
    fs.rename(b"old", b"new", RENAME_NOREPLACE)
    assert fs.listdir(b"") == [b"new"]
    with fails(errno.EEXIST):
        fs.rename(b"new", b"new", RENAME_NOREPLACE)
    with fails(errno.ENOENT):
        fs.rename(b"old", b"newer", RENAME_NOREPLACE)


@pytest.mark.parametrize("new", KINDS)
@pytest.mark.parametrize("old", KINDS)
def test_exchange_swaps_any_two(fs: Filesystem, old: str, new: str) -> None:
    fs.mkdir(b"x")
    fs.mkdir(b"y")
    make(fs, old, b"x/old")
    make(fs, new, b"y/new")
    first, second = fs.stat(b"x/old"), fs.stat(b"y/new")
    fs.rename(b"x/old", b"y/new", RENAME_EXCHANGE)
    assert (fs.stat(b"x/old").ino, fs.stat(b"x/old").kind) == (second.ino, second.kind)
    assert (fs.stat(b"y/new").ino, fs.stat(b"y/new").kind) == (first.ino, first.kind)
    if old == "full":
        assert read(fs, b"y/new/inside") == b"x/old"
    if new == "file":
        assert read(fs, b"x/old") == b"y/new"


def test_exchange_refuses(fs: Filesystem) -> None:
    write(fs, b"file", b"kept")
    fs.mkdir(b"dir")
    fs.mkdir(b"dir/below")
    with fails(errno.ENOENT):
        fs.rename(b"file", b"missing", RENAME_EXCHANGE)
    with fails(errno.ENOENT):
        fs.rename(b"missing", b"file", RENAME_EXCHANGE)
    with fails(errno.EINVAL):
        fs.rename(b"dir", b"dir/below", RENAME_EXCHANGE)
    with fails(errno.EINVAL):
        fs.rename(b"dir/below", b"dir", RENAME_EXCHANGE)
    with fails(errno.EINVAL):
        fs.rename(b"file", b"dir", RENAME_EXCHANGE | RENAME_NOREPLACE)
    assert read(fs, b"file") == b"kept"
    assert fs.listdir(b"dir") == [b"below"]


def test_renames_keep_the_link_counts_of_directories(fs: Filesystem) -> None:
    fs.mkdir(b"a")
    fs.mkdir(b"b")
    empty = fs.stat(b"a").nlink
    fs.mkdir(b"a/below")
    more = fs.stat(b"a").nlink  # 3 where directories count (ext4), 1 as before where they don't (btrfs)
    fs.rename(b"a/below", b"b/below")
    assert (fs.stat(b"a").nlink, fs.stat(b"b").nlink) == (empty, more)


@pytest.mark.real
def test_dot_and_dot_dot_cannot_be_renamed(fs: OsFilesystem) -> None:
    fs.mkdir(b"dir")
    for old, new in ((b"dir/.", b"new"), (b"dir/..", b"new"), (b"dir", b"dir/.")):
        with fails(errno.EBUSY):
            fs.rename(old, new)
    assert fs.listdir(b"") == [b"dir"]


@pytest.mark.real
def test_trailing_slashes(fs: OsFilesystem) -> None:
    write(fs, b"file")
    fs.mkdir(b"dir")
    with fails(errno.ENOTDIR):
        fs.rename(b"file/", b"new")
    with fails(errno.ENOTDIR):
        fs.rename(b"file", b"new/")
    fs.rename(b"dir/", b"new/")
    assert sorted(fs.listdir(b"")) == [b"file", b"new"]


@pytest.mark.real
def test_the_dot_dot_of_a_moved_directory_is_its_new_parent(fs: OsFilesystem) -> None:
    for name in (b"a", b"b", b"a/moving"):
        fs.mkdir(name)
    with fs.open(b"a/moving", os.O_RDONLY | os.O_DIRECTORY) as moving:
        fs.rename(b"a/moving", b"b/moving")
        parent = os.stat(b"..", dir_fd=moving.fileno())
    assert parent.st_ino == fs.stat(b"b").ino


@pytest.mark.artfs_only
def test_no_whiteout_is_left(fs: Filesystem) -> None:
    """RENAME_WHITEOUT would leave a device node, and nobody may make one."""
    write(fs, b"old", b"data")
    with fails(errno.EINVAL):
        fs.rename(b"old", b"new", 4)
    assert read(fs, b"old") == b"data"
