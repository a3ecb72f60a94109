"""new, put, finish, discard, pending: the same over a mount and without one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from artfs.client.open import open_client
from tests.cli.running import OLD, Cli, make_files, make_tree, on_a_mount, snapshot, without_a_mount


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A tree with one of everything."""
    root = make_tree(tmp_path / "source")
    (root / "zero").touch()
    with open(root / "sparse", "wb") as file:
        file.truncate(10_000_000)
        file.write(b"begin")
    (root / os.fsdecode(b"\xff not utf-8\n")).write_text("bytes")
    os.setxattr(root / "sub", "user.note", b"of a directory")
    (root / "closed").mkdir(mode=0o750)
    (root / "closed" / "file").write_text("x")
    (root / "closed" / "file").chmod(0o400)
    (root / "closed").chmod(0o550)
    for path in (root / "link", root / "sub", root / "closed"):
        os.utime(path, ns=(OLD, OLD), follow_symlinks=False)
    return root


def test_get_returns_what_put_stored(cli: Cli, name: str, source: Path, tmp_path: Path) -> None:
    assert cli("put", source, "--name", name).out == f"{name}:v0\n"
    assert cli("get", name, tmp_path / "out").out == f"{tmp_path / 'out'}\n"
    assert snapshot(tmp_path / "out") == snapshot(source)
    assert (tmp_path / "out" / "sparse").stat().st_blocks * 512 < 2_000_000


def test_put_prints_the_version(cli: Cli, name: str, source: Path) -> None:
    answer = cli.json(
        "put", source, "--name", name, "--type", "model", "--alias", "best", "--alias", "latest"
    )
    status = cli.json("show", name)
    assert answer == {"collection": name, "version": "v0", "unchanged": False, "digest": status["digest"]}
    assert status["aliases"] == ["best", "latest"]
    assert status["type"] == "model"
    assert status["file_count"] == 7


def test_an_equal_tree_makes_no_version(cli: Cli, name: str, source: Path) -> None:
    first = cli.json("put", source, "--name", name)
    again = cli("put", source, "--name", name, "--alias", "same")
    assert again.out == f"{name}:v0\n"
    assert "no new version" in again.err
    assert cli.json("put", source, "--name", name) == first | {"unchanged": True}
    assert cli.json("show", f"{name}:same")["version"] == "v0"
    assert len(cli.json("ls", name)) == 1


def test_an_equal_tree_hands_over_its_labels(cli: Cli, name: str, source: Path) -> None:
    cli("put", source, "--name", name)
    cli("put", source, "--name", name, "--id", "job")
    with open_client(cli.path or cli.volume) as client:
        client.relabel_pending(name, b"job", metadata={"accuracy": 0.9}, tags=["checked"])
    finished = cli("finish", f"{name}/job")
    assert finished.out == f"{name}:v0\n"
    same = f"the tree equals {name}:v0"
    assert finished.reason == f"no new version: {same}, which received the given metadata, tags"
    shown = cli.json("show", f"{name}:v0")
    assert (shown["metadata"], shown["tags"]) == ({"accuracy": 0.9}, ["checked"])


def test_several_sources_share_the_root(cli: Cli, name: str, tmp_path: Path) -> None:
    make_files(tmp_path, {"one/sub/a": "a", "two/sub/b": "b", "c": "c"})
    (tmp_path / "to-c").symlink_to("c")
    cli("put", tmp_path / "one", tmp_path / "two", tmp_path / "c", tmp_path / "to-c", "--name", name)
    manifest = [entry["path"] for entry in cli.json("ls", f"{name}:v0")]
    assert manifest == ["c", "sub", "to-c"]
    assert [entry["path"] for entry in cli.json("ls", f"{name}:v0", "sub")] == ["sub/a", "sub/b"]
    assert cli("cat", name, "to-c").out == "c"


