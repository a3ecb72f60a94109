"""A supervised mount: a killed daemon is replaced, and what was unmounted stays unmounted."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from artfs.daemon.unmount import unmount
from artfs.errors import MountError
from artfs.linux import mountinfo
from tests.conformance.helpers import eventually, fails, in_syscall
from tests.conformance.processes import Child
from tests.crash.test_dying import notice_hangs
from tests.crash.test_kill import VICTIM
from tests.mount.control import command, commit, finish, finish_child, show, show_json
from tests.mount.mounting import CUT_OFF, REPOSITORY, artfs, is_alive, is_dead, must
from tests.mount.supervising import SupervisedVolume, observed, supervised_volume
from tests.mount.tiny_mounts import TinyMounts, tiny

__all__ = ["tiny"]

pytestmark = pytest.mark.fuse

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def supervised() -> Iterator[SupervisedVolume]:
    with supervised_volume() as volume:
        yield volume


@pytest.fixture(scope="module")
def module_supervised() -> Iterator[SupervisedVolume]:
    with supervised_volume() as volume:
        yield volume


@pytest.fixture
def shared(module_supervised: SupervisedVolume) -> SupervisedVolume:
    """A mount shared by tests that restore its state; they may kill its daemon."""
    return module_supervised


@pytest.fixture
def unmounted() -> Iterator[SupervisedVolume]:
    """A volume that the test mounts."""
    with supervised_volume(mounted=False) as volume:
        yield volume


def artfs_in_time(*arguments: str | Path) -> int | None:
    """Runs a command of artfs; returns its exit status, or None if it hangs in the kernel."""
    process = subprocess.Popen(
        [sys.executable, "-m", "artfs", *arguments], cwd=REPOSITORY, stderr=subprocess.DEVNULL
    )
    try:
        return process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()  # ends once its request is answered
        process.returncode = -signal.SIGKILL
        return None


# ---- restarts ---------------------------------------------------------------------------------------------

_WRITER = """
import errno, os, sys
number, path = 0, sys.argv[1]
os.set_blocking(0, False)
print("writing", flush=True)
while sys.stdin.buffer.raw.read(1) is None:
    try:
        with open(path, "a") as file:
            print(number, file=file)
        print(number, flush=True)
        number += 1
    except OSError as error:
        if error.errno not in (errno.ENOTCONN, errno.ECONNABORTED):
            raise
