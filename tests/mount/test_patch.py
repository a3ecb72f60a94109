"""Patch mode on a real mount: what users, their tools and their shells see of a base and of what changes it.

A process that sits in a directory is played by a descriptor of it: for the kernel both are the same.
"""

from __future__ import annotations

import errno
import json
import mmap
import os
import random
import signal
import sqlite3
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.driver import RENAME_EXCHANGE, OsFilesystem
from tests.conformance.helpers import OLD, eventually, fails
from tests.conformance.processes import NOBODY, Child, in_child
from tests.mount.control import (
    command,
    commit,
    control,
    finish,
    finish_child,
    show,
    show_json,
    show_lines,
    snapshot,
)
from tests.mount.mounting import MountedVolume, mounted_volume, must
from tests.mount.test_tools import GIT, run

pytestmark = pytest.mark.fuse

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")

FORGED = ".artfs-stub:644:xxh128:" + "0" * 32 + ":name"


def patch(collection: Path, name: str, base: str = "latest") -> Path:
    """Starts a patch."""
    tree = collection / "pending" / name
    tree.mkdir()
    command(tree, "base", base)
    return tree


def change(collection: Path, files: dict[str, str | None], line: str = "", base: str = "latest") -> Path:
    """Makes a version of a base with other files; None deletes one."""
    tree = patch(collection, f"change-{time.monotonic_ns()}", base)
    for path, text in files.items():
        if text is None:
            (tree / path).unlink()
        else:
            (tree / path).parent.mkdir(parents=True, exist_ok=True)
            (tree / path).write_text(text)
    return collection / str(finish(tree, line)["version"])


class Sitter:
    """A process whose working directory is a directory of a tree."""

    def __init__(self, directory: Path) -> None:
        self.fd = os.open(directory, os.O_PATH | os.O_DIRECTORY)

    def ls(self) -> set[str]:
        fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=self.fd)
        try:
            return set(os.listdir(fd))
        finally:
            os.close(fd)

    def open(self, path: str, flags: int = os.O_RDONLY) -> int:
        return os.open(path, flags, 0o644, dir_fd=self.fd)

    def cat(self, path: str) -> str | None:
        """The text of a file; None if there is none of that name."""
        try:
            fd = self.open(path)
        except FileNotFoundError:
            return None
        with open(fd) as file:
            return file.read()

    def write(self, path: str, text: str) -> None:
        with open(self.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), "w") as file:
            file.write(text)

    def size(self, path: str) -> int:
        return os.stat(path, dir_fd=self.fd).st_size


@contextmanager
def sitting(*directories: Path) -> Iterator[list[Sitter]]:
    """Processes that sit in directories."""
    sitters = [Sitter(directory) for directory in directories]
    try:
        yield sitters
    finally:
        for sitter in sitters:
            os.close(sitter.fd)


def read(path: Path) -> str | None:
    """The text of a file; None if there is none."""
    try:
        return path.read_text()
    except FileNotFoundError:
        return None


def backing(mounted: MountedVolume, tree: Path) -> Path:
    """Where a pending tree lies in the volume."""
    return mounted.volume / "collections" / tree.parent.parent.name / "pending" / tree.name


# The base shows


@pytest.fixture
def based(model: Path) -> Path:
    """A collection with v0; the alias good names it."""
    files = {"file": "base", "other": "other", "dir/below": "below", "dir/deep/er": "deeper", "old": "old"}
    commit(model, "base", files, "good")
    return model


def test_the_base_shows_at_once(based: Path) -> None:
    tree = patch(based, "job")
    seen, version = snapshot(tree), snapshot(based / "v0")
    assert seen.keys() == version.keys()
    for path in version.keys() - {b""}:
        assert seen[path] == version[path]
    assert show(tree, "base") == "latest\n"
    assert show(tree, "changes") == ""


