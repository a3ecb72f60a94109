"""What a mount acknowledged as durable exists after the power was cut right then.

One machine for a module: each test has a collection of its own, and the rest of earlier tests is checked at
the end.
"""

from __future__ import annotations

import ctypes
import itertools
import json
import mmap
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mount.control import (
    command,
    commit,
    control,
    finish,
    show,
    show_json,
    show_lines,
    snapshot,
    writer,
)
from tests.mount.mounting import must
from tests.power.failing_machine import Machine, machine
from tests.power.images import needs
from tests.thorough import THOROUGH

pytestmark = pytest.mark.fuse

#: Many cuts, each with a mount; `test_labels` cuts the same operations at each step, without one.
long = pytest.mark.skipif(not THOROUGH, reason="many cuts: set $ARTFS_THOROUGH")

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def computer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    needs("ext4")
    with machine("ext4", tmp_path_factory.mktemp("computer")) as made:
        yield made


@pytest.fixture
def model(computer: Machine) -> Path:
    path = computer.mnt / f"model-{next(_numbers)}"
    path.mkdir()
    return path


@pytest.fixture
def job(model: Path) -> Path:
    path = model / "pending" / "job"
    path.mkdir()
    return path


def synced(path: Path, data: bytes = b"") -> Path:
    """Writes a file, or opens a directory, and fsyncs it."""
    fd = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT, 0o644)
    try:
        if not path.is_dir():
            os.pwrite(fd, data, 0)
        os.fsync(fd)
    finally:
        os.close(fd)
    return path


def names(tree: Path) -> list[str]:
    return sorted(os.listdir(tree))


def test_fsynced_files_and_directories_are_durable(computer: Machine, job: Path) -> None:
    (job / "dir" / "deep").mkdir(parents=True)
    synced(job / "dir" / "deep" / "file", b"synced" * 10_000)
    (job / "moved").write_bytes(b"")
    synced(job / "moved", b"moved")
    (job / "moved").rename(job / "dir" / "other")
    os.symlink("anywhere", job / "dir" / "link")
    (job / "dir" / "gone").touch()
    synced(job / "dir")
    (job / "dir" / "gone").unlink()
    os.link(job / "dir" / "other", job / "dir" / "second")
    os.setxattr(job / "dir" / "other", "user.key", b"value")
    synced(job / "dir")
    synced(job / "dir" / "other")
    computer.cut()
    assert names(job / "dir") == ["deep", "link", "other", "second"]
    assert (job / "dir" / "deep" / "file").read_bytes() == b"synced" * 10_000
    assert (job / "dir" / "second").read_bytes() == b"moved"
    assert os.getxattr(job / "dir" / "second", "user.key") == b"value"
    assert os.readlink(job / "dir" / "link") == "anywhere"
    assert finish(job)["version"] == "v0"


@pytest.mark.parametrize("flags", [os.O_SYNC, os.O_DSYNC, os.O_DSYNC | os.O_DIRECT], ids=hex)
def test_synchronous_writes_are_durable(computer: Machine, job: Path, flags: int) -> None:
    """Writes by O_SYNC or O_DSYNC need no fsync."""
    synced(job / "file")
    synced(job)
    fd = os.open(job / "file", os.O_RDWR | flags)
    try:
        with mmap.mmap(-1, 8192) as data:
            data[:] = b"durable!" * 1024
            assert os.write(fd, data) == 8192
        computer.lose_power()
    finally:
        os.close(fd)
    computer.reboot()
    assert (job / "file").read_bytes() == b"durable!" * 1024