def test_excluded_files_are_not_put(cli: Cli, name: str, tmp_path: Path) -> None:
    root = tmp_path / "source"
    paths = (
        "a.tmp",
        "keep",
        "keep.tmp",
        "logs/x.txt",
        "logs/y.bin",
        "cache/z",
        "deep/er/b.tmp",
        "deep/cache",
    )
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(path)
    excludes = ("*.tmp", "logs/*.txt", "cache/", "!keep.tmp")
    cli("put", root, "--name", name, *(word for pattern in excludes for word in ("--exclude", pattern)))
    cli("get", name, tmp_path / "out")
    assert sorted(os.fsdecode(path) for path in snapshot(tmp_path / "out")) == [
        "deep",
        "deep/cache",
        "deep/er",
        "keep",
        "keep.tmp",
        "logs",
        "logs/y.bin",
    ]
    assert "Invalid git pattern" in cli.refused("put", root, "--name", name, "--exclude", "!")


@pytest.mark.parametrize(
    ("excludes", "kept"),
    [
        (["a/**"], ["a", "b", "b/t.txt", "t.txt"]),
        (["a/**", "!a/keep"], ["a", "a/keep", "b", "b/t.txt", "t.txt"]),
        (["*", "!*/", "!*.txt"], ["a", "a/c", "a/c/t.txt", "b", "b/t.txt", "t.txt"]),
        (["a/*", "!a/c/"], ["a", "a/c", "a/c/t.txt", "a/c/x", "b", "b/t.txt", "t.txt"]),
    ],
)
def test_excludes_restore_what_gits_would(
    cli: Cli, name: str, tmp_path: Path, excludes: list[str], kept: list[str]
) -> None:
    make_files(tmp_path / "source", dict.fromkeys(["a/keep", "a/c/t.txt", "a/c/x", "b/t.txt", "t.txt"], ""))
    cli("put", tmp_path / "source", "--name", name, *(f"--exclude={pattern}" for pattern in excludes))
    cli("get", name, tmp_path / "out")
    assert sorted(os.fsdecode(path) for path in snapshot(tmp_path / "out")) == kept


def test_a_refused_put_changes_nothing(cli: Cli, name: str, tmp_path: Path) -> None:
    make_files(tmp_path, {"source/sub/file": "file", "source/a": "a", "a": "another"})
    root = tmp_path / "source"
    os.mkfifo(root / "sub" / "pipe")
    assert "sub/pipe (fifo)" in cli.refused("put", root, "--name", name)
    (root / "sub" / "pipe").unlink()
    (root / "sub" / ".artfs@thing").touch()
    assert ".artfs" in cli.refused("put", root, "--name", name)
    (root / "sub" / ".artfs@thing").unlink()
    assert "cannot copy 'a' twice" in cli.refused("put", root, tmp_path / "a", "--name", name)
    assert "'bad name'" in cli.refused("put", root, "--name", "bad name")
    assert "'v7'" in cli.refused("put", root, "--name", name, "--alias", "v7")
    assert cli.refused("put", "missing", "--name", name) == "missing: No such file or directory"
    assert name not in [collection["name"] for collection in cli.json("ls")]


def test_the_volume_can_not_be_put_into_itself(cli: Cli, name: str) -> None:
    assert "itself" in cli.refused("put", cli.volume.parent, "--name", name)
    assert cli.path is not None
    assert "itself" in cli.refused("put", cli.path, "--name", name)


def test_many_processes_fill_one_id(cli: Cli, name: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "artfs", "--volume", str(cli.path), "put", "--name", name, "--id", "job"]
    processes = []
    for number in range(4):
        own = {f"{number}-{file}": f"{number} {file}" for file in range(20)}
        part = make_files(tmp_path / f"part-{number}", own | {"shared": f"{number}" * 100_000})
        processes.append(subprocess.Popen([*command, str(part)]))
    assert [process.wait(60) for process in processes] == [0] * 4
    assert cli("finish", f"{name}/job").out == f"{name}:v0\n"
    cli("get", name, tmp_path / "out")
    assert len(snapshot(tmp_path / "out")) == 81
    assert len(set((tmp_path / "out" / "shared").read_text())) == 1


