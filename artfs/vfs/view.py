"""A volume as one mount shows it: which nodes there are, and what the kernel must forget when they change.

Owns the objects that exist once for a mount: the roots of pending trees, the trees of versions. For the event
loop's thread; threads that run commands call `set_base`, `discarded`, `flush`, `publish`, `forget_names` and
`forget_sealed`.
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
from weakref import WeakValueDictionary

from artfs.catalog.collection import Collection
from artfs.catalog.records import VersionRecord, lightened
from artfs.errors import ArtfsError, CollectionNotFound, Damaged, DraftNotFoundError
from artfs.model.names import CONTROL
from artfs.pending.gate import WritableHandle
from artfs.pending.pending_tree import PendingTree
from artfs.seal.seal import Observer, Request
from artfs.vfs.control.control_nodes import ControlDirectory
from artfs.vfs.control.file_registry import PENDING_FILES, VERSION_FILES
from artfs.vfs.control.subject import PendingSubject, VersionSubject
from artfs.vfs.mounted_patch import MountedPatch
from artfs.vfs.mounted_tree import MountContext, MountedTree
from artfs.vfs.node import ROOT_INO, SEALED, Node, virtual
from artfs.vfs.pending_directory import PendingDirectory
from artfs.vfs.pending_handle import PendingHandle
from artfs.vfs.sealed import NodeCache, SealedTree, serial_of
from artfs.volume.volume import Volume

log = logging.getLogger(__name__)

_KEPT_VERSIONS = 256
_KEPT_DELETED = 4096  # deleted versions, for processes with a working directory in one
_RECENT = 64  # roots of pending trees that are kept after the kernel has forgotten them
_FORGETTING = 0.05  # seconds for the kernel to report what it has forgotten; missing some does no harm
_PATIENCE = 30.0  # seconds that the kernel may take to write dirty pages back


class Kernel:
    """The caches of a kernel; this one has none. Calls return when it is done; sealing threads make them.

    The owner of a tree is passed so that a kernel that waits for one user's files does not block other users.
    Raises OSError, of which a timeout is one.
    """

    def forget_entry(self, parent: int, name: bytes, timeout: float, owner: int) -> None:
        """The name now leads to something else, or to nothing."""

    def forget_pages(self, ino: int, timeout: float, owner: int) -> None:
        """Writes back the dirty pages of a file, and drops all its pages."""

    def forget_attributes(self, ino: int, timeout: float, owner: int) -> None:
        """The attributes of a file have changed."""


class View(Observer):
    """What a mount of `volume` shows. Becomes the volume's observer."""

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
        """`supervised` tells whether a daemon that dies is replaced; `restarts` is how many were."""
        self.volume, self.kernel = volume, kernel or Kernel()
        self.read_only, self.write_cache = read_only, write_cache
        self.started = time.time()
        self.supervised, self.restarts = supervised, restarts
        self.stopping = False  # set when the mount ends: then all that wait give up
        self.as_root = os.geteuid() == 0
        self._mount_context = MountContext(self.pending, volume.references, self.as_root, write_cache)
        # Weak: once the kernel has forgotten a root, the descriptors of its tree are closed.
        self._roots: WeakValueDictionary[tuple[str, bytes], PendingDirectory] = WeakValueDictionary()
        # OrderedDicts, not LRUCaches: several threads use them without a lock.
        self._recent: OrderedDict[tuple[str, bytes], PendingDirectory] = OrderedDict()
        # Weak, too; one tree for each version, since it records that the version was deleted.
        self._trees: WeakValueDictionary[int, SealedTree] = WeakValueDictionary()
        self._sealed: OrderedDict[int, SealedTree] = OrderedDict()
        self._deleted: OrderedDict[int, SealedTree] = OrderedDict()
        self._labels: dict[int, str] = {}  # of all versions that were ever shown, by serial
        self._kept = NodeCache()
        volume.observer = self

    def stop(self) -> None:
        """Makes all that wait give up, before the mount ends."""
        self.stopping = True

    # -- pending trees

    def pending(self, tree: PendingTree) -> PendingDirectory:
        """Returns the root of a pending tree. Raises :class:`DraftNotFoundError` if the tree has ended."""
        key = tree.collection, tree.name
        root = self._roots.get(key)
        if root is None or root.mounted.tree is not tree:
            if tree.ended:
                raise DraftNotFoundError(tree.collection, tree.name)
            collection = self.volume.catalog.collection(tree.collection)
            control = ControlDirectory(PendingSubject(self, collection, tree), PENDING_FILES)
            kind = MountedTree if tree.lower is None else MountedPatch
            root = self._roots[key] = kind(tree, control, self._mount_context).make_root()
        self._recent[key] = root
        with contextlib.suppress(KeyError):  # a sealing thread has removed it just now
            self._recent.move_to_end(key)
        if len(self._recent) > _RECENT:
            self._recent.popitem(last=False)
        return root

    def drop(self, tree: PendingTree) -> PendingDirectory | None:
        """Removes the root of a tree that has ended; that of a younger tree of the same id stays."""
        key = tree.collection, tree.name
        root = self._roots.get(key)
        if root is None or root.mounted.tree is not tree:
            return None
        self._recent.pop(key, None)
        return self._roots.pop(key, None)

    def set_base(self, tree: PendingTree, ref: str, request: Request, *, link: bool = False) -> None:
        """Makes a pending version a patch or a link, and the kernel forget the former tree. Blocking."""
        old = tree.current()
        root = self._roots.get((old.collection, old.name))
        collection = self.volume.catalog.collection(tree.collection)
        try:
            change = self.volume.set_link if link else self.volume.set_base
            change(collection, old, ref, request, number=None if root is None else root.ino)
        finally:
            if old.successor is not None and root is not None:
                self._forget_below(old, absent=[(root.ino, name) for name in list(root.mounted.absent)])

    def discarded(self, tree: PendingTree) -> None:
        """A pending version was discarded: its name is free, and open files have no links any more."""
        root = self.drop(tree)
        self._forget_pending(tree, root)
        self._forget_below(tree)
        try:
            self.volume.catalog.collection(tree.collection)
        except CollectionNotFound:  # it was made for this version, and has gone with it
            self.forget_names(tree, [(ROOT_INO, tree.collection.encode())])
        tree.release()

    def _forget_pending(self, tree: PendingTree, root: PendingDirectory | None) -> None:
        """Makes the kernel forget a name in `pending`, if it can.

        It keeps the control file that is being written, and so the directories above it, until memory is
        short (fs/dcache.c, retain_dentry): hence these names one by one.
        """
        entries = [(self.pending_ino(tree.collection), tree.name)]
        if root is not None:
            control = root.mounted.control
            entries += [(control.ino, name) for name in control.names()]
            entries.append((root.ino, CONTROL))
        self.forget_names(tree, entries)

    def _forget_below(self, tree: PendingTree, absent: Sequence[tuple[int, bytes]] = ()) -> None:
        """Makes the kernel forget the names and attributes of a tree, and that the names `absent` are absent.

        Forgetting a name forgets all below it, except for open files and working directories. So there are
        two rounds, and the second finds only those.
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
        """Makes the kernel forget names, each in a directory, if it can."""
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
            log.warning("%s: the kernel goes on showing what it has cached: %r", label, error)

    @staticmethod
    def pending_ino(collection: str) -> int:
        return virtual(b"pending", collection.encode())

    # -- called by a seal

    def flush(self, handles: list[WritableHandle]) -> None:
        nodes = {handle.node for handle in handles if isinstance(handle, PendingHandle)}
        for node in nodes:
            # Before the pages are dropped: from here on no write(2) can dirty one, as it could in a write
            # cache.
            node.fenced = self.write_cache
        for node in nodes:
            self.kernel.forget_pages(node.ino, _PATIENCE, node.mounted.tree.owner)

    def publish(self, tree: PendingTree, record: VersionRecord) -> None:
        root = self.drop(tree)
        if root is not None:
            # If the collection can't be read, its nodes fail.
            with contextlib.suppress(ArtfsError, OSError):
                collection = self.volume.catalog.collection(tree.collection)
                root.mounted.become(self.sealed(collection, lightened(record)))
        if root is not None and tree.merged:
            # Processes with a working directory in the tree have names and bytes that the version has not.
            self._forget_below(tree)
        self._forget_pending(tree, root)
        tree.release()

    # -- sealed versions

    def sealed(self, collection: Collection, record: VersionRecord) -> SealedTree:
        """Returns the tree of a version; those used last are kept."""
        label = f"{collection.name}:{record.version}"
        other = self._labels.setdefault(record.serial, label)
        if other != label:
            # Inode numbers are made of it: bytes of one version would be read as the other's.
            raise Damaged(label, f"it has the same serial number as {other}, {record.serial}")
        tree = self._known_sealed(record.serial)
        if tree is None:
            control = ControlDirectory(VersionSubject(self, collection, record), VERSION_FILES)
            tree = self._trees[record.serial] = SealedTree(
                collection.name, record, self.volume.store, self.volume.references, control, self._kept
            )
            self._keep(tree)
        return tree

    def _keep(self, tree: SealedTree) -> None:
        kept, most = (self._deleted, _KEPT_DELETED) if tree.deleted else (self._sealed, _KEPT_VERSIONS)
        kept[tree.record.serial] = tree
        if len(kept) > most:
            with contextlib.suppress(KeyError):  # another thread has removed the last one just now
                kept.popitem(last=False)

    def _known_sealed(self, serial: int) -> SealedTree | None:
        tree = self._trees.get(serial)
        if tree is not None and not tree.deleted:
            self._keep(tree)
            with contextlib.suppress(KeyError):  # a sealing thread has removed it just now
                self._sealed.move_to_end(serial)
        return tree

    def forget_sealed(self, collection: Collection, record: VersionRecord) -> None:
        """A version was deleted: open files go on, and its directories are empty."""
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
        # The names only after the answer to rmdir(2): until then the kernel has the directories locked.
        below = [(node.parent.ino, node.entry.name) for node in known if node.parent is not None]
        with contextlib.suppress(RuntimeError):  # no thread can be started
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
        """Finds a sealed node by its inode number. Raises ESTALE for a closed file of a deleted version."""
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
