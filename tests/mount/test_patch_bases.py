"""Bases of patches on a mount: how they appear, move, collide and are refused, for processes in the tree.

A descriptor of a directory stands for a process with that working directory: the kernel sees no difference.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path

import pytest

from tests.conformance.helpers import eventually, fails
from tests.conformance.processes import Child
from tests.mount.control import command, commit, control, finish, show, show_json, show_lines, snapshot
from tests.mount.mounting import MountedVolume, must
from tests.mount.patching import change, patch, read, using
from tests.mount.test_tools import run

pytestmark = pytest.mark.fuse


# The base appears


def test_a_patch_shows_its_base_at_once(based: Path) -> None:
    tree = patch(based, "job")
    seen, version = snapshot(tree), snapshot(based / "v0")
    assert seen.keys() == version.keys()
    for path in version.keys() - {b""}:
        assert seen[path] == version[path]
    assert show(tree, "base") == "latest\n"
    assert show(tree, "changes") == ""


def test_processes_in_the_tree_see_a_new_base(based: Path) -> None:
    tree = based / "pending" / "job"
    tree.mkdir()
    with using(tree) as (process,):
        assert process.cat("file") is None  # fills the kernel's cache
        assert process.cat("dir/below") is None
        assert process.ls() == set()
        command(tree, "base", "good")
        assert process.cat("file") == "base"
        assert process.cat("dir/below") == "below"
        assert process.ls() == set(os.listdir(tree)) == {"file", "other", "dir", "old"}
        process.write("new", "new")
        assert read(tree / "new") == "new"


def test_a_removed_file_does_not_prevent_a_base(based: Path) -> None:
    tree = based / "pending" / "job"
    tree.mkdir()
    with using(tree) as (process,):
        process.write("scratch", "")
        assert process.cat("file") is None
        os.unlink(tree / "scratch")
        command(tree, "base", "v0")
        assert process.cat("file") == read(tree / "file") == "base"


def test_an_untouched_tree_can_change_its_base(based: Path) -> None:
    change(based, {"file": "second version", "dir/below": "2", "dir/new": "new", "old": None})
    tree = patch(based, "job", "v0")
    with using(tree, tree / "dir") as (above, below):
        assert (above.cat("file"), below.cat("below"), below.cat("new")) == ("base", "below", None)
        command(tree, "base", "v1")
        assert above.cat("file") == "second version"
        assert above.cat("old") is None
        assert (below.cat("below"), below.cat("new")) == ("2", "new")
        assert below.ls() == {"below", "deep", "new"}
        command(tree, "base", "")
        assert above.ls() == set()
        assert os.listdir(tree) == []


@pytest.mark.parametrize("base", ["v0", "latest"])
def test_processes_older_than_the_base_see_the_same_names(based: Path, base: str) -> None:
    tree = based / "pending" / "job"
    tree.mkdir()
    with using(tree) as (process,):
        command(tree, "base", base)
        (tree / "touched").write_text("")
        # Both have these names, or their absence, in the kernel's cache.
        for name in ("file", "other", "old", "dir/below", "touched"):
            assert process.cat(name) == read(tree / name) is not None
        for name in ("new", "from here", "dir/new"):
            assert process.cat(name) is read(tree / name) is None
        (tree / "new").write_text("new")
        (tree / "dir" / "new").write_text("new")
        (tree / "file").unlink()
        (tree / "old").rename(tree / "older")
        (tree / "dir" / "below").unlink()
        (tree / "other").write_text("changed")
        seen = {
            name: process.cat(name)
            for name in ("new", "dir/new", "file", "old", "older", "dir/below", "other")
        }
        assert seen == {
            "new": "new", "dir/new": "new", "file": None, "old": None, "older": "old", "dir/below": None,
            "other": "changed",
        }  # fmt: skip
        process.write("from here", "here")
        os.unlink("touched", dir_fd=process.fd)
        os.rename("older", "oldest", src_dir_fd=process.fd, dst_dir_fd=process.fd)
        seen = {name: read(tree / name) for name in ("from here", "touched", "older", "oldest")}
        assert seen == {"from here": "here", "touched": None, "older": None, "oldest": "old"}


# A base that moved


DEPTHS = ["", "dir/", "dir/deep/"]


@pytest.mark.parametrize("way", ["finish", "rebase"])
@pytest.mark.parametrize("read_there", [None, *DEPTHS])
def test_processes_in_the_tree_see_the_merged_files(model: Path, way: str, read_there: str | None) -> None:
    base = {f"{at}{name}": "old" for at in DEPTHS for name in ("changed", "removed", "kept")}
    commit(model, "base", base)
    tree = patch(model, "job")
    (tree / "mine").write_text("mine")
    with ExitStack() as stack:
        processes = stack.enter_context(using(*(tree / at for at in DEPTHS)))
        for process in processes:
            assert [process.cat(name) for name in ("changed", "removed", "kept")] == ["old"] * 3
            assert process.cat("added") is None
        theirs: dict[str, str | None] = {f"{at}changed": "changed there" for at in DEPTHS}
        theirs |= {f"{at}added": "added there" for at in DEPTHS}
        change(model, theirs | {f"{at}removed": None for at in DEPTHS})
        if read_there is not None:
            # The kernel keeps the inodes and names of open files.
            for name in ("changed", "removed", "kept"):
                stack.enter_context(open(tree / read_there / name))
        if way == "finish":
            assert finish(tree)["version"] == "v2"
        else:
            command(tree, "base", "latest")
        for at, process in zip(DEPTHS, processes, strict=True):
            seen = {name: process.cat(name) for name in ("changed", "removed", "kept", "added")}
            expected = {"changed": "changed there", "removed": None, "kept": "old", "added": "added there"}
            assert seen == expected, f"in {at or 'the root'}"
            assert process.size("changed") == len("changed there")
            assert {"changed", "kept", "added"} <= process.ls()
            assert "removed" not in process.ls()
        assert processes[0].cat("mine") == read(tree / "mine") == "mine"


@pytest.mark.parametrize("touched", [False, True])
def test_a_file_looked_up_before_a_rebase_can_be_written(based: Path, touched: bool) -> None:
    tree = patch(based, "job")
    if touched:
        (tree / "mine").write_text("mine")
    change(based, {"other": "moved"})
    with using(tree) as (process,), open(tree / "file"):
        command(tree, "base", "latest")

        def work() -> None:
            with open(process.open("file", os.O_WRONLY | os.O_APPEND), "w") as file:
                file.write("+")

        with Child(lambda _child: work()) as child:
            try:
                eventually(child.is_over, 3, "the open for writing returns")
            finally:
                # A process waiting in the kernel cannot be killed; this read releases it.
                read(tree / "file")
            child.value()
        assert read(tree / "file") == process.cat("file") == "base+"


def test_an_open_directory_lists_the_rebased_tree(based: Path) -> None:
    tree = patch(based, "job")
    (tree / "mine").write_text("mine")
    (tree / "old").unlink()
    change(based, {"theirs": "theirs", "dir/theirs": "theirs"})
    (tree / "dir" / "below").unlink()
    fds = [os.open(path, os.O_RDONLY | os.O_DIRECTORY) for path in (tree, tree / "dir")]
    try:
        assert set(os.listdir(fds[0])) == {"file", "other", "dir", "mine"}
        assert set(os.listdir(fds[1])) == {"deep"}
        command(tree, "base", "latest")
        # Each os.listdir begins with rewinddir(3), as if the directory were opened again.
        found = []
        for fd in fds:
            try:
                found.append(set(os.listdir(fd)))
            except OSError as error:
                found.append({errno.errorcode[error.errno or 0]})
        assert found[0] in ({"file", "other", "dir", "mine", "theirs"}, {"ESTALE"})
        assert found[1] in ({"deep", "theirs"}, {"ESTALE"})
    finally:
        for fd in fds:
            os.close(fd)


def test_a_rebase_splits_hard_links_and_drops_setuid(based: Path) -> None:
    tree = patch(based, "job")
    os.link(tree / "file", tree / "again")
    (tree / "tool").write_text("tool")
    os.chmod(tree / "tool", 0o4755)
    change(based, {"other": "moved"})
    command(tree, "base", "latest")
    assert stat.S_IMODE(os.stat(tree / "tool").st_mode) == 0o755
    assert os.stat(tree / "file").st_nlink == 1
    (tree / "again").write_text("one")
    assert read(tree / "file") == "base"


def test_files_created_during_rebases_are_kept(based: Path) -> None:
    tree = patch(based, "job")
    (tree / "work").mkdir()

    def work(number: int, child: Child) -> list[str]:
        made: list[str] = []
        with using(tree / "work") as (process,):
            child.say()
            for index in range(150):
                name = f"{number}-{index}"
                with suppress(OSError):  # EBUSY
                    fd = process.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
                    os.close(fd)
                    made.append(name)
                time.sleep(0.002)
        return made

    with ExitStack() as stack:
        children = [stack.enter_context(Child(partial(work, number))) for number in range(2)]
        for child in children:
            child.heard()
        moves = 0
        while not all(child.is_over() for child in children) or not moves:
            change(based, {"moves": str(moves)})
            moves += 1
            command(tree, "base", "latest")
        made = {name for child in children for name in child.value()}
    assert made
    assert set(os.listdir(tree / "work")) == made
    assert read(tree / "moves") == str(moves - 1)
    finish(tree)
    assert set(os.listdir(based / "latest" / "work")) == made


# Collisions


def work_there(tree: Path) -> None:
    (tree / "both").write_text("theirs")
    (tree / "same").write_text("same")
    (tree / "gone there").unlink()
    (tree / "gone here").write_text("theirs")
    (tree / "gone on both").unlink()
    os.chmod(tree / "mode", 0o600)
    (tree / "kind").unlink()
    (tree / "kind").mkdir()
    (tree / "new").write_text("theirs")
    run("rm", "-r", tree / "dir there")
    (tree / "dir here" / "file").write_text("theirs")
    (tree / "only theirs").write_text("theirs")


def work_here(tree: Path) -> None:
    (tree / "both").write_text("ours")
    (tree / "same").write_text("same")
    (tree / "gone there").write_text("ours")
    (tree / "gone here").unlink()
    (tree / "gone on both").unlink()
    os.chmod(tree / "mode", 0o640)
    (tree / "kind").write_text("ours")
    (tree / "new").write_text("ours")
    (tree / "dir there" / "file").write_text("ours")
    run("rm", "-r", tree / "dir here")
    (tree / "only ours").write_text("ours")


COLLISIONS = ["both", "gone there", "gone here", "mode", "kind", "new", "dir there/file", "dir here/file"]


@pytest.fixture
def collided(model: Path) -> Path:
    """A patch whose base moved, with every kind of collision."""
    names = ("both", "same", "gone there", "gone here", "gone on both", "mode", "kind")
    commit(model, "base", dict.fromkeys((*names, "dir there/file", "dir here/file"), "base"), "good")
    here, there = patch(model, "here", "good"), patch(model, "there", "good")
    work_there(there)
    finish(there, "good")
    work_here(here)
    return here


def test_a_collision_changes_nothing_and_names_each_path(collided: Path) -> None:
    model = collided.parent.parent
    before = snapshot(collided)
    with fails(errno.ESTALE):
        finish(collided, "better")
    reason = show(collided, "error")
    assert reason.count("\n") == 1
    for path in COLLISIONS:
        assert f"{path} (" in reason
    for path in ("same", "gone on both", "only"):
        assert f"{path} (" not in reason
    assert "both (changed here, changed there)" in reason
    assert "gone here (removed here, changed there)" in reason
    assert snapshot(collided) == before
    assert set(os.listdir(model)) == {"pending", "v0", "v1", "good", "latest"}
    assert show(collided, "base") == "good\n"
    (collided / "still writable").write_text("")


def test_repeating_the_rebase_resolves_a_collision(collided: Path) -> None:
    model = collided.parent.parent
    with fails(errno.ESTALE):
        finish(collided)
    command(collided, "base", "good")
    assert read(collided / "both") == "ours"
    assert read(collided / "only theirs") == "theirs"
    assert read(collided / "only ours") == "ours"
    assert "gone here" not in os.listdir(collided)
    assert read(collided / "dir there" / "file") == "ours"
    # The alias moves again.
    change(model, {"only theirs": "again", "both": "again"}, "good", "good")
    with fails(errno.ESTALE):
        finish(collided)
    assert "both (changed here" in show(collided, "error")
    assert "mode (" not in show(collided, "error")
    (collided / "both").write_text("again")
    finish(collided, "good")
    version = model / "good"
    assert read(version / "both") == "again"
    assert read(version / "only theirs") == "again"
    assert stat.S_IMODE(os.stat(version / "mode").st_mode) == 0o640


def test_a_rebase_without_collisions_forgets_reported_ones(based: Path) -> None:
    tree = patch(based, "job", "good")
    (tree / "new").write_text("ours")
    change(based, {"new": "theirs"}, "good", "good")
    with fails(errno.ESTALE):
        command(tree, "base", "good")
    (tree / "new").unlink()
    command(tree, "base", "good")
    change(based, {"new": None}, "good", "good")
    command(tree, "base", "good")
    (tree / "new").write_text("ours")
    change(based, {"new": "theirs"}, "good", "good")
    with fails(errno.ESTALE):  # this collision was not reported yet
        command(tree, "base", "good")


def test_equal_changes_do_not_collide(based: Path) -> None:
    tree = patch(based, "job", "good")
    (tree / "file").write_text("ours")
    change(based, {"file": "theirs"}, "good", "good")
    with fails(errno.ESTALE):
        finish(tree)
    (tree / "file").write_text("theirs")
    (tree / "mine").write_text("mine")
    finish(tree)
    assert (read(based / "v2" / "file"), read(based / "v2" / "mine")) == ("theirs", "mine")


# Bad input


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"v9\n", errno.ENOENT), (b"nothing\n", errno.ENOENT), (b"other:v0\n", errno.ENOENT),
        (b"v00\n", errno.ENOENT), (b"../v0\n", errno.ENOENT), (b"::\n", errno.ENOENT),
        (b"v0 v0\n", errno.EINVAL), (b"v0\nv0\n", errno.EINVAL), (b"\xff\xfe\n", errno.EINVAL),
        (b"x" * 4000 + b"\n", errno.ENOENT), (b"\0\n", errno.ENOENT),
    ],
)  # fmt: skip
def test_invalid_bases_are_refused(based: Path, line: bytes, code: int) -> None:
    tree = based / "pending" / "job"
    tree.mkdir()
    fd = os.open(control(tree, "base"), os.O_WRONLY)
    try:
        with fails(code):
            os.write(fd, line)
    finally:
        os.close(fd)
    assert show(tree, "error").strip() not in ("", "ok")
    assert (os.listdir(tree), show(tree, "base")) == ([], "")


def test_a_base_may_be_in_another_collection(shared_mnt: Path, based: Path) -> None:
    other = shared_mnt / f"{based.name}-fork"
    other.mkdir()
    tree = other / "pending" / "job"
    tree.mkdir()
    with fails(errno.ENOENT):
        command(tree, "base", "v0")
    command(tree, "base", f"{based.name}:good")
    (tree / "mine").write_text("mine")
    change(based, {"file": "moved"}, "good")
    finish(tree)
    assert read(other / "v0" / "file") == "moved"
    assert show_json(other / "v0", "status")["base"] == f"{based.name}:v1"


def test_a_changed_tree_refuses_another_base(based: Path) -> None:
    tree = based / "pending" / "job"
    tree.mkdir()
    (tree / "mine").write_text("mine")
    for line in ("v0", "latest"):
        with fails(errno.EBUSY):
            command(tree, "base", line)
    assert os.listdir(tree) == ["mine"]
    tree = patch(based, "other", "good")
    (tree / "file").unlink()
    for line in ("v0", "latest", ""):
        with fails(errno.EBUSY):
            command(tree, "base", line)
    assert show(tree, "base") == "good\n"


def test_a_base_is_refused_during_writes_and_for_versions(based: Path) -> None:
    tree = patch(based, "job", "v0")
    with open(tree / "file", "r+"), fails(errno.EBUSY):
        command(tree, "base", "good")
    assert "file" in show(tree, "error")
    with fails(errno.ENOENT, errno.EROFS, errno.EPERM):
        command(based / "v0", "base", "good")


def test_a_patch_survives_the_deletion_of_its_base(shared_mount: MountedVolume, model: Path) -> None:
    unlike = os.urandom(5000).hex()
    commit(model, "base", {"file": unlike, "dir/below": unlike[::-1]})
    tree = patch(model, "job", "v0")
    (tree / "new").write_text("new")
    commit(model, "next", {"unlike": "unlike"})
    os.rmdir(model / "v0")
    must("--volume", shared_mount.volume, "gc")
    assert read(tree / "file") == unlike
    assert [entry["path"] for entry in show_lines(tree, "changes")] == ["new"]
    os.rename(tree / "dir", tree / "moved")
    finish(tree)
    must("--volume", shared_mount.volume, "gc")
    assert read(model / "latest" / "moved" / "below") == unlike[::-1]
    assert read(model / "latest" / "file") == unlike
