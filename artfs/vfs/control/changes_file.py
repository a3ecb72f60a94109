"""`changes` of a pending version, and `diff` of a version: what differs, one line of JSON for each entry."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator

from artfs.catalog.collection import Collection
from artfs.catalog.records import VersionRecord
from artfs.errors import InvalidCommand, NotFound
from artfs.model import names
from artfs.model.diff import Change
from artfs.vfs.control.control_file import ControlFile, line
from artfs.vfs.control.control_nodes import ControlNode, directory_attributes
from artfs.vfs.control.subject import (
    CLOSED_TO_SOME,
    PendingSubject,
    VersionSubject,
    can_list,
    check_may,
    directory_of,
    sees_all,
)
from artfs.vfs.listings import NamesListing
from artfs.vfs.node import Attributes, Caller, Listing, Node, virtual
from artfs.vfs.permissions import READ


def _lines(changes: Iterable[Change]) -> Iterator[str]:
    return (line(change.json()) for change in changes)


class ChangesFile(ControlFile[PendingSubject]):
    """What was changed since the base. For users who can list every directory, since it lists every name."""

    name, computes = "changes", True

    def read_for(self, subject: PendingSubject, caller: Caller) -> Iterator[str]:
        changes, reach = subject.view.volume.changes(subject.tree)
        if not sees_all(subject, reach, caller):
            raise PermissionError(errno.EACCES, CLOSED_TO_SOME)
        return _lines(changes)


class DiffFile(ControlFile[VersionSubject]):
    """`diff/V`: the changes from this version to another."""

    name = "diff"

    def node(self, subject: VersionSubject) -> Node:
        return _DiffDirectory(subject)


class _DifferenceFile(ControlFile[VersionSubject]):
    """The changes from a version to another."""

    name, computes = "", True

    def __init__(self, collection: Collection, other: VersionRecord) -> None:
        self._collection, self._other = collection, other

    def read(self, subject: VersionSubject) -> Iterator[str]:
        return _lines(subject.view.volume.diff(subject.record, self._other))

    def readable(self, subject: VersionSubject) -> int:
        one, other = subject.record.root.entry(), self._other.root.entry()
        mask, owners = can_list(one) & can_list(other), {(one.uid, one.gid), (other.uid, other.gid)}
        if self._collection.name != subject.collection.name:
            # A reader has passed the directory of this version's collection, but not that of the other's.
            above = directory_of(self._collection)
            mask &= _reading(above.mode)
            owners.add((above.uid, above.gid))
        return _of_one(mask, owners)


class _ClosedFile(ControlFile[VersionSubject]):
    """The changes to a version of a collection that some users may not enter, looked up at a read.

    A lookup is answered for all users at once, so the name exists whether there is such a version or not.
    """

    name, computes = "", True

    def __init__(self, collection: Collection, ref: str) -> None:
        self._collection, self._ref = collection, ref

    def read_for(self, subject: VersionSubject, caller: Caller) -> Iterator[str]:
        difference = _DifferenceFile(*subject.view.volume.look_up(subject.collection, self._ref))
        owner = subject.owner()
        owner.mode = difference.readable(subject)
        check_may(caller, owner, READ, CLOSED_TO_SOME)
        return difference.read(subject)

    def readable(self, subject: VersionSubject) -> int:
        one, above = subject.record.root.entry(), directory_of(self._collection)
        return _of_one(can_list(one) & _reading(above.mode), {(one.uid, one.gid), (above.uid, above.gid)})


def _reading(passing: int) -> int:
    """Returns the bits that let the classes of users read who may pass a directory of that mode."""
    return (passing & 0o111) << 2


def _of_one(mask: int, owners: set[tuple[int, int]]) -> int:
    """Returns a mask whose classes mean the same users everywhere: all of it only if there is one owner."""
    if len(owners) == 1:
        return mask
    return 0o444 if mask & 0o004 else 0


class _DiffDirectory(Node):
    """The directory `diff`: each version by its number or an alias, also of other collections."""

    __slots__ = ("ino", "subject")

    def __init__(self, subject: VersionSubject) -> None:
        self.subject, self.ino = subject, virtual(b"control", *subject.key, b"diff")

    def attributes(self) -> Attributes:
        return directory_attributes(self.subject, self.ino)

    def lookup(self, name: bytes) -> Node | None:
        try:
            ref = name.decode()
            other = names.split_reference(ref)[0]
            if other and other != self.subject.collection.name:
                collection = self.subject.view.volume.catalog.collection(other)
                if directory_of(collection).mode & 0o111 != 0o111:
                    ino = virtual(b"control", *self.subject.key, b"diff", b"closed", name)
                    return ControlNode(self.subject, _ClosedFile(collection, ref), ino)
            return self._node(*self.subject.view.volume.look_up(self.subject.collection, ref))
        except (NotFound, InvalidCommand, UnicodeDecodeError):
            return None

    def _node(self, collection: Collection, other: VersionRecord) -> Node:
        # Keyed by the version, since an alias moves.
        ino = virtual(b"control", *self.subject.key, b"diff", b"%d" % other.serial)
        return ControlNode(self.subject, _DifferenceFile(collection, other), ino)

    def listing(self, uid: int = 0) -> Listing:
        return NamesListing(self._names, self.lookup, uid, blocks=True)

    def _names(self) -> list[bytes]:
        return [names.version_name(number).encode() for number in self.subject.collection.numbers()]
