"""Fixtures of the tests on a real mount.

``mnt`` is a daemon of the test's own. Most tests need none: ``shared_mnt`` is one mount for a module, and
``model`` and ``job`` are a collection and a pending version in it that no other test uses.
"""

from __future__ import annotations

import itertools
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests.mount.control import commit
from tests.mount.mounting import MountedVolume, add_log_to_failure, mounted_volume

_numbers = itertools.count(1)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    add_log_to_failure(item, report)
    return report


@pytest.fixture
def own_mount() -> Iterator[MountedVolume]:
    """A fresh volume with a daemon of its own; unmounted and checked after the test."""
    with mounted_volume() as mounted, mounted.watched():
        yield mounted


@pytest.fixture
def volume_path(own_mount: MountedVolume) -> Path:
    """The volume behind ``mnt``."""
    return own_mount.volume


@pytest.fixture
def mnt(own_mount: MountedVolume) -> Path:
    """A mounted volume of the test's own."""
    return own_mount.point


@pytest.fixture
def collection(mnt: Path) -> Path:
    """A collection in ``mnt``."""
    path = mnt / "model"
    path.mkdir()
    return path


@pytest.fixture
def pending(collection: Path) -> Path:
    """A pending version in ``collection``."""
    path = collection / "pending" / "job"
    path.mkdir()
    return path


@pytest.fixture(scope="module")
def module_mount(request: pytest.FixtureRequest) -> Iterator[MountedVolume]:
    """One mount for all tests of a module, with its ``MOUNT_OPTIONS``; checked after the last.

    A module with ``TRACED`` has the daemon's last requests in its failures.
    """
    options, traced = getattr(request.module, "MOUNT_OPTIONS", ()), hasattr(request.module, "TRACED")
    with mounted_volume(options, traced=traced) as mounted:
        yield mounted


@pytest.fixture
def shared_mount(module_mount: MountedVolume) -> Iterator[MountedVolume]:
    """The mount of the module, which must answer before and after the test."""
    if not module_mount.answers():
        pytest.fail("an earlier test broke the mount of this module")
    with module_mount.watched():
        yield module_mount


@pytest.fixture
def shared_mnt(shared_mount: MountedVolume) -> Path:
    """The mountpoint that the tests of a module share."""
    return shared_mount.point


@pytest.fixture
def model(shared_mnt: Path) -> Path:
    """A collection of the test's own in the shared mount."""
    path = shared_mnt / f"model-{next(_numbers)}"
    path.mkdir()
    return path


@pytest.fixture
def job(model: Path) -> Path:
    """A pending version in ``model``."""
    path = model / "pending" / "job"
    path.mkdir()
    return path


@pytest.fixture
def based(model: Path) -> Path:
    """A collection with v0; the alias `good` names it."""
    files = {"file": "base", "other": "other", "dir/below": "below", "dir/deep/er": "deeper", "old": "old"}
    commit(model, "base", files, "good")
    return model
