"""References in pending versions on a mount: made, and refused."""

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
    """Returns why a command is refused, which has to be by that errno."""
    with fails(code):
        command(tree, "references", line)
    return show(tree, "error").strip()
