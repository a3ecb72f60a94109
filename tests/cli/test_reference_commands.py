"""References on the command line, over a mount and without one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from artfs.linux.file_copy import copy_file
from tests.cli.running import Cli, make_files
from tests.mount.referring import open_to_all


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A directory that everybody may read, as a mount by root requires."""
    open_to_all(tmp_path)
    root = make_files(tmp_path / "outside", {"one": "one", "sub/two": "two"})
    for path in (root, root / "sub", root / "one", root / "sub" / "two"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return root


def _seal_reference(cli: Cli, name: str, path: Path, *to: str) -> None:
    """Makes a version that has nothing but references to a file, or to the files of a directory."""
    cli("new", name, "--id", "job")
    cli("refer", f"{name}/job", path.as_uri(), *to)
    cli("finish", f"{name}/job")


def test_a_reference_is_listed_sealed_and_read(cli: Cli, name: str, outside: Path, tmp_path: Path) -> None:
    cli("new", name, "--id", "job")
    cli("refer", f"{name}/job", (outside / "one").as_uri())
    cli("refer", f"{name}/job", outside.as_uri(), "all of it")
    lines = cli.json("refer", f"{name}/job")
    assert [(line["path"], line["size"]) for line in lines] == [
        ("all of it/one", 3),
        ("all of it/sub/two", 3),
        ("one", 3),
    ]
    assert lines[2]["uri"] == (outside / "one").as_uri()
    assert cli("refer", f"{name}/job").out.splitlines()[2].split("\t")[:2] == ["one", lines[2]["uri"]]
    assert cli("finish", f"{name}/job").out == f"{name}:v0\n"
    assert cli("cat", f"{name}:v0", "all of it/sub/two").out == "two"
    assert [line["size"] for line in cli.json("ls", f"{name}:v0", "all of it")] == [3, 0]
    cli("get", f"{name}:v0", tmp_path / "out")
    assert (tmp_path / "out" / "all of it" / "sub" / "two").read_text() == "two"


def test_check_finds_a_change(outside: Path, tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    Cli(None, volume, mounted=False)("init", volume)
    cli = Cli(volume, volume, mounted=False)
    _seal_reference(cli, "model", outside, "all")
    assert "all sound" in cli("check", "--references").out
    (outside / "one").write_text("two")
    found = cli("check", "--references", status=1).out
    assert f"reference {(outside / 'one').as_uri()}" in found
    assert "model:v0 all/one" in found
    assert "all/sub/two" not in found
    assert "all sound" in cli("check").out


def test_changed_bytes_are_not_read(cli: Cli, name: str, outside: Path) -> None:
    _seal_reference(cli, name, outside / "one")
    (outside / "one").write_text("two")
    assert cli("cat", f"{name}:v0", "one", status=1).out == ""
    if cli.mounted:
        assert "has changed" in str(cli.json("show", f"{name}:v0")["reference_errors"])
    (outside / "one").write_text("one")
    assert cli("cat", f"{name}:v0", "one").out == "one"
    assert "reference_errors" not in cli.json("show", f"{name}:v0")


def test_a_patch_keeps_and_adds_references(cli: Cli, name: str, outside: Path, tmp_path: Path) -> None:
    _seal_reference(cli, name, outside, "all")
    cli("put", make_files(tmp_path / "new", {"more": "more"}), "--name", name, "--base", "v0")
    assert cli("diff", f"{name}:v0", "v1").out == "A more\n"
    cli("new", name, "--id", "again", "--base", "v1")
    cli("refer", f"{name}/again", f"artfs://{name}:latest/more", "inside")
    assert cli.json("refer", f"{name}/again")[-1]["uri"] == f"artfs://{name}:v1/more"
    cli("finish", f"{name}/again")
    assert cli("cat", f"{name}:v2", "inside").out == "more"
    assert cli("diff", f"{name}:v1", "v2").out == "A inside\n"


def test_invalid_references_are_refused(cli: Cli, name: str, outside: Path) -> None:
    cli("new", name, "--id", "job")
    uri = (outside / "one").as_uri()
    for _ in range(2):  # the same again agrees
        cli("refer", f"{name}/job", uri)
    for words, why in (
        (((outside / "sub" / "two").as_uri(), "one"), "'one' exists already"),
        ((uri, "one/below"), "directory"),
        ((uri + "-not",), "there is no such file"),
        (("gopher://x/y",), "can't be a reference"),
        ((outside.as_uri(), "many", "--max-objects", "1"), "more than 1 objects"),
        (("artfs://nowhere:v0/x",), "no collection 'nowhere'"),
    ):
        assert why in cli.refused("refer", f"{name}/job", *words), words
    assert len(cli.json("refer", f"{name}/job")) == 1
    os.chmod(outside / "one", 0o600)
    if cli.mounted and os.geteuid() == 0:
        assert "not every user may read it" in cli.refused("refer", f"{name}/job", uri, "closed")


def test_a_file_that_changes_while_it_is_copied_is_refused(
    cli: Cli, name: str, outside: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _seal_reference(cli, name, outside / "one")

    def copy(source: int, target: int, *more: Any, **options: Any) -> bool:
        if not cli.mounted:  # a daemon gives the recorded bytes, or none
            (outside / "one").write_text("two")
        return copy_file(source, target, *more, **options)

    monkeypatch.setattr("artfs.client.transfer.get.copy_file", copy)
    if cli.mounted:
        cli("get", f"{name}:v0", tmp_path / "out")
        return
    assert "one has changed" in cli.refused("get", f"{name}:v0", tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []
