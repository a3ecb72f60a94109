"""The view in memory, over a volume of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from artfs.volume.volume import Volume
from tests.conformance.view import ViewFilesystem, ViewInMemory


@pytest.fixture
def view(tmp_path: Path) -> Iterator[ViewInMemory]:
    with Volume.init(tmp_path / "volume") as volume:
        yield ViewInMemory(volume)


@pytest.fixture
def fs(view: ViewInMemory) -> ViewFilesystem:
    """A fresh pending tree in it."""
    return view.pending_tree()
