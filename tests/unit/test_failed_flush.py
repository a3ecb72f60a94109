"""After a failed flush no data that may be in memory only is trusted, until gc has cleared the record.

A test cannot cause a failed write-back. It checks that bytes get a new inode after the failure.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import xxhash

from artfs.errors import Damaged
from artfs.seal.seal import Request
from artfs.store import flush
from artfs.volume.volume import Volume
from tests.conformance.helpers import fails
from tests.crash.faults import steps

NAME = "model"
FINISH = Request(wait=0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "volume"
    with Volume.init(path) as volume:
        start(volume, b"job")
    return path


def start(volume: Volume, name: bytes) -> Path:
    if NAME not in volume.catalog.names():
        volume.catalog.create(NAME)
    volume.start(volume.catalog.collection(NAME), name)
    tree = volume.path / "collections" / NAME / "pending" / os.fsdecode(name) / "tree"
    (tree / "file").write_bytes(b"data")
    (tree / "sparse").write_bytes(b"\0" * 3_000_000 + b"end")
    (tree / "empty").touch()
    return tree


def finish(volume: Volume, name: bytes) -> str:
    return volume.finish(volume.catalog.collection(NAME), name, FINISH).version


def fail_to_finish(volume: Volume, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: flush.Flush) -> None:
        error = OSError(errno.EIO, os.strerror(errno.EIO))
        self._failed(error)
        raise error

    with monkeypatch.context() as patch, fails(errno.EIO):
        patch.setattr(flush.Flush, "flush", fail)
        finish(volume, b"job")


def another_fails_to_finish(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Acts like another process, as far as the volume can tell."""
    with Volume.open(path) as volume:
        fail_to_finish(volume, monkeypatch)


def objects(path: Path, kind: str = "*") -> set[int]:
    return {file.stat().st_ino for file in path.glob(f"objects/{kind}/??/*")}


def hold(path: Path, tmp_path: Path) -> set[int]:
    """Gives every object and pending file another name, so that no inode number is reused; returns these."""
    (tmp_path / "held").mkdir()
    files = [*path.glob("objects/*/??/*"), *path.glob("collections/**/tree/*")]
    for number, file in enumerate(files):
        os.link(file, tmp_path / "held" / str(number))
    return {file.stat().st_ino for file in files}


@pytest.mark.parametrize("name", [b"job", b"other"])
def test_the_next_finish_rewrites_everything(
    path: Path, tmp_path: Path, name: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It also rewrites equal files of another pending version."""
    another_fails_to_finish(path, monkeypatch)
    with Volume.open(path) as volume:
        if name == b"other":
            start(volume, name)
        doubtful = hold(path, tmp_path)
        assert finish(volume, name) == "v0"
        volume.maintenance.gc()  # removes pages that no version needs
        assert not objects(path) & doubtful
        assert volume.maintenance.check().sound


@pytest.mark.parametrize("of_another_process", [False, True])
def test_a_finish_during_another_failed_flush_rewrites_everything(
    path: Path, tmp_path: Path, of_another_process: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel may have reported the error for these bytes to that flush."""
    with Volume.open(path) as volume:
        start(volume, b"equal")
        doubtful = hold(path, tmp_path)
        failed: list[str] = []

        def fail(step: str) -> None:
            if step == "objects:sync" and not failed:
                failed.append(step)
                if of_another_process:
                    another_fails_to_finish(path, monkeypatch)
                else:
                    volume.store.failed_flush.record(OSError(errno.EIO, os.strerror(errno.EIO)))

        with steps(fail):
            assert finish(volume, b"equal") == "v0"
        assert failed
        assert not objects(path, "blobs") & doubtful
        assert volume.maintenance.check().sound


def test_gc_clears_the_record_when_nothing_is_pending(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    another_fails_to_finish(path, monkeypatch)
    doubt = path / "objects" / "doubt"
    with Volume.open(path) as volume:
        volume.maintenance.gc()
        assert doubt.exists()
        finish(volume, b"job")
        volume.maintenance.preview_gc()
        assert doubt.exists()
        volume.maintenance.gc()
        assert not doubt.exists()
        stored = objects(path, "blobs")
        start(volume, b"again")
        assert finish(volume, b"again") == "v0"
        assert objects(path, "blobs") == stored


def test_check_reports_lost_bytes(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel dropped the pages, and reads return the older bytes of the disk."""
    with Volume.open(path) as volume:
        tree = volume.trees.get(NAME, b"job")
        file = path / "collections" / NAME / "pending" / "job" / "tree" / "file"

        fail_to_finish(volume, monkeypatch)
        digest = xxhash.xxh3_128_digest(b"data")
        with file.open("r+b") as lost:
            lost.write(b"DATA")
        tree.hashes.learn(file.stat().st_ino, 4, digest)  # as at the write
        with pytest.raises(Damaged, match="other bytes than were written"):
            finish(volume, b"job")
