"""Helpers of the tests of references on a mount."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.conformance.helpers import fails
from tests.mount.control import command, show

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


def refer(tree: Path, path: str, uri: str, *options: str) -> None:
    command(tree, "references", " ".join((path, uri, *options)))


def refused(tree: Path, line: str, code: int) -> str:
    """Asserts that a command fails with an errno; returns the reason."""
    with fails(code):
        command(tree, "references", line)
    return show(tree, "error").strip()
