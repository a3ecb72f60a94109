"""What is common to all tests: what happens without FUSE, and that no mount is left behind.

Tests marked ``fuse`` need a real mount. Where a mount can't be made they fail with ``CI=true`` and are
skipped elsewhere, with a line at the very end that says how many and why. Knows nothing of artfs.
"""

from __future__ import annotations

import atexit
import functools
import gc
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

# The suite tries the same examples every time, so that a failure is due to the change. How long an
# example takes depends on the machine, so there is no deadline. `scripts/torture properties` loads the other
# profile, which draws new examples.
hypothesis.settings.register_profile("suite", deadline=None, print_blob=True, derandomize=True, database=None)
hypothesis.settings.register_profile("anew", deadline=None, print_blob=True, database=None)
hypothesis.settings.load_profile("suite")

# A shell makes background processes ignore SIGINT, and so would the processes that a test interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# For the processes that tests start: where artfs is, and the tests.
REPOSITORY = Path(__file__).resolve().parents[1]
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")]))

_TRY_MOUNT = """
import sys, pyfuse3
pyfuse3.init(pyfuse3.Operations(), sys.argv[1], {"fsname=artfs-test"})
pyfuse3.close()
"""


@functools.cache
def why_no_fuse() -> str | None:
    """Says in one line why a mount can't be made here, or None. Finds out by making one."""
    if not os.path.exists("/dev/fuse"):
        return "/dev/fuse is missing; a container needs --device /dev/fuse"
    with tempfile.TemporaryDirectory() as directory:
        command = [sys.executable, "-W", "ignore", "-c", _TRY_MOUNT, directory]
        result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if result.returncode == 0:
        return None
    lines = result.stderr.strip().splitlines() or [f"exit status {result.returncode}"]
    # libfuse and fusermount3 say more than the exception that follows.
    line = next((line for line in lines if line.startswith("fuse")), lines[-1])
    return f"a mount can't be made ({line}); a container needs --device /dev/fuse --cap-add SYS_ADMIN"


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("fuse") and (why := why_no_fuse()):
        if os.environ.get("CI", "").lower() in ("true", "1"):
            pytest.fail(f"FUSE is missing: {why}", pytrace=False)
        skipped.append(item.nodeid)
        pytest.skip(f"FUSE is missing: {why}")


def pytest_collection_finish() -> None:
    """Exempts the tests from garbage collection: a quarter of a million objects, at which it looks for 0.2 s.

    In a forked process it would also copy all of them.
    """
    gc.collect()
    gc.freeze()


skipped: list[str] = []


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: Any) -> None:
    if skipped:
        line = f"NOT RUN: {len(skipped)} tests that need a mount: {why_no_fuse()}"
        terminalreporter.write_sep("!", red=True, bold=True)
        terminalreporter.write_line(line, red=True, bold=True)
        terminalreporter.write_sep("!", red=True, bold=True)


# ---- mounts left behind -------------------------------------------------------------------------------

# The temporary directory of this run, reachable by other users as pytest's own is not. It tells the mounts of
# this run from everybody else's. Made on import: test modules ask for the temporary directory on theirs.
os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())
_PLACE = os.path.realpath(tempfile.mkdtemp(prefix="artfs-tests-"))
os.chmod(_PLACE, 0o755)
os.environ["TMPDIR"] = tempfile.tempdir = _PLACE

_places = [_PLACE + "/"]


@atexit.register
def _remove_place() -> None:
    if not _fuse_mounts():
        shutil.rmtree(_PLACE, ignore_errors=True)


@pytest.fixture(scope="session", autouse=True)
def _mounts_below_tmp_path_are_ours(tmp_path_factory: pytest.TempPathFactory) -> None:
    _places.append(os.path.realpath(tmp_path_factory.getbasetemp()) + "/")


def _fuse_mounts() -> set[str]:
    """The FUSE mounts of this run (the mountinfo format is in proc(5))."""
    found = set()
    for line in Path("/proc/self/mountinfo").read_bytes().splitlines():
        before, _, after = line.partition(b" - ")
        target = os.fsdecode(before.split()[4].decode("unicode_escape").encode("latin-1"))
        if after.startswith(b"fuse") and target.startswith(tuple(_places)):
            found.add(target)
    return found


# Mounts that may outlive a test, though no fixture wider than a function made them.
_lasting: set[str] = set()


@pytest.fixture(scope="session")
def lasting_mounts() -> set[str]:
    """Takes the real paths of mounts that a test may leave to later ones; what adds one unmounts it."""
    return _lasting


class LeftMounts:
    """Fails a test that leaves a mount behind, and unmounts it.

    Mounts made by a fixture wider than a function stay, and those in ``lasting_mounts``. It is a plugin of
    its own, since pytest does not call a conftest below the root for fixtures of the session.
    """

    def __init__(self) -> None:
        self._shared: dict[Any, set[str]] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any) -> Generator[None, object, object]:
        before = _fuse_mounts()
        try:
            return (yield)
        finally:
            if fixturedef.scope != "function":
                self._shared[fixturedef] = _fuse_mounts() - before

    def pytest_fixture_post_finalizer(self, fixturedef: Any) -> None:
        self._shared.pop(fixturedef, None)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(self) -> Generator[None, object, object]:
        try:
            return (yield)
        finally:
            if left := sorted(_fuse_mounts() - _lasting.union(*self._shared.values())):
                for target in reversed(left):
                    unmount = ["umount", "-l"] if os.geteuid() == 0 else ["fusermount3", "-uz"]
                    subprocess.run([*unmount, target], check=False)
                pytest.fail(f"left a mount behind: {', '.join(left)}", pytrace=False)


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(LeftMounts())
