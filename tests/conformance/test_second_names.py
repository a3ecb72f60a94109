"""Files with several names, of which the first known one is removed.

The kernel remembers a name that it has looked up, but sends requests by inode number only.
"""

from __future__ import annotations

import os

import pytest

from tests.conformance.driver import RENAME_EXCHANGE, Filesystem
from tests.conformance.helpers import read, write


@pytest.fixture(autouse=True)
def two_names(fs: Filesystem) -> None:
    """A file with two names, both looked up."""
    fs.mkdir(b"dir")
    write(fs, b"dir/first", b"data")
    fs.link(b"dir/first", b"second")
    assert fs.stat(b"dir/first") == fs.stat(b"second")


def forget_the_first(fs: Filesystem, how: str) -> None:
    if how == "unlinked":
        fs.unlink(b"dir/first")
    elif how == "renamed over":
        write(fs, b"other", b"other")
        fs.rename(b"other", b"dir/first")
    elif how == "exchanged, then unlinked":
        write(fs, b"other", b"other")
        fs.rename(b"other", b"dir/first", RENAME_EXCHANGE)
        fs.unlink(b"other")
    else:
        fs.rename(b"dir", b"moved")
        fs.unlink(b"moved/first")


WAYS = ["unlinked", "renamed over", "exchanged, then unlinked", "moved, then unlinked"]


@pytest.mark.parametrize("how", WAYS)
def test_all_calls_work_by_the_second_name(fs: Filesystem, how: str) -> None:
    forget_the_first(fs, how)
    assert fs.stat(b"second").nlink == 1
    fs.link(b"second", b"third")
    assert fs.stat(b"second") == fs.stat(b"third")
    assert fs.stat(b"third").nlink == 2
    fs.unlink(b"third")
    fs.chmod(b"second", 0o600)
    fs.setxattr(b"second", b"user.key", b"value")
    fs.truncate(b"second", 2)
    with fs.open(b"second", os.O_RDWR) as file:
        file.pwrite(b"more", 2)
        assert file.pread(10, 0) == b"damore"
    fs.rename(b"second", b"renamed")
    assert read(fs, b"renamed") == b"damore"
    assert fs.stat(b"renamed").permissions == 0o600
    assert fs.getxattr(b"renamed", b"user.key") == b"value"


@pytest.mark.parametrize("how", WAYS)
def test_an_open_file_outlives_all_its_names(fs: Filesystem, how: str) -> None:
    with fs.open(b"dir/first", os.O_RDWR) as file:
        forget_the_first(fs, how)
        file.pwrite(b"D", 0)
        assert read(fs, b"second") == b"Data"
        fs.rename(b"second", b"last")
        file.pwrite(b"A", 1)
        assert read(fs, b"last") == b"DAta"
        fs.unlink(b"last")
        assert file.stat().nlink == 0
        file.pwrite(b"T", 2)
        assert file.pread(10, 0) == b"DATa"


def test_names_can_be_removed_in_any_order(fs: Filesystem) -> None:
    names = [b"second", *(b"%d" % number for number in range(6))]
    for number in range(6):
        fs.link(b"dir/first", b"%d" % number)
    fs.unlink(b"dir/first")
    for number in (3, 0, 5, 1):
        gone = b"%d" % number
        names.remove(gone)
        fs.unlink(gone)
        for name in names:
            with fs.open(name, os.O_RDWR) as file:
                file.pwrite(gone, 0)
            assert read(fs, names[-1]) == gone + b"ata"
        fs.link(names[-1], gone + b" again")
        fs.unlink(gone + b" again")
