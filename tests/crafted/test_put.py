"""`put` of sources that another process changes never follows a symlink swapped in during the copy.

By default a symlink to the outside is followed, also one swapped in before the source is checked; one swapped
in later is not (``cli/test_sources.py``).
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from tests.cli.running import Cli
from tests.crafted.swapping import swapped
from tests.crafted.volumes import SECRET, make


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    make(tmp_path)
    return Cli(tmp_path / "volume", tmp_path / "volume", mounted=False)


def test_a_source_swapped_for_a_symlink_is_not_followed(cli: Cli, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "d").mkdir(parents=True)
    for number in range(20):
        (source / "d" / f"secret{number}").write_bytes(b"mine")
    secret = tmp_path / "outside/secret"
    outside = tmp_path / "elsewhere"
    outside.mkdir()
    for number in range(20):
        (outside / f"secret{number}").symlink_to(secret)
    places = [(source / "d/secret7", secret, source / "d/aside"), (source / "d", outside, source / "aside")]
    with swapped(places) as swaps:
        for number in range(10):
            cli("put", source, "--name", f"put-{number}", "--follow-symlinks", "never", status=None)
    assert swaps
    cli("put", source, "--name", "put-at-rest")
    assert cli("cat", "put-at-rest:v0", "d/secret3").raw == b"mine"
    for blob in (tmp_path / "volume/objects/blobs").rglob("*"):
        assert blob.is_dir() or SECRET not in blob.read_bytes()


@pytest.mark.parametrize("kind", [stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR])
def test_a_special_file_is_refused(cli: Cli, tmp_path: Path, kind: int) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_bytes(b"mine")
    try:
        os.mknod(source / "odd", kind | 0o600, os.makedev(1, 5))
    except PermissionError:
        pytest.skip("only root makes device nodes")
    assert "odd" in cli.refused("put", source, "--name", "put")
    assert "odd" in cli.refused("put", source / "odd", "--name", "put")
