"""O_DIRECT and the page cache: reads after a completed write return its data."""

from __future__ import annotations

import mmap
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.conformance.aio import Aio
from tests.conformance.driver import OsFilesystem
from tests.conformance.helpers import write
from tests.thorough import THOROUGH

SIZE = 640 << 10
ROUNDS = 300 if THOROUGH else 60

pytestmark = pytest.mark.real

Write = Callable[[int, mmap.mmap], int]


@contextmanager
def _reading(fs: OsFilesystem) -> Iterator[None]:
    """Keeps the file in the page cache, from another thread."""
    end = threading.Event()

    def read_on() -> None:
        with fs.open(b"file", os.O_RDONLY) as file:
            while not end.is_set():
                file.pread(SIZE, 0)

    thread = threading.Thread(target=read_on)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()


def _stale_reads(fs: OsFilesystem, call: Write) -> list[int]:
    write(fs, b"file", bytes(SIZE))
    stale = []
    with (
        fs.open(b"file", os.O_RDWR | os.O_DIRECT) as writer,
        fs.open(b"file", os.O_RDONLY) as reader,
        mmap.mmap(-1, SIZE) as data,
        _reading(fs),
    ):
        for number in range(1, ROUNDS + 1):
            data[:] = bytes([number % 256]) * SIZE
            assert call(writer.fileno(), data) == SIZE
            if reader.pread(SIZE, 0) != data[:]:
                stale.append(number)
    return stale


def test_a_write_by_aio_leaves_no_stale_page(fs: OsFilesystem) -> None:
    with Aio() as aio:
        assert _stale_reads(fs, lambda fd, data: aio.pwrite(fd, data, 0)) == []


def test_a_write_leaves_no_stale_page(fs: OsFilesystem) -> None:
    assert _stale_reads(fs, lambda fd, data: os.pwrite(fd, data, 0)) == []
