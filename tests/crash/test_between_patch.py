"""Two direct clients fill one pending version: one changes it between two steps of the other."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from artfs.client.interface import Client
from artfs.client.open import open_client
from artfs.client.transfer.tree_writer import TreeWriter, WritePolicy
from artfs.client.writable_tree import ReferenceTarget, TreeCursor, WritableTree
from artfs.errors import Busy, PathConflictError
from artfs.sdk import connection
from artfs.sdk.artifact_draft import ArtifactDraft
from artfs.sdk.connection import Connection
from artfs.store.objects import ObjectStore
from artfs.volume.volume import Volume
from tests.crash.faults import steps
from tests.crash.harness import Case
from tests.crash.test_between import NAME, content

pytestmark = pytest.mark.usefixtures("no_syncs")

BASE = {b"dir/below/file", b"dir/one", b"top"}


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    """A volume whose v0 has the files of BASE."""
    path = tmp_path / "volume"
    Volume.init(path).close()
    with open_client(path) as client:
        client.new(NAME, b"first")
        for name in BASE:
            put(client, b"first", name, name)
        client.finish(NAME, b"first")
    return path


@pytest.fixture
def client(volume: Path) -> Iterator[Client]:
    """Fills the patch `job` of v0."""
    with open_client(volume) as opened:
        opened.new(NAME, b"job", base="v0")
        yield opened


@pytest.fixture
def other(client: Client, volume: Path) -> Iterator[Client]:
    """Fills the same patch."""
    with open_client(volume) as opened:
        yield opened


def put(
    client: Client, pending: bytes, path: bytes, data: bytes, *, run: str | None = None, replace: bool = False
) -> None:
    with client.open_tree(NAME, pending) as tree, tree.cursor() as at:
        writer = TreeWriter(tree, WritePolicy(replace=replace, run=run))
        directory, _, name = path.rpartition(b"/")
        writer.go_to(at, directory)
        writer.data(at, name, data)


def remove(at: TreeCursor, name: bytes) -> None:
    if stat.S_ISDIR(at.status(name).st_mode):
        at.enter(name)
        for below in at.names():
            remove(at, below)
        at.leave()
    at.remove(name)


def remove_directory(client: Client) -> None:
    with client.open_tree(NAME, b"job") as tree, tree.cursor() as at:
        remove(at, b"dir")


def replace_directory(client: Client) -> None:
    remove_directory(client)
    put(client, b"job", b"dir/theirs", b"theirs")


EITHER = pytest.mark.parametrize("is_copied", [False, True], ids=["lower directory", "own directory"])


class InDirectory:
    """A client whose cursor is in `dir`, which is in the base alone or in the patch too."""

    def __init__(self, tree: WritableTree, *, run: str | None = None) -> None:
        self.writer, self.at = TreeWriter(tree, WritePolicy(run=run)), tree.cursor()
        self.writer.go_to(self.at, b"dir")

    def write(self, name: bytes, data: bytes) -> None:
        with self.at:
            self.writer.data(self.at, name, data)


def copy_directory(client: Client) -> None:
    put(client, b"job", b"dir/three", b"three")


@EITHER
@pytest.mark.parametrize("name", [b"new", b"one"])
def test_writing_into_a_removed_directory_is_refused(
    client: Client, other: Client, volume: Path, name: bytes, is_copied: bool
) -> None:
    if is_copied:
        copy_directory(other)
    with client.open_tree(NAME, b"job") as tree:
        inside = InDirectory(tree)
        remove_directory(other)
        with pytest.raises(Busy, match="'dir' was removed"):
            inside.write(name, b"dir/" + name)
    put(client, b"job", b"dir/" + name, b"again")
    client.finish(NAME, b"job")
    assert content(volume, "v1") == {b"top", b"dir/" + name}


def test_a_write_into_a_replaced_directory_is_kept(client: Client, other: Client, volume: Path) -> None:
    with client.open_tree(NAME, b"job") as tree:
        inside = InDirectory(tree)
        replace_directory(other)
        inside.write(b"one", b"dir/one")
    client.finish(NAME, b"job")
    assert content(volume, "v1") == {b"top", b"dir/one", b"dir/theirs"}


def test_writing_below_a_replaced_directory_is_refused(client: Client, other: Client) -> None:
    """Neither directory was in the patch when the cursor entered it."""
    with client.open_tree(NAME, b"job") as tree, tree.cursor() as at:
        writer = TreeWriter(tree, WritePolicy())
        writer.go_to(at, b"dir/below")
        replace_directory(other)
        with pytest.raises(Busy, match="'dir/below' was removed"):
            writer.data(at, b"file", b"dir/below/file")
        at.leave()
        assert at.names() == [b"theirs"]


@EITHER
def test_a_replaced_file_is_a_conflict(client: Client, other: Client, is_copied: bool) -> None:
    if is_copied:
        copy_directory(other)
    with client.open_tree(NAME, b"job") as tree:
        inside = InDirectory(tree, run="run-1")
        put(other, b"job", b"dir/one", b"theirs", run="run-2", replace=True)
        with pytest.raises(PathConflictError) as conflict:
            inside.write(b"one", b"dir/one")
        assert conflict.value.run == "run-2"


@EITHER
def test_a_removed_file_can_be_added(client: Client, other: Client, volume: Path, is_copied: bool) -> None:
    if is_copied:
        copy_directory(other)
    with client.open_tree(NAME, b"job") as tree, tree.cursor() as at:
        at.enter(b"dir")
        with other.open_tree(NAME, b"job") as theirs, theirs.cursor() as there:
            there.enter(b"dir")
            there.remove(b"one")
        assert b"one" not in at.names()
        TreeWriter(tree, WritePolicy()).data(at, b"one", b"dir/one")
    version = client.finish(NAME, b"job")["version"]
    assert b"dir/one" in content(volume, version)


def beside(label: str, action: Callable[[], None]) -> tuple[Callable[[str], None], threading.Thread]:
    """Returns a hook that runs an action in a thread at the first step of a label, and the thread."""
    thread = threading.Thread(target=action)

    def hook(found: str) -> None:
        if found == label and thread.ident is None:
            thread.start()
            thread.join(0.5)

    return hook, thread


def test_removing_a_directory_beside_its_copy_up_leaves_no_old_file(
    client: Client, other: Client, volume: Path
) -> None:

    def remove_beside() -> None:
        with contextlib.suppress(OSError):  # ENOTEMPTY: the new file was first
            remove_directory(other)

    hook, thread = beside("overlay:lift", remove_beside)
    with client.open_tree(NAME, b"job") as tree:
        inside = InDirectory(tree)
        with steps(hook), contextlib.suppress(Busy):
            inside.write(b"new", b"new")
        thread.join()
    client.finish(NAME, b"job")
    assert content(volume, "v1") <= {b"top", b"dir/new"}


def test_a_failed_removal_is_repeatable(
    client: Client, volume: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It fails between the two steps that remove a directory with a lower one."""

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with client.open_tree(NAME, b"job") as tree, tree.cursor() as at:
        at.enter(b"dir")
        for name in at.names():
            remove(at, name)
        at.leave()
        with monkeypatch.context() as patch:
            patch.setattr(os, "rename", fail)
            with pytest.raises(OSError):
                at.remove(b"dir")
        assert at.names() == [b"dir", b"top"]
        at.remove(b"dir")
    client.finish(NAME, b"job")
    assert content(volume, "v1") == {b"top"}


