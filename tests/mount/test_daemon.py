"""The start and the end of a daemon."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from artfs.daemon import background
from artfs.daemon.unmount import unmount
from artfs.errors import MountError
from artfs.fuse import prerequisites
from artfs.linux import mountinfo
from tests.conformance.helpers import eventually, fails
from tests.mount.mounting import is_alive, is_dead
from tests.mount.tiny_mounts import TinyMounts, tiny

__all__ = ["tiny"]

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


class TestMountpoint:
    """Errors about a directory that cannot be a mountpoint."""

    def test_an_empty_directory_is_returned_without_symlinks(self, tmp_path: Path):
        point, link = tmp_path / "mnt", tmp_path / "link"
        point.mkdir()
        link.symlink_to(point)
        assert prerequisites.prepare_mountpoint(tmp_path / "volume", link) == point.resolve()

    def test_a_missing_directory_is_refused(self, tmp_path: Path):
        with pytest.raises(MountError, match="does not exist: create"):
            prerequisites.prepare_mountpoint(tmp_path / "volume", tmp_path / "mnt")

    def test_a_file_is_refused(self, tmp_path: Path):
        (tmp_path / "mnt").touch()
        with pytest.raises(MountError, match="not a directory"):
            prerequisites.prepare_mountpoint(tmp_path / "volume", tmp_path / "mnt")

    def test_a_directory_with_entries_is_refused(self, tmp_path: Path):
        (tmp_path / "mnt").mkdir()
        (tmp_path / "mnt" / "file").touch()
        with pytest.raises(MountError, match="not empty"):
            prerequisites.prepare_mountpoint(tmp_path / "volume", tmp_path / "mnt")

    @pytest.mark.parametrize(("volume", "mountpoint"), [("a", "a"), ("a/b", "a"), ("a", "a/b")])
    def test_a_mountpoint_inside_or_around_the_volume_is_refused(
        self, tmp_path: Path, volume: str, mountpoint: str
    ):
        (tmp_path / "a" / "b").mkdir(parents=True)
        with pytest.raises(MountError, match="inside the other"):
            prerequisites.prepare_mountpoint(tmp_path / volume, tmp_path / mountpoint)

    @root_only
    def test_another_filesystems_mount_can_be_covered(self, tmp_path: Path):
        point = tmp_path / "mnt"
        point.mkdir()
        made = subprocess.run(["mount", "-t", "tmpfs", "none", str(point)], capture_output=True, check=False)
        if made.returncode != 0:
            pytest.skip("no tmpfs can be mounted here")
        try:
            assert prerequisites.prepare_mountpoint(tmp_path / "volume", point) == point
        finally:
            subprocess.run(["umount", str(point)], check=True)


class TestMachine:
    """Errors about a machine on which this user cannot mount."""

    @pytest.fixture(autouse=True)
    def capable_machine(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        for name, content in (("fuse", ""), ("fuse.conf", "#user_allow_other\n")):
            (tmp_path / name).write_text(content)
        monkeypatch.setattr(prerequisites, "DEVICE", str(tmp_path / "fuse"))
        monkeypatch.setattr(prerequisites, "FUSE_CONF", str(tmp_path / "fuse.conf"))
        monkeypatch.setattr(prerequisites, "HELPER", "sh")
        monkeypatch.setattr(os, "geteuid", lambda: 1000)

    def test_a_capable_machine_is_accepted(self):
        prerequisites.check_machine(allow_other=False)

    def test_a_missing_device_is_reported(self, tmp_path: Path):
        (tmp_path / "fuse").unlink()
        with pytest.raises(MountError, match="modprobe fuse"):
            prerequisites.check_machine(allow_other=False)

    def test_a_missing_helper_is_reported(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(prerequisites, "HELPER", "no-such-program")
        with pytest.raises(MountError, match="install the package fuse3"):
            prerequisites.check_machine(allow_other=False)

    def test_root_needs_no_helper(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(prerequisites, "HELPER", "no-such-program")
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        prerequisites.check_machine(allow_other=True)

    def test_allow_other_needs_fuse_conf(self, tmp_path: Path):
        with pytest.raises(MountError, match=r"user_allow_other.*fuse\.conf"):
            prerequisites.check_machine(allow_other=True)
        (tmp_path / "fuse.conf").write_text("# comment\n  user_allow_other  \n")
        prerequisites.check_machine(allow_other=True)

    @pytest.mark.parametrize(
        ("error", "advice"),
        [
            (ModuleNotFoundError("none", name="pyfuse3"), "pip install pyfuse3"),
            (ImportError("libfuse3.so.3: cannot open shared object file"), "library of FUSE 3"),
        ],
    )
    def test_a_failed_import_of_pyfuse3_is_explained(
        self, monkeypatch: pytest.MonkeyPatch, error: ImportError, advice: str
    ):
        def refuse(name: str, *_: object, **__: object) -> object:
            raise error

        with monkeypatch.context() as patch:
            patch.setattr("builtins.__import__", refuse)
            with pytest.raises(MountError) as caught:
                prerequisites._check_import()
        assert advice in str(caught.value)


def test_escapes_in_the_mount_table_are_decoded():
    line = (
        rb"36 35 98:0 /mnt1 /mnt\0402/\134x rw,noatime master:1 - fuse.artfs /vol\040ume rw,errors=continue"
    )
    mount = mountinfo._parse(line)
    assert mount == mountinfo.Mount(36, (98, 0), Path("/mnt 2/\\x"), "fuse.artfs", "/vol ume")
    assert mount.is_artfs


def test_a_mount_that_covers_an_older_one_is_the_topmost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The kernel lists mounts in the order of their creation; here the older one was moved."""
    lines = [
        b"20 1 98:0 / / rw - ext4 /dev/sda rw",
        b"30 40 98:1 / /mnt rw - tmpfs above rw",
        b"50 30 98:3 / /mnt/below rw - tmpfs below rw",
        b"40 20 98:2 / /mnt rw - tmpfs covered rw",
    ]
    table = tmp_path / "mountinfo"
    table.write_bytes(b"\n".join(lines) + b"\n")
    monkeypatch.setattr(mountinfo, "_TABLE", str(table))
    assert [mount.source for mount in mountinfo.stack(Path("/mnt"))] == ["covered", "above"]
    topmost = mountinfo.at(Path("/mnt"))
    assert topmost is not None
    assert topmost.source == "above"
    assert mountinfo.containing(Path("/mnt/file")) == topmost
    assert [mount.id for mount in mountinfo.table()] == [20, 40, 30, 50]


