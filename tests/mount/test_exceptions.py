"""An unexpected exception is EIO for its call and a traceback in the log; the mount goes on."""

from __future__ import annotations

import contextlib
import errno
import inspect
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pyfuse3
import pytest

from artfs.daemon import background
from artfs.fuse.operations import Operations
from tests.conformance.helpers import eventually, fails
from tests.mount.mounting import MountedVolume, mounted_volume

# Attributes of pyfuse3.Operations that are flags, or never raise.
NO_ANSWER = {"init", "forget", "stacktrace"}
NOT_OFFERED = {"poll"}  # the base class refuses it by a FUSEError

EXCEPTIONS = (
    "RuntimeError",
    "KeyError",
    "RecursionError",
    "MemoryError",
    "UnicodeDecodeError",
    "AssertionError",
    "TimeoutError",
    "Odd",
)


def test_every_operation_is_wrapped() -> None:
    for name, inherited in inspect.getmembers(pyfuse3.Operations, callable):
        if name.startswith("_") or name in NO_ANSWER | NOT_OFFERED:
            continue
        own = getattr(Operations, name)
        assert own is not inherited, f"{name} is pyfuse3's own"
        assert hasattr(own, "__wrapped__"), f"{name} is not wrapped"
        assert own.__code__.co_name == "answer", f"{name} is wrapped by something else"


class RaisingMount(MountedVolume):
    def __init__(self, options: Sequence[str] = ()) -> None:
        super().__init__(options)
        self.trigger = self.base / "raise"

    def _mount(self) -> None:
        self.trigger.write_text("")
        os.environ["ARTFS_TEST_RAISE"] = str(self.trigger)
        try:
            background.start(
                ["mount", "--foreground", *self.options, "--", str(self.volume), str(self.point)],
                self.volume / "logs" / "mount.log",
                program=[sys.executable, "-m", "tests.mount.raising"],
            )
        finally:
            del os.environ["ARTFS_TEST_RAISE"]

    def log(self) -> str:
        """Returns the log without the exceptions that the tests caused."""
        return "" if self.trigger.read_text() == "expected" else super().log()

    def tracebacks(self, operation: str) -> int:
        return len(re.findall(rf"ERROR artfs.fuse.operations: {operation}\b.*failed", super().log()))


@pytest.fixture(scope="module")
def raising() -> Iterator[RaisingMount]:
    with mounted_volume(kind=RaisingMount) as mounted:
        assert isinstance(mounted, RaisingMount)
        yield mounted
        mounted.trigger.write_text("expected")


def _with(fd_of: Callable[[Path], int], call: Callable[[int], object]) -> Callable[[Path], None]:
    def run(job: Path) -> None:
        call(fd_of(job))

    return run


def _file(job: Path) -> int:
    return _hold(os.open(job / "file", os.O_RDWR))


def _directory(job: Path) -> int:
    return _hold(os.open(job, os.O_RDONLY))


_held: list[int] = []


def _hold(fd: int) -> int:
    _held.append(fd)
    return fd


#: Calls the operation, and before it no other that looks up a node or handle.
CALLS: dict[str, Callable[[Path], object]] = {
    "lookup": lambda job: os.stat(job / "not known yet"),
    "getattr": lambda job: os.stat(job / ".artfs" / "status"),
    "setattr": lambda job: os.chmod(job / "file", 0o600),
    "readlink": lambda job: os.readlink(job / "link"),
    "statfs": os.statvfs,
    "mkdir": lambda job: os.mkdir(job / "new"),
    "mknod": lambda job: os.mkfifo(job / "new"),
    "symlink": lambda job: os.symlink("to", job / "new"),
    "link": lambda job: os.link(job / "file", job / "new"),
    "unlink": lambda job: os.unlink(job / "file"),
    "rmdir": lambda job: os.rmdir(job / "dir"),
    "rename": lambda job: os.rename(job / "file", job / "new"),
    "getxattr": lambda job: os.getxattr(job / "file", "user.x"),
    "listxattr": lambda job: os.listxattr(job / "file"),
    "setxattr": lambda job: os.setxattr(job / "file", "user.x", b"x"),
    "removexattr": lambda job: os.removexattr(job / "file", "user.x"),
    "open": lambda job: os.open(job / "file", os.O_RDONLY),
    "create": lambda job: os.open(job / "new", os.O_WRONLY | os.O_CREAT),
    "read": _with(_file, lambda fd: os.pread(fd, 10, 0)),
    "write": _with(_file, lambda fd: os.pwrite(fd, b"x", 0)),
    "fsync": _with(_file, os.fsync),
    "opendir": os.listdir,
    "readdir": _with(_directory, os.listdir),
    "fsyncdir": _with(_directory, os.fsync),
}
#: The kernel ignores their replies.
UNREPORTED = {"release": _with(_file, lambda _fd: None), "releasedir": _with(_directory, lambda _fd: None)}
#: Never sent by the kernel: default_permissions makes it check access itself, and flush is disabled.
UNSENT = {"access", "flush"}


