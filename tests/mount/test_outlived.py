"""Open files and working directories of a removed version or pending version behave as after `rm -rf`.

The same calls are made on a descriptor of a removed file in a plain directory, and on one of a file in a
mount.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.helpers import eventually, fails
from tests.mount.control import command, finish
from tests.mount.mounting import MountedVolume, must

pytestmark = pytest.mark.fuse

CONTENT = b"content" * 20_000


@pytest.fixture
def model(model: Path) -> Iterator[Path]:
    """A collection that is removed after the test, since a gc through the mount visits every collection."""
    yield model
    if not model.exists():
        return
    for tree in (model / "pending").iterdir():
        command(tree, "discard", "")
    for version in model.glob("v[0-9]*"):
        version.rmdir()
    model.rmdir()


TIME = 981173106_123456789


def fill(tree: Path) -> None:
    (tree / "dir" / "below").mkdir(parents=True)
    for name in ("file", "other"):
        path = tree / "dir" / name
        path.write_bytes(CONTENT)
        path.chmod(0o640)
        os.setxattr(path, b"user.name", b"value")
        os.utime(path, ns=(TIME, TIME))


@dataclass
class Ending:
    """A tree, and how it ends. If `sealed`, its open files become those of a version."""

    make: Callable[[Path], Path]
    end: Callable[[Path], None]
    sealed: bool = False


def _pending(model: Path, name: str = "job") -> Path:
    tree = model / "pending" / name
    tree.mkdir()
    return tree


def _filled(model: Path) -> Path:
    tree = _pending(model)
    fill(tree)
    return tree


def _version(model: Path) -> Path:
    finish(_filled(model))
    return model / "v0"


def _patch(model: Path, base: str = "latest") -> Path:
    _version(model)
    tree = _pending(model, "patch")
    command(tree, "base", base)
    return tree


def _stubs(model: Path) -> Path:
    tree = _patch(model)
    for name in ("file", "other"):
        (tree / "dir" / name).chmod(0o600)
        (tree / "dir" / name).chmod(0o640)
    return tree


def _copies(model: Path) -> Path:
    tree = _patch(model)
    for name in ("file", "other"):
        os.setxattr(tree / "dir" / name, b"user.name", b"value")
    return tree


def _discard(tree: Path) -> None:
    command(tree, "discard", "")


def _finish_and_delete(tree: Path) -> None:
    version = finish(tree)["version"]
    (tree.parent.parent / version).rmdir()


def _replace_and_rebase(tree: Path) -> None:
    model = tree.parent.parent
    theirs = _pending(model, "theirs")
    command(theirs, "base", "latest")
    (theirs / "new").touch()
    finish(theirs)
    for name in ("file", "other"):
        (tree / "dir" / name).unlink()
        (tree / "dir" / name).mkdir()
    command(tree, "base", "latest")


def _removed_by_others(tree: Path) -> None:
    model = tree.parent.parent
    theirs = _pending(model, "theirs")
    command(theirs, "base", "latest")
    shutil.rmtree(theirs / "dir")
    (theirs / "dir").touch()
    finish(theirs)
    (tree / "ours").touch()
    command(tree, "base", "latest")


ENDINGS = {
    "version deleted": Ending(_version, Path.rmdir, sealed=True),
    "discarded": Ending(_filled, _discard),
    "discarded patch": Ending(_patch, _discard),
    "discarded stubs": Ending(_stubs, _discard),
    "discarded copies": Ending(_copies, _discard),
    "finished and deleted": Ending(_filled, _finish_and_delete, sealed=True),
    "finished copies and deleted": Ending(_copies, _finish_and_delete, sealed=True),
    "finished patch and deleted": Ending(_stubs, _finish_and_delete, sealed=True),
    "replaced in a patch, and rebased": Ending(_patch, _replace_and_rebase),
    "replaced stubs in a patch, and rebased": Ending(_stubs, _replace_and_rebase),
    "removed by others, and rebased": Ending(_patch, _removed_by_others),
}


def _status(fd: int) -> tuple[Any, ...]:
    found = os.fstat(fd)
    return stat.filemode(found.st_mode), found.st_size, found.st_nlink, found.st_uid, found.st_mtime_ns


def _again(fd: int, flags: int, call: Callable[[int], object]) -> object:
    again = os.open(f"/proc/self/fd/{fd}", flags)
    try:
        return call(again)
    finally:
        os.close(again)


def _mapped(fd: int) -> bytes:
    with mmap.mmap(fd, 0, prot=mmap.PROT_READ) as found:
        return found[:]


def _opened_nowhere(fd: int) -> object:
    held = os.open(f"/proc/self/fd/{fd}", os.O_PATH)
    try:
        return _again(held, os.O_RDONLY, lambda again: os.pread(again, 7, 0))
    finally:
        os.close(held)


#: Calls that only read.
LOOKS: dict[str, Callable[[int], object]] = {
    "fstat": _status,
    "pread": lambda fd: os.pread(fd, len(CONTENT) + 1, 0),
    "pread past the end": lambda fd: os.pread(fd, 9, len(CONTENT) + 5),
    "seek to the end": lambda fd: os.lseek(fd, 0, os.SEEK_END),
    "fstat after reading": _status,
    "mmap": _mapped,
    "open again": lambda fd: _again(fd, os.O_RDONLY, lambda again: os.pread(again, 99, 7)),
    "open again from O_PATH": _opened_nowhere,
    "fstat of what is open again": lambda fd: _again(fd, os.O_RDONLY, _status),
    "flock": lambda fd: fcntl.flock(fd, fcntl.LOCK_SH),
    "listxattr": os.listxattr,
    "getxattr": lambda fd: os.getxattr(fd, b"user.name"),
    "getxattr of none": lambda fd: os.getxattr(fd, b"user.none"),
    "fstatvfs": lambda fd: bool(os.fstatvfs(fd).f_bsize),
    "fsync": lambda fd: bool(os.fsync(fd)),  # type: ignore[func-returns-value]
    "access": lambda fd: os.access(f"/proc/self/fd/{fd}", os.R_OK),
}

#: Calls that change the file, in this order.
CHANGES: dict[str, Callable[[int], object]] = {
    "fchmod": lambda fd: os.fchmod(fd, 0o600),
    "fstat after fchmod": lambda fd: _status(fd)[:-1],
    "utime": lambda fd: os.utime(fd, ns=(TIME + 1, TIME + 1)),
    "fstat after utime": _status,
    "setxattr": lambda fd: os.setxattr(fd, b"user.new", b"1"),
    "getxattr of the new": lambda fd: os.getxattr(fd, b"user.new"),
    "removexattr": lambda fd: os.removexattr(fd, b"user.new"),
    "write": lambda fd: _again(fd, os.O_RDWR, lambda again: os.pwrite(again, b"new", 3)),
    "pread what was written": lambda fd: os.pread(fd, 99, 0),
    "append": lambda fd: _again(fd, os.O_WRONLY | os.O_APPEND, lambda again: os.write(again, b"end")),
    "fstat after appending": lambda fd: _status(fd)[:-1],
    "pread what was appended": lambda fd: os.pread(fd, 99, len(CONTENT) - 9),
    "write again": lambda fd: _again(fd, os.O_RDWR, lambda again: os.pwrite(again, b"x", 0)),
    "truncate": lambda fd: _again(fd, os.O_WRONLY, lambda again: os.ftruncate(again, 5)),
    "fstat after truncating": lambda fd: _status(fd)[:-1],
    "open and truncate": lambda fd: _again(fd, os.O_RDWR | os.O_TRUNC, lambda again: os.write(again, b"all")),
    "pread all": lambda fd: os.pread(fd, 99, 0),
    "link": lambda fd: os.link(f"/proc/self/fd/{fd}", f"/proc/self/fd/{fd}x", follow_symlinks=True),
    "listxattr after all": lambda fd: sorted(os.listxattr(fd)),
}


def _delete_all(mounted: MountedVolume, model: Path) -> None:
    """Deletes every version and collects the garbage; a patch keeps its base."""
    for name in os.listdir(model):
        if name[0] == "v":
            (model / name).rmdir()
    must("--volume", mounted.volume, "gc")


def outcome(call: Callable[[int], object], fd: int) -> object:
    try:
        return call(fd)
    except OSError as error:
        return errno.errorcode[error.errno or 0]


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[int]:
    """A descriptor of a file in a plain directory that is removed."""
    fill(tmp_path / "plain")
    fd = os.open(tmp_path / "plain" / "dir" / "file", os.O_RDONLY)
    shutil.rmtree(tmp_path / "plain")
    yield fd
    os.close(fd)


@pytest.mark.parametrize("collect", [False, True], ids=["", "gc"])
@pytest.mark.parametrize("looked", [False, True], ids=["unread", "read"])
@pytest.mark.parametrize("how", ENDINGS)
def test_an_open_file_of_an_ended_tree_works_as_a_removed_one(
    shared_mount: MountedVolume, model: Path, plain: int, how: str, looked: bool, collect: bool
) -> None:
    ending = ENDINGS[how]
    tree = ending.make(model)
    fd = os.open(tree / "dir" / "file", os.O_RDONLY)
    try:
        if looked:
            assert os.pread(fd, len(CONTENT), 0) == CONTENT
        ending.end(tree)
        if collect:
            _delete_all(shared_mount, model)
        for name, call in LOOKS.items():
            assert outcome(call, fd) == outcome(call, plain), name
        for name, call in CHANGES.items():
            got = outcome(call, fd)
            if not ending.sealed:
                assert got == outcome(call, plain), name
            elif name in ("fchmod", "utime", "setxattr", "write", "append", "truncate", "open and truncate"):
                assert got == "EROFS", name
        if ending.sealed:
            assert os.pread(fd, len(CONTENT), 0) == CONTENT
    finally:
        os.close(fd)


@pytest.mark.parametrize("collect", [False, True], ids=["", "gc"])
@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_PATH], ids=["opened", "path"])
@pytest.mark.parametrize("how", [how for how in ENDINGS if "replaced" not in how])
def test_open_directories_of_an_ended_tree_are_empty_and_removed(
    shared_mount: MountedVolume, model: Path, how: str, flags: int, collect: bool
) -> None:
    ending = ENDINGS[how]
    tree = ending.make(model)
    rebased = "rebased" in how
    paths = [tree / "dir", tree / "dir" / "below"] + ([] if rebased else [tree])
    fds = [os.open(path, flags | os.O_DIRECTORY) for path in paths]
    try:
        ending.end(tree)
        if collect:
            _delete_all(shared_mount, model)
        for fd in fds:
            _expect_removed(fd)
    finally:
        for fd in fds:
            os.close(fd)


def _expect_removed(fd: int) -> None:
    here = f"/proc/self/fd/{fd}/."
    assert stat.S_ISDIR(os.stat(here).st_mode)
    assert os.listdir(here) == []
    assert os.listxattr(f"/proc/self/fd/{fd}") == []
    assert os.fstat(fd).st_nlink == 0
    for name in ("file", "dir", ".artfs", "none"):
        with fails(errno.ENOENT):
            os.stat(name, dir_fd=fd)
    for make in (os.mkdir, lambda name, dir_fd: os.symlink("x", name, dir_fd=dir_fd)):
        with fails(errno.ENOENT, errno.EROFS):
            make("new", dir_fd=fd)
    with fails(errno.ENOENT, errno.EROFS):
        os.open("new", os.O_WRONLY | os.O_CREAT, dir_fd=fd)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts")
@pytest.mark.parametrize("how", ["version deleted", "discarded", "finished and deleted"])
def test_a_bind_mount_of_an_ended_tree_is_empty(
    shared_mount: MountedVolume, model: Path, tmp_path: Path, how: str
) -> None:
    ending = ENDINGS[how]
    tree = ending.make(model)
    bound = shared_mount.base / f"bound-{tmp_path.name}"
    bound.mkdir()
    subprocess.run(["mount", "--bind", tree, bound], check=True)
    try:
        file = (bound / "dir" / "file").open("rb")
        ending.end(tree)
        _delete_all(shared_mount, model)
        fd = os.open(bound, os.O_PATH)
        _expect_removed(fd)
        os.close(fd)
        with file:
            assert file.read() == CONTENT
            assert os.fstat(file.fileno()).st_size == len(CONTENT)
    finally:
        subprocess.run(["umount", bound], check=True)


def test_open_files_outlive_their_collection(shared_mount: MountedVolume, model: Path) -> None:
    tree = _version(model)
    with (tree / "dir" / "file").open("rb") as file:
        tree.rmdir()
        model.rmdir()
        must("--volume", shared_mount.volume, "gc")
        assert file.read() == CONTENT
        assert os.fstat(file.fileno()).st_nlink == 0
        with open(f"/proc/self/fd/{file.fileno()}", "rb") as again:
            assert again.read() == CONTENT
        model.mkdir()
        assert finish(_filled(model))["version"] == "v0"
        assert os.fstat(file.fileno()).st_nlink == 0


def test_removed_bytes_are_freed_by_the_last_close(shared_mount: MountedVolume, model: Path) -> None:
    tree = _pending(model)
    content = os.urandom(3 << 20)
    (tree / "file").write_bytes(content)
    finish(tree)
    with (model / "v0" / "file").open("rb") as file:
        (model / "v0").rmdir()
        must("--volume", shared_mount.volume, "gc")
        assert deleted_bytes(shared_mount) >= len(content)
        assert file.read() == content
    eventually(lambda: deleted_bytes(shared_mount) < len(content), what="the bytes go")


def deleted_bytes(mounted: MountedVolume) -> int:
    """Returns the number of bytes of unlinked files that the daemon has open."""
    total = 0
    for name in os.listdir(f"/proc/{mounted.pid}/fd"):
        try:
            found = os.stat(f"/proc/{mounted.pid}/fd/{name}")
        except FileNotFoundError:
            continue
        if stat.S_ISREG(found.st_mode) and not found.st_nlink:
            total += found.st_size
    return total
