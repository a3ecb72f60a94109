"""Ordinary Unix permissions: who may write in a directory may do what that directory stands for."""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.helpers import fails
from tests.conformance.processes import NOBODY, in_child
from tests.mount.control import command, commit, control, finish, show, show_json

pytestmark = [
    pytest.mark.fuse,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user"),
]

REFUSED = (errno.EACCES, errno.EPERM)


def as_nobody(function: Callable[[], Any]) -> Any:
    """Runs a function as a user without any right."""
    return in_child(function, uid=NOBODY)


def refused_as_nobody(function: Callable[[], Any]) -> None:
    """Sees to it that a user without rights may not do something."""
    with fails(*REFUSED):
        as_nobody(function)


@pytest.fixture
def version(model: Path) -> Path:
    """A version that anybody may read and root has made."""
    return commit(model, "done", {"file": "data", "dir/below": "below"})


def test_everybody_may_look(shared_mnt: Path, model: Path, job: Path, version: Path) -> None:
    (job / "file").write_text("pending")

    def look() -> None:
        assert model.name in os.listdir(shared_mnt)
        assert (job / "file").read_text() == "pending"
        assert (version / "dir" / "below").read_text() == "below"
        assert (model / "latest" / "file").read_text() == "data"
        assert show_json(job, "status")["state"] == "pending"
        assert show_json(version, "status")["version"] == "v0"
        assert "dir/below" in show_json(version, "manifest.json")
        assert "pending" in show(shared_mnt, "README")
        show(job, "finish")
        show(job, "error")
        show(model, "versions")

    as_nobody(look)


def test_who_may_not_write_in_a_tree_may_not_command_it(model: Path, job: Path) -> None:
    (job / "file").write_text("data")
    refused_as_nobody(lambda: finish(job))
    refused_as_nobody(lambda: finish(job, "--force"))
    for name in ("finish", "discard", "description", "tags", "aliases"):
        refused_as_nobody(partial(command, job, name, "word"))
    refused_as_nobody(lambda: command(job, "metadata.json", "{}"))
    refused_as_nobody(lambda: command(job, "runs", "+me"))
    assert os.listdir(model / "pending") == ["job"]
    assert show(job, "description").strip() == ""
    assert show_json(job, "status")["runs"] == []


def test_who_may_write_in_a_tree_may_finish_it(model: Path, job: Path) -> None:
    os.chmod(job, 0o777)

    def work() -> str:
        (job / "file").write_text("data")
        (job / "dir").mkdir()
        command(job, "description", "by nobody")
        version = finish(job)["version"]
        assert isinstance(version, str)
        return version

    assert as_nobody(work) == "v0"
    status = os.stat(model / "v0" / "file")
    assert (status.st_uid, status.st_gid) == (NOBODY, NOBODY)
    assert os.stat(model / "v0" / "dir").st_uid == NOBODY


def test_who_may_write_in_a_tree_may_discard_it(model: Path, job: Path) -> None:
    os.chmod(job, 0o777)
    (job / "file").write_text("data")
    as_nobody(lambda: command(job, "discard", ""))
    assert os.listdir(model / "pending") == []


def test_pending_trees_are_private_if_their_mode_says_so(job: Path) -> None:
    (job / "file").write_text("secret")
    os.chmod(job, 0o700)
    for look in (
        lambda: os.listdir(job),
        (job / "file").read_text,
        lambda: show(job, "status"),
        lambda: show(job, "error"),
        lambda: os.stat(job / "file"),
    ):
        refused_as_nobody(look)


def test_who_may_not_write_in_a_collection_may_not_change_it(model: Path, version: Path) -> None:
    os.symlink("v0", model / "best")
    for change in (
        lambda: os.symlink("v0", model / "mine"),
        lambda: os.unlink(model / "best"),
        lambda: os.rename(model / "best", model / "worst"),
        lambda: os.rmdir(version),
        lambda: os.mkdir(model / "pending" / "mine"),
        lambda: command(model, "description", "mine"),
        lambda: finish(version, "mine"),
        lambda: command(version, "tags", "mine"),
        lambda: command(version, "metadata.json", "{}"),
        lambda: os.chmod(model, 0o777),
    ):
        refused_as_nobody(change)
    os.unlink(model / "best")
    refused_as_nobody(lambda: os.rmdir(version))
    assert sorted(os.listdir(model)) == ["latest", "pending", "v0"]


