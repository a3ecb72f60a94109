"""Control files: found but not listed, one command per write, answers on the same handle, refusals."""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from tests.conformance.helpers import fails
from tests.mount.control import ask, command, commit, control, finish, read_on, show, show_json, show_lines
from tests.mount.mounting import MountedVolume

pytestmark = pytest.mark.fuse

PENDING_FILES = {
    *("finish", "discard", "status", "error", "aliases", "tags", "description"),
    *("metadata.json", "labels.json", "runs"),
}
VERSION_FILES = {
    *(
        "finish",
        "status",
        "error",
        "manifest.json",
        "metadata.json",
        "labels.json",
        "description",
        "tags",
        "ttl",
    )
}


@pytest.fixture
def version(model: Path) -> Path:
    """A version of one file."""
    return commit(model, "done", {"file": "data"})


# Control directories


def test_the_control_directory_is_found_and_never_listed(shared_mnt: Path, model: Path, job: Path) -> None:
    version = commit(model, "done", {"file": "data"})
    for place in (shared_mnt, model, job, version):
        assert (place / ".artfs").is_dir()
        assert ".artfs" not in os.listdir(place)
        find = ["find", str(place), "-name", ".artfs*"]
        assert subprocess.run(find, capture_output=True, check=True).stdout == b""


def test_control_directories_list_their_files(
    shared_mnt: Path, model: Path, job: Path, version: Path
) -> None:
    assert {"README", "status", "metrics", "error"} <= set(os.listdir(shared_mnt / ".artfs"))
    assert {"type", "description", "versions", "error"} <= set(os.listdir(model / ".artfs"))
    assert set(os.listdir(job / ".artfs")) >= PENDING_FILES
    assert set(os.listdir(version / ".artfs")) >= VERSION_FILES
    assert "discard" not in os.listdir(version / ".artfs")
    for place in (shared_mnt, model, job, version):
        for entry in os.scandir(place / ".artfs"):
            if entry.is_file():
                Path(entry.path).read_bytes()
        for name in os.listdir(place / ".artfs"):
            assert os.stat(control(place, name)).st_ino > 0


def test_only_the_root_of_a_tree_has_a_control_directory(job: Path) -> None:
    (job / "dir").mkdir()
    assert not os.path.lexists(job / "dir" / ".artfs")
    with fails(errno.EINVAL):
        (job / "dir" / ".artfs").mkdir()
    finish(job)
    assert not os.path.lexists(job / "dir" / ".artfs")


@pytest.mark.parametrize("place", ["volume", "collection", "pending", "version"])
def test_a_control_directory_cannot_be_changed(
    shared_mnt: Path, model: Path, job: Path, version: Path, place: str
) -> None:
    tree = {"volume": shared_mnt, "collection": model, "pending": job, "version": version}[place]
    there = tree / ".artfs"
    (job / "file").write_text("data")
    trials = {
        "rmdir": lambda: os.rmdir(there),
        "rename": lambda: os.rename(there, tree / "renamed"),
        "unlink of a file": lambda: os.unlink(there / "error"),
        "rename of a file": lambda: os.rename(there / "error", there / "renamed"),
        "create": lambda: os.open(there / "new", os.O_WRONLY | os.O_CREAT),
        "mkdir": lambda: os.mkdir(there / "new"),
        "symlink": lambda: os.symlink("target", there / "new"),
        "mkfifo": lambda: os.mkfifo(there / "new"),
        "chmod": lambda: os.chmod(there, 0o777),
        "chmod of a file": lambda: os.chmod(there / "error", 0o777),
        "chown": lambda: os.chown(there, 1, 1),
        "utimens": lambda: os.utime(there, (1, 1)),
    }
    answers = {}
    for name, trial in trials.items():
        with pytest.raises(OSError) as caught:
            trial()
        answers[name] = errno.errorcode[caught.value.errno or 0]
    assert answers == dict.fromkeys(trials, "EPERM")
    with fails(errno.EPERM, errno.EXDEV):
        os.rename(job / "file", there / "new")
    with fails(errno.EPERM):
        os.rename(job / "file", there / "error")
    with fails(errno.EPERM, errno.EXDEV):
        os.link(there / "error", job / "new")
    assert "new" not in os.listdir(there)
    assert "renamed" not in os.listdir(there)
    assert os.listdir(job) == ["file"]


