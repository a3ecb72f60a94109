"""Pending versions: starting, listing, separation from each other, and reserved names."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
from functools import partial
from pathlib import Path

import pytest

from tests.conformance.driver import RENAME_EXCHANGE, OsFilesystem
from tests.conformance.helpers import fails
from tests.conformance.processes import Child, in_child
from tests.mount.control import command, commit, finish, show, show_json, snapshot
from tests.mount.mounting import mounted_volume, must

pytestmark = pytest.mark.fuse


# Names


def test_mkdir_p_starts_collection_and_version(shared_mnt: Path) -> None:
    path = shared_mnt / "made-by-mkdir" / "pending" / "job-42"
    subprocess.run(["mkdir", "-p", path], check=True)
    subprocess.run(["mkdir", "-p", path], check=True)
    assert os.listdir(shared_mnt / "made-by-mkdir") == ["pending"]
    assert os.listdir(shared_mnt / "made-by-mkdir" / "pending") == ["job-42"]
    assert "made-by-mkdir" in os.listdir(shared_mnt)


@pytest.mark.parametrize("name", ["a", "_x", "0", "A.b-c_d", "pending", "latest", "v0", "n" * 128])
def test_valid_collection_names_are_accepted(shared_mnt: Path, name: str) -> None:
    (shared_mnt / name).mkdir()
    assert os.listdir(shared_mnt / name) == ["pending"]
    with fails(errno.EEXIST):
        (shared_mnt / name).mkdir()
    (shared_mnt / name).rmdir()
    assert name not in os.listdir(shared_mnt)


@pytest.mark.parametrize("name", [".hidden", "-x", "a b", "ü", "a\n", "n" * 129, "\udcff", "a:b", ".artfs-x"])
def test_invalid_collection_names_are_refused(shared_mnt: Path, name: str) -> None:
    with fails(errno.EINVAL):
        (shared_mnt / name).mkdir()
    assert not os.path.lexists(shared_mnt / name)


@pytest.mark.parametrize(
    "name", ["a b", "ü", "\udcff\udcfe", "a\nb", "v0", "latest", "-x", "%2F", "n" * 255, "~"]
)
def test_distributed_ids_are_any_file_names(model: Path, name: str) -> None:
    tree = model / "pending" / name
    tree.mkdir()
    (tree / "file").write_text("data")
    assert os.listdir(model / "pending") == [name]
    finish(tree)
    assert os.readlink(tree) == "../v0"
    assert isinstance(show_json(model / "v0", "status")["distributed_id"], str)


@pytest.mark.parametrize("name", [".hidden", ".artfs-x", "..."])
def test_distributed_ids_do_not_begin_with_a_dot(model: Path, name: str) -> None:
    with fails(errno.EINVAL):
        (model / "pending" / name).mkdir()
    assert os.listdir(model / "pending") == []


def test_too_long_names_are_refused(shared_mnt: Path, model: Path) -> None:
    for refused in (
        (model / "pending" / ("n" * 256)).mkdir,
        lambda: os.stat(model / ("n" * 256)),
        lambda: os.stat(shared_mnt / ("n" * 256)),
    ):
        with fails(errno.ENAMETOOLONG):
            refused()


def test_missing_paths_are_enoent(shared_mnt: Path, model: Path) -> None:
    for path in (
        shared_mnt / "no-such-collection",
        model / "v0",
        model / "best",
        model / "pending" / "missing",
        model / "v00",
        model / "v-1",
    ):
        assert not os.path.lexists(path)
        with fails(errno.ENOENT):
            os.listdir(path)
        with fails(errno.ENOENT):
            os.rmdir(path)


def test_the_mountpoint_takes_only_collections(shared_mnt: Path, model: Path) -> None:
    for refused in (
        lambda: os.open(shared_mnt / "file", os.O_WRONLY | os.O_CREAT),
        lambda: os.symlink("target", shared_mnt / "link"),
        lambda: os.mkfifo(shared_mnt / "fifo"),
    ):
        with fails(errno.EPERM):
            refused()
    assert not {"file", "link", "fifo"} & set(os.listdir(shared_mnt))


# Starting


def test_processes_with_one_id_share_one_tree(model: Path) -> None:
    def work(number: int, _child: Child) -> None:
        tree = model / "pending" / "shared"
        subprocess.run(["mkdir", "-p", tree / "common" / str(number)], check=True)
        for index in range(20):
            (tree / "common" / str(number) / str(index)).write_text(f"{number}-{index}")
            with open(tree / "log", "a") as log:
                log.write(f"{number}-{index}\n")

    children = [Child(partial(work, number)) for number in range(4)]
    try:
        for child in children:
            child.value()
    finally:
        for child in children:
            child.__exit__(None, None, None)
    assert os.listdir(model / "pending") == ["shared"]
    finish(model / "pending" / "shared")
    expected = {f"{number}-{index}" for number in range(4) for index in range(20)}
    version = model / "v0"
    assert {path.read_text() for path in (version / "common").rglob("*") if path.is_file()} == expected
    assert sorted((version / "log").read_text().split()) == sorted(expected)


def test_the_mode_of_mkdir_is_the_mode_of_the_tree(model: Path) -> None:
    before = os.umask(0)
    try:
        os.mkdir(model / "pending" / "job", 0o2771)
    finally:
        os.umask(before)
    tree = model / "pending" / "job"
    # Linux passes only the permission bits of mkdir; setgid needs chmod.
    assert stat.S_IMODE(os.stat(tree).st_mode) & 0o777 == 0o771
    os.chmod(tree, 0o1777)
    assert stat.S_IMODE(os.stat(tree).st_mode) == 0o1777


def test_one_id_in_two_collections_is_two_trees(shared_mnt: Path, model: Path, job: Path) -> None:
    other = shared_mnt / f"{model.name}-other"
    (other / "pending" / "job").mkdir(parents=True)
    (job / "file").write_text("one")
    assert os.listdir(other / "pending" / "job") == []
    finish(job)
    assert os.listdir(other / "pending") == ["job"]
    assert finish(other / "pending" / "job")["version"] == "v0"
    assert os.listdir(other / "v0") == []


# Separation


def test_renames_and_links_between_trees_are_exdev(shared_mnt: Path, model: Path, job: Path) -> None:
    other = model / "pending" / "other"
    far = shared_mnt / f"{model.name}-far" / "pending" / "job"
    for tree in (other, far):
        tree.mkdir(parents=True)
        (tree / "there").write_text("theirs")
        (tree / "dir").mkdir()
    (job / "file").write_text("own")
    (job / "dir").mkdir()
    for tree in (other, far):
        for refused in (
            lambda tree=tree: os.rename(job / "file", tree / "file"),
            lambda tree=tree: os.rename(job / "file", tree / "there"),
            lambda tree=tree: os.rename(job / "dir", tree / "dir"),
            lambda tree=tree: os.rename(job / "dir", tree / "new"),
            lambda tree=tree: os.rename(tree / "there", job / "there"),
            lambda tree=tree: os.link(job / "file", tree / "file"),
            lambda tree=tree: os.link(tree / "there", job / "there"),
            lambda tree=tree: OsFilesystem(model).rename(
                os.fsencode(job / "file"), os.fsencode(tree / "there"), RENAME_EXCHANGE
            ),
        ):
            with fails(errno.EXDEV):
                refused()
        assert sorted(os.listdir(tree)) == ["dir", "there"]
        assert (tree / "there").read_text() == "theirs"
    assert sorted(os.listdir(job)) == ["dir", "file"]


def test_files_cannot_be_moved_out_of_a_tree(shared_mnt: Path, model: Path, job: Path) -> None:
    (job / "file").write_text("own")
    (job / "dir").mkdir()
    for target in (model / "new", model / "pending" / "new", shared_mnt / "new"):
        with fails(errno.EXDEV, errno.EPERM):
            os.rename(job / "file", target)
        with fails(errno.EXDEV, errno.EPERM):
            os.rename(job / "dir", target)
        with fails(errno.EXDEV, errno.EPERM):
            os.link(job / "file", target)
        assert not os.path.lexists(target)


def test_mv_between_trees_copies(model: Path, job: Path) -> None:
    other = model / "pending" / "other"
    other.mkdir()
    (job / "dir").mkdir()
    (job / "dir" / "file").write_text("moved")
    os.utime(job / "dir" / "file", (1, 1_000_000_000))
    subprocess.run(["mv", job / "dir", other], check=True)
    assert os.listdir(job) == []
    assert (other / "dir" / "file").read_text() == "moved"
    assert os.stat(other / "dir" / "file").st_mtime == 1_000_000_000


def test_all_trees_of_a_mount_are_on_one_device(shared_mnt: Path, model: Path, job: Path) -> None:
    version = commit(model, "done", {"file": "data"})
    devices = {os.lstat(path).st_dev for path in (shared_mnt, model, job, version, version / "file")}
    assert len(devices) == 1


def test_inode_numbers_differ_between_trees(model: Path, job: Path) -> None:
    version = commit(model, "done", {"file": "data", "dir/below": "x"})
    (job / "file").write_text("data")
    paths = [model, model / "pending", job, job / "file", version, *version.rglob("*"), model / "latest"]
    paths += [path / ".artfs" for path in (model, job, version)]
    inodes = [os.lstat(path).st_ino for path in paths]
    assert len(set(inodes)) == len(inodes)


# The reserved names


def test_rm_rf_skips_the_control_directory(job: Path) -> None:
    (job / "dir").mkdir()
    (job / "dir" / "file").write_text("data")
    (job / ".hidden").write_text("data")
    subprocess.run(["sh", "-c", "rm -rf ./* ./.h*"], cwd=job, check=True)
    assert os.listdir(job) == []
    assert show_json(job, "status")["state"] == "pending"
    subprocess.run(["find", job, "-mindepth", "1", "-delete"], check=True)
    subprocess.run(["rm", "-r", job], check=True)
    assert not os.path.lexists(job)


def test_rmdir_ignores_the_control_directory(job: Path) -> None:
    assert (job / ".artfs").is_dir()
    os.rmdir(job)
    assert not os.path.lexists(job)


def test_changes_below_show_in_the_status(job: Path) -> None:
    sizes = []
    for number in range(3):
        (job / str(number)).write_bytes(bytes(100))
        sizes.append(show_json(job, "status")["bytes"])
    with open(job / "0", "r+b") as file:
        file.truncate(1_000)
    sizes.append(show_json(job, "status")["bytes"])
    (job / "1").unlink()
    sizes.append(show_json(job, "status")["bytes"])
    assert sizes == [100, 200, 300, 1_200, 1_100]


# Persistence


def test_pending_trees_and_versions_outlive_the_mount(volume_path: Path, mnt: Path, pending: Path) -> None:
    version = commit(mnt / "model", "done", {"file": "sealed", "dir/below": "x"}, "best")
    (pending / "dir").mkdir()
    (pending / "dir" / "file").write_text("pending")
    os.setxattr(pending / "dir" / "file", "user.key", b"value")
    os.chmod(pending / "dir", 0o2750)
    os.symlink("dir/file", pending / "link")
    os.link(pending / "dir" / "file", pending / "hard")
    command(pending, "description", "words")
    command(pending, "metadata.json", '{"kept": 1}')
    command(pending, "tags", "one")
    before, sealed, status = snapshot(pending), snapshot(version), show_json(version, "status")
    inode = os.stat(version / "file").st_ino

    must("umount", mnt)
    assert not os.path.ismount(mnt)
    must("mount", volume_path, mnt)

    assert snapshot(pending) == before
    assert snapshot(version) == sealed
    assert show_json(version, "status") == status
    assert os.stat(version / "file").st_ino == inode
    assert os.stat(pending / "hard").st_nlink == 2
    assert pending.joinpath(".artfs", "description").read_text() == "words\n"
    assert os.readlink(mnt / "model" / "pending" / "done") == "../v0"
    assert finish(pending, "best")["version"] == "v1"
    assert show_json(mnt / "model" / "v1", "metadata.json") == {"kept": 1}
    assert os.readlink(mnt / "model" / "best") == "v1"


def test_the_status_names_the_write_cache() -> None:
    with mounted_volume(["--write-cache"]) as mounted, mounted.watched():
        text = show(mounted.point, "status")
        assert "write_cache" in text or "write-cache" in text
        tree = mounted.point / "model" / "pending" / "job"
        tree.mkdir(parents=True)

        def write() -> None:
            with open(tree / "file", "wb", buffering=0) as file:
                file.writelines(b"%4d" % number for number in range(5_000))

        in_child(write)
        version = mounted.point / "model" / str(finish(tree)["version"])
        assert (version / "file").read_bytes() == b"".join(b"%4d" % number for number in range(5_000))


def test_a_command_with_the_write_cache_causes_no_error() -> None:
    """The kernel sets the time of a write when the file is closed, after a discard removed it."""
    with mounted_volume(["--write-cache"]) as mounted:
        for number in range(5):
            tree = mounted.point / "model" / "pending" / f"job-{number}"
            tree.mkdir(parents=True)
            command(tree, "discard", "")
            assert not tree.exists()


def test_the_write_cache_allows_partial_writes_of_a_page() -> None:
    """The kernel reads the rest of the page by a handle that was opened for writing only."""
    with mounted_volume(["--write-cache"]) as mounted:
        file = mounted.point / "model" / "pending" / "job" / "file"
        file.parent.mkdir(parents=True)
        file.write_bytes(b"x" * 5000)
        must("umount", mounted.point)  # evicts the kernel's cache
        must("mount", "--write-cache", mounted.volume, mounted.point)
        fd = os.open(file, os.O_WRONLY)
        try:
            assert os.pwrite(fd, b"yy", 10) == 2
        finally:
            os.close(fd)
        assert file.read_bytes() == b"x" * 10 + b"yy" + b"x" * 4988
