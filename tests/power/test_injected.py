"""Single system calls fail, by strace: a part of ``python -m tests.torture.power``."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conformance.helpers import fails
from tests.mount.control import command, commit, finish
from tests.mount.mounting import MountedVolume, mounted_volume
from tests.power.failures import Failing
from tests.power.injecting import needs_strace

#: A call of each kind, at a number that each of these operations reaches.
CALLS = [
    ("fsync", "EIO", 1),
    ("fsync", "EIO", 4),
    ("syncfs", "EIO", 1),
    ("renameat2", "ENOSPC", 1),
    ("linkat", "EMLINK", 1),
    ("linkat", "ENOSPC", 2),
    ("write", "EDQUOT", 2),
    ("openat", "EMFILE", 9),
    ("getdents64", "EIO", 2),
    ("newfstatat", "EIO", 12),
    ("unlinkat", "EIO", 1),
]


@pytest.fixture(autouse=True)
def _strace() -> None:
    needs_strace()


@pytest.mark.parametrize("name", ["seal with files that are stored", "rebase", "move an alias"])
def test_a_failed_call_leaves_the_old_or_the_new_state(tmp_path: Path, name: str) -> None:
    failing = Failing(tmp_path, name)
    hits = [failing.run(*call) for call in CALLS]
    assert sum(hits) >= (2 if name == "move an alias" else 8), "hardly any call came to pass"


@contextmanager
def daemon_fails(mounted: MountedVolume, call: str, error: str, when: str = "1") -> Iterator[None]:
    """Makes calls of a name fail in the daemon, within a with block."""
    rule = f"inject={call}:error={error}:when={when}"
    words = ["strace", "-f", "-o", "/dev/null", "-e", f"trace={call}", "-e", rule, "-p", str(mounted.pid)]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as strace:
        assert strace.stderr is not None
        assert "attached" in strace.stderr.readline()
        try:
            yield
        finally:
            strace.terminate()
            strace.communicate()


class SickMachine(MountedVolume):
    """A mount whose flushes fail, which its log may report."""

    def log(self) -> str:
        return "\n".join(
            line for line in super().log().splitlines() if "artfs.store.failed_flush: a flush" not in line
        )


@pytest.fixture
def own_mount() -> Iterator[MountedVolume]:
    with mounted_volume(kind=SickMachine) as mounted, mounted.watched():
        yield mounted


@pytest.fixture
def base(own_mount: MountedVolume) -> Path:
    model = own_mount.point / "model"
    model.mkdir()
    commit(model, "base", {"dir/file": "base", "other": "other"}, "best")
    job = model / "pending" / "job"
    job.mkdir()
    command(job, "base", "best")
    return job


@pytest.mark.fuse
@pytest.mark.parametrize(
    ("call", "error"), [("fsync", "EIO"), ("copy_file_range", "ENOSPC"), ("openat", "EMFILE")]
)
def test_a_failed_copy_up_keeps_the_lower_file(
    own_mount: MountedVolume, base: Path, call: str, error: str
) -> None:
    file = base / "dir" / "file"
    assert file.read_text() == "base"  # fills the daemon's caches
    with daemon_fails(own_mount, call, error, "1+"), fails(getattr(errno, error)):
        os.open(file, os.O_RDWR)
    assert file.read_text() == "base"
    file.write_text("changed")
    assert finish(base)["version"] == "v1"
    assert (base.parents[1] / "v1" / "dir" / "file").read_text() == "changed"


@pytest.mark.fuse
@pytest.mark.parametrize(
    ("call", "error"), [("syncfs", "EIO"), ("linkat", "ENOSPC"), ("fsync", "EIO"), ("renameat2", "ENOSPC")]
)
def test_a_failed_finish_can_be_repeated(own_mount: MountedVolume, base: Path, call: str, error: str) -> None:
    (base / "new").write_text("new")
    with daemon_fails(own_mount, call, error), fails(getattr(errno, error)):
        command(base, "finish", "best")
    (base / "more").write_text("more")
    assert finish(base, "best")["version"] == "v1"
    best = base.parents[1] / "best"
    assert os.readlink(best) == "v1"
    assert sorted(os.listdir(best)) == ["dir", "more", "new", "other"]


@pytest.mark.fuse
def test_a_failed_fsync_is_reported_and_the_data_rewritten(own_mount: MountedVolume, base: Path) -> None:
    """The next finish writes the data again, whatever the kernel answers then."""
    with (base / "new").open("wb") as file:
        file.write(b"data" * 1000)
        file.flush()
        with daemon_fails(own_mount, "fsync", "EIO"), fails(errno.EIO):
            os.fsync(file.fileno())
        stored = os.stat(own_mount.volume / "collections/model/pending/job/tree/new").st_ino
    assert finish(base)["version"] == "v1"
    blobs = [path.stat().st_ino for path in (own_mount.volume / "objects" / "blobs").glob("??/*")]
    assert stored not in blobs
    assert (base.parents[1] / "v1" / "new").read_bytes() == b"data" * 1000
