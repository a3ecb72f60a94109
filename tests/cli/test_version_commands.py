"""ls, log, show, cat, get, alias, unalias, tag, rm, status: the same over a mount and without one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.cli.running import Cli, make_files, snapshot

_OF_A_STATUS = (
    "state version collection type digest size file_count created_at created_by distributed_id base link runs"
    " used_by aliases tags ttl"
)
STATUS_KEYS = set(_OF_A_STATUS.split())


@pytest.fixture
def versions(cli: Cli, name: str, tmp_path: Path) -> str:
    """A collection with two versions."""
    root = make_files(tmp_path / "tree", {"a": "first", "sub/b": "b"})
    (root / "sub" / "deeper").mkdir()
    (root / "sub" / "up").symlink_to("../a")
    (root / "sub" / "out").symlink_to("../../a")
    (root / "sub" / "circle").symlink_to("circle")
    (root / "by-link").symlink_to("sub")
    cli("put", root, "--name", name, "--type", "model", "--alias", "old")
    (root / "a").write_text("second")
    cli("put", root, "--name", name, "--type", "model", "--id", "two", "--alias", "best")
    cli("finish", f"{name}/two")
    return name


def test_ls_lists_collections(cli: Cli, versions: str) -> None:
    [found] = [collection for collection in cli.json("ls") if collection["name"] == versions]
    assert found == {
        "name": versions,
        "type": "model",
        "description": "",
        "tags": [],
        "versions": 2,
        "pending": 0,
        "abandoned": 0,
        "latest": "v1",
    }
    assert f"{versions}\tmodel\t2\tv1\t0\t" in cli("ls").out.splitlines()


def test_ls_lists_versions(cli: Cli, versions: str) -> None:
    found = cli.json("ls", versions)
    assert [version["version"] for version in found] == ["v0", "v1"]
    assert all(set(version) == STATUS_KEYS for version in found)
    assert cli("ls", versions).out.splitlines()[1].split("\t")[:3] == ["v1", "2", "7"]
    assert cli.json("log", versions) == found[::-1]
    assert cli("log", versions).out.startswith("v1\t")


def test_ls_lists_files(cli: Cli, versions: str) -> None:
    found = cli.json("ls", f"{versions}:old")
    assert [(entry["path"], entry["kind"]) for entry in found] == [
        ("a", "file"),
        ("by-link", "symlink"),
        ("sub", "directory"),
    ]
    assert set(found[0]) == {"path", "kind", "mode", "uid", "gid", "size", "mtime"}
    assert found[1]["target"] == "sub"
    assert found[0]["size"] == 5
    assert [entry["path"] for entry in cli.json("ls", f"{versions}:old", "/sub/./")] == [
        "sub/b",
        "sub/circle",
        "sub/deeper",
        "sub/out",
        "sub/up",
    ]
    assert [entry["path"] for entry in cli.json("ls", versions, "sub/b")] == ["sub/b"]
    line = cli("ls", f"{versions}:old").out.splitlines()[0].split("\t")
    assert line[0].startswith("-rw")
    assert line[2] == "5"
    assert line[-1] == "a"


def test_unknown_paths_are_refused(cli: Cli, versions: str, tmp_path: Path) -> None:
    for words in (("ls", f"{versions}:v1"), ("cat", f"{versions}:v1")):
        assert cli.refused(*words, "sub/none") == f"{versions}:v1 has no 'sub/none'"
        assert cli.refused(*words, "a/none") == f"{versions}:v1 has no 'a/none'"
        assert "'..'" in cli.refused(*words, "../x")
    assert cli.refused("get", versions, "out", "--path", "su") == f"{versions}:v1 has no 'su'"
    assert not (tmp_path / "out").exists()


def test_unknown_versions_are_refused(cli: Cli, versions: str) -> None:
    for words in (("show",), ("ls",), ("get",)):
        for ref in ("v2", "v01", "none", "pending", "a b"):
            reason = cli.refused(*words, f"{versions}:{ref}")
            assert reason == f"'{versions}' has no version or alias '{ref}'"
        assert cli.refused(*words, "no-such:v0") == "there is no collection 'no-such'"
    assert cli.refused("ls", "no-such") == "there is no collection 'no-such'"
    assert cli.refused("log", "../etc") == "there is no collection '../etc'"
    cli("show", f"{versions}:", status=2)


def test_show_prints_all_labels(cli: Cli, versions: str) -> None:
    found = cli.json("show", f"{versions}:best")
    assert set(found) == STATUS_KEYS | {"description", "metadata"}
    assert found["version"] == "v1"
    assert found["distributed_id"] == "two"
    assert found["aliases"] == ["best", "latest"]
    assert found["metadata"] == {}
    assert f"digest\t{found['digest']}" in cli("show", versions).out.splitlines()


def test_cat_follows_symlinks_inside_the_version(cli: Cli, versions: str) -> None:
    assert cli("cat", f"{versions}:old", "a").out == "first"
    assert cli("cat", versions, "a").out == "second"
    assert cli("cat", versions, "by-link/up").out == "second"
    assert cli.refused("cat", versions, "sub") == "'sub' is a directory, not a file"
    assert cli.refused("cat", versions, "sub/out") == f"{versions}:v1 has no 'sub/out'"
    assert cli.refused("cat", versions, "sub/circle") == f"{versions}:v1 has no 'sub/circle'"


def test_get_copies_a_version_or_a_part_of_it(cli: Cli, versions: str, tmp_path: Path) -> None:
    assert cli("get", f"{versions}:old").out == f"{versions}-v0\n"
    assert (tmp_path / f"{versions}-v0" / "a").read_text() == "first"
    got = cli.json("get", versions, "out", "--path", "sub/")
    assert got == {"collection": versions, "version": "v1", "path": "out", "files": 1, "bytes": 1}
    assert os.listdir(tmp_path / "out") == ["sub"]
    assert snapshot(tmp_path / "out" / "sub") == snapshot(tmp_path / "tree" / "sub")
    cli("get", versions, "one", "--path", "sub/b")
    assert list(snapshot(tmp_path / "one")) == [b"sub", b"sub/b"]


def test_get_keeps_other_files_of_the_target(cli: Cli, versions: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine").write_text("mine")
    (out / "a").symlink_to("../victim")
    (tmp_path / "victim").write_text("untouched")
    cli("get", versions, out)
    assert (tmp_path / "victim").read_text() == "untouched"
    assert (out / "a").read_text() == "second"
    assert not (out / "a").is_symlink()
    assert (out / "mine").read_text() == "mine"
    cli("get", f"{versions}:old", out)
    assert (out / "a").read_text() == "first"


def test_get_follows_no_symlink(cli: Cli, versions: str, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "sub").symlink_to("../elsewhere")
    assert "'sub' is no directory in the target" in cli.refused("get", versions, "out")
    assert os.listdir(tmp_path / "elsewhere") == []
    (tmp_path / "out2" / "a").mkdir(parents=True)
    assert "'a' is a directory in the target" in cli.refused("get", versions, "out2")
    assert not [name for name in os.listdir(tmp_path / "out2") if name.startswith(".")]
    (tmp_path / "file").touch()
    assert cli.refused("get", versions, "file") == "file: Not a directory"
    assert cli.refused("get", versions, "no/such") == "no/such: No such file or directory"


def test_aliases_are_set_together_or_not_at_all(cli: Cli, versions: str) -> None:
    assert cli("alias", f"{versions}:old", "best", "prod").out == ""
    assert cli.json("show", f"{versions}:best")["aliases"] == ["best", "old", "prod"]
    for bad in ("latest", "pending", "v3", "a/b", ".x"):
        assert f"'{bad}' can't name an alias" in cli.refused("alias", f"{versions}:v1", "--", "fine", bad)
    assert cli.refused("show", f"{versions}:fine").endswith("'fine'")
    cli("unalias", versions, "prod", "old")
    assert cli.json("show", f"{versions}:v0")["aliases"] == ["best"]
    assert cli.refused("unalias", versions, "best", "prod") == f"'{versions}' has no alias 'prod'"
    assert cli.json("show", f"{versions}:v0")["aliases"] == ["best"]
    assert "'latest'" in cli.refused("unalias", versions, "latest")
    assert "'v0'" in cli.refused("unalias", versions, "v0")


def test_tags_are_added_in_order(cli: Cli, versions: str) -> None:
    assert cli.json("tag", versions, "b", "a") == ["b", "a"]
    assert cli.json("tag", versions, "c", "a") == ["b", "a", "c"]
    assert cli.json("show", versions)["tags"] == ["b", "a", "c"]
    assert "one line" in cli.refused("tag", versions, "a\nb")
    assert cli.json("show", versions)["tags"] == ["b", "a", "c"]
    cli("tag", versions, status=2)


def test_rm_deletes_a_version_without_aliases(cli: Cli, versions: str) -> None:
    assert cli.refused("rm", f"{versions}:v0") == "v0 is held by: old; move or remove the alias first"
    cli("unalias", versions, "old")
    cli("rm", versions, status=2)
    assert cli("rm", f"{versions}:v0").out == f"{versions}:v0\n"
    assert cli.refused("rm", f"{versions}:v0") == f"'{versions}' has no version or alias 'v0'"
    cli("alias", f"{versions}:v1", "prod")
    assert cli.refused("rm", f"{versions}:latest").startswith("v1 is held by: best, prod;")
    assert [version["version"] for version in cli.json("ls", versions)] == ["v1"]


def test_names_need_not_be_utf8(cli: Cli, name: str, tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    raw = os.fsdecode(b"caf\xe9\n")
    (tmp_path / "tree" / raw).write_text("latin")
    cli("put", tmp_path / "tree", "--name", name)
    assert [entry["path"] for entry in cli.json("ls", f"{name}:v0")] == [raw]
    assert cli("ls", f"{name}:v0").out.endswith("\tcaf\\udce9\\n\n")
    assert cli("cat", name, raw).out == "latin"
    job = os.fsdecode(b"j\xe9b")
    assert cli.json("new", name, "--id", job)["distributed_id"] == job
    assert cli("finish", f"{name}/{job}").out == f"{name}:v1\n"
    assert cli.json("show", name)["distributed_id"] == job


def test_status_describes_the_volume(cli: Cli, versions: str) -> None:
    found = cli.json("status")
    keys = "version format id hash store collections pending abandoned sealed bytes available"
    of_a_mount = "pid uptime supervised restarts write_cache read_only references"
    assert set(found) == {*keys.split(), *(of_a_mount.split() if cli.mounted else ())}
    assert found["store"] == str(cli.volume)
    lines = cli("status").out.splitlines()
    assert f"store\t{cli.volume}" in lines
    if cli.mounted:
        assert f"references\t{', '.join(found['references'])}" in lines
