"""Finishing: what the answer guarantees, what refuses it, what others see meanwhile."""

from __future__ import annotations

import errno
import json
import mmap
import os
import signal
import socket
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import xxhash

from tests.conformance.dirstream import Stream
from tests.conformance.driver import RENAME_EXCHANGE, OsFilesystem
from tests.conformance.helpers import eventually, fails, in_syscall
from tests.conformance.processes import Child
from tests.mount.control import (
    command,
    commit,
    finish,
    finish_child,
    show,
    show_json,
    show_lines,
    snapshot,
    writer,
)
from tests.mount.mounting import MountedVolume

pytestmark = pytest.mark.fuse


def pending_names(model: Path) -> list[str]:
    return sorted(os.listdir(model / "pending"))


def versions(model: Path) -> list[str]:
    return [line["version"] for line in show_lines(model, "versions")]


def waits(child: Child | subprocess.Popen[bytes]) -> None:
    """Waits until the process is in write(2)."""
    eventually(lambda: in_syscall(child.pid, "write"), what="the finish is waiting")


# The answer


def test_the_answer_is_one_line_of_json(model: Path, job: Path) -> None:
    (job / "file").write_text("data")
    answer = finish(job)
    assert set(answer) >= {"version", "unchanged", "digest"}
    assert (answer["version"], answer["unchanged"]) == ("v0", False)
    assert answer["digest"].startswith("xxh128:")
    assert (model / "v0" / "file").read_text() == "data"
    assert versions(model) == ["v0"]
    assert show_json(model / "v0", "finish")["version"] == "v0"


def test_versions_count_up(model: Path) -> None:
    for number in range(11):
        assert commit(model, f"job-{number}", {"file": str(number)}).name == f"v{number}"
    assert versions(model) == [f"v{number}" for number in range(11)]
    assert os.readlink(model / "latest") == "v10"
    assert (model / "v3" / "file").read_text() == "3"
    expected = {"pending", "latest", *(f"v{number}" for number in range(11))}
    assert set(os.listdir(model)) == expected


@pytest.mark.parametrize(
    ("line", "aliases"),
    [("", []), ("best", ["best"]), ("  a   b-2 C.3 ", ["C.3", "a", "b-2"]), ("x x", ["x"])],
)
def test_each_word_of_the_command_is_an_alias(model: Path, job: Path, line: str, aliases: list[str]) -> None:
    (job / "file").write_text("data")
    finish(job, line)
    for alias in aliases:
        assert os.readlink(model / alias) == "v0"
    assert set(os.listdir(model)) == {"pending", "v0", "latest", *aliases}
    assert show_json(model / "v0", "status")["aliases"] == [*aliases, "latest"]


def test_aliases_move_to_the_new_version(model: Path) -> None:
    commit(model, "one", {"file": "1"}, "best first")
    commit(model, "two", {"file": "2"}, "best")
    assert [os.readlink(model / name) for name in ("best", "first", "latest")] == ["v1", "v0", "v1"]
    assert show_json(model / "v0", "status")["aliases"] == ["first"]


def test_an_illegal_alias_changes_nothing(model: Path, job: Path) -> None:
    (job / "file").write_text("data")
    for word in ("v1", "pending", ".hidden", "a/b", "a%2Fb", "%FF", "--dash", "x" * 129, "ü" * 65):
        with fails(errno.EINVAL):
            finish(job, f"fine {word}")
    assert versions(model) == []
    assert pending_names(model) == ["job"]
    (job / "file").write_text("still writable")


def test_an_empty_tree_can_be_finished(model: Path, job: Path) -> None:
    assert finish(job)["version"] == "v0"
    assert os.listdir(model / "v0") == []
    status = show_json(model / "v0", "status")
    assert (status["size"], status["file_count"]) == (0, 0)


def test_a_version_equals_its_pending_tree(model: Path, job: Path) -> None:
    (job / "dir" / "deeper").mkdir(parents=True)
    for number in range(300):
        (job / "dir" / f"file-{number}").write_bytes(b"%d" % number * number)
    (job / "dir" / "deeper" / "large").write_bytes(os.urandom(3 << 20))
    os.symlink("../dir", job / "dir" / "deeper" / "up")
    before = snapshot(job)
    finish(job)
    assert snapshot(model / "v0") == before


def test_a_directory_of_several_pages_is_listed_whole(model: Path, job: Path) -> None:
    (job / "flat").mkdir()
    for number in range(1_500):
        (job / "flat" / f"{number:04}").write_bytes(b"%d" % number)
    finish(job)
    flat = model / "v0" / "flat"
    assert sorted(os.listdir(flat)) == [f"{number:04}" for number in range(1_500)]
    for number in (0, 1, 999, 1000, 1001, 1499):
        assert (flat / f"{number:04}").read_bytes() == b"%d" % number
    assert not (flat / "1500").exists()
    with os.scandir(flat) as entries:
        assert all(entry.inode() == entry.stat().st_ino for entry in entries)
    stream = Stream(os.fsencode(flat))
    places = [(stream.tell(), name) for name in iter(stream.next, None)]
    stream.seek(places[700][0])
    assert stream.rest() == [name for _, name in places[701:]]
    stream.rewind()
    assert stream.rest() == [name for _, name in places]
    stream.close()


