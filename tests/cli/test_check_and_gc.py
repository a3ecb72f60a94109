"""check and gc, on a volume and beside its daemon."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.running import Cli, make_files


@pytest.fixture
def version(cli: Cli, name: str, tmp_path: Path) -> str:
    """A collection with one version, of one file whose content nothing else has."""
    cli("put", make_files(tmp_path / "tree", {"sub/file": f"only in {name}" * 100}), "--name", name)
    return name


def _blob(cli: Cli, version: str) -> Path:
    [entry] = cli.json("ls", version, "sub/file")
    size = entry["size"]
    found = [path for path in (cli.volume / "objects" / "blobs").glob("*/*") if path.stat().st_size == size]
    wanted = cli("cat", version, "sub/file").raw
    [blob] = [path for path in found if path.read_bytes() == wanted]
    return blob


def test_a_sound_volume_is_reported_sound(cli: Cli, version: str) -> None:
    report = cli.json("check")
    assert report["sound"] is True
    assert report["findings"] == []
    assert "all sound" in cli("check").out


def test_damage_is_named_and_repaired(cli: Cli, version: str, tmp_path: Path) -> None:
    blob = _blob(cli, version)
    data = blob.read_bytes()
    blob.chmod(0o600)
    blob.write_bytes(b"X" + data[1:])
    found = cli("check", status=1)
    assert f"    {version}:v0 sub/file\n" in found.out
    assert "1 damaged" in found.out
    assert cli("check", "--repair", status=1).out.count("damaged")
    assert blob.exists()
    if not cli.mounted:  # a daemon logs it too, and the fixture accepts no log
        assert "damaged" in cli.refused("get", version, "out")
    cli("put", tmp_path / "tree", "--name", f"{version}-again")  # stores the bytes again
    assert cli.json("check", "--repair")["sound"] is True
    assert cli("cat", version, "sub/file").raw == data


def test_damage_names_the_patch_of_a_deleted_version(cli: Cli, version: str) -> None:
    blob = _blob(cli, version)
    cli("new", version, "--id", "job", "--base", "v0")
    cli("rm", f"{version}:v0")
    blob.chmod(0o600)
    blob.write_bytes(b"X" + blob.read_bytes()[1:])
    [finding] = json.loads(cli("check", "--json", status=1).out)["findings"]
    assert finding["touches"] == [{"version": f"{version}/job", "path": "sub/file"}]
    cli("discard", f"{version}/job")
    assert cli.json("check")["sound"] is True


def test_gc_removes_what_nothing_needs(cli: Cli, version: str) -> None:
    blob = _blob(cli, version)
    cli("gc")
    assert blob.exists()
    cli("rm", f"{version}:v0")
    would = cli.json("gc", "--dry-run")
    assert would["dry_run"] is True
    assert would["blobs"] >= 1
    assert blob.exists()
    assert cli.json("gc")["blobs"] == would["blobs"]
    assert not blob.exists()
    assert cli.json("gc")["blobs"] == 0


def test_a_dry_run_counts_objects_of_idle_versions(cli: Cli, version: str) -> None:
    blob = _blob(cli, version)
    cli("new", version, "--id", "job", "--base", "v0")
    cli("rm", f"{version}:v0")
    idle = "gc", "--pending-older-than", "0s"
    assert cli.json("gc", "--dry-run")["blobs"] == 0
    would = cli.json(*idle, "--dry-run")
    assert would["blobs"] == 1
    assert blob.exists()
    done = cli.json(*idle)
    assert (done["blobs"], done["trees"], done["bytes"]) == (would["blobs"], would["trees"], would["bytes"])
    assert not blob.exists()


def test_gc_discards_idle_versions(cli: Cli, name: str, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    for number in range(2):
        cli("put", tmp_path / "a", "--name", name, "--id", f"job-{number}")
    assert cli.json("gc", "--pending-older-than", "1h")["discarded"] == []
    assert len(cli.json("pending", name)) == 2
    idle = {"collection": name, "distributed_id": "job-0"}
    assert idle in cli.json("gc", "--pending-older-than", "0s", "--dry-run")["discarded"]
    assert len(cli.json("pending", name)) == 2
    kept = []
    if cli.mounted and cli.path is not None:
        kept = ["job-1"]
        held = os.open(cli.path / name / "pending" / "job-1" / "a", os.O_WRONLY)
    assert idle in cli.json("gc", "--pending-older-than", "0")["discarded"]
    assert [status["distributed_id"] for status in cli.json("pending", name)] == kept
    if kept:
        os.close(held)


_PUT = """
import os, sys
from artfs.client.open import open_client
from artfs.client.transfer.put import put
from artfs.client.transfer.sources import Sources
path, source, name, signal = sys.argv[1:]
progress = lambda *_: os.kill(os.getpid(), int(signal))
put(open_client(path), Sources([os.fsencode(source)]), name, progress=progress)
"""


def test_a_killed_put_leaves_nothing_after_gc(cli: Cli, name: str, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")

    def put(number: signal.Signals) -> None:
        words = [str(cli.path or Path.cwd()), str(tmp_path / "a"), name, str(int(number))]
        command = [sys.executable, "-c", _PUT, *words]
        ended = subprocess.run(command, capture_output=True, timeout=60, check=False)
        assert ended.returncode == -number

    put(signal.SIGINT)
    assert "no collection" in cli.refused("pending", name)
    put(signal.SIGKILL)
    [left] = cli.json("pending", name)
    assert left["abandoned"]
    cli("gc")
    assert "no collection" in cli.refused("pending", name)


def test_invalid_ages_are_refused(cli: Cli) -> None:
    for age in ("", "1y", "-1", "soon"):
        assert "is not a duration" in cli.refused("gc", "--pending-older-than", age)
