"""A volume as one mount shows it: which nodes there are, and what the mount is told when they change.

Owns the objects that must exist once for a mount: the root of each pending tree that is known, the trees of
sealed versions. The event loop's thread uses everything here; sealing threads call `flush` and `publish`
only.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol
from weakref import WeakValueDictionary

from artfs.catalog.collection import Collection
from artfs.catalog.records import VersionRecord, lightened
from artfs.errors import ArtfsError, CollectionNotFound, Damaged, DraftNotFoundError
from artfs.model.names import CONTROL
from artfs.pending.gate import WritableHandle
from artfs.pending.tree import PendingTree
from artfs.references import FoundObject
from artfs.seal.seal import Request
from artfs.vfs.control.control_nodes import ControlDirectory
from artfs.vfs.control.file_registry import PENDING_FILES, VERSION_FILES
from artfs.vfs.control.subject import PendingSubject, VersionSubject, directory_of
from artfs.vfs.mounted_patch import MountedPatch
from artfs.vfs.mounted_tree import MountContext, MountedTree
from artfs.vfs.new_references import refer
from artfs.vfs.node import ROOT_INO, SEALED, Caller, Node, virtual
from artfs.vfs.pending_directory import PendingDirectory
from artfs.vfs.pending_handle import PendingHandle
from artfs.vfs.sealed import NodeCache, SealedTree, serial_of
from artfs.volume.volume import Volume

log = logging.getLogger(__name__)

_KEPT_VERSIONS = 256
_KEPT_DELETED = 4096  # versions that were deleted, for whoever sits in one
_RECENT = 64  # roots of pending trees that are kept though the kernel knows them no more
_FORGETTING = 0.05  # seconds until the kernel has told what it has forgotten; more may be known without harm
_PATIENCE = 30.0  # seconds that the kernel may take to write dirty pages back


class Kernel(Protocol):
    """What caches on the other side of the view. Calls return when it is done; sealing threads make them.

    ``owner`` is whose tree it is about: what he has the kernel wait for keeps no other's waiting. Raises
    OSError, of which a timeout is one.
    """

    def forget_entry(self, parent: int, name: bytes, timeout: float, owner: int) -> None:
        """The name stands for something else now, or for nothing."""

    def forget_pages(self, ino: int, timeout: float, owner: int) -> None:
        """Writes dirty pages of a file back and drops all."""

    def forget_attributes(self, ino: int, timeout: float, owner: int) -> None:
        """What stat(2) shows of a file is something else now."""


class NoKernel:
    def forget_entry(self, parent: int, name: bytes, timeout: float, owner: int) -> None:
        pass

    def forget_pages(self, ino: int, timeout: float, owner: int) -> None:
        pass

    def forget_attributes(self, ino: int, timeout: float, owner: int) -> None:
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
        supervised: Callable[[], bool] = lambda: False,
        restarts: int = 0,
    ) -> None:
        """``supervised`` tells whether a daemon that dies is replaced, ``restarts`` how many were."""
        self.volume, self.kernel = volume, kernel or NoKernel()
        self.read_only, self.write_cache = read_only, write_cache
        self.started = time.time()
        self.supervised, self.restarts = supervised, restarts
        self.stopping = False
        self.as_root = os.geteuid() == 0
        self._mount_context = MountContext(self.pending, volume.references, self.as_root, write_cache)
        # Weak: a root goes once the kernel has forgotten it, and with it the descriptors of its tree.
        self._roots: WeakValueDictionary[tuple[str, bytes], PendingDirectory] = WeakValueDictionary()
        self._recent: OrderedDict[tuple[str, bytes], PendingDirectory] = OrderedDict()
        # As with the roots; one tree a version, since what is deleted is noted in it.
        self._trees: WeakValueDictionary[int, SealedTree] = WeakValueDictionary()
        self._sealed: OrderedDict[int, SealedTree] = OrderedDict()
        self._deleted: OrderedDict[int, SealedTree] = OrderedDict()
        self._labels: dict[int, str] = {}  # of all versions that were ever shown, by their serials
        self._kept = NodeCache()
        volume.audience = self

    def stop(self) -> None:
        """Ends whatever waits, since the mount is about to end."""
        self.stopping = True

    # -- pending trees

    def pending(self, tree: PendingTree) -> PendingDirectory:
        """Returns the root of a pending tree. Raises :class:`DraftNotFoundError` if it is none any more."""
        key = tree.collection, tree.name
        root = self._roots.get(key)
        if root is None or root.mounted.tree is not tree:
            if tree.ended:
                raise DraftNotFoundError(tree.collection, tree.name)
            place = PendingSubject(self, self.volume.catalog.collection(tree.collection), tree)
            control = ControlDirectory(place, PENDING_FILES)
            kind = MountedTree if tree.lower is None else MountedPatch
            root = self._roots[key] = kind(tree, control, self._mount_context).make_root()
        self._recent[key] = root
        with contextlib.suppress(KeyError):  # a sealing thread has let it go just now
            self._recent.move_to_end(key)
        if len(self._recent) > _RECENT:
            self._recent.popitem(last=False)
        return root

    def drop(self, tree: PendingTree) -> PendingDirectory | None:
        """Lets the root of a tree go that is pending no more; a younger one of the same id stays."""
        key = tree.collection, tree.name
        root = self._roots.get(key)
        if root is None or root.mounted.tree is not tree:
            return None
        self._recent.pop(key, None)
        return self._roots.pop(key, None)

    def set_base(self, tree: PendingTree, ref: str, request: Request, *, link: bool = False) -> None:
        """Makes a pending version a patch, or a link, and has the kernel forget how it looked. Blocking."""
        old = tree.current()
        root = self._roots.get((old.collection, old.name))
        collection = self.volume.catalog.collection(tree.collection)
        try:
            change = self.volume.set_link if link else self.volume.set_base
            change(collection, old, ref, request, number=None if root is None else root.ino)
        finally:
            if old.successor is not None and root is not None:
                self._forget_below(old, absent=[(root.ino, name) for name in list(root.mounted.absent)])

    def refer(
        self, tree: PendingTree, way: Sequence[bytes], found: FoundObject, caller: Caller, run: bytes
    ) -> list[tuple[int, bytes]]:
        """Makes a reference in a pending tree; returns directories and names that the kernel is to forget."""
        return [(at.ino, name) for at, name in refer(self.pending(tree), way, found, caller, run)]

    def discarded(self, tree: PendingTree) -> None:
        """A pending version was discarded: its name is free, and what is open has no links any more."""
        root = self.drop(tree)
        self._forget_pending(tree, root)
        self._forget_below(tree)
        try:
            self.volume.catalog.collection(tree.collection)
        except CollectionNotFound:  # it was made for this one
            self.forget_names(tree, [(ROOT_INO, tree.collection.encode())])
        tree.release()

    def _forget_pending(self, tree: PendingTree, root: PendingDirectory | None) -> None:
        """Makes the kernel forget a name in `pending`; what was done stands if it doesn't.

        It keeps the control file that is written to just now, by its name and so with all above it, until
        memory runs short (fs/dcache.c, retain_dentry): hence these names one by one.
        """
        entries = [(self.pending_ino(tree.collection), tree.name)]
        if root is not None:
            control = root.mounted.control
            entries += [(control.ino, name) for name in control.names()]
            entries.append((root.ino, CONTROL))
        self.forget_names(tree, entries)

    def _forget_below(self, tree: PendingTree, absent: Sequence[tuple[int, bytes]] = ()) -> None:
        """Makes the kernel look everything up again that it knows of a tree, and its attributes.

        It also knows that the ``absent`` are not there.

        A name takes all below it along, but for what is open or somebody sits in; so there are two rounds,
        and the second finds only that.
        """
        inodes = tree.inodes
        with self._kernel_may_keep(tree.label):
            names = inodes.names(depth=1)
            self._forget(tree, names)
            known = len(inodes)
            while names:
                time.sleep(_FORGETTING)
                if len(inodes) == known:
                    break
                known = len(inodes)
            self._forget(tree, inodes.names())
            for number in inodes.numbers():
                self.kernel.forget_pages(number, _PATIENCE, tree.owner)
            self._forget(tree, absent)

    def forget_names(self, tree: PendingTree, names: Iterable[tuple[int, bytes]]) -> None:
        """Makes the kernel look names up again, each in a directory; what was done stands if it doesn't."""
        with self._kernel_may_keep(tree.label):
            self._forget(tree, names)

    def _forget(self, tree: PendingTree, names: Iterable[tuple[int, bytes]]) -> None:
        for directory, name in names:
            self.kernel.forget_entry(directory, name, _PATIENCE, tree.owner)

    @contextlib.contextmanager
    def _kernel_may_keep(self, label: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:  # a timeout is one, too
            log.warning("%s: the kernel keeps what it knows: %r", label, error)

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
            self.kernel.forget_pages(node.ino, _PATIENCE, node.mounted.tree.owner)

    def publish(self, tree: PendingTree, record: VersionRecord) -> None:
        root = self.drop(tree)
        if root is not None:
            with contextlib.suppress(
                ArtfsError, OSError
            ):  # the collection can't be read: its nodes then fail
                collection = self.volume.catalog.collection(tree.collection)
                root.mounted.become(self.sealed(collection, lightened(record)))
        if root is not None and tree.merged:
            # Who sits in the tree has names and bytes of it that the version has not.
            self._forget_below(tree)
        self._forget_pending(tree, root)
        tree.release()

    # -- sealed versions

    def sealed(self, collection: Collection, record: VersionRecord) -> SealedTree:
        """Returns the tree of a version; the last ones that were asked for are kept."""
        label = f"{collection.name}:{record.version}"
        other = self._labels.setdefault(record.serial, label)
        if other != label:
            # Numbers of nodes are made of it: bytes of one version would be read as the other's.
            raise Damaged(label, f"it has the serial number of {other}, {record.serial}")
        tree = self._known_sealed(record.serial)
        if tree is None:
            place = VersionSubject(self, collection, record, lambda: directory_of(collection))
            control = ControlDirectory(place, VERSION_FILES)
            tree = self._trees[record.serial] = SealedTree(
                collection.name, record, self.volume.store, self.volume.references, control, self._kept
            )
            self._keep(tree)
        return tree

    def _keep(self, tree: SealedTree) -> None:
        kept, most = (self._deleted, _KEPT_DELETED) if tree.deleted else (self._sealed, _KEPT_VERSIONS)
        kept[tree.record.serial] = tree
        if len(kept) > most:
            with contextlib.suppress(KeyError):  # another thread has let the last one go just now
                kept.popitem(last=False)

    def _known_sealed(self, serial: int) -> SealedTree | None:
        tree = self._trees.get(serial)
        if tree is not None and not tree.deleted:
            self._keep(tree)
            with contextlib.suppress(KeyError):  # a sealing thread has let it go just now
                self._sealed.move_to_end(serial)
        return tree

    def forget_sealed(self, collection: Collection, record: VersionRecord) -> None:
        """A version was deleted: what is open of it goes on, and its directories are empty."""
        try:
            tree = self.sealed(collection, record)
        except Damaged:
            return  # it was never shown
        tree.deleted = True
        self._keep(tree)
        self._sealed.pop(record.serial, None)
        self._labels.pop(record.serial, None)
        known, former_pending = tree.known(), [mounted.tree for mounted in tree.former_pending]
        numbers = [node.ino for node in known]
        numbers += [number for pending in former_pending for number in pending.inodes.numbers()]
        with self._kernel_may_keep(tree.label):
            for number in numbers:
                self.kernel.forget_attributes(number, _PATIENCE, 0)
        # The names only when rmdir(2) is answered: until then the kernel has the directories locked.
        below = [(node.parent.ino, node.entry.name) for node in known if node.parent is not None]
        with contextlib.suppress(RuntimeError):  # no thread can be had
            threading.Thread(target=self._forget_deleted, args=(tree.label, below, former_pending)).start()

    def _forget_deleted(
        self, label: str, names: list[tuple[int, bytes]], former_pending: list[PendingTree]
    ) -> None:
        with self._kernel_may_keep(label):
            for directory, name in names:
                self.kernel.forget_entry(directory, name, _PATIENCE, 0)
        for tree in former_pending:
            self._forget_below(tree)

    def sealed_node(self, ino: int) -> Node:
        """Finds a sealed node by its inode number.

        Raises ESTALE for a file of a deleted version that nobody has open.
        """
        assert ino & SEALED
        known = self._kept.get(ino)
        if known is not None:
            return known
        serial = serial_of(ino)
        tree = self._known_sealed(serial)
        if tree is None:
            found = self.volume.record_of_serial(serial)
            if found is None:
                raise OSError(errno.ESTALE, "the version was deleted")
            tree = self.sealed(*found)
        return tree.at(ino)
