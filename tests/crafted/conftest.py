"""A volume for each test to modify, and paths that are swapped for symlinks."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crafted.volumes import Crafted, make


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("template")
    make(base)
    return base


@pytest.fixture
def crafted(template: Path, tmp_path: Path) -> Iterator[Crafted]:
    yield Crafted(template, tmp_path / "crafted")
    # Some are deeper than Python's stack.
    subprocess.run(["rm", "-rf", tmp_path / "crafted", tmp_path / "got"], check=True)
