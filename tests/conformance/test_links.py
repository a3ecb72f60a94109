"""Hard links, symbolic links, and files without a name."""

from __future__ import annotations

import ctypes
import errno
import os
import stat

import pytest

from tests.conformance.driver import Filesystem, OsFilesystem
from tests.conformance.helpers import exists, fails, read, write


def test_a_hard_link_is_the_same_file(fs: Filesystem) -> None:
    fs.mkdir(b"dir")
    write(fs, b"one", b"data")
    fs.link(b"one", b"dir/two")
    one, two = fs.stat(b"one"), fs.stat(b"dir/two")
    assert one == two
    assert one.nlink == 2
    with fs.open(b"one", os.O_WRONLY) as file:
        file.pwrite(b"DATA and more", 0)
    assert read(fs, b"dir/two") == b"DATA and more"
    fs.chmod(b"dir/two", 0o600)
    assert fs.stat(b"one").permissions == 0o600
    assert fs.stat(b"one").size == fs.stat(b"dir/two").size == 13


def test_link_counts_go_up_and_down(fs: Filesystem) -> None:
    write(fs, b"0", b"data")
    for number in range(1, 20):
        fs.link(b"0", b"%d" % number)
        assert fs.stat(b"0").nlink == fs.stat(b"%d" % number).nlink == number + 1
    for number in range(19):
        fs.unlink(b"%d" % number)
        assert fs.stat(b"19").nlink == 19 - number
    assert read(fs, b"19") == b"data"


def test_unlinking_one_name_of_an_open_file(fs: Filesystem) -> None:
    write(fs, b"one", b"data")
    fs.link(b"one", b"two")
    with fs.open(b"one", os.O_RDWR) as file:
        fs.unlink(b"one")
        assert file.stat().nlink == 1
        file.pwrite(b"D", 0)
        assert read(fs, b"two") == b"Data"
        fs.unlink(b"two")
        assert file.stat().nlink == 0
        assert file.pread(10, 0) == b"Data"


def test_replacing_one_of_two_links_leaves_the_other(fs: Filesystem) -> None:
    write(fs, b"one", b"shared")
    fs.link(b"one", b"two")
    write(fs, b"fresh", b"fresh")
    fs.rename(b"fresh", b"one")
    assert read(fs, b"one") == b"fresh"
    assert read(fs, b"two") == b"shared"
    assert fs.stat(b"one").nlink == fs.stat(b"two").nlink == 1


def test_link_refuses(fs: Filesystem) -> None:
    write(fs, b"file", b"kept")
    write(fs, b"other", b"kept too")
    fs.mkdir(b"dir")
    with fails(errno.EEXIST):
        fs.link(b"file", b"other")
    with fails(errno.EEXIST):
        fs.link(b"file", b"file")
    with fails(errno.EEXIST):
        fs.link(b"file", b"dir")
    with fails(errno.EPERM):
        fs.link(b"dir", b"new")
    with fails(errno.ENOENT):
        fs.link(b"missing", b"new")
    with fails(errno.ENOENT):
        fs.link(b"file", b"missing/new")
    with fails(errno.ENOTDIR):
        fs.link(b"file", b"other/new")
    assert read(fs, b"other") == b"kept too"
    assert fs.stat(b"file").nlink == 1


def test_hard_links_to_symlinks_and_fifos(fs: Filesystem) -> None:
    fs.symlink(b"nowhere", b"symlink")
    fs.mknod(b"fifo", stat.S_IFIFO | 0o600)
    for name in (b"symlink", b"fifo"):
        fs.link(name, name + b" two")
        assert fs.stat(name) == fs.stat(name + b" two")
        assert fs.stat(name).nlink == 2
    assert fs.readlink(b"symlink two") == b"nowhere"


@pytest.mark.parametrize(
    "target",
    [
        b"plain",
        b"/absolute/path",
        b"../../up",
        b".",
        b"x" * 59,  # ext4 keeps these in the inode,
        b"x" * 60,  # and these not
        b"\xff\xfe not UTF-8 \x80",
        b"new\nline and \\ and ' and \" and \x01",
        b"/" * 100,
        b"trailing/",
        b"artfs:blob",
        b".artfs",
        b"./" * 2047 + b"x",
    ],
)
def test_a_symlink_keeps_its_target(fs: Filesystem, target: bytes) -> None:
    fs.symlink(target, b"link")
    assert fs.readlink(b"link") == target
    status = fs.stat(b"link")
    assert (status.kind, status.size, status.nlink) == (stat.S_IFLNK, len(target), 1)


