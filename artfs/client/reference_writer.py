"""References as a pending tree holds them: in the volume itself, or behind a mount.

Owns how one is told from a file, made and opened. Knows neither what is to be referred to nor on what terms.
Blocking; any thread.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence

from artfs.client.mounted.control_files import command
from artfs.client.writable_tree import ReferenceTarget, StagedFile
from artfs.errors import ArtfsError
from artfs.model import refusals
from artfs.model.entry import ReferenceEntry
from artfs.pending import reference_files
from artfs.pending.tree import PendingTree
from artfs.references import FoundObject
from artfs.volume.volume_references import References, new_reference_entry

_CONTROL = b".artfs/references"
_AT_ONCE = 1 << 16  # bytes of a command, and not much more: it must come in one write(2)
_URI, _CHECKSUM, _ERROR = "user.artfs.uri", "user.artfs.digest", "user.artfs.error"


class ReferenceAccess(ABC):
    """How references lie in one pending tree."""

    @abstractmethod
    def origin(self, path: bytes) -> ReferenceTarget | None:
        """Returns what the entry at a path stands for, if it is a reference."""

    @abstractmethod
    def stage(self, origin: ReferenceTarget, temp: bytes) -> StagedFile:
        """Makes a reference that no name leads to; `temp` is one that it may have meanwhile."""

    def add_references(self, found: Sequence[tuple[bytes, ReferenceTarget]], run: str | None) -> int:  # noqa: ARG002
        """Does as :meth:`Tree.refer <artfs.client.writable_tree.Tree.refer>`."""
        return 0

    @abstractmethod
    def fetched(self, fd: int) -> int:
        """Returns the bytes that an open file of the tree stands for: `fd` itself, or another one for it.

        Raises :class:`~artfs.errors.ReferenceFailed`.
        """


class DirectReferences(ReferenceAccess):
    """In a volume that nobody mounted."""

    def __init__(self, tree: PendingTree, references: References) -> None:
        self._tree, self._references = tree, references

    def origin(self, path: bytes) -> ReferenceTarget | None:
        found = reference_files.origin_of(path, follow_symlinks=False)
        if found is None:
            return None
        size = os.stat(path, follow_symlinks=False).st_size
        return ReferenceTarget(os.fsdecode(found.uri), size, os.fsdecode(found.checksum))

    def stage(self, origin: ReferenceTarget, temp: bytes) -> StagedFile:  # noqa: ARG002
        self._tree.expect_references()
        found = FoundObject(b"", origin.uri, origin.size, os.fsencode(origin.checksum))
        directory = self._tree.pending_version.fd
        entry = new_reference_entry(found, b"", os.geteuid(), os.getegid())
        return StagedFile(directory, reference_files.stage(directory, entry))

    def fetched(self, fd: int) -> int:
        try:
            entry = reference_files.entry_at(fd, b"", os.fstat(fd).st_size)
            if entry is None:
                return fd
            found = self._references.open(entry)
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
        return found

    def open(self, entry: ReferenceEntry) -> int:
        """Opens the bytes of a reference of what the tree lies over. Raises as :meth:`brought` does."""
        return self._references.open(entry)


class MountedReferences(ReferenceAccess):
    """In a tree on a mount, which brings the bytes itself when they are read."""

    def __init__(self, root_fd: int) -> None:
        self._root_fd = root_fd

    def origin(self, path: bytes) -> ReferenceTarget | None:
        try:
            uri = os.getxattr(path, _URI, follow_symlinks=False)
            size = os.stat(path, follow_symlinks=False).st_size
        except OSError as error:
            if error.errno in (errno.ENODATA, errno.EOPNOTSUPP):
                return None
            raise
        try:
            checksum = os.getxattr(path, _CHECKSUM, follow_symlinks=False)
        except OSError as error:
            if error.errno != errno.ENODATA:
                raise
            checksum = b""
        return ReferenceTarget(os.fsdecode(uri), size, os.fsdecode(checksum))

    def stage(self, origin: ReferenceTarget, temp: bytes) -> StagedFile:
        try:
            command(self._root_fd, _CONTROL, _line(temp, origin, None))
        except FileNotFoundError:  # it is a version by now, which has no such file
            raise OSError(errno.EROFS, os.strerror(errno.EROFS)) from None
        return StagedFile(self._root_fd, temp)

    def add_references(self, found: Sequence[tuple[bytes, ReferenceTarget]], run: str | None) -> int:
        made, lines, size = 0, list[str](), 0
        for path, origin in found:
            lines.append(_line(path, origin, run))
            size += len(lines[-1])
            if size >= _AT_ONCE or made + len(lines) == len(found):
                try:
                    command(self._root_fd, _CONTROL, "\n".join(lines), answer=False)
                except (ArtfsError, OSError):
                    return made
                made, lines, size = made + len(lines), [], 0
        return made

    def fetched(self, fd: int) -> int:
        return brought(fd)


def brought(fd: int) -> int:
    """Returns an open file on a mount once its bytes are there, as far as that is known by the first.

    Raises :class:`~artfs.errors.ReferenceFailed`, :class:`~artfs.errors.Damaged`, and closes the file then.
    """
    try:
        if (failure := failure_of(fd)) is not None:
            raise failure
    except BaseException:
        os.close(fd)
        raise
    return fd


def failure_of(fd: int) -> ArtfsError | OSError | None:
    """Reads a byte of an open file, and tells why there is none to be had; None if there is."""
    try:
        os.pread(fd, 1, 0)
    except OSError as error:
        return told(fd, error)
    return None


def told(file: int | bytes, error: OSError) -> ArtfsError | OSError:
    """Returns what the mount says of a file that can't be read, given as :func:`os.getxattr` takes it."""
    if error.errno == errno.EIO:
        with contextlib.suppress(OSError):
            return refusals.decoded(os.getxattr(file, _ERROR)) or error
    return error


def _line(path: bytes, origin: ReferenceTarget, run: str | None) -> str:
    return json.dumps({"path": os.fsdecode(path), **origin._asdict(), **({"run": run} if run else {})})


__all__ = ["DirectReferences", "MountedReferences", "ReferenceAccess", "brought", "failure_of", "told"]
