"""diff: the same over a mount and without one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.cli.running import Cli, make_files


@pytest.fixture
def versions(cli: Cli, name: str, tmp_path: Path) -> str:
    """A collection with two versions that differ in every way."""
    files = {
        "changed": "old",
        "gone": "gone!",
        "kind": "1",
        "mode": "2",
        "moved": "moved",
        "same": "s",
        "sub/deep/file": "deep",
        "sub/other": "other",
    }
    root = make_files(tmp_path / "tree", files)
    for path in files:
        (root / path).chmod(0o644)
    (root / "link").symlink_to("same")
    cli("put", root, "--name", name, "--alias", "old")
    (root / "changed").write_text("newer")
    (root / "gone").unlink()
    (root / "kind").unlink()
    (root / "kind").mkdir()
    (root / "kind" / "below").write_text("below")
    (root / "mode").chmod(0o600)
    (root / "moved").rename(root / "sub" / "at last")
    (root / "sub" / "deep").rename(root / "deep")
    (root / "link").unlink()
    (root / "link").symlink_to("mode")
    os.utime(root / "same", (1, 1))
    cli("put", root, "--name", name, "--alias", "best")
    return name


def test_each_change_is_one_line(cli: Cli, versions: str) -> None:
    assert cli("diff", f"{versions}:v0", "v1").out.splitlines() == [
        "M changed (3 -> 5)",
        "R sub/deep/ -> deep/",
        "D gone",
        "T kind (file -> directory)",
        "A kind/below",
        "M link (same -> mode)",
        "P mode (0644 -> 0600)",
        "R moved -> sub/at last",
    ]
    assert cli("diff", f"{versions}:old", "best").out == cli("diff", f"{versions}:v0", "latest").out
    assert cli("diff", f"{versions}:v1", "v0").out.splitlines()[-2:] == [
        "R sub/at last -> moved",
        "R deep/ -> sub/deep/",
    ]


def test_json_has_both_sides_of_a_change(cli: Cli, versions: str) -> None:
    found = cli.json("diff", f"{versions}:v0", "v1")
    assert all(set(change) == {"change", "path", "old_path", "old", "new"} for change in found)
    by_path = {change["path"]: change for change in found}
    digest = by_path["mode"]["old"]["digest"]
    assert by_path["mode"] == {
        "change": "mode",
        "path": "mode",
        "old_path": None,
        "old": {"kind": "file", "size": 1, "mode": "0644", "digest": digest},
        "new": {"kind": "file", "size": 1, "mode": "0600", "digest": digest},
    }
    assert (by_path["deep"]["change"], by_path["deep"]["old_path"]) == ("renamed", "sub/deep")
    assert by_path["gone"]["new"] is None
    assert by_path["kind/below"]["old"] is None
    assert by_path["link"]["new"] == {"kind": "symlink", "target": "mode"}
    assert cli.json("diff", f"{versions}:v0", "old") == []


def test_stat_prints_totals(cli: Cli, versions: str) -> None:
    assert cli.json("diff", f"{versions}:v0", "v1", "--stat") == {
        "added": {"entries": 1, "old_bytes": 0, "new_bytes": 5},
        "removed": {"entries": 1, "old_bytes": 5, "new_bytes": 0},
        "changed": {"entries": 2, "old_bytes": 3, "new_bytes": 5},
        "mode": {"entries": 1},
        "kind": {"entries": 1, "old_bytes": 1, "new_bytes": 0},
        "renamed": {"entries": 2},
    }
    lines = cli("diff", f"{versions}:v0", "v1", "--stat").out.splitlines()
    assert lines[0] == "added\t1\t0\t5"
    assert lines[-1] == "renamed\t2\t\t"


def test_exit_code_reports_a_difference(cli: Cli, versions: str) -> None:
    assert cli("diff", f"{versions}:v0", "v0").out == ""
    cli("diff", f"{versions}:v0", "v1", status=0)
    cli("diff", f"{versions}:v0", "old", "--exit-code", status=0)
    for option in ((), ("--json",), ("--stat",)):
        assert cli("diff", f"{versions}:v0", "v1", "--exit-code", *option, status=1).err == ""


def test_unknown_versions_are_refused(cli: Cli, versions: str) -> None:
    assert cli.refused("diff", f"{versions}:v7", "v8") == f"'{versions}' has no version or alias 'v7'"
    assert cli.refused("diff", f"{versions}:v0", "v8") == f"'{versions}' has no version or alias 'v8'"
    assert cli.refused("diff", f"{versions}:v0", "../v1").endswith("'../v1'")
    assert cli.refused("diff", "no-such:v0", "v1") == "there is no collection 'no-such'"
    cli("diff", versions, "v1", status=2)
    cli("diff", f"{versions}:v0", status=2)


def test_hostile_names_are_escaped(cli: Cli, name: str, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "\x1b[31m").mkdir(parents=True)
    raw = os.fsdecode(b"caf\xe9\n")
    (tree / raw).write_text("latin")
    cli("put", tree, "--name", name)
    (tree / raw).rename(tree / "\x1b[31m" / "a -> b\tc")
    cli("put", tree, "--name", name)
    assert cli("diff", f"{name}:v0", "v1").out == "R caf\\udce9\\n -> \\x1b[31m/a -> b\\tc\n"
    [change] = cli.json("diff", f"{name}:v0", "v1")
    assert (change["old_path"], change["path"]) == (raw, "\x1b[31m/a -> b\tc")
