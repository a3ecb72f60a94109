"""The filesystems that the suite runs against.

A test asks for ``fs`` and runs on each of DRIVERS. Two marks narrow that: ``real`` for what only the kernel
shows (processes, mappings, locks, flags of open), ``artfs_only`` for guarantees of artfs beyond ext4's. The
test then gets ``fs`` as an OsFilesystem.
"""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from artfs.volume.volume import Volume
from tests.conformance.arenas import Arenas
from tests.conformance.driver import Filesystem, OsFilesystem
from tests.conformance.view import ViewInMemory, empty, fill
from tests.mount.mounting import PLACE, MountedVolume, add_log_to_failure, mounted_volume


@dataclass(frozen=True)
class Driver:
    """One of the filesystems."""

    real: bool  # reached by system calls
    artfs: bool  # a pending tree, not a reference
    patch: bool = False  # with a base whose entries were all removed
    options: tuple[str, ...] | None = None  # of artfs mount; None: no mount


DRIVERS = {
    "plain": Driver(real=True, artfs=False),
    "mount": Driver(real=True, artfs=True, options=()),
    "view": Driver(real=False, artfs=True),
    "mount-patch": Driver(real=True, artfs=True, patch=True, options=()),
    "view-patch": Driver(real=False, artfs=True, patch=True),
}


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "real: needs system calls, not only the driver protocol")
    config.addinivalue_line("markers", "artfs_only: a promise of artfs that other filesystems don't make")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "fs" not in metafunc.fixturenames:
        return
    marks = {mark.name for mark in metafunc.definition.iter_markers()}
    parameters = [
        pytest.param(name, marks=[pytest.mark.fuse] if driver.options is not None else [])
        for name, driver in DRIVERS.items()
        if (driver.real or "real" not in marks) and (driver.artfs or "artfs_only" not in marks)
    ]
    metafunc.parametrize("fs", parameters, indirect=True)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    add_log_to_failure(item, report)
    return report


class Mounts:
    """The mounts of a session, one for each set of options, made when first needed."""

    def __init__(self, stack: ExitStack, lasting: set[str]) -> None:
        self._stack, self._lasting = stack, lasting
        self._mounts: dict[tuple[str, ...], MountedVolume] = {}
        self._numbers = itertools.count(1)
        self._hopeless: set[tuple[str, ...]] = set()

    def get(self, options: tuple[str, ...]) -> MountedVolume:
        """The mount with these options; a dead one is replaced, so that one failure does not cause others."""
        mounted = self._mounts.get(options)
        if options in self._hopeless:
            pytest.fail("the volume could not be mounted for an earlier test")
        if mounted is None or not mounted.answers():
            self._hopeless.add(options)
            mounted = self._stack.enter_context(mounted_volume(options))
            self._mounts[options] = mounted
            self._lasting.add(os.path.realpath(mounted.point))
            (mounted.point / "suite").mkdir()
            self._hopeless.remove(options)
        return mounted

    def pending_tree(self, mounted: MountedVolume) -> Path:
        """A fresh pending tree."""
        path = mounted.point / "suite" / "pending" / f"test-{next(self._numbers)}"
        path.mkdir()
        return path

    def emptied_patch(self, mounted: MountedVolume) -> Path:
        """A patch whose base had entries of the most used names, all of which were removed."""
        alias = mounted.point / "suite" / "emptied"  # tests make versions of their own
        if not alias.is_symlink():
            base = self.pending_tree(mounted)
            fill(OsFilesystem(base))
            (base / ".artfs" / "finish").write_text(f"{alias.name}\n")
        path = self.pending_tree(mounted)
        (path / ".artfs" / "base").write_text(f"{alias.readlink()}\n")
        empty(OsFilesystem(path))
        return path


@pytest.fixture(scope="session")
def mounts(lasting_mounts: set[str]) -> Iterator[Mounts]:
    """All mounts of the suite; unmounted and checked at the end."""
    with ExitStack() as stack:
        yield Mounts(stack, lasting_mounts)


@pytest.fixture(scope="session")
def view(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ViewInMemory]:
    """A volume without a mount, and what a mount would show of it."""
    with Volume.init(tmp_path_factory.mktemp("view") / "volume") as volume:
        yield ViewInMemory(volume)


@pytest.fixture(scope="session")
def arenas(mounts: Mounts) -> Iterator[Arenas]:
    """Slots for tables of calls in a real directory and on a mount."""
    mounted = mounts.get(())
    with Arenas(mounted, lambda: mounts.pending_tree(mounted)) as arenas:
        yield arenas


@pytest.fixture
def fs(request: pytest.FixtureRequest, mounts: Mounts) -> Iterator[Filesystem]:
    """An empty directory."""
    driver = DRIVERS[request.param]
    if driver.options is not None:
        mounted = mounts.get(driver.options)
        request.node.funcargs["mounted_volume"] = mounted  # for the report of a failure
        with mounted.watched():
            yield OsFilesystem(
                mounts.emptied_patch(mounted) if driver.patch else mounts.pending_tree(mounted)
            )
    elif driver.real:
        base = Path(tempfile.mkdtemp(prefix="artfs-reference-", dir=PLACE))
        base.chmod(0o755)
        try:
            yield OsFilesystem(base)
        finally:
            shutil.rmtree(base)
    else:
        view: ViewInMemory = request.getfixturevalue("view")
        yield view.emptied_patch() if driver.patch else view.pending_tree()
        view.discard()
