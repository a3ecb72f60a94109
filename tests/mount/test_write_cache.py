"""With ``--write-cache``, errors and rounding by the backing filesystem appear before a finish, not after."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.conformance.helpers import OLD, eventually, fails
from tests.mount.control import finish, show
from tests.mount.mounting import PLACE
from tests.power.failing_machine import Machine, machine
from tests.power.images import needs

pytestmark = pytest.mark.fuse

MOUNT_OPTIONS = ("--write-cache",)
BEYOND = 1 << 62  # more than a file of ext4 holds
YEAR_3000 = 32_503_680_000 * 10**9


@pytest.fixture
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Machine]:
    kind = getattr(request, "param", "ext4")
    needs(kind)
    with machine(kind, tmp_path, "--write-cache") as made:
        (made.mnt / "model" / "pending" / "job").mkdir(parents=True)
        yield made


def _write_all(path: Path, data: bytes, flags: int = os.O_WRONLY | os.O_CREAT) -> None:
    fd = os.open(path, flags, 0o644)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        os.fsync(fd)
    finally:
        os.close(fd)


def _refuses_to_finish(tree: Path, name: str) -> None:
    with fails(errno.EIO):
        finish(tree)
    assert f"could not be stored: {name};" in show(tree, "error")


def test_a_failed_write_beyond_the_largest_size_is_not_sealed(disk: Machine) -> None:
    job = disk.mnt / "model" / "pending" / "job"
    (job / "far").write_bytes(b"near")
    with fails(errno.EFBIG):
        fd = os.open(job / "far", os.O_WRONLY)
        try:
            os.pwrite(fd, b"far", BEYOND)
            os.fsync(fd)
        finally:
            os.close(fd)
    _refuses_to_finish(job, "far")
    os.truncate(job / "far", 4)
    before = (job / "far").stat()
    finish(job)
    after = (job / "far").stat()
    assert (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)
    assert (job / "far").read_bytes() == b"near"


def test_removing_a_failed_file_allows_the_finish(disk: Machine) -> None:
    job = disk.mnt / "model" / "pending" / "job"
    for name in ("gone", "forced"):
        with fails(errno.EFBIG):
            fd = os.open(job / name, os.O_RDWR | os.O_CREAT)
            try:
                os.pwrite(fd, b"far", BEYOND)
                os.fsync(fd)
            finally:
                os.close(fd)
    (job / "gone").unlink()
    _refuses_to_finish(job, "forced")
    assert finish(job, "--force")["version"] == "v0"
    assert os.listdir(job) == ["forced"]


@pytest.mark.parametrize("base", [False, True], ids=["own", "of the base"])
def test_an_unsupported_time_is_refused(model: Path, job: Path, base: bool) -> None:
    file = job / "file"
    file.touch()
    with TemporaryDirectory(dir=PLACE) as plain:
        os.utime(plain, ns=(OLD, YEAR_3000))
        if os.stat(plain).st_mtime_ns == YEAR_3000:
            pytest.skip("this filesystem holds any time")
    os.utime(file, ns=(OLD, OLD))
    if base:
        finish(job)
        job = model / "pending" / "patch"
        job.mkdir()
        (job / ".artfs" / "base").write_text("v0\n")
        file = job / "file"
    with fails(errno.EOVERFLOW):
        os.utime(file, ns=(OLD, YEAR_3000))
    assert file.stat().st_mtime_ns == OLD
    (job / "more").touch()
    finish(job)
    assert file.stat().st_mtime_ns == OLD


def test_writes_to_a_full_disk_are_not_sealed(disk: Machine) -> None:
    job = disk.mnt / "model" / "pending" / "job"
    free = os.statvfs(disk.mnt)
    size = (free.f_bfree + 100) * free.f_frsize
    (job / "first").write_bytes(b"first")
    os.truncate(job / "first", size)  # makes a hole, so that the write does not change the size
    with fails(errno.ENOSPC):
        _write_all(job / "first", b"x" * size)
    _refuses_to_finish(job, "first")
    os.truncate(job / "first", 100_000)
    _write_all(job / "first", b"y" * 100_000)
    finish(job)
    assert (job / "first").read_bytes() == b"y" * 100_000


def test_a_file_written_again_can_be_finished(disk: Machine) -> None:
    job = disk.mnt / "model" / "pending" / "job"
    free = os.statvfs(disk.mnt)
    _write_all(job / "ballast", b"b" * (free.f_bfree * free.f_frsize * 3 // 4))
    data = b"x" * (free.f_bfree * free.f_frsize // 2)
    with fails(errno.ENOSPC):
        _write_all(job / "file", data)
    _refuses_to_finish(job, "file")
    (job / "ballast").unlink()
    # A thread of the daemon frees the blocks of a large file after its answer.
    eventually(lambda: os.statvfs(disk.mnt).f_bfree > free.f_bfree // 2, what="there is room")
    _write_all(job / "file", data)
    finish(job)
    assert (job / "file").read_bytes() == data


@pytest.mark.parametrize("disk", ["ext4, times of a second"], indirect=True)
def test_a_finish_does_not_change_the_precision_of_times(disk: Machine) -> None:
    job = disk.mnt / "model" / "pending" / "job"
    (job / "written").write_bytes(b"data")
    (job / "set").touch()
    os.utime(job / "set", ns=(OLD, OLD))
    before = {name: (job / name).stat().st_mtime_ns for name in ("written", "set")}
    finish(job)
    assert before == {name: (job / name).stat().st_mtime_ns for name in before}
    assert all(time % 10**9 == 0 for time in before.values())


def _look(tree: Path) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {}
    for name in sorted(os.listdir(tree)):
        status = (tree / name).lstat()
        size = 0 if stat.S_ISDIR(status.st_mode) else status.st_size
        found[name] = status.st_mode, size, status.st_mtime_ns, status.st_uid, status.st_gid
    return found


def test_a_finish_keeps_the_attributes_that_stat_shows(job: Path) -> None:
    for number in range(20):  # the kernel's clock is coarser than the backing filesystem's
        (job / f"written {number}").write_bytes(b"data")
    (job / "grown").write_bytes(b"data")
    os.truncate(job / "grown", 9000)
    (job / "cut").write_bytes(b"data" * 1000)
    os.truncate(job / "cut", 3)
    for name, seconds in (("early", -(1 << 31) + 1), ("late", (1 << 33)), ("old", 7)):
        (job / name).touch()
        os.utime(job / name, ns=(0, seconds * 10**9 + 999_999_999))
    (job / "mode").write_bytes(b"")
    (job / "mode").chmod(0o1764)
    (job / "directory").mkdir(0o750)
    os.utime(job / "directory", ns=(0, OLD))
    (job / "link").symlink_to("grown")
    os.utime(job / "link", ns=(0, OLD), follow_symlinks=False)
    before = _look(job)
    finish(job)
    assert _look(job) == before
