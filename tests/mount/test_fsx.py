"""Reads and writes one file in all ways on a mount, by the operations of tests/torture/fsx.py.

``ARTFS_FSX_OPS`` sets the number of operations on each file.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.mount.mounting import mounted_volume
from tests.torture.fsx import Fsx, Mismatch, on_a_mount

OPERATIONS = int(os.environ.get("ARTFS_FSX_OPS", "2000"))


@pytest.mark.fuse
@pytest.mark.parametrize("options", [(), ("--write-cache",)], ids=["through", "cached"])
@pytest.mark.parametrize("patch", [False, True], ids=["plain", "patch"])
def test_a_file_contains_what_was_written(options: tuple[str, ...], patch: bool):
    with mounted_volume(options) as mounted:
        on_a_mount(mounted, OPERATIONS, seed=20261124, patch=patch)


def _lost(monkeypatch: pytest.MonkeyPatch) -> None:
    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: pwrite(fd, data[:-1] + b"?", offset))


def _resized(monkeypatch: pytest.MonkeyPatch) -> None:
    truncate = os.ftruncate
    monkeypatch.setattr(os, "ftruncate", lambda fd, size: truncate(fd, size + 1))


def _stale(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "pread", lambda fd, length, offset: bytes(length))


@pytest.mark.parametrize("fault", [_lost, _resized, _stale])
def test_fsx_detects_faults(fault: Callable[[pytest.MonkeyPatch], None], tmp_path: Path):
    with pytest.MonkeyPatch.context() as patch:
        fault(patch)
        with pytest.raises(Mismatch):
            Fsx(tmp_path / "file", seed=1).run(500)
