"""Which handles can write to a tree during a seal, with the view in memory instead of a mount."""

from __future__ import annotations

import errno
import os
import stat

import pytest

from artfs.errors import CannotSeal, OpenForWriting, ReadOnly, Sealing
from artfs.seal.seal import Answer, Request
from artfs.vfs.node import ROOT
from tests.conformance.helpers import fails, read, write
from tests.conformance.view import ViewFilesystem, ViewInMemory
from tests.crash.faults import steps


def finish(view: ViewInMemory, *, force: bool = False) -> Answer:
    collection = view.volume.catalog.collection("suite")
    return view.volume.finish(collection, b"test-1", Request(wait=0, force=force))


def sealed(view: ViewInMemory, path: str) -> bytes:
    collection = view.volume.catalog.collection("suite")
    node = view.view.sealed(collection, collection.record(0)).root.lookup(path.encode())
    assert node is not None
    handle = node.open(os.O_RDONLY, ROOT)
    try:
        return handle.read(0, 1 << 20)
    finally:
        handle.release()


@pytest.mark.parametrize("seen", [True, False], ids=["seen", "not seen"])
def test_a_writer_counts_while_any_name_of_its_file_is_in_the_tree(
    view: ViewInMemory, fs: ViewFilesystem, seen: bool
) -> None:
    write(fs, b"one", b"data")
    if seen:
        fs.link(b"one", b"two")
    else:
        tree = view.volume.path / "collections/suite/pending/test-1/tree"
        os.link(tree / "one", tree / "two")
    with fs.open(b"one", os.O_RDWR) as file:
        fs.unlink(b"one")
        with pytest.raises(OpenForWriting):
            finish(view)
        file.pwrite(b"D", 0)
    assert finish(view).version == "v0"
    assert sealed(view, "two") == b"Data"


def test_cached_names_do_not_lead_to_sealed_bytes(view: ViewInMemory, fs: ViewFilesystem) -> None:
    """A process with a working directory in the tree keeps the names that it has looked up."""
    write(fs, b"one", b"data")
    fs.link(b"one", b"two")
    reader = fs.open(b"two", os.O_RDONLY)
    fs.unlink(b"one")
    finish(view)
    for refused in (
        lambda: fs.open(b"two", os.O_WRONLY),
        lambda: fs.open(b"two", os.O_RDONLY | os.O_TRUNC),
        lambda: fs.truncate(b"two", 0),
        lambda: fs.chmod(b"two", 0o600),
        lambda: reader.chmod(0o600),
        lambda: reader.setxattr(b"user.key", b"value"),
    ):
        with fails(errno.EROFS):
            refused()
    reader.close()
    assert read(fs, b"two") == sealed(view, "two") == b"data"


def test_finish_does_not_wait_for_an_unlinked_file(view: ViewInMemory, fs: ViewFilesystem) -> None:
    write(fs, b"one", b"data")
    fs.link(b"one", b"two")
    with fs.open(b"one", os.O_RDWR) as file:
        fs.unlink(b"two")
        fs.unlink(b"one")
        assert finish(view).version == "v0"
        file.pwrite(b"D", 0)
        assert file.pread(10, 0) == b"Data"


def test_a_refused_forced_finish_leaves_every_handle_usable(view: ViewInMemory, fs: ViewFilesystem) -> None:
    write(fs, b"one", b"data")
    fs.link(b"one", b"two")
    fs.mknod(b"fifo", stat.S_IFIFO | 0o600)
    with fs.open(b"one", os.O_RDWR) as file:
        with pytest.raises(CannotSeal):
            finish(view, force=True)
        assert file.pwrite(b"D", 0) == 1
        assert file.pread(10, 0) == b"Data"


def test_a_digest_is_dropped_before_a_fence(view: ViewInMemory, fs: ViewFilesystem) -> None:
    """Otherwise a forced finish after the write would use the digest of the bytes before it."""
    tree = view.volume.trees.get("suite", b"test-1")
    written, locked = tree.hashes.written, []

    def checked(ino: int, offset: int, data: bytes, count: int) -> None:
        locked.append(tree.gate.writing().locked())
        written(ino, offset, data, count)

    tree.hashes.written = checked  # type: ignore[method-assign]
    write(fs, b"file", b"data")
    assert locked
    assert all(locked)


def test_a_command_during_a_finish_is_in_the_version_or_refused(
    view: ViewInMemory, fs: ViewFilesystem
) -> None:
    """A command that is accepted while a finish reads the labels would be lost."""
    write(fs, b"file", b"data")
    control = view.view.pending(view.volume.trees.get("suite", b"test-1")).mounted.control
    refused: list[bytes] = []

    def command(name: bytes, text: bytes) -> None:
        node = control.lookup(name)
        assert node is not None
        node.open(os.O_WRONLY, ROOT).write(0, text)

    def tell(label: str) -> None:
        if label != "objects:put":
            return
        for name, text in COMMANDS.items():
            with pytest.raises(Sealing):
                command(name, text)
            refused.append(name)

    for name, text in COMMANDS.items():
        command(name, text)
    command(b"runs", b"-run")
    with steps(tell):
        finish(view)
    assert refused == list(COMMANDS)
    shown = view.volume.catalog.collection("suite").describe(0)
    assert (shown["tags"], shown["runs"], shown["aliases"]) == (["t"], ["run"], ["best", "latest"])
    for name, text in COMMANDS.items():
        with pytest.raises(ReadOnly):
            command(name, text)


COMMANDS = {
    b"tags": b"t",
    b"description": b"text",
    b"aliases": b"best",
    b"metadata.json": b'{"a": 1}',
    b"runs": b"+run",
}


def test_a_base_is_set_even_if_the_kernel_cannot_be_notified(
    view: ViewInMemory, fs: ViewFilesystem, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write(fs, b"file", b"data")
    finish(view)
    view.pending_tree()
    tree = view.volume.trees.get("suite", b"test-2")
    assert view.view.pending(tree).lookup(b"file") is None
    view.view.pending(tree).mounted.absent.add(b"file")

    def hangs(*_: object) -> None:
        raise TimeoutError

    monkeypatch.setattr(view.kernel, "forget_entry", hangs)
    view.view.set_base(tree, "v0", Request())
    assert view.view.pending(view.volume.trees.get("suite", b"test-2")).lookup(b"file") is not None
    assert "the kernel goes on showing" in caplog.text
