"""The parts of a volume itself, with something else in their place: refused, never followed."""

from __future__ import annotations

import pytest

from artfs.daemon import background
from artfs.errors import MountError
from tests.cli.running import Cli
from tests.crafted.crafts import FOREIGN
from tests.crafted.volumes import Crafted, in_place_of

COMMANDS = [["ls"], ["show", "bad:v0"], ["check"], ["gc"], ["finish", "good/next"], ["status"]]


def try_all(crafted: Crafted) -> None:
    """Each command ends in order, and what a symlink leads to is as it was."""
    before = sorted(crafted.outside.rglob("*"))
    cli = Cli(crafted.path, crafted.path, mounted=False)
    for words in COMMANDS:
        result = cli(*words, status=None)
        assert result.status == 0 or (words == ["check"] and not result.err) or result.reason
    assert sorted(crafted.outside.rglob("*")) == before


@pytest.mark.parametrize("what", ["symlink", "fifo", "directory"])
@pytest.mark.parametrize("part", ["artfs.json", "locks/mount", "locks/objects"])
def test_files(crafted: Crafted, part: str, what: str) -> None:
    in_place_of(crafted.path / part, what, crafted.outside)
    try_all(crafted)


@pytest.mark.parametrize("what", ["symlink", "fifo"])
@pytest.mark.parametrize(
    "part", ["locks", "objects", "objects/trees", "damaged", "collections", "runs", "logs", "trash"]
)
def test_directories(crafted: Crafted, part: str, what: str) -> None:
    in_place_of(crafted.path / part, what, crafted.outside)
    try_all(crafted)


@pytest.mark.parametrize("what", ["symlink", "fifo", "file"])
@pytest.mark.parametrize("kind", ["blobs", "trees"])
def test_directories_of_objects(crafted: Crafted, kind: str, what: str) -> None:
    """Also one that no object was in yet: the next one would be linked to where it leads."""
    made = min((crafted.path / "objects" / kind).iterdir()).name
    unused = next(
        name for name in ("00", "01", "ff") if not (crafted.path / "objects" / kind / name).exists()
    )
    for shard in (unused, made):
        in_place_of(crafted.path / "objects" / kind / shard, what, crafted.outside)
        try_all(crafted)
        cli = Cli(crafted.path, crafted.path, mounted=False)
        for words in COMMANDS:
            assert f"'objects/{kind}/{min(unused, shard)}' is not a directory" in cli.refused(*words)


@pytest.mark.parametrize("what", FOREIGN)
def test_documents(crafted: Crafted, what: str) -> None:
    (crafted.path / "locks/mount").write_bytes(FOREIGN[what])
    try_all(crafted)
    (crafted.path / "artfs.json").write_bytes(FOREIGN[what])
    cli = Cli(crafted.path, crafted.path, mounted=False)
    assert "is not an artfs volume" in cli.refused("status")


@pytest.mark.parametrize("what", ["secret", "dangling", "fifo"])
@pytest.mark.parametrize("part", ["logs", "logs/mount.log"])
def test_the_log_is_written_nowhere_else(crafted: Crafted, part: str, what: str) -> None:
    in_place_of(crafted.path / part, what, crafted.outside)
    before = {path: path.read_bytes() for path in crafted.outside.rglob("*") if path.is_file()}
    with pytest.raises(MountError, match="logs"):
        background.start([], crafted.path / "logs/mount.log", program=["true"])
    assert {path: path.read_bytes() for path in crafted.outside.rglob("*") if path.is_file()} == before
