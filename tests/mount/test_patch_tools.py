"""Tools and large directories in patches on a mount."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from tests.conformance.driver import RENAME_EXCHANGE, OsFilesystem
from tests.conformance.helpers import OLD, fails
from tests.conformance.processes import Child
from tests.mount.control import finish, snapshot
from tests.mount.mounting import MountedVolume
from tests.mount.patching import patch, read, using
from tests.mount.test_tools import GIT, run

pytestmark = pytest.mark.fuse


# Tools


def test_git_works_in_a_patch(model: Path) -> None:
    repository = model / "pending" / "base" / "repository"
    run("git", "init", "-q", repository)
    for number in range(5):
        (repository / f"file {number}").write_text(str(number))
    run(*GIT, "add", ".", cwd=repository)
    run(*GIT, "commit", "-qm", "first", cwd=repository)
    finish(model / "pending" / "base")
    repository = patch(model, "job") / "repository"
    assert run(*GIT, "status", "--porcelain", cwd=repository) == ""
    (repository / "file 0").write_text("changed")
    run(*GIT, "mv", "file 1", "file 9", cwd=repository)
    run(*GIT, "commit", "-qam", "second", cwd=repository)
    run(*GIT, "checkout", "-q", "HEAD~1", cwd=repository)
    assert read(repository / "file 0") == "0"
    run(*GIT, "checkout", "-q", "-", cwd=repository)
    run(*GIT, "gc", "-q", cwd=repository)
    run(*GIT, "fsck", "--strict", cwd=repository)
    assert run(*GIT, "status", "--porcelain", cwd=repository) == ""
    finish(model / "pending" / "job")
    assert run(*GIT, "log", "--format=%s", cwd=model / "v1" / "repository").split() == ["second", "first"]


@pytest.mark.parametrize("journal", ["delete", "wal"])
def test_sqlite_works_in_a_patch(model: Path, journal: str) -> None:
    job = model / "pending" / "base"
    job.mkdir()
    database = sqlite3.connect(job / "db")
    database.execute(f"pragma journal_mode={journal}")
    database.execute("create table t(a, b)")
    database.executemany("insert into t values(?, ?)", [(n, "x" * 100) for n in range(2000)])
    database.commit()
    database.close()
    finish(job)
    tree = patch(model, "job")

    def insert(number: int, _child: Child) -> None:
        with sqlite3.connect(tree / "db", timeout=60) as database:
            for index in range(10):
                database.execute("insert into t values(?, ?)", (number, index))
                database.commit()
        database.close()

    with ExitStack() as stack:
        children = [stack.enter_context(Child(partial(insert, number))) for number in range(3)]
        for child in children:
            child.value()
    database = sqlite3.connect(tree / "db")
    assert database.execute("select count(*) from t").fetchone() == (2030,)
    assert database.execute("pragma integrity_check").fetchone() == ("ok",)
    database.close()
    assert os.listdir(tree) == ["db"]


@pytest.fixture
def release(tmp_path: Path) -> Callable[[int], Path]:
    """Makes a directory that looks like a release of a package."""

    def make(number: int) -> Path:
        root = tmp_path / f"release-{number}"
        for directory in range(4):
            for file in range(12):
                path = root / f"dir{directory}" / f"sub{(file + number) % 3}" / f"file{file}"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(f"{directory} {file} {number if file % 4 == 0 else ''}\n")
        (root / f"only-{number}").mkdir()
        (root / "kind").write_text("file") if number == 1 else (root / "kind").mkdir()
        (root / "link").symlink_to(f"dir{number}")
        # Old and different times: rsync does not update a time of the same second.
        for index, path in enumerate([*sorted(root.rglob("*"), reverse=True), root]):
            os.utime(path, ns=(1, OLD + (number * 1000 + index) * 10**9), follow_symlinks=False)
        return root

    return make


def test_rsync_updates_a_patch_to_the_next_release(model: Path, release: Callable[[int], Path]) -> None:
    one, two = release(1), release(2)
    job = model / "pending" / "base"
    job.mkdir()
    run("rsync", "-a", f"{one}/", f"{job}/")
    finish(job)
    tree = patch(model, "job")
    assert run("rsync", "-rlptin", "--omit-dir-times", "--delete", f"{one}/", f"{tree}/") == ""
    run("rsync", "-a", "--delete", f"{two}/", f"{tree}/")
    assert snapshot(tree) == snapshot(two)
    run("rsync", "-a", "--delete", f"{one}/", f"{tree}/")
    assert snapshot(tree) == snapshot(one)
    run("rsync", "-a", "--delete", f"{two}/", f"{tree}/")
    finish(tree)
    assert snapshot(model / "v1") == snapshot(two)
    assert snapshot(model / "v0") == snapshot(one)


def test_tar_cp_and_rm_work_over_a_base(model: Path, release: Callable[[int], Path], tmp_path: Path) -> None:
    one, two = release(1), release(2)
    job = model / "pending" / "base"
    job.mkdir()
    run("cp", "-aT", one, job)
    finish(job)
    tree = patch(model, "job")
    run("tar", "-C", two, "-cf", tmp_path / "two.tar", "dir1", "dir2")
    run("tar", "-C", tree, "-xpf", tmp_path / "two.tar")
    for path in ("dir1/sub2/file0", "dir2/sub2/file0"):
        assert (tree / path).read_text() == (two / path).read_text()
    run("cp", "-aT", tree, tmp_path / "copy")
    assert snapshot(tmp_path / "copy") == snapshot(tree)
    run("bash", "-c", "rm -rf -- *", cwd=tree)
    assert os.listdir(tree) == []
    run("cp", "-aT", two, tree)
    assert snapshot(tree) == snapshot(two)
    finish(tree)
    assert snapshot(model / "v1") == snapshot(two)


def test_editors_and_find_work_over_a_base(based: Path) -> None:
    tree = patch(based, "job")
    run("sed", "-i", "s/base/edited/", "file", cwd=tree)
    assert read(tree / "file") == "edited"
    run("cp", "--backup=simple", "--suffix=~", "file", "other", cwd=tree)
    assert (read(tree / "other"), read(tree / "other~")) == ("edited", "other")
    number = os.stat(tree / "dir" / "below").st_ino
    assert run("find", ".", "-inum", str(number), cwd=tree) == "./dir/below\n"
    with open(tree / "dir" / "below", "a") as file:
        file.write("+")
    assert run("find", ".", "-inum", str(number), cwd=tree) == "./dir/below\n"


def test_directories_can_be_moved_and_moved_back(based: Path) -> None:
    before = snapshot(based / "v0")
    tree = patch(based, "job")
    with using(tree / "dir" / "deep") as (process,):
        os.rename(tree / "dir", tree / "moved")
        assert process.cat("../below") == "below"
        os.rename(tree / "moved" / "deep", tree / "deep")
        assert process.cat("../file") == "base"
        with fails(errno.EINVAL):
            os.rename(tree / "moved", tree / "moved" / "below-itself")
        os.rename(tree / "deep", tree / "moved" / "deep")
        os.rename(tree / "moved", tree / "dir")
    assert {path: node.content for path, node in snapshot(tree).items()} == {
        path: node.content for path, node in before.items()
    }
    assert finish(tree)["unchanged"] is True


def test_a_file_can_become_a_directory_and_a_file_again(based: Path) -> None:
    tree = patch(based, "job")
    for _ in range(2):
        os.unlink(tree / "file")
        os.mkdir(tree / "file")
        assert os.listdir(tree / "file") == []
        (tree / "file" / "below").write_text("")
        run("rm", "-r", tree / "file")
        (tree / "file").write_text("again")
    run("rm", "-r", tree / "dir")
    (tree / "dir").write_text("a file")
    os.unlink(tree / "dir")
    os.mkdir(tree / "dir")
    assert os.listdir(tree / "dir") == []
    OsFilesystem(tree).rename(b"file", b"dir", RENAME_EXCHANGE)
    assert (read(tree / "dir"), os.listdir(tree / "file")) == ("again", [])


# Large directories


def test_a_large_directory_can_change_during_its_listing(model: Path) -> None:
    count = 1500
    job = model / "pending" / "base"
    job.mkdir()
    for number in range(count):
        os.close(os.open(job / f"{number:04d}", os.O_WRONLY | os.O_CREAT))
    finish(job)
    tree = patch(model, "job")
    assert sorted(os.listdir(tree)) == [f"{number:04d}" for number in range(count)]

    def delete(child: Child) -> None:
        for number in range(500, 750):
            os.unlink(tree / f"{number:04d}")
            if number == 510:
                child.say()
        for number in range(750, 800):
            os.rename(tree / f"{number:04d}", tree / f"moved-{number}")
        for number in range(100):
            (tree / f"new-{number}").write_text("")

    with Child(delete) as child, os.scandir(tree) as entries:
        child.heard()
        seen = [entry.name for entry in entries]
        child.value()
    assert len(seen) == len(set(seen))
    stable = {f"{number:04d}" for number in range(count) if not 500 <= number < 800}
    assert stable <= set(seen)
    expected = stable | {f"moved-{number}" for number in range(750, 800)} | {f"new-{n}" for n in range(100)}
    assert set(os.listdir(tree)) == expected
    finish(tree)
    assert set(os.listdir(model / "v1")) == expected
    tree = patch(model, "all")
    run("bash", "-c", "rm -rf -- *", cwd=tree)
    assert os.listdir(tree) == []


def test_reading_a_patch_leaks_no_descriptors(shared_mount: MountedVolume, model: Path) -> None:
    job = model / "pending" / "base"
    for directory in range(20):
        (job / f"{directory}").mkdir(parents=True)
        for number in range(20):
            (job / f"{directory}" / f"{number}").write_text("x")
    finish(job)
    tree = patch(model, "job")
    before = len(os.listdir(f"/proc/{shared_mount.pid}/fd"))
    for _ in range(2):
        for _, _, files in os.walk(tree):
            for name in files:
                os.path.join(name)
        run("grep", "-rq", "x", tree)
    assert len(os.listdir(f"/proc/{shared_mount.pid}/fd")) <= before + 20