def test_stat_open_and_read_change_nothing(model: Path, job: Path) -> None:
    (job / "file").write_text("data")
    for _ in range(2):
        for name in os.listdir(job / ".artfs"):
            os.stat(control(job, name))
            os.close(os.open(control(job, name), os.O_RDONLY))
            show(job, name)
        for name in ("finish", "discard"):
            os.close(os.open(control(job, name), os.O_WRONLY | os.O_TRUNC))
            os.close(os.open(control(job, name), os.O_RDWR))
    assert os.listdir(model / "pending") == ["job"]
    assert (job / "file").read_text() == "data"


def test_finish_and_discard_read_as_usage_before_a_command(job: Path) -> None:
    assert "--wait" in show(job, "finish")
    assert "--force" in show(job, "finish")
    assert show(job, "discard").strip()


def test_finish_takes_one_line(model: Path, job: Path) -> None:
    with fails(errno.EINVAL):
        command(job, "finish", "best\ngood")
    assert sorted(os.listdir(model)) == ["pending"]


# The volume


def test_the_volumes_readme_explains_finish(shared_mnt: Path) -> None:
    text = show(shared_mnt, "README")
    assert "pending" in text
    assert ".artfs/finish" in text
    assert len(text.splitlines()) >= 10
    pending = "model/pending/job-42"
    for line in ("rmdir model/v0", f"cat {pending}/.artfs/status", f"cat {pending}/.artfs/error"):
        assert f"\n  {line} " in text, "each command has a line of its own"


def test_the_volumes_status_counts_trees(shared_mount: MountedVolume, model: Path) -> None:
    shared_mnt = shared_mount.point
    before = show_json(shared_mnt, "status")
    assert before["format"] == 2
    assert str(shared_mount.volume) in map(str, before.values())

    def counts() -> tuple[int, ...]:
        status = show_json(shared_mnt, "status")
        return tuple(value for key, value in sorted(status.items()) if key in ("pending", "sealed"))

    start = counts()
    assert len(start) == 2
    tree = model / "pending" / "counted"
    tree.mkdir()
    assert counts() == (start[0] + 1, start[1])
    (tree / "file").write_text("data")
    finish(tree)
    assert counts() == (start[0], start[1] + 1)


def test_the_metrics_are_prometheus_text(shared_mnt: Path, job: Path) -> None:
    (job / "file").write_text("data")
    sample = re.compile(
        r'[a-zA-Z_:][a-zA-Z0-9_:]*(\{([a-zA-Z_]\w*="([^"\\]|\\.)*",?)*\})? (-?[0-9.eE+-]+|[+-]Inf|NaN)( \d+)?'
    )
    text = show(shared_mnt, "metrics")
    lines = text.splitlines()
    assert text.endswith("\n")
    samples = [line for line in lines if line and not line.startswith("#")]
    assert len(samples) >= 3
    for line in samples:
        assert sample.fullmatch(line), line
    typed = {line.split()[2] for line in lines if line.startswith("# TYPE ")}
    assert typed
    assert {line.split()[3] for line in lines if line.startswith("# TYPE ")} <= {
        "counter",
        "gauge",
        "histogram",
        "summary",
    }


def test_control_files_of_the_volume_are_read_only(shared_mnt: Path, model: Path, job: Path) -> None:
    for tree, name in (
        (shared_mnt, "README"),
        (shared_mnt, "status"),
        (shared_mnt, "metrics"),
        (model, "versions"),
        (model, "error"),
        (job, "status"),
        (job, "error"),
    ):
        with fails(errno.EPERM, errno.EACCES, errno.EROFS):
            command(tree, name, "x")


# A collection


def test_type_and_description_of_a_collection_can_be_set(model: Path) -> None:
    command(model, "type", "dataset")
    command(model, "description", "what this is for")
    assert show(model, "type") == "dataset\n"
    assert show(model, "description") == "what this is for\n"
    command(model, "type", "model")
    assert show(model, "type").strip() == "model"


def test_the_type_cannot_change_once_there_is_a_version(model: Path) -> None:
    command(model, "type", "dataset")
    commit(model, "done", {"file": "data"})
    with fails(errno.EBUSY, errno.EINVAL, errno.EPERM, errno.EROFS):
        command(model, "type", "model")
    assert show(model, "type") == "dataset\n"
    command(model, "description", "may still change")
    assert show(model, "description") == "may still change\n"


