"""Sealed versions: exact, read-only for everyone, named by aliases, removed as a whole."""

from __future__ import annotations

import errno
import os
import stat
import struct
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import xxhash

from tests.conformance.driver import RENAME_EXCHANGE, OsFilesystem
from tests.conformance.helpers import OLD, fails
from tests.mount.control import Node, command, commit, control, finish, show_json, show_lines, snapshot

pytestmark = pytest.mark.fuse


def without_special_bits(nodes: dict[bytes, Node]) -> dict[bytes, Node]:
    """A snapshot as sealing changes it: without setuid and setgid."""
    return {path: replace(node, permissions=node.permissions & ~0o6000) for path, node in nodes.items()}


def fill(tree: Path) -> None:
    """Makes one of everything that a version can hold, with ordinary and unusual names, times and modes."""
    fs = OsFilesystem(tree)
    for name in (b"dir", b"dir/empty", b"dir/\xff\xfe", b"modes", b"xattrs", b"new\nline"):
        fs.mkdir(name)
    for index, name in enumerate(
        (b"dir/\xff\xfe/\x01", b"new\nline/back\\slash", b"n" * 255, b"empty", b" ")
    ):
        with fs.open(name, os.O_WRONLY | os.O_CREAT) as file:
            file.pwrite(name * index, 0)
        fs.utimens(name, 1, OLD + index)
    for mode in (0o000, 0o111, 0o400, 0o444, 0o600, 0o644, 0o755, 0o777, 0o4755, 0o2755, 0o6711):
        with fs.open(b"modes/%o" % mode, os.O_WRONLY | os.O_CREAT) as file:
            file.pwrite(b"%o" % mode, 0)
        fs.chmod(b"modes/%o" % mode, mode)
        fs.mkdir(b"modes/dir-%o" % mode)
        fs.chmod(b"modes/dir-%o" % mode, mode)
    for target in (b"dir", b"/absolute", b"../../../up", b"\xff\n", b"t" * 4095):
        fs.symlink(target, b"link-%d" % len(target))
    fs.utimens(b"link-3", 5, OLD + 77, follow=False)
    with fs.open(b"sparse", os.O_WRONLY | os.O_CREAT) as file:
        file.pwrite(b"far", 3 << 20)
    with fs.open(b"xattrs/file", os.O_WRONLY | os.O_CREAT) as file:
        file.setxattr(b"user.one", b"1")
        file.setxattr(b"user.binary\xff", bytes(range(256)))
        file.setxattr(b"user.empty", b"")
    fs.setxattr(b"xattrs", b"user.of-a-directory", b"yes")
    for name, time in ((b"dir/empty", 1), (b"modes", 10**9 - 1), (b"dir", OLD), (b"", OLD + 5)):
        fs.utimens(name, 3, time)


@pytest.fixture
def version(model: Path, job: Path) -> Path:
    """A version of a file, a directory with a file, an empty directory and a symlink."""
    (job / "dir").mkdir()
    (job / "empty").mkdir()
    (job / "file").write_text("data")
    (job / "dir" / "below").write_text("below")
    os.setxattr(job / "file", "user.own", b"value")
    os.symlink("file", job / "link")
    finish(job)
    return model / "v0"


# Exactness


def test_a_version_equals_its_pending_tree_exactly(model: Path, job: Path) -> None:
    fill(job)
    expected = without_special_bits(snapshot(job))
    finish(job)
    sealed = snapshot(model / "v0")
    assert sorted(sealed) == sorted(expected)
    for path, node in expected.items():
        assert sealed[path] == node, path


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_owners_are_kept_and_ignored_by_comparison(model: Path, job: Path) -> None:
    (job / "file").write_text("data")
    (job / "dir").mkdir()
    os.chown(job / "file", 1234, 5678)
    os.chown(job / "dir", 42, 43)
    finish(job)
    assert (os.stat(model / "v0" / "file").st_uid, os.stat(model / "v0" / "file").st_gid) == (1234, 5678)
    assert (os.stat(model / "v0" / "dir").st_uid, os.stat(model / "v0" / "dir").st_gid) == (42, 43)
    other = model / "pending" / "other"
    (other / "dir").mkdir(parents=True)
    (other / "file").write_text("data")
    assert finish(other)["unchanged"] is True


