"""A version in a directory of the user's: copied there, made the only content, compared.

Owns that no symlink leads out of the directory, whatever it contains, and the line about progress on a
terminal. Knows no artifact. Any thread.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys
import time
from collections.abc import Container, Iterator, Mapping
from pathlib import Path
from typing import Any

from artfs.client.interface import Client
from artfs.client.transfer.get import get
from artfs.client.values import Progress, silent
from artfs.errors import naming
from artfs.linux.walk import DirectoryStack, WalkEntry, walk
from artfs.model.digest import Algorithm
from artfs.printing import printable
from artfs.store import regular_files

_KINDS = {stat.S_IFDIR: "directory", stat.S_IFLNK: "symlink", stat.S_IFREG: "file"}
_ROOT = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_SHOWN = 10

_QUIET = 1.0  # seconds before the first line: what is quick needs none
_INTERVAL = 0.2


def download(
    client: Client, name: str, version: str, target: str, prefix: bytes = b"", may_miss: Container[bytes] = ()
) -> None:
    """Copies a version, or a part, out; see :func:`artfs.client.transfer.get.get`."""
    os.makedirs(os.path.dirname(os.path.abspath(target)), exist_ok=True)
    with progress_of(f"downloading {name}:{version}") as tell:
        get(client, name, version, Path(target), prefix=prefix, may_miss=may_miss, progress=tell)


def prune(manifest: Mapping[str, Any], target: str) -> None:
    """Deletes what is in a directory and not in a version, or of another kind there."""
    if not os.path.isdir(target):
        return
    with DirectoryStack(os.open(target, _ROOT)) as directories:
        for found in walk(directories):
            line = manifest.get(os.fsdecode(found.path))
            if line is not None and _on_disk(line["kind"]) == _kind(found.status):
                continue
            with naming(found.path):
                if found.leaving:
                    os.rmdir(found.name, dir_fd=directories.fd)
                elif not found.is_directory:
                    os.unlink(found.name, dir_fd=directories.fd)


def verify(manifest: Mapping[str, Any], target: str) -> None:
    """Compares a directory with a version. Raises ValueError."""
    problems: list[str] = []
    missing = {path for path, line in manifest.items() if line["kind"] != "reference"}
    with DirectoryStack(os.open(target, _ROOT)) as directories:
        for found in walk(directories):
            if found.leaving:
                continue
            path = os.fsdecode(found.path)
            line = manifest.get(path)
            missing.discard(path)
            if line is None:
                problems.append(f"{printable(path)} is not in the version")
            elif _on_disk(line["kind"]) != _kind(found.status):
                problems.append(f"{printable(path)} is not a {line['kind']}")
            elif line["kind"] == "symlink":
                if os.fsdecode(os.readlink(found.name, dir_fd=directories.fd)) != line["target"]:
                    problems.append(f"{printable(path)} has another target")
            elif not found.is_directory and not _is_the_same(directories.fd, found, line):
                problems.append(f"{printable(path)} has other bytes")
    problems += [f"{printable(path)} is missing" for path in sorted(missing)]
    if problems:
        more = f" and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise ValueError(f"root={target!r} differs: {'; '.join(problems[:_SHOWN])}{more}")


def _is_the_same(dir_fd: int, found: WalkEntry, line: Mapping[str, Any]) -> bool:
    """Compares a file with its entry; that of a reference may have its size alone."""
    if found.status.st_size != line["size"]:
        return False
    known = any(line["digest"].startswith(f"{algorithm.label}:") for algorithm in Algorithm)
    return not known or _is_sound(dir_fd, found.name, line["digest"])


def _on_disk(kind: str) -> str:
    return "file" if kind == "reference" else kind


def _is_sound(dir_fd: int, name: bytes, digest: str) -> bool:
    fd = regular_files.open_regular(dir_fd, name)
    try:
        label = digest.partition(":")[0]
        # A collision counter may follow the digest.
        return digest.partition("-")[0] == digest_of(fd, Algorithm.named(label))
    finally:
        os.close(fd)


def digest_of(fd: int, algorithm: Algorithm) -> str:
    """Returns the digest of an open file's bytes, as text."""
    return f"{algorithm.label}:{regular_files.hash_fd(algorithm, fd).hex()}"


def _kind(status: os.stat_result) -> str:
    return _KINDS.get(stat.S_IFMT(status.st_mode), "special file")


@contextlib.contextmanager
def progress_of(what: str) -> Iterator[Progress]:
    """Gives a progress that writes ``WHAT 12.0 of 340.5 MiB`` over and over, if stderr is a terminal."""
    if not sys.stderr.isatty():
        yield silent
        return
    last, wrote = time.monotonic() + _QUIET - _INTERVAL, False

    def tell(_phase: str, done: int, of: int) -> None:
        nonlocal last, wrote
        now = time.monotonic()
        if now - last < _INTERVAL:
            return
        last, wrote = now, True
        total = f" of {of / (1 << 20):.1f}" if of else ""
        sys.stderr.write(f"\r\x1b[K{what} {done / (1 << 20):.1f}{total} MiB")
        sys.stderr.flush()

    try:
        yield tell
    finally:
        if wrote:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
