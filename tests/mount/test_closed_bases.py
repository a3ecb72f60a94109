"""Files that a user cannot read stay closed by every other way: bases, diffs, status, references."""

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

ALICE, BOB, TEAM = 1001, 1002, 2001


@pytest.fixture
def open_model(model: Path) -> Path:
    """A collection in which all users may start versions; only root may read its v0."""
    os.chmod(model / "pending", 0o777)
    tree = model / "pending" / "closed"
    tree.mkdir()
    (tree / "file").write_text("secret")
    os.chmod(tree, 0o700)
    finish(tree, "best")
    return model


@pytest.fixture
def hidden(shared_mnt: Path, model: Path) -> Path:
    """A closed collection with a version whose own mode is open."""
    path = shared_mnt / f"hidden-{model.name}"
    path.mkdir()
    commit(path, "job", {"named secretly": "secret"})
    os.chmod(path, 0o700)
    return path


def test_a_stranger_cannot_use_a_closed_version_as_a_base(open_model: Path) -> None:
    def work() -> list[str]:
        tree = open_model / "pending" / "alices"
        tree.mkdir()
        for ref in ("v0", "best", "latest"):
            with fails(errno.EACCES):
                command(tree, "base", ref)
        assert "you may not list its root" in show(tree, "error")
        return os.listdir(tree)

    assert in_child(work, uid=ALICE) == []
    tree = open_model / "pending" / "admins"
    tree.mkdir()
    command(tree, "base", "v0")
    assert os.listdir(tree) == ["file"]


def test_a_base_in_a_closed_collection_is_refused(open_model: Path, hidden: Path) -> None:
    def work() -> None:
        tree = open_model / "pending" / "alices"
        tree.mkdir()
        with fails(errno.EACCES):
            command(tree, "base", f"{hidden.name}:v0")
        assert os.listdir(tree) == []

    in_child(work, uid=ALICE)
    os.chmod(hidden, 0o750)
    os.chown(hidden, 0, TEAM)

    def member() -> list[str]:
        tree = open_model / "pending" / "his"
        tree.mkdir()
        command(tree, "base", f"{hidden.name}:v0")
        return os.listdir(tree)

    assert in_child(member, uid=BOB, groups=[7, TEAM]) == ["named secretly"]


def test_an_alias_moved_to_a_closed_version_exposes_nothing(model: Path) -> None:
    os.chmod(model / "pending", 0o777)
    commit(model, "open", {"file": "open"}, "best")
    tree = model / "pending" / "alices"

    def start() -> None:
        tree.mkdir()
        command(tree, "base", "best")
        (tree / "new").write_text("alices")

    in_child(start, uid=ALICE)
    other = model / "pending" / "closed"
    other.mkdir()
    for name, text in (("file", "open"), ("more", "secret")):
        (other / name).write_text(text)
    os.chmod(other, 0o700)
    finish(other, "best")

    def finish_and_rebase() -> None:
        with fails(errno.EACCES):
            finish(tree)
        with fails(errno.EACCES):
            command(tree, "base", "best")
        assert sorted(os.listdir(tree)) == ["file", "new"]

    in_child(finish_and_rebase, uid=ALICE)
    assert finish(tree)["version"] == "v2"
    assert sorted(os.listdir(model / "v2")) == ["file", "more", "new"]


def test_a_diff_with_a_closed_collection_is_closed(model: Path, hidden: Path) -> None:
    version = commit(model, "open", {"file": "open"})
    diff = f"diff/{hidden.name}:v0"
    assert "named secretly" in show(version, diff)
    with fails(errno.EACCES):
        in_child(partial(show, version, diff), uid=ALICE)
    os.chmod(hidden, 0o755)
    assert "named secretly" in in_child(partial(show, version, diff), uid=ALICE)


def test_answers_do_not_depend_on_a_closed_collections_content(model: Path, hidden: Path) -> None:
    """Diffs, bases and references give one answer for existing and missing names."""
    version = commit(model, "open", {"file": "open"})
    os.chmod(model / "pending", 0o777)

    def ask() -> None:
        tree = model / "pending" / "alices"
        tree.mkdir()
        answers = set()
        for ref in ("v0", "v7", "latest", "secretly", "nothing"):
            path = version / ".artfs" / "diff" / f"{hidden.name}:{ref}"
            status = path.stat()
            with fails(errno.EACCES):
                path.read_text()
            with fails(errno.EACCES):
                command(tree, "base", f"{hidden.name}:{ref}")
            answer = [status.st_mode, status.st_size, show(tree, "error")]
            for way in ("", "/file", "/nothing"):
                with fails(errno.EIO):
                    command(tree, "references", f"there artfs://{hidden.name}:{ref}{way}")
                answer.append(show(tree, "error").replace(f"{ref}{way} ", " "))
            answers.add(tuple(answer))
        assert len(answers) == 1

    in_child(ask, uid=ALICE)
    for ref in ("v7", "nothing"):
        with fails(errno.ENOENT):
            (version / ".artfs" / "diff" / f"{hidden.name}:{ref}").read_text()


def test_a_finish_needs_write_access_to_set_aliases(model: Path) -> None:
    os.chmod(model / "pending", 0o777)
    commit(model, "good", {"file": "good"}, "best")
    tree = model / "pending" / "alices"

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

    assert in_child(work, uid=ALICE) == "v1"
    assert os.readlink(model / "best") == "v0"
    assert not os.path.lexists(model / "mine")
    os.chown(model, BOB, TEAM)
    os.chmod(model, 0o775)

    def member() -> str:
        mine = model / "pending" / "alices too"
        mine.mkdir()
        (mine / "file").write_text("better")
        return str(finish(mine, "best")["version"])

    assert in_child(member, uid=ALICE, groups=[TEAM]) == "v2"
    assert os.readlink(model / "best") == "v2"


def test_a_status_names_no_file_below_a_closed_directory(job: Path) -> None:
    closed = job / "closed"
    closed.mkdir()
    with open(closed / "named secretly", "w"), open(job / "open", "w"):
        os.chmod(closed, 0o711)

        def paths() -> set[str]:
            return {writer["path"] for writer in show_json(job, "status")["open_for_write"]}

        assert paths() == {"closed/named secretly", "open"}
        assert in_child(lambda: sorted(paths()), uid=ALICE) == ["(closed)", "open"]
        os.chmod(closed, 0o755)
        assert in_child(lambda: sorted(paths()), uid=ALICE) == ["closed/named secretly", "open"]


def test_supplementary_groups_of_the_opening_process_count(open_model: Path) -> None:
    tree = open_model / "pending" / "teams"
    tree.mkdir()
    (tree / "closed").mkdir()
    (tree / "closed" / "file").write_text("theirs")
    os.chown(tree / "closed", 0, TEAM)
    os.chmod(tree / "closed", 0o750)
    os.chown(tree, 0, TEAM)
    with fails(errno.EACCES):
        in_child(partial(show_lines, tree, "changes"), uid=ALICE)
    assert len(in_child(partial(show_lines, tree, "changes"), uid=ALICE, groups=[5, TEAM])) >= 1
    assert os.stat(control(tree, "changes")).st_gid == TEAM
    with fails(errno.EACCES):
        in_child(partial(show_lines, tree, "changes"), uid=NOBODY)