def test_who_sits_in_the_tree_sees_the_base(based: Path) -> None:
    tree = based / "pending" / "job"
    tree.mkdir()
    with sitting(tree) as (sitter,):
        assert sitter.cat("file") is None  # which the kernel could remember
        assert sitter.cat("dir/below") is None
        assert sitter.ls() == set()
        command(tree, "base", "good")
        assert sitter.cat("file") == "base"
        assert sitter.cat("dir/below") == "below"
        assert sitter.ls() == set(os.listdir(tree)) == {"file", "other", "dir", "old"}
        sitter.write("new", "new")
        assert read(tree / "new") == "new"


def test_what_was_made_and_removed_is_no_touch(based: Path) -> None:
    tree = based / "pending" / "job"
    tree.mkdir()
    with sitting(tree) as (sitter,):
        sitter.write("scratch", "")
        assert sitter.cat("file") is None
        os.unlink(tree / "scratch")
        command(tree, "base", "v0")
        assert sitter.cat("file") == read(tree / "file") == "base"


def test_another_base_of_an_untouched_tree(based: Path) -> None:
    change(based, {"file": "second version", "dir/below": "2", "dir/new": "new", "old": None})
    tree = patch(based, "job", "v0")
    with sitting(tree, tree / "dir") as (above, below):
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
def test_who_sat_there_before_the_base_came_and_all_others_see_the_same_names(based: Path, base: str) -> None:
    tree = based / "pending" / "job"
    tree.mkdir()
    with sitting(tree) as (sitter,):
        command(tree, "base", base)
        (tree / "touched").write_text("")
        # Both know these names, or know that there are none.
        for name in ("file", "other", "old", "dir/below", "touched"):
            assert sitter.cat(name) == read(tree / name) is not None
        for name in ("new", "from here", "dir/new"):
            assert sitter.cat(name) is read(tree / name) is None
        (tree / "new").write_text("new")
        (tree / "dir" / "new").write_text("new")
        (tree / "file").unlink()
        (tree / "old").rename(tree / "older")
        (tree / "dir" / "below").unlink()
        (tree / "other").write_text("changed")
        seen = {
            name: sitter.cat(name)
            for name in ("new", "dir/new", "file", "old", "older", "dir/below", "other")
        }
        assert seen == {
            "new": "new", "dir/new": "new", "file": None, "old": None, "older": "old", "dir/below": None,
            "other": "changed",
        }  # fmt: skip
        sitter.write("from here", "here")
        os.unlink("touched", dir_fd=sitter.fd)
        os.rename("older", "oldest", src_dir_fd=sitter.fd, dst_dir_fd=sitter.fd)
        seen = {name: read(tree / name) for name in ("from here", "touched", "older", "oldest")}
        assert seen == {"from here": "here", "touched": None, "older": None, "oldest": "old"}


# A base that moved


DEPTHS = ["", "dir/", "dir/deep/"]


@pytest.mark.parametrize("way", ["finish", "rebase"])
@pytest.mark.parametrize("read_there", [None, *DEPTHS])
def test_who_sits_in_a_tree_sees_what_was_merged(model: Path, way: str, read_there: str | None) -> None:
    base = {f"{at}{name}": "old" for at in DEPTHS for name in ("changed", "removed", "kept")}
    commit(model, "base", base)
    tree = patch(model, "job")
    (tree / "mine").write_text("mine")
    with ExitStack() as stack:
        sitters = stack.enter_context(sitting(*(tree / at for at in DEPTHS)))
        for sitter in sitters:
            assert [sitter.cat(name) for name in ("changed", "removed", "kept")] == ["old"] * 3
            assert sitter.cat("added") is None
        theirs: dict[str, str | None] = {f"{at}changed": "changed there" for at in DEPTHS}
        theirs |= {f"{at}added": "added there" for at in DEPTHS}
        change(model, theirs | {f"{at}removed": None for at in DEPTHS})
        if read_there is not None:
            # The kernel keeps what is open, and the names that led to it.
            for name in ("changed", "removed", "kept"):
                stack.enter_context(open(tree / read_there / name))
        if way == "finish":
            assert finish(tree)["version"] == "v2"
        else:
            command(tree, "base", "latest")
        for at, sitter in zip(DEPTHS, sitters, strict=True):
            seen = {name: sitter.cat(name) for name in ("changed", "removed", "kept", "added")}
            expected = {"changed": "changed there", "removed": None, "kept": "old", "added": "added there"}
            assert seen == expected, f"in {at or 'the root'}"
            assert sitter.size("changed") == len("changed there")
            assert {"changed", "kept", "added"} <= sitter.ls()
            assert "removed" not in sitter.ls()
        assert sitters[0].cat("mine") == read(tree / "mine") == "mine"