def test_every_operation_has_a_call() -> None:
    wrapped = {name for name in dir(Operations) if hasattr(getattr(Operations, name), "__wrapped__")}
    assert wrapped == set(CALLS) | set(UNREPORTED) | UNSENT


@pytest.fixture
def raising_job(raising: RaisingMount, request: pytest.FixtureRequest) -> Iterator[Path]:
    name = re.sub(r"\W", "-", request.node.name)
    job = raising.point / name / "pending" / "job"
    job.parent.parent.mkdir()
    job.mkdir()
    (job / "file").write_text("data")
    os.setxattr(job / "file", "user.x", b"x")
    (job / "dir").mkdir()
    (job / "link").symlink_to("file")
    with raising.watched():
        yield job
        raising.trigger.write_text("")
        while _held:
            os.close(_held.pop())


@pytest.mark.fuse
@pytest.mark.parametrize("operation", CALLS)
def test_an_exception_is_eio_and_logged(raising: RaisingMount, raising_job: Path, operation: str) -> None:
    call = CALLS[operation]
    for kind in EXCEPTIONS:
        before = raising.tracebacks(operation)
        raising.trigger.write_text(f"{operation} {kind}")
        try:
            with fails(errno.EIO, errno.ETIMEDOUT):
                call(raising_job)
        finally:
            raising.trigger.write_text("")
        if kind != "TimeoutError":  # an OSError is an answer
            assert raising.tracebacks(operation) == before + 1
    assert (raising_job / "file").read_text() == "data"
    assert sorted(os.listdir(raising_job)) == ["dir", "file", "link"]
    if operation != "lookup":  # finds nothing
        call(raising_job)


@pytest.mark.fuse
@pytest.mark.parametrize("operation", UNREPORTED)
def test_an_exception_in_a_release_is_logged(
    raising: RaisingMount, raising_job: Path, operation: str
) -> None:
    UNREPORTED[operation](raising_job)
    raising.trigger.write_text(f"{operation} RuntimeError")
    os.close(_held.pop())
    eventually(lambda: raising.tracebacks(operation) == 1, what="the log tells of it")


@pytest.mark.fuse
def test_an_exception_in_a_forget_is_logged(raising: RaisingMount, raising_job: Path) -> None:
    raising.trigger.write_text("forget RuntimeError")
    os.unlink(raising_job / "file")
    eventually(lambda: "forget failed" in MountedVolume.log(raising), what="the log tells of it")
    raising.trigger.write_text("")
    assert raising.answers()


@pytest.mark.fuse
def test_the_debug_hook_of_pyfuse3_does_nothing(raising: RaisingMount, raising_job: Path) -> None:
    before = len(MountedVolume.log(raising))
    assert Operations.stacktrace is not pyfuse3.Operations.stacktrace
    for path in (raising.point, raising_job / "file"):
        with contextlib.suppress(OSError):  # some releases of pyfuse3 answer it
            os.setxattr(path, "fuse_stacktrace", b"1")
    assert len(MountedVolume.log(raising)) == before
    assert raising.answers()
