"""What killed processes leave: drafts, collections, runs and joins. A living process never counts as dead."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import artfs as wandb
from artfs.client.mounted import mount_paths
from artfs.client.open import open_client
from artfs.errors import Busy, RunsJoined
from tests.conformance.helpers import eventually
from tests.mount.mounting import must
from tests.sdk.conftest import Place, draft_of

Gc = Callable[..., dict[str, Any]]

DRAFT = """
artifact = artfs.Artifact(name, "dataset")
with artifact.new_file("a") as file:
    file.write("a")
"""


@contextmanager
def victim(name: str, code: str) -> Iterator[subprocess.Popen[str]]:
    """A process that has run some code, and waits until it is killed."""
    text = (
        f"import os, sys, artfs\nname = sys.argv[1]\n{code}\nprint('there', flush=True)\nsys.stdin.read()\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", text, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        assert child.stdout.readline() == "there\n"
        yield child
    finally:
        if child.poll() is None:
            child.send_signal(signal.SIGCONT)
        child.stdin.close()
        child.wait(60)
        child.stdout.close()


def kill(child: subprocess.Popen[str]) -> None:
    child.kill()
    child.wait(60)


@pytest.fixture
def gc_of(place: Place) -> Gc:
    """Runs `artfs gc`; skips the test where the volume can't be seen."""
    if not (place.volume / "artfs.json").exists():
        pytest.skip("gc works on the volume, which can't be seen here")

    def run(*words: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(must("--volume", place.path, "gc", "--json", *words))
        return found

    return run


def drafts(place: Place, name: str) -> list[bytes]:
    with open_client(place.path) as client:
        return client.pending_names(name)


def collections(place: Place) -> list[str]:
    with open_client(place.path) as client:
        return [str(found["name"]) for found in client.collections()]


def test_gc_discards_the_draft_of_a_killed_process(place: Place, name: str, gc_of: Gc) -> None:
    with victim(name, f"run = artfs.init(id=name)\n{DRAFT}") as child:
        (draft,) = drafts(place, name)
        assert not any(gc_of()["discarded"])
        assert drafts(place, name) == [draft]
        assert wandb.Api().run(name).state == "running"
        kill(child)
    with open_client(place.path) as client:
        status = client.pending_status(name, draft)
        assert status["abandoned"]
        assert client.collection(name)["abandoned"] == 1
        assert client.volume_status()["abandoned"] == 1
    shown = {"collection": name, "distributed_id": draft.decode()}
    listed = must("--volume", place.path, "pending", name)
    assert listed.split("\t")[1] == "abandoned"
    assert wandb.Api().run(name).state == "crashed"
    found = gc_of("--dry-run")
    assert (found["discarded"], found["crashed"]) == ([shown], [name])
    assert drafts(place, name) == [draft]
    found = gc_of()
    assert (found["discarded"], found["crashed"]) == ([shown], [name])
    assert name not in collections(place)
    run = wandb.Api().run(name)
    assert run.state == "crashed"
    assert run.ended_at
    assert gc_of()["crashed"] == []


@pytest.mark.parametrize("what", ["description", "tags"])
def test_gc_keeps_a_collection_that_has_a_description_or_tags(
    place: Place, name: str, gc_of: Gc, what: str
) -> None:
    with victim(name, DRAFT) as child:
        with open_client(place.path) as client:
            if what == "tags":
                client.set_collection_tags(name, ["ours"])
            else:
                client.set_collection_description(name, "ours")
        kill(child)
    assert len(gc_of()["discarded"]) == 1
    assert name in collections(place)
    assert drafts(place, name) == []


def test_gc_keeps_a_collection_that_existed_before(place: Place, name: str, gc_of: Gc) -> None:
    with open_client(place.path) as client:
        client.new(name, b"other", kind="dataset")
        client.discard(name, b"other")
    with victim(name, DRAFT) as child:
        kill(child)
    assert len(gc_of()["discarded"]) == 1
    assert name in collections(place)


def test_a_dropped_artifact_removes_the_collection_that_it_made(place: Place, name: str) -> None:
    artifact = draft_of(name, a="a")
    assert name in collections(place)
    del artifact
    eventually(lambda: name not in collections(place), what="the collection is gone")
    again = draft_of(name, a="a")
    again.save()
    assert again.version == "v0"


def test_gc_keeps_distributed_ids(place: Place, name: str, gc_of: Gc) -> None:
    code = """
with artfs.init(id=name) as run:
    artifact = artfs.Artifact(name, "dataset", distributed_id="job-42")
    with artifact.new_file("a"):
        pass
    like = artfs.Artifact(name, "dataset", distributed_id="sdk-0123456789abcdef")
    with like.new_file("a"):
        pass
"""
    with victim(name, code) as child:
        kill(child)
    assert gc_of()["discarded"] == []
    assert drafts(place, name) == [b"job-42", b"sdk-0123456789abcdef"]
    with open_client(place.path) as client:
        for draft in drafts(place, name):
            assert client.pending_status(name, draft)["abandoned"] is False
            client.discard(name, draft)


def test_a_stopped_process_is_alive(place: Place, name: str, gc_of: Gc) -> None:
    with victim(name, f"{DRAFT}\nrun = artfs.init(id=name)") as child:
        child.send_signal(signal.SIGSTOP)
        assert gc_of()["discarded"] == []
        assert wandb.Api().run(name).state == "running"
        child.send_signal(signal.SIGCONT)
    assert wandb.Api().run(name).state == "finished"
    assert name not in collections(place)


def test_a_fork_that_outlives_its_parent_keeps_the_draft(place: Place, name: str, gc_of: Gc) -> None:
    code = f"""
{DRAFT}
gate, go = os.pipe()
child = os.fork()
if child == 0:
    with artifact.new_file("b"):
        pass
    os.write(go, b"x")
    print("there", flush=True)
    sys.stdin.read()
    artifact.save()
    os._exit(0)
os.read(gate, 1)
os._exit(0)
"""
    with victim(name, code) as parent:
        parent.wait(60)
        assert gc_of()["discarded"] == []
        assert parent.stdin is not None
        parent.stdin.close()
        eventually(lambda: wandb.Api().artifact_exists(name), what="the fork has saved it")
    assert wandb.Api().artifact(f"{name}:v0").file_count == 2


@pytest.mark.parametrize("how", ["another start", "another boot", "another host", "another space"])
def test_an_owner_is_known_by_host_boot_and_start(place: Place, name: str, gc_of: Gc, how: str) -> None:
    with victim(name, DRAFT) as child:
        (draft,) = drafts(place, name)
        path = place.volume / "collections" / name / "pending" / os.fsdecode(draft) / "owners.json"
        owners = json.loads(path.read_bytes())
        (process,) = owners["processes"]
        if how == "another start":  # another process has the number
            process["ticks"] -= 1
        elif how == "another boot":
            process["boot"] = "00000000-0000-4000-8000-000000000000"
        elif how == "another host":
            process["host"], process["ticks"] = "elsewhere", 1
        else:
            process["space"], process["ticks"] = "pid:[1] time:[1]", 1
        path.write_text(json.dumps(owners))
        dead = how == "another start" or (how == "another boot" and "machine" in process)
        assert len(gc_of()["discarded"]) == dead
        if dead:
            kill(child)
            assert name not in collections(place)


def test_a_draft_that_ends_meanwhile_is_not_abandoned(
    place: Place, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ended(*_: object) -> None:
        raise wandb.DraftNotFoundError(name, b"sdk-0123456789abcdef")

    draft = draft_of(name, a="a")
    with open_client(place.path) as client:
        monkeypatch.setattr(mount_paths, "read_document", ended)
        assert client.abandoned_ids(name) == []
    del draft


@pytest.mark.ways(2)
def test_gc_beside_processes_that_start_drafts(place: Place, name: str, gc_of: Gc) -> None:
    code = """
import sys, artfs
for number in range(12):
    artifact = artfs.Artifact(sys.argv[1], "dataset")
    with artifact.new_file("a") as file:
        file.write(sys.argv[2])
    if number % 3:
        del artifact
    else:
        with artifact.new_file(str(number)):
            pass
        artifact.save()
        assert artifact.version
"""
    names = [f"{name}-{number}" for number in range(2)]
    children = [subprocess.Popen([sys.executable, "-c", code, which, who]) for which in names for who in "ab"]
    while any(child.poll() is None for child in children):
        assert gc_of()["discarded"] == []
    assert [child.returncode for child in children] == [0] * 4
    for which in names:
        assert wandb.Api().artifact(which).file_count == 2


def test_a_finish_names_joined_processes_that_were_killed(place: Place, name: str) -> None:
    code = """
from artfs.client.open import open_client
with open_client(os.environ["ARTFS_VOLUME"]) as access:
    access.new(name, b"job", kind="dataset")
    access.join(name, b"job", "worker")
"""
    with victim(name, code) as child, open_client(place.path) as client:
        with pytest.raises(Busy, match=r"have joined and not left: worker$"):
            client.finish(name, b"job", wait=0)
        kill(child)
        with pytest.raises(Busy, match=r"killed: worker of process \d+ on .*--force"):
            client.finish(name, b"job", wait=0)
    # The same run joins in another process, and leaves.
    again = (
        code + 'with open_client(os.environ["ARTFS_VOLUME"]) as access: access.leave(name, b"job", "worker")'
    )
    again = again.replace('access.new(name, b"job", kind="dataset")', "pass")
    with victim(name, again):
        pass
    with open_client(place.path) as client:
        assert client.finish(name, b"job", wait=0)["version"] == "v0"


def test_each_process_of_a_run_joins_and_ends_by_itself(
    place: Place, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    code = """
from artfs.client.open import open_client
run = artfs.init(id=name)
access = open_client(os.environ["ARTFS_VOLUME"])
access.join(name, b"job", run.id)
"""
    with open_client(place.path) as client:
        client.new(name, b"job", kind="dataset")
        with victim(name, code) as child:
            with wandb.init(id=name):
                assert f"goes on in another process, too, as one run: {child.pid} on" in caplog.text
                client.join(name, b"job", name)
                client.leave(name, b"job", name)
            assert wandb.Api().run(name).state == "running"
            with pytest.raises(Busy, match=f"have joined and not left: {name}$"):
                client.finish(name, b"job", wait=0)
            kill(child)
        assert wandb.Api().run(name).state == "crashed"
        with pytest.raises(Busy, match="killed"):
            client.finish(name, b"job", wait=0)
        client.finish(name, b"job", force=True)


def test_two_processes_of_one_run_conflict_over_a_path(place: Place, name: str) -> None:
    code = """
run = artfs.init(id=name)
artifact = artfs.Artifact(name, "dataset")
with artifact.new_file("same") as file:
    file.write("theirs")
run.upsert_artifact(artifact, distributed_id="job")
"""
    with victim(name, code), wandb.init(id=name) as run:
        artifact = draft_of(name, same="ours")
        with pytest.raises(wandb.PathConflictError):
            run.upsert_artifact(artifact, distributed_id="job")
    with wandb.init(id=name) as run:  # the run is resumed by one process
        run.upsert_artifact(artifact, distributed_id="job")
        run.finish_artifact(wandb.Artifact(name, "dataset"), distributed_id="job")
    with wandb.Api().artifact(f"{name}:v0").open("same") as file:
        assert file.read() == b"ours"


def test_the_refusal_survives_pickling() -> None:
    import pickle

    error = pickle.loads(pickle.dumps(RunsJoined(["a"], ["a of process 1 on h"])))
    assert (error.runs, error.killed) == (("a",), ("a of process 1 on h",))
