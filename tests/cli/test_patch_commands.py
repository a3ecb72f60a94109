"""Patches from the command line: new and put with a base, rebase, diff of a pending version, log."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.cli.running import Cli, make_files, snapshot


@pytest.fixture
def base(cli: Cli, name: str, tmp_path: Path) -> str:
    """A collection whose v0 has the alias best and some directories."""
    root = make_files(tmp_path / "base", {path: path for path in ("a/b/two", "a/one", "three", "c/d/four")})
    (root / "empty").mkdir()
    (root / "link").symlink_to("three")
    os.setxattr(root / "three", "user.kept", b"1")
    os.utime(root / "a" / "b", ns=(10**18, 10**18))
    cli("put", root, "--name", name, "--alias", "best")
    return name


@pytest.fixture
def changes(tmp_path: Path) -> Path:
    return make_files(tmp_path / "changes", {"a/b/two": "changed", "new": "new"})


def test_put_with_a_base_adds_to_it(cli: Cli, base: str, changes: Path) -> None:
    assert cli("put", changes, "--name", base, "--base", "best").out == f"{base}:v1\n"
    assert cli("diff", f"{base}:v0", "v1").out.splitlines() == ["M a/b/two (7 -> 7)", "A new"]
    assert cli("cat", f"{base}:v1", "a/one").out == "a/one"
    assert cli.json("show", f"{base}:v1")["base"] == "v0"
    assert [version["base"] for version in cli.json("log", base)] == ["v0", None]
    assert cli("log", base).out.splitlines()[0].split("\t")[-1] == "v0"


def test_unchanged_files_keep_everything(cli: Cli, base: str, changes: Path, tmp_path: Path) -> None:
    cli("put", changes, "--name", base, "--base", "v0")
    for version in ("v0", "v1"):
        cli("get", f"{base}:{version}", tmp_path / version)
    before, after = snapshot(tmp_path / "v0"), snapshot(tmp_path / "v1")
    of_the_change = (b"a", b"a/b", b"a/b/two", b"new")
    for path in of_the_change:
        before.pop(path, None)
        after.pop(path)
    assert after == before


def test_an_unchanged_patch_makes_no_version(cli: Cli, base: str) -> None:
    cli("new", base, "--id", "nothing", "--base", "best")
    assert cli("diff", f"{base}/nothing").out == ""
    assert cli.json("finish", f"{base}/nothing") == {
        "collection": base,
        "version": "v0",
        "unchanged": True,
        "digest": cli.json("show", f"{base}:v0")["digest"],
    }


def test_several_puts_fill_one_patch(cli: Cli, base: str, changes: Path, tmp_path: Path) -> None:
    other = make_files(tmp_path / "other", {"c/d/five": "5"})
    cli("put", changes, "--name", base, "--id", "job", "--base", "v0")
    status = cli.json("put", other, "--name", base, "--id", "job", "--base", "v0")
    assert (status["base"], status["base_version"], status["files"]) == ("v0", "v0", 6)
    assert cli("diff", f"{base}/job").out.splitlines() == ["M a/b/two (7 -> 7)", "A c/d/five", "A new"]
    assert [change["path"] for change in cli.json("diff", f"{base}/job")] == ["a/b/two", "c/d/five", "new"]
    assert "changed already" in cli.refused("put", other, "--name", base, "--id", "job", "--base", "best")
    [pending] = cli.json("pending", base)
    assert pending["base"] == "v0"
    assert cli("finish", f"{base}/job").out == f"{base}:v1\n"
    assert len(cli.json("ls", f"{base}:v1")) == 6


def test_a_path_that_conflicts_with_the_base_is_refused(cli: Cli, base: str, tmp_path: Path) -> None:
    for said, path in (
        (
            "cannot create the directory 'three': 'three' is a file in this version; remove it first",
            "three/x",
        ),
        ("cannot create the file 'c': 'c' is a directory in this version; remove it first", "c"),
    ):
        root = tmp_path / path.replace("/", " ")
        (root / path).parent.mkdir(parents=True)
        (root / path).write_text("")
        assert said in cli.refused("put", root, "--name", base, "--base", "v0")
    assert cli.json("pending", base) == []


def test_a_symlink_replaces_a_file(cli: Cli, base: str, tmp_path: Path) -> None:
    (root := tmp_path / "links").mkdir()
    (root / "three").symlink_to(".artfs-stub:644:xxh128:00:three")
    cli("put", root, "--name", base, "--base", "v0")
    assert cli("diff", f"{base}:v0", "v1").out == "T three (file -> symlink)\n"
    [entry] = cli.json("ls", f"{base}:v1", "three")
    assert entry["target"] == ".artfs-stub:644:xxh128:00:three"


def test_an_unknown_base_is_refused(cli: Cli, base: str, name: str) -> None:
    for ref, why in (("v7", "has no version or alias 'v7'"), ("gone:v0", "no collection 'gone'")):
        assert why in cli.refused("new", base, "--base", ref)
    assert cli.json("pending", base) == []


def test_a_base_may_be_of_another_collection(cli: Cli, base: str, name: str) -> None:
    cli("new", f"{base}-fork", "--id", "f", "--base", f"{base}:best")
    assert cli("finish", f"{base}-fork/f").out == f"{base}-fork:v0\n"
    fork = cli.json("show", f"{base}-fork:v0")
    assert (fork["base"], fork["digest"]) == (f"{base}:v0", cli.json("show", f"{base}:v0")["digest"])
    assert cli("diff", f"{base}-fork:v0", f"{base}:v0").out == ""


def test_an_alias_is_followed(cli: Cli, base: str, changes: Path, tmp_path: Path) -> None:
    theirs = make_files(tmp_path / "theirs", {"three": "theirs"})
    cli("put", changes, "--name", base, "--id", "follows", "--base", "best")
    cli("put", changes, "--name", base, "--id", "pinned", "--base", "v0")
    cli("put", theirs, "--name", base, "--base", "best", "--alias", "best")
    assert cli("finish", f"{base}/follows").out == f"{base}:v2\n"
    assert cli("diff", f"{base}:v1", "v2").out.splitlines() == ["M a/b/two (7 -> 7)", "A new"]
    assert cli("cat", f"{base}:v2", "three").out == "theirs"
    assert cli("finish", f"{base}/pinned").out == f"{base}:v3\n"
    assert cli("cat", f"{base}:v3", "three").out == "three"
    assert [version["base"] for version in cli.json("log", base)] == ["v0", "v1", "v0", None]


def test_a_collision_is_refused_until_a_rebase(cli: Cli, base: str, changes: Path, tmp_path: Path) -> None:
    theirs = make_files(tmp_path / "theirs", {"new": "theirs", "theirs": "theirs"})
    cli("put", changes, "--name", base, "--id", "job", "--base", "best")
    cli("put", theirs, "--name", base, "--base", "best", "--alias", "best")
    before = cli.json("diff", f"{base}/job")
    for _ in range(2):
        why = cli.refused("finish", f"{base}/job")
        assert "'best' is v1 now" in why
        assert "new (added here, added there)" in why
    assert cli.json("diff", f"{base}/job") == before
    assert len(cli.json("log", base)) == 2
    # A rebase keeps our side of the collisions that were listed.
    assert cli("rebase", f"{base}/job").out == f"{base}:v1\n"
    assert cli("diff", f"{base}/job").out.splitlines() == ["M a/b/two (7 -> 7)", "M new (6 -> 3)"]
    assert cli("finish", f"{base}/job", "best").out == f"{base}:v2\n"
    assert cli("cat", f"{base}:best", "new").out == "new"
    assert cli("cat", f"{base}:best", "theirs").out == "theirs"


def test_rebase_lists_a_new_collision_first(cli: Cli, base: str, changes: Path) -> None:
    cli("put", changes, "--name", base, "--id", "job", "--base", "best")
    (changes / "new").write_text("other")
    cli("put", changes, "--name", base, "--base", "best", "--alias", "best")
    assert "new (added here, added there)" in cli.refused("rebase", f"{base}/job")
    (changes / "new").write_text("another")
    cli("put", changes, "--name", base, "--base", "best", "--alias", "best")
    assert "'best' is v2 now" in cli.refused("rebase", f"{base}/job")
    assert cli("rebase", f"{base}/job").out == f"{base}:v2\n"


def test_rebase_is_for_patches(cli: Cli, base: str) -> None:
    cli("new", base, "--id", "plain")
    assert "without a base" in cli.refused("rebase", f"{base}/plain")
    cli("new", base, "--id", "pinned", "--base", "v0")
    assert cli("rebase", f"{base}/pinned").out == f"{base}:v0\n"


def test_a_second_rebase_keeps_the_first_merge(cli: Cli, base: str, changes: Path, tmp_path: Path) -> None:
    cli("put", changes, "--name", base, "--id", "job", "--base", "latest")
    for number in range(1, 4):
        theirs = tmp_path / f"theirs-{number}"
        theirs.write_text("theirs")
        cli("put", theirs, "--name", base, "--base", "latest")
        assert cli("rebase", f"{base}/job").out == f"{base}:v{number}\n"
        assert cli("diff", f"{base}/job").out.splitlines() == ["M a/b/two (7 -> 7)", "A new"]
    assert cli("finish", f"{base}/job").out == f"{base}:v4\n"
    assert cli("cat", f"{base}:v4", "new").out == "new"


def test_a_patch_outlives_its_base(cli: Cli, base: str, changes: Path, tmp_path: Path) -> None:
    cli("unalias", base, "best")
    cli("put", changes, "--name", base, "--id", "job", "--base", "v0")
    cli("put", changes, "--name", base)
    cli("rm", f"{base}:v0")
    cli("gc")
    assert cli("finish", f"{base}/job").out == f"{base}:v2\n"
    cli("get", f"{base}:v2", tmp_path / "out")
    assert (tmp_path / "out" / "three").read_text() == "three"
    assert "all sound" in cli("check").out


def test_diff_takes_two_versions_or_a_pending_one(cli: Cli, base: str) -> None:
    cli("new", base, "--id", "a:b")
    assert cli("diff", f"{base}/a:b").out == ""
    assert "two versions" in cli("diff", f"{base}:v0", status=2).err
    assert "omit V2" in cli("diff", f"{base}/a:b", "v0", status=2).err
    assert "has no version or alias 'v9'" in cli.refused("diff", f"{base}:v0", "v9")


def test_without_a_base_everything_is_added(cli: Cli, base: str, changes: Path) -> None:
    cli("put", changes, "--name", base, "--id", "plain")
    assert cli("diff", f"{base}/plain").out.splitlines() == ["A a/", "A a/b/", "A a/b/two", "A new"]


def test_a_listed_collision_is_not_listed_again(cli: Cli, base: str, tmp_path: Path) -> None:
    def put(name: str, text: str, *more: str) -> None:
        (path := tmp_path / name).write_text(text)
        cli("put", path, "--name", base, "--base", "latest", *more)

    put("one", "ours", "--id", "job")
    put("two", "ours", "--id", "job")
    put("one", "theirs")
    assert "one (added here, added there)" in cli.refused("rebase", f"{base}/job")
    put("two", "theirs")
    why = cli.refused("rebase", f"{base}/job")
    assert "two (added here, added there)" in why
    assert "one (" not in why
    assert cli("rebase", f"{base}/job").out == f"{base}:v2\n"
    assert cli("finish", f"{base}/job").out == f"{base}:v3\n"
    assert [cli("cat", f"{base}:v3", name).out for name in ("one", "two")] == ["ours", "ours"]
