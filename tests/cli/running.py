"""Runs the command line in this process and captures what it prints; compares trees of files."""

from __future__ import annotations

import contextlib
import io
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from artfs.cli.main import run
from tests.mount import control

on_a_mount = pytest.mark.parametrize("cli", [pytest.param("mounted", marks=pytest.mark.fuse)], indirect=True)
without_a_mount = pytest.mark.parametrize("cli", ["direct"], indirect=True)


#: A time of the past, in nanoseconds.
OLD = 981_173_106 * 10**9 + 123_456_789


@dataclass(frozen=True)
class Result:
    status: int
    out: str
    err: str
    raw: bytes

    @property
    def reason(self) -> str:
        """The line on stderr of a command that was refused."""
        assert self.err.startswith("artfs: "), self.err
        assert self.err.count("\n") == 1, self.err
        return self.err.removeprefix("artfs: ").rstrip("\n")


class Cli:
    """`artfs --volume PATH`; called with the words of a command."""

    def __init__(self, path: Path | None, volume: Path, *, mounted: bool) -> None:
        self.path, self.volume, self.mounted = path, volume, mounted

    def __call__(self, *words: str | Path, status: int | None = 0) -> Result:
        """Runs a command; fails unless it exits with this status (None: with any)."""
        arguments = [*([] if self.path is None else ["--volume", str(self.path)]), *map(str, words)]
        out, err = _capture(), _capture()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            found = run(arguments)
        for stream in (out, err):
            stream.flush()
        raw, errors = _bytes(out), _bytes(err)
        result = Result(found, os.fsdecode(raw), os.fsdecode(errors), raw)
        shown = " ".join(map(str, words))
        assert status in (None, found), f"artfs {shown}: exit status {found}\n{result.out}{result.err}"
        return result

    def json(self, *words: str | Path) -> Any:
        """Runs a command with --json and returns what it printed."""
        return json.loads(self(*words, "--json").out)

    def refused(self, *words: str | Path) -> str:
        """Runs a command that must be refused; returns the reason."""
        return self(*words, status=1).reason


def _capture() -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="strict", write_through=True)


def _bytes(stream: io.TextIOWrapper) -> bytes:
    buffer = stream.buffer
    assert isinstance(buffer, io.BytesIO)
    return buffer.getvalue()


def make_files(root: Path, files: Mapping[str, str]) -> Path:
    """Makes files with these texts by path, and the directories above them; returns the root."""
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return root


def make_tree(root: Path) -> Path:
    """Makes a directory with an entry of each kind that a version keeps; returns it."""
    make_files(root, {"a.txt": "hello\n", "sub/run.sh": "#!/bin/sh\n"})
    (root / "sub" / "empty").mkdir()
    (root / "sub" / "run.sh").chmod(0o755)
    (root / "sub" / "big.bin").write_bytes(os.urandom(1_200_001))
    (root / "link").symlink_to("sub/run.sh")
    (root / "nowhere").symlink_to("/no/such/file")
    os.setxattr(root / "a.txt", "user.note", b"of a file")
    for path in (root / "a.txt", root / "sub" / "empty", root / "sub"):
        os.utime(path, ns=(OLD, OLD))
    return root


def snapshot(root: Path) -> dict[bytes, control.Node]:
    """Every entry below a directory, by path, with all that a version keeps of it."""
    found = control.snapshot(root)
    del found[b""]
    return found
