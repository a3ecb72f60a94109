"""Killed processes: a command that finishes, and the daemon of a mount."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from artfs.errors import ArtfsError, DraftNotFoundError, ReadOnly
from artfs.seal.seal import Request
from artfs.volume.volume import Volume
from tests.conformance.helpers import eventually
from tests.conformance.processes import Child
from tests.crash.harness import SCENARIOS, Case, prepared
from tests.mount.control import command, finish, show_json, snapshot
from tests.mount.mounting import MountedVolume, is_alive, mounted_volume, must

VICTIM = Path(__file__).with_name("victim.py")
SEAL = SCENARIOS["seal with files that are stored"]

# In the order in which a finish with aliases reaches them.
LABELS = [
    "objects:put",
    "seal:mark:fsync",
    "seal:mark:sync-dir",
    "objects:link",
    "2*objects:link",
    "objects:sync",
    "seal:commit",
    "commit:rename",
    "commit:sync-dir",
    "alias:rename",
    "2*alias:rename",
    "finished-id:rename",
    "seal:drop:rename",
    "seal:drop:sync-dir",
]
COMMITTED = LABELS.index("commit:sync-dir")


def start_victim(how: str, label: str, *arguments: str | Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, VICTIM, how, label, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


@contextlib.contextmanager
def paused(label: str, volume: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A command that is paused before a durable step."""
    victim = start_victim("pause", label, "--volume", volume, *arguments)
    try:
        assert victim.stdout is not None
        assert victim.stdout.readline() == "reached\n"
        yield victim
    finally:
        victim.kill()
        victim.communicate()


@pytest.mark.parametrize("label", LABELS)
def test_a_killed_finish_is_undone_or_completed(tmp_path: Path, label: str) -> None:
    path = tmp_path / "volume"
    with prepared(path, SEAL) as case:
        old = case.state()
    with paused(label, path, "finish", "model/job", "best", "newest"), Volume.open(path) as volume:
        volume.recover()  # must not touch the living finish
    with Volume.open(path) as volume:
        volume.recover()
        case = Case(volume)
        state = case.state()
        if LABELS.index(label) < COMMITTED:
            assert state == old
        else:
            assert state.aliases == {"best": "v1", "newest": "v1"}
            assert state.ids[b"job"] == "v1"
            assert state.pending == {}
            assert state.versions["v1"][0] == old.pending[b"job"][0]
        case.check_sound()
        if LABELS.index(label) % 2:
            for name in state.pending:
                case.write_to_all(name)
            case.check_sound()
        case.finish_all()
        assert case.finish(b"job").version == "v1"
        case.check_sound()


@pytest.mark.parametrize("label", ["objects:put", "seal:commit", "alias:rename", "seal:drop:sync-dir"])
def test_two_processes_finish_one_id_as_one_version(tmp_path: Path, label: str) -> None:
    path = tmp_path / "volume"
    with prepared(path, SEAL) as case:
        old = case.state()
    answers: list[str] = []
    command_line = ("finish", "model/job", "best", "newest", "--json")
    with paused(label, path, *command_line) as victim, Volume.open(path) as volume:

        def finish_too() -> None:
            request = Request(["second"], wait=30)
            answers.append(volume.finish(volume.catalog.collection("model"), b"job", request).version)

        second = threading.Thread(target=finish_too)
        second.start()
        second.join(0.2)
        assert second.is_alive() or label == "seal:drop:sync-dir"
        output, _ = victim.communicate("\n", timeout=60)
        second.join(60)
        assert json.loads(output)["version"] == "v1"
        assert answers == ["v1"]
        state = Case(volume).state()
        assert state.versions.keys() == {"v0", "v1"}
        assert state.versions["v1"][0] == old.pending[b"job"][0]
        assert state.aliases == {"best": "v1", "newest": "v1", "second": "v1"}
        assert state.pending == {}


def test_a_waiting_finish_gets_the_version_of_another_process(tmp_path: Path) -> None:
    path = tmp_path / "volume"
    with prepared(path, SEAL) as case:
        pending_version = case.volume.trees.get("model", b"job").pending_version
        pending_version.runs.join("run")
        answers: list[str] = []

        def wait() -> None:
            request = Request(["second"], wait=30)
            answers.append(case.volume.finish(case.collection, b"job", request).version)

        second = threading.Thread(target=wait)
        second.start()
        second.join(0.2)
        must("--volume", path, "finish", "model/job", "--force")
        second.join(60)
        assert answers == ["v1"]
        assert case.state().aliases == {"best": "v0", "second": "v1"}


@pytest.mark.parametrize("label", ["objects:put", "seal:commit", "seal:drop:rename"])
def test_a_discard_beside_a_finish_is_refused(tmp_path: Path, label: str) -> None:
    path = tmp_path / "volume"
    with prepared(path, SEAL):
        pass
    with paused(label, path, "finish", "model/job") as victim, Volume.open(path) as volume:
        collection = volume.catalog.collection("model")
        tree = volume.trees.get("model", b"job")
        with pytest.raises(ArtfsError, match=r"finish is under way|version already"):
            volume.discard(collection, tree)
        victim.communicate("\n", timeout=60)
        with collection.opened(b"pending") as pending_fd, pytest.raises((DraftNotFoundError, ReadOnly)):
            tree.discard(-1, pending_fd, only_empty=False, decided=lambda: False)
        Case(volume).check_sound()