def test_new_put_and_finish_make_a_version(cli: Cli, name: str, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    printed = cli("new", name, "--type", "model", "--id", "job-42").out
    assert printed == (f"{cli.path}/{name}/pending/job-42\n" if cli.mounted else f"{name}/job-42\n")
    assert cli("put", tmp_path / "a", "--name", name, "--id", "job-42", "--alias", "best").out == (
        f"{name}/job-42\n"
    )
    [status] = cli.json("pending", name)
    assert {key: status[key] for key in ("distributed_id", "state", "files", "bytes", "aliases")} == {
        "distributed_id": "job-42",
        "state": "pending",
        "files": 1,
        "bytes": 1,
        "aliases": ["best"],
    }
    assert set(status) >= {"base", "runs", "open_for_write", "progress", "created_at", "created_by"}
    assert cli.json("finish", f"{name}/job-42", "good")["version"] == "v0"
    assert cli.json("show", f"{name}:best")["aliases"] == ["best", "good", "latest"]
    assert cli.json("pending", name) == []


def test_new_chooses_an_id(cli: Cli, name: str) -> None:
    first, second = cli.json("new", name), cli.json("new", name)
    assert first["collection"] == name
    assert first["distributed_id"] != second["distributed_id"]
    assert (first["path"] is not None) == cli.mounted


def test_put_to_an_id_replaces_files(cli: Cli, name: str, tmp_path: Path) -> None:
    (tmp_path / "d" / "sub").mkdir(parents=True)
    (tmp_path / "d" / "a").write_text("first")
    (tmp_path / "d" / "b").symlink_to("a")
    (tmp_path / "d" / "sub").chmod(0o555)
    cli("put", tmp_path / "d", "--name", name, "--id", "job")
    (tmp_path / "d" / "a").write_text("second")
    (tmp_path / "d" / "b").unlink()
    (tmp_path / "d" / "b").write_text("a file now")
    cli("put", tmp_path / "d", "--name", name, "--id", "job")
    (tmp_path / "sub").write_text("a file")
    (tmp_path / "e" / "a").mkdir(parents=True)
    assert "'sub'" in cli.refused("put", tmp_path / "sub", "--name", name, "--id", "job")
    assert "'a'" in cli.refused("put", tmp_path / "e", "--name", name, "--id", "job")
    cli("finish", f"{name}/job")
    cli("get", name, tmp_path / "out")
    assert snapshot(tmp_path / "out") == snapshot(tmp_path / "d")


def test_a_finished_id_stays_finished(cli: Cli, name: str, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    cli("put", tmp_path / "a", "--name", name, "--id", "job")
    first = cli.json("finish", f"{name}/job")
    assert cli.json("finish", f"{name}/job", "more") == first | {"unchanged": True}
    assert cli.json("show", f"{name}:more")["version"] == "v0"
    late = f"'job' of '{name}' is finished: it is v0; start another id"
    assert cli.refused("put", tmp_path / "a", "--name", name, "--id", "job") == late
    assert cli.refused("new", name, "--id", "job") == late
    assert cli.refused("discard", f"{name}/job") == late


def test_refused_finishes_change_nothing(cli: Cli, name: str) -> None:
    cli("new", name, "--id", "job")
    assert "'pending'" in cli.refused("finish", f"{name}/job", "pending")
    assert "'v1'" in cli.refused("finish", f"{name}/job", "good", "v1")
    assert cli.refused("finish", f"{name}/other") == f"'{name}' has no pending version 'other'"
    assert cli.refused("finish", "no-such/job") == "there is no collection 'no-such'"
    assert "begin with a dot" in cli.refused("finish", f"{name}/.job")
    cli("finish", f"{name}/job", "--wait", "-1", status=2)
    cli("finish", name, status=2)
    assert [status["distributed_id"] for status in cli.json("pending", name)] == ["job"]
    assert cli.json("ls", name) == []


def test_a_pending_id_and_a_fixed_type_are_refused(cli: Cli, name: str) -> None:
    cli("new", name, "--type", "one", "--id", "job")
    assert cli.refused("new", name, "--id", "job") == f"'job' of '{name}' is pending already"
    cli("new", name, "--type", "two", "--id", "other")  # no version yet: it can be changed
    cli("finish", f"{name}/job")
    assert "type 'two'" in cli.refused("new", name, "--type", "three")
    assert "'no/slash'" in cli.refused("new", name, "--id", "no/slash")
    assert "can't name a collection" in cli.refused("new", "")


def test_discard_removes_a_pending_version(cli: Cli, name: str, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    cli("put", tmp_path / "a", "--name", name, "--id", "job")
    assert cli("discard", f"{name}/job").out == ""
    assert cli.json("pending", name) == []
    assert cli.refused("discard", f"{name}/job") == f"'{name}' has no pending version 'job'"
    cli("new", name, "--id", "job")


def test_pending_lists_all_collections(cli: Cli, name: str) -> None:
    cli("new", name, "--id", "job")
    cli("new", f"{name}-b", "--id", "job")
    ids = [(status["collection"], status["distributed_id"]) for status in cli.json("pending")]
    assert {(name, "job"), (f"{name}-b", "job")} <= set(ids)
    line = cli("pending", name).out.split("\t")
    assert line[:3] == [f"{name}/job", "pending", "0"]
    assert cli.refused("pending", "no-such") == "there is no collection 'no-such'"


@on_a_mount
def test_a_pending_version_can_not_be_put_into_itself(cli: Cli, name: str) -> None:
    assert cli.path is not None
    pending = cli.path / name / "pending"
    cli("new", name, "--id", "job")
    (pending / "job" / "sub").mkdir()
    (pending / "job" / "sub" / "file").write_text("x")
    assert "cannot copy 'job': it is the pending version itself" in cli.refused(
        "put", pending, "--name", name, "--id", "job"
    )
    cli("put", pending / "job" / "sub", "--name", name, "--id", "job")
    cli("put", pending / "job", "--name", name, "--id", "job")
    assert cli.json("pending", name)[0]["files"] == 2


@without_a_mount  # a daemon does it when it starts
def test_an_interrupted_seal_is_completed_first(cli: Cli, name: str, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    cli("put", tmp_path / "a", "--name", name, "--id", "job")
    script = (
        "import os, sys\n"
        "from artfs.store import durable\n"
        "from artfs.cli.main import run\n"
        "durable.step = lambda label: os._exit(9) if label.startswith('finished-id') else None\n"
        "run(sys.argv[1:])\n"
    )
    command = [sys.executable, "-c", script, "--volume", str(cli.volume), "finish", f"{name}/job", "best"]
    done = subprocess.run(command, check=False)
    assert done.returncode == 9
    late = f"'job' of '{name}' is finished: it is v0; start another id"
    assert cli.refused("put", tmp_path / "a", "--name", name, "--id", "job") == late
    assert cli.json("pending", name) == []
    assert cli.json("show", f"{name}:best")["version"] == "v0"


def test_filling_and_finishing_exclude_each_other(cli: Cli, name: str, tmp_path: Path) -> None:
    cli("new", name, "--id", "job")
    assert cli.path is not None
    with open_client(cli.path) as client, client.open_tree(name, b"job") as tree, tree.cursor() as at:
        if cli.mounted:
            with at.stage(0o644):
                assert "open for writing" in cli.refused("finish", f"{name}/job", "--wait", "0.1")
        else:
            assert "adding files to it" in cli.refused("finish", f"{name}/job", "--wait", "0.1")
            (tmp_path / "mnt").mkdir()
            assert "in use by another process" in cli.refused("mount", cli.volume, "mnt")
    assert cli("finish", f"{name}/job").out == f"{name}:v0\n"
