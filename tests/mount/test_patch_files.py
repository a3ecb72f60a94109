"""Files of patches on a mount: copy-up, attributes, inode numbers, hostile names and targets."""

from __future__ import annotations

import errno
import mmap
import os
import stat
import time
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path

import pytest

from tests.conformance.helpers import OLD, fails
from tests.conformance.processes import Child
from tests.mount.control import command, commit, finish, show, show_lines
from tests.mount.mounting import MountedVolume
from tests.mount.patching import backing, difference, patch, read, remount

pytestmark = pytest.mark.fuse

FORGED = ".artfs-stub:644:xxh128:" + "0" * 32 + ":name"


def patch_of_one(model: Path, content: bytes) -> Path:
    """Starts a patch of a version with one file."""
    job = model / "pending" / "base"
    job.mkdir()
    (job / "file").write_bytes(content)
    finish(job)
    return patch(model, "job")


# Copy-up


def test_opening_a_lower_file_to_write_changes_nothing_visible(based: Path) -> None:
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


def test_readers_switch_to_the_copy_with_their_flags(model: Path) -> None:
    tree = patch_of_one(model, b"base")
    moved = {}
    for flags in (os.O_RDONLY | os.O_NOATIME, os.O_RDONLY):
        reader = os.open(tree / "file", flags)
        try:
            (tree / "file").write_bytes(b"copy")
            os.utime(tree / "file", ns=(OLD - 10**9, OLD))
            os.posix_fadvise(reader, 0, 0, os.POSIX_FADV_DONTNEED)
            assert os.pread(reader, 4, 0) == b"copy"
            moved[flags] = os.stat(tree / "file").st_atime_ns != OLD - 10**9
        finally:
            os.close(reader)
        command(tree, "discard", "")
        tree = patch(model, "again", "v0")
    assert [*moved.values()] == [False, True]


def test_mapped_writes_are_visible_to_all_readers(model: Path) -> None:
    content = os.urandom(1 << 20)
    tree = patch_of_one(model, content)

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


def test_concurrent_appends_to_a_lower_file_are_kept(based: Path) -> None:
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


def test_concurrent_first_writes_to_a_lower_file_are_kept(model: Path) -> None:
    content = os.urandom(4 << 20)
    tree = patch_of_one(model, content)

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


def test_lower_files_can_be_truncated(based: Path) -> None:
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


def test_copy_up_keeps_files_sparse(shared_mount: MountedVolume, model: Path) -> None:
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


def test_a_large_copy_up_does_not_block_the_mount(model: Path) -> None:
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


def test_a_file_can_be_unlinked_during_its_copy_up(shared_mount: MountedVolume, model: Path) -> None:
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
            pass  # the unlink came first
    assert os.listdir(tree) == []
    assert not [name for name in os.listdir(backing(shared_mount, tree)) if name.startswith(".artfs-tmp")]
    assert (model / "v0" / "large").stat().st_size == 50 << 20


# Attributes


def test_setting_attributes_of_a_lower_file_needs_no_copy(shared_mount: MountedVolume, based: Path) -> None:
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
def test_a_lower_entrys_atime_can_be_set(model: Path, name: str) -> None:
    job = model / "pending" / "base"
    (job / "dir").mkdir(parents=True)
    (job / "file").write_text("base")
    (job / "link").symlink_to("file")
    finish(job)
    tree = patch(model, "job")
    os.utime(tree / name, ns=(OLD, OLD + 10**9), follow_symlinks=False)
    status = os.stat(tree / name, follow_symlinks=False)
    assert (status.st_atime_ns, status.st_mtime_ns) == (OLD, OLD + 10**9)


def test_a_lower_file_can_be_hard_linked(based: Path) -> None:
    tree = patch(based, "job")
    ino = os.stat(tree / "dir" / "below").st_ino
    os.link(tree / "dir" / "below", tree / "again")
    (tree / "again").write_text("both")
    assert read(tree / "dir" / "below") == "both"
    for path in (tree / "again", tree / "dir" / "below"):
        assert (os.stat(path).st_ino, os.stat(path).st_nlink) == (ino, 2)
    os.unlink(tree / "dir" / "below")
    assert os.stat(tree / "again").st_nlink == 1


def test_xattrs_of_lower_files_can_be_changed(model: Path) -> None:
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


# Inode numbers


def test_inode_numbers_are_unique(own_mount: MountedVolume, collection: Path) -> None:
    count = 40
    commit(collection, "base", {f"file-{number}": f"base {number}" for number in range(count)})
    tree = patch(collection, "job")
    expected = {f"file-{number}": f"base {number}+" for number in range(count)}
    for name in expected:
        os.chmod(tree / name, 0o600)
    remount(own_mount)
    kept = {name: os.stat(tree / name).st_ino for name in expected}
    with ExitStack() as stack:
        for name in list(expected)[::2]:
            stack.enter_context(open(tree / name))
        # Each copy has an inode of its own now, and those of the stubs are free.
        for name in expected:
            with open(tree / name, "a") as file:
                file.write("+")
        # Makes the kernel forget what is not open, as memory pressure does.
        with suppress(OSError):
            Path("/proc/sys/vm/drop_caches").write_text("2")
        for number in range(count):
            (tree / f"new-{number}").write_text(f"new {number}")
            expected[f"new-{number}"] = f"new {number}"
        found = {name: read(tree / name) for name in expected}
        assert found == expected, difference(found, expected)
        numbers = {name: os.stat(tree / name).st_ino for name in expected}
        assert len(set(numbers.values())) == len(expected)
        assert {name: numbers[name] for name in list(kept)[::2]} == {
            name: kept[name] for name in list(kept)[::2]
        }
    finish(tree)
    assert {name: read(collection / "v1" / name) for name in expected} == expected


# Names and targets that look like internal ones


TARGETS = [FORGED, ".artfs-link:x", ".artfs-lower", ".artfs-", "plain"]


def test_symlinks_to_internal_names_are_ordinary(model: Path) -> None:
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


def test_symlink_targets_may_have_any_length(model: Path) -> None:
    longest = 4095  # the limit of ext4; 12 bytes less for a target that must be escaped
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
def test_unusual_names_work_in_patches(model: Path, name: bytes) -> None:
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
