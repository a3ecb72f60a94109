"""Refusals of a mount: an errno, a line of text, and class and fields for programs that ask for them."""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import artfs
from artfs.client.interface import Client
from artfs.client.mounted.mounted_client import MountedClient
from artfs.model import refusals
from tests.conformance.helpers import fails
from tests.conformance.processes import NOBODY, in_child
from tests.mount.control import commit, control, show

pytestmark = pytest.mark.fuse

#: Calls that a user may not make on a collection of root's, by the text of the refusal.
DENIED: dict[str, Callable[[Client, str], object]] = {
    "set aliases of '{name}'": lambda client, name: client.alias(name, "v0", ["best"]),
    "remove aliases of '{name}'": lambda client, name: client.unalias(name, ["good"]),
    "tag {name}:v0": lambda client, name: client.tag(name, "v0", ["x"]),
    "change {name}:v0": lambda client, name: client.relabel(name, "v0", {"description": "x"}),
    "delete {name}:v0": lambda client, name: client.remove(name, "v0"),
    "describe '{name}'": lambda client, name: client.set_collection_description(name, "x"),
    "set the ttl of '{name}'": lambda client, name: client.set_collection_ttl(name, 1),
    "record that a run used {name}:v0": lambda client, name: client.record_use(name, "v0", "r1"),
    "start pending versions of '{name}'": lambda client, name: client.new(name, b"other"),
    "make collections here": lambda client, name: client.new(f"{name}-other"),
    "record the run 'r1' at the root of the mount": (
        lambda client, _name: client.record_run("r1", {"state": "running"})
    ),
    "join {name}/job": lambda client, name: client.join(name, b"job", "r1"),
    "set the base of {name}/job": lambda client, name: client.set_base(name, b"job", "v0"),
    "add references to {name}/job": lambda client, name: client.preview_references(
        name, b"job", b"x", "file:///etc/passwd"
    ),
    "finish {name}/job": lambda client, name: client.finish(name, b"job"),
    "discard {name}/job": lambda client, name: client.discard(name, b"job"),
}


@contextmanager
def commanding(path: Path) -> Iterator[int]:
    fd = os.open(path, os.O_RDWR)
    try:
        yield fd
    finally:
        os.close(fd)


def test_each_handle_has_its_own_refusal(model: Path, job: Path) -> None:
    commit(model, "done", {"file": "data"})
    with commanding(control(job, "base")) as one, commanding(control(job, "base")) as other:
        assert os.pread(one, 4096, refusals.OFFSET) == b""
        with fails(errno.ENOENT):
            os.write(one, b"v7\n")
        with fails(errno.EINVAL, errno.ENOENT):
            os.write(other, b"no:such:place\n")
        found = json.loads(os.pread(one, 4096, refusals.OFFSET))
        text = f"'{model.name}' has no version or alias 'v7'"
        assert found == {
            "error": "VersionNotFound",
            "text": text,
            "fields": {"collection": model.name, "version": "v7"},
        }
        # Reading the fields does not change the line of text.
        assert os.pread(one, 4096, 0).decode() == text + "\n"
        assert os.pread(one, 7, refusals.OFFSET + 2) == b'error": '[:7]
        assert json.loads(os.pread(other, 4096, refusals.OFFSET))["text"] != text
        os.write(one, b"v0\n")
        assert os.pread(one, 4096, refusals.OFFSET) == b""
    assert show(job, "error") == "ok\n"


def test_a_refused_read_raises_its_class(model: Path) -> None:
    commit(model, "done", {"file": "data"})
    client = MountedClient(model.parent)
    with pytest.raises(artfs.VersionNotFound):
        client.diff(model.name, "v0", "v1")
    client.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_permission_error_names_the_operation(shared_mnt: Path, model: Path, job: Path) -> None:
    commit(model, "done", {"file": "data"}, "good")

    def texts() -> dict[str, str]:
        client, found = MountedClient(shared_mnt), {}
        for what, call in DENIED.items():
            try:
                call(client, model.name)
            except PermissionError as error:
                found[what] = str(error)
            else:
                found[what] = "it was done"
        return found

    del job
    for what, refused in in_child(texts, uid=NOBODY).items():
        assert refused == f"[Errno {errno.EACCES}] cannot {what.format(name=model.name)}: permission denied"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_users_run_cannot_be_resumed(
    shared_mnt: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARTFS_VOLUME", str(shared_mnt))
    run = f"of-root-{model.name}"
    artfs.init(id=run).finish()
    mode = stat.S_IMODE(shared_mnt.stat().st_mode)
    shared_mnt.chmod(0o1777)

    def begin() -> str:
        with pytest.raises(PermissionError) as refused:
            artfs.init(id=run)
        return str(refused.value.strerror)

    try:
        assert in_child(begin, uid=NOBODY) == f"the run '{run}' belongs to another user: use another id"
    finally:
        shared_mnt.chmod(mode)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_finish_by_another_user_cannot_set_aliases(model: Path, job: Path) -> None:
    job.chmod(0o777)
    (job / "file").write_text("data")

    def finish() -> str:
        client = MountedClient(model.parent)
        with pytest.raises(PermissionError) as refused:
            client.finish(model.name, b"job", ["best"])
        return str(refused.value.strerror)

    why = f"cannot set aliases of '{model.name}': you may not write in its directory"
    assert in_child(finish, uid=NOBODY) == why
    assert show(job, "error") == why + "\n"
