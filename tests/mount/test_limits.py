"""What a user cannot take from others: descriptors, threads, memory, the daemon itself.

Small numbers by default; with ARTFS_THOROUGH=1 those of an attacker.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import json
import os
import resource
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.helpers import eventually, fails, in_syscall
from tests.conformance.processes import Child
from tests.mount.control import ask, command, control, finish, read_on, show, show_json
from tests.mount.mounting import MountedVolume
from tests.thorough import THOROUGH

pytestmark = [
    pytest.mark.fuse,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user"),
]

MOUNT_OPTIONS = ["--allow-other"]

ALICE, BOB = 1001, 1002
MIB = 1 << 20


def thorough_or(large: int, small: int) -> int:
    return large if THOROUGH else small


@pytest.fixture
def open_job(model: Path) -> Path:
    """A pending version in which all users may write."""
    os.chmod(model / "pending", 0o777)
    path = model / "pending" / "everybodys"
    path.mkdir()
    os.chmod(path, 0o777)
    return path


def resident(mounted: MountedVolume, which: str = "VmRSS") -> int:
    """Returns the memory of the daemon in bytes; with VmHWM, its maximum until now."""
    status = Path(f"/proc/{mounted.pid}/status").read_text()
    return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith(which))


@contextlib.contextmanager
def takes_at_most(mounted: MountedVolume, size: int) -> Iterator[None]:
    before = resident(mounted)
    yield
    grown = resident(mounted) - before
    assert grown <= size, f"the daemon has grown by {grown / MIB:.0f} MiB"


@contextlib.contextmanager
def peaks_at_most(mounted: MountedVolume, size: int) -> Iterator[None]:
    """Limits the growth at every moment of the context."""
    before = resident(mounted)
    Path(f"/proc/{mounted.pid}/clear_refs").write_text("5")  # resets the peak: proc(5)
    yield
    grown = resident(mounted, "VmHWM") - before
    assert grown <= size, f"the daemon had grown by {grown / MIB:.0f} MiB"


def serves(mounted: MountedVolume, model: Path, name: str, uid: int = BOB) -> None:

    def work(_child: Child) -> None:
        tree = model / "pending" / name
        tree.mkdir()
        (tree / "file").write_text(name)
        finish(tree)

    with Child(work, uid=uid) as child:
        child.value()
    assert mounted.answers()


# ---- descriptors --------------------------------------------------------------------------------------


@contextlib.contextmanager
def few_descriptors(mounted: MountedVolume, limit: int) -> Iterator[None]:
    """Limits the daemon's descriptors, as prlimit(1) does."""
    assert mounted.pid is not None
    before = resource.prlimit(mounted.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(mounted.pid, resource.RLIMIT_NOFILE, (limit, before[1]))
    try:
        yield
    finally:
        resource.prlimit(mounted.pid, resource.RLIMIT_NOFILE, before)


def open_until_refused(directory: Path, name: str) -> Callable[[Child], list[int]]:
    """Opens files until an open is refused; after ``go`` returns their number and the errno."""

    def run(child: Child) -> list[int]:
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        opened, why = 0, 0
        while not why:
            try:
                os.open(directory / f"{name}-{opened % 50}", os.O_WRONLY | os.O_CREAT, 0o666)
                opened += 1
            except OSError as error:
                why = error.errno or -1
        child.say()
        child.pause()
        return [opened, why]

    return run


def test_a_user_cannot_exhaust_the_descriptors_of_others(
    shared_mount: MountedVolume, model: Path, open_job: Path
) -> None:
    limit = 600
    with few_descriptors(shared_mount, limit):
        with Child(open_until_refused(open_job, "alices"), uid=ALICE) as alice:
            alice.heard()
            serves(shared_mount, model, "beside one")
            with Child(open_until_refused(open_job, "bobs"), uid=BOB) as bob:
                bob.heard()
                # Both users are at their limits: the daemon still serves calls that need no descriptor.
                assert show_json(shared_mount.point, "status")["pending"] >= 1
                assert max(os.listdir(model)) == "v0"
                command(model, "description", "still here")
                bob.go()
                opened, why = bob.value()
                assert opened > 50
                assert why == errno.ENFILE
            alice.go()
            opened, why = alice.value()
            assert limit / 4 < opened < limit * 5 / 8
            assert why == errno.EMFILE
        serves(shared_mount, model, "afterwards")


def test_many_handles_of_one_user_take_bounded_memory(
    shared_mount: MountedVolume, model: Path, open_job: Path
) -> None:
    count = thorough_or(10_000, 800)

    def hold(child: Child) -> None:
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        for number in range(count):
            os.open(open_job / f"file-{number}", os.O_RDWR | os.O_CREAT, 0o600)
        child.say()
        child.pause()

    with takes_at_most(shared_mount, count * 8192 + 16 * MIB), Child(hold, uid=ALICE) as child:
        child.heard(300)
        serves(shared_mount, model, "beside them")
        # Finding the names of the open files takes bounded time.
        assert len(show_json(open_job, "status")["open_for_write"]) == count
        child.go()
        child.value()
    finish(open_job)


def test_many_pending_versions_take_bounded_memory(shared_mount: MountedVolume, model: Path) -> None:
    count = thorough_or(5_000, 80)
    os.chmod(model / "pending", 0o777)

    def start(_child: Child) -> None:
        for number in range(count):
            (model / "pending" / f"job-{number}").mkdir()

    with takes_at_most(shared_mount, count * 20_000 + 16 * MIB):
        with Child(start, uid=ALICE) as child:
            child.value(600)
        assert len(list(os.scandir(model / "pending"))) == count
        serves(shared_mount, model, "one more")
        for number in range(count):
            (model / "pending" / f"job-{number}").rmdir()


def test_pending_versions_cannot_exhaust_the_descriptors(shared_mount: MountedVolume, model: Path) -> None:
    def start() -> int:
        for number in range(1000):
            try:
                (model / "pending" / f"job-{number}").mkdir()
            except OSError as error:
                if error.errno != errno.ENFILE:
                    raise
                return number
        return 1000

    with few_descriptors(shared_mount, 300):
        made = start()
        assert 20 < made < 300
        assert len(os.listdir(model / "pending")) == made
        assert show_json(shared_mount.point, "status")["sealed"] >= 0
        for number in range(made):
            path = model / "pending" / f"job-{number}"
            (path / "file").write_text("these go on")
            command(path, "discard", "")
    assert os.listdir(model / "pending") == []


def test_one_users_pending_versions_leave_descriptors_to_others(
    shared_mount: MountedVolume, model: Path, open_job: Path
) -> None:
    def start(_child: Child) -> list[int]:
        for number in range(1000):
            try:
                (model / "pending" / f"alices-{number}").mkdir()
            except OSError as error:
                return [number, error.errno or -1]
        return [1000, 0]

    def look(_child: Child) -> str:
        return (open_job / "file").read_text()

    (open_job / "file").write_text("bobs")
    with few_descriptors(shared_mount, 600):
        with Child(start, uid=ALICE) as alice:
            made, why = alice.value()
        assert 20 < made < 100
        assert why == errno.EMFILE
        # What was refused does not exist.
        assert len(os.listdir(model / "pending")) == made + 1
        serves(shared_mount, model, "beside them")
        with Child(look, uid=BOB) as bob:
            assert bob.value() == "bobs"
    for number in range(made):
        (model / "pending" / f"alices-{number}").rmdir()


def test_unlinked_open_files_leave_descriptors_to_others(
    shared_mount: MountedVolume, model: Path, open_job: Path
) -> None:
    """Each takes a descriptor of the daemon, though a user who holds it by O_PATH has no file open."""

    def hold(child: Child) -> int:
        held = []
        for number in range(600):
            path = open_job / f"file-{number}"
            path.write_text("data")
            held.append(os.open(path, os.O_PATH))
            path.unlink()
        child.say()
        child.pause()
        shown = [os.fstat(fd).st_size for fd in held[:50]]
        with fails(errno.ESTALE):
            os.fstat(held[-1])
        reading = open_job / "read"
        reading.write_text("still there")
        with open(reading) as file:
            reading.unlink()
            assert file.read() == "still there"
        return sum(shown)

    with few_descriptors(shared_mount, 800), Child(hold, uid=ALICE) as child:
        child.heard()
        assert len(os.listdir(f"/proc/{shared_mount.pid}/fd")) < 300
        serves(shared_mount, model, "beside them")
        child.go()
        assert child.value() == 200
    (open_job / "after").write_text("data")
    (open_job / "after").unlink()


def test_ended_trees_keep_no_descriptors(shared_mount: MountedVolume, model: Path) -> None:
    """The kernel keeps inodes of their files, and processes have their working directories there."""

    def end(number: int, how: str) -> None:
        tree = model / "pending" / f"{how}-{number}"
        tree.mkdir()
        (tree / "file").write_text(f"{how}{number}")
        if how == "patch":
            finish(tree)
            patch = model / "pending" / f"on-{number}"
            patch.mkdir()
            command(patch, "base", "latest")
            (patch / "file").write_text(f"changed {number}")
            tree = patch
        if how == "discard":
            command(tree, "discard", "")
        else:
            sitting.append(os.open(tree, os.O_PATH | os.O_DIRECTORY))
            finish(tree)

    sitting: list[int] = []
    try:
        for how in ("finish", "discard", "patch"):
            end(-1, how)
        before = held(shared_mount)
        for number in range(thorough_or(200, 20)):
            for how in ("finish", "discard", "patch"):
                end(number, how)
        assert held(shared_mount) <= before + 8
        for fd in sitting:
            assert os.listdir(f"/proc/self/fd/{fd}") == ["file"]
    finally:
        for fd in sitting:
            os.close(fd)


def held(mounted: MountedVolume) -> int:
    """Returns the number of the daemon's descriptors."""
    return len(os.listdir(f"/proc/{mounted.pid}/fd"))


def go_down(levels: int) -> None:
    for _ in range(levels):
        with contextlib.suppress(FileExistsError):
            os.mkdir("d")
        os.chdir("d")


def test_a_deep_path_takes_few_descriptors(shared_mount: MountedVolume, model: Path, open_job: Path) -> None:
    levels, siblings = thorough_or(21_000, 1_500), 600

    def look(_child: Child) -> None:
        os.chdir(open_job)
        root = os.open(".", os.O_PATH)
        for number in range(siblings):
            os.mkdir(f"s{number}")
        go_down(levels)
        for number in range(siblings):  # evicts the levels from the daemon's cache
            with fails(errno.ENOENT):
                os.stat(f"s{number}/none", dir_fd=root)
        with fails(errno.ENOENT):
            os.stat("none")

    with few_descriptors(shared_mount, thorough_or(20_000, 1_000)):
        with Child(look, uid=ALICE) as child:
            child.value(600)
        assert held(shared_mount) < 700
        serves(shared_mount, model, "beside bob")


def test_a_path_below_a_deep_directory_takes_few_descriptors(
    shared_mount: MountedVolume, model: Path, open_job: Path
) -> None:
    """Creating a file in a lower directory gives all directories above it inodes of the patch."""
    levels = thorough_or(10_000, 1_500)

    def make(_child: Child) -> None:
        os.chdir(open_job)
        go_down(levels)

    with Child(make, uid=ALICE) as child:
        child.value(600)
    finish(open_job)
    patch = model / "pending" / "patch"

    def change(_child: Child) -> None:
        patch.mkdir()
        command(patch, "base", "latest")
        os.chdir(patch)
        go_down(levels)
        Path("file").write_text("deep")

    with few_descriptors(shared_mount, thorough_or(9_000, 1_000)):
        with Child(change, uid=ALICE) as child:
            child.value(600)
        assert held(shared_mount) < 700
        serves(shared_mount, model, "beside bob")
    assert show_json(patch, "status")["files"] == 1


def test_files_of_many_directories_take_few_descriptors(shared_mount: MountedVolume, job: Path) -> None:
    paths = [job / f"directory-{number}" / "file" for number in range(1_500)]
    for path in paths:
        path.parent.mkdir()
        path.touch()
    with few_descriptors(shared_mount, 1_000):
        for path in paths:
            assert os.listxattr(path) == []  # the one request that the kernel does not cache
        assert held(shared_mount) < 700


# ---- the event loop's thread ---------------------------------------------------------------------------


def slowest_lookup(tree: Path, until: Callable[[], bool]) -> float:
    """Looks up uncached names until told to stop; returns the seconds of the slowest lookup."""
    slowest = 0.0
    for number in itertools.count():
        started = time.monotonic()
        assert not (tree / f"none-{number}").exists()
        slowest = max(slowest, time.monotonic() - started)
        if until():
            return slowest
    raise AssertionError


def test_truncating_fragmented_files_delays_no_other_request(model: Path, job: Path, open_job: Path) -> None:
    extents = thorough_or(60_000, 8_000)

    def fill(name: str) -> int:
        fd = os.open(open_job / name, os.O_RDWR | os.O_CREAT)
        for number in range(extents):
            os.pwrite(fd, b"x", number * 8192)
        os.fsync(fd)
        return fd

    def work(child: Child) -> float:
        fds = [fill(name) for name in ("cut", "open", "closed")]
        child.say()
        child.pause()
        started = time.monotonic()
        os.ftruncate(fds[0], 0)
        took = time.monotonic() - started
        os.unlink(open_job / "open")
        os.close(fds[1])
        os.close(fds[2])
        os.unlink(open_job / "closed")
        return took

    with Child(work, uid=ALICE) as child:
        child.heard(600)
        child.go()
        slowest = slowest_lookup(job, child.is_over)
        took = child.value()
    # Removals may still be running.
    ended = time.monotonic() + 2 * took
    slowest = max(slowest, slowest_lookup(job, lambda: time.monotonic() > ended))
    assert slowest < max(took / 2, 0.25), f"cutting took {took:.2f} s"
    assert finish(open_job)["version"] == "v0"


# ---- waiting ------------------------------------------------------------------------------------------


def test_waiting_finishes_of_one_user_do_not_block_those_of_others(
    shared_mount: MountedVolume, model: Path, open_job: Path
) -> None:
    command(open_job, "runs", "+run")

    def wait(child: Child) -> str:
        fd = os.open(control(open_job, "finish"), os.O_RDWR)
        child.say()
        os.write(fd, b"--wait=600\n")
        return os.read(fd, 1000).decode()

    # More than one user's threads.
    with contextlib.ExitStack() as stack:
        waiting = [stack.enter_context(Child(wait, uid=ALICE)) for _ in range(140)]
        for child in waiting:
            child.heard()
        serves(shared_mount, model, "bobs own")
        for child in waiting[::3]:
            child.kill(signal.SIGKILL)
        for child in waiting[::3]:
            assert child.outcome() == {"signal": signal.SIGKILL}
        command(open_job, "runs", "-run")
        answers = {json.loads(child.value())["version"] for i, child in enumerate(waiting) if i % 3}
    assert answers == {"v1"}


def test_commands_of_one_user_do_not_block_those_of_others(shared_mount: MountedVolume, model: Path) -> None:
    """More commands of one user wait than there are threads; one whose caller dies is not executed."""
    os.chmod(model / "pending", 0o777)
    texts = (
        "description",
        "tags",
        "aliases",
    )  # two writes of one file wait for each other in the kernel
    os.chmod(model, 0o777)

    def make(_child: Child) -> list[str]:
        trees = [model / "pending" / f"alices-{number}" for number in range(24)]
        for tree in trees:
            tree.mkdir()
        return list(map(str, trees))

    def change(tree: Path, text: str, child: Child) -> None:
        child.pause()
        command(tree, text, "alices")

    with Child(make, uid=ALICE) as child:
        trees = list(map(Path, child.value()))
    with contextlib.ExitStack() as children, contextlib.ExitStack() as locks:
        waiting = [
            children.enter_context(Child(partial(change, tree, text), uid=ALICE))
            for tree in trees
            for text in texts
        ]
        for tree in trees:  # after the forks: children inherit locks
            locks.enter_context(locked(shared_mount, tree))
        for child in waiting:
            child.go()
            eventually(partial(in_syscall, child.pid, "write"), what="it waits")
        serves(shared_mount, model, "beside them")
        for child in waiting:
            child.kill(signal.SIGKILL)
    changed = [show(tree, text) for tree in trees for text in texts if show(tree, text)]
    assert 0 < len(changed) <= 4


@contextlib.contextmanager
def locked(mounted: MountedVolume, tree: Path) -> Iterator[None]:
    """Holds the lock that changes of a pending version's labels need."""
    place = mounted.volume / "collections" / tree.relative_to(mounted.point)
    fd = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def test_a_finish_ended_by_a_signal_changes_nothing(model: Path, open_job: Path) -> None:
    (open_job / "file").write_text("data")
    command(open_job, "runs", "+run")

    def interrupted(*_: object) -> None:
        raise InterruptedError(errno.EINTR, "as write(2) said; else Python would call it again")

    def wait(child: Child) -> None:
        signal.signal(signal.SIGUSR1, interrupted)
        child.say()
        with fails(errno.EINTR):
            finish(open_job, "--wait=600")

    with Child(wait, uid=ALICE) as child:
        child.heard()
        eventually(lambda: in_syscall(child.pid, "write"), what="it waits")
        child.kill(signal.SIGUSR1)
        outcome = child.outcome()
    assert "trace" not in outcome, outcome
    command(open_job, "runs", "-run")
    (open_job / "more").write_text("still pending")
    assert finish(open_job)["version"] == "v0"


def test_a_thousand_processes_can_create_files_at_once(
    shared_mount: MountedVolume, model: Path, open_job: Path
) -> None:
    crowd, each = thorough_or(1000, 80), 10

    def rush(child: Child) -> int:
        child.pause()
        done = 0
        for number in range(each):
            path = open_job / f"{os.getpid()}-{number}"
            with contextlib.suppress(FileExistsError):
                (open_job / "all").mkdir()
            path.write_text("x")
            os.rename(path, open_job / "all" / path.name)
            done += int((open_job / "all" / path.name).read_text() == "x")
        return done

    with takes_at_most(shared_mount, 64 * MIB), contextlib.ExitStack() as stack:
        children = [stack.enter_context(Child(rush, uid=ALICE)) for _ in range(crowd)]
        for child in children:
            child.go()
        assert sum(child.value(300) for child in children) == crowd * each
    assert len(os.listdir(open_job / "all")) == crowd * each
    serves(shared_mount, model, "after the crowd")


# ---- hashing -------------------------------------------------------------------------------------------


def large_file(mounted: MountedVolume, name: str) -> Path:
    """Makes a file that all users may read, and that takes hours to hash."""
    path = mounted.base / name
    with path.open("wb") as file:
        os.truncate(file.fileno(), 4 << 40)
    return path


def has_open(mounted: MountedVolume, path: Path) -> bool:
    """Whether the daemon has a file open."""
    for fd in Path(f"/proc/{mounted.pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            if os.readlink(fd) == str(path):
                return True
    return False


def test_hashing_stops_when_its_process_ends(
    shared_mount: MountedVolume, model: Path, open_job: Path
) -> None:
    looked_at, read = large_file(shared_mount, "looked-at"), large_file(shared_mount, "read")
    size, checksum = read.stat().st_size, "xxh128:" + "0" * 32
    command(
        open_job,
        "references",
        json.dumps({"path": "r", "uri": f"file://{read}", "size": size, "checksum": checksum}),
    )

    def look(_child: Child) -> None:
        command(open_job, "references", f"x file://{looked_at}")

    def show(_child: Child) -> None:
        os.read(os.open(open_job / "r", os.O_RDONLY), 1)

    with Child(look, uid=ALICE) as one, Child(show, uid=ALICE) as other:
        for path in (looked_at, read):
            eventually(partial(has_open, shared_mount, path), what="it is hashed")
        serves(shared_mount, model, "beside it")
        for child in (one, other):
            child.kill(signal.SIGKILL)
            assert child.outcome() == {"signal": signal.SIGKILL}
    for path in (looked_at, read):
        eventually(lambda path=path: not has_open(shared_mount, path), what="it is read no more")  # type: ignore[misc]
        path.unlink()
    assert "reference_errors" not in show_json(open_job, "status")


# ---- control files ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["finish", "discard", "base", "runs", "aliases", "tags", "references"])
def test_commands_of_megabytes_are_refused(shared_mount: MountedVolume, job: Path, name: str) -> None:
    (job / "file").write_text("data")
    text = b"+" + b"x" * (3 * MIB)
    fd = os.open(control(job, name), os.O_RDWR)
    try:
        with takes_at_most(shared_mount, 48 * MIB), fails(errno.EINVAL):
            os.write(fd, text)
    finally:
        os.close(fd)
    assert len(show(job, "error")) < 4096
    assert os.listdir(job) == ["file"]


def test_texts_of_megabytes_are_refused(job: Path) -> None:
    with fails(errno.EINVAL):
        command(job, "description", "x" * (3 * MIB))
    assert show(job, "description") == ""


def test_thousands_of_commands_take_bounded_memory(
    shared_mount: MountedVolume, model: Path, job: Path
) -> None:
    with takes_at_most(shared_mount, 32 * MIB):
        for number in range(thorough_or(5000, 60)):
            fd = os.open(control(job, "tags"), os.O_WRONLY)
            os.write(fd, b"tag-%d" % number)
            os.close(fd)
            with fails(errno.EINVAL):
                command(job, "finish", "--nonsense")
    assert show(job, "tags") == f"tag-{thorough_or(5000, 60) - 1}\n"


def test_endless_documents_take_bounded_memory(
    shared_mount: MountedVolume, model: Path, open_job: Path
) -> None:
    def collect(child: Child) -> list[int]:
        refused = []
        for _ in range(20):
            fd = os.open(control(open_job, "metadata.json"), os.O_WRONLY)
            os.write(fd, b'{"x": "')
            for _ in range(32):
                try:
                    os.write(fd, b"x" * (MIB // 2))
                except OSError as error:
                    refused.append(error.errno or -1)
                    break
        child.say()
        child.pause()
        return refused

    with takes_at_most(shared_mount, 400 * MIB), Child(collect, uid=ALICE) as child:
        child.heard(120)
        child.go()
        refused = child.value()
        assert refused
        assert set(refused) == {errno.ENOMEM}
    eventually(lambda: _accepts(open_job), what="what was held is given back")


def test_small_pieces_of_a_large_document_take_little_time(
    shared_mount: MountedVolume, model: Path, open_job: Path
) -> None:
    def collect(_child: Child) -> float:
        fd = os.open(control(open_job, "metadata.json"), os.O_WRONLY)
        os.write(fd, b'{"many": [{}')
        for _ in range(12):
            os.write(fd, b",{}" * (MIB // 4))
        began = time.monotonic()
        for _ in range(200):
            os.write(fd, b",{}")
        return time.monotonic() - began

    with Child(collect, uid=ALICE) as child:
        assert child.value(600) < 5
    serves(shared_mount, model, "beside it")


def _accepts(job: Path) -> bool:
    try:
        command(job, "metadata.json", json.dumps({"x": "y" * MIB}))
    except OSError:
        return False
    return True


def test_metadata_of_versions_is_not_kept_in_memory(shared_mount: MountedVolume, model: Path) -> None:
    objects = thorough_or(1_500_000, 200_000)  # of 64 bytes each in memory, and 3 in the document

    def make(number: int) -> None:
        job = model / "pending" / f"job-{number}"
        job.mkdir()
        (job / "file").write_text(str(number))
        document = '{"many": [' + ",".join(["{}"] * objects) + "]}"
        with control(job, "metadata.json").open("w") as file:
            file.write(document)
        finish(job)
        assert show_json(model / f"v{number}", "status")["tags"] == []

    make(0)
    with takes_at_most(shared_mount, objects * 128):
        for number in range(1, thorough_or(8, 5)):
            make(number)
    assert len(show_json(model / "v1", "metadata.json")["many"]) == objects


def test_large_answers_are_not_held_in_memory(shared_mount: MountedVolume, model: Path, job: Path) -> None:
    for number in range(2000):
        os.symlink("x" * 1000, job / f"link-{number}")
    finish(job)
    path = control(model / "v0", "manifest.json")
    whole = path.read_bytes()
    assert len(whole) > 2 * MIB
    with takes_at_most(shared_mount, 48 * MIB), contextlib.ExitStack() as stack:
        for _ in range(40):
            file = stack.enter_context(path.open("rb", buffering=0))
            assert file.read(10) == whole[:10]
        file.seek(len(whole) - 10)
        assert file.read() == whole[-10:]
    assert show_json(model / "v0", "manifest.json")["link-1999"]["target"] == "x" * 1000


def test_answers_about_a_deep_tree_are_not_held_in_memory(
    shared_mount: MountedVolume, model: Path, job: Path
) -> None:
    levels, name = thorough_or(1500, 600), "d" * 250

    def go_down(_child: Child) -> None:
        os.chdir(job)
        for _ in range(levels):
            os.mkdir(name)
            os.chdir(name)

    with Child(go_down) as child:
        child.value(600)
    with peaks_at_most(shared_mount, 32 * MIB):
        with control(job, "changes").open() as shown:
            assert json.loads(next(shown))["path"] == name
        finish(job)
        with control(model / "v0", "manifest.json").open() as manifest:
            assert next(manifest) == "{\n"
            assert next(manifest).startswith(f'"{name}": ')
        (model / "pending" / "empty").mkdir()
        finish(model / "pending" / "empty")
        with control(model / "v0", "diff/v1").open() as shown:
            assert json.loads(next(shown))["change"] == "removed"


def test_long_paths_in_answers_take_bounded_memory(
    shared_mount: MountedVolume, model: Path, job: Path
) -> None:
    levels, name, count = thorough_or(1500, 600), "d" * 250, 300

    def go_down(child: Child) -> None:
        os.chdir(job)
        for _ in range(levels):
            os.mkdir(name)
            os.chdir(name)
            os.mkfifo("fifo")
        files = [open(f"file-{number}", "w") for number in range(count)]  # noqa: SIM115
        child.say()
        child.pause()
        for file in files:
            file.close()

    with peaks_at_most(shared_mount, 40 * MIB), Child(go_down) as child:
        child.heard(600)
        shown = show_json(job, "status")["open_for_write"]
        assert len(shown) == count
        assert all(one["path"].startswith(".../") and len(one["path"]) < 5000 for one in shown)
        child.go()
        child.value()
        with fails(errno.EINVAL):
            finish(job)
    assert "fifo (fifo)" in show(job, "error")


def test_large_answers_of_references_are_not_held_in_memory(
    shared_mount: MountedVolume, model: Path, open_job: Path
) -> None:
    files = thorough_or(20_000, 3_000)

    def ask_often(child: Child) -> str:
        line = f"x {outside.as_uri()} --no-checksum --dry-run".encode()
        answers = [os.open(control(open_job, "references"), os.O_RDWR) for _ in range(30)]
        for fd in answers:
            os.write(fd, line)
        child.say()
        child.pause()
        return read_on(answers[-1])

    with tempfile.TemporaryDirectory() as name:
        outside = Path(name)
        os.chmod(outside, 0o755)
        for number in range(files):
            (outside / f"{'n' * 200}{number}").touch()
        with takes_at_most(shared_mount, 24 * MIB), Child(ask_often, uid=ALICE) as child:
            child.heard(600)
            serves(shared_mount, model, "beside them")
            child.go()
            answer = [json.loads(line) for line in child.value(60).splitlines()]
    assert len(answer) == files
    assert {shown["size"] for shown in answer} == {0}


def test_a_run_is_bounded_and_closed_to_other_users(shared_mount: MountedVolume) -> None:
    os.chmod(shared_mount.point, 0o1777)
    run = control(shared_mount.point, "runs") / f"run-{os.getpid()}"

    def fill(_child: Child) -> float:
        os.close(os.open(run, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
        with run.open("w") as file:
            file.write(json.dumps({"inputs": [f"data:v{number}-{'x' * 200}" for number in range(4000)]}))
        with fails(errno.EINVAL), run.open("w", buffering=0x80000) as file:
            file.write(json.dumps({"inputs": [f"more:v{number}-{'x' * 200}" for number in range(9000)]}))
        began = time.monotonic()
        for _ in range(300):
            os.stat(run)
        return time.monotonic() - began

    def meddle(_child: Child) -> None:
        fd = os.open(run, os.O_WRONLY)
        with fails(errno.EACCES):
            os.write(fd, b'{"state": "failed"}')
        os.close(fd)

    with Child(fill, uid=ALICE) as child:
        assert child.value() < 2  # stat does not read the run
    with Child(meddle, uid=BOB) as child:
        child.value()
    shown = json.loads(run.read_text())
    assert (shown["state"], len(shown["inputs"]), shown["owner"]) == ("running", 4000, ALICE)


# ---- names, attributes, sizes -------------------------------------------------------------------------


def test_long_names_are_refused(shared_mnt: Path, model: Path, job: Path) -> None:
    for length in (256, 1000, 4000):
        name = "x" * length
        runs = shared_mnt / ".artfs" / "runs"
        for directory in (shared_mnt, model, model / "pending", job, job / ".artfs", runs):
            for make in (os.mkdir, os.stat, os.unlink, os.rmdir):
                with fails(errno.ENAMETOOLONG, errno.EINVAL):
                    make(directory / name)
    with fails(errno.ENAMETOOLONG):
        os.symlink("x" * 5000, job / "link")
    os.symlink("x" * 4000, job / "link")
    assert finish(job)["version"] == "v0"


def test_large_and_many_xattrs_are_refused(shared_mount: MountedVolume, model: Path, job: Path) -> None:
    path = job / "file"
    path.write_text("data")
    with fails(errno.E2BIG, errno.ENOSPC):
        os.setxattr(path, "user.huge", b"x" * 70_000)
    with fails(errno.ERANGE, errno.ENAMETOOLONG, errno.EOPNOTSUPP):
        os.setxattr(path, "user." + "x" * 300, b"x")
    kept = 0
    with takes_at_most(shared_mount, 64 * MIB):
        for number in range(10_000):
            try:
                os.setxattr(path, f"user.name-{number}", b"value")
                kept += 1
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.E2BIG, errno.EDQUOT):  # ext4: one block
                    break
                raise
        assert kept > 20
        assert finish(job)["version"] == "v0"
    with contextlib.suppress(OSError):  # E2BIG: listxattr(2) returns at most 64 KiB
        assert len(os.listxattr(model / "v0" / "file")) == kept
    assert os.getxattr(model / "v0" / "file", f"user.name-{kept - 1}") == b"value"


def test_offsets_beyond_any_file_are_refused(model: Path, job: Path) -> None:
    far = 1 << 62
    fd = os.open(job / "file", os.O_RDWR | os.O_CREAT)
    try:
        os.write(fd, b"data")
        with fails(errno.EFBIG, errno.EINVAL):
            os.pwrite(fd, b"x", far)
        assert os.pread(fd, 10, far) == b""
        with fails(errno.EFBIG, errno.EINVAL):
            os.ftruncate(fd, far)
        with fails(errno.EINVAL, errno.EFBIG):
            os.pwrite(fd, b"x", (1 << 63) - 1)
        assert os.fstat(fd).st_size == 4
    finally:
        os.close(fd)
    with fails(errno.EFBIG, errno.EINVAL):
        os.truncate(job / "file", far)
    finish(job)
    fd = os.open(model / "v0" / "file", os.O_RDONLY)
    try:
        assert os.pread(fd, 10, far) == b""
        assert os.pread(fd, 10, 0) == b"data"
    finally:
        os.close(fd)
    fd = os.open(control(model / "v0", "status"), os.O_RDONLY)
    try:
        assert os.pread(fd, 10, far) == b""
    finally:
        os.close(fd)


def test_a_large_directory_takes_bounded_memory(shared_mount: MountedVolume, model: Path, job: Path) -> None:
    count = thorough_or(1_000_000, 3_000)

    def make(_child: Child) -> None:
        directory = os.open(job, os.O_RDONLY | os.O_DIRECTORY)
        for number in range(count):
            os.mknod(f"entry-{number}", 0o600, dir_fd=directory)

    with takes_at_most(shared_mount, count * 1500 + 32 * MIB):
        with Child(make) as child:
            child.value(3600)
        assert sum(1 for _ in os.scandir(job)) == count
        if THOROUGH:
            return
        assert finish(job)["version"] == "v0"
        assert sum(1 for _ in os.scandir(model / "v0")) == count


def test_open_listings_take_bounded_memory(shared_mount: MountedVolume, model: Path, open_job: Path) -> None:
    for number in range(2000):
        os.mknod(open_job / f"entry-{number}", 0o600)

    def hold(child: Child) -> None:
        for _ in range(100):
            fd = os.open(open_job, os.O_RDONLY)
            with os.scandir(fd) as entries:
                next(entries)
        child.say()
        child.pause()

    with takes_at_most(shared_mount, 64 * MIB), Child(hold, uid=ALICE) as child:
        child.heard()
        serves(shared_mount, model, "beside them")
        child.go()
        child.value()


def test_ten_thousand_levels_take_bounded_memory(shared_mount: MountedVolume, model: Path, job: Path) -> None:
    levels = thorough_or(10_000, 1_500)

    def make(_child: Child) -> None:
        os.chdir(job)
        go_down(levels)
        Path("file").write_text("deep")

    with takes_at_most(shared_mount, levels * 4096 + 32 * MIB):
        with Child(make) as child:
            child.value(600)
        assert show_json(job, "status")["files"] == 1
        finish(job)

    def look(_child: Child) -> Any:
        os.chdir(model / "v0")
        for _ in range(levels):
            os.chdir("d")
        return Path("file").read_text()

    with Child(look) as child:
        assert child.value(600) == "deep"
    assert ask(model / "v0", "finish", "deep").endswith("}\n")


# ---- the log ------------------------------------------------------------------------------------------


def test_reading_damaged_files_does_not_fill_the_log(shared_mount: MountedVolume, job: Path) -> None:
    missing = {"path": "missing", "uri": "file:///nowhere/at/all", "size": 4, "checksum": ""}
    command(job, "references", json.dumps(missing))
    for _ in range(100):
        with fails(errno.EIO):
            (job / "missing").read_bytes()
    assert shared_mount.log().count("file:///nowhere/at/all") == 1
    assert show_json(job, "status")["reference_errors"]
