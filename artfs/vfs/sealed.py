"""Sealed versions: read-only trees whose inode numbers are computed, not remembered.

The inode number of an entry consists of its version's serial and its ordinal, its position in a preorder
walk. Neither ever changes, so the kernel may cache everything for good, and a node that it asks for again
after years is found by going down from the root. Only a bounded number of nodes is kept in memory.
"""

from __future__ import annotations

import copy
import errno
import logging
from collections import OrderedDict
from collections.abc import Iterator
from typing import TYPE_CHECKING
from weakref import WeakSet, WeakValueDictionary

from artfs.catalog.records import VersionRecord
from artfs.errors import Damaged, ReadOnly
from artfs.model import digest, names, refusals
from artfs.model.entry import DirEntry, Entry, FileEntry, ReferenceEntry, SymlinkEntry, mode_and_size
from artfs.printing import printable
from artfs.store.documents import nanoseconds
from artfs.store.objects import ObjectStore
from artfs.vfs.blob_handles import SealedHandle
from artfs.vfs.node import (
    FOREVER,
    SEALED,
    Attributes,
    Caller,
    Handle,
    Listed,
    Listing,
    Node,
    NoSuchAttribute,
    check_no_control,
    writes,
)
from artfs.vfs.reference_handle import ReferenceHandle
from artfs.vfs.xattrs import DIGEST, ERROR, is_reserved_xattr, of_reference, reserved_xattr
from artfs.volume.volume_references import References

if TYPE_CHECKING:
    from artfs.vfs.mounted_tree import MountedTree

log = logging.getLogger(__name__)

_ORDINAL_BITS = 36
_DIRECTORY = 1 << _ORDINAL_BITS - 1  # set in the numbers of directories
_ORDINALS = _DIRECTORY - 1
_KEPT_NODES = 50_000

_VERSION = b"user.artfs.version"


def serial_of(ino: int) -> int:
    """Returns the version's serial in a sealed node's inode number."""
    return (ino & ~SEALED) >> _ORDINAL_BITS


def ordinal_of(ino: int) -> int:
    """Returns the entry's ordinal in a sealed node's inode number."""
    return ino & _ORDINALS


def is_directory(ino: int) -> bool:
    """Tells whether a sealed node's inode number is that of a directory."""
    return bool(ino & _DIRECTORY)


class NodeCache:
    """The nodes of all versions that were found last or are open, by inode number. Event loop's thread."""

    def __init__(self, limit: int = _KEPT_NODES) -> None:
        self._limit = limit
        # Not a FIFOCache: each request reads it, without a lock.
        self._nodes: OrderedDict[int, SealedNode] = OrderedDict()
        #: With this there is one node for a number as long as it is open.
        self._open: WeakValueDictionary[int, SealedNode] = WeakValueDictionary()

    def __len__(self) -> int:
        return len(self._nodes)

    def get(self, ino: int) -> SealedNode | None:
        return self._nodes.get(ino) or self._open.get(ino)

    def opened(self, node: SealedNode) -> None:
        """Records that a node is open; its handle holds it."""
        self._open[node.ino] = node

    def in_use(self) -> list[SealedNode]:
        # Copies: other threads add and remove nodes meanwhile.
        opened = (known() for known in self._open.valuerefs())
        directories = (node for node in list(self._nodes.values()) if is_directory(node.ino))
        return [*(node for node in opened if node is not None), *directories]

    def keep(self, node: SealedNode) -> SealedNode:
        self._nodes[node.ino] = node
        if len(self._nodes) > self._limit:
            self._nodes.popitem(last=False)
        return node


