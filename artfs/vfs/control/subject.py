"""What a control directory belongs to: the volume, a collection, a pending version or a version.

A subject knows whose permissions count, and why the last command was refused. Worker threads.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, cast

from artfs.linux.procfs import is_signalled
from artfs.model.entry import DirEntry
from artfs.model.names import LATEST
from artfs.seal.patch_base import Admission
from artfs.seal.seal import Request
from artfs.vfs.control.snapshot import Content, Snapshot
from artfs.vfs.node import Attributes, Caller, Node
from artfs.vfs.permissions import CHANGE, LIST, PASS, granted

if TYPE_CHECKING:
    from artfs.catalog.collection import Collection
    from artfs.catalog.records import VersionRecord
    from artfs.pending.pending_tree import PendingTree
    from artfs.vfs.view import View


CLOSED_TO_SOME = "cannot read it: it lists every name, and you may not list every directory"


class Subject:
    """One directory that has a `.artfs`."""

    kind: ClassVar[str]

    def __init__(self, view: View, *key: bytes) -> None:
        self.view, self.key = view, (self.kind.encode(), *key)
        self.refused: str | None = None  # why the last command was refused; None if it was accepted

    def snapshot(self, content: Content, reader: Caller) -> Snapshot:
        """Holds what a reader is given until the handle is closed. Raises OSError (ENOMEM)."""
        return Snapshot(content, f"/proc/self/fd/{self.view.volume.layout.fd}/trash", reader.uid)

    def owner(self) -> Attributes:
        """Returns the attributes of the directory; users who may write there may use commands."""
        raise NotImplementedError

    def granting(self, *, writable: bool) -> Attributes:
        """Returns the attributes that decide who may use a control file; `writable` if it takes commands."""
        return self.owner()


class VolumeSubject(Subject):
    kind = "volume"

    def __init__(self, view: View, root: Node) -> None:
        super().__init__(view)
        self._root = root

    def owner(self) -> Attributes:
        return self._root.attributes()


class CollectionSubject(Subject):
    kind = "collection"

    def __init__(self, view: View, collection: Collection, node: Node) -> None:
        super().__init__(view, collection.name.encode())
        self.collection, self._node = collection, node

    def owner(self) -> Attributes:
        return self._node.attributes()


class PendingSubject(Subject):
    kind = "pending"

    def __init__(self, view: View, collection: Collection, tree: PendingTree) -> None:
        super().__init__(view, collection.name.encode(), tree.name)
        self.collection, self._tree = collection, tree

    @property
    def tree(self) -> PendingTree:
        """The tree that shows the pending version now."""
        return self._tree.current()

    def owner(self) -> Attributes:
        tree = self.tree
        root = tree.inodes.root or self.view.pending(tree)
        return cast("Node", root).attributes()

    def granting(self, *, writable: bool) -> Attributes:
        """The owner may use all of them, as an owner may always change the mode.

        Otherwise a tree whose root got the mode of a read-only directory could not be finished.
        """
        root = self.owner()
        root.mode |= stat.S_IRWXU
        return root


class VersionSubject(Subject):
    kind = "version"

    def __init__(self, view: View, collection: Collection, record: VersionRecord) -> None:
        super().__init__(view, collection.name.encode(), record.version.encode())
        self.collection, self.record = collection, record

    def owner(self) -> Attributes:
        root = self.record.root.entry()
        return Attributes(0, stat.S_IFDIR | root.mode, uid=root.uid, gid=root.gid, mtime_ns=root.mtime_ns)

    def granting(self, *, writable: bool) -> Attributes:
        """What can be changed about a version belongs to the collection, as its aliases do.

        Hence the owner and group of the collection count; others may read what the version grants others.
        """
        if not writable:
            return self.owner()
        above, root = directory_of(self.collection), self.record.root.entry()
        others = root.mode & 0o4
        above.mode = above.mode & ~0o044 | others << 3 | others
        return above


def check_may(caller: Caller, directory: Attributes, bits: int, why: str) -> None:
    """Raises PermissionError unless the mode of a directory grants a caller all of `bits`."""
    if not granted(directory.mode, directory, caller, bits):
        raise PermissionError(errno.EACCES, why)


def request_of(subject: Subject, caller: Caller, **given: Any) -> Request:
    """Returns a request that the caller can interrupt, and that may use what the caller may."""
    return Request(
        **given,
        interrupted=lambda: subject.view.stopping or is_signalled(caller.pid),
        admit=CallerAdmission(caller),
    )


class CallerAdmission(Admission):
    """Admits a caller to a version if they may pass the collection, and pass and list the version's root."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    def enter(self, collection: Collection) -> None:
        check_may(
            self._caller,
            directory_of(collection),
            PASS,
            f"cannot use '{collection.name}': you may not enter its directory",
        )

    def see(self, collection: Collection, record: VersionRecord) -> None:
        self.enter(collection)
        root = record.root.entry()
        owner = Attributes(0, root.mode, uid=root.uid, gid=root.gid)
        check_may(
            self._caller,
            owner,
            LIST,
            f"cannot use {collection.name}:{record.version}: you may not list its root",
        )

    def relabel(self, collection: Collection) -> None:
        why = f"cannot change '{collection.name}': you may not write in its directory"
        check_may(self._caller, directory_of(collection), CHANGE, why)


def check_may_name(caller: Caller, collection: Collection, aliases: Sequence[str]) -> None:
    """Raises PermissionError unless a caller may set aliases of a collection, as ``ln -s`` in it does.

    A user who may finish a pending version need not be allowed to.
    """
    if any(alias != LATEST for alias in aliases):
        why = f"cannot set aliases of '{collection.name}': you may not write in its directory"
        check_may(caller, directory_of(collection), CHANGE, why)


def directory_of(collection: Collection) -> Attributes:
    """Returns the attributes of a collection's directory."""
    with collection.opened() as fd:
        return Attributes.of(0, os.fstat(fd))


def sees_all(subject: Subject, reach: int, caller: Caller) -> bool:
    """Tells whether a caller can list every directory of a tree of that reach, and so may see all names."""
    return granted(reach, subject.owner(), caller, LIST)


def can_list(root: DirEntry) -> int:
    """Returns the permission bits for reading a file that lists every name of a version.

    They grant it to users who could list every directory.
    """
    return sum(4 << shift for shift in (6, 3, 0) if (root.reach >> shift) & 5 == 5)
