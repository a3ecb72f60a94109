"""Refused commands print one line, exit with the right status, and change nothing."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from artfs.cli.main import status_of
from tests.cli.running import Cli
from tests.conformance.helpers import eventually
from tests.mount.mounting import MountedVolume, artfs, mounted_volume

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    path = tmp_path / "vol"
    _at(None)("init", path)
    return path


def _at(path: Path | None) -> Cli:
    return Cli(path, path or Path(), mounted=False)


# ---- volumes ---------------------------------------------------------------------------------------------


def test_init_refuses_a_path_that_is_in_use(tmp_path: Path) -> None:
    cli = _at(None)
    assert cli("init", "vol").out == ""
    assert json.loads((tmp_path / "vol" / "artfs.json").read_text())["hash"] == "xxh128"
    assert "it is a volume already" in cli.refused("init", "vol")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    assert "not empty" in cli.refused("init", "full")
    assert "file of that name" in cli.refused("init", "full/file")
    assert "does not exist" in cli.refused("init", "no/such")
    cli("init", "--hash", "md5", "other", status=2)
    cli("init", "--hash", "sha256", "other")
    assert _at(tmp_path / "other").json("status")["hash"] == "sha256"


def test_another_path_than_a_volume_is_refused(tmp_path: Path, volume: Path) -> None:
    assert "there is no such directory" in _at(tmp_path / "none").refused("ls")
    assert "it has no artfs.json" in _at(tmp_path).refused("ls")
    (tmp_path / "file").touch()
    assert "not a directory" in _at(tmp_path / "file").refused("ls")
    config = volume / "artfs.json"
    good = config.read_text()
    config.write_text(good.replace('"format": 2', '"format": 99'))
    assert "use a newer artfs" in _at(volume).refused("ls")
    config.write_text(good[:20])
    assert "artfs.json is damaged" in _at(volume).refused("ls")
    config.unlink()
    (volume / ".artfs-tmp.init").touch()
    assert "run 'artfs init' again" in _at(volume).refused("ls")
    _at(None)("init", volume)
    _at(volume)("ls")


def test_a_volume_may_be_implied(volume: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "ARTFS_VOLUME" in _at(None)("ls", status=2).err
    monkeypatch.setenv("ARTFS_VOLUME", str(volume))
    _at(None)("ls")
    monkeypatch.delenv("ARTFS_VOLUME")
    volume.rename(tmp_path / ".artfs-volume")
    _at(None)("ls")


@needs_root
def test_a_volume_of_another_user_is_refused(volume: Path) -> None:
    for path in (volume.parent, volume.parent.parent, volume.parent.parent.parent):
        path.chmod(0o755)  # pytest's own directories are closed
    for words in (("ls",), ("new", "model"), ("check",)):
        done = _as_nobody("--volume", str(volume), *words)
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1
        assert "no permission" in done.stderr
    done = _as_nobody("init", str(volume.parent / "mine"))
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "no permission" in done.stderr


@needs_root
def test_an_unreadable_source_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        path.chmod(0o755)
    home = tmp_path / "home"
    (home / "source" / "sub").mkdir(parents=True)
    (home / "source" / "sub" / "closed").touch()
    (home / "source" / "shut").mkdir(mode=0)
    os.chown(home, 65534, 65534)
    (home / "source" / "sub" / "closed").chmod(0)
    words = ("--volume", str(home / "vol"))
    assert _as_nobody("init", str(home / "vol")).returncode == 0
    for closed in ("shut", "sub/closed"):
        done = _as_nobody(*words, "put", str(home / "source"), "--name", "model")
        assert (done.returncode, done.stderr) == (1, f"artfs: {closed}: Permission denied\n")
        assert _as_nobody(*words, "pending").stdout == ""
        (home / "source" / closed).chmod(0o755)
    assert _as_nobody(*words, "put", str(home / "source"), "--name", "model").stdout == "model:v0\n"


_BECOME_NOBODY = """
import encodings.ascii, importlib, os, pkgutil, pwd, grp, sys
import artfs
# Imported before: other users may be unable to read the checkout.
for module in pkgutil.walk_packages(artfs.__path__, "artfs."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
os.chdir("/")
from artfs.cli import main
sys.argv[0] = "artfs"
main()
"""


def _as_nobody(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", _BECOME_NOBODY, *words]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def test_a_damaged_record_is_reported(volume: Path) -> None:
    cli = _at(volume)
    for number in range(2):
        Path("file").write_text(str(number))
        cli("put", "file", "--name", "model")
    (volume / "collections" / "model" / "versions" / "v0.json").write_text("{")
    assert "damaged" in cli.refused("show", "model:v0")
    assert cli("cat", "model:v1", "file").out == "1"
    found = cli("check", status=1).out
    assert "v0.json" in found
    assert "damaged" in cli.refused("gc")


# ---- ends ------------------------------------------------------------------------------------------------


def test_wrong_usage_is_status_2(volume: Path) -> None:
    cli = _at(volume)
    for words in (("frob",), ("ls", "--frob"), ("put", "--name", "model"), ("alias", "model:v0"), ("cat",)):
        found = cli(*words, status=2)
        assert found.err.startswith("Usage: artfs")
        assert found.out == ""


def test_each_error_has_its_exit_status() -> None:
    statuses = {FileNotFoundError: 1, BrokenPipeError: 141, KeyboardInterrupt: 130, ValueError: None}
    assert {kind: status_of(kind()) for kind in statuses} == statuses


def test_a_closed_pipe_is_no_error(volume: Path) -> None:
    with open("file", "wb") as file:
        file.truncate(50_000_000)
    _at(volume)("put", "file", "--name", "model")
    command = f"{sys.executable} -m artfs --volume {volume} cat model file | head -c 1 | wc -c"
    done = _shell(command)
    assert (done.stdout.strip(), done.stderr) == ("1", "")


def test_a_full_stdout_is_an_error(volume: Path) -> None:
    done = _shell(f"{sys.executable} -m artfs --volume {volume} status > /dev/full")
    assert done.returncode == 1
    assert done.stderr == "artfs: No space left on device\n"


def _shell(command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60, check=False)


# ---- mounts ----------------------------------------------------------------------------------------------


@pytest.mark.fuse
def test_an_unfit_mountpoint_is_refused(volume: Path, tmp_path: Path) -> None:
    cli = _at(None)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    (tmp_path / "empty").mkdir()
    assert "create the directory first" in cli.refused("mount", volume, "none")
    assert "is not empty" in cli.refused("mount", volume, "full")
    assert "not a directory" in cli.refused("mount", volume, "full/file")
    assert "one is inside the other" in cli.refused("mount", volume, volume / "logs")
    assert "there is no such directory" in cli.refused("mount", "none", "empty")
    assert "it has no artfs.json" in cli.refused("mount", "full", "empty")
    assert "nothing to unmount" in cli.refused("umount", "empty")
    assert "nothing to unmount" in cli.refused("umount", "none")
    assert os.listdir(tmp_path / "empty") == []


@pytest.fixture(scope="module")
def mounted() -> object:
    with mounted_volume() as made:
        yield made


@pytest.mark.fuse
def test_a_path_in_a_mount_names_its_volume(mounted: MountedVolume, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("file").write_text("x")
    _at(mounted.volume)("put", "file", "--name", "inside", "--alias", "best")
    _at(mounted.volume)("new", "inside", "--id", "job")
    for path in ("", "inside", "inside/best", "inside/pending/job", "inside/v0/file", "inside/none"):
        assert _at(mounted.point / path).json("status")["pid"] == mounted.pid
    monkeypatch.chdir(mounted.point / "inside" / "pending")
    assert _at(None)("finish", "inside/job").out == "inside:v1\n"


@pytest.mark.fuse
@needs_root
def test_a_hidden_mount_is_refused(mounted: MountedVolume) -> None:
    done = _unshared(f"umount -l {mounted.point}", "--volume", mounted.volume, "ls")
    assert done.returncode == 1
    assert f"process {mounted.pid}" in done.stderr
    assert "can't be reached from here" in done.stderr


@pytest.mark.fuse
@needs_root
def test_commands_work_if_only_the_mount_is_visible(mounted: MountedVolume) -> None:
    hide = f"mount -t tmpfs none {mounted.volume}"
    done = _unshared(hide, "--volume", mounted.point, "new", "hidden", "--id", "job")
    assert (done.returncode, done.stderr) == (0, "")
    done = _unshared(hide, "--volume", mounted.point, "finish", "hidden/job", "best", "--json")
    assert json.loads(done.stdout)["version"] == "v0"
    for words in (("check",), ("gc",)):
        done = _unshared(hide, "--volume", mounted.point, *words)
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1
        assert str(mounted.volume) in done.stderr


@pytest.mark.fuse
@needs_root
def test_commands_work_if_only_a_directory_is_visible(mounted: MountedVolume, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "here").mkdir()
    cli = _at(mounted.point)
    cli("put", tmp_path / "file", "--name", "folder", "--alias", "first")
    cli("new", "folder", "--id", "job")

    def inside(folder: str, *words: str | Path) -> subprocess.CompletedProcess[str]:
        hide = f"mount --bind {mounted.point}/{folder} {tmp_path}/here && umount -l {mounted.point}"
        return _unshared(
            f"{hide} && mount -t tmpfs none {mounted.volume}", "--volume", tmp_path / "here", *words
        )

    found = inside("folder", "ls", "--json")
    assert [collection["name"] for collection in json.loads(found.stdout)] == ["folder"]
    assert inside("folder", "cat", "folder:first", "file").stdout == "x"
    assert inside("folder", "new", "folder", "--id", "two").stdout == f"{tmp_path}/here/pending/two\n"
    assert inside("folder", "put", tmp_path / "file", "--name", "folder").stdout == "folder:v0\n"
    assert inside("folder", "discard", "folder/two").returncode == 0
    assert "nothing but the collection 'folder'" in inside("folder", "new", "other").stderr
    assert inside("folder/v0", "cat", "folder:first", "file").stdout == "x"
    assert "nothing but folder:v0" in inside("folder/v0", "log", "folder").stderr

    job = "folder/pending/job"
    (tmp_path / "file").write_text("y")
    assert inside(job, "put", tmp_path / "file", "--name", "folder", "--id", "job").stdout == "folder/job\n"
    assert json.loads(inside(job, "pending", "folder", "--json").stdout)[0]["files"] == 1
    assert "nothing but folder/job" in inside(job, "finish", "folder/other").stderr
    assert inside(job, "finish", "folder/job", "best").stdout == "folder:v1\n"
    assert cli("cat", "folder:best", "file").out == "y"


def _unshared(before: str, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """Runs artfs in a mount namespace of its own, after a command there."""
    script = f'{before} && exec "{sys.executable}" -m artfs "$@"'
    command = ["unshare", "-m", "--propagation", "private", "sh", "-c", script, "sh", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.fuse
def test_a_waiting_finish_can_be_interrupted(mounted: MountedVolume) -> None:
    _at(mounted.point)("new", "waiting", "--id", "job")
    command = [sys.executable, "-m", "artfs", "--volume", str(mounted.point)]
    with open(mounted.point / "waiting" / "pending" / "job" / "file", "w"):
        reason = _at(mounted.point).refused("finish", "waiting/job", "--wait", "0.1")
        assert f"file (pid {os.getpid()} " in reason
        process = subprocess.Popen(
            [*command, "finish", "waiting/job", "--wait", "60"], stderr=subprocess.PIPE
        )
        eventually(lambda: "fuse" in Path(f"/proc/{process.pid}/wchan").read_text() or _waits(process.pid))
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
        assert process.returncode == 130
        assert errors == b"artfs: interrupted\n"
    assert _at(mounted.point)("finish", "waiting/job").out == "waiting:v0\n"


def _waits(pid: int) -> bool:
    """Tells whether a process has a control file open."""
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # it was closed since
            if os.readlink(link).endswith("/.artfs/finish"):
                return True
    return False


@pytest.mark.fuse
def test_a_read_only_mount_refuses_changes(volume: Path, tmp_path: Path) -> None:
    Path("file").write_text("x")
    _at(volume)("put", "file", "--name", "model")
    (tmp_path / "mnt").mkdir()
    cli = _at(tmp_path / "mnt")
    assert artfs("mount", "--read-only", volume, tmp_path / "mnt").returncode == 0
    try:
        assert cli("cat", "model:v0", "file").out == "x"
        commands = ("new model", "new other", "put file --name model", "alias model:v0 best", "tag model t")
        for command in (*commands, "rm model:v0"):
            assert "ead-only" in cli.refused(*command.split())
    finally:
        assert artfs("umount", tmp_path / "mnt").returncode == 0


@pytest.mark.fuse
def test_a_mount_whose_daemon_died_is_refused(volume: Path, tmp_path: Path) -> None:
    (tmp_path / "mnt").mkdir()
    assert artfs("mount", volume, tmp_path / "mnt").returncode == 0
    try:
        pid = _at(volume).json("status")["pid"]
        os.kill(pid, signal.SIGKILL)

        def is_gone() -> bool:
            result = _at(volume)("status", "--json", status=None)
            return result.status == 0 and "pid" not in json.loads(result.out)

        eventually(is_gone, what="it has died")  # until then it is neither reachable nor gone
        assert "has died" in _at(tmp_path / "mnt").refused("ls")
        _at(volume)("ls")
    finally:
        assert artfs("umount", tmp_path / "mnt").returncode == 0
