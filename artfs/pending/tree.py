"""A pending version as one process knows it: its files on disk, its gate, its places, its digests.

There is one object for a pending version in a process (``volume.py`` sees to that), so that whoever writes
and whoever finishes meet at the same gate.
"""

from __future__ import annotations

import os
import shutil

from artfs.errors import NotEmpty, printable
from artfs.model.digest import Algorithm
from artfs.pending.draft import TREE, Draft
from artfs.pending.gate import Gate, State
from artfs.pending.hashes import Hashes
from artfs.pending.place import Places
from artfs.store import durable


class Progress:
    """How far a seal is; read by whoever asks, written by the sealer."""

    def __init__(self) -> None:
        self.files = 0
        self.of = 0


class PendingTree:
    """One pending version. Everything but `places` may be used by any thread."""

    def __init__(self, draft: Draft, algorithm: Algorithm) -> None:
        self.draft = draft
        self.collection, self.name = draft.collection, draft.name
        self.gate = Gate()
        self.hashes = Hashes(algorithm)
        self.places = Places()
        self.progress = Progress()
        #: Set while inodes of the tree may also be blobs of the store: a seal linked them and did not commit.
        self.shares_blobs = draft.mark() is not None

    def open_root(self) -> int:
        """Opens the root of the users' tree; the caller closes it."""
        return self.draft.open_tree()

    def discard(self, trash_fd: int, pending_fd: int, *, only_empty: bool) -> bytes:
        """Ends the pending version: from then on nothing is under its name.

        Returns the name that its files have in the trash. Raises :class:`NotEmpty` with `only_empty` if there
        are files, :class:`~artfs.errors.OpenForWriting` while files are open for writing.
        """
        trash = durable.temp_name()

        def move() -> None:
            if only_empty:
                fd = self.open_root()
                try:
                    with os.scandir(fd) as found:
                        if next(found, None) is not None:
                            raise NotEmpty(
                                f"'{printable(self.name)}' holds files; write to .artfs/discard instead"
                            )
                finally:
                    os.close(fd)
            durable.move(pending_fd, self.name, trash_fd, trash, label="discard")

        with self.draft.exclusively():
            self.gate.discard(move)
        return trash

    @property
    def ended(self) -> bool:
        return self.gate.state in (State.SEALED, State.DISCARDED)


def empty_trash(trash_fd: int, name: bytes) -> None:
    """Deletes what was moved to the trash, however users have set its modes. Never raises OSError.

    What can't be deleted now is swept by the next ``gc``. Closes `trash_fd`.
    """
    try:
        shutil.rmtree(name, ignore_errors=True, dir_fd=trash_fd)
    finally:
        os.close(trash_fd)


__all__ = ["TREE", "PendingTree", "Progress", "empty_trash"]