def test_changing_a_copy_does_not_change_the_version(model: Path) -> None:
    first = commit(model, "one", {"file": "data", "dir/below": "below"})
    before = snapshot(first)
    tree = model / "pending" / "two"
    subprocess.run(["cp", "-a", first, tree], check=True)
    (tree / "file").write_text("changed")
    os.chmod(tree / "dir" / "below", 0o600)
    with open(tree / "dir" / "below", "a") as file:
        file.write(" and more")
    finish(tree)
    assert snapshot(first) == before
    assert (model / "v1" / "dir" / "below").read_text() == "below and more"


def test_listing_and_stat_of_a_sealed_tree_agree(version: Path) -> None:
    for directory, names, files in os.walk(version):
        with os.scandir(directory) as entries:
            for entry in entries:
                assert entry.inode() == os.lstat(entry.path).st_ino
        assert ".artfs" not in names
        assert ".artfs" not in files
    inodes = [os.lstat(path).st_ino for path in (version, *version.rglob("*"))]
    assert len(set(inodes)) == len(inodes) == 6


# Read-only


def test_every_change_is_erofs_for_root_too(version: Path) -> None:
    fs = OsFilesystem(version)
    before = snapshot(version)
    changes = {
        "open O_WRONLY": lambda: fs.open(b"file", os.O_WRONLY),
        "open O_RDWR": lambda: fs.open(b"file", os.O_RDWR),
        "open O_APPEND": lambda: fs.open(b"file", os.O_WRONLY | os.O_APPEND),
        "open O_TRUNC": lambda: fs.open(b"file", os.O_WRONLY | os.O_TRUNC),
        "open O_CREAT": lambda: fs.open(b"new", os.O_WRONLY | os.O_CREAT),
        "open O_EXCL": lambda: fs.open(b"dir/new", os.O_WRONLY | os.O_CREAT | os.O_EXCL),
        "create in an empty directory": lambda: fs.open(b"empty/new", os.O_WRONLY | os.O_CREAT),
        "truncate": lambda: fs.truncate(b"file", 0),
        "truncate to the same size": lambda: fs.truncate(b"file", 4),
        "mkdir": lambda: fs.mkdir(b"new"),
        "mkdir below": lambda: fs.mkdir(b"dir/new"),
        "rmdir": lambda: fs.rmdir(b"empty"),
        "rmdir of a full one": lambda: fs.rmdir(b"dir"),
        "unlink": lambda: fs.unlink(b"file"),
        "unlink of a link": lambda: fs.unlink(b"link"),
        "unlink below": lambda: fs.unlink(b"dir/below"),
        "rename": lambda: fs.rename(b"file", b"new"),
        "rename over": lambda: fs.rename(b"file", b"dir/below"),
        "rename of a directory": lambda: fs.rename(b"dir", b"new"),
        "exchange": lambda: fs.rename(b"file", b"dir/below", RENAME_EXCHANGE),
        "link": lambda: fs.link(b"file", b"new"),
        "symlink": lambda: fs.symlink(b"target", b"new"),
        "fifo": lambda: fs.mknod(b"new", stat.S_IFIFO | 0o600),
        "mknod": lambda: fs.mknod(b"new", stat.S_IFREG | 0o600),
        "chmod": lambda: fs.chmod(b"file", 0o777),
        "chmod of a directory": lambda: fs.chmod(b"dir", 0o777),
        "chmod of the root": lambda: fs.chmod(b"", 0o777),
        "chown": lambda: fs.chown(b"file", 1, 1),
        "chown of a link": lambda: fs.chown(b"link", 1, 1, follow=False),
        "utimens": lambda: fs.utimens(b"file", 1, 1),
        "utimens of a link": lambda: fs.utimens(b"link", 1, 1, follow=False),
        "utimens of the root": lambda: fs.utimens(b"", 1, 1),
        "setxattr": lambda: fs.setxattr(b"file", b"user.new", b"x"),
        "setxattr over": lambda: fs.setxattr(b"file", b"user.own", b"x"),
        "setxattr of a directory": lambda: fs.setxattr(b"dir", b"user.new", b"x"),
        "removexattr": lambda: fs.removexattr(b"file", b"user.own"),
    }
    for name, change in changes.items():
        try:
            with fails(errno.EROFS):
                change()
        except BaseException as error:
            error.add_note(f"while trying {name}")
            raise
    assert snapshot(version) == before


