"""What others see of a volume's owners: daemons, direct clients, dead processes and other hosts."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from artfs.client.interface import Client
from artfs.client.open import open_client
from artfs.client.transfer.sources import Sources
from artfs.client.transfer.tree_writer import TreeWriter, WritePolicy
from artfs.errors import AlreadyPending, VolumeInUse
from artfs.store import durable, owners
from artfs.volume.volume import Volume
from tests.conformance.processes import Child
from tests.crash.faults import crash
from tests.crash.harness import Case, small
from tests.crash.test_dying import Dying
from tests.crash.test_kill import kill_daemon, paused
from tests.mount.mounting import MountedVolume, artfs, mounted_volume, must

NAME = "model"


@pytest.fixture
def mounted() -> Iterator[MountedVolume]:
    with mounted_volume(kind=Dying) as volume:
        yield volume


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    path = tmp_path / "volume"
    Volume.init(path).close()
    return path


@pytest.mark.fuse
def test_a_second_daemon_is_refused_and_names_the_first(mounted: MountedVolume) -> None:
    other = mounted.base / "other"
    other.mkdir()
    for point in (other, mounted.point):
        done = artfs("mount", mounted.volume, point)
        assert done.returncode == 1
        assert f"is in use by process {mounted.pid} on " in done.stderr
        assert f"mounted at {mounted.point}" in done.stderr
    assert not os.path.ismount(other)
    assert mounted.answers()


@pytest.mark.fuse
def test_a_killed_daemon_releases_its_lock(mounted: MountedVolume) -> None:
    kill_daemon(mounted)
    with open_client(mounted.volume) as client:
        put(client, b"job", "direct", b"written without a mount")
    mounted.mount_again()
    path = mounted.point / NAME / "pending" / "job" / "direct"
    assert path.read_bytes() == b"written without a mount"


@pytest.mark.fuse
def test_a_refusal_does_not_name_a_dead_owner(mounted: MountedVolume) -> None:
    dead = mounted.pid
    kill_daemon(mounted)
    with Volume.open(mounted.volume) as volume, volume.layout.mount_lock.shared():
        done = artfs("mount", mounted.volume, mounted.point)
        assert done.returncode == 1
        assert f"process {dead}" not in done.stderr
        assert "is in use by another process" in done.stderr
    mounted.mount_again()


@pytest.mark.fuse
@pytest.mark.parametrize("whose", ["another host's", "another process's"])
def test_the_text_of_a_lock_file_locks_nothing(mounted: MountedVolume, whose: str) -> None:
    """Only the kernel's lock counts: a former host, or a process with a reused pid, has none."""
    must("umount", mounted.point)
    host = "elsewhere" if whose == "another host's" else owners.this_process().host
    owner = {"pid": os.getpid(), "host": host, "mountpoint": "/mnt/art", "ticks": 1, "boot": ""}
    (mounted.volume / "locks" / "mount").write_text(json.dumps(owner))
    with open_client(mounted.volume) as client:
        assert client.collections() == []
    mounted.mount_again()
    assert mounted.answers()


@pytest.mark.fuse
def test_a_direct_client_and_a_daemon_exclude_each_other(mounted: MountedVolume) -> None:
    must("umount", mounted.point)
    with open_client(mounted.volume) as client:
        client.new(NAME, b"job")
        with client.open_tree(NAME, b"job"):
            assert "is in use by another process" in artfs("mount", mounted.volume, mounted.point).stderr
        mounted.mount_again()
        with pytest.raises(VolumeInUse, match=f"process {mounted.pid} on .*, mounted at {mounted.point}"):
            client.finish(NAME, b"job")
        assert not client.is_current()


def test_another_process_completes_a_killed_finish(volume: Path) -> None:
    with Volume.open(volume) as opened:
        opened.catalog.create(NAME)
        Case(opened).start(b"job", small)
    with paused("objects:sync", volume, "finish", f"{NAME}/job") as victim:
        victim.send_signal(signal.SIGKILL)
        victim.wait()
        with open_client(volume) as client:
            assert client.finish(NAME, b"job")["version"] == "v0"


def put(client: Client, pending: bytes, path: str, data: bytes) -> None:
    """Adds one file to an id, which may exist already."""
    try:
        client.new(NAME, pending)
    except AlreadyPending:
        pass
    source = os.memfd_create("source")
    os.write(source, data)
    sources = Sources([b"/proc/self/fd/%d" % source], at=[os.fsencode(path)])
    with client.open_tree(NAME, pending) as tree:
        sources.copy(TreeWriter(tree, WritePolicy(replace=True)))
    os.close(source)


def test_several_processes_fill_and_finish_one_id(volume: Path) -> None:
    """All files are in it, and each finish returns the one version."""
    with Volume.open(volume) as opened:
        opened.catalog.create(NAME)

    def work(number: int, child: Child) -> str:
        with open_client(volume) as client:
            child.say()
            child.pause()
            for index in range(8):
                put(client, b"job", f"{number}-{index}", b"%d" % (number * 100 + index))
            child.say()
            child.pause()
            return str(client.finish(NAME, b"job", [f"from-{number}"], wait=30)["version"])

    children = [Child(lambda child, number=number: work(number, child)) for number in range(4)]  # type: ignore[misc]
    for _ in range(2):
        for child in children:
            child.heard()
        for child in children:
            child.go()
    assert [child.value() for child in children] == ["v0"] * 4
    for child in children:
        child.__exit__(None, None, None)
    with Volume.open(volume) as opened:
        case = Case(opened)
        tree = case.version("v0")
        wanted = {b"%d-%d" % (n, i): b"%d" % (n * 100 + i) for n in range(4) for i in range(8)}
        assert {path: entry.content for path, entry in tree.items() if path} == wanted
        assert case.collection.aliases() == {f"from-{number}": "v0" for number in range(4)}
        case.check_sound()


def test_gc_removes_the_temp_of_a_killed_run(volume: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(durable, "STALE_AFTER_SECONDS", -1.0)
    with Volume.open(volume) as opened:
        opened.catalog.create(NAME)
        tree = Case(opened).start(b"job", small)
        assert crash(2, lambda: tree.pending_version.runs.join("run")) == "runs:rename"
        runs = volume / "collections" / NAME / "pending" / "job" / "runs"
        assert len(os.listdir(runs)) == 1
        opened.maintenance.gc()
        assert os.listdir(runs) == []
        assert tree.pending_version.runs.names() == []