def test_a_path_belongs_to_the_nearest_mount():
    assert mountinfo.containing(Path("/proc/self")) == mountinfo.at(Path("/proc"))


@pytest.mark.fuse
class TestBeginning:
    def test_start_returns_once_the_mount_answers(self, tiny: TinyMounts):
        pid = tiny.start()
        assert tiny.mounted
        assert os.listdir(tiny.point) == []
        assert os.getsid(pid) == pid

    def test_the_daemon_reports_a_failed_mount(self, tiny: TinyMounts):
        with pytest.raises(MountError, match="fails on demand"):
            tiny.start("fail")
        assert not tiny.mounted

    def test_the_last_log_line_of_a_dead_daemon_is_the_reason(self, tiny: TinyMounts):
        with pytest.raises(MountError, match="last words"):
            tiny.start("die")

    def test_a_daemon_that_dies_without_a_line_is_reported(self, tmp_path: Path):
        with pytest.raises(MountError, match="status 3"):
            background.start([], tmp_path / "log", program=["sh", "-c", "exit 3"])

    def test_the_daemon_imports_nothing_from_the_working_directory(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        (tmp_path / "artfs.py").write_text("raise SystemExit('code of another user')")
        monkeypatch.chdir(tmp_path)
        with pytest.raises(MountError, match="is not an artfs volume"):
            background.start(["mount", "--foreground", "volume", "mnt"], tmp_path / "log")

    def test_a_mountpoint_in_use_is_refused(self, tiny: TinyMounts):
        tiny.start()
        (tiny.point / "file").write_text("content")
        with pytest.raises(MountError, match="in use: the volume"):
            prerequisites.prepare_mountpoint(Path("/elsewhere"), tiny.point)
        assert (tiny.point / "file").read_text() == "content"

    def test_the_mount_of_a_killed_daemon_is_replaced(self, tiny: TinyMounts):
        os.kill(tiny.start(), signal.SIGKILL)
        eventually(lambda: is_dead(tiny.point), what="the mount is dead")
        tiny.start()
        (tiny.point / "file").write_text("content")
        assert "replacing its mount" in tiny.log
        unmount(tiny.point)
        assert os.listdir(tiny.point) == []

    def test_the_dead_mount_of_another_volume_is_detached(self, tiny: TinyMounts):
        os.kill(tiny.start(), signal.SIGKILL)
        eventually(lambda: is_dead(tiny.point), what="the mount is dead")
        assert prerequisites.prepare_mountpoint(Path("/elsewhere"), tiny.point) == tiny.point
        assert not tiny.mounted

    def test_the_daemon_has_no_umask_and_no_descriptor_in_its_mount(self, tiny: TinyMounts):
        process = Path("/proc", str(tiny.start()))
        for link in (*(process / "fd").iterdir(), process / "cwd", process / "root"):
            assert not os.readlink(link).startswith(str(tiny.point))
        assert "Umask:\t0000" in (process / "status").read_text()
        limits = (process / "limits").read_text().splitlines()
        _, soft, hard = next(line for line in limits if line.startswith("Max open files")).rsplit(None, 3)[:3]
        assert soft == hard


@pytest.fixture
def shell(tiny: TinyMounts):
    """Starts shells whose working directory is in the mount, optionally in another mount namespace."""
    started: list[subprocess.Popen[str]] = []

    def start(*before: str) -> subprocess.Popen[str]:
        command = [*before, "sh", "-c", f"cd {tiny.point} && echo here && read line && ls"]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.fuse
class TestEnd:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    @pytest.mark.parametrize("options", [[], ["plain"]])
    def test_a_signal_unmounts(self, tiny: TinyMounts, number: signal.Signals, options: list[str]):
        pid = tiny.start(*options)
        os.kill(pid, number)
        tiny.has_ended(pid)
        assert not tiny.mounted
        assert tiny.log.index("tiny is stopping") < tiny.log.index("tiny has stopped")
        assert "Traceback" not in tiny.log

    def test_a_shell_in_the_mount_does_not_delay_the_end(self, tiny: TinyMounts, shell):
        pid = tiny.start()
        process = shell()
        began = time.monotonic()
        os.kill(pid, signal.SIGTERM)
        tiny.has_ended(pid)
        assert time.monotonic() - began < 5
        assert not tiny.mounted
        output, _ = process.communicate("\n", timeout=30)
        assert "not connected" in output

    @root_only
    @pytest.mark.parametrize("how", ["signal", "umount"])
    def test_another_mount_namespace_does_not_delay_the_end(self, tiny: TinyMounts, shell, how: str):
        pid = tiny.start()
        process = shell("unshare", "--mount", "--propagation", "private")
        if how == "signal":
            os.kill(pid, signal.SIGTERM)
        else:
            subprocess.run(["umount", str(tiny.point)], check=True)
        tiny.has_ended(pid)
        assert not tiny.mounted
        output, _ = process.communicate("\n", timeout=30)
        assert "not connected" in output

    @root_only
    def test_umount_8_ends_the_daemon(self, tiny: TinyMounts):
        pid = tiny.start()
        subprocess.run(["umount", str(tiny.point)], check=True)
        tiny.has_ended(pid)
        assert "tiny has stopped" in tiny.log
        assert "Traceback" not in tiny.log

    def test_an_exception_unmounts_cleanly(self, tiny: TinyMounts):
        pid = tiny.start()
        (tiny.volume / "raise").touch()
        with pytest.raises(OSError, match=str(tiny.point)):
            os.statvfs(tiny.point)
        tiny.has_ended(pid)
        assert not tiny.mounted
        last_line = tiny.log.splitlines()[-1]
        assert last_line == "artfs.MountError: the mount ended by a failure: a mistake in a handler"
        assert "tiny has stopped" in tiny.log

    @pytest.mark.parametrize("how", ["wait", "wait-thread"])
    def test_requests_that_never_end_do_not_delay_the_end(self, tiny: TinyMounts, how: str):
        (tiny.volume / how).touch()
        pid = tiny.start("grace=0.5")
        waiting = subprocess.Popen(["stat", "-f", str(tiny.point)], stdout=subprocess.DEVNULL)
        eventually(lambda: in_request(waiting.pid), what="the request waits")
        os.kill(pid, signal.SIGTERM)
        tiny.has_ended(pid)
        assert waiting.wait(30) != 0
        assert not tiny.mounted

    def test_requests_are_answered_while_one_waits(self, tiny: TinyMounts):
        (tiny.volume / "wait").touch()
        tiny.start("grace=0.5")
        waiting = [
            subprocess.Popen(["stat", "-f", str(tiny.point)], stdout=subprocess.DEVNULL) for _ in range(8)
        ]
        try:
            eventually(lambda: all(in_request(process.pid) for process in waiting), what="all wait")
            (tiny.point / "file").write_text("content")
            assert os.listdir(tiny.point) == ["file"]
        finally:
            unmount(tiny.point)  # A caller that waits in a request can't be killed.
            for process in waiting:
                process.wait(30)


def in_request(pid: int) -> bool:
    """Whether a process waits in statfs; wchan of proc(5) does not exist on every kernel."""
    system_call = Path(f"/proc/{pid}/syscall").read_text().split()[0]
    return system_call == "137"


@pytest.mark.fuse
class TestUnmount:
    def test_unmount_waits_for_the_daemons_end(self, tiny: TinyMounts):
        pid = tiny.start()
        unmount(tiny.point)
        assert not tiny.mounted
        assert not is_alive(pid)
        tiny.start()

    def test_a_mount_in_use_is_unmounted(self, tiny: TinyMounts, shell):
        pid = tiny.start()
        shell()
        unmount(tiny.point)
        assert not tiny.mounted
        assert not is_alive(pid)

    def test_unmount_follows_a_symlink(self, tiny: TinyMounts, tmp_path: Path):
        tiny.start()
        (tmp_path / "link").symlink_to(tiny.point)
        unmount(tmp_path / "link")
        assert not tiny.mounted

    def test_a_dead_mount_is_unmounted(self, tiny: TinyMounts):
        pid = tiny.start()
        os.kill(pid, signal.SIGKILL)
        tiny.has_ended(pid)
        with fails(errno.ENOTCONN):
            os.listdir(tiny.point)
        unmount(tiny.point)
        assert os.listdir(tiny.point) == []

    def test_a_mount_without_a_lock_file_is_unmounted(self, tiny: TinyMounts):
        pid = tiny.start()
        (tiny.volume / "locks" / "mount").unlink()
        unmount(tiny.point)
        assert not tiny.mounted
        tiny.has_ended(pid)

    def test_a_reused_pid_is_not_signalled(self, tiny: TinyMounts):
        tiny.start()
        lock = tiny.volume / "locks" / "mount"
        bystander = subprocess.Popen(["sleep", "1000"])
        try:
            lock.write_text(lock.read_text().replace(f'"pid":{tiny.pids[0]},', f'"pid":{bystander.pid},'))
            unmount(tiny.point)
            assert bystander.poll() is None
        finally:
            bystander.kill()
            bystander.wait()
        assert not tiny.mounted

    def test_other_mounts_are_refused(self, tiny: TinyMounts, tmp_path: Path):
        with pytest.raises(MountError, match="is not a mount"):
            unmount(tmp_path)
        with pytest.raises(MountError, match="of type proc"):
            unmount("/proc")

    def test_a_path_within_a_mount_is_refused(self, tiny: TinyMounts):
        tiny.start()
        with pytest.raises(MountError, match=f"inside one: unmount {tiny.point}"):
            unmount(tiny.point / "somewhere")
        assert tiny.mounted
