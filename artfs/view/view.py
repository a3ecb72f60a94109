"""A volume as one mount shows it: which nodes there are, and what the mount is told when they change.

Owns the objects that must exist once for a mount: the branch of each pending tree, the trees of sealed
versions. The event loop's thread uses everything here; sealing threads call `flush` and `publish` only.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections import OrderedDict
from typing import Protocol

from artfs.catalog.collection import Collection
from artfs.catalog.records import VersionRecord
from artfs.errors import PendingNotFound
from artfs.pending.gate import WritableHandle
from artfs.pending.tree import PendingTree
from artfs.view.control.node import ControlDirectory
from artfs.view.control.place import PendingPlace, VersionPlace
from artfs.view.control.registry import PENDING_FILES, VERSION_FILES
from artfs.view.node import SEALED, Attributes, Node, virtual
from artfs.view.pending import Branch, PendingHandle
from artfs.view.sealed import SealedTree, ordinal_of, serial_of
from artfs.volume import Volume

_KEPT_VERSIONS = 256
_PATIENCE = 30.0  # seconds that the kernel may take to write dirty pages back


class Kernel(Protocol):
    """What caches on the other side of the view. Calls return when it is done; sealing threads make them."""

    def forget_entry(self, parent: int, name: bytes, timeout: float) -> None:
        """The name stands for something else now, or for nothing."""

    def forget_pages(self, ino: int, timeout: float) -> None:
        """Writes dirty pages of a file back and drops all."""


class NoKernel:
    def forget_entry(self, parent: int, name: bytes, timeout: float) -> None:
        pass

    def forget_pages(self, ino: int, timeout: float) -> None:
        pass


class View:
    """What a mount of `volume` shows. Becomes the volume's audience."""

    def __init__(
        self,
        volume: Volume,
        kernel: Kernel | None = None,
        *,
        read_only: bool = False,
        write_cache: bool = False,
    ) -> None:
        self.volume, self.kernel = volume, kernel or NoKernel()
        self.read_only, self.write_cache = read_only, write_cache
        self.started = time.time()
        self.stopping = False  # then whoever waits gives up
        self.as_root = os.geteuid() == 0
        self._branches: dict[tuple[str, bytes], Branch] = {}
        self._sealed: OrderedDict[int, SealedTree] = OrderedDict()
        volume.audience = self

    def counters(self) -> list[tuple[str, str, float]]:
        """Returns what the mount has counted: name, help and value of each."""
        return []

    # -- pending trees

    def branch(self, tree: PendingTree) -> Branch:
        """Returns the nodes of a pending tree."""
        key = tree.collection, tree.name
        branch = self._branches.get(key)
        if branch is None or branch.tree is not tree:
            if tree.ended:
                raise PendingNotFound(tree.collection, tree.name)
            collection = self.volume.catalog.collection(tree.collection)
            place = PendingPlace(self, collection, tree)
            branch = self._branches[key] = Branch(
                tree, ControlDirectory(place, PENDING_FILES), as_root=self.as_root
            )
            place.root = branch.root
        return branch

    def drop_branch(self, collection: str, name: bytes) -> None:
        """A pending version was discarded: its name is free, its nodes answer ESTALE from now on."""
        self._branches.pop((collection, name), None)
        self.kernel.forget_entry(self.pending_ino(collection), name, _PATIENCE)

    @staticmethod
    def pending_ino(collection: str) -> int:
        return virtual(b"pending", collection.encode())

    # -- what a seal tells

    def flush(self, handles: list[WritableHandle]) -> None:
        nodes = {handle.node for handle in handles if isinstance(handle, PendingHandle)}
        for node in nodes:
            # Before the pages go: from here on no write(2) can dirty one (with a write cache; else none are).
            node.fenced = self.write_cache
        for node in nodes:
            self.kernel.forget_pages(node.ino, _PATIENCE)

    def publish(self, tree: PendingTree, record: VersionRecord) -> None:
        with contextlib.suppress(Exception):  # the version stands, whatever the kernel still remembers
            branch = self._branches.pop((tree.collection, tree.name), None)
            if branch is not None and branch.tree is tree:
                collection = self.volume.catalog.collection(tree.collection)
                branch.sealed = self.sealed(collection, record).root
            self.kernel.forget_entry(self.pending_ino(tree.collection), tree.name, _PATIENCE)

    # -- sealed versions

    def sealed(self, collection: Collection, record: VersionRecord) -> SealedTree:
        """Returns the tree of a version; the last ones that were asked for are kept."""
        tree = self._sealed.get(record.serial)
        if tree is None:
            place = VersionPlace(self, collection, record, lambda: _directory_of(collection))
            control = ControlDirectory(place, VERSION_FILES)
            tree = self._sealed[record.serial] = SealedTree(
                collection.name, record, self.volume.store, control
            )
            if len(self._sealed) > _KEPT_VERSIONS:
                self._sealed.popitem(last=False)
        return tree

    def forget_sealed(self, record: VersionRecord) -> None:
        """A version was deleted."""
        self._sealed.pop(record.serial, None)

    def sealed_node(self, ino: int) -> Node:
        """Finds a sealed node by its inode number. Raises ESTALE if its version was deleted."""
        assert ino & SEALED
        serial = serial_of(ino)
        tree = self._sealed.get(serial)
        if tree is None:
            found = self.volume.record_of_serial(serial)
            if found is None:
                raise OSError(errno.ESTALE, "the version was deleted")
            tree = self.sealed(*found)
        return tree.at(ordinal_of(ino))


def _directory_of(collection: Collection) -> Attributes:
    with collection.opened() as fd:
        return Attributes.of(0, os.fstat(fd))
