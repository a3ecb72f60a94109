"""Fixtures of the crash tests."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from artfs.linux import syscalls
from tests.crash import faults


@pytest.fixture
def no_syncs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skips fsync and syncfs; the steps are announced as usual."""
    monkeypatch.setattr(os, "fsync", lambda fd: None)
    monkeypatch.setattr(syscalls, "syncfs", lambda fd: None)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A directory for hundreds of short-lived volumes, in memory if tmpfs supports xattrs."""
    with tempfile.TemporaryDirectory(prefix="artfs-crash-", dir=_in_memory() or tmp_path) as path:
        yield Path(path)


def _in_memory() -> str | None:
    try:
        with tempfile.NamedTemporaryFile(dir="/dev/shm") as file:
            os.setxattr(file.name, "user.artfs", b"")
    except OSError:
        return None
    return "/dev/shm"


@pytest.fixture(autouse=True)
def quiet_threads() -> Iterator[None]:
    """Waits for the test's threads before its teardown."""
    yield
    faults.join_threads()
