"""A pending version in one process: its files on disk, its gate, its inodes, the digests of its files.

A process has one object for a pending version (``volume/pending_trees.py``), so that all writers and finishes
meet at one gate.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from artfs.errors import Busy, CutShort, DraftNotFoundError, NotEmpty, NotIdle
from artfs.pending import overlay
from artfs.pending.backing_inodes import BackingInodes
from artfs.pending.census import newest_change
from artfs.pending.copy_up import Staging
from artfs.pending.gate import Gate, State
from artfs.pending.hashes import Hashes
from artfs.pending.pending_version import TREE, PendingVersion
from artfs.pending.unwritten import Unwritten
from artfs.printing import printable
from artfs.store import durable, tree_removal
from artfs.store.objects import ObjectStore


class Progress:
    """The progress of a seal, written by the sealer. Any thread may read it."""

    def __init__(self) -> None:
        self.files = 0
        self.of = 0


@dataclass(frozen=True, slots=True)
class _Unnamed:
    fd: int


class PendingTree:
    """One pending version. Any thread may use everything but `inodes`."""

    def __init__(self, pending_version: PendingVersion, store: ObjectStore) -> None:
        self._pending_version: PendingVersion | None = pending_version
        self.store = store
        self.collection, self.name = pending_version.collection, pending_version.name
        self.label = f"{pending_version.collection}/{printable(pending_version.name)}"
        #: The lower directory of the root; None if the tree is no patch.
        root = pending_version.open_tree()
        try:
            self.lower = overlay.lower_of(root)
            status = os.fstat(root)
        finally:
            os.close(root)
        self._root_inode = status.st_ino
        #: The user in whose limits this tree counts, also after a chown(2) of the root.
        self.owner = status.st_uid
        #: Set once the tree may have references: then files are examined before they are read. References
        #: that other processes make later are not known.
        self.has_references = pending_version.has_references()
        self.gate = Gate()
        self.hashes = Hashes(store.algorithm)
        self.inodes = BackingInodes()
        self.unwritten = Unwritten()
        self.progress = Progress()
        #: Set once the mount was notified that the tree is a version.
        self.published = threading.Event()
        #: The tree of the same pending version after it got another base.
        self.successor: PendingTree | None = None
        #: Set once changes of a moved base were merged into the new version.
        self.merged = False
        #: Set while inodes of the tree may also be blobs of the store: a seal linked them and did not commit.
        self.shares_blobs = pending_version.mark() is not None

    @property
    def pending_version(self) -> PendingVersion:
        """The files on disk. Raises :class:`DraftNotFoundError` after :meth:`release`."""
        pending_version = self._pending_version
        if pending_version is None:
            raise DraftNotFoundError(self.collection, self.name)
        return pending_version

    @property
    def staging(self) -> Staging:
        """Where files of the tree are made; once the tree has ended, where files without a name are made."""
        gone = self.gate.state in (State.SEALED, State.DISCARDED)
        return (
            self._pending_version
            if self._pending_version is not None and not gone
            else _Unnamed(self.store.blobs_fd)
        )

    def release(self) -> None:
        """Drops the descriptors of a tree that has ended; they stay open while they are in use.

        The kernel may know files of the tree for any time, and each would keep the descriptors open.
        """
        self._pending_version = None
        self.inodes.retire()

    def close(self) -> None:
        """Closes the descriptors. The tree must not be in use."""
        if self._pending_version is not None:
            self._pending_version.close()

    def open_root(self) -> int:
        """Opens the root of the users' tree; the caller closes it."""
        return self.pending_version.open_tree()

    def base(self) -> overlay.Base | None:
        """Returns the base of a patch; None for any other tree."""
        root = self.open_root()
        try:
            return overlay.base_of(root)
        finally:
            os.close(root)

    def last_change(self) -> float:
        """Returns the time of the last change in the tree itself, in seconds since the epoch."""
        root = self.open_root()
        try:
            return newest_change(root)
        finally:
            os.close(root)

    def expect_references(self) -> None:
        """Records durably that the tree may have references."""
        if not self.has_references:
            self.pending_version.expect_references()
            self.has_references = True

    def has_own_files(self) -> bool:
        """Tells whether the files on disk are still those of this tree, not of a successor."""
        root = self.open_root()
        try:
            # The number alone does not suffice: the second successor may have the number of this one.
            return os.fstat(root).st_ino == self._root_inode and overlay.lower_of(root) == self.lower
        finally:
            os.close(root)

    def current(self) -> PendingTree:
        """Returns the present tree of the pending version: this one, or its last successor."""
        tree = self
        while tree.successor is not None:
            tree = tree.successor
        return tree

    def discard(
        self,
        trash_fd: int,
        pending_fd: int,
        *,
        only_empty: bool,
        idle: float | None = None,
        abandoned: bool = False,
        decided: Callable[[], bool],
    ) -> bytes:
        """Ends the pending version, so that its name is free.

        Returns the name of its files in the trash. Raises :class:`NotEmpty` with `only_empty` if there
        are files, :class:`NotIdle` if it changed in the last `idle` seconds or a run has joined,
        :class:`~artfs.errors.Busy` with `abandoned` unless the processes that it was made for are dead,
        :class:`~artfs.errors.OpenForWriting` while files are open for writing,
        :class:`~artfs.errors.CutShort` if a finish had `decided` that it is a version.
        """
        name = durable.temp_name()
        self.gate.close_now()
        state = State.DISCARDED
        try:
            with self.pending_version.exclusively():
                if not self.pending_version.has_name_in(pending_fd):
                    raise DraftNotFoundError(self.collection, self.name)
                if decided():
                    raise CutShort
                if only_empty:
                    self._refuse_unless_empty()
                if idle is not None:
                    self._refuse_unless_idle(idle)
                if abandoned and not self.pending_version.abandoned():
                    raise Busy("it is not abandoned: one of its owners may be running")
                durable.move(pending_fd, self.name, trash_fd, name, label="discard")
        except CutShort:
            state = State.COMMITTED
            raise
        except BaseException:
            # The error may be of the sync after the move.
            if self.pending_version.has_name_in(pending_fd):
                state = State.PENDING
            raise
        finally:
            self.gate.settle(state)
        return name

    def _refuse_unless_empty(self) -> None:
        names = 0 if self.lower is None else self.store.page(self.lower.tree).names
        with durable.directory(self.pending_version.fd, TREE) as root:
            if not overlay.looks_empty(root, names):
                raise NotEmpty(f"'{printable(self.name)}' holds files; write to .artfs/discard instead")

    def _refuse_unless_idle(self, seconds: float) -> None:
        if self.pending_version.runs.names() or time.time() - self.last_change() < seconds:
            raise NotIdle

    @property
    def ended(self) -> bool:
        return self.gate.state in (State.SEALED, State.DISCARDED, State.REPLACED)


def empty_trash(trash_fd: int, *names: bytes) -> None:
    """Deletes files in the trash, whatever their modes. Never raises OSError.

    The next ``gc`` deletes what can't be deleted now. Closes `trash_fd`.
    """
    try:
        for name in names:
            with contextlib.suppress(OSError):
                tree_removal.remove_tree(trash_fd, name)
    finally:
        os.close(trash_fd)


__all__ = ["TREE", "PendingTree", "Progress", "empty_trash"]