def test_versions_are_listed_oldest_first_with_the_keys_of_their_status(model: Path) -> None:
    assert show(model, "versions") == ""
    for number in range(12):
        commit(model, f"job-{number}", {"file": str(number)}, "best" if number == 5 else "")
    lines = show_lines(model, "versions")
    assert [line["version"] for line in lines] == [f"v{number}" for number in range(12)]
    assert lines[5]["aliases"] == ["best"]
    assert lines[11]["aliases"] == ["latest"]
    for line in lines:
        assert line == show_json(model / line["version"], "status")


# A pending version


def test_a_pending_versions_status_counts_files_and_bytes(job: Path) -> None:
    status = show_json(job, "status")
    assert {"state", "base", "runs", "files", "bytes", "open_for_write", "created_at"} <= set(status)
    assert status["state"] == "pending"
    assert status["base"] in (None, "")
    assert (status["runs"], status["files"], status["bytes"], status["open_for_write"]) == ([], 0, 0, [])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", status["created_at"])
    (job / "dir").mkdir()
    (job / "dir" / "one").write_bytes(b"x" * 1000)
    (job / "two").write_bytes(b"y" * 234)
    os.symlink("two", job / "link")
    status = show_json(job, "status")
    assert (status["files"], status["bytes"]) == (2, 1234)


def test_an_open_handle_reads_the_current_state(job: Path) -> None:
    fd = os.open(control(job, "status"), os.O_RDONLY)
    try:
        assert json.loads(os.pread(fd, 65536, 0))["files"] == 0
        (job / "file").write_text("data")
        assert json.loads(os.pread(fd, 65536, 0))["files"] == 1
        (job / "file").unlink()
        os.lseek(fd, 0, os.SEEK_SET)
        assert json.loads(read_on(fd))["files"] == 0
    finally:
        os.close(fd)


def test_small_reads_return_the_whole_text(job: Path) -> None:
    whole = show(job, "status")
    fd = os.open(control(job, "status"), os.O_RDONLY)
    pieces = list(iter(lambda: os.read(fd, 7), b""))
    os.close(fd)
    assert b"".join(pieces).decode() == whole
    for tool in (["cat"], ["head", "-c", "10000"], ["dd", "bs=1", "status=none"]):
        with open(control(job, "status"), "rb") as file:
            assert subprocess.run(tool, stdin=file, capture_output=True, check=True).stdout.decode() == whole


@pytest.mark.parametrize("name", ["description", "tags", "aliases"])
def test_a_version_keeps_the_labels_of_its_pending_version(model: Path, job: Path, name: str) -> None:
    command(job, name, "one")
    assert show(job, name) == "one\n"
    command(job, name, "two")
    assert "two" in show(job, name).split()
    version = model / str(finish(job)["version"])
    if name == "aliases":
        assert (model / "two").resolve() == version
        assert "two" in show_json(version, "status")["aliases"]
    else:
        assert "two" in show(version, name).split()


def test_description_keeps_blanks_and_non_ascii_letters(job: Path) -> None:
    text = 'a "description" with  two spaces, \\ and ümläuts'
    command(job, "description", text)
    assert show(job, "description") == text + "\n"


def test_runs_can_join_and_leave(job: Path) -> None:
    command(job, "runs", "+alpha")
    command(job, "runs", "+beta")
    assert ["alpha" in line or "beta" in line for line in show(job, "runs").splitlines()] == [True, True]
    assert len(show_lines(job, "runs")) == 2
    assert len(show_json(job, "status")["runs"]) == 2
    command(job, "runs", "-alpha")
    assert ["beta" in str(run) for run in show_json(job, "status")["runs"]] == [True]
    command(job, "runs", "-beta")
    assert show_json(job, "status")["runs"] == []
    for bad in ("gamma", "+", "-", "=gamma"):
        with fails(errno.EINVAL):
            command(job, "runs", bad)
    assert show_json(job, "status")["runs"] == []


