"""Reading, writing, truncating, holes and fsync."""

from __future__ import annotations

import ctypes
import errno
import os
import random

import pytest

from tests.conformance.driver import Filesystem, OsFilesystem
from tests.conformance.helpers import fails, read, write

BLOCK = 512


def pattern(size: int, seed: int = 1) -> bytes:
    """Returns bytes that depend on their offset."""
    return random.Random(seed).randbytes(size)


@pytest.mark.parametrize("size", [1, 4095, 4096, 4097, 131072, 1 << 20, (5 << 20) + 3])
def test_written_data_is_read(fs: Filesystem, size: int) -> None:
    data = pattern(size)
    write(fs, b"file", data)
    assert fs.stat(b"file").size == size
    assert read(fs, b"file") == data


def test_random_writes_equal_a_bytearray(fs: Filesystem) -> None:
    dice = random.Random(7)
    model = bytearray()
    with fs.open(b"file", os.O_RDWR | os.O_CREAT) as file:
        for _ in range(300):
            offset, size = dice.randrange(200_000), dice.randrange(1, 20_000)
            action = dice.randrange(10)
            if action == 0:
                file.truncate(offset)
                model[:] = model[:offset].ljust(offset, b"\0")
            elif action < 6:
                data = dice.randbytes(size)
                assert file.pwrite(data, offset) == size
                model[:] = model.ljust(offset, b"\0")
                model[offset : offset + size] = data
            else:
                assert file.pread(size, offset) == model[offset : offset + size]
        assert file.stat().size == len(model)
    assert read(fs, b"file") == model


def test_a_hole_between_writes_reads_as_zeros(fs: Filesystem) -> None:
    with fs.open(b"file", os.O_RDWR | os.O_CREAT) as file:
        file.pwrite(b"end", 100_000)
        assert file.pread(100_003, 0) == bytes(100_000) + b"end"


def test_truncating_discards_the_tail(fs: Filesystem) -> None:
    write(fs, b"file", b"x" * 10_000)
    fs.truncate(b"file", 5_000)
    assert fs.stat(b"file").size == 5_000
    fs.truncate(b"file", 8_000)
    assert read(fs, b"file") == b"x" * 5_000 + bytes(3_000)


def test_extending_makes_a_hole(fs: Filesystem) -> None:
    write(fs, b"file", b"head")
    fs.truncate(b"file", 1 << 30)
    status = fs.stat(b"file")
    assert status.size == 1 << 30
    assert status.blocks * BLOCK < 1 << 20
    with fs.open(b"file", os.O_RDONLY) as file:
        assert file.pread(10, 0) == b"head" + bytes(6)
        assert file.pread(10, (1 << 30) - 5) == bytes(5)


def test_truncate_by_handle_and_by_path_agree(fs: Filesystem) -> None:
    with fs.open(b"file", os.O_RDWR | os.O_CREAT) as file:
        file.pwrite(b"0123456789", 0)
        file.truncate(5)
        assert fs.stat(b"file").size == 5
        fs.truncate(b"file", 3)
        assert file.stat().size == 3
        assert file.pread(100, 0) == b"012"


def test_a_sparse_file_takes_little_space(fs: Filesystem) -> None:
    with fs.open(b"sparse", os.O_RDWR | os.O_CREAT) as file:
        for index in range(10):
            file.pwrite(b"data", index * (100 << 20))
        file.fsync()
        status = file.stat()
    assert status.size == 900 * (1 << 20) + 4
    assert 0 < status.blocks * BLOCK < 1 << 20


def test_blocks_count_the_stored_data(fs: Filesystem) -> None:
    with fs.open(b"dense", os.O_RDWR | os.O_CREAT) as file:
        file.pwrite(pattern(1 << 20), 0)
        file.fsync()
        assert 1 << 20 <= file.stat().blocks * BLOCK < 2 << 20


@pytest.mark.parametrize("offset", [(1 << 31) - 1, 1 << 32, (1 << 40) + 12345])
def test_a_large_offset_can_be_written(fs: Filesystem, offset: int) -> None:
    with fs.open(b"far", os.O_RDWR | os.O_CREAT) as file:
        assert file.pwrite(b"here", offset) == 4
        assert file.stat().size == offset + 4
        assert file.pread(100, offset - 3) == bytes(3) + b"here"


def test_fsync_and_fdatasync_work_on_files_and_directories(fs: Filesystem) -> None:
    fs.mkdir(b"dir")
    with fs.open(b"dir/file", os.O_RDWR | os.O_CREAT) as file:
        file.pwrite(b"durable", 0)
        file.fsync()
        file.pwrite(b"DURABLE", 0)
        file.fsync(data_only=True)
        assert file.pread(100, 0) == b"DURABLE"
    fs.fsyncdir(b"dir")
    fs.fsyncdir(b"dir", data_only=True)
    fs.fsyncdir(b"")
    with fs.open(b"dir/file", os.O_RDONLY) as reader:
        reader.fsync()


def test_a_reader_sees_each_write_at_once(fs: Filesystem) -> None:
    with fs.open(b"file", os.O_WRONLY | os.O_CREAT) as writer, fs.open(b"file", os.O_RDONLY) as reader:
        for index in range(50):
            writer.pwrite(b"%4d" % index, index * 4)
            assert reader.stat().size == fs.stat(b"file").size == index * 4 + 4
            assert reader.pread(100, index * 4) == b"%4d" % index


