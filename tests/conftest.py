"""Holds for every test: what happens without FUSE, and that no mount is left behind.

Tests marked ``fuse`` need a real mount. Where a mount can't be made they fail with ``CI=true`` and are
skipped elsewhere, with a line at the very end that says how many and why. Knows nothing of artfs.
"""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

# How long an example takes depends on the machine, not on the code.
hypothesis.settings.register_profile("artfs", deadline=None, print_blob=True)
hypothesis.settings.load_profile("artfs")

_TRY_MOUNT = """
import sys, pyfuse3
pyfuse3.init(pyfuse3.Operations(), sys.argv[1], {"fsname=artfs-test"})
pyfuse3.close()
"""


@functools.cache
def why_no_fuse() -> str | None:
    """Says in one line why a mount can't be made here, or None. Finds out by making one."""
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR))
    except OSError as error:
        return f"/dev/fuse can't be opened ({error.strerror}); a container needs --device /dev/fuse"
    with tempfile.TemporaryDirectory() as directory:
        command = [sys.executable, "-W", "ignore", "-c", _TRY_MOUNT, directory]
        result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if result.returncode == 0:
        return None
    lines = result.stderr.strip().splitlines() or [f"exit status {result.returncode}"]
    return f"a mount can't be made: {lines[-1]}; a container needs --cap-add SYS_ADMIN"


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("fuse") and (why := why_no_fuse()):
        if os.environ.get("CI", "").lower() in ("true", "1"):
            pytest.fail(f"FUSE is missing: {why}", pytrace=False)
        skipped.append(item.nodeid)
        pytest.skip(f"FUSE is missing: {why}")


skipped: list[str] = []


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: Any) -> None:
    if skipped:
        line = f"NOT RUN: {len(skipped)} tests that need a mount. {why_no_fuse()}"
        terminalreporter.write_sep("!", red=True, bold=True)
        terminalreporter.write_line(line, red=True, bold=True)
        terminalreporter.write_sep("!", red=True, bold=True)


# ---- mounts left behind -------------------------------------------------------------------------------

# Mounts of fixtures wider than a function, which outlive single tests by right.
_shared: dict[Any, set[str]] = {}
_base: list[str] = []


@pytest.fixture(scope="session", autouse=True)
def _all_files_of_tests_in_one_place(tmp_path_factory: pytest.TempPathFactory) -> Generator[None]:
    """Lets the check below tell the mounts of this session from everybody else's."""
    base = os.path.realpath(tmp_path_factory.getbasetemp())
    _base.append(base)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", base)
        patch.setattr(tempfile, "tempdir", base)
        yield


def _fuse_mounts() -> set[str]:
    """The FUSE mounts below this session's directory (the mountinfo format is in proc(5))."""
    found = set()
    for line in Path("/proc/self/mountinfo").read_bytes().splitlines():
        before, _, after = line.partition(b" - ")
        target = os.fsdecode(before.split()[4].decode("unicode_escape").encode("latin-1"))
        if after.startswith(b"fuse") and _base and target.startswith(_base[0] + "/"):
            found.add(target)
    return found


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef: Any) -> Generator[None, object, object]:
    before = _fuse_mounts()
    try:
        return (yield)
    finally:
        if fixturedef.scope != "function":
            _shared[fixturedef] = _fuse_mounts() - before


def pytest_fixture_post_finalizer(fixturedef: Any) -> None:
    _shared.pop(fixturedef, None)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown() -> Generator[None, object, object]:
    try:
        return (yield)
    finally:
        if left := sorted(_fuse_mounts() - set().union(*_shared.values())):
            for target in reversed(left):
                unmount = ["umount", "-l", target] if os.geteuid() == 0 else ["fusermount3", "-uz", target]
                subprocess.run(unmount, check=False)
            pytest.fail(f"left a mount behind: {', '.join(left)}", pytrace=False)