class SealedTree:
    """One version's tree."""

    def __init__(
        self,
        collection: str,
        record: VersionRecord,
        store: ObjectStore,
        references: References,
        control: Node,
        kept: NodeCache,
    ) -> None:
        self.collection, self.record, self.store, self.control = collection, record, store, control
        self.references = references
        self.kept = kept
        self.label = f"{collection}:{record.version}"
        self.deleted = False
        self.former_pending: WeakSet[MountedTree] = WeakSet()  # pending trees that became this version
        root = record.root.entry()
        if root.entries > _ORDINALS:
            raise Damaged(self.label, f"its record claims {root.entries} entries")
        self.root = SealedNode(self, 0, root, None, self.number(0, root))
        self._created_ns = nanoseconds(record.created_at)

    def number(self, ordinal: int, entry: Entry) -> int:
        """Returns the inode number of an entry."""
        kind = _DIRECTORY if isinstance(entry, DirEntry) else 0
        return SEALED | self.record.serial << _ORDINAL_BITS | kind | ordinal

    def known(self) -> list[SealedNode]:
        """Lists the nodes that may be open or a working directory. Any thread."""
        return [node for node in self.kept.in_use() if node.tree is self]

    def node(self, ordinal: int, entry: Entry, parent: SealedNode) -> SealedNode:
        ino = self.number(ordinal, entry)
        return self.kept.get(ino) or self.kept.keep(SealedNode(self, ordinal, entry, parent, ino))

    def at(self, ino: int) -> SealedNode:
        """Finds the entry of an inode number, going down from the root. Raises ESTALE if there is none."""
        ordinal, node = ordinal_of(ino), self.root
        if ordinal > self.record.root.entries:
            raise OSError(errno.ESTALE, "no such entry in the version")
        if self.deleted:
            if not is_directory(ino):
                raise OSError(errno.ESTALE, "the version was deleted")
            # Its pages may be gone, and it shows as an empty directory.
            return SealedNode(self, ordinal, node.entry, node, ino)
        while node.ordinal != ordinal:
            if not isinstance(node.entry, DirEntry):
                raise OSError(errno.ESTALE, "no such entry in the version")
            self.store.reader.check_count(node.entry)
            offset, entry = self.store.reader.at(node.entry.tree, ordinal - node.ordinal)
            node = self.node(node.ordinal + offset, entry, node)
        if node.ino != ino:
            raise OSError(errno.ESTALE, "no such entry in the version")
        return node