@pytest.mark.parametrize("touched", [False, True])
def test_a_base_file_can_be_written_by_who_found_it_before_the_base_moved(based: Path, touched: bool) -> None:
    tree = patch(based, "job")
    if touched:
        (tree / "mine").write_text("mine")
    change(based, {"other": "moved"})
    with sitting(tree) as (sitter,), open(tree / "file"):
        command(tree, "base", "latest")

        def work() -> None:
            with open(sitter.open("file", os.O_WRONLY | os.O_APPEND), "w") as file:
                file.write("+")

        with Child(lambda _child: work()) as child:
            try:
                eventually(child.is_over, 3, "the open for writing returns")
            finally:
                # A process that waits in the kernel can't be killed: this lets it go, if it still does.
                read(tree / "file")
            child.value()
        assert read(tree / "file") == sitter.cat("file") == "base+"


def test_an_open_directory_lists_what_is_there_after_a_rebase(based: Path) -> None:
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
        # Each os.listdir begins with rewinddir(3): it is as if the directory were opened anew.
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


def test_a_rebase_parts_hard_links_and_drops_setuid_as_a_finish_does(based: Path) -> None:
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


def test_what_is_made_while_the_base_moves_stays(based: Path) -> None:
    tree = patch(based, "job")
    (tree / "work").mkdir()

    def work(number: int, child: Child) -> list[str]:
        made: list[str] = []
        with sitting(tree / "work") as (sitter,):
            child.say()
            for index in range(150):
                name = f"{number}-{index}"
                with suppress(OSError):  # EBUSY
                    fd = sitter.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
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


# Copy-up


def test_opening_a_base_file_to_write_changes_nothing_that_is_seen(based: Path) -> None:
    tree = patch(based, "job")
    os.utime(tree / "dir", ns=(OLD, OLD))
    before = {path: os.stat(tree / path) for path in ("dir", "dir/deep", "dir/deep/er", "file")}
    for path in ("dir/deep/er", "file"):
        os.close(os.open(tree / path, os.O_RDWR))
    for path, was in before.items():
        now = os.stat(tree / path)
        for field in ("st_ino", "st_mode", "st_nlink", "st_uid", "st_gid", "st_size", "st_mtime_ns"):
            assert getattr(now, field) == getattr(was, field), f"{field} of {path}"
    assert show(tree, "changes") == ""


def test_a_mapping_that_is_written_is_seen_by_all_who_have_the_file(model: Path) -> None:
    content = os.urandom(1 << 20)
    job = model / "pending" / "base"
    job.mkdir()
    (job / "file").write_bytes(content)
    finish(job)
    tree = patch(model, "job")

    def write(child: Child) -> None:
        with open(tree / "file", "r+b") as file, mmap.mmap(file.fileno(), 0) as mapping:
            mapping[100:105] = b"HELLO"
            mapping[-5:] = b"WORLD"
            mapping.flush()
            os.pwrite(file.fileno(), b"write", 0)
            child.say()
            child.pause()

    with (
        open(tree / "file", "rb", buffering=0) as file,
        mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapping,
        Child(write) as child,
    ):
        assert mapping[:5] == content[:5]
        child.heard()
        for look in (
            lambda at, size: mapping[at : at + size],
            lambda at, size: os.pread(file.fileno(), size, at),
            lambda at, size: (tree / "file").read_bytes()[at : at + size],
        ):
            assert look(0, 5) == b"write"
            assert look(100, 5) == b"HELLO"
            assert look(len(content) - 5, 5) == b"WORLD"
            assert look(5, 95) == content[5:100]
        with fails(errno.EBUSY):
            finish(tree, "--wait=0")
        child.go()
        child.value()
    assert (model / "v0" / "file").read_bytes() == content
    finish(tree)
    assert (model / "v1" / "file").read_bytes()[100:105] == b"HELLO"