def test_overwriting_a_file_that_was_read_shows_the_new_bytes(fs: Filesystem) -> None:
    write(fs, b"file", pattern(300_000, 1))
    assert read(fs, b"file") == pattern(300_000, 1)
    with fs.open(b"file", os.O_WRONLY) as writer:
        writer.pwrite(pattern(300_000, 2), 0)
    assert read(fs, b"file") == pattern(300_000, 2)


@pytest.mark.real
def test_sequential_read_write_and_seek(fs: OsFilesystem) -> None:
    with fs.open(b"file", os.O_RDWR | os.O_CREAT) as file:
        fd = file.fileno()
        assert os.write(fd, b"0123456789") == 10
        assert os.lseek(fd, -4, os.SEEK_END) == 6
        assert os.read(fd, 100) == b"6789"
        assert os.lseek(fd, 2, os.SEEK_SET) == 2
        assert os.write(fd, b"XY") == 2
        assert os.lseek(fd, 0, os.SEEK_CUR) == 4
        with fails(errno.EINVAL):
            os.lseek(fd, -1, os.SEEK_SET)
    assert read(fs, b"file") == b"01XY456789"


@pytest.mark.real
def test_seek_hole_never_skips_data(fs: OsFilesystem) -> None:
    """SEEK_HOLE may be coarse, but a hole that it reports contains no data."""
    with fs.open(b"file", os.O_RDWR | os.O_CREAT) as file:
        file.pwrite(b"head", 0)
        file.pwrite(b"tail", 1 << 20)
        fd, size = file.fileno(), (1 << 20) + 4
        assert os.lseek(fd, 0, os.SEEK_DATA) == 0
        assert 4 <= os.lseek(fd, 0, os.SEEK_HOLE) <= size
        assert os.lseek(fd, 4096, os.SEEK_DATA) <= 1 << 20
        assert os.lseek(fd, 1 << 20, os.SEEK_HOLE) == size
        with fails(errno.ENXIO):
            os.lseek(fd, size, os.SEEK_DATA)


@pytest.mark.real
def test_posix_fallocate_allocates(fs: OsFilesystem) -> None:
    """The C library writes instead where the filesystem has no fallocate."""
    with fs.open(b"file", os.O_RDWR | os.O_CREAT) as file:
        file.pwrite(b"head", 0)
        os.posix_fallocate(file.fileno(), 0, 100_000)
        assert file.stat().size == 100_000
        assert file.pread(10, 0) == b"head" + bytes(6)


@pytest.mark.real
def test_posix_fallocate_keeps_data_and_never_shortens(fs: OsFilesystem) -> None:
    """It allocates holes, and refuses invalid arguments."""
    with fs.open(b"file", os.O_RDWR | os.O_CREAT) as file:
        os.posix_fallocate(file.fileno(), 0, 1)
        assert file.pread(10, 0) == bytes(1)
        file.pwrite(b"tail", 1 << 20)
        before = file.stat()
        os.posix_fallocate(file.fileno(), 4096, (1 << 20) - 4096)
        after = file.stat()
        assert (after.size, file.pread(10, 1 << 20)) == (before.size, b"tail")
        assert (after.blocks - before.blocks) * BLOCK >= (1 << 20) - 8192
        for offset, size, code in (
            (0, 0, errno.EINVAL),
            (-1, 1, errno.EINVAL),
            (1, (1 << 63) - 1, errno.EFBIG),
        ):
            with fails(code):
                os.posix_fallocate(file.fileno(), offset, size)
    with fs.open(b"file", os.O_RDONLY) as reader, fails(errno.EBADF):
        os.posix_fallocate(reader.fileno(), 0, 1)


@pytest.mark.real
@pytest.mark.artfs_only
def test_fallocate_is_not_supported(fs: OsFilesystem) -> None:
    """This errno makes the C library, PostgreSQL and rsync write instead."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    with fs.open(b"file", os.O_RDWR | os.O_CREAT) as file:
        for mode in (0, 0, 1, 2 | 1, 8, 16, 32, 64):
            assert libc.fallocate(file.fileno(), mode, 0, 4096) == -1
            assert ctypes.get_errno() == errno.EOPNOTSUPP
        assert file.stat().size == 0


@pytest.mark.real
def test_the_kernel_can_copy_files(fs: OsFilesystem) -> None:
    """cp, shutil and web servers use sendfile, copy_file_range and splice."""
    data = pattern(1 << 20)
    write(fs, b"source", data)
    with fs.open(b"source", os.O_RDONLY) as source, fs.open(b"a", os.O_WRONLY | os.O_CREAT) as target:
        done = 0
        while done < len(data):
            done += os.sendfile(target.fileno(), source.fileno(), done, len(data) - done)
    assert read(fs, b"a") == data
    with fs.open(b"source", os.O_RDONLY) as source, fs.open(b"b", os.O_WRONLY | os.O_CREAT) as target:
        done = 0
        while done < len(data):
            done += os.copy_file_range(source.fileno(), target.fileno(), len(data) - done, done, done)
    assert read(fs, b"b") == data


@pytest.mark.real
def test_vectored_writes_and_o_sync_work(fs: OsFilesystem) -> None:
    with fs.open(b"file", os.O_RDWR | os.O_CREAT | os.O_SYNC) as file:
        assert os.pwritev(file.fileno(), [b"one", b"two", b"three"], 2) == 11
    with fs.open(b"file", os.O_RDWR | os.O_DSYNC) as file:
        file.pwrite(b"!", 0)
    assert read(fs, b"file") == b"!\0onetwothree"