"""


def test_a_writer_by_path_survives_repeated_kills(supervised: SupervisedVolume) -> None:
    job = supervised.point / "model" / "pending" / "job"
    job.mkdir(parents=True)
    commit(supervised.point / "model", "first", {"file.txt": "sealed"}, "good")
    command(job, "runs", "+trainer")
    writer = subprocess.Popen(
        [sys.executable, "-c", _WRITER, job / "log.txt"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    held = os.open(job / "held", os.O_RDWR | os.O_CREAT)
    os.write(held, b"answered")
    assert writer.stdout is not None
    try:
        with observed(supervised.point, "model", "model/pending", "model/good/file.txt") as seen:
            for restarts in range(1, 4):
                for _ in range(3):  # it writes after each restart
                    writer.stdout.readline()
                supervised.kill()
                supervised.is_back(restarts)
        for _ in range(3):
            writer.stdout.readline()
    finally:
        output, _ = writer.communicate()

    identities = seen.pop("identity .")
    cut_off = ("ENOTCONN", "ECONNABORTED")
    assert len([found for found in identities if found not in cut_off]) == 1, identities
    for what, right in (
        ("listing .", ["model"]),
        ("listing model", ["good", "latest", "pending", "v0"]),
        ("listing model/pending", ["job"]),
        ("content model/good/file.txt", "sealed"),
    ):
        answers = seen.pop(what)
        assert right in answers
        assert "ENOTCONN" in answers
        assert all(answer == right or answer in cut_off for answer in answers), (what, answers)
    assert not seen

    # No acknowledged write is lost; an interrupted one may be complete, and was repeated.
    answered = int(output.split()[-1])
    lines = [int(line) for line in (job / "log.txt").read_text().splitlines()]
    assert sorted(set(lines)) == list(range(lines[-1] + 1))
    assert lines[-1] in (answered, answered + 1)
    assert len(lines) - len(set(lines)) <= 3

    with fails(errno.ENOTCONN):
        os.pwrite(held, b"lost", 0)
    with contextlib.suppress(OSError):
        os.close(held)
    assert (job / "held").read_text() == "answered"
    with fails(errno.EBUSY):
        finish(job, "--wait=0")
    assert "trainer" in show(job, "error")  # still joined
    command(job, "runs", "-trainer")
    assert finish(job, "best")["version"] == "v1"


def test_status_metrics_and_log_report_restarts(shared: SupervisedVolume) -> None:
    before = shared.restarts()
    assert shared.status()["supervised"] is True
    shared.kill()
    shared.is_back(before + 1)
    found = json.loads(must("--volume", shared.point, "status", "--json"))
    assert (found["supervised"], found["restarts"]) == (True, before + 1)
    assert f"artfs_restarts_total {before + 1}\n" in show(shared.point, "metrics")
    log = shared.log()
    assert "was killed by SIGKILL" in log
    assert f"is mounted again (restarts: {before + 1})" in log


def test_sighup_is_ignored(shared: SupervisedVolume) -> None:
    before = shared.restarts()
    for pid in (shared.supervisor, shared.daemon):
        os.kill(pid, signal.SIGHUP)
    assert shared.restarts() == before
    shared.kill()
    shared.is_back(before + 1)


def test_the_supervisor_does_not_load_fuse_or_hold_the_mount(shared: SupervisedVolume) -> None:
    process = Path("/proc", str(shared.supervisor))
    for link in (*(process / "fd").iterdir(), process / "cwd", process / "root"):
        assert not os.readlink(link).startswith(str(shared.point))
    maps = (process / "maps").read_text()
    assert "libfuse" not in maps
    assert "pyfuse3" not in maps


def test_a_second_supervisor_of_a_volume_is_refused(shared: SupervisedVolume) -> None:
    done = artfs("mount", "--supervise", shared.volume, shared.base)
    assert done.returncode == 1
    assert f"a supervisor: process {shared.supervisor}" in done.stderr


def _daemons_that_die_at(*labels: str) -> str:
    """Returns a script whose nth daemon dies at the nth durable step."""
    quoted = " ".join(f"'{label}'" for label in labels)
    return f"""
        labels=({quoted})
        label=${{labels[ARTFS_RESTARTS]-}}
        [ -z "$label" ] || exec "$1" {VICTIM} kill "$label" "${{@:5}}"
        exec "$@"
    """


@pytest.mark.parametrize(
    ("labels", "decided"),
    [
        (["2*objects:link"], False),
        (["commit:sync-dir", "alias:rename"], True),  # the second daemon dies in its recovery
    ],
)
def test_a_restarted_daemon_undoes_or_completes_a_finish(labels: list[str], decided: bool) -> None:
    with supervised_volume(_daemons_that_die_at(*labels), delays=[0]) as volume:
        model = volume.point / "model"
        job = model / "pending" / "job"
        job.mkdir(parents=True)
        for number in range(3):
            (job / f"file-{number}").write_text(f"content {number}")
        with fails(*CUT_OFF):
            finish(job, "best")
        volume.is_back(len(labels))
        assert ("v0" in os.listdir(model)) == decided
        if decided:
            assert os.readlink(model / "best") == "v0"
            assert os.readlink(job) == "../v0"
        else:
            assert show_json(job, "status")["state"] == "pending"
        assert finish(job, "best")["version"] == "v0"
        for number in range(3):
            assert (model / "best" / f"file-{number}").read_text() == f"content {number}"


@root_only
def test_a_hanging_killed_daemon_is_replaced(tmp_path: Path) -> None:
    """As in ``crash/test_dying.py``; wait(2) does not report such a daemon."""
    for name in ("in", "out"):
        os.mkfifo(tmp_path / name)
    labels = "seal:drop:sync-dir+2*start:draft:write"
    script = f"""
        [ "$ARTFS_RESTARTS" != 0 ] ||
            exec "$1" {VICTIM} pause '{labels}' "${{@:5}}" <"{tmp_path}/in" >"{tmp_path}/out"
        exec "$@"
    """
    with (
        open(tmp_path / "in", "r+b", buffering=0) as go_on,
        open(tmp_path / "out", "r+b", buffering=0) as output,
        supervised_volume(script) as volume,
    ):
        pending = volume.point / "model" / "pending"
        (pending / "job").mkdir(parents=True)
        (pending / "job" / "file").write_text("content")
        with finish_child(pending / "job", "best") as finisher:
            assert output.readline() == b"reached\n"
            with Child(lambda _child: (pending / "other").mkdir()) as maker:
                assert output.readline() == b"hangs\n"
                go_on.write(b"\n")
                eventually(lambda: notice_hangs(volume.daemon), what="the notice waits for the lock")
                volume.kill()
                volume.is_back(1)
                for child in (finisher, maker):
                    assert child.outcome()["errno"] in (*CUT_OFF, errno.EIO)
        assert os.readlink(pending / "job") == "../v0"
        assert os.readlink(volume.point / "model" / "best") == "v0"
        assert "aborting its connection" in volume.log()


def test_direct_access_only_delays_a_restart() -> None:
    """The delay may be longer than the policy allows for dying daemons."""
    with supervised_volume(delays=[0]) as volume:
        (volume.point / "model").mkdir()

        def work(child: Child) -> None:
            with open(volume.volume / "locks" / "mount") as lock:
                child.say()
                fcntl.flock(lock, fcntl.LOCK_SH)  # as `put` has it
                child.say()
                child.pause()

        with Child(work) as worker:
            worker.heard()
            eventually(lambda: in_syscall(worker.pid, "flock"), what="it waits for the lock")
            volume.kill()
            worker.heard()
            eventually(lambda: "waiting for commands" in volume.log(), what="the daemon waits")
            assert volume.restarts() == -1
            worker.go()
        volume.is_back(1)
        assert (volume.point / "model").is_dir()


def test_the_next_daemon_takes_over_the_mount_of_a_failed_one(tiny: TinyMounts, monkeypatch) -> None:
    monkeypatch.setenv("ARTFS_RESTARTS", "0")
    pid = tiny.start()
    (tiny.volume / "raise").touch()
    with pytest.raises(OSError, match=str(tiny.point)):
        os.statvfs(tiny.point)
    tiny.has_ended(pid)
    assert tiny.mounted
    assert is_dead(tiny.point)
    (tiny.volume / "raise").unlink()
    monkeypatch.setenv("ARTFS_RESTARTS", "1")
    tiny.start()
    (tiny.point / "file").write_text("content")


@root_only
def test_containers_get_the_new_mount_by_propagation(unmounted: SupervisedVolume) -> None:
    """The container has a bind mount of it: ``-v DIR:/bind:rslave``."""
    bind = unmounted.base / "bind"
    bind.mkdir()
    script = f"""
        set -e
        artfs() {{ "{sys.executable}" -m artfs "$@"; }}
        artfs mount --supervise "$1" "$2"
        mkdir -p "$2/model/pending/job"
        echo content > "$2/model/pending/job/file"
        unshare --mount --propagation slave sh -ec '
            pid="import json, sys; print(json.load(open(sys.argv[1]))[\\"pid\\"])"
            mount --rbind "$1" "$4"
            for restarts in 1 2; do
                kill -KILL "$("$2" -c "$pid" "$3")"
                until cat "$4/model/pending/job/file"; do sleep 0.02; done
                cat "$1/model/pending/job/file"
            done
        ' sh "$2" "{sys.executable}" "$1/locks/mount" "$3"
        artfs umount "$2"
    """
    done = subprocess.run(
        [
            "unshare",
            "--mount",
            "--propagation",
            "shared",
            "sh",
            "-c",
            script,
            "sh",
            *_arguments(unmounted),
            bind,
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=REPOSITORY,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["content"] * 4


@root_only
def test_an_ordinary_user_can_supervise(unmounted: SupervisedVolume) -> None:
    script = """
        set -e
        user="setpriv --reuid 65534 --regid 65534 --clear-groups"
        # As on most machines, all users may open the device, but only in this mount namespace. The capability
        # lets the user read an interpreter in another user's home; it does not permit mounting.
        mount -t tmpfs none /run
        mknod -m 666 /run/fuse c 10 229
        mount --bind /run/fuse /dev/fuse
        artfs() {
            $user --inh-caps +dac_read_search --ambient-caps +dac_read_search \
                env PYTHONDONTWRITEBYTECODE=1 "$python" -m artfs "$@"
        }
        artfs mount --supervise "$1" "$2"
        $user mkdir -p "$2/model/pending/job"
        $user sh -c 'echo content > "$1/model/pending/job/file"' sh "$2"
        $user "$python" -c "$kill" "$1/locks/mount"
        until $user cat "$2/model/pending/job/file"; do sleep 0.02; done
        artfs umount "$2"
        ! grep " $2 " /proc/self/mountinfo
    """
    for path in (unmounted.point, unmounted.volume, *unmounted.volume.rglob("*")):
        os.chown(path, 65534, 65534)
    kill = "import json, os, sys; os.kill(json.load(open(sys.argv[1]))['pid'], 9)"
    done = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", *_arguments(unmounted)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=REPOSITORY,
        env={**os.environ, "python": sys.executable, "kill": kill},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "content\n"
    for path in (unmounted.volume, *unmounted.volume.rglob("*")):
        os.chown(path, 0, 0)


def _arguments(volume: SupervisedVolume) -> tuple[str, str]:
    return str(volume.volume), str(volume.point)


# ---- no restart -------------------------------------------------------------------------------------------


def test_an_unmounted_volume_stays_unmounted(unmounted: SupervisedVolume) -> None:
    plain = ["umount"] if os.geteuid() == 0 else ["fusermount3", "-u"]
    ways: dict[str, Callable[[], object]] = {
        "artfs": lambda: must("umount", unmounted.point),
        "umount": lambda: subprocess.run([*plain, unmounted.point], check=True),
        "supervisor": lambda: os.kill(unmounted.supervisor, signal.SIGTERM),
        "daemon": lambda: os.kill(unmounted.daemon, signal.SIGTERM),
    }
    for name, unmount_it in ways.items():
        unmounted.mount()
        unmount_it()
        if name == "artfs":
            assert not any(map(is_alive, unmounted.seen)), "it returns when all have ended"
        unmounted.is_over()
    assert "SIGKILL" not in unmounted.log()


def test_a_dead_supervised_mount_can_be_unmounted() -> None:
    with supervised_volume('exec "$@"', delays=[3600]) as volume:
        volume.kill()
        eventually(lambda: is_dead(volume.point), what="the mount is dead")
        must("umount", volume.point)
        assert not any(map(is_alive, volume.seen))
        volume.is_over()


def test_umount_kills_a_hanging_daemon() -> None:
    with supervised_volume('exec "$@"', delays=[0], end=0.2) as volume:
        daemon = volume.daemon
        os.kill(daemon, signal.SIGSTOP)
        try:
            # A process waiting in the mount could not be killed.
            done = artfs_in_time("umount", volume.point)
        finally:
            if is_alive(daemon):
                os.kill(daemon, signal.SIGCONT)
        assert done == 0
        assert not any(map(is_alive, volume.seen))
        volume.is_over()
        assert "did not end within 0.2 seconds: it is killed" in volume.log()


@root_only
def test_an_unmounted_dead_mount_is_not_mounted_again(supervised: SupervisedVolume) -> None:
    os.kill(supervised.supervisor, signal.SIGSTOP)
    try:
        supervised.kill()
        eventually(lambda: is_dead(supervised.point), what="the mount is dead")
        subprocess.run(["umount", "-l", supervised.point], check=True)
    finally:
        os.kill(supervised.supervisor, signal.SIGCONT)
    supervised.is_over()
    assert "it is not mounted again" in supervised.log()


def test_a_restarted_daemon_needs_the_old_mount(tiny: TinyMounts, monkeypatch) -> None:
    monkeypatch.setenv("ARTFS_RESTARTS", "1")
    with pytest.raises(MountError, match="is not mounted any more"):
        tiny.start()
    assert not tiny.mounted


def test_the_supervisor_stops_after_too_many_deaths() -> None:
    script = '[ "$ARTFS_RESTARTS" != 0 ] || exec "$@"; echo "no luck" >&2; exit 3'
    with supervised_volume(script, delays=[0]) as volume:
        (volume.point / "model" / "pending" / "job").mkdir(parents=True)
        with observed(volume.point) as seen:
            volume.kill()
            eventually(lambda: not is_alive(volume.supervisor), what="the supervisor gives up")
        assert "ENOTCONN" in seen["listing ."]
        assert [] not in seen["listing ."], "the directory beneath was seen"
        assert "died 5 times within 60 seconds, at last it ended with status 3" in volume.log()
        assert volume.log().count("no luck") == 4
        # The dead mount remains until it is mounted again or unmounted.
        with fails(errno.ENOTCONN):
            os.listdir(volume.point)
        must("mount", "--supervise", volume.volume, volume.point)
        volume.seen |= {volume._owner("supervisor"), volume.daemon}
        assert os.listdir(volume.point / "model" / "pending") == ["job"]


def test_a_failed_restart_is_logged_and_repeated(supervised: SupervisedVolume) -> None:
    config = supervised.volume / "artfs.json"
    hidden = supervised.volume / "hidden.json"
    config.rename(hidden)
    supervised.kill()
    eventually(lambda: supervised.log().count("ended with status 1: ") == 1, what="a refusal in the log")
    assert is_dead(supervised.point)
    hidden.rename(config)
    eventually(lambda: supervised.restarts() > 1, what="the mount is back")
    supervised.seen.add(supervised.daemon)
    assert "ended with status 1: " in supervised.log()


# ---- start, and other processes ----------------------------------------------------------------------------


def test_an_impossible_mount_is_refused_at_once(unmounted: SupervisedVolume) -> None:
    done = artfs("mount", "--supervise", unmounted.volume, unmounted.base)
    assert done.returncode == 1
    assert "one is inside the other" in done.stderr
    assert (unmounted.volume / "locks" / "supervisor").read_text() == ""


def test_a_daemon_outlives_its_supervisor(supervised: SupervisedVolume) -> None:
    (supervised.point / "model").mkdir()
    os.kill(supervised.supervisor, signal.SIGKILL)
    eventually(lambda: not supervised.status()["supervised"], what="the daemon is alone")
    assert os.listdir(supervised.point) == ["model"]
    must("umount", supervised.point)
    supervised.is_over()


@root_only
def test_a_supervisor_with_pid_1_reaps_orphans(unmounted: SupervisedVolume) -> None:
    process = subprocess.Popen(
        [
            *("unshare", "--pid", "--fork", "--kill-child", sys.executable, "-m", "artfs"),
            *("mount", "--foreground", "--supervise", *_arguments(unmounted)),
        ],
        cwd=REPOSITORY,
        stderr=subprocess.PIPE,
    )
    try:
        eventually(lambda: os.path.ismount(unmounted.point), what="the mount")
        [first] = _children(process.pid)
        [daemon] = _children(first)
        orphan = "sleep 0.01 & echo started"
        enter = ["nsenter", "--target", str(first), "--pid", "sh", "-c", orphan]
        for _ in range(3):
            subprocess.run(enter, check=True, stdout=subprocess.DEVNULL)
        eventually(lambda: _children(first) == [daemon], what="nothing is left but the daemon")
        os.kill(daemon, signal.SIGKILL)
        eventually(lambda: unmounted.restarts() == 1, what="the mount is back")
        os.kill(first, signal.SIGTERM)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.communicate()
    assert not os.path.ismount(unmounted.point)


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


class TestMountOverDead:
    """The dead mount stays below the mount of the next daemon."""

    @root_only
    def test_only_one_dead_mount_is_kept(self, tiny: TinyMounts) -> None:
        (tiny.volume / "files" / "file").write_text("content")
        pid = tiny.start()
        [first] = mountinfo.stack(tiny.point)
        for _ in range(2):
            os.kill(pid, signal.SIGKILL)
            tiny.has_ended(pid)
            pid = tiny.start()
            assert (tiny.point / "file").read_text() == "content"
            below, above = mountinfo.stack(tiny.point)
            assert below == first
            assert above != first
        unmount(tiny.point)
        assert not tiny.mounted
        assert not is_alive(pid)

    @root_only
    @pytest.mark.parametrize("how", ["umount", "signal", "killed"])
    def test_both_mounts_end_together(self, tiny: TinyMounts, how: str) -> None:
        os.kill(tiny.start(), signal.SIGKILL)
        eventually(lambda: is_dead(tiny.point), what="the mount is dead")
        pid = tiny.start()
        if how == "umount":
            subprocess.run(["umount", tiny.point], check=True)
        else:
            os.kill(pid, signal.SIGTERM if how == "signal" else signal.SIGKILL)
        tiny.has_ended(pid)
        if how == "killed":
            unmount(tiny.point)
        assert not tiny.mounted

    @root_only
    def test_a_dead_mount_unmounted_meanwhile_is_refused(self, tiny: TinyMounts) -> None:
        os.kill(tiny.start(), signal.SIGKILL)
        eventually(lambda: is_dead(tiny.point), what="the mount is dead")
        with pytest.raises(MountError, match="was unmounted meanwhile"):
            tiny.start("unmounted")
        assert not tiny.mounted

    def test_without_the_handshake_the_dead_mount_is_detached_first(self, tiny: TinyMounts) -> None:
        os.kill(tiny.start(), signal.SIGKILL)
        eventually(lambda: is_dead(tiny.point), what="the mount is dead")
        tiny.start("plain")
        (tiny.point / "file").write_text("content")
        assert len(mountinfo.stack(tiny.point)) == 1


# ---- systemd ----------------------------------------------------------------------------------------------


class TestSystemd:
    @pytest.fixture
    def manager(self, tmp_path: Path) -> Iterator[socket.socket]:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(str(tmp_path / "notify"))
            manager.settimeout(30)
            yield manager

    def test_the_supervisor_notifies_systemd(self, unmounted: SupervisedVolume, manager) -> None:
        service = subprocess.Popen(
            [sys.executable, "-m", "artfs", "mount", "--foreground", "--supervise", *_arguments(unmounted)],
            env={**os.environ, "NOTIFY_SOCKET": manager.getsockname()},
            cwd=REPOSITORY,
            stderr=subprocess.DEVNULL,
        )
        try:
            point = unmounted.point
            assert manager.recv(4096) == f"STATUS=mounted at {point}; restarts: 0".encode()
            assert manager.recv(4096) == b"READY=1"
            assert os.path.ismount(point)
            assert b"NOTIFY_SOCKET" not in Path(f"/proc/{unmounted.daemon}/environ").read_bytes()
            unmounted.kill()
            assert manager.recv(4096) == f"STATUS=the daemon died, {point} will be mounted again".encode()
            assert manager.recv(4096) == f"STATUS=mounted at {point}; restarts: 1".encode()
            service.terminate()
            assert manager.recv(4096) == f"STATUS=ending the mount at {point}".encode()
            assert service.wait(30) == 0
        finally:
            service.kill()
            service.wait()
        assert not select.select([manager], [], [], 0)[0]

    def test_a_daemon_without_a_supervisor_notifies_systemd(self, unmounted: SupervisedVolume) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(f"\0{unmounted.base}")  # abstract
            manager.settimeout(30)
            service = subprocess.Popen(
                [sys.executable, "-m", "artfs", "mount", "--foreground", *_arguments(unmounted)],
                env={**os.environ, "NOTIFY_SOCKET": f"@{unmounted.base}"},
                cwd=REPOSITORY,
                stderr=subprocess.DEVNULL,
            )
            try:
                assert manager.recv(4096) == b"READY=1"
                assert unmounted.status()["supervised"] is False
            finally:
                service.terminate()
                assert service.wait(30) == 0