def test_appends_of_many_processes_to_a_base_file(based: Path) -> None:
    tree = patch(based, "job")

    def append(number: int, _child: Child) -> None:
        for index in range(25):
            with open(tree / "file", "ab") as file:
                file.write(b"\n%d-%d" % (number, index))

    with ExitStack() as stack:
        children = [stack.enter_context(Child(partial(append, number))) for number in range(4)]
        for child in children:
            child.value()
    lines = (tree / "file").read_text().split("\n")
    assert lines[0] == "base"
    assert sorted(lines[1:]) == sorted(f"{number}-{index}" for number in range(4) for index in range(25))


def test_the_first_writers_of_a_base_file_at_the_same_moment(model: Path) -> None:
    content = os.urandom(4 << 20)
    job = model / "pending" / "base"
    job.mkdir()
    (job / "file").write_bytes(content)
    finish(job)
    tree = patch(model, "job")

    def write(number: int, child: Child) -> None:
        child.pause()
        fd = os.open(tree / "file", os.O_WRONLY)
        os.pwrite(fd, b"%04d" % number, number * 1000)
        os.close(fd)

    with ExitStack() as stack:
        children = [stack.enter_context(Child(partial(write, number))) for number in range(6)]
        for child in children:
            child.go()
        for child in children:
            child.value()
    expected = bytearray(content)
    for number in range(6):
        expected[number * 1000 : number * 1000 + 4] = b"%04d" % number
    assert (tree / "file").read_bytes() == expected


def test_truncations(based: Path) -> None:
    tree = patch(based, "job")
    with open(tree / "file", "rb", buffering=0) as reader:
        os.truncate(tree / "file", 2)
        assert reader.read() == b"ba"
    os.truncate(tree / "file", 4)
    assert (tree / "file").read_bytes() == b"ba\0\0"
    with open(tree / "other", "rb", buffering=0) as reader:
        fd = os.open(tree / "other", os.O_WRONLY | os.O_TRUNC)
        assert reader.read() == b""
        os.write(fd, b"new")
        assert os.pread(reader.fileno(), 10, 0) == b"new"
        os.close(fd)
    os.truncate(tree / "dir" / "below", 0)
    assert read(tree / "dir" / "below") == ""
    assert read(based / "v0" / "other") == "other"


def test_sparse_files_stay_sparse(shared_mount: MountedVolume, model: Path) -> None:
    job = model / "pending" / "base"
    job.mkdir()
    with open(job / "sparse", "wb") as file:
        file.seek(1 << 27)
        file.write(b"end")
    finish(job)
    tree = patch(model, "job")
    with open(tree / "sparse", "r+b") as file:
        file.write(b"begin")
    copy = os.stat(backing(shared_mount, tree) / "tree" / "sparse")
    assert copy.st_size == (1 << 27) + 3
    assert copy.st_blocks * 512 < 1 << 20
    with open(tree / "sparse", "rb") as file:
        assert file.read(6) == b"begin\0"
        file.seek(1 << 27)
        assert file.read() == b"end"


def test_the_mount_answers_while_a_large_file_is_copied_up(model: Path) -> None:
    job = model / "pending" / "base"
    job.mkdir()
    block = os.urandom(1 << 20)
    with open(job / "large", "wb") as file:
        file.writelines([block] * 200)
    (job / "small").write_text("small")
    finish(job)
    tree = patch(model, "job")
    worst = 0.0
    with Child(lambda _child: os.close(os.open(tree / "large", os.O_WRONLY))) as child:
        while not child.is_over():
            started = time.monotonic()
            assert read(tree / "small") == "small"
            os.stat(tree / "large")
            worst = max(worst, time.monotonic() - started)
        child.value()
    assert worst < 1


