"""Fixtures of the SDK's tests: `$ARTFS_VOLUME` names a volume, a mount of one, or what a container is given.

The tests of a module share one volume for each way; ``name`` is a collection that no other test has. In the
third way nothing but the mount can be seen, under a path of its own: the volume is hidden. With
``ARTFS_THOROUGH=1`` all tests try all ways; without, some modules leave out the third one, and tests that are
marked ``ways(1)`` test what does not depend on a mount.
"""

from __future__ import annotations

import gc
import itertools
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import artfs
from artfs.sdk import connection, run_context
from tests.cli.running import make_tree
from tests.conformance.helpers import eventually
from tests.mount.mounting import mounted_volume, must
from tests.thorough import THOROUGH

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Place:
    """What `$ARTFS_VOLUME` names, and the volume behind it."""

    path: Path
    volume: Path
    mounted: bool
    #: The collections of earlier tests.
    looked_at: set[str] = field(default_factory=set)

    @property
    def collections(self) -> Path:
        return self.path if self.mounted else self.path / "collections"

    def drafts(self) -> list[Path]:
        """The drafts in collections that no earlier test had."""
        # A collection that is being made has a temporary name, which begins with a dot.
        new = {name for name in os.listdir(self.collections) if name[0] != "."} - self.looked_at
        found = [draft for name in new for draft in (self.collections / name / "pending").glob("[!.]*")]
        return [draft for draft in found if not draft.is_symlink()]


@contextmanager
def _direct(base: Path) -> Iterator[Place]:
    volume = base / "volume"
    must("init", volume)
    yield Place(volume, volume, mounted=False)
    must("--volume", volume, "check")


@contextmanager
def _mounted(base: Path, *, hidden: bool) -> Iterator[Place]:
    with mounted_volume() as mounted:
        if not hidden:
            yield Place(mounted.point, mounted.volume, mounted=True)
            return
        if os.geteuid() != 0:
            pytest.skip("only root can bind a mount and hide what is behind it")
        # Like the bind mount of a container. A tmpfs hides the volume's own directory.
        here = base / "given"
        here.mkdir()
        subprocess.run(["mount", "--bind", mounted.point, here], check=True)
        try:
            subprocess.run(["mount", "-t", "tmpfs", "tmpfs", mounted.volume], check=True)
            try:
                yield Place(here, mounted.volume, mounted=True)
            finally:
                subprocess.run(["umount", mounted.volume], check=True)
        finally:
            subprocess.run(["umount", here], check=True)


_WAYS = [
    "direct",
    pytest.param("mounted", marks=pytest.mark.fuse),
    pytest.param("given", marks=pytest.mark.fuse),
]
# What the SDK does over a mount seldom depends on whether the volume behind it can be seen. These modules try
# the third way by default: they test whole programs, what is read and written, and errors.
_GIVEN = {"abandoned", "api", "artifact_references", "collaborative"}
_GIVEN |= {"errors", "reading", "run_methods", "simple"}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    test = metafunc.definition
    chosen = any("shared_place" in mark.args[0] for mark in test.iter_markers("parametrize"))
    if "shared_place" in metafunc.fixturenames and not chosen:
        ways = 3 if metafunc.module.__name__.rpartition(".test_")[2] in _GIVEN else 2
        if (mark := test.get_closest_marker("ways")) is not None:
            ways = mark.args[0]
        metafunc.parametrize("shared_place", _WAYS[: 3 if THOROUGH else ways], indirect=True, scope="module")


@pytest.fixture(scope="module")
def shared_place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    base = tmp_path_factory.mktemp(request.param)
    way = _direct(base) if request.param == "direct" else _mounted(base, hidden=request.param == "given")
    with way as made:
        yield made
        made.looked_at.clear()
        assert not made.drafts()
        connection.forget()


@pytest.fixture
def place(shared_place: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Place]:
    """The volume that the SDK uses in this test, and an empty directory to work in."""
    monkeypatch.setenv("ARTFS_VOLUME", str(shared_place.path))
    monkeypatch.chdir(tmp_path)
    yield shared_place
    assert run_context.run() is None, "the test left a run open"
    gc.collect()
    eventually(lambda: not shared_place.drafts(), what="no draft is left behind")
    shared_place.looked_at.update(os.listdir(shared_place.collections))


def draft_of(name: str, kind: str = "dataset", **files: str | bytes) -> artfs.Artifact:
    """Returns an artifact with a file for each argument; ``__`` in a name is a slash."""
    artifact = artfs.Artifact(name, kind)
    for path, data in files.items():
        artifact.add(data.encode() if isinstance(data, str) else data, path.replace("__", "/"))
    return artifact


@pytest.fixture
def name() -> str:
    """The name of a collection that does not exist."""
    return f"data-{next(_numbers)}"


@pytest.fixture
def artifact(place: Place, name: str) -> Iterator[artfs.Artifact]:
    """A new artifact, of which nothing is stored yet; its draft is discarded at the end."""
    made = artfs.Artifact(name, "dataset")
    yield made
    if made._state.draft is not None:
        made._state.draft.discard()


def saved(artifact: artfs.Artifact) -> artfs.Artifact:
    """Saves an artifact and returns the version as another process finds it."""
    artifact.save()
    return artfs.Api().artifact(artifact.name)


def version_of(name: str, content: str, kind: str = "dataset", **labels: object) -> artfs.Artifact:
    """Saves a version with one file and these labels."""
    artifact = artfs.Artifact(name, kind)
    artifact.add(content, "content")
    for label, value in labels.items():
        setattr(artifact, label, value)
    artifact.save()
    return artifact


def pytest_itemcollected(item: pytest.Item) -> None:
    if "files" in getattr(item, "fixturenames", ()):  # one of them is a dangling symlink
        item.add_marker(pytest.mark.filterwarnings("ignore:kept as a symlink"))


@pytest.fixture
def files(tmp_path: Path) -> Path:
    return make_tree(tmp_path / "files")
