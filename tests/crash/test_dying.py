"""Daemons that are killed or stopped while callers wait for them, and what commands report."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from artfs.client.open import open_client
from artfs.errors import VolumeInUse
from tests.conformance.helpers import eventually
from tests.conformance.processes import Child
from tests.crash.test_kill import Crashing, kill_daemon, start_victim, write_tree
from tests.mount.control import command, finish, finish_child, snapshot
from tests.mount.mounting import MountedVolume, artfs, daemon_of, is_alive, mounted_volume, must

pytestmark = pytest.mark.fuse

DEAD = (errno.ENOTCONN, errno.ECONNABORTED, errno.EIO)


class Dying(Crashing):
    def log(self) -> str:
        lines = super().log().splitlines()
        return "\n".join(line for line in lines if "the daemon of this mount was killed" not in line)


@pytest.fixture
def mounted() -> Iterator[MountedVolume]:
    with mounted_volume(kind=Dying) as volume:
        yield volume


# A killed daemon that hangs


@contextlib.contextmanager
def hanging(mounted: MountedVolume) -> Iterator[list[Child]]:
    """Kills a daemon while its notice of a removed name waits for a directory's lock.

    A caller who waits for the daemon holds that lock, so neither ends by itself.
    """
    must("umount", mounted.point)
    labels = "seal:drop:sync-dir+2*start:draft:write"
    daemon = start_victim("pause", labels, "mount", "--foreground", mounted.volume, mounted.point)
    assert daemon.stdout is not None
    assert daemon.stdin is not None
    eventually(mounted.answers)
    pending = mounted.point / "model" / "pending"
    (pending / "job").mkdir(parents=True)
    write_tree(pending / "job")
    with finish_child(pending / "job", "best") as finisher:
        assert daemon.stdout.readline() == "reached\n"
        with Child(lambda _child: (pending / "other").mkdir()) as maker:
            try:
                assert daemon.stdout.readline() == "hangs\n"
                daemon.stdin.write("\n")
                daemon.stdin.flush()
                eventually(lambda: notice_hangs(daemon.pid), what="the notice waits for the lock")
                daemon.kill()
                eventually(lambda: states(daemon.pid)[0] == "Z", what="the main thread is dead")
                # The first listing of threads may be incomplete while one of them exits.
                eventually(lambda: notice_hangs(daemon.pid), what="the daemon hangs, although killed")
                yield [finisher, maker]
            except BaseException:  # else the with blocks would wait forever
                daemon.kill()
                subprocess.run(["umount", "-f", "-l", mounted.point], capture_output=True, check=False)
                raise
            finally:
                daemon.communicate(timeout=60)


def notice_hangs(pid: int) -> bool:
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if (task / "wchan").read_text() == "fuse_reverse_inval_entry":
                return True
    return False


def states(pid: int) -> list[str]:
    """The state of each thread, the main one's first."""
    found = []
    # Thread ids wrap around: the main thread's need not be the lowest.
    for task in sorted(Path(f"/proc/{pid}/task").iterdir(), key=lambda path: path.name != str(pid)):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found.append((task / "stat").read_text().rpartition(")")[2].split()[0])
    return found


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can end a FUSE connection by force")
@pytest.mark.parametrize("how", ["umount", "mount"])
def test_umount_and_mount_end_a_killed_daemon_that_hangs(mounted: MountedVolume, how: str) -> None:
    with hanging(mounted) as waiting:
        begun = time.monotonic()
        if how == "umount":
            must("umount", mounted.point)
        mounted.mount_again()
        assert time.monotonic() - begun < 30
        for child in waiting:
            assert child.outcome()["errno"] in DEAD
    pending = mounted.point / "model" / "pending"
    assert os.readlink(pending / "job") == "../v0"
    assert os.readlink(mounted.point / "model" / "best") == "v0"
    assert os.listdir(pending) == []
    (pending / "other").mkdir()
    assert finish(pending / "other")["version"] == "v1"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can end a FUSE connection by force")