def test_a_large_file_is_unlinked_while_it_is_copied_up(shared_mount: MountedVolume, model: Path) -> None:
    job = model / "pending" / "base"
    job.mkdir()
    with open(job / "large", "wb") as file:
        file.writelines(os.urandom(1 << 20) for _ in range(50))
    finish(job)
    tree = patch(model, "job")

    def write() -> int:
        fd = os.open(tree / "large", os.O_RDWR)
        return os.pwrite(fd, b"x", 0)

    with Child(lambda _child: write()) as child:
        with suppress(FileNotFoundError):
            os.rename(tree / "large", tree / "moved")
        os.unlink(tree / "moved")
        try:
            assert child.value() == 1
        except FileNotFoundError:
            pass  # it came late
    assert os.listdir(tree) == []
    assert not [name for name in os.listdir(backing(shared_mount, tree)) if name.startswith(".artfs-tmp")]
    assert (model / "v0" / "large").stat().st_size == 50 << 20


# Attributes


def test_attributes_of_base_files_are_set_without_a_copy(shared_mount: MountedVolume, based: Path) -> None:
    tree = patch(based, "job")
    ino = os.stat(tree / "file").st_ino
    os.chmod(tree / "file", 0o4711)
    os.rename(tree / "file", tree / "moved")
    os.utime(tree / "moved", ns=(OLD, OLD + 1))
    status = os.stat(tree / "moved")
    assert (status.st_ino, stat.S_IMODE(status.st_mode), status.st_mtime_ns) == (ino, 0o4711, OLD + 1)
    assert os.path.islink(backing(shared_mount, tree) / "tree" / "moved")
    assert read(tree / "moved") == "base"
    assert not (tree / "file").exists()


@pytest.mark.parametrize("name", ["file", "link", "dir"])
def test_the_atime_that_is_set_is_the_atime_that_is_shown(model: Path, name: str) -> None:
    job = model / "pending" / "base"
    (job / "dir").mkdir(parents=True)
    (job / "file").write_text("base")
    (job / "link").symlink_to("file")
    finish(job)
    tree = patch(model, "job")
    os.utime(tree / name, ns=(OLD, OLD + 10**9), follow_symlinks=False)
    status = os.stat(tree / name, follow_symlinks=False)
    assert (status.st_atime_ns, status.st_mtime_ns) == (OLD, OLD + 10**9)


def test_a_hard_link_to_a_base_file(based: Path) -> None:
    tree = patch(based, "job")
    ino = os.stat(tree / "dir" / "below").st_ino
    os.link(tree / "dir" / "below", tree / "again")
    (tree / "again").write_text("both")
    assert read(tree / "dir" / "below") == "both"
    for path in (tree / "again", tree / "dir" / "below"):
        assert (os.stat(path).st_ino, os.stat(path).st_nlink) == (ino, 2)
    os.unlink(tree / "dir" / "below")
    assert os.stat(tree / "again").st_nlink == 1


def test_xattrs_of_base_files(model: Path) -> None:
    job = model / "pending" / "base"
    job.mkdir()
    (job / "file").write_text("base")
    os.setxattr(job / "file", "user.one", b"1")
    finish(job)
    tree = patch(model, "job")
    assert os.listxattr(tree / "file") == ["user.one"]
    os.chmod(tree / "file", 0o600)
    assert os.getxattr(tree / "file", "user.one") == b"1"
    os.setxattr(tree / "file", "user.two", b"2")
    os.removexattr(tree / "file", "user.one")
    assert os.listxattr(tree / "file") == ["user.two"]
    with open(tree / "file", "a") as file:
        file.write("+")  # xattrs alone make no version
    finish(tree)
    assert os.listxattr(model / "v1" / "file") == ["user.two"]
    assert os.listxattr(model / "v0" / "file") == ["user.one"]


# Numbers