class SealedNode(Node):
    """One entry of a sealed version."""

    __slots__ = (
        "__weakref__", "_blocks", "damage", "entry", "handles", "ino", "ordinal", "parent", "tree",
    )  # fmt: skip

    def __init__(
        self, tree: SealedTree, ordinal: int, entry: Entry, parent: SealedNode | None, ino: int
    ) -> None:
        self.tree, self.ordinal, self.entry, self.parent, self.ino = tree, ordinal, entry, parent, ino
        self.damage: Damaged | None = None  # found when it was read the last time
        self.handles: set[SealedHandle | ReferenceHandle] | None = None  # those that have it open
        self._blocks = -1  # st_blocks, once it is known: the blob may have to be looked at

    def refusal(self) -> ReadOnly:
        return ReadOnly()

    @property
    def absent_timeout(self) -> float:
        return FOREVER

    def path(self) -> bytes:
        """Returns the path within the version, for people."""
        parts = []
        node: SealedNode | None = self
        while node is not None and node.ordinal:
            parts.append(node.entry.name)
            node = node.parent
        return b"/".join(reversed(parts))

    def attributes(self) -> Attributes:
        entry = self.entry
        mode, size = mode_and_size(entry)
        if self._blocks < 0:
            self._blocks = self.tree.store.blocks(entry, size)
        return Attributes(
            self.ino,
            mode,
            nlink=int(not self.tree.deleted),  # 1 of a directory: "not counted", as on btrfs; find(1) knows
            uid=entry.uid,
            gid=entry.gid,
            size=size,
            blocks=self._blocks,
            atime_ns=entry.mtime_ns,
            mtime_ns=entry.mtime_ns,
            ctime_ns=self.tree._created_ns,
        )

    def xattr(self, name: bytes) -> bytes:
        entry = self.entry
        if name == _VERSION:
            return self.tree.record.version.encode()
        if name == DIGEST and isinstance(entry, FileEntry):
            return digest.text(entry.blob).encode()
        if name == DIGEST and isinstance(entry, DirEntry):
            return digest.text(entry.content).encode()
        if name == ERROR and self.damage is not None:
            return refusals.encoded(self.damage).encode()
        if isinstance(entry, ReferenceEntry) and is_reserved_xattr(name):
            return of_reference(entry, name, self.tree.references, self.tree.label)
        if not isinstance(entry, SymlinkEntry):
            for known, value in entry.xattrs:
                if known == name:
                    return value
        raise NoSuchAttribute

    def xattrs(self) -> list[bytes]:
        return [] if isinstance(self.entry, SymlinkEntry) else [name for name, _ in self.entry.xattrs]

    def set_xattr(self, name: bytes, value: bytes) -> None:
        raise self._xattr_refusal(name)

    def remove_xattr(self, name: bytes) -> None:
        raise self._xattr_refusal(name)

    def _xattr_refusal(self, name: bytes) -> Exception:
        return reserved_xattr(name) if name.startswith(b"user.artfs.") else ReadOnly()

    def rmdir(self, name: bytes, caller: Caller) -> None:
        if self.ordinal == 0:
            check_no_control(name)
        raise self.refusal()

    def rename(self, name: bytes, target: Node, new_name: bytes, flags: int, caller: Caller) -> None:
        if self.ordinal == 0:
            check_no_control(name)
        raise self.refusal()

    def open(self, flags: int, caller: Caller) -> Handle:
        if writes(flags):
            raise ReadOnly
        if isinstance(self.entry, ReferenceEntry):
            return ReferenceHandle(self.tree.references, self.entry, self.tree.label, caller, node=self)
        assert isinstance(self.entry, FileEntry)
        known = [handle.fd for handle in self.handles] if self.handles else ()
        try:
            return SealedHandle(
                self, self.tree.store.open_blob(self.entry.blob, self.entry.size, known=known)
            )
        except Damaged as error:
            if self.tree.deleted:
                raise OSError(errno.ESTALE, "the version was deleted, and its bytes collected") from None
            self.record_damage(error)
            raise

    def opened(self, handle: Handle) -> None:
        super().opened(handle)
        self.tree.kept.opened(self)

    def record_damage(self, error: Damaged) -> None:
        """Logs damage, and keeps it for the xattr that says why the file can't be read."""
        self.damage = copy.copy(error)  # without the frames of its traceback
        log.error("%s: %s: %s", self.tree.label, printable(self.path()), error)

    def target(self) -> bytes:
        assert isinstance(self.entry, SymlinkEntry)
        return self.entry.target

    def lookup(self, name: bytes) -> Node | None:
        if not isinstance(self.entry, DirEntry):
            raise NotADirectoryError(errno.ENOTDIR, "not a directory")
        if self.tree.deleted:
            return None
        if names.is_reserved(name):
            return self.tree.control if self.ordinal == 0 and name == names.CONTROL else None
        reader = self.tree.store.reader
        reader.check_count(self.entry)
        found = reader.find(self.entry.tree, name)
        return None if found is None else self.tree.node(self.ordinal + found[0], found[1], self)

    def listing(self, uid: int = 0) -> Listing:
        return _SealedListing(self)


class _SealedListing(Listing):
    """An open directory. Offsets are positions in the tree object, so nothing is held."""

    def __init__(self, node: SealedNode) -> None:
        self._node = node
        node.tree.kept.opened(node)

    def entries(self, offset: int) -> Iterator[Listed]:
        node = self._node
        if node.tree.deleted:
            return
        assert isinstance(node.entry, DirEntry)
        reader = node.tree.store.reader
        reader.check_count(node.entry)
        for at, entry in reader.entries(node.entry.tree, offset):
            child = node.tree.node(node.ordinal + at, entry, node)
            yield Listed(entry.name, child, child.attributes(), at + 1)
