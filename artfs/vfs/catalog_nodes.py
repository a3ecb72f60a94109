"""The directories above the trees: the volume's root, collections, and `pending` in each.

Aliases and finished ids are symlinks here. The kernel looks their names up each time (an entry timeout of 0),
so that a move by any mount or process shows at once.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from contextlib import AbstractContextManager

from artfs.catalog.collection import Collection
from artfs.errors import (
    AliasNotFound,
    CollectionNotFound,
    DraftNotFoundError,
    InvalidName,
    NotPermitted,
    VersionNotFound,
)
from artfs.linux import syscalls
from artfs.model import names
from artfs.pending.pending_version import PENDING
from artfs.vfs.control.control_nodes import ControlDirectory
from artfs.vfs.control.file_registry import COLLECTION_FILES, VOLUME_FILES
from artfs.vfs.control.subject import CollectionSubject, VolumeSubject
from artfs.vfs.listings import NamesListing
from artfs.vfs.node import (
    FOREVER,
    ROOT_INO,
    AttributeChanges,
    Attributes,
    Caller,
    Handle,
    Listing,
    Node,
    check_no_control,
    virtual,
)
from artfs.vfs.view import View
from artfs.volume.pending_trees import pending_names

_ATTR_SECONDS = 1.0  # of directories that other processes may change without the mount
_LATEST = "latest"


class _Directory(Node):
    """A directory of the volume whose mode, owner and times are those of a backing one."""

    __slots__ = ("ino",)

    # Changes are durable: they wait for the disk.
    blocks = frozenset({"mkdir", "rmdir", "symlink", "unlink", "rename"})

    def backing(self) -> AbstractContextManager[int]:
        """Opens the backing directory for a with block."""
        raise NotImplementedError

    def attributes(self) -> Attributes:
        with self.backing() as fd:
            attributes = Attributes.of(self.ino, os.fstat(fd), attr_timeout=_ATTR_SECONDS)
        attributes.nlink = 1
        attributes.entry_timeout = _ATTR_SECONDS  # by then the name may lead to another directory
        return attributes

    def change_attributes(
        self, changes: AttributeChanges, handle: Handle | None, caller: Caller
    ) -> Attributes:
        with self.backing() as fd:
            if changes.uid is not None or changes.gid is not None:
                uid = -1 if changes.uid is None else changes.uid
                os.fchown(fd, uid, -1 if changes.gid is None else changes.gid)
            if changes.mode is not None:
                os.fchmod(fd, changes.mode & 0o7777)
            if changes.atime_ns is not None or changes.mtime_ns is not None:
                syscalls.futimens(fd, changes.atime_ns, changes.mtime_ns)
        return self.attributes()

    def listing(self, uid: int = 0) -> Listing:
        return NamesListing(self.names, self.listed, uid)

    def names(self) -> list[bytes]:
        """Returns the names that are listed."""
        raise NotImplementedError

    def listed(self, name: bytes) -> Node | None:
        """Returns the node of a listed name; None if it is no longer listed."""
        return self.lookup(name)


class VolumeRoot(_Directory):
    """The root of the mount: collections."""

    __slots__ = ("_collections", "_removed", "control", "view")

    def __init__(self, view: View) -> None:
        self.view, self.ino = view, ROOT_INO
        self._collections: dict[str, CollectionNode] = {}
        self._removed: Counter[str] = Counter()
        self.control = ControlDirectory(VolumeSubject(view, self), VOLUME_FILES)

    def backing(self) -> AbstractContextManager[int]:
        return self.view.volume.layout.directory(b"collections")

    def lookup(self, name: bytes) -> Node | None:
        if name == names.CONTROL:
            return self.control
        try:
            return self.collection(self.view.volume.catalog.collection(name.decode("ascii")))
        except (CollectionNotFound, UnicodeDecodeError):
            return None

    def collection(self, collection: Collection) -> CollectionNode:
        node = self._collections.get(collection.name)
        if node is None or node.collection is not collection:
            # While anything in a removed collection is open, the kernel regards its number as dead
            # (fs/namei.c, vfs_rmdir): a new collection of that name needs another one.
            ino = virtual(b"collection", collection.name.encode(), b"%d" % self._removed[collection.name])
            node = self._collections[collection.name] = CollectionNode(self.view, collection, ino)
        return node

    def names(self) -> list[bytes]:
        return [name.encode() for name in self.view.volume.catalog.names()]

    def refusal(self) -> NotPermitted:
        return NotPermitted("cannot make that here: only collections can be made, with mkdir")

    def mkdir(self, name: bytes, mode: int, caller: Caller) -> Node:
        catalog = self.view.volume.catalog
        text = _text(name, "a collection")
        owner = (caller.uid, caller.gid) if self.view.as_root else (None, None)
        return self.collection(catalog.create(text, mode & 0o7777, *owner))

    def rmdir(self, name: bytes, caller: Caller) -> None:
        check_no_control(name)
        text = _text(name, "a collection")
        self.view.volume.catalog.remove(text)
        self._removed[text] += 1
        self._collections.pop(text, None)


class CollectionNode(_Directory):
    """A collection: `pending`, versions, aliases."""

    __slots__ = ("_pending", "collection", "control", "view")

    def __init__(self, view: View, collection: Collection, ino: int) -> None:
        self.view, self.collection, self.ino = view, collection, ino
        self._pending = PendingList(view, collection)
        self.control = ControlDirectory(CollectionSubject(view, collection, self), COLLECTION_FILES)

    def backing(self) -> AbstractContextManager[int]:
        return self.collection.opened()

    def lookup(self, name: bytes) -> Node | None:
        if name == b"pending":
            return self._pending
        if name == names.CONTROL:
            return self.control
        try:
            text = name.decode()
        except UnicodeDecodeError:
            return None
        number = names.parse_version(text)
        if number is not None:
            try:
                return self._version(number)
            except VersionNotFound:
                return None
        return self._alias(text)

    def _version(self, number: int) -> Node:
        return self.view.sealed(self.collection, self.collection.record(number)).root

    def _alias(self, name: str) -> Node | None:
        try:
            target = self.collection.alias_target(name)
        except (AliasNotFound, VersionNotFound, InvalidName):
            return None
        return SymlinkNode(self, b"alias", self.collection.name, name.encode(), target.encode())

    def names(self) -> list[bytes]:
        versions = map(names.version_name, self.collection.numbers())
        found = [names.PENDING, *versions, *self.collection.alias_names(), _LATEST]
        return [name.encode() for name in found]

    def refusal(self) -> NotPermitted:
        return NotPermitted(
            "cannot make that here: only aliases can be made, with ln -s v0 NAME; files go below pending/ID"
        )

    def symlink(self, name: bytes, target: bytes, caller: Caller) -> Node:
        text = names.check_alias(_text(name, "an alias"))
        if text == _LATEST:
            raise _computed()
        try:
            self.collection.set_alias(
                text, _text(target.removeprefix(b"./"), "a version or alias"), replace=False
            )
        except VersionNotFound:
            raise InvalidName("the target of an alias", target, "it must be a version or alias") from None
        node = self._alias(text)
        assert node is not None
        return node

    def unlink(self, name: bytes, caller: Caller) -> None:
        if name == _LATEST.encode():
            raise _computed()
        self.collection.remove_alias(_text(name, "an alias"))

    def rename(self, name: bytes, target: Node, new_name: bytes, flags: int, caller: Caller) -> None:
        old, new = (_text(n, "an alias") for n in (name, new_name))
        ours = target is self or (isinstance(target, CollectionNode) and target.ino == self.ino)
        if not ours or _LATEST in (old, new) or self._alias(old) is None:
            raise NotPermitted("cannot rename that: only aliases can be renamed, within their collection")
        if flags & syscalls.RENAME_EXCHANGE:
            raise NotPermitted("cannot exchange aliases: move one after the other")
        names.check_alias(new)
        self.collection.rename_alias(old, new, replace=not flags & syscalls.RENAME_NOREPLACE)

    def rmdir(self, name: bytes, caller: Caller) -> None:
        check_no_control(name)
        number = names.parse_version(_text(name, "a version"))
        if number is None:
            raise NotPermitted("cannot remove 'pending': it goes with its collection")
        record = self.collection.record(number)
        self.collection.delete_version(number)
        self.view.volume.trees.reopen_undecided(self.collection)
        self.view.forget_sealed(self.collection, record)


class PendingList(_Directory):
    """The directory `pending`: pending versions, and, unlisted, a symlink for each finished id."""

    __slots__ = ("collection", "view")

    def __init__(self, view: View, collection: Collection) -> None:
        self.view, self.collection = view, collection
        self.ino = view.pending_ino(collection.name)

    def backing(self) -> AbstractContextManager[int]:
        return self.collection.opened(PENDING)

    def lookup(self, name: bytes) -> Node | None:
        if name.startswith(b"."):
            return None
        try:
            return self.view.pending(self.view.volume.trees.get(self.collection.name, name))
        except DraftNotFoundError:
            pass
        if len(name) > names.MAX_NAME:
            return None
        finished = self.collection.finished(name)
        if finished is None:
            return None
        target = b"../" + names.version_name(finished).encode()
        return SymlinkNode(self, b"finished", self.collection.name, name, target)

    def names(self) -> list[bytes]:
        return pending_names(self.collection)

    def listed(self, name: bytes) -> Node | None:
        node = self.lookup(name)
        return None if isinstance(node, SymlinkNode) else node  # a symlink: it was finished meanwhile

    def refusal(self) -> NotPermitted:
        return NotPermitted("cannot make that here: only pending versions can be made, with mkdir")

    def mkdir(self, name: bytes, mode: int, caller: Caller) -> Node:
        uid, gid = (caller.uid, caller.gid) if self.view.as_root else (None, None)
        tree = self.view.volume.start(self.collection, name, mode=mode & 0o7777, uid=uid, gid=gid)
        return self.view.pending(tree)

    def rmdir(self, name: bytes, caller: Caller) -> None:
        tree = self.view.volume.trees.get(self.collection.name, name)
        self.view.volume.discard(self.collection, tree, only_empty=True)
        self.view.drop(tree)
        tree.release()


class SymlinkNode(Node):
    """An alias or a finished id."""

    __slots__ = ("_target", "directory", "ino")

    def __init__(
        self, directory: _Directory, kind: bytes, collection: str, name: bytes, target: bytes
    ) -> None:
        self.directory, self._target = directory, target
        # The target is part of the key: the kernel may have the old link open while the alias moves.
        self.ino = virtual(kind, collection.encode(), name, target)

    def attributes(self) -> Attributes:
        above = self.directory.attributes()
        return Attributes(
            self.ino,
            stat.S_IFLNK | 0o777,
            uid=above.uid,
            gid=above.gid,
            size=len(self._target),
            mtime_ns=above.mtime_ns,
            ctime_ns=above.ctime_ns,
            atime_ns=above.mtime_ns,
            entry_timeout=0,
            attr_timeout=FOREVER,
        )

    def target(self) -> bytes:
        return self._target


def _computed() -> NotPermitted:
    return NotPermitted("cannot set or remove 'latest': it is always the newest version")


def _text(name: bytes, what: str) -> str:
    try:
        return name.decode()
    except UnicodeDecodeError:
        raise InvalidName(what, name, "it is valid UTF-8") from None
