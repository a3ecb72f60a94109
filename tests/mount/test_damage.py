"""Bytes changed on the disk: reading the file is an error, and never returns wrong bytes.

Files of up to 1 MiB are verified before their first byte is returned, larger ones with --verify; check
verifies all.
"""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from artfs.client.direct.direct_client import DirectClient
from artfs.client.interface import Client
from artfs.client.open import open_client
from artfs.client.transfer.get import get
from artfs.errors import Damaged
from artfs.store.verified_blobs import LARGEST
from artfs.volume.volume import Volume
from tests.conformance.helpers import fails
from tests.mount.control import command, finish
from tests.mount.mounting import MountedVolume, artfs, mounted_volume

pytestmark = pytest.mark.fuse

SIZES = (20, 4096, 100_000, 300_000, LARGEST)


class DamagedVolume(MountedVolume):
    """A volume whose blobs the tests damage."""

    def check(self) -> None:
        """Asserts that check finds the damage that the tests made."""
        done = artfs("--volume", self.volume, "check")
        assert done.returncode == 1, done
        assert "Traceback" not in self.log() + done.stderr

    def flip(self, content: bytes) -> None:
        """Changes the middle byte of the blob with this content."""
        for top, _, names in os.walk(self.volume / "objects" / "blobs"):
            for name in names:
                path = Path(top, name)
                if path.stat().st_size == len(content) and path.read_bytes() == content:
                    fd = os.open(path, os.O_WRONLY)
                    os.pwrite(fd, bytes([content[len(content) // 2] ^ 1]), len(content) // 2)
                    os.close(fd)
                    return
        pytest.fail("there is no such blob")


@pytest.fixture(scope="module", params=[[], ["--verify"]], ids=["small", "verify"])
def damaged(request: pytest.FixtureRequest) -> Iterator[DamagedVolume]:
    with mounted_volume(request.param, DamagedVolume) as mounted:
        assert isinstance(mounted, DamagedVolume)
        yield mounted


@pytest.fixture
def version(damaged: DamagedVolume, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A version that was never read, with a damaged and a sound file of each size."""
    model = damaged.point / "".join(filter(str.isalnum, request.node.name))
    model.mkdir()
    tree = model / "pending" / "job"
    tree.mkdir()
    salt = os.urandom(8)
    contents = {}
    for size in (*SIZES, LARGEST + 1):
        contents[size] = (salt * (size // 8 + 1))[:size]
        (tree / f"bad-{size}").write_bytes(contents[size])
        (tree / f"good-{size}").write_bytes(bytes(size) + salt)
    finish(tree)
    for content in contents.values():
        damaged.flip(content)
    with damaged.watched():
        yield model / "v0"


def test_every_read_of_a_damaged_file_is_an_error(damaged: DamagedVolume, version: Path) -> None:
    sizes = (*SIZES, LARGEST + 1) if "--verify" in damaged.options else SIZES
    for size in sizes:
        path = version / f"bad-{size}"
        for _ in range(2):
            with fails(errno.EIO):
                path.read_bytes()
        with path.open("rb", buffering=0) as file:
            for offset in (0, size // 2, size - 1):
                with fails(errno.EIO):
                    os.pread(file.fileno(), 1, offset)
        assert (version / f"good-{size}").read_bytes()[:-8] == bytes(size)
    assert f"bad-{SIZES[0]}" in damaged.log()


def test_check_finds_large_damaged_files(damaged: DamagedVolume, version: Path) -> None:
    done = artfs("--volume", damaged.volume, "check")
    assert done.returncode == 1
    assert f"bad-{LARGEST + 1}" in done.stdout + done.stderr


def test_a_damaged_lower_file_is_neither_read_nor_copied_up(damaged: DamagedVolume, version: Path) -> None:
    tree = version.parent / "pending" / "patch"
    tree.mkdir()
    command(tree, "base", "v0")
    for size in SIZES:
        with fails(errno.EIO):
            (tree / f"bad-{size}").read_bytes()
        with fails(errno.EIO):
            os.open(tree / f"bad-{size}", os.O_WRONLY)
        (tree / f"bad-{size}").write_bytes(b"replaced")
        assert (tree / f"good-{size}").read_bytes()[:-8] == bytes(size)
        with (tree / f"good-{size}").open("ab") as file:
            file.write(b"more")
    finish(tree)
    assert (version.parent / "v1" / f"bad-{SIZES[0]}").read_bytes() == b"replaced"


def test_get_and_cat_stop_at_a_damaged_file(damaged: DamagedVolume, version: Path, tmp_path: Path) -> None:
    name = f"{version.parent.name}:v0"
    done = artfs("--volume", damaged.point, "get", name, tmp_path / "out")
    assert done.returncode == 1
    cat = subprocess.run(["cat", version / "bad-4096"], capture_output=True, check=False)
    assert cat.returncode != 0
    assert cat.stdout == b""


def test_a_mount_reports_damage_as_direct_access_does(
    damaged: DamagedVolume, version: Path, tmp_path: Path
) -> None:
    name = version.parent.name

    def reported(client: Client, out: Path) -> list[tuple[str, dict[str, object]]]:
        found = []
        with contextlib.closing(client):
            with pytest.raises(Damaged) as opened:
                client.open_file(name, "v0", b"bad-4096")
            with pytest.raises(Damaged) as copied:
                get(client, name, "v0", out)
            found += [(str(caught.value), vars(caught.value)) for caught in (opened, copied)]
        return found

    mounted = reported(open_client(damaged.point), tmp_path / "mounted")
    assert mounted == reported(DirectClient(Volume.open(damaged.volume)), tmp_path / "direct")
    assert mounted[0][1]["why"] == "its bytes do not match its digest"
