"""mkdir, rmdir and reading directories, small, large, deep and while they change."""

from __future__ import annotations

import errno
import os
import stat

import pytest

from tests.conformance.dirstream import Stream
from tests.conformance.driver import Filesystem, OsFilesystem
from tests.conformance.helpers import exists, fails, read, remove_tree, write


def test_a_new_directory_is_empty(fs: Filesystem) -> None:
    fs.mkdir(b"dir", 0o750)
    status = fs.stat(b"dir")
    assert (status.kind, status.permissions) == (stat.S_IFDIR, 0o750)
    assert (status.uid, status.gid) == (os.geteuid(), os.getegid())
    assert fs.listdir(b"dir") == []
    assert fs.listdir(b"") == [b"dir"]


def test_mkdir_refuses(fs: Filesystem) -> None:
    write(fs, b"file", b"kept")
    fs.mkdir(b"dir")
    fs.symlink(b"nowhere", b"dangling")
    for taken in (b"file", b"dir", b"dangling"):
        with fails(errno.EEXIST):
            fs.mkdir(taken)
    with fails(errno.ENOENT):
        fs.mkdir(b"missing/dir")
    with fails(errno.ENOTDIR):
        fs.mkdir(b"file/dir")
    assert sorted(fs.listdir(b"")) == [b"dangling", b"dir", b"file"]


def test_rmdir_removes_an_empty_directory(fs: Filesystem) -> None:
    fs.mkdir(b"dir")
    write(fs, b"dir/file")
    with fails(errno.ENOTEMPTY):
        fs.rmdir(b"dir")
    fs.unlink(b"dir/file")
    fs.rmdir(b"dir")
    assert not exists(fs, b"dir")
    assert fs.listdir(b"") == []
    fs.mkdir(b"dir")
    assert fs.listdir(b"dir") == []


def test_rmdir_refuses(fs: Filesystem) -> None:
    write(fs, b"file", b"kept")
    fs.mkdir(b"dir")
    fs.mkdir(b"dir/below")
    with fails(errno.ENOTDIR):
        fs.rmdir(b"file")
    with fails(errno.ENOENT):
        fs.rmdir(b"missing")
    with fails(errno.ENOTEMPTY):
        fs.rmdir(b"dir")
    with fails(errno.ENOTDIR):
        fs.rmdir(b"file/below")
    assert fs.listdir(b"dir") == [b"below"]


def test_subdirectories_count_as_links(fs: Filesystem) -> None:
    fs.mkdir(b"dir")
    if fs.stat(b"dir").nlink != 2:
        pytest.skip("the backing filesystem does not count links of directories")
    for number in range(5):
        fs.mkdir(b"dir/%d" % number)
        assert fs.stat(b"dir").nlink == number + 3
    write(fs, b"dir/file")
    assert fs.stat(b"dir").nlink == 7
    for number in range(5):
        fs.rmdir(b"dir/%d" % number)
    assert fs.stat(b"dir").nlink == 2


def test_a_name_that_was_missing_is_found_once_it_is_made(fs: Filesystem) -> None:
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
    names = {b"%05d-%s" % (number, b"n" * (number % 50)) for number in range(5_000)}
    fs.mkdir(b"large")
    for name in names:
        fs.open(b"large/" + name, os.O_WRONLY | os.O_CREAT | os.O_EXCL).close()
    listed = fs.listdir(b"large")
    assert len(listed) == 5_000
    assert set(listed) == names
    for name in sorted(names)[::2]:
        fs.unlink(b"large/" + name)
    listed = fs.listdir(b"large")
    assert len(listed) == 2_500
    assert set(listed) == set(sorted(names)[1::2])


@pytest.mark.real
def test_removing_while_listing_empties_a_directory(fs: OsFilesystem) -> None:
    """What rm -r does: read some names, remove them, read on with the same stream."""
    fs.mkdir(b"dir")
    names = [b"%04d" % number for number in range(1_000)]
    for name in names:
        write(fs, b"dir/" + name)
    seen = []
    with os.scandir(fs.path(b"dir")) as entries:
        for entry in entries:
            seen.append(entry.name)
            os.unlink(entry.path)
    assert sorted(seen) == names
    fs.rmdir(b"dir")