def test_a_gc_waits_for_a_finish_of_another_process(tmp_path: Path) -> None:
    path = tmp_path / "volume"
    with prepared(path, SEAL) as case:
        old = case.state()
    with paused("seal:commit", path, "finish", "model/job") as victim, Volume.open(path) as volume:
        collector = threading.Thread(target=volume.maintenance.gc)
        collector.start()
        collector.join(0.2)
        assert collector.is_alive()
        victim.communicate("\n", timeout=60)
        collector.join(60)
        case = Case(volume)
        assert case.state().versions["v1"][0] == old.pending[b"job"][0]
        case.check_sound()


# Killed daemons


class Crashing(MountedVolume):
    """A mount whose daemon dies, which the next daemon may log."""

    def log(self) -> str:
        expected = ("the daemon of an earlier mount has died", "finishing the seal of")
        lines = super().log().splitlines()
        return "\n".join(line for line in lines if not any(words in line for words in expected))


@pytest.fixture
def mounted() -> Iterator[MountedVolume]:
    """A fresh volume, mounted; afterwards unmounted, checked and deleted."""
    with mounted_volume(kind=Crashing) as volume:
        yield volume


def kill_daemon(mounted: MountedVolume) -> None:
    assert mounted.pid is not None
    os.kill(mounted.pid, signal.SIGKILL)
    eventually(lambda: not is_alive(mounted.pid or 0))


@pytest.mark.fuse
def test_acknowledged_writes_survive_a_killed_daemon(mounted: MountedVolume) -> None:
    tree = mounted.point / "model" / "pending" / "job"
    tree.mkdir(parents=True)
    (tree / "done").write_text("done")
    before = snapshot(tree)[b"done"]

    def append(child: Child) -> None:
        fd = os.open(tree / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        for number in range(1_000_000):
            os.write(fd, b"%07d\n" % number)
            os.pwrite(3, b"%07d" % number, 0)
            if number == 100:
                child.say()

    answered = os.memfd_create("answered")
    if answered != 3:
        os.dup2(answered, 3)
    with Child(append) as child:
        child.heard()
        kill_daemon(mounted)
        assert child.outcome()["errno"]
    last = int(os.pread(3, 7, 0))
    assert last >= 100
    mounted.mount_again()
    lines = (tree / "log").read_text().splitlines()
    assert lines[: last + 1] == [f"{number:07}" for number in range(last + 1)]
    assert len(lines) <= last + 2  # the last write may be complete without its reply
    assert snapshot(tree)[b"done"] == before
    assert finish(tree, "best")["version"] == "v0"
    assert (mounted.point / "model" / "best" / "log").read_text().splitlines() == lines


def victim_mount(mounted: MountedVolume, label: str) -> subprocess.Popen[str]:
    """Serves the volume by a daemon that ends at a durable step."""
    must("umount", mounted.point)
    daemon = start_victim("kill", label, "mount", "--foreground", mounted.volume, mounted.point)
    eventually(mounted.answers)
    return daemon


def write_tree(tree: Path) -> None:
    for number in range(20):
        (tree / f"dir-{number % 3}").mkdir(exist_ok=True)
        (tree / f"dir-{number % 3}" / f"{number}").write_bytes(b"%d" % number * 1000)


@pytest.mark.fuse
@pytest.mark.parametrize("label", ["seal:mark:rename", "9*objects:link", "seal:commit", "alias:rename"])
def test_a_daemon_killed_in_a_finish_loses_nothing(mounted: MountedVolume, label: str) -> None:
    daemon = victim_mount(mounted, label)
    model = mounted.point / "model"
    tree = model / "pending" / "job"
    beside = model / "pending" / "beside"
    for pending in (tree, beside):
        pending.mkdir(parents=True)
        write_tree(pending)
    before = snapshot(tree)
    outcome = Child(lambda _child: command(tree, "finish", "best")).outcome()
    assert outcome["errno"], outcome
    daemon.communicate(timeout=60)
    mounted.mount_again()
    assert_same(snapshot(beside), before)
    if label == "alias:rename":
        assert os.readlink(tree) == "../v0"
    else:
        assert not tree.is_symlink()
        assert snapshot(tree) == before
        assert show_json(tree, "status")["state"] == "pending"
        # Writes to files that share an inode with a blob; the volume is checked in the end.
        (tree / "dir-0" / "0").write_bytes(b"other")
        (tree / "dir-0" / "0").write_bytes(b"0" * 1000)
        os.utime(tree / "dir-0" / "0", ns=(before[b"dir-0/0"].mtime,) * 2)
        assert finish(tree, "best")["version"] == "v0"
    assert os.readlink(model / "best") == "v0"
    assert_same(snapshot(model / "v0"), before)
    assert finish(beside)["version"] == "v0"


def assert_same(found: Mapping[bytes, object], wanted: Mapping[bytes, object]) -> None:
    assert {path: contents(node) for path, node in found.items()} == {
        path: contents(node) for path, node in wanted.items()
    }


def contents(node: object) -> Sequence[object]:
    return [getattr(node, name) for name in ("kind", "permissions", "uid", "gid", "content")]