@pytest.mark.parametrize("sign", ["+", "-"])
def test_a_run_id_is_not_a_path(job: Path, tmp_path: Path, sign: str) -> None:
    outside = tmp_path / "evil"
    for bad in (".", "..", "../evil", "../tree/evil", "a/b", str(outside), ".artfs-tmp.1.x", "é" * 101):
        with fails(errno.EINVAL):
            command(job, "runs", sign + bad)
        assert "run" in show(job, "error")
    assert os.listdir(job) == []
    assert not outside.exists()
    assert show_lines(job, "runs") == []


# Writing and answers


@pytest.mark.parametrize("ending", ["", "\n"])
def test_the_newline_is_optional(job: Path, ending: str) -> None:
    fd = os.open(control(job, "description"), os.O_WRONLY)
    assert os.write(fd, f"text{ending}".encode()) == len("text" + ending)
    os.close(fd)
    assert show(job, "description") == "text\n"


@pytest.mark.parametrize(
    "flags", [os.O_WRONLY, os.O_WRONLY | os.O_TRUNC, os.O_WRONLY | os.O_APPEND, os.O_RDWR | os.O_CREAT]
)
def test_all_flags_of_open_work(job: Path, flags: int) -> None:
    fd = os.open(control(job, "description"), flags)
    os.write(fd, b"text\n")
    os.close(fd)
    assert show(job, "description") == "text\n"
    os.truncate(control(job, "description"), 0)
    assert show(job, "description") == "text\n"


def test_a_shell_writes_and_reads_on_one_handle(model: Path, job: Path) -> None:
    (job / "file").write_text("data")
    done = subprocess.run(
        ["sh", "-ec", "exec 3<>.artfs/finish; echo best >&3; cat <&3"],
        cwd=job,
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout)["version"] == "v0"
    assert os.readlink(model / "best") == "v0"


def test_the_first_read_after_a_command_returns_the_answer_at_any_offset(model: Path) -> None:
    version = commit(model, "done", {"file": "data"})
    fd = os.open(control(version, "finish"), os.O_RDWR)
    try:
        os.write(fd, b"one\n")
        first = read_on(fd)
        assert json.loads(first)["version"] == "v0"
        assert os.read(fd, 100) == b""
        assert os.pread(fd, 65536, 0).decode() == first
        os.lseek(fd, 12345, os.SEEK_SET)
        os.write(fd, b"two\n")
        assert json.loads(read_on(fd))["version"] == "v0"
        os.write(fd, b"three\n")
        pieces = list(iter(lambda: os.read(fd, 5), b""))
        assert json.loads(b"".join(pieces))["version"] == "v0"
        os.lseek(fd, 0, os.SEEK_SET)
        assert json.loads(read_on(fd))["version"] == "v0"
    finally:
        os.close(fd)
    assert {"one", "two", "three"} <= set(os.listdir(model))


def test_a_refusal_is_read_back_on_the_same_handle(job: Path) -> None:
    fd = os.open(control(job, "finish"), os.O_RDWR)
    try:
        with fails(errno.EINVAL):
            os.write(fd, b"no/alias\n")
        reason = read_on(fd)
        assert "no/alias" in reason
        assert reason.count("\n") == 1
        os.write(fd, b"fine\n")
        assert json.loads(read_on(fd))["version"] == "v0"
    finally:
        os.close(fd)


def test_error_keeps_the_reason_until_a_command_succeeds(job: Path) -> None:
    assert show(job, "error") == "ok\n"
    with fails(errno.EINVAL):
        command(job, "finish", "--frobnicate")
    reason = show(job, "error")
    assert "frobnicate" in reason
    assert reason.count("\n") == 1
    assert show(job, "error") == reason
    assert os.listdir(job.parent) == ["job"]
    command(job, "description", "accepted")
    assert show(job, "error") == "ok\n"


def test_each_tree_has_its_own_error(model: Path, job: Path) -> None:
    other = model / "pending" / "other"
    other.mkdir()
    with fails(errno.EINVAL):
        command(job, "runs", "nonsense")
    assert show(job, "error") != "ok\n"
    assert show(other, "error") == "ok\n"


def test_a_versions_error_has_the_reason(model: Path, version: Path) -> None:
    with fails(errno.EINVAL):
        command(version, "finish", "v7")
    assert "v7" in show(version, "error")
    command(version, "finish", "fine")
    assert show(version, "error") == "ok\n"


# metadata.json


