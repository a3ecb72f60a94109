"""An exception at any point of a call that adds files: each is whole or absent, and the draft is usable."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

import artfs as wandb
from tests.mount.referring import open_to_all
from tests.sdk.conftest import Place
from tests.sdk.interrupting import interrupted, shown, sites
from tests.thorough import THOROUGH

pytestmark = [
    # The garbage collector closes what an interrupted call leaves open.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

_EACH = 1 if THOROUGH else 24  # of so many places one is tried, in a patch not the same
_CONTENT = {"a": b"a" * 100, "big": b"b" * (1 << 20), "dir/c": b"c" * 20_000, "empty": b""}

_OLD = ("a", "dir/c")
_WAYS = ["direct", pytest.param("mounted", marks=pytest.mark.fuse)]

Add = Callable[[wandb.Artifact, Path], object]


def _new_file(artifact: wandb.Artifact, _: Path) -> None:
    with artifact.new_file("dir/c", "wb", overwrite=True) as file:
        file.write(_CONTENT["dir/c"])


_ADDS: dict[str, tuple[Add, list[str]]] = {
    "add_dir": (lambda artifact, source: artifact.add_dir(source), ["a", "big", "dir/c", "empty"]),
    "add_file": (lambda artifact, source: artifact.add_file(source / "a", overwrite=True), ["a"]),
    "new_file": (_new_file, ["dir/c"]),
    "add": (lambda artifact, _: artifact.add(_CONTENT["a"], "a", overwrite=True), ["a"]),
    "add_reference": (
        lambda artifact, source: artifact.add_reference((source / "a").as_uri(), overwrite=True),
        ["a"],
    ),
}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    root = tmp_path / "source"
    open_to_all(tmp_path)
    for path, data in _CONTENT.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)
    (root / "link").symlink_to("a")
    return root


@pytest.mark.parametrize("shared_place", _WAYS, indirect=True)
@pytest.mark.parametrize("base", [False, True], ids=["plain", "patch"])
@pytest.mark.parametrize("how", _ADDS)
def test_an_exception_at_any_point(place: Place, source: Path, name: str, how: str, base: bool) -> None:
    add, adds = _ADDS[how]
    first = wandb.Artifact(name, "dataset")
    for path in _OLD:
        first.add(b"old", path)
    first.save()

    def draft() -> wandb.Artifact:
        if not base:
            return wandb.Artifact(name, "dataset")
        draft = first.new_draft()
        if how == "add_dir":  # add_dir() replaces nothing
            for path in _OLD:
                draft.remove(path)
        return draft

    whole = draft()
    for site in sites(partial(add, whole, source))[_EACH // 2 * base :: _EACH]:
        artifact = draft()
        interrupted(partial(add, artifact, source), site)
        try:
            for path in _files(artifact):
                assert _read(artifact, path) in (_CONTENT[path], b"old")
            add(artifact, source)
            artifact.save()
            assert {path: _read(artifact, path) for path in adds} == {path: _CONTENT[path] for path in adds}
            assert _files(artifact) - {*adds} <= {*(_OLD if base else ())}
        except BaseException as error:
            error.add_note(f"interrupted at {shown(site)}")
            raise


def _files(artifact: wandb.Artifact) -> set[str]:
    return {entry.path for entry in artifact.manifest.entries.values() if entry.kind in ("file", "reference")}


def _read(artifact: wandb.Artifact, path: str) -> bytes:
    with artifact.open(path) as file:
        return bytes(file.read())
