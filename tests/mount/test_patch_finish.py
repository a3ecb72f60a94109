"""Finishing patches during other work, permissions in patches, and killed daemons."""

from __future__ import annotations

import errno
import os
import random
import signal
import stat
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.driver import RENAME_EXCHANGE, OsFilesystem
from tests.conformance.helpers import eventually, fails
from tests.conformance.processes import NOBODY, Child, in_child
from tests.mount.control import command, commit, control, finish, finish_child, show, show_json
from tests.mount.mounting import MountedVolume, is_dead, mounted_volume, must
from tests.mount.patching import backing, change, difference, patch, read, using
from tests.mount.test_tools import run

pytestmark = pytest.mark.fuse

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


# Finishing


def test_readers_are_not_affected_by_a_finish(based: Path) -> None:
    tree = patch(based, "job")
    (tree / "new").write_text("new")

    def look(child: Child) -> int:
        child.say()
        for count in range(400):
            if count == 200:
                child.say()
            assert (tree / "file").read_text() == "base"
            assert (tree / "dir" / "below").read_text() == "below"
            assert len(os.listdir(tree)) == 5
        return count

    with Child(look) as child:
        child.heard()
        finish(tree)
        assert child.value() == 399


def test_writers_of_lower_files_block_a_finish_without_force(based: Path) -> None:
    tree = patch(based, "job")
    with using(tree) as (process,):
        writer = os.open(tree / "file", os.O_RDWR)
        reader = os.open(tree / "file", os.O_RDONLY)
        lower = os.open(tree / "other", os.O_RDONLY)
        try:
            os.pwrite(writer, b"BASE", 0)
            with fails(errno.EBUSY):
                finish(tree, "--wait=0")
            assert "file" in show(tree, "error")
            assert [entry["path"] for entry in show_json(tree, "status")["open_for_write"]] == ["file"]
            assert finish(tree, "--force")["version"] == "v1"
            with fails(errno.EROFS, errno.EBADF):
                os.pwrite(writer, b"late", 0)
            assert os.pread(reader, 4, 0) == b"BASE"
            assert os.pread(lower, 5, 0) == b"other"
            assert process.cat("file") == read(based / "v1" / "file") == "BASE"
            with fails(errno.EROFS):
                process.write("other", "late")
        finally:
            for fd in (writer, reader, lower):
                os.close(fd)


def test_concurrently_finished_patches_are_all_merged(model: Path) -> None:
    count = 6
    commit(model, "base", {f"{number}/{name}": "base" for number in range(count) for name in ("a", "b")})
    trees = [patch(model, f"job-{number}") for number in range(count)]
    for number, tree in enumerate(trees):
        (tree / f"{number}" / "a").write_text(f"by {number}")
        (tree / f"{number}" / "b").unlink()
        (tree / f"new-{number}").write_text("new")
    with ExitStack() as stack:
        children = [stack.enter_context(finish_child(tree)) for tree in trees]
        versions = {child.value()["version"] for child in children}
    assert versions == {f"v{number}" for number in range(1, count + 1)}
    latest = model / "latest"
    for number in range(count):
        assert os.listdir(latest / f"{number}") == ["a"]
        assert read(latest / f"{number}" / "a") == f"by {number}"
        assert read(latest / f"new-{number}") == "new"


def test_a_pinned_base_does_not_follow(based: Path) -> None:
    tree = patch(based, "job", "v0")
    (tree / "mine").write_text("mine")
    change(based, {"file": "moved"}, "good")
    finish(tree)
    assert read(based / "v2" / "file") == "base"
    assert show_json(based / "v2", "status")["base"] == "v0"


# Permissions


def refused_as_nobody(*functions: Callable[[], Any]) -> None:
    for function in functions:
        with fails(errno.EACCES, errno.EPERM):
            in_child(function, uid=NOBODY)


@pytest.fixture
def guarded(model: Path) -> Path:
    """A collection whose version has files with various owners and modes."""
    job = model / "pending" / "base"
    (job / "closed").mkdir(parents=True)
    (job / "closed" / "named secretly").write_text("secret")
    (job / "secret").write_text("secret")
    (job / "plain").write_text("plain")
    (job / "theirs").write_text("theirs")
    (job / "sticky").mkdir()
    (job / "sticky" / "file").write_text("ours")
    os.setxattr(job / "secret", "user.note", b"secret")
    os.chown(job / "theirs", NOBODY, NOBODY)
    for path, mode in (("closed", 0o700), ("secret", 0o600), ("theirs", 0o640), ("sticky", 0o1777)):
        os.chmod(job / path, mode)
    finish(job)
    return model


@as_root
def test_a_patch_grants_no_rights(guarded: Path) -> None:
    tree = patch(guarded, "job")
    refused_as_nobody(
        (tree / "secret").read_bytes,
        lambda: os.getxattr(tree / "secret", "user.note"),
        lambda: os.listdir(tree / "closed"),
        lambda: os.stat(tree / "closed" / "named secretly"),
        lambda: os.open(tree / "plain", os.O_WRONLY),
        lambda: os.truncate(tree / "plain", 0),
        lambda: os.chmod(tree / "plain", 0o777),
        lambda: os.utime(tree / "plain"),
        lambda: os.rename(tree / "plain", tree / "moved"),
        lambda: os.unlink(tree / "plain"),
        lambda: os.rename(tree / "sticky" / "file", tree / "sticky" / "moved"),
        lambda: os.unlink(tree / "sticky" / "file"),
        lambda: os.chown(tree / "theirs", 0, 0),
        lambda: os.setxattr(tree / "plain", "user.x", b"x"),
        lambda: command(tree, "base", "v0"),
        lambda: show(tree, "changes"),
        (control(guarded / "v0", "diff") / "v0").read_text,
    )
    assert show(tree, "changes") == ""
    # Copied-up files, moved directories and stubs keep mode and owner.
    for name in ("secret", "theirs", "closed/named secretly"):
        with open(tree / name, "a") as file:
            file.write("+")
    os.rename(tree / "closed", tree / "lifted")
    os.rename(tree / "plain", tree / "stub")
    for path, owner, mode in (
        ("secret", 0, 0o600), ("theirs", NOBODY, 0o640), ("lifted", 0, 0o700), ("stub", 0, 0o644),
    ):  # fmt: skip
        status = os.stat(tree / path)
        assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (owner, owner, mode)
    refused_as_nobody((tree / "secret").read_bytes, lambda: os.listdir(tree / "lifted"))