def test_no_two_files_have_one_number(own_mount: MountedVolume, collection: Path) -> None:
    count = 40
    commit(collection, "base", {f"file-{number}": f"base {number}" for number in range(count)})
    tree = patch(collection, "job")
    expected = {f"file-{number}": f"base {number}+" for number in range(count)}
    for name in expected:
        os.chmod(tree / name, 0o600)
    _remount(own_mount)
    kept = {name: os.stat(tree / name).st_ino for name in expected}
    with ExitStack() as stack:
        for name in list(expected)[::2]:
            stack.enter_context(open(tree / name))
        # Each copy has got an inode of its own now, and those of the stubs are free.
        for name in expected:
            with open(tree / name, "a") as file:
                file.write("+")
        # As when memory runs short, the kernel forgets what is not open.
        with suppress(OSError):
            Path("/proc/sys/vm/drop_caches").write_text("2")
        for number in range(count):
            (tree / f"new-{number}").write_text(f"new {number}")
            expected[f"new-{number}"] = f"new {number}"
        found = {name: read(tree / name) for name in expected}
        assert found == expected, _difference(found, expected)
        numbers = {name: os.stat(tree / name).st_ino for name in expected}
        assert len(set(numbers.values())) == len(expected)
        assert {name: numbers[name] for name in list(kept)[::2]} == {
            name: kept[name] for name in list(kept)[::2]
        }
    finish(tree)
    assert {name: read(collection / "v1" / name) for name in expected} == expected


def _remount(mounted: MountedVolume) -> None:
    must("umount", mounted.point)
    _mount(mounted)


def _mount(mounted: MountedVolume) -> None:
    must("mount", mounted.volume, mounted.point)
    mounted.pid = int(json.loads((mounted.volume / "locks" / "mount").read_text())["pid"])


# Names and targets that look like ours


TARGETS = [FORGED, ".artfs-link:x", ".artfs-lower", ".artfs-", "plain"]


def test_targets_of_symlinks_never_mean_anything(model: Path) -> None:
    def links(tree: Path) -> dict[str, tuple[str, int]]:
        return {
            name: (os.readlink(tree / name), os.lstat(tree / name).st_size)
            for name in os.listdir(tree)
            if (tree / name).is_symlink()
        }

    def expected(prefix: str) -> dict[str, tuple[str, int]]:
        return {f"{prefix}{index}": (target, len(target)) for index, target in enumerate(TARGETS)}

    job = model / "pending" / "base"
    job.mkdir()
    for index, target in enumerate(TARGETS):
        (job / f"a{index}").symlink_to(target)
    assert links(job) == expected("a")
    finish(job)
    assert links(model / "v0") == expected("a")
    tree = patch(model, "job")
    assert links(tree) == expected("a")
    for index, target in enumerate(TARGETS):
        (tree / f"b{index}").symlink_to(target)
        os.link(tree / f"b{index}", tree / f"c{index}", follow_symlinks=False)
        os.rename(tree / f"a{index}", tree / f"d{index}")
    assert links(tree) == expected("b") | expected("c") | expected("d")
    finish(tree)
    assert links(model / "v1") == expected("b") | expected("c") | expected("d")


def test_targets_of_any_length(model: Path) -> None:
    longest = 4095  # what ext4 takes; 12 bytes fewer if the target has to be escaped
    targets = {"plain": "x" * longest, "escaped": ".artfs-" + "x" * (longest - 12 - 7)}
    job = model / "pending" / "base"
    job.mkdir()
    for name, target in targets.items():
        (job / name).symlink_to(target)
    finish(job)
    tree = patch(model, "job")
    for name, target in targets.items():
        os.rename(tree / name, tree / f"{name} moved")
        (tree / f"{name} new").symlink_to(target)
        assert os.readlink(tree / f"{name} moved") == os.readlink(tree / f"{name} new") == target
    with pytest.raises(OSError) as refused:
        (tree / "longer").symlink_to(targets["escaped"] + "x")
    assert refused.value.errno == errno.ENAMETOOLONG


@pytest.mark.parametrize(
    "name", [b"new\nline", b"back\\slash", b"\xff\xfe", b"n" * 255, b"-x", b" ", b"\x01", b"a:b", b"\xc3\xbc"]
)
def test_hostile_names(model: Path, name: bytes) -> None:
    job = model / "pending" / "base"
    job.mkdir()

    def at(tree: Path, *names: bytes) -> bytes:
        return os.path.join(os.fsencode(tree), *names)

    os.mkdir(at(job, name))
    for below in (name, b"other"):
        with open(at(job, name, below), "wb") as file:
            file.write(b"base")
    finish(job)
    tree = patch(model, "job")
    os.chmod(at(tree, name, name), 0o600)
    assert Path(os.fsdecode(at(tree, name, name))).read_bytes() == b"base"
    os.rename(at(tree, name, name), at(tree, b"moved"))
    os.rename(at(tree, b"moved"), at(tree, name, name))
    with open(at(tree, name, name), "ab") as file:
        file.write(b"+")
    os.unlink(at(tree, name, b"other"))
    assert os.listdir(at(tree, name)) == [name]
    assert len(show_lines(tree, "changes")) == 2
    finish(tree)
    assert Path(os.fsdecode(at(model / "v1", name, name))).read_bytes() == b"base+"


