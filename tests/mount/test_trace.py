"""The trace of a daemon's requests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.conformance.helpers import fails
from tests.mount.mounting import MountedVolume, mounted_volume

pytestmark = pytest.mark.fuse


def test_requests_are_traced_with_their_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trace = tmp_path / "trace"
    monkeypatch.setenv("ARTFS_TRACE", str(trace))
    with mounted_volume() as mounted:
        collection = mounted.point / "model"
        collection.mkdir()
        os.listdir(collection)
        with fails(2):
            (mounted.point / "none").stat()
        number = collection.stat().st_ino
    lines = trace.read_text().splitlines()
    made = [line for line in lines if " mkdir(1, b'model', " in line]
    assert len(made) == 1
    assert f"-> <{number:#x} mode 40755 " in made[0]
    assert any(" lookup(1, b'none', pid " in line and line.endswith("-> ENOENT") for line in lines)
    assert any(" listed(..., b'pending', <0x" in line for line in lines)


def test_requests_are_not_traced_by_default(own_mount: MountedVolume) -> None:
    (own_mount.point / "model").mkdir()
    assert not (own_mount.base / "trace").exists()