def test_an_equal_tree_relabels_no_version_of_a_collection_that_is_closed(model: Path, version: Path) -> None:
    command(version, "labels.json", '{"tags": ["old"], "metadata": {"a": 1}}')
    tree = model / "pending" / "mine"
    (tree / "dir").mkdir(parents=True)
    (tree / "file").write_text("data")
    (tree / "dir" / "below").write_text("below")
    os.chmod(tree, 0o777)
    for labels in ('{"metadata": {"a": 2}}', '{"tags": ["new"]}', '{"description": "mine"}'):
        command(tree, "labels.json", '{"tags": [], "description": "", "metadata": {}}')
        as_nobody(partial(command, tree, "labels.json", labels))
        refused_as_nobody(lambda: finish(tree))
        key = next(iter(json.loads(labels)))
        assert f"nothing differs from {model.name}:v0, and its {key} can be changed" in show(tree, "error")
    assert (show(version, "tags"), show_json(version, "metadata.json")) == ("old\n", {"a": 1})
    # The user may finish it with labels that the version has, and with none.
    command(tree, "labels.json", '{"tags": ["old"], "description": "", "metadata": {"a": 1}}')
    answer: dict[str, object] = as_nobody(lambda: finish(tree))
    assert (answer["version"], answer["unchanged"]) == ("v0", True)


def test_who_owns_a_collection_may_do_everything_there(shared_mnt: Path, model: Path) -> None:
    version = commit(model, "of-root", {"file": "data"})
    os.chown(model, NOBODY, NOBODY)
    os.chown(model / "pending", NOBODY, NOBODY)

    def work() -> None:
        tree = model / "pending" / "mine"
        tree.mkdir()
        (tree / "file").write_text("new")
        assert finish(tree, "best")["version"] == "v1"
        os.symlink("v0", model / "good")
        os.unlink(model / "good")
        command(model, "description", "mine")
        assert show(model, "description") == "mine\n"
        finish(version, "older")
        os.unlink(model / "older")
        os.rmdir(version)
        other = model / "pending" / "other"
        other.mkdir()
        os.rmdir(other)

    as_nobody(work)
    assert sorted(os.listdir(model)) == ["best", "latest", "pending", "v1"]
    assert os.stat(model / "v1").st_uid == NOBODY


def test_collections_are_made_by_whom_the_root_lets(shared_mnt: Path) -> None:
    before = stat.S_IMODE(os.stat(shared_mnt).st_mode)
    if not before & stat.S_IWOTH:
        refused_as_nobody(lambda: os.mkdir(shared_mnt / "mine"))
    assert not os.path.lexists(shared_mnt / "mine")
    os.mkdir(shared_mnt / "of-root")
    assert os.stat(shared_mnt / "of-root").st_uid == 0
    refused_as_nobody(lambda: os.rmdir(shared_mnt / "of-root"))
    os.rmdir(shared_mnt / "of-root")


def test_sealed_files_keep_their_secrets(model: Path, job: Path) -> None:
    (job / "private").write_text("secret")
    (job / "public").write_text("open")
    (job / "closed").mkdir()
    (job / "closed" / "file").write_text("secret too")
    os.chmod(job / "private", 0o600)
    os.chmod(job / "closed", 0o700)
    finish(job)
    version = model / "v0"
    assert as_nobody((version / "public").read_text) == "open"
    for look in (
        (version / "private").read_text,
        lambda: os.listdir(version / "closed"),
        (version / "closed" / "file").read_text,
        lambda: os.stat(version / "closed" / "file"),
    ):
        refused_as_nobody(look)
    with fails(errno.EROFS, *REFUSED):
        as_nobody(lambda: os.open(version / "public", os.O_WRONLY))


def test_a_manifest_tells_nothing_that_a_walk_would_not(model: Path, job: Path) -> None:
    (job / "dir" / "closed").mkdir(parents=True)
    (job / "dir" / "closed" / "named secretly").write_text("secret")
    (job / "file").write_text("open")
    os.chmod(job / "dir" / "closed", 0o700)
    finish(job)
    refused_as_nobody(lambda: show(model / "v0", "manifest.json"))
    assert "dir/closed/named secretly" in show_json(model / "v0", "manifest.json")


def test_the_owner_of_the_closed_directory_may_read_the_manifest(model: Path, job: Path) -> None:
    (job / "closed").mkdir()
    (job / "closed" / "file").write_text("theirs")
    os.chmod(job / "closed", 0o700)
    for path in (job / "closed", job / "closed" / "file"):
        os.chown(path, NOBODY, NOBODY)
    finish(job)
    with fails(*REFUSED):
        in_child(lambda: show(model / "v0", "manifest.json"), uid=NOBODY - 1)
    # Theirs alone: every other directory is open to all.
    assert as_nobody((model / "v0" / "closed" / "file").read_text) == "theirs"


def test_modes_of_control_files_tell_who_may_use_them(model: Path, job: Path, version: Path) -> None:
    os.chmod(job, 0o750)
    for path in (control(job, "finish"), control(version, "finish"), control(model, "type")):
        mode = os.stat(path).st_mode
        assert stat.S_ISREG(mode)
        assert mode & stat.S_IWUSR
        assert not mode & stat.S_IWOTH
    for path in (control(job, "status"), control(version, "status"), control(model, "versions")):
        assert not os.stat(path).st_mode & 0o222
