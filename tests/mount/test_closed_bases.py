"""What a user may not read stays closed by every way around its directory: bases, diffs, status."""

from __future__ import annotations

import errno
import os
from functools import partial
from pathlib import Path

import pytest

from tests.conformance.helpers import fails
from tests.conformance.processes import NOBODY, in_child
from tests.mount.control import command, commit, control, finish, show, show_json, show_lines

pytestmark = [
    pytest.mark.fuse,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user"),
]

MOUNT_OPTIONS = ["--allow-other"]

HER, HIM, TEAM = 1001, 1002, 2001


@pytest.fixture
def everybodys(model: Path) -> Path:
    """A collection in which everybody may start versions; its v0 is closed to all but root."""
    os.chmod(model / "pending", 0o777)
    tree = model / "pending" / "closed"
    tree.mkdir()
    (tree / "file").write_text("secret")
    os.chmod(tree, 0o700)
    finish(tree, "best")
    return model


@pytest.fixture
def hidden(shared_mnt: Path, model: Path) -> Path:
    """A closed collection, with a version that would be open."""
    path = shared_mnt / f"hidden-{model.name}"
    path.mkdir()
    commit(path, "job", {"named secretly": "secret"})
    os.chmod(path, 0o700)
    return path


def test_a_closed_version_is_no_base_for_a_stranger(everybodys: Path) -> None:
    def work() -> list[str]:
        tree = everybodys / "pending" / "hers"
        tree.mkdir()
        for ref in ("v0", "best", "latest"):
            with fails(errno.EACCES):
                command(tree, "base", ref)
        assert "you may not list its root" in show(tree, "error")
        return os.listdir(tree)

    assert in_child(work, uid=HER) == []
    tree = everybodys / "pending" / "roots"
    tree.mkdir()
    command(tree, "base", "v0")
    assert os.listdir(tree) == ["file"]


def test_a_version_of_a_closed_collection_is_no_base_for_a_stranger(everybodys: Path, hidden: Path) -> None:
    def work() -> None:
        tree = everybodys / "pending" / "hers"
        tree.mkdir()
        with fails(errno.EACCES):
            command(tree, "base", f"{hidden.name}:v0")
        assert os.listdir(tree) == []

    in_child(work, uid=HER)
    os.chmod(hidden, 0o750)
    os.chown(hidden, 0, TEAM)

    def member() -> list[str]:
        tree = everybodys / "pending" / "his"
        tree.mkdir()
        command(tree, "base", f"{hidden.name}:v0")
        return os.listdir(tree)

    assert in_child(member, uid=HIM, groups=[7, TEAM]) == ["named secretly"]


def test_an_alias_that_moves_to_a_closed_version_brings_nothing_of_it(model: Path) -> None:
    os.chmod(model / "pending", 0o777)
    commit(model, "open", {"file": "open"}, "best")
    tree = model / "pending" / "hers"

    def start() -> None:
        tree.mkdir()
        command(tree, "base", "best")
        (tree / "new").write_text("hers")

    in_child(start, uid=HER)
    other = model / "pending" / "closed"
    other.mkdir()
    for name, text in (("file", "open"), ("more", "secret")):
        (other / name).write_text(text)
    os.chmod(other, 0o700)
    finish(other, "best")

    def go_on() -> None:
        with fails(errno.EACCES):
            finish(tree)
        with fails(errno.EACCES):
            command(tree, "base", "best")
        assert sorted(os.listdir(tree)) == ["file", "new"]

    in_child(go_on, uid=HER)
    assert finish(tree)["version"] == "v2"
    assert sorted(os.listdir(model / "v2")) == ["file", "more", "new"]


def test_a_diff_with_a_closed_collection_is_closed(model: Path, hidden: Path) -> None:
    version = commit(model, "open", {"file": "open"})
    diff = f"diff/{hidden.name}:v0"
    assert "named secretly" in show(version, diff)
    with fails(errno.EACCES):
        in_child(partial(show, version, diff), uid=HER)
    os.chmod(hidden, 0o755)
    assert "named secretly" in in_child(partial(show, version, diff), uid=HER)


