"""References to servers that do not answer: no other user waits, and a waiting user can stop."""

from __future__ import annotations

import errno
import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.helpers import eventually, fails
from tests.local_server import LocalServer, Quiet
from tests.mount.control import command, control, finish, show_json
from tests.mount.mounting import MountedVolume, must

pytestmark = pytest.mark.fuse


def refer(tree: Path, path: str, uri: str) -> None:
    command(tree, "references", f"{path} {uri}")


class HangingServer(LocalServer):
    """A server that answers HEAD at once, and other requests after ``go``."""

    def __init__(self, *, at_once: tuple[str, ...] = ("HEAD",)) -> None:
        self.go, self.waiting = threading.Event(), 0
        hanging = self

        class Handler(Quiet, BaseHTTPRequestHandler):
            def answer(self) -> None:
                if self.command not in at_once:
                    hanging.waiting += 1
                    hanging.go.wait(100)
                self.send_response(200)
                self.send_header("ETag", '"one"')
                self.send_header("Content-Length", "4")
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(b"data")

            def do_HEAD(self) -> None:
                self.answer()

            def do_GET(self) -> None:
                self.answer()

        super().__init__(Handler)

    def close(self) -> None:
        self.go.set()
        super().close()


@contextmanager
def hanging(*at_once: str) -> Iterator[HangingServer]:
    pytest.importorskip("obstore")
    server = HangingServer(at_once=at_once)
    try:
        yield server
    finally:
        server.close()


@contextmanager
def processes(commands: list[list[str]]) -> Iterator[list[subprocess.Popen[bytes]]]:
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    started = [subprocess.Popen(words, **quiet) for words in commands]  # type: ignore[call-overload]
    try:
        yield started
    finally:
        for process in started:
            process.kill()
        for process in started:
            process.wait(60)


def quickly(function: Callable[[], Any]) -> None:
    before = time.monotonic()
    function()
    assert time.monotonic() - before < 5


def uncached(tree: Path, path: str, text: str) -> None:
    fd = os.open(tree / path, os.O_RDONLY)
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        assert os.read(fd, 1000).decode() == text
    finally:
        os.close(fd)


def test_waiting_readers_do_not_block_others(
    own_mount: MountedVolume, collection: Path, pending: Path
) -> None:
    with hanging("HEAD") as server:
        names = [f"r{number}" for number in range(140)]  # more than the concurrent fetches
        lines = [{"path": n, "uri": f"{server.base}/{n}", "size": 4, "checksum": "etag:one"} for n in names]
        command(pending, "references", "\n".join(map(json.dumps, lines)))
        (pending / "file").write_text("file")
        finish(pending)
        version = collection / "v0"
        with processes([["cat", str(version / n)] for n in names]) as readers:
            eventually(lambda: server.waiting >= 100)
            tree = collection / "pending" / "other"
            quickly(tree.mkdir)
            quickly(lambda: (tree / "x").write_text("x"))
            quickly(lambda: uncached(version, "file", "file"))
            quickly(lambda: os.fsync(os.open(tree / "x", os.O_RDONLY)))
            quickly(lambda: finish(tree))
            # A waiting process can be killed.
            readers[0].send_signal(signal.SIGINT)
            quickly(lambda: readers[0].wait(20))
            quickly(lambda: must("umount", own_mount.point))
            quickly(lambda: [reader.wait(20) for reader in readers])
    own_mount.mount_again()


def test_waiting_listings_do_not_block_others(model: Path, job: Path) -> None:
    (job / "file").write_text("file")
    finish(job)
    tree = model / "pending" / "other"
    tree.mkdir()
    target = control(tree, "references")
    with hanging() as server:
        wanted = [f"echo 'a{number} {server.base}/a' > {target}" for number in range(40)]
        with processes([["sh", "-c", line] for line in wanted]) as writers:
            eventually(lambda: server.waiting >= 35)
            quickly(lambda: uncached(model / "v0", "file", "file"))
            quickly(lambda: (tree / "x").write_text("x"))
            for writer in writers:
                writer.send_signal(signal.SIGINT)
            quickly(lambda: [writer.wait(20) for writer in writers])
            quickly(lambda: finish(tree))
    assert os.listdir(model / "v1") == ["x"]


READING = """
import signal, sys
def handler(*_):
    print("signalled", flush=True)
    raise KeyboardInterrupt
signal.signal(signal.SIGINT, handler)
print("here", flush=True)
try:
    open(sys.argv[1], "rb", buffering=0).read(1)
except KeyboardInterrupt:
    print("given up", flush=True)
"""


def test_a_program_that_catches_the_signal_continues(job: Path) -> None:
    with hanging("HEAD") as server:
        refer(job, "slow", f"{server.base}/slow")
        reader = subprocess.Popen([sys.executable, "-c", READING, job / "slow"], stdout=subprocess.PIPE)
        assert reader.stdout is not None
        assert reader.stdout.readline() == b"here\n"
        eventually(lambda: server.waiting)
        reader.send_signal(signal.SIGINT)
        quickly(lambda: reader.wait(20))
        assert reader.stdout.read() == b"signalled\ngiven up\n"
        reader.stdout.close()
        server.go.set()
        assert (job / "slow").read_bytes() == b"data"


def test_a_reference_to_a_dead_server_is_eio(job: Path, model: Path) -> None:
    with hanging("HEAD", "GET") as server:
        refer(job, "gone", f"{server.base}/gone")
    finish(job)
    with fails(errno.EIO):
        (model / "v0" / "gone").read_bytes()
    [why] = show_json(model / "v0", "status")["reference_errors"].values()
    assert "can't be fetched: connection refused" in why
    assert stat.S_ISREG((model / "v0" / "gone").stat().st_mode)


def test_errors_hide_the_secrets_of_addresses(job: Path, model: Path) -> None:
    with hanging("HEAD", "GET") as server:
        address = server.base.replace("//", "//user:password@") + "/x?token=secret"
        line = {"path": "x", "uri": address, "size": 4, "checksum": "etag:other"}
        command(job, "references", json.dumps(line))
        with fails(errno.EIO):
            (job / "x").read_bytes()
        errors = json.dumps(show_json(job, "status")["reference_errors"])
    assert "has changed" in errors
    assert "secret" not in errors
    assert "password" not in errors
