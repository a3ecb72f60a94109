"""Control files by plain system calls, as a shell or a legacy tool uses them.

Knows the names and keys of the contract and nothing of the implementation.
"""

from __future__ import annotations

import json
import os
import stat
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.conformance.processes import Child

if TYPE_CHECKING:
    from collections.abc import Iterator


def control(tree: Path, name: str) -> Path:
    """A control file of a tree, a collection or the volume."""
    return tree / ".artfs" / name


def command(tree: Path, name: str, line: str) -> None:
    """Writes one command as ``echo line > file`` does; raises the errors of write(2)."""
    fd = os.open(control(tree, name), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        os.write(fd, f"{line}\n".encode())
    finally:
        os.close(fd)


def ask(tree: Path, name: str, line: str) -> str:
    """Writes one command and reads the answer back on the same handle."""
    fd = os.open(control(tree, name), os.O_RDWR)
    try:
        os.write(fd, f"{line}\n".encode())
        return read_on(fd)
    finally:
        os.close(fd)


def read_on(fd: int) -> str:
    """Reads from the handle's position to the end."""
    parts = []
    while part := os.read(fd, 65536):
        parts.append(part)
    return b"".join(parts).decode()


def show(tree: Path, name: str) -> str:
    return control(tree, name).read_text()


def show_json(tree: Path, name: str) -> Any:
    return json.loads(show(tree, name))


def show_lines(tree: Path, name: str) -> list[Any]:
    return [json.loads(line) for line in show(tree, name).splitlines()]


def finish(tree: Path, line: str = "") -> dict[str, Any]:
    """Finishes a tree; returns the answer."""
    text = ask(tree, "finish", line)
    assert text.endswith("\n")
    assert text.count("\n") == 1
    answer: dict[str, Any] = json.loads(text)
    return answer


def finish_child(tree: Path, line: str = "") -> Child:
    """Finishes a tree in a child process, whose value is the answer."""
    return Child(lambda _child: finish(tree, line))


def commit(collection: Path, name: str, files: dict[str, str], line: str = "") -> Path:
    """Makes a version of these files; returns its directory."""
    tree = collection / "pending" / name
    tree.mkdir()
    for path, text in files.items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_text(text)
    return collection / str(finish(tree, line)["version"])


@contextmanager
def writer(path: Path, data: bytes = b"") -> Iterator[Child]:
    """A process that has a file open for writing until the context ends, or until ``go``."""

    def hold(child: Child) -> None:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
        os.write(fd, data)
        child.say()
        child.pause()
        os.close(fd)

    with Child(hold) as child:
        child.heard()
        yield child


@dataclass(frozen=True)
class Node:
    """What a version keeps of an entry."""

    kind: int
    permissions: int
    uid: int
    gid: int
    mtime: int
    content: bytes
    xattrs: tuple[tuple[str, bytes], ...]


def snapshot(tree: Path) -> dict[bytes, Node]:
    """Returns every entry of a tree, and its root, by relative path."""
    root = os.fsencode(tree)
    found: dict[bytes, Node] = {}

    def look(path: bytes) -> None:
        full = os.path.join(root, path) if path else root
        status = os.lstat(full)
        kind = stat.S_IFMT(status.st_mode)
        content = b""
        if kind == stat.S_IFREG:
            with open(full, "rb") as file:
                content = file.read()
        elif kind == stat.S_IFLNK:
            content = os.readlink(full)
        xattrs: list[tuple[str, bytes]] = []
        if kind in (stat.S_IFREG, stat.S_IFDIR):
            xattrs = [(name, os.getxattr(full, name)) for name in sorted(os.listxattr(full))]
        found[path] = Node(
            kind=kind,
            permissions=stat.S_IMODE(status.st_mode),
            uid=status.st_uid,
            gid=status.st_gid,
            mtime=status.st_mtime_ns,
            content=content,
            xattrs=tuple(xattrs),
        )
        if kind == stat.S_IFDIR:
            for name in os.listdir(full):
                look(os.path.join(path, name))

    look(b"")
    return found