def test_what_there_is_in_a_closed_collection_is_not_told(model: Path, hidden: Path) -> None:
    """By a diff, as a base or as a reference: all answers are alike, whatever there is or is not."""
    version = commit(model, "open", {"file": "open"})
    os.chmod(model / "pending", 0o777)

    def ask() -> None:
        tree = model / "pending" / "hers"
        tree.mkdir()
        told = set()
        for ref in ("v0", "v7", "latest", "secretly", "nothing"):
            path = version / ".artfs" / "diff" / f"{hidden.name}:{ref}"
            status = path.stat()
            with fails(errno.EACCES):
                path.read_text()
            with fails(errno.EACCES):
                command(tree, "base", f"{hidden.name}:{ref}")
            said = [status.st_mode, status.st_size, show(tree, "error")]
            for way in ("", "/file", "/nothing"):
                with fails(errno.EIO):
                    command(tree, "references", f"there artfs://{hidden.name}:{ref}{way}")
                said.append(show(tree, "error").replace(f"{ref}{way} ", " "))
            told.add(tuple(said))
        assert len(told) == 1

    in_child(ask, uid=HER)
    for ref in ("v7", "nothing"):
        with fails(errno.ENOENT):
            (version / ".artfs" / "diff" / f"{hidden.name}:{ref}").read_text()


def test_who_may_not_write_in_a_collection_sets_no_alias_by_a_finish(model: Path) -> None:
    os.chmod(model / "pending", 0o777)
    commit(model, "good", {"file": "good"}, "best")
    tree = model / "pending" / "hers"

    def work() -> str:
        tree.mkdir()
        (tree / "file").write_text("evil")
        with fails(errno.EACCES):
            finish(tree, "best")
        with fails(errno.EACCES):
            finish(tree, "mine")
        with fails(errno.EACCES):
            command(tree, "aliases", "best")
        command(tree, "aliases", "latest")
        return str(finish(tree, "latest")["version"])

    assert in_child(work, uid=HER) == "v1"
    assert os.readlink(model / "best") == "v0"
    assert not os.path.lexists(model / "mine")
    os.chown(model, HIM, TEAM)
    os.chmod(model, 0o775)

    def member() -> str:
        mine = model / "pending" / "hers too"
        mine.mkdir()
        (mine / "file").write_text("better")
        return str(finish(mine, "best")["version"])

    assert in_child(member, uid=HER, groups=[TEAM]) == "v2"
    assert os.readlink(model / "best") == "v2"


def test_a_status_names_no_file_below_a_closed_directory(job: Path) -> None:
    closed = job / "closed"
    closed.mkdir()
    with open(closed / "named secretly", "w"), open(job / "open", "w"):
        os.chmod(closed, 0o711)

        def paths() -> set[str]:
            return {writer["path"] for writer in show_json(job, "status")["open_for_write"]}

        assert paths() == {"closed/named secretly", "open"}
        assert in_child(lambda: sorted(paths()), uid=HER) == ["(closed)", "open"]
        os.chmod(closed, 0o755)
        assert in_child(lambda: sorted(paths()), uid=HER) == ["closed/named secretly", "open"]


def test_groups_are_asked_of_the_process_that_opened(everybodys: Path) -> None:
    tree = everybodys / "pending" / "teams"
    tree.mkdir()
    (tree / "closed").mkdir()
    (tree / "closed" / "file").write_text("theirs")
    os.chown(tree / "closed", 0, TEAM)
    os.chmod(tree / "closed", 0o750)
    os.chown(tree, 0, TEAM)
    with fails(errno.EACCES):
        in_child(partial(show_lines, tree, "changes"), uid=HER)
    assert len(in_child(partial(show_lines, tree, "changes"), uid=HER, groups=[5, TEAM])) >= 1
    assert os.stat(control(tree, "changes")).st_gid == TEAM
    with fails(errno.EACCES):
        in_child(partial(show_lines, tree, "changes"), uid=NOBODY)
