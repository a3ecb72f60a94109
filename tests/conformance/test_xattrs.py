"""Extended attributes of the user namespace."""

from __future__ import annotations

import errno
import os

import pytest

from tests.conformance.driver import Filesystem
from tests.conformance.helpers import fails, write


@pytest.fixture(autouse=True)
def file(fs: Filesystem) -> None:
    """A file and a directory for attributes."""
    write(fs, b"file", b"data")
    fs.mkdir(b"dir")


@pytest.mark.parametrize("path", [b"file", b"dir", b""])
def test_attributes_can_be_set_read_listed_and_removed(fs: Filesystem, path: bytes) -> None:
    assert fs.listxattr(path) == []
    values = {b"user.one": b"1", b"user.empty": b"", b"user.binary": bytes(range(256)), b"user.n\xff": b"x"}
    for name, value in values.items():
        fs.setxattr(path, name, value)
    assert sorted(fs.listxattr(path)) == sorted(values)
    for name, value in values.items():
        assert fs.getxattr(path, name) == value
    fs.setxattr(path, b"user.one", b"replaced by something longer")
    assert fs.getxattr(path, b"user.one") == b"replaced by something longer"
    for name in values:
        fs.removexattr(path, name)
        with fails(errno.ENODATA):
            fs.getxattr(path, name)
    assert fs.listxattr(path) == []


def test_values_may_have_two_thousand_bytes(fs: Filesystem) -> None:
    value = os.urandom(2_000)
    fs.setxattr(b"file", b"user.large", value)
    assert fs.getxattr(b"file", b"user.large") == value


def test_names_may_have_255_bytes(fs: Filesystem) -> None:
    longest = b"user." + b"n" * 250
    fs.setxattr(b"file", longest, b"value")
    assert fs.listxattr(b"file") == [longest]
    with fails(errno.ERANGE):
        fs.setxattr(b"file", longest + b"n", b"value")


def test_other_namespaces_are_refused(fs: Filesystem) -> None:
    with fails(errno.EOPNOTSUPP):
        fs.setxattr(b"file", b"nonsense.key", b"value")
    with fails(errno.EOPNOTSUPP):
        fs.setxattr(b"file", b"nodots", b"value")


def test_attributes_follow_the_file(fs: Filesystem) -> None:
    fs.setxattr(b"file", b"user.key", b"value")
    fs.link(b"file", b"hard")
    fs.rename(b"file", b"dir/moved")
    assert fs.getxattr(b"hard", b"user.key") == b"value"
    assert fs.getxattr(b"dir/moved", b"user.key") == b"value"
    fs.removexattr(b"hard", b"user.key")
    assert fs.listxattr(b"dir/moved") == []
    with fs.open(b"hard", os.O_RDONLY) as handle:
        handle.setxattr(b"user.by-handle", b"yes")
        assert handle.getxattr(b"user.by-handle") == b"yes"
    assert fs.getxattr(b"dir/moved", b"user.by-handle") == b"yes"


@pytest.mark.artfs_only
def test_the_run_of_a_file_can_be_set(fs: Filesystem) -> None:
    fs.setxattr(b"file", b"user.artfs.run", b"run-7")
    assert fs.getxattr(b"file", b"user.artfs.run") == b"run-7"