@pytest.mark.parametrize("sealed", [False, True])
def test_metadata_is_stored(job: Path, version: Path, sealed: bool) -> None:
    tree = version if sealed else job
    assert show_json(tree, "metadata.json") == {}
    value = {"accuracy": 0.93, "names": ["a", "ü"], "nested": {"deep": [1, None, True]}, "big": 2**60}
    command(tree, "metadata.json", json.dumps(value))
    assert show_json(tree, "metadata.json") == value
    command(tree, "metadata.json", '{"replaced": true}')
    assert show_json(tree, "metadata.json") == {"replaced": True}


def test_a_versions_metadata_can_change(model: Path, job: Path) -> None:
    command(job, "metadata.json", '{"epoch": 3}')
    version = model / str(finish(job)["version"])
    assert show_json(version, "metadata.json") == {"epoch": 3}
    digest = show_json(version, "status")["digest"]
    command(version, "metadata.json", '{"epoch": 4}')
    assert show_json(version, "metadata.json") == {"epoch": 4}
    assert show_json(version, "status")["digest"] == digest


def test_metadata_collects_several_writes(job: Path) -> None:
    fd = os.open(control(job, "metadata.json"), os.O_WRONLY | os.O_TRUNC)
    for piece in (b"{", b'"text": "a } in', b' a string",\n', b' "n": [1,', b"2]", b"}\n"):
        assert os.write(fd, piece) == len(piece)
    os.close(fd)
    assert show_json(job, "metadata.json") == {"text": "a } in a string", "n": [1, 2]}


def test_metadata_collects_writes_of_several_processes(job: Path, tmp_path: Path) -> None:
    """Each process closes its copy of the handle, so a close does not end the document."""
    (tmp_path / "1").write_text('{"text": "one')
    (tmp_path / "2").write_text(' two"}')
    script = f"(cat {tmp_path}/1; cat {tmp_path}/2) > .artfs/metadata.json"
    subprocess.run(["sh", "-ec", script], cwd=job, check=True)
    assert show_json(job, "metadata.json") == {"text": "one two"}


def test_incomplete_metadata_changes_nothing(job: Path) -> None:
    command(job, "metadata.json", '{"kept": 1}')
    fd = os.open(control(job, "metadata.json"), os.O_WRONLY | os.O_TRUNC)
    os.write(fd, b'{"half": ')
    assert show_json(job, "metadata.json") == {"kept": 1}
    with suppress(OSError):  # close(2) may report the missing rest
        os.close(fd)
    assert show_json(job, "metadata.json") == {"kept": 1}


def test_tools_can_write_large_metadata(job: Path, tmp_path: Path) -> None:
    value = {f"key-{number}": "x" * 100 for number in range(3_000)}
    source = tmp_path / "metadata.json"
    source.write_text(json.dumps(value, indent=2))
    subprocess.run(["cp", source, control(job, "metadata.json")], check=True)
    assert show_json(job, "metadata.json") == value
    with open(control(job, "metadata.json"), "w") as file:
        json.dump({**value, "more": 1}, file)
    assert show_json(job, "metadata.json") == {**value, "more": 1}


@pytest.mark.parametrize(
    "text", ["[1, 2]", '"text"', "7", "null", "nonsense", "{]", '{"a": 1} {"b": 2}', '{"a"}']
)
def test_metadata_that_is_not_an_object_is_einval(job: Path, text: str) -> None:
    command(job, "metadata.json", '{"kept": 1}')
    with fails(errno.EINVAL):
        command(job, "metadata.json", text)
    assert show(job, "error") != "ok\n"
    assert show_json(job, "metadata.json") == {"kept": 1}


# labels.json


def test_labels_keep_concurrent_changes(job: Path, version: Path) -> None:
    for tree in (job, version):
        command(tree, "labels.json", '{"tags": ["a", "b"], "metadata": {"x": 1, "y": 1}, "description": "d"}')
        since = {"tags": ["a"], "metadata": {"x": 1, "z": 1}}
        changes = {"tags": ["c"], "metadata": {"z": 2}, "since": since}
        command(tree, "labels.json", json.dumps(changes))
        found = show_json(tree, "labels.json")
        assert found["tags"] == ["b", "c"]
        assert found["metadata"] == {"y": 1, "z": 2}
        assert found["description"] == "d"
    command(job, "labels.json", '{"aliases": ["best"], "since": {"aliases": []}}')
    command(version, "labels.json", '{"ttl": 60}')
    assert show_json(job, "labels.json")["aliases"] == ["best"]
    assert show_json(version, "labels.json")["ttl"] == 60
    assert show(version, "ttl") == "60\n"
    command(version, "labels.json", '{"ttl": "inherit"}')
    assert show(version, "ttl") == "none\n"


