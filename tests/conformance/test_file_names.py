"""Names: all bytes but slash and NUL, up to 255 of them."""

from __future__ import annotations

import errno
import os
import stat

import pytest

from tests.conformance.driver import Filesystem
from tests.conformance.helpers import exists, fails, read, write

ODD = [
    b"\xff\xfe\x80 not UTF-8",
    b"new\nline",
    b"back\\slash",
    b" leading and trailing ",
    b"-rf",
    b"...",
    b"\x01\x7f\x1b[31m",
    b"'\"`$(x)*?[]{}<>|&;#~!%",
    "\u00e4 composed".encode(),
    "a\u0308 composed".encode(),
    "\U0001f600".encode(),
    b"CASE",
    b"case",
    b".hidden",
    b".art",
    b"artfs",
    b"x.artfs",
    b".ARTFS",
    b".artfs-",
    b".artfs-lower",
    b".artfs-gone",
    b".artfs-base",
    b".artfs-tmp.1.x",
    b".artfs-lock",
    b".artfs.json.Xq3f9Z",
    b".artfs.swp",
    b".artfsignore",
    b".artfs ",
    b"pending",
    b"latest",
    b"v0",
    b"con",
    b"n" * 255,
    b"\xff" * 255,
]


def test_unusual_names_coexist(fs: Filesystem) -> None:
    for name in ODD:
        with fs.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL) as file:
            file.pwrite(name, 0)
    assert sorted(fs.listdir(b"")) == sorted(ODD)
    for name in ODD:
        assert read(fs, name) == name
        fs.rename(name, b"other")
        assert not exists(fs, name)
        fs.rename(b"other", name)
    for name in ODD:
        fs.unlink(name)
    assert fs.listdir(b"") == []


def test_every_kind_may_have_an_unusual_name(fs: Filesystem) -> None:
    for name in ODD:
        fs.mkdir(name)
        write(fs, name + b"/" + name, b"data")
        fs.link(name + b"/" + name, name + b"/hard")
        fs.symlink(name, name + b"/link")
        fs.mknod(name + b"/fifo", stat.S_IFIFO | 0o600)
        assert read(fs, name + b"/link") == b"data"
        assert sorted(fs.listdir(name)) == sorted([name, b"hard", b"link", b"fifo"])


def test_every_byte_is_valid_in_a_name(fs: Filesystem) -> None:
    names = [bytes([value]) for value in range(1, 256) if value not in b"/."]
    for name in names:
        write(fs, name, name)
    assert sorted(fs.listdir(b"")) == names
    assert all(read(fs, name) == name for name in names)


RESERVED = [b".artfs@", b".artfs@lower", b".artfs@gone", b".artfs@base", b".artfs@tmp.1", b".artfs@\xff"]


def refuse_to_make(fs: Filesystem, reserved: bytes) -> None:
    """Asserts that every call that creates a name is refused."""
    for refused in (
        lambda: fs.open(reserved, os.O_WRONLY | os.O_CREAT),
        lambda: fs.open(reserved, os.O_WRONLY | os.O_CREAT | os.O_EXCL),
        lambda: fs.mkdir(reserved),
        lambda: fs.symlink(b"target", reserved),
        lambda: fs.link(b"file", reserved),
        lambda: fs.rename(b"file", reserved),
        lambda: fs.rename(b"dir/deeper", reserved),
        lambda: fs.mknod(reserved, stat.S_IFIFO | 0o600),
    ):
        with fails(errno.EINVAL):
            refused()


@pytest.mark.artfs_only
@pytest.mark.parametrize("where", [b"", b"dir/", b"dir/deeper/"])
def test_reserved_names_are_einval_at_every_level(fs: Filesystem, where: bytes) -> None:
    fs.mkdir(b"dir")
    fs.mkdir(b"dir/deeper")
    write(fs, b"file", b"kept")
    names = RESERVED if where == b"" else [b".artfs", *RESERVED]
    for name in names:
        reserved = where + name
        refuse_to_make(fs, reserved)
        assert not exists(fs, reserved)
    assert sorted(fs.listdir(b"")) == [b"dir", b"file"]
    assert fs.listdir(b"dir") == [b"deeper"]
    assert fs.listdir(b"dir/deeper") == []


@pytest.mark.artfs_only
def test_names_similar_to_reserved_ones_are_allowed(fs: Filesystem) -> None:
    for name in (
        b".artf",
        b".Artfs",
        b"artfs",
        b"..artfs",
        b".artfs-",
        b".artfs?",
        b".artfs\xff",
        b".artf\xff",
        b"_.artfs",
        b" .artfs",
    ):
        fs.mkdir(name)
        fs.rmdir(name)