# Runs of files


def test_each_lower_file_keeps_its_run(client: Client, volume: Path) -> None:
    """Two runs added the same bytes, which are stored once."""
    client.new(NAME, b"runs")
    for name, run in ((b"a", "run-1"), (b"b", "run-2")):
        put(client, b"runs", name, b"same", run=run)
    client.finish(NAME, b"runs")
    client.new(NAME, b"next", base="v1")
    for name, run, owner in ((b"a", "run-2", "run-1"), (b"b", "run-1", "run-2")):
        with pytest.raises(PathConflictError) as conflict:
            put(client, b"next", name, b"other", run=run)
        assert conflict.value.run == owner
        put(client, b"next", name, b"other", run=owner)
    assert client.finish(NAME, b"next")["version"] == "v2"
    assert content(volume, "v2") == {b"a", b"b"}


def test_a_run_replaces_its_lower_reference(client: Client, volume: Path, tmp_path: Path) -> None:
    targets = []
    for name in ("one", "two"):
        (tmp_path / name).write_text(name)
        targets.append(ReferenceTarget((tmp_path / name).as_uri(), 3, ""))

    def refer(pending: bytes, target: ReferenceTarget) -> None:
        with client.open_tree(NAME, pending) as tree:
            TreeWriter(tree, WritePolicy(run="run-1")).references([(b"file", target)])

    client.new(NAME, b"runs")
    refer(b"runs", targets[0])
    client.finish(NAME, b"runs")
    client.new(NAME, b"next", base="v1")
    refer(b"next", targets[1])
    with client.open_tree(NAME, b"next") as tree, tree.cursor() as at:
        assert at.reference(b"file") == targets[1]


# Handing over files


def test_handing_over_files_of_a_failed_finish_copies_them(
    other: Client, volume: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """These files are blobs already, and a version of another draft needs them."""

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    draft = ArtifactDraft(Connection(volume), NAME, "")
    with draft.writer() as writer, writer.tree.cursor() as at:
        writer.data(at, b"file", b"same")
    with monkeypatch.context() as patch:
        patch.setattr(ObjectStore, "sync", fail)
        with pytest.raises(OSError):
            draft.finish([])
    other.new(NAME, b"theirs")
    put(other, b"theirs", b"file", b"same")
    put(other, b"theirs", b"more", b"more")
    other.finish(NAME, b"theirs")
    draft.hand_over(ArtifactDraft(draft.connection, NAME, "", distributed_id=b"shared"), "run-1")
    connection.forget()
    with Volume.open(volume) as opened:
        case = Case(opened)
        case.write_to_all(b"shared")
        case.check_sound()
