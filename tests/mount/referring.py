"""Helpers of the tests of references on a mount."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.conformance.helpers import fails
from tests.mount.control import command, show

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


def open_to_all(directory: Path) -> None:
    """Makes a directory readable for all users, as a mount by root requires of references."""
    for above in (directory, *directory.parents):
        if above != Path("/") and above.stat().st_mode & 0o5 != 0o5:
            above.chmod(above.stat().st_mode | 0o55)


def refer(tree: Path, path: str, uri: str, *options: str) -> None:
    command(tree, "references", " ".join((path, uri, *options)))


def refused(tree: Path, line: str, code: int) -> str:
    """Asserts that a command fails with an errno; returns the reason."""
    with fails(code):
        command(tree, "references", line)
    return show(tree, "error").strip()
