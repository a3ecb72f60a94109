"""References on a mount: the control file, reading, permissions, patches, servers."""

from __future__ import annotations

import errno
import os
import socket
import stat
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.conformance.helpers import fails
from tests.conformance.processes import NOBODY, Child, in_child
from tests.mount.control import control, finish, show, show_json, show_lines
from tests.mount.mounting import MountedVolume, mounted_volume
from tests.mount.patching import patch, remount
from tests.mount.referring import as_root, open_to_all, refer, refused

pytestmark = pytest.mark.fuse


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A directory that every user may read."""
    open_to_all(tmp_path)
    (tmp_path / "sub").mkdir()
    (tmp_path / "one").write_text("one")
    (tmp_path / "sub" / "two").write_text("two!")
    return tmp_path


def test_references_are_files(job: Path, outside: Path) -> None:
    assert not (job / "a" / "one").exists()  # the kernel caches that
    refer(job, "a/one", (outside / "one").as_uri())
    assert (job / "a" / "one").read_text() == "one"
    refer(job, "with blanks/all of it", outside.as_uri())
    assert sorted(os.listdir(job / "with blanks" / "all of it")) == ["one", "sub"]
    two = job / "with blanks" / "all of it" / "sub" / "two"
    assert (two.stat().st_size, stat.S_IMODE(two.stat().st_mode)) == (4, 0o644)
    assert two.read_text() == "two!"
    lines = show_lines(job, "references")
    assert [line["path"] for line in lines] == [
        "a/one",
        "with blanks/all of it/one",
        "with blanks/all of it/sub/two",
    ]
    assert lines[0]["checksum"].startswith("xxh128:")
    assert show_json(job, "status")["files"] == 3


def test_a_version_has_references(job: Path, model: Path, outside: Path) -> None:
    refer(job, "one", (outside / "one").as_uri())
    os.setxattr(job / "one", "user.mine", b"1")
    os.chmod(job / "one", 0o600)
    finish(job)
    version = model / "v0"
    assert (version / "one").read_text() == "one"
    assert os.getxattr(version / "one", "user.artfs.uri") == os.fsencode((outside / "one").as_uri())
    assert os.getxattr(version / "one", "user.mine") == b"1"
    assert stat.S_IMODE((version / "one").stat().st_mode) == 0o600
    entry = show_json(version, "manifest.json")["one"]
    assert (entry["kind"], entry["size"], entry["uri"]) == ("reference", 3, (outside / "one").as_uri())
    with fails(errno.EROFS):
        os.open(version / "one", os.O_WRONLY)


def test_references_are_renamed_like_files(job: Path, outside: Path) -> None:
    refer(job, "one", (outside / "one").as_uri())
    (job / "one").rename(job / "moved")
    os.link(job / "moved", job / "linked")
    assert (job / "moved").read_text() == (job / "linked").read_text() == "one"
    assert [line["path"] for line in show_lines(job, "references")] == ["linked", "moved"]
    (job / "moved").unlink()
    assert (job / "linked").read_text() == "one"


def test_references_cannot_be_written(job: Path, outside: Path) -> None:
    refer(job, "one", (outside / "one").as_uri())
    with fails(errno.EPERM):
        os.open(job / "one", os.O_WRONLY | os.O_APPEND)
    with fails(errno.EPERM):
        os.truncate(job / "one", 2)
    (job / "one").write_text("a plain file now")
    assert (job / "one").read_text() == "a plain file now"
    assert show(job, "references") == ""
    assert (outside / "one").read_text() == "one"


@pytest.mark.parametrize(
    ("line", "code", "why"),
    [
        ("one", errno.EINVAL, "write PATH URI"),
        ("one nowhere", errno.EINVAL, "write PATH URI"),
        ("one gopher://x/y", errno.EINVAL, "must begin with one of"),
        ("../one file:///etc/hostname", errno.EINVAL, "'..'"),
        (".artfs@x file:///etc/hostname", errno.EINVAL, "are reserved"),
        ("one file:///nowhere/at/all", errno.EIO, "there is no such"),
        ("one file:///etc --max-objects=1", errno.EINVAL, "more than 1"),
        ("one file:///etc/hostname --more", errno.EINVAL, "--no-checksum"),
        ("one artfs://nowhere:v0/x", errno.ENOENT, "no collection"),
    ],
)
def test_invalid_references_are_refused(job: Path, line: str, code: int, why: str) -> None:
    assert why in refused(job, line, code)
    assert os.listdir(job) == []


def test_an_existing_path_is_refused(job: Path, outside: Path) -> None:
    (job / "file").write_text("mine")
    uri = (outside / "one").as_uri()
    assert "'file' exists already" in refused(job, f"file {uri}", errno.EEXIST)
    assert "'file' is not a directory" in refused(job, f"file/below {uri}", errno.ENOTDIR)
    assert (job / "file").read_text() == "mine"


def test_changed_bytes_are_not_read(job: Path, model: Path, outside: Path) -> None:
    refer(job, "one", (outside / "one").as_uri())
    refer(job, "loose", (outside / "one").as_uri(), "--no-checksum")
    finish(job)
    (outside / "one").write_text("two")
    with fails(errno.EIO):
        (model / "v0" / "one").read_text()
    assert (model / "v0" / "loose").read_text() == "two"
    errors = show_json(model / "v0", "status")["reference_errors"]
    assert "has changed" in errors[(outside / "one").as_uri()]
    (outside / "one").unlink()
    with fails(errno.EIO):
        (model / "v0" / "one").read_text()
    assert (model / "v0" / "one").stat().st_size == 3


def test_lower_references_can_be_renamed_and_changed(job: Path, model: Path, outside: Path) -> None:
    refer(job, "all", outside.as_uri())
    finish(job)
    tree = patch(model, "patch", "v0")
    (tree / "all" / "sub" / "two").rename(tree / "moved")
    os.chmod(tree / "moved", 0o600)
    assert (tree / "moved").read_text() == "two!"
    os.setxattr(tree / "moved", "user.mine", b"1")
    assert (tree / "moved").read_text() == "two!"
    (tree / "all" / "one").write_text("ours")
    assert [line["path"] for line in show_lines(tree, "references")] == ["moved"]
    finish(tree)
    assert (model / "v1" / "moved").read_text() == "two!"
    assert show_json(model / "v1", "manifest.json")["moved"]["kind"] == "reference"
    assert (model / "v1" / "all" / "one").read_text() == "ours"


def test_references_survive_the_daemon(own_mount: MountedVolume, pending: Path, outside: Path) -> None:
    refer(pending, "one", (outside / "one").as_uri())
    remount(own_mount)
    assert (pending / "one").read_text() == "one"
    refer(pending, "two", (outside / "sub" / "two").as_uri())
    finish(pending)
    assert (pending.parent.parent / "v0" / "two").read_text() == "two!"


@as_root
def test_references_obey_modes_and_the_access_of_all_users(job: Path, outside: Path) -> None:
    os.chmod(job, 0o755)
    uri = (outside / "one").as_uri()
    line = f"theirs {uri}\n".encode()

    def write() -> int:
        try:
            control(job, "references").write_bytes(line)
        except OSError as error:
            return error.errno or 0
        return 0

    assert in_child(write, uid=NOBODY, gid=NOBODY) == errno.EACCES
    os.chmod(job, 0o777)
    assert in_child(write, uid=NOBODY, gid=NOBODY) == 0
    assert (job / "theirs").stat().st_uid == NOBODY
    (job / "closed").mkdir(0o755)
    line = f"closed/theirs {uri}\n".encode()
    assert in_child(write, uid=NOBODY, gid=NOBODY) == errno.EACCES
    # The daemon can read the target, but not every user can: so no user gets it from the daemon.
    os.chmod(outside / "one", 0o600)
    assert "not every user may read it" in refused(job, f"secret {uri}", errno.EIO)
    with fails(errno.EIO):
        (job / "theirs").read_text()


def test_a_mount_with_some_schemes_refuses_others(outside: Path) -> None:
    with mounted_volume(("--references", "artfs,http")) as mounted:
        tree = mounted.point / "model" / "pending" / "job"
        tree.mkdir(parents=True)
        (tree / "file").write_text("inside")
        assert show_json(mounted.point, "status")["references"] == ["artfs", "http"]
        assert "--references artfs,http" in refused(tree, f"x {(outside / 'one').as_uri()}", errno.EPERM)
        finish(tree)
        other = tree.parent / "other"
        other.mkdir()
        refer(other, "x", "artfs://model:v0/file")
        assert (other / "x").read_text() == "inside"


class _Server(BaseHTTPRequestHandler):
    """Replies with the path and an ETag; `/slow` waits until ``let_go`` is set."""

    etags: dict[str, str] = {}
    let_go = threading.Event()

    def do_HEAD(self) -> None:
        self._head()

    def do_GET(self) -> None:
        if self.path == "/slow":
            self.let_go.wait(30)
        self.wfile.write(self._head())

    def _head(self) -> bytes:
        body = self.path.encode() * 100
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", f'"{self.etags.get(self.path, "first")}"')
        self.end_headers()
        return body

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    pytest.importorskip("obstore")
    with ThreadingHTTPServer(("127.0.0.1", 0), _Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        _Server.let_go.set()
        server.shutdown()


def test_http_references_are_read_and_verified(job: Path, model: Path, server: str) -> None:
    refer(job, "a", f"{server}/a")
    refer(job, "b", f"{server}/b")
    assert (job / "a").read_bytes() == b"/a" * 100
    finish(job)
    _Server.etags["/b"] = "second"
    assert (model / "v0" / "a").read_bytes() == b"/a" * 100
    with fails(errno.EIO):
        (model / "v0" / "b").read_bytes()
    assert "has changed" in str(show_json(model / "v0", "status")["reference_errors"])


def test_a_slow_server_does_not_block_others(job: Path, server: str) -> None:
    _Server.let_go.clear()
    refer(job, "slow", f"{server}/slow")
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append((job / "slow").read_bytes()))
    reader.start()
    for number in range(20):
        (job / f"file-{number}").write_text("quick")
        assert (job / f"file-{number}").read_text() == "quick"
    assert not read
    _Server.let_go.set()
    reader.join(30)
    assert read == [b"/slow" * 100]


@pytest.mark.parametrize("advice", [os.POSIX_FADV_NORMAL, os.POSIX_FADV_RANDOM], ids=["ahead", "as it comes"])
def test_a_handle_survives_the_process_that_opened_it(job: Path, outside: Path, advice: int) -> None:
    refer(job, "one", (outside / "one").as_uri())
    ours, theirs = socket.socketpair()
    with ours, theirs:

        def hand_over(_child: Child) -> None:
            fd = os.open(job / "one", os.O_RDONLY)
            os.posix_fadvise(fd, 0, 0, advice)
            socket.send_fds(theirs, [b"!"], [fd])

        with Child(hand_over) as child:
            child.value()
        _, [fd], _, _ = socket.recv_fds(ours, 1, 1)
        with os.fdopen(fd, "rb") as file:
            assert file.read() == b"one"
