"""Names that are swapped while the daemon looks: it never follows a symlink, and never waits for a fifo.

Nothing outside can be planted in the store, which is closed to users; all that they can do is to change their
own pending trees under it.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from artfs.linux.syscalls import RENAME_EXCHANGE, renameat2
from tests.conformance.processes import Child
from tests.mount.control import command, commit, finish, show_json, show_lines

pytestmark = pytest.mark.fuse

OUTSIDE = "a secret of another place"


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A directory that is no part of the volume, and must be neither read nor changed."""
    path = tmp_path / "outside"
    path.mkdir()
    (path / "file").write_text(OUTSIDE)
    (path / "below").mkdir()
    (path / "below" / "file").write_text(OUTSIDE)
    return path


@contextmanager
def meanwhile(swap: Callable[[], None]) -> Iterator[None]:
    """A process that swaps in a loop, from here to the end of the context; refusals are part of it."""

    def loop(child: Child) -> None:
        swapped = 0
        while True:
            try:
                swap()
            except OSError as error:
                if error.errno not in (errno.EBUSY, errno.EROFS, errno.ENOENT, errno.ESTALE, errno.EXDEV):
                    raise
            swapped += 1
            if swapped == 10:
                child.say()

    with Child(loop) as child:
        child.heard()
        yield
        assert not child.is_over(), child.outcome()


def exchange(one: Path, other: Path) -> None:
    ctypes.set_errno(0)
    renameat2(-100, os.fsencode(one), -100, os.fsencode(other), RENAME_EXCHANGE)


def texts(tree: Path) -> set[str]:
    """What all files hold that are really in a tree."""
    found = set()
    for top, _, names in os.walk(tree):
        for name in names:
            path = Path(top, name)
            if not path.is_symlink():
                found.add(path.read_text())
    return found


def test_directories_swapped_for_symlinks_while_sealing(model: Path, outside: Path) -> None:
    for number in range(10):
        tree = model / "pending" / f"job-{number}"
        (tree / "dir" / "below").mkdir(parents=True)
        for path in ("dir/file", "dir/below/file"):
            (tree / path).write_text(f"ours {number}")
        for count in range(50):
            (tree / "dir" / f"more-{count}").write_text(f"ours {number}")
        (tree / "link").symlink_to(outside)
        with meanwhile(lambda tree=tree: exchange(tree / "dir", tree / "link")):  # type: ignore[misc]
            version = model / str(finish(tree)["version"])
        assert texts(version) == {f"ours {number}"}
        assert {path.is_symlink() for path in (version / "dir", version / "link")} == {True, False}
    assert (outside / "file").read_text() == OUTSIDE


def test_files_swapped_for_symlinks_and_fifos_while_looked_at(job: Path, outside: Path) -> None:
    (job / "file").write_text("ours")
    (job / "link").symlink_to(outside / "file")
    os.mkfifo(job / "fifo")
    names = [job / "file", job / "link", job / "fifo"]
    turn = iter(range(1 << 30))

    def swap() -> None:
        at = next(turn)
        exchange(names[at % 3], names[(at + 1) % 3])

    with meanwhile(swap):
        for _ in range(60):
            try:
                told = show_lines(job, "changes")
            except OSError as error:
                if error.errno in (errno.EBUSY, errno.EINVAL):  # it never stands still; the fifo
                    continue
                raise
            assert OUTSIDE not in str(told)
            show_json(job, "status")


def test_directories_swapped_for_symlinks_while_copied_up(model: Path, outside: Path) -> None:
    files = {f"dir/below/file-{number}": "base" for number in range(40)}
    commit(model, "base", files | {"dir/file": "base"}, "good")
    tree = model / "pending" / "patch"
    tree.mkdir()
    command(tree, "base", "good")
    (tree / "link").symlink_to(outside)
    with meanwhile(lambda: exchange(tree / "dir", tree / "link")):
        for number in range(40):
            for top in ("dir", "link"):
                try:
                    fd = os.open(tree / top / "below" / f"file-{number}", os.O_WRONLY)
                except OSError as error:
                    if error.errno in (errno.ENOENT, errno.ESTALE, errno.EBUSY):
                        continue
                    raise
                os.write(fd, b"ours")
                os.close(fd)
    assert texts(outside) == {OUTSIDE}
    version = model / str(finish(tree)["version"])
    assert texts(version) == {"base", "ours"}


def test_a_directory_moved_about_while_files_are_made_and_renamed(job: Path, outside: Path) -> None:
    (job / "dir" / "deep" / "er").mkdir(parents=True)
    (job / "other").mkdir()
    (job / "link").symlink_to(outside)

    def swap() -> None:
        os.rename(job / "dir" / "deep", job / "other" / "deep")
        exchange(job / "dir", job / "link")
        exchange(job / "dir", job / "link")
        os.rename(job / "other" / "deep", job / "dir" / "deep")

    before = sorted(os.listdir(outside))
    with meanwhile(swap):
        for number in range(300):
            for top in ("dir", "other"):
                path = job / top / "deep" / "er" / f"file-{number}"
                try:
                    path.write_text("ours")
                    os.rename(path, path.with_name(f"renamed-{number}"))
                    os.chmod(path.with_name(f"renamed-{number}"), 0o600)
                except OSError as error:
                    if error.errno not in (errno.ENOENT, errno.ESTALE, errno.ENOTDIR):
                        raise
    assert sorted(os.listdir(outside)) == before


def test_a_symlink_to_a_secret_is_sealed_as_a_symlink(model: Path, job: Path) -> None:
    (job / "shadow").symlink_to("/etc/shadow")
    (job / "up").symlink_to("../../../../../../../etc/passwd")
    finish(job)
    version = model / "v0"
    assert os.readlink(version / "shadow") == "/etc/shadow"
    assert os.readlink(version / "up") == "../../../../../../../etc/passwd"
    manifest = show_json(version, "manifest.json")
    assert manifest["shadow"]["kind"] == "symlink"
    assert manifest["shadow"]["target"] == "/etc/shadow"
    assert show_json(version, "status")["size"] == 0
