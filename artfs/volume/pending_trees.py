"""The pending trees that this process has open.

Owns one object for each pending version, so that all callers meet at its gate, and how long it stays open.
Must not know how trees are changed or sealed. Any thread may call it.
"""

from __future__ import annotations

import contextlib
import os
import threading
from weakref import WeakSet, WeakValueDictionary

from cachetools import LRUCache

from artfs.catalog.catalog import Catalog
from artfs.catalog.collection import Collection
from artfs.errors import ArtfsError, DraftNotFoundError
from artfs.limits import descriptors
from artfs.model.names import is_private
from artfs.pending import upgrade
from artfs.pending.gate import State
from artfs.pending.pending_tree import PendingTree
from artfs.pending.pending_version import PENDING, TREE, PendingVersion
from artfs.seal.seal import decided
from artfs.store.layout import Layout
from artfs.store.objects import ObjectStore

_RECENT = 64  # trees that stay open although nothing refers to them


class PendingTrees:
    """The open pending trees of a volume."""

    def __init__(self, layout: Layout, store: ObjectStore, catalog: Catalog, *, limited: bool) -> None:
        """With `limited` each owner may have a share of the process's descriptors."""
        self._layout, self._store, self._catalog, self._limited = layout, store, catalog, limited
        # Weak: a tree and its descriptors go with the last reference to it, which a mount's kernel may hold.
        self._trees: WeakValueDictionary[tuple[str, bytes], PendingTree] = WeakValueDictionary()
        self._recent: LRUCache[tuple[str, bytes], PendingTree] = LRUCache(_RECENT)
        self._owned: dict[int, WeakSet[PendingTree]] = {}
        self._lock = threading.Lock()

    def close(self) -> None:
        """Closes all trees. None may be in use."""
        for tree in list(self._trees.values()):
            tree.close()
        self._trees.clear()
        self._recent.clear()

    def get(self, collection: str, name: bytes) -> PendingTree:
        """Returns the tree of a pending version. Raises :class:`DraftNotFoundError`."""
        with self._lock:
            tree = self._trees.get((collection, name))
            if tree is not None and not tree.ended:
                self._reopen_if_undecided(tree)
                self._keep(tree)
                return tree
            if name.startswith(b".") or b"/" in name:
                raise DraftNotFoundError(collection, name)
            return self._open(self._catalog.collection(collection), name)

    def get_from_disk(self, collection: Collection, name: bytes) -> PendingTree:
        """Returns the tree as :meth:`get` does, even if another process has ended the one open here."""
        tree = self.get(collection.name, name)
        if self._is_on_disk(collection, tree):
            return tree
        self.forget(tree)
        return self.get(collection.name, name)

    def get_started(self, collection: Collection, name: bytes) -> PendingTree:
        """Returns the tree that was just started, even if an ended one of the same name is still open."""
        with self._lock, collection.opened(PENDING) as fd:
            tree = self._trees.get((collection.name, name))
            if tree is not None and tree.pending_version.has_name_in(fd):
                return tree
            return self._open(collection, name)

    def can_change(self, collection: Collection, tree: PendingTree) -> bool:
        """Tells whether `tree` is pending on disk and no finish has decided about it.

        A process that works directly asks this under the lock that keeps others from ending the tree.
        """
        return self._is_on_disk(collection, tree) and not is_decided(collection, tree)

    def abandoned(self, collection: Collection) -> list[bytes]:
        """Lists the pending ids whose owners are known to be dead. Ids that can't be read are left out."""
        found = []
        for name in filter(is_private, pending_names(collection)):
            with contextlib.suppress(ArtfsError, OSError), collection.opened(PENDING) as fd:
                opened = PendingVersion(fd, collection.name, name)
                with contextlib.closing(opened):
                    found += [name] if opened.abandoned() else []
        return found

    def reopen_undecided(self, collection: Collection) -> None:
        """Makes trees pending again whose finish had decided on a version that was deleted meanwhile."""
        with self._lock:
            for tree in list(self._trees.values()):
                if tree.collection == collection.name:
                    self._reopen_if_undecided(tree)

    def replace(self, tree: PendingTree) -> None:
        """Opens the successor of a tree whose base was changed."""
        with self._lock:
            successor = PendingTree(tree.pending_version, self._store)
            successor.inodes.keep_numbers_of(tree.inodes)
            tree.successor = self._add(self._catalog.collection(tree.collection), successor)

    def forget(self, tree: PendingTree) -> None:
        """Drops a tree that has ended, or that must be opened again."""
        with self._lock:
            if self._trees.get((tree.collection, tree.name)) is tree:
                del self._trees[tree.collection, tree.name]
                self._recent.pop((tree.collection, tree.name), None)

    def check_may_open(self, owner: int) -> None:
        """Raises OSError (EMFILE, ENFILE) if this user, or all users together, have too many open trees."""
        if self._limited:
            held = len(self._owned.get(owner, ()))
            descriptors.check_for_pending_version(self._layout.fd, owner, held)

    def _is_on_disk(self, collection: Collection, tree: PendingTree) -> bool:
        with collection.opened(PENDING) as fd:
            return tree.pending_version.has_name_in(fd) and tree.has_own_files()

    def _reopen_if_undecided(self, tree: PendingTree) -> None:
        if tree.gate.state is State.COMMITTED:
            collection = self._catalog.collection(tree.collection)
            if not is_decided(collection, tree):
                tree.gate.reopen()

    def _open(self, collection: Collection, name: bytes) -> PendingTree:
        with collection.opened(PENDING) as fd:
            with contextlib.suppress(FileNotFoundError):  # PendingVersion reports what is missing
                root = os.stat(name + b"/" + TREE, dir_fd=fd, follow_symlinks=False)
                self.check_may_open(root.st_uid)
            pending_version = PendingVersion(fd, collection.name, name)
        try:
            upgrade.check_tree(self._layout, pending_version)
        except BaseException:
            pending_version.close()
            raise
        return self._add(collection, PendingTree(pending_version, self._store))

    def _add(self, collection: Collection, tree: PendingTree) -> PendingTree:
        if tree.shares_blobs and is_decided(collection, tree):
            tree.gate.settle(State.COMMITTED)
        self._trees[collection.name, tree.name] = tree
        self._owned.setdefault(tree.owner, WeakSet()).add(tree)
        self._keep(tree)
        return tree

    def _keep(self, tree: PendingTree) -> None:
        """Keeps a tree open that was asked for lately: what it has learned of its files saves many reads."""
        self._recent[tree.collection, tree.name] = tree


def is_decided(collection: Collection, tree: PendingTree) -> bool:
    """Tells whether a finish has decided that a tree is a version, even if that finish was cut short."""
    return decided(collection, tree.pending_version.mark()) is not None


def pending_names(collection: Collection) -> list[bytes]:
    """Lists the distributed ids that are pending, sorted."""
    with collection.opened(PENDING) as fd, os.scandir(fd) as found:
        return sorted(os.fsencode(e.name) for e in found if not e.name.startswith("."))
