"""Who holds a volume, seen by others: daemons, those who work directly, the dead and the far away."""

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
def test_a_second_daemon_is_refused_by_the_name_of_the_first(mounted: MountedVolume) -> None:
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
def test_the_lock_of_a_killed_daemon_is_free(mounted: MountedVolume) -> None:
    kill_daemon(mounted)
    with open_client(mounted.volume) as client:
        put(client, b"job", "direct", b"written without a mount")
    mounted.mount_again()
    path = mounted.point / NAME / "pending" / "job" / "direct"
    assert path.read_bytes() == b"written without a mount"


@pytest.mark.fuse
def test_a_dead_owner_is_not_blamed_for_who_is_there_now(mounted: MountedVolume) -> None:
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
def test_a_lock_file_that_tells_of_others_keeps_nobody_out(mounted: MountedVolume, whose: str) -> None:
    """The kernel's lock is the truth: a host that is gone, or a pid that is another process's, has none."""
    must("umount", mounted.point)
    host = "elsewhere" if whose == "another host's" else owners.this_process().host
    owner = {"pid": os.getpid(), "host": host, "mountpoint": "/mnt/art", "ticks": 1, "boot": ""}
    (mounted.volume / "locks" / "mount").write_text(json.dumps(owner))
    with open_client(mounted.volume) as client:
        assert client.collections() == []
    mounted.mount_again()
    assert mounted.answers()


@pytest.mark.fuse
def test_who_works_directly_keeps_a_daemon_out_and_the_other_way_round(mounted: MountedVolume) -> None:
    must("umount", mounted.point)
    with open_client(mounted.volume) as client:
        client.new(NAME, b"job")
        with client.open_tree(NAME, b"job"):
            assert "is in use by another process" in artfs("mount", mounted.volume, mounted.point).stderr
        mounted.mount_again()
        with pytest.raises(VolumeInUse, match=f"process {mounted.pid} on .*, mounted at {mounted.point}"):
            client.finish(NAME, b"job")
        assert not client.is_current()


def test_a_killed_finish_is_gone_on_with_by_another_process(volume: Path) -> None:
    """Whoever was killed with the lock of an id has lost it."""
    with Volume.open(volume) as opened:
        opened.catalog.create(NAME)
        Case(opened).start(b"job", small)
    with paused("objects:sync", volume, "finish", f"{NAME}/job") as victim:
        victim.send_signal(signal.SIGKILL)
        victim.wait()
        with open_client(volume) as client:
            assert client.finish(NAME, b"job")["version"] == "v0"


def put(client: Client, pending: bytes, path: str, data: bytes) -> None:
    """Brings one file into an id, which others may have started."""
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
    """All files are there, and each finish gets the one version."""
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


def test_a_killed_run_leaves_no_temp_for_ever(volume: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it was writing when it joined is swept like any other temp."""
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
