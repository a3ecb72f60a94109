"""Hard links, symbolic links, and files without a name."""

from __future__ import annotations

import errno
import os
import stat

import pytest

from tests.conformance.driver import Filesystem, OsFilesystem
from tests.conformance.helpers import fails, read, write


def test_replacing_one_of_two_links_keeps_the_other(fs: Filesystem) -> None:
    write(fs, b"one", b"shared")
    fs.link(b"one", b"two")
    write(fs, b"fresh", b"fresh")
    fs.rename(b"fresh", b"one")
    assert read(fs, b"one") == b"fresh"
    assert read(fs, b"two") == b"shared"
    assert fs.stat(b"one").nlink == fs.stat(b"two").nlink == 1


@pytest.mark.parametrize(
    "target",
    [
        b"plain",
        b"/absolute/path",
        b"../../up",
        b".",
        b"x" * 59,  # the longest that ext4 stores in the inode
        b"x" * 60,  # stored in a block
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
    with fails(errno.ENOENT):
        fs.symlink(b"", b"shorter")
    assert fs.listdir(b"") == [b"link"]


def test_many_unlinked_files_keep_their_content(fs: Filesystem) -> None:
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


@pytest.mark.real
def test_a_chain_of_forty_symlinks_resolves_and_one_more_does_not(fs: OsFilesystem) -> None:
    write(fs, b"0", b"data")
    for number in range(1, 42):
        fs.symlink(b"%d" % (number - 1), b"%d" % number)
    assert read(fs, b"40") == b"data"
    with fails(errno.ELOOP):
        read(fs, b"41")