def test_equal_files_have_inodes_of_their_own(model: Path) -> None:
    one = commit(model, "one", {"a": "same", "b": "same", "dir/c": "same", "empty-1": "", "empty-2": ""})
    two = commit(model, "two", {"x": "same", "y": "other"})
    assert [(one / name).read_text() for name in ("a", "b", "dir/c", "empty-1")] == [
        "same",
        "same",
        "same",
        "",
    ]
    assert (two / "x").read_text() == "same"
    inodes = [os.stat(path).st_ino for path in (one / "a", one / "b", one / "dir" / "c", two / "x")]
    assert len(set(inodes)) == 4


def test_all_names_of_a_hard_link_are_sealed(model: Path, job: Path) -> None:
    (job / "one").write_text("linked")
    os.link(job / "one", job / "two")
    (job / "dir").mkdir()
    os.link(job / "one", job / "dir" / "three")
    finish(job)
    assert [(model / "v0" / name).read_text() for name in ("one", "two", "dir/three")] == ["linked"] * 3


# The id afterwards


def test_a_finished_id_resolves_to_its_version(model: Path, job: Path) -> None:
    (job / "file").write_text("data")
    finish(job)
    assert pending_names(model) == []
    assert os.readlink(job) == "../v0"
    assert (job / "file").read_text() == "data"
    with fails(errno.EEXIST):
        job.mkdir()
    subprocess.run(["mkdir", "-p", job], check=True)
    with fails(errno.EPERM):
        os.unlink(job)
    with fails(errno.EPERM):
        os.rename(job, model / "pending" / "other")
    assert os.readlink(job) == "../v0"


def test_a_late_writer_gets_erofs(model: Path, job: Path) -> None:
    (job / "dir").mkdir()
    (job / "dir" / "file").write_text("data")
    finish(job)
    for refused in (
        lambda: os.open(job / "dir" / "file", os.O_WRONLY),
        lambda: os.open(job / "dir" / "file", os.O_RDWR | os.O_APPEND),
        lambda: os.open(job / "dir" / "file", os.O_WRONLY | os.O_TRUNC),
        lambda: os.open(job / "new", os.O_WRONLY | os.O_CREAT),
        lambda: os.mkdir(job / "new"),
        lambda: os.unlink(job / "dir" / "file"),
        lambda: os.truncate(job / "dir" / "file", 0),
    ):
        with fails(errno.EROFS):
            refused()
    assert (model / "v0" / "dir" / "file").read_text() == "data"
    assert os.listdir(model / "v0") == ["dir"]


def test_a_rename_between_a_tree_and_its_version_is_erofs(model: Path, job: Path) -> None:
    """A finish can come between the lookups of the two paths."""
    (job / "file").write_text("data")
    before = os.open(job, os.O_RDONLY)
    finish(job)
    after = os.open(model / "v0", os.O_RDONLY)
    try:
        with fails(errno.EROFS):
            os.rename("file", "other", src_dir_fd=before, dst_dir_fd=after)
        with fails(errno.EROFS):
            os.link("file", "other", src_dir_fd=after, dst_dir_fd=before)
    finally:
        os.close(before)
        os.close(after)


def test_another_id_is_another_version(model: Path) -> None:
    trees = [model / "pending" / f"job {number}\n\udcff" for number in range(3)]
    for number, tree in enumerate(trees):
        tree.mkdir()
        (tree / "file").write_text(str(number))
    assert len(pending_names(model)) == 3
    for number in (2, 0, 1):
        finish(trees[number])
    assert [os.readlink(tree) for tree in trees] == ["../v1", "../v2", "../v0"]
    assert [(tree / "file").read_text() for tree in trees] == ["0", "1", "2"]


def test_open_directories_show_the_sealed_tree(model: Path, job: Path) -> None:
    (job / "dir").mkdir()
    (job / "file").write_text("data")
    (job / "dir" / "file").write_text("deep data")
    root = os.open(job, os.O_RDONLY | os.O_DIRECTORY)
    below = os.open(job / "dir", os.O_RDONLY | os.O_DIRECTORY)
    try:
        finish(job)
        for fd, names, text in ((root, ["dir", "file"], b"data"), (below, ["file"], b"deep data")):
            listing = os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
            assert sorted(os.listdir(listing)) == names
            os.close(listing)
            file = os.open("file", os.O_RDONLY, dir_fd=fd)
            assert os.read(file, 100) == text
            os.close(file)
            for refused in (
                lambda fd=fd: os.open("new", os.O_WRONLY | os.O_CREAT, dir_fd=fd),
                lambda fd=fd: os.open("file", os.O_WRONLY, dir_fd=fd),
                lambda fd=fd: os.mkdir("new", dir_fd=fd),
                lambda fd=fd: os.unlink("file", dir_fd=fd),
                lambda fd=fd: os.rename("file", "new", src_dir_fd=fd, dst_dir_fd=fd),
                lambda fd=fd: os.chmod("file", 0o600, dir_fd=fd),
                lambda fd=fd: os.fchmod(fd, 0o700),
            ):
                with fails(errno.EROFS):
                    refused()
    finally:
        os.close(root)
        os.close(below)