def test_fsynced_changes_of_a_patch_are_durable(computer: Machine, model: Path) -> None:
    """This includes a directory that was opened when all its entries were the base's."""
    commit(
        model, "base", {"dir/deep/one": "one", "dir/deep/two": "two", "dir/three": "three", "other/x": "x"}
    )
    job = model / "pending" / "job"
    job.mkdir()
    command(job, "base", "latest")
    deep = os.open(job / "dir" / "deep", os.O_RDONLY)
    other = os.open(job / "other", os.O_RDONLY)
    try:
        with (job / "dir" / "deep" / "one").open("r+b") as file:
            file.write(b"ONE")
            file.flush()
            os.fsync(file.fileno())
        (job / "dir" / "deep" / "two").rename(job / "dir" / "deep" / "moved")
        os.fsync(deep)
        (job / "other" / "x").unlink()
        os.fsync(other)
        computer.lose_power()
    finally:
        os.close(deep)
        os.close(other)
    computer.reboot()
    assert names(job / "dir" / "deep") == ["moved", "one"]
    assert (job / "dir" / "deep" / "one").read_bytes() == b"ONE"
    assert names(job / "other") == []
    assert finish(job, "best")["version"] == "v1"
    computer.cut()
    assert names(model / "best" / "dir" / "deep") == ["moved", "one"]
    assert (model / "best" / "dir" / "deep" / "moved").read_bytes() == b"two"


def test_fsynced_attributes_of_lower_files_are_durable(computer: Machine, model: Path) -> None:
    commit(model, "base", {"dir/one": "one"})
    job = model / "pending" / "job"
    job.mkdir()
    command(job, "base", "latest")
    (job / "dir" / "one").chmod(0o600)
    fd = os.open(job / "dir" / "one", os.O_RDONLY)
    try:
        os.fsync(fd)
        computer.lose_power()
    finally:
        os.close(fd)
    computer.reboot()
    assert stat.S_IMODE((job / "dir" / "one").stat().st_mode) == 0o600


def test_sync_makes_everything_durable(computer: Machine, job: Path) -> None:
    """sync(2) sends the daemon no request."""
    (job / "dir").mkdir()
    for number in range(50):
        (job / "dir" / f"{number}").write_bytes(b"%d" % number * 1000)
    os.sync()
    computer.cut()
    assert {path.name: path.read_bytes() for path in (job / "dir").iterdir()} == {
        f"{number}": b"%d" % number * 1000 for number in range(50)
    }


def test_a_finish_is_durable(computer: Machine, model: Path, job: Path) -> None:
    for number in range(200):
        path = job / f"{number % 7}" / f"{number}"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"%d" % number * (number * 50))
    (job / "empty").mkdir()
    os.symlink("empty", job / "link")
    os.setxattr(job / "1", "user.key", b"value")
    command(job, "tags", "a b")
    command(job, "metadata.json", '{"accuracy": 0.5}')
    wanted = snapshot(job)
    answer = finish(job, "best good")
    computer.cut()
    version = model / answer["version"]
    assert snapshot(version) == wanted
    assert os.readlink(model / "best") == os.readlink(model / "good") == "v0"
    assert os.readlink(model / "pending" / "job") == "../v0"
    assert show(version, "tags").split() == ["a", "b"]
    assert show_json(version, "metadata.json") == {"accuracy": 0.5}
    assert finish(version)["version"] == "v0"


def test_an_unchanged_finish_is_durable(computer: Machine, model: Path, job: Path) -> None:
    commit(model, "first", {"a": "a", "b/c": "c"}, "best")
    (job / "a").write_text("a")
    (job / "b").mkdir()
    (job / "b" / "c").write_text("c")
    assert finish(job, "again")["unchanged"]
    computer.cut()
    assert os.readlink(model / "again") == "v0"
    assert os.readlink(model / "pending" / "job") == "../v0"


def test_a_forced_finish_is_durable(computer: Machine, model: Path, job: Path) -> None:
    with writer(job / "open", b"written") as child:
        answer = finish(job, "--force best")
        computer.lose_power()
        child.go()
    computer.reboot()
    assert (model / answer["version"] / "open").read_bytes() == b"written"
    assert os.readlink(model / "best") == "v0"


