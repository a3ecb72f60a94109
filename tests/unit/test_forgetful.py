"""Backing filesystems that lose files held only by O_PATH, refuse owners, or have no rename flags.

A completed change is never reported as an error, and a reported error means that nothing changed.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Callable

import pytest

from artfs.linux import syscalls
from artfs.vfs.node import Caller
from artfs.vfs.pending_directory import PendingDirectory
from tests.conformance.helpers import fails, read, write
from tests.conformance.view import ViewFilesystem, ViewInMemory

_fstat = os.fstat


@pytest.fixture(params=["plain", "patch"])
def tree(request: pytest.FixtureRequest, view: ViewInMemory) -> ViewFilesystem:
    return view.pending_tree() if request.param == "plain" else view.emptied_patch()


@pytest.fixture
def forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    """As JuiceFS and gocryptfs: a file without a name is reachable only through real opens."""

    def fstat(fd: int) -> os.stat_result:
        status = _fstat(fd)
        if not status.st_nlink and fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_PATH:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        return status

    monkeypatch.setattr(os, "fstat", fstat)


@pytest.mark.usefixtures("forgetful")
def test_names_can_be_removed_and_replaced(tree: ViewFilesystem) -> None:
    write(tree, b"a", b"1")
    write(tree, b"b", b"2")
    tree.rename(b"b", b"a")
    assert (read(tree, b"a"), tree.listdir(b"")) == (b"2", [b"a"])
    tree.mkdir(b"d")
    tree.mkdir(b"e")
    tree.rename(b"d", b"e")
    tree.rmdir(b"e")
    tree.symlink(b"a", b"s")
    tree.unlink(b"s")
    tree.link(b"a", b"c")
    write(tree, b"f", b"3")
    tree.rename(b"f", b"c")
    tree.chmod(b"a", 0o640)
    assert [stat.S_IMODE(tree.stat(name).mode) for name in (b"a", b"c")] == [0o640, 0o644]
    tree.unlink(b"a")
    assert (read(tree, b"c"), tree.listdir(b"")) == (b"3", [b"c"])


@pytest.mark.usefixtures("forgetful")
def test_an_unlinked_open_file_stays_usable(tree: ViewFilesystem) -> None:
    for name in (b"removed", b"replaced"):
        write(tree, name, b"old")
    write(tree, b"new", b"new")
    with tree.open(b"removed", os.O_RDWR) as removed, tree.open(b"replaced", os.O_RDWR) as replaced:
        tree.unlink(b"removed")
        tree.rename(b"new", b"replaced")
        for file in (removed, replaced):
            file.pwrite(b"O", 0)
            file.truncate(2)
            file.chmod(0o600)
            status = file.stat()
            assert (status.nlink, status.size, stat.S_IMODE(status.mode)) == (0, 2, 0o600)
            assert file.pread(9, 0) == b"Ol"
    assert read(tree, b"replaced") == b"new"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to others")
def test_a_file_that_cannot_get_its_owner_is_not_created(
    tree: ViewFilesystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container may lack that user."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    root, caller = tree._at(b"", follow=True), Caller(4000, 4000, os.getpid())
    assert isinstance(root, PendingDirectory)
    makers: list[Callable[[], object]] = [
        lambda: root.create(b"file", os.O_RDWR, 0o644, caller),
        lambda: root.mkdir(b"directory", 0o755, caller),
        lambda: root.symlink(b"symlink", b"target", caller),
        lambda: root.mknod(b"fifo", stat.S_IFIFO | 0o644, 0, caller),
    ]
    with monkeypatch.context() as patch:
        patch.setattr(os, "fchown", refuse)
        patch.setattr(os, "chown", refuse)
        for make in makers:
            with fails(errno.EINVAL):
                make()
    assert tree.listdir(b"") == []


def test_noreplace_works_where_renames_have_no_flags(
    tree: ViewFilesystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CephFS has none."""
    real = syscalls.renameat2

    def renameat2(src_dir: int, src: bytes, dst_dir: int, dst: bytes, flags: int) -> None:
        if flags:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        real(src_dir, src, dst_dir, dst, flags)

    monkeypatch.setattr(syscalls, "renameat2", renameat2)
    for name in (b"a", b"b"):
        write(tree, name, name)
    tree.mkdir(b"d")
    with fails(errno.EEXIST):
        tree.rename(b"a", b"b", syscalls.RENAME_NOREPLACE)
    tree.rename(b"a", b"c", syscalls.RENAME_NOREPLACE)
    tree.rename(b"d", b"e", syscalls.RENAME_NOREPLACE)
    assert sorted(tree.listdir(b"")) == [b"b", b"c", b"e"]
    assert (read(tree, b"b"), read(tree, b"c"), tree.stat(b"c").nlink) == (b"b", b"a", 1)
