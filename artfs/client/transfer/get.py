"""Copies a version out to a directory.

Owns how a target directory is written: each file whole or not at all, never through a symlink, never
outside.
Blocking; any thread.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Container, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from artfs.client.file_attributes import set_attributes
from artfs.client.interface import Client
from artfs.client.values import Progress, VersionEntry, silent
from artfs.client.version_tree import parts
from artfs.errors import InvalidCommand, ReferenceFailed, naming
from artfs.linux.file_copy import copy_file
from artfs.linux.walk import ROOT, DirectoryStack
from artfs.model import names
from artfs.printing import printable

_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_TEMP = b".~artfs-get."  # legal in a pending tree too


@dataclass(slots=True)
class GetResult:
    """What was written, and where."""

    collection: str
    version: str
    directory: Path
    files: int = 0
    size: int = 0

    def json(self) -> dict[str, Any]:
        return {
            "collection": self.collection,
            "version": self.version,
            "path": str(self.directory),
            "files": self.files,
            "bytes": self.size,
        }


def get(
    client: Client,
    name: str,
    ref: str,
    directory: Path | None = None,
    *,
    prefix: bytes = b"",
    may_miss: Container[bytes] = (),
    progress: Progress = silent,
) -> GetResult:
    """Copies a version, or what is at and below `prefix`, into `directory`: by default `NAME-vN` here.

    The directory is made if it does not exist. Existing files are replaced; a directory that conflicts with
    a file, or a file with a directory, is left and refused. A reference at one of the paths `may_miss` is
    left out if its bytes can't be fetched. Raises :class:`~artfs.errors.PathNotFound`,
    :class:`InvalidCommand`, :class:`ReferenceFailed`.
    """
    status = client.version(name, ref)
    version = str(status["version"])
    directory = directory or Path(f"{name}-{version}")
    for _ in islice(client.walk(name, version, prefix), len(parts(prefix)) + 1):
        pass  # raises for a prefix that does not exist, before anything is made
    entries = client.walk(name, version, prefix)
    root = _directory(next(entries))
    total = 0 if prefix else int(status["size"])
    result = GetResult(name, version, directory)
    made = _make(directory)
    with _Writer(os.open(directory, ROOT), result, total, progress) as writer:
        for entry in entries:
            try:
                with naming(os.path.join(os.fsencode(directory), entry.path)):
                    writer.write(entry)
            except ReferenceFailed:
                if entry.path not in may_miss:
                    raise
            except OSError as error:
                if error.errno != errno.EIO:
                    raise
                failure = client.read_failure(name, version, entry.path)
                if failure is None:
                    raise
                if entry.path not in may_miss or not isinstance(failure, ReferenceFailed):
                    raise failure from None
        writer.climb(b"")
        if made:
            writer.restore(root)
    return result


class _Directory(NamedTuple):
    """A directory and its user's xattrs, which it gets once all is written in it."""

    entry: VersionEntry
    xattrs: Sequence[tuple[bytes, bytes]]


class _Writer(DirectoryStack):
    """Writes into the target of one get, in the order of a preorder walk."""

    def __init__(self, target: int, result: GetResult, total: int, progress: Progress) -> None:
        super().__init__(target)
        self._entered: list[_Directory] = []
        self._result, self._total, self._progress, self._done = result, total, progress, 0

    def write(self, entry: VersionEntry) -> None:
        """Writes the next entry of a preorder walk."""
        names.check_entry_name(entry.name)
        self.climb(entry.path.rpartition(b"/")[0])
        if entry.kind == "directory":
            self._enter(entry)
        else:
            self._refuse_directory(entry.name)
            temp = _TEMP + secrets.token_hex(8).encode()
            try:
                if entry.kind == "symlink":
                    self._symlink(entry, temp)
                else:
                    self._file(entry, temp)
                os.rename(temp, entry.name, src_dir_fd=self.fd, dst_dir_fd=self.fd)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(temp, dir_fd=self.fd)
                raise

    def climb(self, path: bytes) -> None:
        """Goes up to the directory at `path`, and sets the attributes of those that it leaves."""
        while self._entered and self._entered[-1].entry.path != path:
            self.restore(self._entered.pop())
            self.leave()

    def restore(self, directory: _Directory) -> None:
        """Gives the current directory the attributes that it had when it was sealed."""
        entry = directory.entry
        set_attributes(self.fd, mode=entry.mode, mtime_ns=entry.mtime_ns, xattrs=directory.xattrs)

    def _enter(self, entry: VersionEntry) -> None:
        with contextlib.suppress(FileExistsError):
            os.mkdir(entry.name, 0o700, dir_fd=self.fd)
        try:
            self.enter(entry.name)
        except NotADirectoryError:
            raise self._conflict(entry.name, "directory", "no directory") from None
        self._entered.append(_directory(entry))
        mode = stat.S_IMODE(os.fstat(self.fd).st_mode)
        if mode & stat.S_IRWXU != stat.S_IRWXU:
            with contextlib.suppress(PermissionError):
                os.fchmod(self.fd, mode | stat.S_IRWXU)

    def _file(self, entry: VersionEntry, temp: bytes) -> None:
        source = entry.open()
        try:
            target = os.open(temp, _NEW, 0o600, dir_fd=self.fd)
            try:
                copy_file(source, target, zeros_as_holes=True, copied=self._copied)
                entry.check(target)
                set_attributes(target, mode=entry.mode, mtime_ns=entry.mtime_ns, xattrs=entry.xattrs())
            finally:
                os.close(target)
        finally:
            os.close(source)
        self._result.files += 1
        self._result.size += entry.size

    def _symlink(self, entry: VersionEntry, temp: bytes) -> None:
        os.symlink(entry.target, temp, dir_fd=self.fd)
        times = (entry.mtime_ns, entry.mtime_ns)
        os.utime(temp, ns=times, dir_fd=self.fd, follow_symlinks=False)

    def _refuse_directory(self, name: bytes) -> None:
        status = self.find(name)
        if status is not None and stat.S_ISDIR(status.st_mode):
            raise self._conflict(name, "file", "a directory")

    def _conflict(self, name: bytes, wanted: str, found: str) -> InvalidCommand:
        path = printable(self.below(name))
        return InvalidCommand(
            f"cannot create the {wanted} '{path}': '{path}' is {found} in the target; remove it first"
        )

    def _copied(self, count: int) -> None:
        self._done += count
        self._progress("copy", self._done, self._total)


def _directory(entry: VersionEntry) -> _Directory:
    return _Directory(entry, entry.xattrs())


def _make(directory: Path) -> bool:
    try:
        os.mkdir(directory, 0o700)  # until it gets its mode, no other user sees its content
    except FileExistsError:
        return False
    return True