@pytest.mark.parametrize("of_a_patch", [False, True], ids=["plain", "patch"])
def test_an_open_directory_can_be_listed_again_after_its_tree_was_finished(
    own_mount: MountedVolume, of_a_patch: bool
) -> None:
    model = own_mount.point / "model"
    model.mkdir()
    if of_a_patch:
        commit(model, "base", {f"dir/base {number}": "" for number in range(20)})
    tree = model / "pending" / "job"
    tree.mkdir()
    if of_a_patch:
        command(tree, "base", "v0")
    (tree / "dir").mkdir(exist_ok=True)
    for number in range(20):
        (tree / "dir" / f"{number}").touch()
    names = sorted(os.listdir(tree / "dir"))
    unread, read = (os.open(tree / "dir", os.O_RDONLY | os.O_DIRECTORY) for _ in range(2))
    try:
        assert sorted(os.listdir(read)) == names
        finish(tree)
        # The rest of the tree is in the trash until a thread has deleted it.
        eventually(lambda: not os.listdir(own_mount.volume / "trash"), what="the trash is emptied")
        assert sorted(os.listdir(read)) == names
        assert sorted(os.listdir(unread)) == names
    finally:
        os.close(read)
        os.close(unread)


def test_a_shell_can_finish_its_working_directory(model: Path, job: Path) -> None:
    script = (
        "echo data > file; echo best > .artfs/finish; cat file; ls; cat .artfs/status; (: > new) || echo no"
    )
    done = subprocess.run(["sh", "-c", script], cwd=job, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert lines[:2] == ["data", "file"]
    assert json.loads(lines[2])["version"] == "v0"
    assert lines[-1] == "no"
    assert os.listdir(model / "best") == ["file"]


def test_an_open_reader_is_not_affected_by_the_seal(model: Path, job: Path) -> None:
    data = os.urandom(1 << 20)
    (job / "file").write_bytes(data)
    with open(job / "file", "rb", buffering=0) as reader, open(job / "file", "rb") as other:
        mapping = mmap.mmap(other.fileno(), len(data), prot=mmap.PROT_READ)
        half = reader.read(1 << 19)
        assert mapping[:100] == data[:100]
        finish(job)
        rest = b""
        while part := reader.read(1 << 20):
            rest += part
        assert half + rest == data
        assert mapping[:] == data
        assert os.fstat(reader.fileno()).st_size == len(data)
        mapping.close()
    assert (model / "v0" / "file").read_bytes() == data


def test_an_old_read_handle_cannot_change_attributes(model: Path, job: Path) -> None:
    (job / "file").write_text("data")
    os.setxattr(job / "file", "user.key", b"value")
    fd = os.open(job / "file", os.O_RDONLY)
    try:
        finish(job)
        before = snapshot(model / "v0")
        for refused in (
            lambda: os.fchmod(fd, 0o777),
            lambda: os.fchown(fd, 1, 1),
            lambda: os.utime(fd, (1, 1)),
            lambda: os.utime(fd),
            lambda: os.setxattr(fd, "user.late", b"x"),
            lambda: os.removexattr(fd, "user.key"),
            lambda: os.open(f"/proc/self/fd/{fd}", os.O_WRONLY),
            lambda: os.truncate(f"/proc/self/fd/{fd}", 0),
        ):
            with fails(errno.EROFS):
                refused()
        assert os.getxattr(fd, "user.key") == b"value"
        assert snapshot(model / "v0") == before
    finally:
        os.close(fd)


def test_a_reader_by_path_never_fails_across_the_seal(model: Path, job: Path) -> None:
    (job / "dir").mkdir()
    for number in range(20):
        (job / "dir" / str(number)).write_text(f"text {number}")

    def read_all(child: Child) -> int:
        rounds = 0
        while not os.path.lexists(model / "enough"):
            for number in range(20):
                assert (job / "dir" / str(number)).read_text() == f"text {number}"
            assert len(os.listdir(job / "dir")) == 20
            rounds += 1
            if rounds == 3:
                child.say()
        return rounds

    with Child(read_all) as one, Child(read_all) as two:
        one.heard()
        two.heard()
        finish(job)
        os.symlink("v0", model / "enough")
        assert one.value() >= 3
        assert two.value() >= 3


# Atomicity of the seal


def test_a_seal_contains_exactly_the_acknowledged_changes(model: Path, job: Path) -> None:

    def make(child: Child) -> int:
        made = 0
        while True:
            try:
                os.mkdir(job / str(made))
            except OSError as error:
                if error.errno == errno.EBUSY:  # a seal is under way, which may still fail
                    continue
                if error.errno != errno.EROFS:
                    raise
                return made
            made += 1
            if made == 20:
                child.say()

    with Child(make) as making:
        making.heard()
        finish(job)
        made = making.value()
    assert sorted(os.listdir(model / "v0"), key=int) == [str(number) for number in range(made)]


def test_a_seal_contains_every_closed_file(model: Path, job: Path) -> None:
    def write(child: Child) -> int:
        written = 0
        while True:
            text = f"{written}\n" * 2_000
            try:
                with open(job / str(written), "x") as file:
                    file.write(text)
            except FileExistsError:
                (job / str(written)).unlink()
                continue
            except OSError as error:
                if error.errno == errno.EBUSY:
                    continue
                if error.errno != errno.EROFS:
                    raise
                return written
            written += 1
            if written == 10:
                child.say()

    with Child(write) as writing:
        writing.heard()
        finish(job, "--wait=60")
        written = writing.value()
    sealed = sorted(os.listdir(model / "v0"), key=int)
    assert sealed[:written] == [str(number) for number in range(written)]
    for number in range(written):
        assert (model / "v0" / str(number)).read_text() == f"{number}\n" * 2_000
    # A file that was created and then refused may exist, empty.
    for name in sealed[written:]:
        assert (model / "v0" / name).read_text() == ""


@pytest.mark.parametrize(
    "how", ["overwritten", "appended", "truncated", "mapped", "same size and time", "swapped"]
)
def test_a_file_changed_after_a_close_is_sealed_as_it_is(model: Path, job: Path, how: str) -> None:
    """An earlier digest of the file is not reused."""
    data = bytearray(os.urandom(300_000))
    for name in ("file", "other"):
        (job / name).write_bytes(data if name == "file" else bytes(data[::-1]))
    times = os.stat(job / "file").st_mtime_ns
    if how == "overwritten":
        with open(job / "file", "r+b", buffering=0) as file:
            file.seek(100_000)
            file.write(b"X" * 1000)
        data[100_000:101_000] = b"X" * 1000
    elif how == "appended":
        with open(job / "file", "ab") as log:
            log.write(b"more")
        data += b"more"
    elif how == "truncated":
        os.truncate(job / "file", 1_000)
        os.truncate(job / "file", 2_000)
        data[1_000:] = bytes(1_000)
    elif how == "mapped":
        with open(job / "file", "r+b") as mapped, mmap.mmap(mapped.fileno(), len(data)) as mapping:
            mapping[200_000:200_006] = b"mapped"
        data[200_000:200_006] = b"mapped"
    elif how == "same size and time":
        with open(job / "file", "r+b", buffering=0) as file:
            file.write(b"Y")
        data[:1] = b"Y"
        os.utime(job / "file", ns=(times, times))
    else:
        OsFilesystem(job).rename(b"file", b"other", RENAME_EXCHANGE)
        data.reverse()
    finish(job)
    assert (model / "v0" / "file").read_bytes() == data
    digest = f"xxh128:{xxhash.xxh3_128_hexdigest(bytes(data))}"
    assert show_json(model / "v0", "manifest.json")["file"]["digest"] == digest


def test_a_tree_deeper_than_any_path_can_be_finished(model: Path, job: Path) -> None:
    name, levels = "a level with a name of some length", 1_100
    fd = os.open(job, os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(levels):
        os.mkdir(name, dir_fd=fd)
        below = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
        os.close(fd)
        fd = below
    file = os.open("bottom", os.O_WRONLY | os.O_CREAT, dir_fd=fd)
    os.write(file, b"deep")
    os.close(file)
    os.close(fd)

    finish(job)

    fd = os.open(model / "v0", os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(levels):
        below = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
        os.close(fd)
        fd = below
    file = os.open("bottom", os.O_RDONLY, dir_fd=fd)
    assert os.read(file, 100) == b"deep"
    os.close(file)
    os.close(fd)
    manifest = show_json(model / "v0", "manifest.json")
    assert len(manifest) == levels + 1
    assert "/".join([name] * levels + ["bottom"]) in manifest


# Finishing again


def test_finishing_again_returns_the_same_version(model: Path, job: Path) -> None:
    (job / "file").write_text("data")
    first = finish(job, "one")
    again = finish(job, "two")
    assert (again["version"], again["digest"]) == ("v0", first["digest"])
    assert finish(model / "v0", "three")["version"] == "v0"
    assert finish(model / "latest")["version"] == "v0"
    for alias in ("one", "two", "three"):
        assert os.readlink(model / alias) == "v0"
    assert versions(model) == ["v0"]


def test_finishing_an_older_version_again_moves_aliases_to_it(model: Path) -> None:
    commit(model, "one", {"file": "1"})
    commit(model, "two", {"file": "2"}, "best")
    assert finish(model / "v0", "best")["version"] == "v0"
    assert os.readlink(model / "best") == "v0"
    assert os.readlink(model / "latest") == "v1"


# Unchanged trees


def test_an_equal_tree_makes_no_version(model: Path) -> None:
    files = {"a": "1", "dir/b": "2"}
    commit(model, "one", files)
    first = show_json(model / "v0", "status")
    tree = model / "pending" / "two"
    (tree / "dir").mkdir(parents=True)
    (tree / "dir" / "b").write_text("2")
    (tree / "a").write_text("1")
    os.utime(tree / "a", (1, 1))
    os.chmod(tree / "a", 0o600)
    os.setxattr(tree / "a", "user.note", b"dropped")
    answer = finish(tree, "again")
    assert (answer["version"], answer["unchanged"], answer["digest"]) == ("v0", True, first["digest"])
    assert versions(model) == ["v0"]
    assert os.readlink(model / "again") == "v0"
    assert os.readlink(tree) == "../v0"
    assert os.stat(model / "v0" / "a").st_mtime != 1
    assert os.listxattr(model / "v0" / "a") == []
    assert pending_names(model) == []


def test_an_equal_tree_gives_its_labels_to_the_version(model: Path) -> None:
    def build(name: str, labels: dict[str, Any]) -> Path:
        tree = model / "pending" / name
        tree.mkdir()
        (tree / "file").write_text("data")
        command(tree, "labels.json", json.dumps(labels))
        return tree

    finish(build("one", {"tags": ["old"], "description": "first", "metadata": {"a": 1, "b": 1}}))
    tree = build("two", {"tags": ["new"], "description": "second", "metadata": {"b": {"c": 2}, "n": None}})
    answer = finish(tree)
    assert (answer["version"], answer["unchanged"]) == ("v0", True)
    assert answer["updated"] == ["description", "metadata", "tags"]
    assert show_json(model / "v0", "labels.json") == {
        "tags": ["old", "new"],
        "description": "second",
        "metadata": {"a": 1, "b": {"c": 2}, "n": None},
        "ttl": "inherit",
    }
    # Labels that the version has already, and empty ones, change nothing.
    changed_at = show(model / "v0", "updated_at")
    assert "updated" not in finish(build("three", {"tags": ["old"], "metadata": {"a": 1}}))
    assert show(model / "v0", "updated_at") == changed_at


@pytest.mark.parametrize(
    "change",
    ["content", "name", "exec bit", "added", "removed", "empty directory", "symlink target", "kind", "moved"],
)
def test_every_kind_of_change_makes_a_version(model: Path, change: str) -> None:
    def build(name: str) -> Path:
        tree = model / "pending" / name
        (tree / "dir").mkdir(parents=True)
        (tree / "file").write_text("data")
        (tree / "dir" / "below").write_text("below")
        os.symlink("file", tree / "link")
        return tree

    finish(build("one"))
    tree = build("two")
    if change == "content":
        (tree / "file").write_text("DATA")
    elif change == "name":
        (tree / "file").rename(tree / "File")
    elif change == "exec bit":
        os.chmod(tree / "file", 0o755)
    elif change == "added":
        (tree / "dir" / "more").write_text("")
    elif change == "removed":
        (tree / "dir" / "below").unlink()
    elif change == "empty directory":
        (tree / "dir" / "empty").mkdir()
    elif change == "symlink target":
        (tree / "link").unlink()
        os.symlink("./file", tree / "link")
    elif change == "kind":
        (tree / "link").unlink()
        (tree / "link").write_text("file")
    else:
        (tree / "dir" / "below").rename(tree / "below")
    answer = finish(tree)
    assert (answer["version"], answer["unchanged"]) == ("v1", False)
    assert answer["digest"] != show_json(model / "v0", "status")["digest"]


def test_only_the_newest_version_counts_for_unchanged(model: Path) -> None:
    commit(model, "one", {"file": "1"})
    commit(model, "two", {"file": "2"})
    tree = model / "pending" / "three"
    tree.mkdir()
    (tree / "file").write_text("1")
    answer = finish(tree)
    assert (answer["version"], answer["unchanged"]) == ("v2", False)
    digests = [line["digest"] for line in show_lines(model, "versions")]
    assert digests[0] == digests[2] != digests[1]


# Refusals: open files, joined runs, fifos


def test_an_open_writer_refuses_a_finish_and_is_named(model: Path, job: Path) -> None:
    (job / "dir").mkdir()
    with writer(job / "dir" / "busy file", b"partly") as held:
        (entry,) = show_json(job, "status")["open_for_write"]
        assert (entry["path"], entry["pid"]) == ("dir/busy file", held.pid)
        assert Path("/proc/self/comm").read_text().strip()[:6] in entry["command"]
        with fails(errno.EBUSY):
            finish(job, "--wait=0 best")
        reason = show(job, "error")
        assert "dir/busy file" in reason
        assert str(held.pid) in reason
        assert versions(model) == []
        assert pending_names(model) == ["job"]
        assert not os.path.lexists(model / "best")
        (job / "more").write_text("goes on")
        held.go()
        held.value()
    assert show_json(job, "status")["open_for_write"] == []
    assert finish(job)["version"] == "v0"
    assert (model / "v0" / "dir" / "busy file").read_text() == "partly"
    assert (model / "v0" / "more").read_text() == "goes on"


def test_a_finish_with_an_open_writer_is_ebusy(model: Path, job: Path) -> None:
    with writer(job / "busy"), fails(errno.EBUSY):
        finish(job)
    assert versions(model) == []


def test_access_mode_3_gives_no_right_to_write(job: Path) -> None:
    """Linux's access mode 3 checks both rights and grants neither, so the descriptor is no writer."""
    (job / "file").write_text("text")
    fd = os.open(job / "file", os.O_ACCMODE)
    try:
        with fails(errno.EBADF):
            os.write(fd, b"more")
        assert show_json(job, "status")["open_for_write"] == []
        assert finish(job)["version"] == "v0"
    finally:
        os.close(fd)


def test_each_of_several_writers_is_named(job: Path) -> None:
    names = ["a", "b\n", "c\udcff"]
    with writer(job / names[0]) as one, writer(job / names[1]) as two, writer(job / names[2]) as three:
        entries = show_json(job, "status")["open_for_write"]
        assert {entry["pid"] for entry in entries} == {one.pid, two.pid, three.pid}
        assert {"a", "b\n"} < {entry["path"] for entry in entries}
        with fails(errno.EBUSY):
            finish(job, "--wait=0")
        assert show(job, "error").count("\n") == 1


def test_the_path_of_a_writer_follows_renames(job: Path) -> None:
    (job / "dir").mkdir()
    with writer(job / "dir" / "old"):
        (job / "dir" / "old").rename(job / "dir" / "new")
        (job / "dir").rename(job / "moved")
        (entry,) = show_json(job, "status")["open_for_write"]
        assert entry["path"] == "moved/new"


def test_readers_and_directories_do_not_count(model: Path, job: Path) -> None:
    (job / "file").write_text("data")
    reader = os.open(job / "file", os.O_RDONLY)
    directory = os.open(job, os.O_RDONLY | os.O_DIRECTORY)
    assert show_json(job, "status")["open_for_write"] == []
    assert finish(job, "--wait=0")["version"] == "v0"
    os.close(reader)
    os.close(directory)


def test_unlinked_files_do_not_count(model: Path, job: Path) -> None:
    fd = os.open(job / "scratch", os.O_RDWR | os.O_CREAT)
    os.write(fd, b"scratch")
    os.unlink(job / "scratch")
    try:
        assert show_json(job, "status")["open_for_write"] == []
        assert finish(job, "--wait=0")["version"] == "v0"
        assert os.pread(fd, 100, 0) == b"scratch"
    finally:
        os.close(fd)
    assert os.listdir(model / "v0") == []


def test_an_open_file_with_a_remaining_name_counts(job: Path) -> None:
    (job / "one").write_text("data")
    os.link(job / "one", job / "two")
    with writer(job / "one"):
        (job / "one").unlink()
        with fails(errno.EBUSY):
            finish(job, "--wait=0")
        (entry,) = show_json(job, "status")["open_for_write"]
        assert entry["path"] == "two"


def test_replaced_files_do_not_count(model: Path, job: Path) -> None:
    with writer(job / "file", b"old") as held:
        (job / "new").write_text("new")
        (job / "new").rename(job / "file")
        assert show_json(job, "status")["open_for_write"] == []
        assert finish(job, "--wait=0")["version"] == "v0"
        held.go()
        held.outcome()
    assert (model / "v0" / "file").read_text() == "new"


@pytest.mark.parametrize("line", ["--wait=0", "--force"])
def test_an_old_handle_cannot_change_a_sealed_file_with_another_name(
    model: Path, job: Path, line: str
) -> None:
    fd = os.open(job / "one", os.O_RDWR | os.O_CREAT)
    try:
        os.write(fd, b"sealed")
        os.link(job / "one", job / "two")
        (job / "one").unlink()
        with suppress(OSError):
            finish(job, line)
        if line == "--force":
            assert versions(model) == ["v0"]
        if versions(model):
            with suppress(OSError):
                os.pwrite(fd, b"BEYOND", 0)
            assert (model / "v0" / "two").read_text() == "sealed"
    finally:
        os.close(fd)
    if versions(model):
        assert (model / "v0" / "two").read_text() == "sealed"


def test_a_writable_shared_mapping_counts(model: Path, job: Path) -> None:
    (job / "file").write_bytes(bytes(4096))

    def hold(child: Child) -> None:
        fd = os.open(job / "file", os.O_RDWR)
        mapping = mmap.mmap(fd, 4096)
        os.close(fd)
        mapping[:5] = b"early"
        child.say()
        child.pause()
        mapping[5:9] = b"late"
        mapping.close()

    with Child(hold) as child:
        child.heard()
        with fails(errno.EBUSY):
            finish(job, "--wait=0")
        (entry,) = show_json(job, "status")["open_for_write"]
        assert entry["path"] == "file"
        child.go()
        child.value()
    finish(job)
    assert (model / "v0" / "file").read_bytes() == b"earlylate".ljust(4096, b"\0")


def test_finish_waits_for_a_close(model: Path, job: Path) -> None:
    with writer(job / "file", b"in time") as held, finish_child(job, "--wait=100") as finishing:
        waits(finishing)
        # Other calls go on while it waits.
        assert show_json(job, "status")["state"] == "pending"
        (job / "new").write_text("written meanwhile")
        (job / "dir").mkdir()
        (job / "new").rename(job / "dir" / "renamed")
        assert pending_names(model) == ["job"]
        held.go()
        held.value()
        assert finishing.value()["version"] == "v0"
    assert (model / "v0" / "file").read_text() == "in time"
    assert (model / "v0" / "dir" / "renamed").read_text() == "written meanwhile"


def test_a_killed_writer_no_longer_counts(model: Path, job: Path) -> None:
    with writer(job / "file", b"its last words") as held, finish_child(job, "--wait=100") as finishing:
        waits(finishing)
        held.kill()
        assert finishing.value()["version"] == "v0"
    assert (model / "v0" / "file").read_text() == "its last words"


def test_a_finish_right_after_a_close_succeeds(model: Path) -> None:
    for number in range(30):
        tree = model / "pending" / f"job-{number}"
        tree.mkdir()
        subprocess.run(
            ["sh", "-c", f"echo {number} > file; echo --wait=1 > .artfs/finish"], cwd=tree, check=True
        )
    assert len(versions(model)) == 30


def test_a_finish_waits_for_joined_runs(model: Path, job: Path) -> None:
    (job / "file").write_text("data")
    command(job, "runs", "+trainer-7")
    with fails(errno.EBUSY):
        finish(job, "--wait=0")
    assert "trainer-7" in show(job, "error")
    assert versions(model) == []
    with finish_child(job, "--wait=100") as finishing:
        waits(finishing)
        command(job, "runs", "-trainer-7")
        assert finishing.value()["version"] == "v0"
    assert any("trainer-7" in str(run) for run in show_json(model / "v0", "status")["runs"])


@pytest.mark.parametrize("kind", ["fifo", "socket"])
def test_fifos_and_sockets_refuse_a_finish(model: Path, job: Path, kind: str) -> None:
    (job / "dir").mkdir()
    path = job / "dir" / "odd one"
    if kind == "fifo":
        os.mkfifo(path)
    else:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))
    with fails(errno.EINVAL):
        finish(job, "best")
    assert "dir/odd one" in show(job, "error")
    assert versions(model) == []
    assert pending_names(model) == ["job"]
    path.unlink()
    assert finish(job)["version"] == "v0"


def test_other_trees_are_writable_during_a_finish(model: Path) -> None:
    one, two = model / "pending" / "one", model / "pending" / "two"
    for tree in (one, two):
        tree.mkdir()
    for number in range(200):
        (one / str(number)).write_bytes(os.urandom(50_000))
    fd = os.open(two / "log", os.O_WRONLY | os.O_CREAT)
    written = 0
    with Child(lambda _child: finish(one)) as finishing:
        while not os.path.lexists(model / "v0"):
            written += os.write(fd, b"still writing\n")
            (two / "replaced").write_bytes(b"x")
        assert finishing.value()["version"] == "v0"
    os.close(fd)
    assert os.stat(two / "log").st_size == written
    assert finish(two)["version"] == "v1"


def test_concurrent_finishes_get_different_numbers(model: Path) -> None:
    trees = [model / "pending" / f"job-{number}" for number in range(6)]
    for number, tree in enumerate(trees):
        tree.mkdir()
        (tree / "file").write_text(f"{number}")
    children = [finish_child(tree, f"alias-{number} shared") for number, tree in enumerate(trees)]
    try:
        outcomes = [child.outcome() for child in children]
        refused = [
            (out, show(tree, "error"))
            for out, tree in zip(outcomes, trees, strict=True)
            if "value" not in out
        ]
        assert refused == []
        answers = [outcome["value"]["version"] for outcome in outcomes]
    finally:
        for child in children:
            child.__exit__(None, None, None)
    assert sorted(answers) == [f"v{number}" for number in range(6)]
    for number, version in enumerate(answers):
        assert (model / version / "file").read_text() == f"{number}"
        assert os.readlink(model / f"alias-{number}") == version
    assert os.readlink(model / "shared") in answers


def test_concurrent_finishes_of_a_tree_make_one_version(model: Path, job: Path) -> None:
    for number in range(50):
        (job / str(number)).write_text(str(number))
    children = [finish_child(job, f"alias-{number} --wait=100") for number in range(4)]
    try:
        outcomes = [child.outcome() for child in children]
    finally:
        for child in children:
            child.__exit__(None, None, None)
    # A finish during another seal may be EBUSY; none hangs or makes a second version.
    for outcome in outcomes:
        assert outcome.get("errno") == errno.EBUSY or outcome["value"]["version"] == "v0"
    won = [number for number, outcome in enumerate(outcomes) if "value" in outcome]
    assert won
    assert versions(model) == ["v0"]
    for number in won:
        assert os.readlink(model / f"alias-{number}") == "v0"


# Interrupting


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_waiting_finish_can_be_killed(model: Path, job: Path, number: signal.Signals) -> None:
    with writer(job / "busy", b"data") as held:
        script = "echo '--wait=1000 best' > .artfs/finish"
        shell = subprocess.Popen(["bash", "-c", script], cwd=job, stderr=subprocess.DEVNULL)
        waits(shell)
        os.kill(shell.pid, number)
        assert shell.wait(60) != 0
        assert show_json(job, "status")["state"] == "pending"
        (job / "more").write_text("goes on")
        assert versions(model) == []
        held.go()
        held.value()
    # The killed finish does not resume.
    assert finish(job, "second")["version"] == "v0"
    assert not os.path.lexists(model / "best")
    assert os.readlink(model / "second") == "v0"


def test_a_second_finish_beside_a_waiting_one_is_answered(model: Path, job: Path) -> None:
    with writer(job / "busy", b"data") as held, finish_child(job, "--wait=1000 first") as waiting:
        waits(waiting)
        with fails(errno.EBUSY):
            finish(job, "--wait=0 second")
        assert show(job, "error") != "ok\n"
        assert in_syscall(waiting.pid, "write")
        held.go()
        held.value()
        assert waiting.value()["version"] == "v0"
    assert os.readlink(model / "first") == "v0"
    assert not os.path.lexists(model / "second")


def test_two_waiting_finishes_agree(model: Path, job: Path) -> None:
    with (
        writer(job / "busy", b"data") as held,
        finish_child(job, "--wait=1000") as first,
        finish_child(job, "--wait=1000") as second,
    ):
        waits(first)
        waits(second)
        held.go()
        held.value()
        outcomes = [first.outcome(), second.outcome()]
    assert any(outcome.get("value", {}).get("version") == "v0" for outcome in outcomes)
    assert all("value" in outcome or outcome["errno"] == errno.EBUSY for outcome in outcomes)
    assert versions(model) == ["v0"]


def test_control_files_answer_while_a_finish_waits(model: Path, job: Path) -> None:
    with writer(job / "busy", b"data") as held, finish_child(job, "--wait=1000") as waiting:
        waits(waiting)
        assert show_json(job, "status")["open_for_write"][0]["pid"] == held.pid
        assert "--force" in show(job, "finish")
        command(job, "description", "set meanwhile")
        command(job, "runs", "+late")
        command(job, "runs", "-late")
        held.go()
        held.value()
        waiting.value()
    assert show(model / "v0", "description") == "set meanwhile\n"


# --force


def test_force_seals_what_had_been_written(model: Path, job: Path) -> None:
    fd = os.open(job / "file", os.O_RDWR | os.O_CREAT | os.O_APPEND)
    reader = os.open(job / "file", os.O_RDONLY)
    try:
        os.write(fd, b"sealed")
        assert finish(job, "--force")["version"] == "v0"
        for refused in (
            lambda: os.write(fd, b" not sealed"),
            lambda: os.pwrite(fd, b"X", 0),
            lambda: os.ftruncate(fd, 0),
            lambda: os.fchmod(fd, 0o600),
            lambda: os.setxattr(fd, "user.late", b"x"),
        ):
            with fails(errno.EBADF, errno.EROFS):
                refused()
        assert os.pread(reader, 100, 0) == b"sealed"
        assert os.fstat(reader).st_size == 6
        assert (model / "v0" / "file").read_bytes() == b"sealed"
        assert os.stat(model / "v0" / "file").st_size == 6
    finally:
        os.close(fd)
        os.close(reader)
    assert (model / "v0" / "file").read_bytes() == b"sealed"
    assert show_json(model / "v0", "manifest.json")["file"]["size"] == 6


def test_force_ignores_joined_runs(model: Path, job: Path) -> None:
    (job / "file").write_text("data")
    command(job, "runs", "+hung")
    assert finish(job, "--force")["version"] == "v0"


def test_force_seals_all_acknowledged_writes(model: Path, job: Path) -> None:

    def stream(child: Child) -> list[int]:
        fd = os.open(job / f"stream-{os.getpid()}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        answered = 0
        try:
            while True:
                os.write(fd, b"%07d\n" % answered)
                answered += 1
                if answered == 50:
                    child.say()
        except OSError as error:
            return [answered, error.errno or 0]

    with Child(stream) as one, Child(stream) as two:
        one.heard()
        two.heard()
        assert finish(job, "--force")["version"] == "v0"
        for child in (one, two):
            answered, error = child.value()
            assert error in (errno.EBADF, errno.EROFS)
            sealed = (model / "v0" / f"stream-{child.pid}").read_bytes()
            assert sealed == b"".join(b"%07d\n" % number for number in range(answered))


def test_force_fences_a_mapping(model: Path, job: Path) -> None:
    (job / "file").write_bytes(b"." * 8192)

    def hold(child: Child) -> None:
        fd = os.open(job / "file", os.O_RDWR)
        mapping = mmap.mmap(fd, 8192)
        mapping[:6] = b"before"
        mapping.flush()
        child.say()
        child.pause()
        # May raise SIGBUS or be lost; it never reaches a reader.
        mapping[:6] = b"beyond"
        mapping[4096:4102] = b"beyond"
        try:
            mapping.flush()
        except OSError:
            pass
        child.say()
        child.pause()

    with Child(hold) as child:
        child.heard()
        with open(job / "file", "rb", buffering=0) as reader:
            finish(job, "--force")
            sealed = (model / "v0" / "file").read_bytes()
            assert sealed == b"before" + b"." * 8186
            child.go()
            eventually(lambda: child.has_said() or child.is_over(), what="the child has stored")
            assert os.pread(reader.fileno(), 8192, 0) == sealed
            assert (model / "v0" / "file").read_bytes() == sealed
            copy = subprocess.run(["cat", model / "v0" / "file"], capture_output=True, check=True)
            assert copy.stdout == sealed
        child.kill()
        child.outcome()
    assert (model / "v0" / "file").read_bytes() == sealed


def test_force_fences_many_open_files(model: Path, job: Path) -> None:
    files = [os.open(job / str(number), os.O_RDWR | os.O_CREAT) for number in range(100)]
    for number, fd in enumerate(files):
        os.write(fd, b"%d" % number)
    finish(job, "--force")
    for number, fd in enumerate(files):
        with fails(errno.EBADF, errno.EROFS):
            os.write(fd, b"late")
        assert (model / "v0" / str(number)).read_bytes() == b"%d" % number
        os.close(fd)


def test_force_without_open_files_is_a_plain_finish(model: Path, job: Path) -> None:
    (job / "file").write_text("data")
    assert finish(job, "best --force")["version"] == "v0"
    assert os.readlink(model / "best") == "v0"
    assert finish(job, "--force")["version"] == "v0"


def test_a_forced_finish_still_refuses_fifos(model: Path, job: Path) -> None:
    os.mkfifo(job / "fifo")
    fd = os.open(job / "file", os.O_WRONLY | os.O_CREAT)
    try:
        with fails(errno.EINVAL):
            finish(job, "--force")
        assert versions(model) == []
        # The handle still works.
        assert os.write(fd, b"goes on") == 7
    finally:
        os.close(fd)
    assert (job / "file").read_bytes() == b"goes on"


# During the seal


def test_finish_is_all_or_nothing_for_a_reader(model: Path, job: Path) -> None:
    for number in range(100):
        (job / f"{number:03}").write_text(str(number))

    def look(_child: Child) -> list[str]:
        while True:
            try:
                names = os.listdir(model / "v0")
            except FileNotFoundError:
                continue
            return sorted(names)

    with Child(look) as looking:
        finish(job)
        assert looking.value() == [f"{number:03}" for number in range(100)]


def test_caches_of_pending_files_do_not_serve_sealed_ones(model: Path) -> None:
    for round_ in range(5):
        tree = model / "pending" / f"job-{round_}"
        tree.mkdir()
        for text in ("first", "second and longer", f"last {round_}"):
            (tree / "file").write_text(text)
            assert (tree / "file").read_text() == text
            assert os.stat(tree / "file").st_size == len(text)
        finish(tree)
        for path in (tree / "file", model / f"v{round_}" / "file", model / "latest" / "file"):
            assert path.read_text() == f"last {round_}"
            assert os.stat(path).st_size == len(f"last {round_}")