def test_the_longest_symlink_has_4095_bytes(fs: Filesystem) -> None:
    fs.symlink(b"t" * 4095, b"link")
    assert fs.readlink(b"link") == b"t" * 4095
    with fails(errno.ENAMETOOLONG):
        fs.symlink(b"t" * 4096, b"longer")
    assert fs.listdir(b"") == [b"link"]


def test_symlink_refuses(fs: Filesystem) -> None:
    write(fs, b"file")
    fs.mkdir(b"dir")
    with fails(errno.ENOENT):
        fs.symlink(b"", b"empty")
    for taken in (b"file", b"dir"):
        with fails(errno.EEXIST):
            fs.symlink(b"target", taken)
    with fails(errno.ENOENT):
        fs.symlink(b"target", b"missing/link")
    with fails(errno.EINVAL):
        fs.readlink(b"file")
    with fails(errno.EINVAL):
        fs.readlink(b"dir")
    with fails(errno.ENOENT):
        fs.readlink(b"missing")
    assert sorted(fs.listdir(b"")) == [b"dir", b"file"]


def test_symlinks_are_followed(fs: Filesystem) -> None:
    fs.mkdir(b"dir")
    write(fs, b"dir/file", b"data")
    fs.symlink(b"dir", b"to-dir")
    fs.symlink(b"../dir/file", b"dir/to-file")
    assert read(fs, b"to-dir/file") == b"data"
    assert read(fs, b"to-dir/to-file") == b"data"
    write(fs, b"to-dir/new", b"through the link")
    assert read(fs, b"dir/new") == b"through the link"
    assert fs.stat(b"to-dir", follow=True).ino == fs.stat(b"dir").ino
    assert sorted(fs.listdir(b"to-dir")) == [b"file", b"new", b"to-file"]


def test_removing_a_symlink_leaves_its_target(fs: Filesystem) -> None:
    fs.mkdir(b"dir")
    write(fs, b"dir/file", b"data")
    fs.symlink(b"dir", b"link")
    with fails(errno.ENOTDIR):
        fs.rmdir(b"link")
    fs.unlink(b"link")
    assert read(fs, b"dir/file") == b"data"


def test_an_unlinked_open_file_lives_on(fs: Filesystem) -> None:
    with fs.open(b"file", os.O_RDWR | os.O_CREAT) as file:
        file.pwrite(b"before", 0)
        fs.unlink(b"file")
        assert not exists(fs, b"file")
        assert file.stat().nlink == 0
        file.pwrite(b" and after", 6)
        assert file.pread(100, 0) == b"before and after"
        file.truncate(6)
        assert file.stat().size == 6
        file.chmod(0o600)
        assert file.stat().permissions == 0o600
        file.setxattr(b"user.key", b"value")
        assert file.getxattr(b"user.key") == b"value"
        file.fsync()
        write(fs, b"file", b"another of that name")
        assert file.pread(100, 0) == b"before"
    assert read(fs, b"file") == b"another of that name"


def test_many_unlinked_files_stay_apart(fs: Filesystem) -> None:
    files = []
    for number in range(50):
        file = fs.open(b"scratch", os.O_RDWR | os.O_CREAT | os.O_EXCL)
        fs.unlink(b"scratch")
        file.pwrite(b"%d" % number, 0)
        files.append(file)
    assert [file.pread(10, 0) for file in files] == [b"%d" % number for number in range(50)]
    assert fs.listdir(b"") == []
    for file in files:
        file.close()


def test_unlink_refuses(fs: Filesystem) -> None:
    fs.mkdir(b"dir")
    write(fs, b"file")
    with fails(errno.ENOENT):
        fs.unlink(b"missing")
    with fails(errno.EISDIR):
        fs.unlink(b"dir")
    with fails(errno.ENOTDIR):
        fs.unlink(b"file/below")
    assert sorted(fs.listdir(b"")) == [b"dir", b"file"]


@pytest.mark.real
def test_link_follows_a_symlink_when_asked(fs: OsFilesystem) -> None:
    write(fs, b"file", b"data")
    fs.symlink(b"file", b"symlink")
    # Python's link never follows on Linux.
    libc, at_fdcwd, at_symlink_follow = ctypes.CDLL(None, use_errno=True), -100, 0x400
    assert libc.linkat(at_fdcwd, fs.path(b"symlink"), at_fdcwd, fs.path(b"hard"), at_symlink_follow) == 0
    assert fs.stat(b"hard").ino == fs.stat(b"file").ino


@pytest.mark.real
def test_a_chain_of_forty_symlinks_resolves_and_one_more_does_not(fs: OsFilesystem) -> None:
    write(fs, b"0", b"data")
    for number in range(1, 42):
        fs.symlink(b"%d" % (number - 1), b"%d" % number)
    assert read(fs, b"40") == b"data"
    with fails(errno.ELOOP):
        read(fs, b"41")