# Tools


def test_git_in_a_patch(model: Path) -> None:
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
def test_sqlite_in_a_patch(model: Path, journal: str) -> None:
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
    """Makes a directory as a package's release would look."""

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
        # All of them old, and no two alike: rsync leaves a time of the same second as it is.
        for index, path in enumerate([*sorted(root.rglob("*"), reverse=True), root]):
            os.utime(path, ns=(1, OLD + (number * 1000 + index) * 10**9), follow_symlinks=False)
        return root

    return make


def test_rsync_makes_the_next_release(model: Path, release: Callable[[int], Path]) -> None:
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


def test_tar_cp_and_rm_over_a_base(model: Path, release: Callable[[int], Path], tmp_path: Path) -> None:
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


def test_editors_and_find(based: Path) -> None:
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


def test_directories_move_back_and_forth(based: Path) -> None:
    before = snapshot(based / "v0")
    tree = patch(based, "job")
    with sitting(tree / "dir" / "deep") as (sitter,):
        os.rename(tree / "dir", tree / "moved")
        assert sitter.cat("../below") == "below"
        os.rename(tree / "moved" / "deep", tree / "deep")
        assert sitter.cat("../file") == "base"
        with fails(errno.EINVAL):
            os.rename(tree / "moved", tree / "moved" / "below-itself")
        os.rename(tree / "deep", tree / "moved" / "deep")
        os.rename(tree / "moved", tree / "dir")
    assert {path: node.content for path, node in snapshot(tree).items()} == {
        path: node.content for path, node in before.items()
    }
    assert finish(tree)["unchanged"] is True


def test_a_file_becomes_a_directory_and_a_file_again(based: Path) -> None:
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


def test_a_large_directory(model: Path) -> None:
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


def test_the_daemon_holds_nothing_for_what_was_looked_at(shared_mount: MountedVolume, model: Path) -> None:
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


# Finishing


def test_finish_while_base_files_are_read(based: Path) -> None:
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


def test_writers_of_base_files_keep_a_finish_waiting_and_force_does_not(based: Path) -> None:
    tree = patch(based, "job")
    with sitting(tree) as (sitter,):
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
            assert sitter.cat("file") == read(based / "v1" / "file") == "BASE"
            with fails(errno.EROFS):
                sitter.write("other", "late")
        finally:
            for fd in (writer, reader, lower):
                os.close(fd)


def test_many_patches_finish_at_once_and_all_are_merged(model: Path) -> None:
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
    """A patch whose base moved, in each way against its changes."""
    names = ("both", "same", "gone there", "gone here", "gone on both", "mode", "kind")
    commit(model, "base", dict.fromkeys((*names, "dir there/file", "dir here/file"), "base"), "good")
    here, there = patch(model, "here", "good"), patch(model, "there", "good")
    work_there(there)
    finish(there, "good")
    work_here(here)
    return here


def test_a_collision_changes_nothing_and_is_told_path_by_path(collided: Path) -> None:
    model = collided.parent.parent
    before = snapshot(collided)
    with fails(errno.ESTALE):
        finish(collided, "better")
    said = show(collided, "error")
    assert said.count("\n") == 1
    for path in COLLISIONS:
        assert f"{path} (" in said
    for path in ("same", "gone on both", "only"):
        assert f"{path} (" not in said
    assert "both (changed here, changed there)" in said
    assert "gone here (removed here, changed there)" in said
    assert snapshot(collided) == before
    assert set(os.listdir(model)) == {"pending", "v0", "v1", "good", "latest"}
    assert show(collided, "base") == "good\n"
    (collided / "still writable").write_text("")


