"""Extended attributes of the user namespace."""

from __future__ import annotations

import ctypes
import errno
import os
import stat

import pytest

from tests.conformance.driver import Filesystem, OsFilesystem
from tests.conformance.helpers import fails, write


@pytest.fixture(autouse=True)
def file(fs: Filesystem) -> None:
    """A file and a directory to hang attributes on."""
    write(fs, b"file", b"data")
    fs.mkdir(b"dir")


@pytest.mark.parametrize("path", [b"file", b"dir", b""])
def test_set_get_list_remove(fs: Filesystem, path: bytes) -> None:
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


def test_missing_attributes_are_enodata(fs: Filesystem) -> None:
    with fails(errno.ENODATA):
        fs.getxattr(b"file", b"user.missing")
    with fails(errno.ENODATA):
        fs.removexattr(b"file", b"user.missing")
    with fails(errno.ENOENT):
        fs.getxattr(b"missing", b"user.missing")


def test_create_and_replace_flags(fs: Filesystem) -> None:
    with fails(errno.ENODATA):
        fs.setxattr(b"file", b"user.key", b"value", os.XATTR_REPLACE)
    fs.setxattr(b"file", b"user.key", b"value", os.XATTR_CREATE)
    with fails(errno.EEXIST):
        fs.setxattr(b"file", b"user.key", b"other", os.XATTR_CREATE)
    assert fs.getxattr(b"file", b"user.key") == b"value"
    fs.setxattr(b"file", b"user.key", b"other", os.XATTR_REPLACE)
    assert fs.getxattr(b"file", b"user.key") == b"other"


def test_a_value_of_two_thousand_bytes(fs: Filesystem) -> None:
    value = os.urandom(2_000)
    fs.setxattr(b"file", b"user.large", value)
    assert fs.getxattr(b"file", b"user.large") == value


def test_names_up_to_255_bytes(fs: Filesystem) -> None:
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


def test_symlinks_and_fifos_have_no_user_attributes(fs: Filesystem) -> None:
    fs.symlink(b"file", b"link")
    fs.mknod(b"fifo", stat.S_IFIFO | 0o600)
    for name in (b"link", b"fifo"):
        with fails(errno.EPERM):
            fs.setxattr(name, b"user.key", b"value")


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


@pytest.mark.real
def test_sizes_and_short_buffers(fs: OsFilesystem) -> None:
    """A size of 0 asks for the length, a buffer that is too small is ERANGE."""
    fs.setxattr(b"file", b"user.key", b"0123456789")
    libc = ctypes.CDLL(None, use_errno=True)
    path, name, small, large = (
        fs.path(b"file"),
        b"user.key",
        ctypes.create_string_buffer(5),
        ctypes.create_string_buffer(50),
    )
    assert libc.getxattr(path, name, None, 0) == 10
    assert libc.getxattr(path, name, large, 50) == 10
    assert large.raw[:10] == b"0123456789"
    assert libc.getxattr(path, name, small, 5) == -1
    assert ctypes.get_errno() == errno.ERANGE
    assert libc.listxattr(path, None, 0) == len(b"user.key\0")
    assert libc.listxattr(path, large, 50) == 9
    assert libc.listxattr(path, small, 5) == -1
    assert ctypes.get_errno() == errno.ERANGE


@pytest.mark.artfs_only
def test_a_run_may_sign_its_files(fs: Filesystem) -> None:
    fs.setxattr(b"file", b"user.artfs.run", b"run-7")
    assert fs.getxattr(b"file", b"user.artfs.run") == b"run-7"