def test_sealed_trees_return_the_usual_errnos(version: Path) -> None:
    with fails(errno.EEXIST):
        os.open(version / "file", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    with fails(errno.EEXIST):
        os.mkdir(version / "dir")
    with fails(errno.ENOENT):
        os.open(version / "missing", os.O_RDONLY)
    with fails(errno.ENOTDIR):
        os.listdir(version / "file")
    os.close(os.open(version / "file", os.O_RDONLY | os.O_CREAT))


def test_files_cannot_be_moved_into_or_out_of_a_version(model: Path, version: Path) -> None:
    tree = model / "pending" / "other"
    tree.mkdir()
    (tree / "file").write_text("own")
    with fails(errno.EXDEV, errno.EROFS):
        os.rename(version / "file", tree / "stolen")
    with fails(errno.EXDEV, errno.EROFS):
        os.rename(tree / "file", version / "new")
    with fails(errno.EXDEV):
        os.link(version / "file", tree / "linked")
    with fails(errno.EXDEV, errno.EROFS):
        os.link(tree / "file", version / "new")
    assert os.listdir(tree) == ["file"]
    assert sorted(os.listdir(version)) == ["dir", "empty", "file", "link"]


def test_setuid_bits_are_dropped(model: Path, job: Path) -> None:
    (job / "program").write_text("#!/bin/sh\n")
    (job / "dir").mkdir()
    os.chmod(job / "program", 0o6755)
    os.chmod(job / "dir", 0o2775)
    assert stat.S_IMODE(os.stat(job / "program").st_mode) == 0o6755
    finish(job)
    assert stat.S_IMODE(os.stat(model / "v0" / "program").st_mode) == 0o755
    assert stat.S_IMODE(os.stat(model / "v0" / "dir").st_mode) == 0o775


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give capabilities")
def test_capabilities_cannot_be_set(model: Path, job: Path) -> None:
    """The value is that of setcap(8) (capabilities(7): VFS_CAP_REVISION_2, CAP_NET_RAW)."""
    (job / "program").write_text("#!/bin/sh\n")
    capability = struct.pack("<5I", 0x02000001, 1 << 13, 0, 0, 0)
    with fails(errno.EOPNOTSUPP):
        os.setxattr(job / "program", "security.capability", capability)
    finish(job)
    with fails(errno.EROFS):
        os.setxattr(model / "v0" / "program", "security.capability", capability)
    with fails(errno.ENODATA, errno.EOPNOTSUPP):
        os.getxattr(model / "v0" / "program", "security.capability")


# xattrs of artfs


def test_digest_and_version_are_unlisted_xattrs(version: Path) -> None:
    digest = os.getxattr(version / "file", "user.artfs.digest").decode()
    assert digest == f"xxh128:{xxhash.xxh3_128_hexdigest(b'data')}"
    assert show_json(version, "manifest.json")["file"]["digest"] == digest
    for name in ("file", "dir", "dir/below", "empty", ""):
        assert os.getxattr(version / name, "user.artfs.version") == b"v0"
        assert os.getxattr(version / name, "user.artfs.digest").startswith(b"xxh128:")
    assert os.listxattr(version / "file") == ["user.own"]
    assert os.listxattr(version / "dir") == []
    assert os.getxattr(version, "user.artfs.digest").decode() == show_json(version, "status")["digest"]


def test_the_xattrs_of_artfs_cannot_be_set(version: Path) -> None:
    for name in ("user.artfs.digest", "user.artfs.version", "user.artfs.uri", "user.artfs.other"):
        for path in (version / "file", version / "dir", version):
            with fails(errno.EPERM):
                os.setxattr(path, name, b"forged")
    for name in ("user.artfs.digest", "user.artfs.version"):
        with fails(errno.EPERM, errno.EROFS):
            os.removexattr(version / "file", name)
    with fails(errno.ENODATA):
        os.getxattr(version / "file", "user.artfs.uri")


def test_a_copy_does_not_inherit_internal_xattrs(model: Path, version: Path) -> None:
    tree = model / "pending" / "copy"
    tree.mkdir()
    subprocess.run(["cp", "-a", version / "file", tree / "file"], check=True)
    assert os.listxattr(tree / "file") == ["user.own"]


def test_the_manifest_has_the_run_of_a_file(model: Path, job: Path) -> None:
    (job / "file").write_text("data")
    os.setxattr(job / "file", "user.artfs.run", b"run-7")
    assert os.getxattr(job / "file", "user.artfs.run") == b"run-7"
    finish(job)
    assert "run-7" in str(show_json(model / "v0", "manifest.json")["file"])


# Aliases


@pytest.fixture
def three(model: Path) -> Path:
    """A collection of three versions."""
    for number in range(3):
        commit(model, f"job-{number}", {"file": str(number)})
    return model


def test_ordinary_tools_set_move_and_remove_aliases(three: Path) -> None:
    def run(*words: str) -> None:
        subprocess.run(words, cwd=three, check=True)

    before = set(os.listdir(three))
    run("ln", "-s", "v0", "best")
    assert os.readlink(three / "best") == "v0"
    assert (three / "best" / "file").read_text() == "0"
    run("ln", "-sfn", "v1", "best")
    assert os.readlink(three / "best") == "v1"
    assert (three / "best" / "file").read_text() == "1"
    assert "best" in show_json(three / "v1", "status")["aliases"]
    assert "best" not in show_json(three / "v0", "status")["aliases"]
    assert set(os.listdir(three)) == {*before, "best"}
    run("mv", "best", "finest")
    assert os.readlink(three / "finest") == "v1"
    run("rm", "finest")
    assert set(os.listdir(three)) == before
    assert (three / "v1" / "file").read_text() == "1"


def test_an_alias_may_name_an_alias(three: Path) -> None:
    os.symlink("v1", three / "best")
    os.symlink("best", three / "production")
    assert os.readlink(three / "production") == "best"
    assert (three / "production" / "file").read_text() == "1"
    subprocess.run(["ln", "-sfn", "v2", "best"], cwd=three, check=True)
    assert (three / "production" / "file").read_text() == "2"
    os.symlink("latest", three / "newest")
    commit(three, "more", {"file": "3"})
    assert (three / "newest" / "file").read_text() == "3"


def test_invalid_alias_names_and_targets_are_refused(three: Path) -> None:
    before = set(os.listdir(three))
    for name in ("v7", "v0123", ".hidden", "x" * 129, "ü" * 65, os.fsdecode(b"\xff"), ".artfs-x", ".artfs@x"):
        with fails(errno.EINVAL):
            os.symlink("v0", three / name)
    for target in ("v99", "nothing", "/etc", "../other/v0", "v0/file", "pending", "self", "v01"):
        with fails(errno.EINVAL, errno.ENOENT):
            os.symlink(target, three / "self")
    for name in ("pending", "v0", "latest"):
        with fails(errno.EEXIST):
            os.symlink("v0", three / name)
    assert set(os.listdir(three)) == before


def test_cyclic_aliases_are_refused(three: Path) -> None:
    os.symlink("v1", three / "a")
    os.symlink("a", three / "b")
    os.symlink("b", three / "c")
    for target in ("b", "c", "a"):
        assert subprocess.run(
            ["ln", "-sfn", target, "a"], cwd=three, capture_output=True, check=False
        ).returncode
    for name in ("a", "b", "c"):
        assert (three / name / "file").read_text() == "1"


def test_latest_is_computed(three: Path) -> None:
    assert os.readlink(three / "latest") == "v2"
    with fails(errno.EPERM, errno.EINVAL, errno.EBUSY):
        os.unlink(three / "latest")
    assert subprocess.run(
        ["ln", "-sfn", "v0", "latest"], cwd=three, capture_output=True, check=False
    ).returncode
    assert os.readlink(three / "latest") == "v2"
    assert set(os.listdir(three)) == {"pending", "v0", "v1", "v2", "latest"}


def test_an_empty_collection_has_no_latest(model: Path) -> None:
    assert os.listdir(model) == ["pending"]
    assert not os.path.lexists(model / "latest")
    with fails(errno.EINVAL, errno.EPERM, errno.ENOENT):
        os.symlink("v0", model / "latest")


def test_other_entries_cannot_be_made_in_a_collection(three: Path) -> None:
    before = set(os.listdir(three))
    for refused in (
        lambda: os.open(three / "file", os.O_WRONLY | os.O_CREAT),
        lambda: os.mkdir(three / "dir"),
        lambda: os.mkdir(three / "v3"),
        lambda: os.mkfifo(three / "fifo"),
        lambda: os.rename(three / "v0", three / "v7"),
        lambda: os.rename(three / "v0", three / "kept"),
        lambda: os.rename(three / "pending", three / "other"),
        lambda: os.rmdir(three / "pending"),
        lambda: os.open(three / "pending" / "file", os.O_WRONLY | os.O_CREAT),
        lambda: os.symlink("../v0", three / "pending" / "link"),
        lambda: os.mkfifo(three / "pending" / "fifo"),
    ):
        with fails(errno.EPERM):
            refused()
    assert set(os.listdir(three)) == before
    assert os.listdir(three / "pending") == []


# Removing versions


def test_rmdir_removes_a_version_as_a_whole(three: Path) -> None:
    os.rmdir(three / "v1")
    assert set(os.listdir(three)) == {"pending", "v0", "v2", "latest"}
    assert not os.path.lexists(three / "v1")
    assert [line["version"] for line in show_lines(three, "versions")] == ["v0", "v2"]
    assert (three / "v0" / "file").read_text() == "0"


def test_latest_falls_back_and_numbers_are_never_used_again(three: Path) -> None:
    os.rmdir(three / "v2")
    assert os.readlink(three / "latest") == "v1"
    assert commit(three, "more", {"file": "new"}).name == "v3"
    for name in ("v0", "v1", "v3"):
        os.rmdir(three / name)
    assert os.listdir(three) == ["pending"]
    assert commit(three, "again", {"file": "newer"}).name == "v4"


def test_an_unchanged_tree_is_compared_with_the_newest_version_left(three: Path) -> None:
    os.rmdir(three / "v2")
    tree = three / "pending" / "equal"
    tree.mkdir()
    (tree / "file").write_text("1")
    answer = finish(tree)
    assert (answer["version"], answer["unchanged"]) == ("v1", True)


def test_a_version_with_an_alias_cannot_be_removed(three: Path) -> None:
    os.symlink("v0", three / "best")
    os.symlink("best", three / "production")
    with fails(errno.EBUSY):
        os.rmdir(three / "v0")
    assert (three / "v0" / "file").read_text() == "0"
    os.unlink(three / "production")
    with fails(errno.EBUSY):
        os.rmdir(three / "v0")
    os.unlink(three / "best")
    os.rmdir(three / "v0")
    assert not os.path.lexists(three / "v0")


def test_an_alias_of_a_removed_alias_dangles(three: Path) -> None:
    os.symlink("v0", three / "best")
    os.symlink("best", three / "production")
    os.unlink(three / "best")
    assert os.readlink(three / "production") == "best"
    assert not (three / "production").exists()
    assert show_json(three / "v0", "status")["aliases"] == []
    assert len(show_lines(three, "versions")) == 3
    os.symlink("v1", three / "best")
    assert (three / "production" / "file").read_text() == "1"
    assert show_json(three / "v1", "status")["aliases"] == ["best", "production"]


def test_rm_r_does_not_damage_a_version(version: Path) -> None:
    before = snapshot(version)
    done = subprocess.run(["rm", "-rf", version], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "Read-only file system" in done.stderr
    assert snapshot(version) == before


def test_the_id_of_a_removed_version_can_be_started_again(model: Path, version: Path) -> None:
    job = model / "pending" / "job"
    assert os.readlink(job) == "../v0"
    os.rmdir(version)
    assert not os.path.lexists(job)
    assert os.listdir(model / "pending") == []
    job.mkdir()
    (job / "file").write_text("new")
    assert finish(job)["version"] == "v1"
    assert os.readlink(job) == "../v1"


def test_a_reader_of_a_removed_version_reads_on(model: Path, job: Path) -> None:
    data = os.urandom(4 << 20)
    (job / "file").write_bytes(data)
    finish(job)
    with open(model / "v0" / "file", "rb", buffering=0) as reader:
        assert reader.read(1000) == data[:1000]
        os.rmdir(model / "v0")
        rest = b""
        while part := reader.read(1 << 20):
            rest += part
        assert data[:1000] + rest == data


def test_removing_a_version_keeps_equal_files_of_others(model: Path) -> None:
    one = commit(model, "one", {"a": "same", "b": "one"})
    two = commit(model, "two", {"a": "same", "b": "two"})
    os.rmdir(one)
    assert (two / "a").read_text() == "same"


def test_a_collection_is_removed_when_it_is_empty(shared_mnt: Path, model: Path) -> None:
    version = commit(model, "done", {"file": "data"})
    with fails(errno.ENOTEMPTY):
        model.rmdir()
    version.rmdir()
    (model / "pending" / "open").mkdir()
    with fails(errno.ENOTEMPTY):
        model.rmdir()
    (model / "pending" / "open").rmdir()
    model.rmdir()
    assert model.name not in os.listdir(shared_mnt)
    assert not os.path.lexists(model)


def test_labels_do_not_change_the_digest(model: Path, version: Path) -> None:
    digest = show_json(version, "status")["digest"]
    command(version, "description", "words")
    command(version, "tags", "one two")
    os.symlink("v0", model / "best")
    status = show_json(version, "status")
    assert status["digest"] == digest
    assert sorted(status["aliases"]) == ["best", "latest"]
    assert sorted(status["tags"]) == ["one", "two"]
    assert control(version, "description").read_text() == "words\n"