@pytest.mark.real
def test_changes_while_listing_leave_the_others_exactly_once(fs: OsFilesystem) -> None:
    fs.mkdir(b"dir")
    names = [b"%04d" % number for number in range(1_000)]
    for name in names:
        write(fs, b"dir/" + name)
    seen: list[bytes] = []
    removed: set[bytes] = set()
    with os.scandir(fs.path(b"dir")) as entries:
        for count, entry in enumerate(entries):
            seen.append(entry.name)
            if count % 50 == 10:
                write(fs, b"dir/new-%d" % count)
                # One that was listed, and two that may or may not come yet.
                for name in {entry.name, names[count % 1_000], names[-1 - count % 1_000]} - removed:
                    if exists(fs, b"dir/" + name):
                        fs.unlink(b"dir/" + name)
                        removed.add(name)
    for name in set(names) - removed:
        assert seen.count(name) == 1, name
    assert all(seen.count(name) <= 1 for name in seen)


@pytest.mark.real
def test_entries_tell_kind_and_inode_as_stat_does(fs: OsFilesystem) -> None:
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
def test_dot_and_dot_dot_are_listed(fs: OsFilesystem) -> None:
    fs.mkdir(b"dir")
    write(fs, b"dir/file")
    stream = Stream(fs.path(b"dir"))
    assert sorted(stream.rest()) == [b".", b"..", b"file"]
    stream.close()


@pytest.mark.real
def test_seekdir_goes_back_to_where_telldir_was(fs: OsFilesystem) -> None:
    fs.mkdir(b"dir")
    for number in range(500):
        write(fs, b"dir/%d" % number)
    stream = Stream(fs.path(b"dir"))
    places = []
    while True:
        place = stream.tell()
        name = stream.next()
        if name is None:
            break
        places.append((place, name))
    assert len(places) == 502
    for place, name in [*places[::-37], *places[::41]]:
        stream.seek(place)
        assert stream.next() == name
    stream.seek(places[250][0])
    assert stream.rest() == [name for _, name in places[250:]]
    stream.close()


@pytest.mark.real
def test_rewinddir_shows_what_came_and_went(fs: OsFilesystem) -> None:
    fs.mkdir(b"dir")
    write(fs, b"dir/old")
    stream = Stream(fs.path(b"dir"))
    assert sorted(stream.rest()) == [b".", b"..", b"old"]
    write(fs, b"dir/new")
    fs.unlink(b"dir/old")
    stream.rewind()
    assert sorted(stream.rest()) == [b".", b"..", b"new"]
    stream.close()


@pytest.mark.real
def test_a_removed_directory_that_is_still_open(fs: OsFilesystem) -> None:
    fs.mkdir(b"dir")
    with fs.open(b"dir", os.O_RDONLY | os.O_DIRECTORY) as directory:
        fs.rmdir(b"dir")
        fd = directory.fileno()
        assert directory.stat().nlink == 0
        assert os.listdir(fd) == []
        with fails(errno.ENOENT):
            os.open(b"new", os.O_WRONLY | os.O_CREAT, dir_fd=fd)
        with fails(errno.ENOENT):
            os.mkdir(b"new", dir_fd=fd)
        fs.mkdir(b"dir")
        write(fs, b"dir/file")
        assert os.listdir(fd) == []


@pytest.mark.real
def test_a_tree_of_a_thousand_levels(fs: OsFilesystem) -> None:
    """Deeper than any path can be long: walked by descriptors, as fts and rm do."""
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


@pytest.mark.real
def test_rmdir_of_dot_and_dot_dot(fs: OsFilesystem) -> None:
    fs.mkdir(b"dir")
    with fails(errno.EINVAL):
        fs.rmdir(b"dir/.")
    with fails(errno.ENOTEMPTY):
        fs.rmdir(b"dir/..")
    fs.rmdir(b"dir/")
    assert fs.listdir(b"") == []
