"""Helpers of the tests of patches on a mount: patches, changes of their base, and open directories."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.mount.control import command, finish
from tests.mount.mounting import MountedVolume, must


def patch(collection: Path, name: str, base: str = "latest") -> Path:
    """Starts a patch."""
    tree = collection / "pending" / name
    tree.mkdir()
    command(tree, "base", base)
    return tree


def change(collection: Path, files: dict[str, str | None], line: str = "", base: str = "latest") -> Path:
    """Makes a version from a base by changing files; None deletes one."""
    tree = patch(collection, f"change-{time.monotonic_ns()}", base)
    for path, text in files.items():
        if text is None:
            (tree / path).unlink()
        else:
            (tree / path).parent.mkdir(parents=True, exist_ok=True)
            (tree / path).write_text(text)
    return collection / str(finish(tree, line)["version"])


class DirectoryUser:
    """A process that uses a directory of a tree by a descriptor, as its working directory."""

    def __init__(self, directory: Path) -> None:
        self.fd = os.open(directory, os.O_PATH | os.O_DIRECTORY)

    def ls(self) -> set[str]:
        fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=self.fd)
        try:
            return set(os.listdir(fd))
        finally:
            os.close(fd)

    def open(self, path: str, flags: int = os.O_RDONLY) -> int:
        return os.open(path, flags, 0o644, dir_fd=self.fd)

    def cat(self, path: str) -> str | None:
        """Returns the text of a file, or None if it does not exist."""
        try:
            fd = self.open(path)
        except FileNotFoundError:
            return None
        with open(fd) as file:
            return file.read()

    def write(self, path: str, text: str) -> None:
        with open(self.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), "w") as file:
            file.write(text)

    def size(self, path: str) -> int:
        return os.stat(path, dir_fd=self.fd).st_size


@contextmanager
def using(*directories: Path) -> Iterator[list[DirectoryUser]]:
    """Processes that use directories."""
    users = [DirectoryUser(directory) for directory in directories]
    try:
        yield users
    finally:
        for user in users:
            os.close(user.fd)


def read(path: Path) -> str | None:
    """Returns the text of a file, or None if it does not exist."""
    try:
        return path.read_text()
    except FileNotFoundError:
        return None


def backing(mounted: MountedVolume, tree: Path) -> Path:
    """Returns where a pending tree is stored in the volume."""
    return mounted.volume / "collections" / tree.parent.parent.name / "pending" / tree.name


def remount(mounted: MountedVolume) -> None:
    must("umount", mounted.point)
    mounted.mount_again()


def difference(one: dict[str, Any], other: dict[str, Any]) -> dict[str, tuple[str | None, str | None]]:
    return {
        name: (one.get(name), other.get(name)) for name in one | other if one.get(name) != other.get(name)
    }
