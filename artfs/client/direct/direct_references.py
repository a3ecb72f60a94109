"""References in a pending tree of a volume without a mount.

Owns how one is distinguished from a file, staged and opened there. Knows neither what references refer to nor
by which policy they are written. Blocking; any thread.
"""

from __future__ import annotations

import os

from artfs.client.plain_tree import ReferenceAccess
from artfs.client.writable_tree import ReferenceTarget, StagedFile
from artfs.model.entry import ReferenceEntry
from artfs.pending import reference_files
from artfs.pending.pending_tree import PendingTree
from artfs.references import FoundObject
from artfs.volume.volume_references import References, new_reference_entry


class DirectReferences(ReferenceAccess):
    """References of a pending tree in a volume without a mount."""

    def __init__(self, tree: PendingTree, references: References) -> None:
        self._tree, self._references = tree, references

    def target_of(self, path: bytes) -> ReferenceTarget | None:
        found = reference_files.read_xattr(path, follow_symlinks=False)
        if found is None:
            return None
        size = os.stat(path, follow_symlinks=False).st_size
        return ReferenceTarget(os.fsdecode(found.uri), size, os.fsdecode(found.checksum))

    def stage(self, target: ReferenceTarget, temp: bytes) -> StagedFile:  # noqa: ARG002
        self._tree.expect_references()
        found = FoundObject(b"", target.uri, target.size, os.fsencode(target.checksum))
        directory = self._tree.pending_version.fd
        entry = new_reference_entry(found, b"", os.geteuid(), os.getegid())
        return StagedFile(directory, reference_files.stage(directory, entry))

    def fetch(self, fd: int) -> int:
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
        """Opens the bytes of a reference in the base of a patch. Raises what :meth:`fetch` does."""
        return self._references.open(entry)
