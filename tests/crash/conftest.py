"""Fixtures of the crash tests."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from artfs.store import syscalls
from tests.crash import harness


@pytest.fixture
def no_syncs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves the waiting for the disk out. The steps are announced as ever."""
    monkeypatch.setattr(os, "fsync", lambda fd: None)
    monkeypatch.setattr(syscalls, "syncfs", lambda fd: None)


@pytest.fixture(autouse=True)
def quiet_threads() -> Iterator[None]:
    """Ends what runs beside the test, before it is torn down."""
    yield
    harness.join_threads()
