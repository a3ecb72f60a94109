"""Files whose truncation or removal takes the backing filesystem long: a thread does it."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from artfs.errors import ReadOnly, Sealing
from artfs.pending import deferred_close
from artfs.seal.seal import Request
from artfs.vfs.node import ROOT, AttributeChanges, NeedsWork
from tests.conformance.helpers import fails, read, write
from tests.conformance.view import ViewFilesystem, ViewInMemory, ready
from tests.crash.faults import steps
from tests.unit.stores import opened

LARGE = b"x" * (2 << 20)

Cut = Callable[[], object]


@pytest.fixture
def aside(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Collects the descriptors that a thread is to close."""
    taken: list[int] = []

    def take(fd: int) -> None:
        taken.append(fd)
        os.close(fd)

    monkeypatch.setattr(deferred_close._closer, "take", take)
    return taken


@pytest.mark.parametrize("size", [10, len(LARGE)])
@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("written", [True, False])
def test_slow_closes_are_left_to_a_thread(
    tmp_path: Path, aside: list[int], size: int, named: bool, written: bool
) -> None:
    fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    os.write(fd, LARGE[:size])
    if not named:
        os.unlink(tmp_path / "file")
    deferred_close.close(fd, written=written)
    assert bool(aside) == (size == len(LARGE) and (written or not named))
    with fails(errno.EBADF):
        os.fstat(fd)


def test_the_thread_closes_its_descriptors(tmp_path: Path) -> None:
    fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    os.write(fd, LARGE)
    read_end, write_end = os.pipe()
    os.close(fd)
    os.dup2(write_end, fd)
    os.close(write_end)
    deferred_close._closer.take(fd)
    assert os.read(read_end, 1) == b""
    os.close(read_end)


def test_unlinking_a_large_file_closes_it_on_a_thread(fs: ViewFilesystem, aside: list[int]) -> None:
    write(fs, b"one", LARGE)
    write(fs, b"two", LARGE)
    write(fs, b"small", b"small")
    aside.clear()
    fs.link(b"one", b"other")
    fs.unlink(b"one")
    assert not aside
    fs.unlink(b"other")
    assert len(aside) == 1
    fs.rename(b"small", b"two")
    assert len(aside) == 2
    fs.unlink(b"two")
    assert len(aside) == 2


def test_closing_a_large_unlinked_file_uses_a_thread(
    view: ViewInMemory, fs: ViewFilesystem, aside: list[int]
) -> None:
    write(fs, b"one", LARGE)
    aside.clear()
    file = fs.open(b"one", os.O_RDONLY)
    fs.unlink(b"one")
    assert not aside
    file.close()
    del file
    assert len(aside) == 1 + 1  # the handle's, and that of the inode
    with fs.open(b"two", os.O_RDWR | os.O_CREAT) as file:
        file.pwrite(LARGE, 0)
    assert len(aside) == 3
    # It is no longer counted, whenever it is closed.
    assert finish(view) == "v0"


def finish(view: ViewInMemory) -> str:
    return view.volume.finish(view.volume.catalog.collection("suite"), b"test-1", Request(wait=0)).version


def shorten(fs: ViewFilesystem, name: bytes, size: int = 0) -> Cut:
    """Returns a function that truncates a file, split for a worker thread."""
    return lambda: fs._at(name, follow=False).change_attributes(AttributeChanges(size=size), None, ROOT)


def empty(fs: ViewFilesystem, name: bytes) -> Cut:
    return lambda: fs._at(name, follow=False).open(os.O_WRONLY | os.O_TRUNC, ROOT).release()


def first(cut: Cut) -> Callable[[], None]:
    with pytest.raises(NeedsWork) as caught:
        cut()
    return caught.value.prepare


@pytest.mark.parametrize("way", [shorten, empty])
def test_a_large_file_is_truncated_on_a_worker_thread(
    view: ViewInMemory, fs: ViewFilesystem, monkeypatch: pytest.MonkeyPatch, way: Callable[..., Cut]
) -> None:
    write(fs, b"file", LARGE)
    cut = way(fs, b"file")
    prepare = first(cut)
    refused = []

    def ftruncate(fd: int, size: int) -> None:
        # No lock is held: only a finish waits.
        write(fs, b"other", b"data")
        with pytest.raises(Sealing):
            view.volume.trees.get("suite", b"test-1").gate.close_now()
        refused.append(True)
        os.truncate(fd, size)

    with monkeypatch.context() as patch:
        patch.setattr(os, "ftruncate", ftruncate)
        prepare()
    assert refused
    assert fs.stat(b"file").size == 0
    cut()
    assert finish(view) == "v0"


def test_a_small_or_growing_file_is_truncated_at_once(fs: ViewFilesystem) -> None:
    write(fs, b"file", LARGE)
    shorten(fs, b"file", 1 << 40)()
    ready(shorten(fs, b"file", 1000))
    shorten(fs, b"file", 10)()
    assert read(fs, b"file") == LARGE[:10]


def test_truncating_a_large_file_drops_its_digest(view: ViewInMemory, fs: ViewFilesystem) -> None:
    with fs.open(b"file", os.O_RDWR | os.O_CREAT) as file:
        file.pwrite(LARGE, 0)
        file.truncate(1 << 20)
        file.pwrite(LARGE, 1 << 20)
    assert finish(view) == "v0"
    assert view.volume.maintenance.check().sound


def test_a_prepared_truncation_of_a_sealed_file_is_refused(view: ViewInMemory, fs: ViewFilesystem) -> None:
    write(fs, b"file", LARGE)
    prepare = first(shorten(fs, b"file"))
    finish(view)
    with pytest.raises(ReadOnly):
        prepare()
    assert fs.stat(b"file").size == len(LARGE)


def test_truncation_does_not_change_a_blob_of_a_failed_seal(view: ViewInMemory, fs: ViewFilesystem) -> None:
    write(fs, b"file", LARGE)
    cut = shorten(fs, b"file")
    prepare = first(cut)

    def fail(step: str) -> None:
        if step == "seal:commit":
            raise OSError(errno.ENOSPC, "no space")

    with steps(fail), fails(errno.ENOSPC):
        finish(view)
    with opened(view.volume.path / "collections/suite/pending/test-1/tree/file") as blob:
        prepare()
        assert os.fstat(blob).st_size == len(LARGE)
        ready(cut)
        assert os.fstat(blob).st_size == len(LARGE)
    assert fs.stat(b"file").size == 0