def test_direct_access_reports_a_hanging_daemon(mounted: MountedVolume) -> None:
    with hanging(mounted):
        with pytest.raises(VolumeInUse, match=r"killed and hangs: run 'artfs umount'"):
            open_client(mounted.volume)
        must("umount", mounted.point)
        with open_client(mounted.volume) as client:
            assert [one["name"] for one in client.collections()] == ["model"]
    mounted.mount_again()


# Stopped daemons


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        eventually(lambda: states(pid)[0] == "T")
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def test_callers_wait_until_a_stopped_daemon_continues(mounted: MountedVolume) -> None:
    tree = mounted.point / "model" / "pending" / "job"
    tree.mkdir(parents=True)
    write_tree(tree)
    assert mounted.pid is not None

    def write(child: Child) -> int:
        fd = os.open(tree / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        child.say()
        child.pause()
        os.write(fd, b"before")
        child.say()
        os.close(fd)
        return 1

    with Child(write) as writer:
        writer.heard()
        with stopped(mounted.pid):
            writer.go()
            eventually(lambda: states(writer.pid)[0] in "SD" and waits(writer.pid))
            with finish_child(tree, "best --wait=30") as finisher:
                eventually(lambda: waits(finisher.pid))
                assert is_alive(finisher.pid)
                assert is_alive(writer.pid)
                os.kill(mounted.pid, signal.SIGCONT)
                writer.heard()
                assert writer.value() == 1
                assert finisher.value()["version"] == "v0"
    assert (mounted.point / "model" / "best" / "log").read_bytes() == b"before"


def waits(pid: int) -> bool:
    """Whether a process waits in the kernel for a reply to a request; true if this cannot be read."""
    try:
        return "request_wait_answer" in Path(f"/proc/{pid}/wchan").read_text()
    except OSError:
        return True


def test_umount_reports_a_stopped_daemon(mounted: MountedVolume) -> None:
    assert mounted.pid is not None
    with stopped(mounted.pid):
        done = artfs("umount", mounted.point, timeout=30)
        assert done.returncode == 1
        assert f"process {mounted.pid}, is stopped" in done.stderr
        assert f"kill -CONT {mounted.pid}" in done.stderr
        assert os.path.ismount(mounted.point)
    assert mounted.answers()


def test_killing_a_stopped_daemon_fails_its_waiting_finish(mounted: MountedVolume) -> None:
    tree = mounted.point / "model" / "pending" / "job"
    tree.mkdir(parents=True)
    write_tree(tree)
    before = snapshot(tree)
    assert mounted.pid is not None
    with stopped(mounted.pid), Child(lambda _child: command(tree, "finish", "best")) as finisher:
        eventually(lambda: waits(finisher.pid))
        kill_daemon(mounted)
        assert finisher.outcome()["errno"] in DEAD
    mounted.mount_again()
    assert snapshot(tree) == before
    assert finish(tree, "best")["version"] == "v0"


# Interrupted finishes


@pytest.mark.parametrize("label", ["2*objects:link", "seal:commit", "alias:rename"])
def test_a_finish_completes_without_its_caller(mounted: MountedVolume, label: str) -> None:
    must("umount", mounted.point)
    daemon = start_victim("pause", label, "mount", "--foreground", mounted.volume, mounted.point)
    assert daemon.stdout is not None
    eventually(mounted.answers)
    tree = mounted.point / "model" / "pending" / "job"
    tree.mkdir(parents=True)
    write_tree(tree)
    before = snapshot(tree)
    line = f"echo best > '{tree}/.artfs/finish'"
    shell = subprocess.Popen(["sh", "-c", line], stderr=subprocess.DEVNULL)
    assert daemon.stdout.readline() == "reached\n"
    shell.kill()
    _go_on(daemon)
    shell.wait(timeout=30)
    eventually(tree.is_symlink)
    assert finish(tree)["version"] == "v0"
    assert os.readlink(mounted.point / "model" / "best") == "v0"
    assert snapshot(mounted.point / "model" / "v0").keys() == before.keys()
    mounted.pid = daemon_of(mounted.volume)
    must("umount", mounted.point)
    daemon.communicate(timeout=60)
    mounted.mount_again()


def _go_on(daemon: subprocess.Popen[str]) -> None:
    assert daemon.stdin is not None
    daemon.stdin.write("\n")
    daemon.stdin.flush()
