"""Later effects of open(2) flags: O_NOATIME, and access mode 3."""

from __future__ import annotations

import mmap
import os

import pytest

from tests.conformance.driver import OsFilesystem
from tests.conformance.helpers import OLD, write

pytestmark = pytest.mark.real

PAST = OLD - 10**9  # an atime before the mtime: each read moves it, with relatime too


def _atime_after_reading(fs: OsFilesystem, flags: int, *, map_it: bool = False) -> int:
    write(fs, b"file", b"data" * 2000)
    fs.utimens(b"file", PAST, OLD)
    with fs.open(b"file", flags) as file:
        # A mount's atime moves when the daemon reads, not when the kernel has the bytes in its cache.
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        if map_it:
            with mmap.mmap(file.fileno(), 0, mmap.MAP_SHARED, mmap.PROT_READ) as mapping:
                assert mapping[:4] == b"data"
        else:
            assert file.pread(4, 4) == b"data"
    return fs.stat(b"file").atime


@pytest.mark.parametrize(
    "flags", [os.O_RDONLY, os.O_RDWR, os.O_RDONLY | os.O_CREAT], ids=["r", "rw", "creat"]
)
@pytest.mark.parametrize("map_it", [False, True], ids=["pread", "mmap"])
def test_o_noatime_keeps_the_atime(fs: OsFilesystem, flags: int, map_it: bool) -> None:
    assert _atime_after_reading(fs, flags | os.O_NOATIME, map_it=map_it) == PAST


def test_without_o_noatime_the_atime_moves(fs: OsFilesystem) -> None:
    assert _atime_after_reading(fs, os.O_RDONLY) > OLD


def test_o_noatime_applies_to_created_files(fs: OsFilesystem) -> None:
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOATIME
    with fs.open(b"file", flags) as file:
        file.pwrite(b"data", 0)
        fs.utimens(b"file", PAST, OLD)
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        assert file.pread(4, 0) == b"data"
    assert fs.stat(b"file").atime == PAST