@long
def test_aliases_and_labels_are_durable(computer: Machine, model: Path) -> None:
    """Each is the last before a cut, since a later one might make earlier ones durable."""
    commit(model, "one", {"file": "one"}, "best old")
    version = commit(model, "two", {"file": "two"})
    os.unlink(model / "best")
    os.symlink("v1", model / "best")
    computer.cut()
    assert os.readlink(model / "best") == "v1"
    os.unlink(model / "old")
    computer.cut()
    assert not os.path.lexists(model / "old")
    command(version, "tags", "reviewed")
    computer.cut()
    assert show(version, "tags") == "reviewed\n"
    command(version, "ttl", "30d")
    computer.cut()
    assert show(version, "ttl") != "none\n"
    ttl = show(version, "ttl")
    command(model, "description", "told")
    computer.cut()
    assert (show(model, "description"), show(version, "ttl")) == ("told\n", ttl)
    (model / "v0").rmdir()
    computer.cut()
    assert "v0" not in names(model)
    must("--volume", computer.mnt, "ls")
    must("--volume", computer.volume, "gc")
    computer.cut()
    assert (model / "v1" / "file").read_text() == "two"


@long
def test_pending_versions_are_durable(computer: Machine, model: Path, job: Path) -> None:
    """Collections and pending versions, their base, runs, references, and their end."""
    computer.cut()
    assert names(model / "pending") == ["job"]
    command(job, "runs", "+run-1")
    computer.cut()
    assert [run["name"] for run in show_lines(job, "runs")] == ["run-1"]
    command(job, "runs", "-run-1")
    commit(model, "base", {"a": "a", "b": "b"}, "best")
    command(job, "base", "best")
    computer.cut()
    assert names(job) == ["a", "b"]
    synced(job / "a", b"A")
    commit(model, "next", {"a": "a", "b": "bb"}, "best")
    command(job, "base", "best")  # a rebase
    computer.cut()
    assert (job / "a").read_bytes() == b"A"
    assert (job / "b").read_bytes() == b"bb"
    command(job, "references", f"ref artfs://{model.name}:v0/b")
    synced(job)
    computer.cut()
    assert os.getxattr(job / "ref", "user.artfs.uri") == f"artfs://{model.name}:v0/b".encode()
    finish(job, "best")
    computer.cut()
    assert (model / "best" / "ref").read_bytes() == b"b"
    other = model / "pending" / "other"
    other.mkdir()
    synced(other / "file", b"data")
    command(other, "discard", "")
    computer.cut()
    assert names(model / "pending") == []
    empty = computer.mnt / "empty"
    empty.mkdir()
    computer.cut()
    empty.rmdir()
    computer.cut()
    assert not empty.exists()


def test_put_is_durable(computer: Machine, tmp_path: Path) -> None:
    """This holds for a mounted volume, and for an unmounted one."""
    source = tmp_path / "source"
    source.mkdir()
    for number in range(20):
        (source / f"{number}").write_bytes(b"%d" % number * 5000)
    other = computer.disk.root / "other"
    must("init", other)
    must("--volume", other, "put", source, "--name", "data", "--alias", "best")
    computer.cut()
    assert json.loads(must("--volume", other, "show", "data:best", "--json"))["version"] == "v0"
    assert must("--volume", other, "cat", "data:best", "7") == "7" * 5000
    must("--volume", other, "check")
    must("--volume", computer.mnt, "put", source, "--name", "data", "--alias", "best")
    computer.cut()
    assert (computer.mnt / "data" / "best" / "7").read_bytes() == b"7" * 5000
    assert control(computer.mnt, "status").exists()


def test_syncfs_does_not_reach_the_daemon(computer: Machine, job: Path) -> None:
    """The kernel sends it to no FUSE daemon without a block device, so it succeeds without durability."""
    (job / "file").write_bytes(b"data")
    fd = os.open(job, os.O_RDONLY)
    try:
        assert ctypes.CDLL(None).syncfs(fd) == 0
    finally:
        os.close(fd)
    computer.cut()
    assert not (job / "file").exists() or (job / "file").read_bytes() in (b"", b"data")
