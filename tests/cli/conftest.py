"""Fixtures of the command line's tests: `cli` is the command line on a volume, once unmounted, once mounted.

Commands run in this process, which is faster; tests that need a process run `python -m artfs`. The tests of a
module share one volume for each way; `name` is a collection that no other test uses.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli.running import Cli
from tests.mount.mounting import mounted_volume

_numbers = itertools.count(1)


@contextmanager
def _direct(base: Path) -> Iterator[Cli]:
    volume = base / "volume"
    cli = Cli(volume, volume, mounted=False)
    Cli(None, volume, mounted=False)("init", volume)
    yield cli
    assert "all sound" in cli("check").out


@contextmanager
def _mounted() -> Iterator[Cli]:
    with mounted_volume() as mounted:
        yield Cli(mounted.point, mounted.volume, mounted=True)


@pytest.fixture(scope="module", params=["direct", pytest.param("mounted", marks=pytest.mark.fuse)])
def cli(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    """The command line on a volume, unmounted and mounted."""
    way = _mounted() if request.param == "mounted" else _direct(tmp_path_factory.mktemp("direct"))
    with way as made:
        yield made


@pytest.fixture
def name() -> str:
    """The name of a collection that does not exist yet."""
    return f"model-{next(_numbers)}"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ARTFS_VOLUME", raising=False)
