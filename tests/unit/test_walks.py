"""A walk of a changing tree never leaves the tree."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from artfs.linux import walk
from artfs.linux.walk import scan
from artfs.model.digest import Algorithm, BlobId, TreeId, blob_id
from artfs.seal.ingest import Ingest
from tests.unit.stores import as_nobody, directory

STRANGERS = 30


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The root of a tree, beside directories that are no part of it."""
    for number in range(STRANGERS):
        (tmp_path / "around" / f"stranger-{number}").mkdir(parents=True)
        (tmp_path / "around" / f"stranger-{number}" / "secret").write_text("secret")
    path = tmp_path / "around" / "tree"
    path.mkdir()
    return path


def test_a_walk_ends_if_a_directory_was_moved(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # With one open level the way up is "..", which would lead to the other directories.
    monkeypatch.setattr(walk, "_DEEP", 1)
    for number in range(STRANGERS):
        (root / "a" / f"stranger-{number}" / "deep").mkdir(parents=True)
    found: list[str] = []
    with directory(root) as fd:
        for open_directory, entries in scan(fd):
            found += [entry.name for entry in entries]
            at = Path(os.readlink(f"/proc/self/fd/{open_directory}"))
            if at.name == "deep" and not (root / "moved").exists():
                at.rename(root / "moved")
    assert (root / "moved").exists()
    assert "secret" not in found


def test_a_walk_sees_every_entry(root: Path) -> None:
    for path in ("a/b/c", "a/d", "e/f"):
        (root / path).mkdir(parents=True)
        (root / path / "file").write_text("")
    with directory(root) as fd:
        assert sum(len(entries) for _, entries in scan(fd)) == 9


class Sink:
    """Accepts everything and stores nothing."""

    algorithm = Algorithm.XXH128
    reader = None

    def hash_fd(self, fd: int) -> bytes:
        return bytes(self.algorithm.size)

    def identify(self, digest: bytes, fd: int) -> tuple[BlobId, bool]:
        return blob_id(self.algorithm, digest), True

    def put(self, tree: TreeId, data: bytes) -> None:
        pass


def test_ingest_of_a_deep_tree_fails_if_a_directory_was_moved(root: Path) -> None:
    path = root
    for _ in range(walk._DEEP + 3):
        path = path / "d"
    path.mkdir(parents=True)
    (path / "file").write_text("")
    (path.parent / "stranger").mkdir()
    moved = False

    def on_file() -> None:
        nonlocal moved
        if not moved:
            moved = True
            os.rename(root / "d/d/d", root / "moved")

    with directory(root) as fd, pytest.raises(FileNotFoundError):
        Ingest(Sink(), lambda _status: None, on_file).run(fd)  # type: ignore[arg-type]
    assert moved


def test_ingest_names_an_unreadable_directory() -> None:
    def look(place: Path) -> None:
        closed = place / "deep" / "closed"
        closed.mkdir(parents=True)
        closed.chmod(0)
        with directory(place) as fd, pytest.raises(PermissionError) as refused:
            Ingest(Sink(), lambda _status: None, lambda: None).run(fd)  # type: ignore[arg-type]
        closed.chmod(0o700)
        assert refused.value.filename == "deep/closed"

    as_nobody(look)
