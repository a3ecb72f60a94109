"""Aliases and tags with any text, by the command line and by files of a mount."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.cli.running import Cli, on_a_mount
from tests.mount.control import ask, command, finish, show, show_json

ALIASES = [
    *("epoch 3", "best acc=0.91", "v1.0", "+1", "@prod", "-x", "--force", "a:b", " x ", "100%", "a%20b", "%"),
    *("\u00e9", "e\u0301", "\u5b9f\u9a13\u30003", "BEST", "best", "a\nb", "x" * 128),
]
TAGS = ["needs review", "second", " x ", "50%", "50%25", "-x", "\u00e9", "e\u0301", "\u5b9f\u9a13\u30003"]
NO_ALIASES = ["v3", "pending", ".x", "a/b", "x" * 129, "\u00e9" * 65, ""]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_text("one")
    return path


def test_commands_take_any_text(cli: Cli, name: str, file: Path) -> None:
    options = [word for alias in ALIASES for word in ("--alias", alias)]
    cli("put", file, "--name", name, *options)
    assert sorted(cli.json("show", f"{name}:v0")["aliases"]) == sorted([*ALIASES, "latest"])
    file.write_text("two")
    cli("put", file, "--name", name, "--id", "a job", "--alias", "epoch 3")
    assert cli("finish", f"{name}/a job", "--", *ALIASES).out == f"{name}:v1\n"
    assert sorted(cli.json("show", f"{name}:v1")["aliases"]) == sorted([*ALIASES, "latest"])
    assert cli.json("show", f"{name}:v0")["aliases"] == []
    assert cli("cat", f"{name}:epoch 3", "file").out == "two"
    assert cli.json("diff", f"{name}:v0", f"{name}:a:b") == cli.json("diff", f"{name}:v0", "epoch 3") != []
    file.write_text("three")
    based = cli.json("put", file, "--name", name, "--base", f"{name}:a:b", "--alias", "on a base")
    assert cli.json("show", f"{name}:{based['version']}")["base"] == "v1"
    cli("alias", f"{name}:v0", "--", *ALIASES)
    assert sorted(cli.json("show", f"{name}:a:b")["aliases"]) == sorted(ALIASES)
    cli("unalias", name, "--", *ALIASES)
    assert cli.json("show", f"{name}:v0")["aliases"] == []
    cli("tag", f"{name}:v0", "--", *TAGS)
    assert cli.json("tag", f"{name}:v0", "one more") == [*TAGS, "one more"]
    assert cli.json("log", name)[-1]["tags"] == [*TAGS, "one more"]
    for bad in NO_ALIASES:
        assert "can't name an alias" in cli.refused("alias", f"{name}:v0", "--", "fine", bad)
        assert "can't name an alias" in cli.refused("put", file, "--name", name, "--alias", bad)
    assert cli.json("show", f"{name}:v0")["aliases"] == []


@on_a_mount
def test_files_take_any_text(cli: Cli, name: str) -> None:
    assert cli.path is not None
    model = cli.path / name
    job = model / "pending" / "a job"
    job.mkdir(parents=True)
    (job / "file").write_text("one")
    command(job, "aliases", "epoch%203 100%")
    assert show(job, "aliases") == "epoch 3\n100%\n"
    command(job, "tags", "good fast")
    assert show(job, "tags") == "good\nfast\n"
    command(job, "tags", "needs review\nof  two\n")
    assert show(job, "tags") == "needs review\nof  two\n"
    assert finish(job, "best%20acc=0.91 %2Dx")["version"] == "v0"
    aliases = ["-x", "100%", "best acc=0.91", "epoch 3"]
    assert show(model / "v0", "aliases") == "".join(f"{alias}\n" for alias in [*aliases, "latest"])
    assert show_json(model / "v0", "status")["aliases"] == [*aliases, "latest"]
    command(model / "v0", "tags", "needs review\n")  # a line end: one tag per line
    assert show_json(model / "v0", "status")["tags"] == ["needs review"]
    for alias in ALIASES:
        if alias not in aliases:
            os.symlink("v0", model / alias)
        assert os.readlink(model / alias) == "v0"
        assert (model / alias / "file").read_text() == "one"
    assert sorted(ALIASES) == sorted({*os.listdir(model)} & {*ALIASES})
    os.symlink("epoch 3", model / "of an alias")
    (model / "best").rename(model / "the best")
    assert "the best" in show_json(model / "v0", "status")["aliases"]
    (model / "the best").unlink()
    assert not (model / "the best").exists()
    for bad in [*NO_ALIASES[:3], *NO_ALIASES[4:6], "\udcff"]:
        with pytest.raises(OSError) as caught:
            os.symlink("v0", model / bad)
        assert caught.value.errno in (errno.EINVAL, errno.EEXIST)
        with pytest.raises(OSError) as caught:
            ask(model / "v0", "finish", quote(bad, errors="surrogateescape"))
        assert caught.value.errno == errno.EINVAL
    # A base is one word.
    patch = model / "pending" / "patch"
    patch.mkdir()
    with pytest.raises(OSError) as caught:
        command(patch, "base", "epoch 3")
    assert caught.value.errno == errno.EINVAL
    command(patch, "base", "epoch%203")
    assert (show(patch, "base"), (patch / "file").read_text()) == ("epoch%203\n", "one")
    command(patch, "references", f"copy artfs://{name}:epoch%203/file")
    assert (patch / "copy").read_text() == "one"
    (patch / "file").write_text("two")
    assert finish(patch)["version"] == "v1"


@on_a_mount
def test_files_set_a_link_and_a_scope(cli: Cli, name: str) -> None:
    assert cli.path is not None
    model, best = cli.path / name, cli.path / f"wandb-registry-model.{name}"
    for text in ("old", "new"):
        job = model / "pending" / text
        job.mkdir(parents=True)
        (job / "file").write_text(text)
        finish(job)
    for number, ref in enumerate(["v0", "v1", "v0"]):
        job = best / "pending" / str(number)
        job.mkdir(parents=True)
        command(job, "link", f"{name}:{ref}")
        assert (job / "file").read_text() == ("old" if ref == "v0" else "new")
        assert show(job, "link") == f"{name}:{ref}\n"
        assert finish(job, "in%20production")["version"] == finish(best / "in production")["version"]
        assert show_json(best / f"v{number}", "status")["link"] == f"{name}:{ref}"
    assert os.readlink(model / "latest") == "v1"
    # A link that is changed becomes a patch.
    job = best / "pending" / "changed"
    job.mkdir()
    command(job, "link", f"{name}:v1")
    (job / "more").write_text("more")
    finish(job)
    assert show_json(best / "v3", "status")["link"] is None
    job = best / "pending" / "refused"
    job.mkdir()
    for bad in ("v0", f"{best.name}:v0", f"{name}:latest", "", "nobody:v0"):
        with pytest.raises(OSError):
            command(job, "link", bad)
    assert show(job, "link") == ""
    job.rmdir()
    command(model, "scope", "me/demo")
    command(model, "scope", "/demo")
    assert show(model, "scope") == "me/demo\n"
    for other in ("you/demo", "me/other", "/wandb-registry-x", "a/b/c"):
        with pytest.raises(OSError) as caught:
            command(model, "scope", other)
        assert caught.value.errno == errno.EINVAL
