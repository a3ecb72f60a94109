"""mkdir, rmdir and reading directories: small, large, deep and changing ones."""

from __future__ import annotations

import errno
import os
import stat

import pytest

from tests.conformance.driver import Filesystem, OsFilesystem
from tests.conformance.helpers import exists, fails, read, remove_tree, write


def test_a_created_name_is_found_at_once(fs: Filesystem) -> None:
    for number in range(20):
        name = b"%d" % number
        assert not exists(fs, name)
        fs.mkdir(name)
        assert exists(fs, name)
        fs.rmdir(name)
        assert not exists(fs, name)
        write(fs, name, name)
        assert read(fs, name) == name
        fs.unlink(name)
        with fails(errno.ENOENT):
            fs.open(name, os.O_RDONLY)


def test_a_large_directory_lists_each_name_once(fs: Filesystem) -> None:
    names = {b"%05d-%s" % (number, b"n" * (number % 50)) for number in range(2_000)}
    fs.mkdir(b"large")
    for name in names:
        fs.open(b"large/" + name, os.O_WRONLY | os.O_CREAT | os.O_EXCL).close()
    listed = fs.listdir(b"large")
    assert len(listed) == 2_000
    assert set(listed) == names
    for name in sorted(names)[::2]:
        fs.unlink(b"large/" + name)
    listed = fs.listdir(b"large")
    assert len(listed) == 1_000
    assert set(listed) == set(sorted(names)[1::2])


@pytest.mark.real
def test_entries_have_the_kind_and_inode_of_stat(fs: OsFilesystem) -> None:
    write(fs, b"file")
    fs.mkdir(b"dir")
    fs.symlink(b"file", b"symlink")
    fs.mknod(b"fifo", stat.S_IFIFO | 0o600)
    with os.scandir(fs.path()) as entries:
        found = {entry.name: entry for entry in entries}
    assert sorted(found) == [b"dir", b"fifo", b"file", b"symlink"]
    for name, entry in found.items():
        assert entry.inode() == fs.stat(name).ino
        assert entry.is_dir(follow_symlinks=False) == (name == b"dir")
        assert entry.is_symlink() == (name == b"symlink")
        assert entry.is_file(follow_symlinks=False) == (name == b"file")


@pytest.mark.real
def test_a_tree_may_have_a_thousand_levels(fs: OsFilesystem) -> None:
    """Longer paths than PATH_MAX are walked by descriptors, as fts and rm do."""
    name = b"a level with a name of some length"
    fd = os.open(fs.path(), os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(1_000):
        os.mkdir(name, dir_fd=fd)
        below = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
        os.close(fd)
        fd = below
    try:
        file = os.open(b"bottom", os.O_RDWR | os.O_CREAT, dir_fd=fd)
        os.write(file, b"deep")
        os.close(file)
        os.symlink(b"bottom", b"link", dir_fd=fd)
        os.link(b"bottom", b"hard", src_dir_fd=fd, dst_dir_fd=fd)
        os.rename(b"bottom", b"renamed", src_dir_fd=fd, dst_dir_fd=fd)
        os.chmod(b"renamed", 0o600, dir_fd=fd)
        os.utime(b"renamed", ns=(1, 2), dir_fd=fd)
        status = os.stat(b"hard", dir_fd=fd)
        assert (status.st_nlink, status.st_mtime_ns, stat.S_IMODE(status.st_mode)) == (2, 2, 0o600)
        file = os.open(b"renamed", os.O_RDONLY, dir_fd=fd)
        assert os.read(file, 100) == b"deep"
        os.close(file)
        assert sorted(os.listdir(fd)) == ["hard", "link", "renamed"]
    finally:
        os.close(fd)
        remove_tree(fs, name)
    assert fs.listdir(b"") == []
