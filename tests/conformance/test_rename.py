"""rename(2) and renameat2(2), over entries of all kinds."""

from __future__ import annotations

import errno
import os
import stat

import pytest

from tests.conformance.driver import RENAME_EXCHANGE, Filesystem, OsFilesystem
from tests.conformance.helpers import exists, fails, read, write


def make(fs: Filesystem, kind: str, path: bytes) -> None:
    """Makes a node of a kind, which its content identifies."""
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


def test_an_open_file_survives_its_rename(fs: Filesystem) -> None:
    write(fs, b"file", b"0123")
    fs.mkdir(b"dir")
    with fs.open(b"file", os.O_RDWR) as file:
        fs.rename(b"file", b"dir/moved")
        fs.rename(b"dir", b"other")
        file.pwrite(b"XY", 1)
        assert file.stat().nlink == 1
        assert file.stat().ino == fs.stat(b"other/moved").ino
    assert read(fs, b"other/moved") == b"0XY3"


@pytest.mark.parametrize("kind", KINDS)
def test_a_renamed_node_keeps_its_inode_number(fs: Filesystem, kind: str) -> None:
    fs.mkdir(b"dir")
    make(fs, kind, b"it")
    write(fs, b"other")
    number, others = fs.stat(b"it").ino, fs.stat(b"other").ino
    fs.rename(b"it", b"dir/it")
    assert fs.stat(b"dir/it").ino == number
    fs.rename(b"other", b"dir/it", RENAME_EXCHANGE)
    assert (fs.stat(b"other").ino, fs.stat(b"dir/it").ino) == (number, others)


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


def test_a_name_can_get_another_kind(fs: Filesystem) -> None:
    """This would fail with stale caches of the old kind."""
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


@pytest.mark.real
def test_dot_dot_of_a_moved_directory_is_the_new_parent(fs: OsFilesystem) -> None:
    for name in (b"a", b"b", b"a/moving"):
        fs.mkdir(name)
    with fs.open(b"a/moving", os.O_RDONLY | os.O_DIRECTORY) as moving:
        fs.rename(b"a/moving", b"b/moving")
        parent = os.stat(b"..", dir_fd=moving.fileno())
    assert parent.st_ino == fs.stat(b"b").ino


@pytest.mark.artfs_only
def test_rename_whiteout_is_refused(fs: Filesystem) -> None:
    """RENAME_WHITEOUT would leave a device node, which no user may make."""
    write(fs, b"old", b"data")
    with fails(errno.EINVAL):
        fs.rename(b"old", b"new", 4)
    assert read(fs, b"old") == b"data"
