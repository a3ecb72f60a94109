"""`get` of entries whose names are paths to the outside, and into a target that another process changes."""

from __future__ import annotations

import contextlib
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from artfs.client.open import open_client
from artfs.client.transfer.get import get
from artfs.errors import ArtfsError, InvalidName
from artfs.volume.volume import Volume
from tests.crafted.swapping import swapped
from tests.crafted.volumes import request

NAMES = [
    b"..",
    b".",
    b"",
    b"/",
    b"a/b",
    b"../planted",
    b"/tmp/artfs-planted",
    b"a\0b",
    b"n" * 256,
    b".artfs@x",
]


@pytest.fixture
def volume(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("elsewhere") / "volume"
    with Volume.init(path) as made:
        collection = made.catalog.create("model")
        made.start(collection, b"job")
        tree = path / "collections/model/pending/job/tree"
        (tree / "d").mkdir()
        for number in range(50):
            (tree / "d" / f"{number:02}").write_bytes(b"sealed %d" % number)
        (tree / "link").symlink_to("../outside")
        made.finish(collection, b"job", request())
    (tmp_path / "outside").mkdir()
    return path


def everything(path: Path) -> set[str]:
    return {str(found.relative_to(path)) for found in path.rglob("*")}


@pytest.mark.parametrize("kind", ["file", "directory", "symlink"])
@pytest.mark.parametrize("name", NAMES)
def test_names_from_a_hostile_mount_stay_in_the_target(
    volume: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, name: bytes
) -> None:
    with open_client(volume) as client:
        entries = list(client.walk("model", "v0", b""))
        found = next(entry for entry in entries[1:] if entry.kind == kind)
        crafted = [entries[0], replace(found, path=name)]
        monkeypatch.setattr(client, "walk", lambda *_: iter(crafted))
        if name in (b"a/b", b"../planted", b"/tmp/artfs-planted"):  # only the last component is used
            get(client, "model", "v0", tmp_path / "out")
        else:
            with pytest.raises(InvalidName):
                get(client, "model", "v0", tmp_path / "out")
    assert {path for path in everything(tmp_path) if not path.startswith("out/")} == {"outside", "out"}
    assert not os.path.lexists("/tmp/artfs-planted")


def test_a_directory_swapped_during_get_is_not_followed(volume: Path, tmp_path: Path) -> None:
    out, aside = tmp_path / "out", tmp_path / "aside"
    outside = tmp_path / "outside"
    with swapped([(out / "d", outside, aside)]) as swaps, open_client(volume) as client:
        for attempt in range(500):
            if swaps and attempt >= 10:
                break
            with contextlib.suppress(ArtfsError, OSError):
                get(client, "model", "v0", out)
    assert swaps
    assert os.listdir(outside) == []
    shutil.rmtree(out)
    with open_client(volume) as client:
        get(client, "model", "v0", out)
    assert os.listdir(out / "d")