@pytest.mark.parametrize(
    "labels",
    [
        *('{"tags": "a"}', '{"tag": ["a"]}', '{"metadata": [1]}', '{"description": 1}', '{"since": 1}'),
        *('{"since": {"description": ""}}', '{"tags": ["a\\u0000"]}', '{"metadata": {"a": NaN}}', "[1]"),
    ],
)
def test_invalid_labels_are_einval(job: Path, version: Path, labels: str) -> None:
    for tree in (job, version):
        before = show_json(tree, "labels.json")
        with fails(errno.EINVAL):
            command(tree, "labels.json", labels)
        assert show(tree, "error") != "ok\n"
        assert show_json(tree, "labels.json") == before


# A version


def test_a_versions_status_describes_it(model: Path, job: Path) -> None:
    command(model, "type", "dataset")
    (job / "dir").mkdir()
    (job / "dir" / "one").write_bytes(b"x" * 1000)
    (job / "two").write_bytes(b"y" * 234)
    command(job, "tags", "fast")
    answer = finish(job, "best")
    status = show_json(model / "v0", "status")
    keys = (
        "state version collection type digest size file_count created_at created_by distributed_id base runs"
    )
    assert {*keys.split(), "used_by", "aliases", "tags", "ttl"} <= set(status)
    assert status["state"] == "sealed"
    assert status["version"] == answer["version"] == "v0"
    assert status["collection"] == model.name
    assert status["type"] == "dataset"
    assert status["digest"] == answer["digest"]
    assert re.fullmatch(r"xxh128:[0-9a-f]{32}", status["digest"])
    assert (status["size"], status["file_count"]) == (1234, 2)
    assert status["distributed_id"] == "job"
    assert sorted(status["aliases"]) == ["best", "latest"]
    assert status["tags"] == ["fast"]
    assert status["used_by"] == []


def test_description_tags_and_ttl_of_a_version_can_change(version: Path) -> None:
    for name, line in (("description", "new words"), ("tags", "good fast")):
        command(version, name, line)
        assert show(version, name).split() == line.split()
    assert sorted(show_json(version, "status")["tags"]) == ["fast", "good"]
    show(version, "ttl")
    assert show(version, "error") == "ok\n"


def test_the_manifest_lists_every_entry(model: Path, job: Path) -> None:
    (job / "dir" / "empty").mkdir(parents=True)
    (job / "dir" / "file").write_bytes(b"data")
    os.chmod(job / "dir" / "file", 0o640)
    os.utime(job / "dir" / "file", ns=(1, 1_600_000_000_000_000_001))
    os.symlink("dir/file", job / "link")
    (job / "twin").write_bytes(b"data")
    finish(job)
    manifest = show_json(model / "v0", "manifest.json")
    assert set(manifest) == {"dir", "dir/empty", "dir/file", "link", "twin"}
    assert manifest["dir/file"]["size"] == 4
    assert manifest["dir/file"]["digest"] == manifest["twin"]["digest"]
    assert manifest["link"]["target"] == "dir/file"
    kinds = {path: entry["kind"] for path, entry in manifest.items()}
    assert kinds["dir"] == kinds["dir/empty"]
    assert kinds["dir/file"] == kinds["twin"]
    assert len({kinds["dir"], kinds["twin"], kinds["link"]}) == 3
    for path in ("dir/file", "twin", "dir"):
        assert {"kind", "mode", "mtime"} <= set(manifest[path])


def test_commands_with_unknown_options_are_refused(job: Path) -> None:
    for line in (
        "--wait",
        "--wait=",
        "--wait=soon",
        "--wait=-1",
        "--force=yes",
        "pending",
        "v3",
        "a b/c",
        "-x",
    ):
        with fails(errno.EINVAL):
            ask(job, "finish", line)
    with fails(errno.EINVAL):
        command(job, "finish", "x" * 200)
    assert os.listdir(job.parent) == ["job"]
