"""How names lead to directories of a mount: collections, versions and pending versions.

Owns what an errno there means. Blocking.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from artfs.client.mounted.control_files import permission_to, read_document, read_documents
from artfs.errors import (
    AlreadyFinishedError,
    ArtfsError,
    CollectionNotFound,
    DraftNotFoundError,
    InvalidCommand,
    InvalidName,
    NotFound,
    VersionNotFound,
)
from artfs.model import names
from artfs.model.diff import Change

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class MountPaths:
    """The mount at `root`; owns a descriptor of it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._fd = os.open(root, DIRECTORY)

    @contextlib.contextmanager
    def _collection(self, name: str) -> Iterator[int]:
        try:
            names.check_collection(name)
            with permission_to(f"enter the collection '{name}'"):
                fd = os.open(name, DIRECTORY, dir_fd=self._fd)
        except (InvalidName, FileNotFoundError):
            raise CollectionNotFound(name) from None
        try:
            yield fd
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ESTALE) and not _is_there(fd):
                raise CollectionNotFound(name) from None  # it was removed just now
            raise
        finally:
            os.close(fd)

    @contextlib.contextmanager
    def _version(self, name: str, ref: str) -> Iterator[int]:
        """Opens the root of a version, which stays the same one when an alias moves."""
        with self._collection(name) as collection:
            try:
                if names.parse_version(ref) is None:
                    names.check_alias(ref)
                with permission_to(f"read {name}:{ref}"):
                    fd = os.open(ref, DIRECTORY, dir_fd=collection)
            except (InvalidName, FileNotFoundError):
                raise VersionNotFound(name, ref) from None
            except OSError as error:
                if error.errno != errno.ELOOP:
                    raise
                raise InvalidCommand(f"aliases of '{name}' are a loop: {ref}") from None
        try:
            yield fd
        finally:
            os.close(fd)

    @contextlib.contextmanager
    def _pending(self, name: str, distributed_id: bytes, *, finished_too: bool = False) -> Iterator[int]:
        with self._collection(name) as collection:
            names.check_distributed_id(distributed_id)
            path = b"pending/" + distributed_id
            try:
                fd = os.open(path, DIRECTORY | (0 if finished_too else os.O_NOFOLLOW), dir_fd=collection)
            except FileNotFoundError:
                raise DraftNotFoundError(name, distributed_id) from None
            except OSError as error:
                if error.errno not in (errno.ELOOP, errno.ENOTDIR):
                    raise
                raise self._finished(collection, name, distributed_id) from None
        try:
            yield fd
        finally:
            os.close(fd)

    @staticmethod
    def _finished(collection: int, name: str, distributed_id: bytes) -> ArtfsError:
        target = os.readlink(b"pending/" + distributed_id, dir_fd=collection)
        return AlreadyFinishedError(name, distributed_id, os.fsdecode(os.path.basename(target)))


def _is_there(collection: int) -> bool:
    try:
        os.stat(b".artfs", dir_fd=collection)
    except OSError:
        return False
    return True


def list_names(dir_fd: int, path: bytes) -> list[bytes]:
    fd = os.open(path, DIRECTORY, dir_fd=dir_fd)
    try:
        return sorted(map(os.fsencode, os.listdir(fd)))
    finally:
        os.close(fd)


def abandoned_ids(collection: int) -> list[bytes]:
    """Lists the private pending versions whose processes are dead, as the daemon sees it."""
    found = []
    for name in filter(names.is_private, list_names(collection, b"pending")):
        # The caller may lack permission, or it was finished or discarded just now.
        with contextlib.suppress(OSError, NotFound):
            if read_document(collection, b"pending/%s/.artfs/owners" % name).get("abandoned"):
                found.append(name)
    return found


def read_changes(dir_fd: int, path: bytes) -> list[Change]:
    return [Change.read(line) for line in read_documents(dir_fd, path)]