@as_root
def test_writing_to_a_lower_file_clears_setuid(guarded: Path) -> None:
    tree = patch(guarded, "job")
    for name, write in (
        ("plain", lambda: os.write(os.open(tree / "plain", os.O_WRONLY | os.O_APPEND), b"+")),
        ("theirs", lambda: os.truncate(tree / "theirs", 0)),
        ("secret", lambda: os.close(os.open(tree / "secret", os.O_WRONLY | os.O_TRUNC))),
    ):
        os.chmod(tree / name, 0o6777)
        assert stat.S_IMODE(os.stat(tree / name).st_mode) == 0o6777
        in_child(write, uid=NOBODY)
        assert stat.S_IMODE(os.stat(tree / name).st_mode) == 0o777, name


@as_root
def test_changes_hide_names_in_closed_directories(guarded: Path) -> None:
    os.chmod(guarded / "pending", 0o777)
    tree = guarded / "pending" / "theirs"

    def work() -> str:
        os.mkdir(tree)
        command(tree, "base", "latest")
        # The user owns the directory of both names.
        OsFilesystem(tree).rename(b"closed", b"plain", RENAME_EXCHANGE)
        try:
            return show(tree, "changes")
        except PermissionError:
            return ""

    assert "named secretly" not in in_child(work, uid=NOBODY)
    assert "named secretly" in show(tree, "changes")  # root may list it


# Killed daemons


def test_acknowledged_changes_survive_a_killed_daemon() -> None:
    with mounted_volume() as mounted:
        model = mounted.point / "model"
        model.mkdir()
        commit(model, "base", {f"{part}/{number}": f"base {number}" for part in "ab" for number in range(40)})
        tree = patch(model, "job")
        models = {part: {f"{part}/{number}": f"base {number}" for number in range(40)} for part in "ab"}
        for _ in range(2):
            with ExitStack() as stack:
                children = {
                    part: stack.enter_context(Child(partial(_load, tree, part, dict(models[part]))))
                    for part in models
                }
                for child in children.values():
                    child.heard()
                time.sleep(random.uniform(0.05, 0.3))
                assert mounted.pid is not None
                os.kill(mounted.pid, signal.SIGKILL)
                outcomes = {part: child.value() for part, child in children.items()}
            _mount_again(mounted)
            for part, states in outcomes.items():
                found = {
                    str(path.relative_to(tree)): path.read_text()
                    for path in (tree / part).rglob("*")
                    if path.is_file()
                }
                assert found in states, [difference(found, state) for state in states]
                models[part] = found
        finish(tree)
        for part, files in models.items():
            sealed = {f"{part}/{path.name}": path.read_text() for path in (model / "v1" / part).iterdir()}
            assert sealed == files


def test_gc_removes_the_temp_of_a_killed_copy_up(own_mount: MountedVolume, collection: Path) -> None:
    commit(collection, "base", {"file": "base"})
    tree = patch(collection, "job")
    must("umount", own_mount.point)
    left = backing(own_mount, tree) / ".artfs-tmp.999999.0123456789abcdef"
    left.write_bytes(b"part of a copy")
    os.utime(left, (0, 0))
    own_mount.mount_again()
    must("--volume", own_mount.volume, "gc")
    assert not left.exists()
    assert read(tree / "file") == "base"


def _load(tree: Path, part: str, files: dict[str, str], child: Child) -> list[dict[str, str]]:
    """Changes files until the daemon dies; returns the states before and after the last change."""
    dice, serial, before = random.Random(part), 0, dict(files)
    try:
        while True:
            if serial == 5:
                child.say()
            serial += 1
            before = dict(files)
            name, new = dice.choice(sorted(files)), f"{part}/new-{os.getpid()}-{serial}"
            kind = dice.choice(["append", "truncate", "unlink", "rename", "replace", "create", "chmod"])
            if kind == "append":
                files[name] += "+"
                fd = os.open(tree / name, os.O_WRONLY | os.O_APPEND)
                try:
                    os.write(fd, b"+")
                finally:
                    os.close(fd)
            elif kind == "truncate":
                files[name] = ""
                os.truncate(tree / name, 0)
            elif kind == "unlink" and len(files) > 20:
                del files[name]
                os.unlink(tree / name)
            elif kind == "rename":
                files[new] = files.pop(name)
                os.rename(tree / name, tree / new)
            elif kind == "replace" and len(files) > 20:
                other = dice.choice(sorted(files))
                if other != name:
                    files[other] = files.pop(name)
                    os.rename(tree / name, tree / other)
            elif kind == "create":
                files[new] = ""
                os.close(os.open(tree / new, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
            elif kind == "chmod":
                os.chmod(tree / name, dice.choice([0o600, 0o644]))
    except OSError as error:
        if error.errno in (errno.ENOTCONN, errno.ECONNABORTED):
            return [before, files]
        raise


def _mount_again(mounted: MountedVolume) -> None:
    eventually(lambda: is_dead(mounted.point), what="the mount is dead")
    run("umount", "-l", mounted.point)
    mounted.mount_again()
