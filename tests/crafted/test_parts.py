"""Other files in place of a volume's own parts are refused and never followed."""

from __future__ import annotations

import pytest

from artfs.daemon import background
from artfs.errors import MountError
from tests.cli.running import Cli
from tests.crafted.crafts import FOREIGN
from tests.crafted.volumes import Crafted, in_place_of

COMMANDS = [["ls"], ["show", "bad:v0"], ["check"], ["gc"], ["finish", "good/next"], ["status"]]


def try_all(crafted: Crafted) -> None:
    """Asserts that each command ends cleanly, and that the target of a symlink is unchanged."""
    before = sorted(crafted.outside.rglob("*"))
    cli = Cli(crafted.path, crafted.path, mounted=False)
    for words in COMMANDS:
        result = cli(*words, status=None)
        assert result.status == 0 or (words == ["check"] and not result.err) or result.reason
    assert sorted(crafted.outside.rglob("*")) == before


@pytest.mark.parametrize("what", ["symlink", "fifo", "directory"])
@pytest.mark.parametrize("part", ["artfs.json", "locks/mount", "locks/objects"])
def test_other_files_in_place_of_files_are_refused(crafted: Crafted, part: str, what: str) -> None:
    in_place_of(crafted.path / part, what, crafted.outside)
    try_all(crafted)


@pytest.mark.parametrize("what", ["symlink", "fifo"])
@pytest.mark.parametrize(
    "part", ["locks", "objects", "objects/trees", "damaged", "collections", "runs", "logs", "trash"]
)
def test_other_files_in_place_of_directories_are_refused(crafted: Crafted, part: str, what: str) -> None:
    in_place_of(crafted.path / part, what, crafted.outside)
    try_all(crafted)


@pytest.mark.parametrize("what", ["symlink", "fifo", "file"])
@pytest.mark.parametrize("kind", ["blobs", "trees"])
def test_other_files_in_place_of_object_directories_are_refused(
    crafted: Crafted, kind: str, what: str
) -> None:
    """This includes directories without objects, into which the next object would be linked."""
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
def test_invalid_documents_are_refused(crafted: Crafted, what: str) -> None:
    (crafted.path / "locks/mount").write_bytes(FOREIGN[what])
    try_all(crafted)
    (crafted.path / "artfs.json").write_bytes(FOREIGN[what])
    cli = Cli(crafted.path, crafted.path, mounted=False)
    assert "is not an artfs volume" in cli.refused("status")


@pytest.mark.parametrize("what", ["secret", "dangling", "fifo"])
@pytest.mark.parametrize("part", ["logs", "logs/mount.log"])
def test_the_log_does_not_follow_a_symlink(crafted: Crafted, part: str, what: str) -> None:
    in_place_of(crafted.path / part, what, crafted.outside)
    before = {path: path.read_bytes() for path in crafted.outside.rglob("*") if path.is_file()}
    with pytest.raises(MountError, match="logs"):
        background.start([], crafted.path / "logs/mount.log", program=["true"])
    assert {path: path.read_bytes() for path in crafted.outside.rglob("*") if path.is_file()} == before
