"""The view in memory, parts of a volume, and a check for descriptors."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from artfs.volume.volume import Volume
from tests.conformance.helpers import eventually
from tests.conformance.view import ViewFilesystem, ViewInMemory
from tests.unit import catalogs, stores


@pytest.fixture
def view(tmp_path: Path) -> Iterator[ViewInMemory]:
    with Volume.init(tmp_path / "volume") as volume:
        yield ViewInMemory(volume)


@pytest.fixture
def fs(view: ViewInMemory) -> ViewFilesystem:
    """A fresh pending tree in it."""
    return view.pending_tree()


@pytest.fixture
def vol(tmp_path: Path) -> Iterator[catalogs.Volume]:
    with closing(catalogs.Volume(tmp_path)) as volume:
        yield volume


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[stores.Volume]:
    with closing(stores.Volume(tmp_path / "v")) as volume:
        yield volume


@pytest.fixture
def no_descriptor_is_left() -> Iterator[None]:
    gc.collect()  # closes what earlier tests left
    before = len(os.listdir("/proc/self/fd"))
    yield
    # Threads of this test or an earlier one may still be closing theirs.
    eventually(lambda: len(os.listdir("/proc/self/fd")) <= before, what="all descriptors are closed")