def test_a_second_base_resolves_a_collision(collided: Path) -> None:
    model = collided.parent.parent
    with fails(errno.ESTALE):
        finish(collided)
    command(collided, "base", "good")
    assert read(collided / "both") == "ours"
    assert read(collided / "only theirs") == "theirs"
    assert read(collided / "only ours") == "ours"
    assert "gone here" not in os.listdir(collided)
    assert read(collided / "dir there" / "file") == "ours"
    # The alias moves once more.
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


def test_a_path_that_is_made_equal_to_theirs_collides_no_more(based: Path) -> None:
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
def test_bases_that_are_none(based: Path, line: bytes, code: int) -> None:
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


def test_a_base_of_another_collection(shared_mnt: Path, based: Path) -> None:
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


def test_a_touched_tree_takes_no_base(based: Path) -> None:
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


def test_no_base_while_files_are_written_nor_of_a_version(based: Path) -> None:
    tree = patch(based, "job", "v0")
    with open(tree / "file", "r+"), fails(errno.EBUSY):
        command(tree, "base", "good")
    assert "file" in show(tree, "error")
    with fails(errno.ENOENT, errno.EROFS, errno.EPERM):
        command(based / "v0", "base", "good")


def test_a_base_that_is_deleted_meanwhile(shared_mount: MountedVolume, model: Path) -> None:
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


# Permissions


def refused_as_nobody(*functions: Callable[[], Any]) -> None:
    for function in functions:
        with fails(errno.EACCES, errno.EPERM):
            in_child(function, uid=NOBODY)


@pytest.fixture
def guarded(model: Path) -> Path:
    """A collection whose version has files that not everybody may see or change."""
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
def test_a_patch_gives_nobody_a_right(guarded: Path) -> None:
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
    # What is copied up, lifted or a stub keeps its mode and owner.
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
def test_setuid_of_base_files_ends_with_the_first_write(guarded: Path) -> None:
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
def test_changes_tell_no_names_that_a_walk_would_not(guarded: Path) -> None:
    os.chmod(guarded / "pending", 0o777)
    tree = guarded / "pending" / "theirs"

    def work() -> str:
        os.mkdir(tree)
        command(tree, "base", "latest")
        # Both names stand in a directory of theirs.
        OsFilesystem(tree).rename(b"closed", b"plain", RENAME_EXCHANGE)
        try:
            return show(tree, "changes")
        except PermissionError:
            return ""

    assert "named secretly" not in in_child(work, uid=NOBODY)
    assert "named secretly" in show(tree, "changes")  # root may list it


# A crash of the daemon


def test_what_was_answered_survives_a_daemon_that_is_killed() -> None:
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
                assert found in states, [_difference(found, state) for state in states]
                models[part] = found
        finish(tree)
        for part, files in models.items():
            sealed = {f"{part}/{path.name}": path.read_text() for path in (model / "v1" / part).iterdir()}
            assert sealed == files


def test_gc_removes_what_a_killed_copy_up_left(own_mount: MountedVolume, collection: Path) -> None:
    commit(collection, "base", {"file": "base"})
    tree = patch(collection, "job")
    must("umount", own_mount.point)
    left = backing(own_mount, tree) / ".artfs-tmp.999999.0123456789abcdef"
    left.write_bytes(b"part of a copy")
    os.utime(left, (0, 0))
    _mount(own_mount)
    must("--volume", own_mount.volume, "gc")
    assert not left.exists()
    assert read(tree / "file") == "base"


def _difference(one: dict[str, Any], other: dict[str, Any]) -> dict[str, tuple[str | None, str | None]]:
    return {
        name: (one.get(name), other.get(name)) for name in one | other if one.get(name) != other.get(name)
    }


def _load(tree: Path, part: str, files: dict[str, str], child: Child) -> list[dict[str, str]]:
    """Works until the daemon dies; what was there before the last change, and what is after it."""
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
    def dead() -> bool:
        try:
            os.stat(mounted.point)
        except OSError as error:
            return error.errno == errno.ENOTCONN
        return False

    eventually(dead, what="the mount is dead")
    run("umount", "-l", mounted.point)
    _mount(mounted)
