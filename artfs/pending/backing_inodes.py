"""Where something of a pending tree stands, and how to reach it without a path.

A place is a directory and a name in it; it follows renames, and what lost its last known name is held by a
descriptor instead. A file may have several names: the kernel asks for one that it has seen by the number of
the file alone, so all that were seen are remembered. Everything goes by directory descriptors and O_NOFOLLOW:
no path is ever put together, so no depth is too deep and no symlink leads out of the tree.

Only the thread of the event loop may use places, but for :meth:`Places.retire`. Descriptors that a place
hands out stay open until :meth:`Places.trim`, which is called between two operations.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import OrderedDict, deque
from collections.abc import Iterator
from typing import TypeVar
from weakref import WeakValueDictionary, ref

from artfs.limits import descriptors
from artfs.limits.limit import LimitExceededError
from artfs.pending import deferred_close
from artfs.store import regular_files

_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

OPEN_DIRECTORIES = 512  # descriptors kept for directories of all trees, beyond those of one operation
_LONGEST_PATH = 4096  # PATH_MAX
_KEPT_OF_WAY = 64  # of the directories that one operation passes on its way down
MOST_NUMBERS = 1 << 20  # inodes of one tree whose number is remembered though no place of theirs lives


class BackingInode:
    """One file, directory or link of a pending tree, known by its backing inode number."""

    __slots__ = (
        "__weakref__",
        "_nameless_of",
        "_others",
        "backing_ino",
        "fd",
        "ino",
        "inodes",
        "name",
        "parent",
    )

    ino: int  # the number under which it is shown

    def __init__(
        self, inodes: BackingInodes, parent: BackingInode | None, name: bytes, backing_ino: int
    ) -> None:
        self.inodes, self.parent, self.name = inodes, parent, name
        self.backing_ino = backing_ino  # the backing inode number
        self.fd = -1
        self._nameless_of: int | None = None  # in whose share the descriptor of what has no name counts
        self._others: dict[tuple[BackingInode, bytes], None] | None = None  # more names of the same file

    def directory(self) -> int:
        """Returns an O_PATH descriptor of this directory, good until the next :meth:`Places.trim`."""
        if self.fd >= 0:
            self.inodes.touch(self)
            return self.fd
        chain = []
        inode = self
        while inode.fd < 0:
            chain.append(inode)
            if inode.parent is None:
                raise _stale()
            inode = inode.parent
        self.inodes.touch(inode)
        # Of a long way only some are kept, evenly spread: it must not take all descriptors that there are,
        # and whoever comes up from there level by level must not go all of it each time.
        step = len(chain) // _KEPT_OF_WAY + 1
        fd, passed = inode.fd, -1
        for left in range(len(chain) - 1, -1, -1):
            inode = chain[left]
            try:
                fd = inode._enter(fd)
            finally:
                if passed >= 0:
                    os.close(passed)
            if left % step:
                passed = fd
            else:
                passed, inode.fd = -1, fd
                self.inodes.opened(inode)
        return fd

    def _enter(self, above: int) -> int:
        """Opens this directory from the one above; the caller closes it."""
        try:
            fd = os.open(self.name, _DIRECTORY, dir_fd=above)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                raise _stale() from None
            raise
        if os.fstat(fd).st_ino != self.backing_ino:
            os.close(fd)
            raise _stale()
        return fd

    def close_directory(self) -> None:
        """Closes the descriptor before the next :meth:`Places.trim`; nobody may have it but the caller."""
        if self.fd >= 0 and self.parent is not None:
            self.inodes.closed(self)
            os.close(self.fd)
            self.fd = -1

    def _nameless(self) -> int:
        """Returns the descriptor of the root, or of what has no name any more."""
        if self.fd < 0:
            raise _stale()
        return self.fd

    @property
    def gone(self) -> bool:
        """Tells whether nothing in the tree can lead here any more: the last name was removed.

        What has only lost the names that are known here may have others, so the link count decides.
        """
        if self.parent is not None or self is self.inodes.root:
            return False
        if self.fd < 0:
            return True
        try:
            return os.fstat(self.fd).st_nlink == 0
        except OSError as error:
            # Filesystems in userspace forget what is held by O_PATH alone, as a directory is.
            if error.errno not in (errno.ENOENT, errno.ESTALE):
                raise
            return True

    def stat(self) -> os.stat_result:
        """Returns what the backing filesystem says of it now. ESTALE if something else stands there."""
        if self.parent is None:
            return os.fstat(self._nameless())
        status = os.stat(self.name, dir_fd=self.parent.directory(), follow_symlinks=False)
        if status.st_ino != self.backing_ino:
            raise _stale()
        return status

    def descriptor(self, flags: int) -> int:
        """Opens the file itself, never what a symlink names; the caller closes it."""
        flags |= os.O_CLOEXEC
        if self.parent is None:
            return os.open(self.proc_path(), flags)
        return os.open(self.name, flags | os.O_NOFOLLOW, dir_fd=self.parent.directory())

    def proc_path(self) -> bytes:
        """Returns a path for calls that take no directory descriptor; it resolves to this inode only.

        The last component may be a symlink: callers must not follow it.
        """
        if self.parent is None:
            return b"/proc/self/fd/%d" % self._nameless()
        return b"/proc/self/fd/%d/%s" % (self.parent.directory(), self.name)

    def path(self) -> bytes:
        """Returns the path within the tree, for people; what has no name any more is shown as (deleted).

        Of one that is longer than any that a call takes, the end.
        """
        names: list[bytes] = []
        inode, length = self, 0
        while inode.parent is not None:
            names.append(inode.name)
            length += len(inode.name) + 1
            if length > _LONGEST_PATH:
                return b"/".join([b"...", *reversed(names)])
            inode = inode.parent
        if inode is not self.inodes.root:
            return b"(deleted)"
        return b"/".join(reversed(names))

    def names(self) -> list[bytes] | None:
        """Returns the names that lead here from the root of the tree; None if none do any more."""
        names: list[bytes] = []
        inode = self
        while inode.parent is not None:
            names.append(inode.name)
            inode = inode.parent
        return names[::-1] if inode is self.inodes.root else None

    def add_name(self, parent: BackingInode, name: bytes) -> None:
        """Notes a name under which this stands, beside those that are known."""
        if self.parent is None:
            # Found again: the descriptor that held the nameless is one of the directories' from here on.
            self._give_back()
            if self.fd >= 0:
                self.inodes.opened(self)
        elif (self.parent, self.name) != (parent, name):
            if self._others is None:
                self._others = {}
            self._others[self.parent, self.name] = None
            self._others.pop((parent, name), None)
        self.parent, self.name = parent, name

    def remove_name(self, parent: BackingInode, name: bytes) -> bool:
        """Notes that a name is gone; False if it was the last one known: then :meth:`hold` must follow."""
        if (self.parent, self.name) != (parent, name):
            if self._others is not None:
                self._others.pop((parent, name), None)
            return True
        if not self._others:
            return False
        (self.parent, self.name), _ = self._others.popitem()
        return True

    def move_name(self, parent: BackingInode, name: bytes, to_parent: BackingInode, to_name: bytes) -> None:
        """Notes that one name of this became another."""
        if self.remove_name(parent, name):
            self.add_name(to_parent, to_name)
        else:
            self.parent, self.name = to_parent, to_name

    def detach(self) -> None:
        """Notes that no name leads here any more, and that no descriptor is held for it."""
        self.close_directory()
        self.parent, self._others = None, None

    def hold_unlinked(self, fd: int, owner: int) -> None:
        """Notes that there is no name any more: `fd`, from :func:`.regular_files.hold_open`, is the way from
        here on. `owner` is the file's.

        Who has too many such files gets ESTALE for one more, but by what he has opened to read or write: the
        kernel knows them as long as he likes, and nobody else would get a descriptor.
        """
        self.inodes.closed(self)
        if self.fd >= 0:
            deferred_close.close(self.fd)
        self._give_back()
        self.parent = None
        while _given_back:
            descriptors.UNLINKED.give(_given_back.popleft())
        try:
            descriptors.UNLINKED.take(owner)
        except LimitExceededError:
            deferred_close.close(fd)
            self.fd = -1
        else:
            self.fd, self._nameless_of = fd, owner

    def _give_back(self) -> None:
        if self._nameless_of is not None:
            _given_back.append(self._nameless_of)
            self._nameless_of = None

    def __del__(self) -> None:
        fd = getattr(self, "fd", -1)
        if fd >= 0:
            self._give_back()
            self.inodes.closed(self)
            deferred_close.close(fd)


P = TypeVar("P", bound=BackingInode)

#: Places of directories that are open, by id(), the ones used last at the end; they leave it when they end.
# Not an LRUCache: what is dropped has a descriptor to close, and each request has a hit.
_open: OrderedDict[int, ref[BackingInode]] = OrderedDict()

#: Owners of unlinked files that are held no more. A finalizer, which may run at any point, takes no lock.
_given_back: deque[int] = deque()

#: Roots of trees that have ended, to be closed. Threads of others append to it.
_retired: deque[ref[BackingInode]] = deque()


class BackingInodes:
    """All known places of one pending tree, each inode once, and the descriptors they hold."""

    def __init__(self) -> None:
        self._known: WeakValueDictionary[int, BackingInode] = WeakValueDictionary()
        #: Places that kept the number that they were shown under when another inode took their place: what
        #: gets the old inode's number then must be shown under another one, as long as they live.
        self._kept: WeakValueDictionary[int, BackingInode] = WeakValueDictionary()
        #: By inode, the numbers that :meth:`settle` keeps, and all of them.
        self._settled: dict[int, int] = {}
        self._taken: set[int] = set()
        self._root: ref[BackingInode] | None = (
            None  # weak, as all places are here: no descriptor waits for gc
        )

    def set_root(self, root: BackingInode, fd: int) -> None:
        """Makes `root` the tree's root; it owns `fd`, until the tree has ended."""
        root.fd, root.parent = fd, None
        self._root = ref(root)
        self._known[root.backing_ino] = root

    def __len__(self) -> int:
        return len(self._known)

    @property
    def root(self) -> BackingInode | None:
        return None if self._root is None else self._root()

    def known(self, backing_ino: int) -> BackingInode | None:
        return self._known.get(backing_ino)

    def living(self) -> Iterator[BackingInode]:
        """Yields the known places. Any thread."""
        inodes = (known() for known in self._known.valuerefs())  # a copy: other threads add some
        return (inode for inode in inodes if inode is not None)

    def names(self, depth: int | None = None) -> list[tuple[int, bytes]]:
        """Lists the known names, each with the number of its directory: all, the deepest first, or those of
        one depth."""
        found: list[tuple[int, int, bytes]] = []
        for inode in self.living():
            for directory, name in [(inode.parent, inode.name), *(inode._others or ())]:
                above, at = directory, 0
                while above is not None:
                    above, at = above.parent, at + 1
                if directory is not None and depth in (None, at):
                    found.append((at, directory.ino, name))
        return [(number, name) for _, number, name in sorted(found, reverse=True)]

    def numbers(self) -> list[int]:
        """Lists the numbers under which the known places are shown."""
        return [inode.ino for inode in self.living()]

    def add(self, inode: P) -> P:
        self._known[inode.backing_ino] = inode
        return inode

    def touch(self, inode: BackingInode) -> None:
        if id(inode) in _open:
            _open.move_to_end(id(inode))

    def opened(self, inode: BackingInode) -> None:
        _open[id(inode)] = ref(inode)

    def closed(self, inode: BackingInode) -> None:
        _open.pop(id(inode), None)

    def retire(self) -> None:
        """Has the next :meth:`trim`, of whichever tree, close the root. For any thread."""
        if self._root is not None:
            _retired.append(self._root)

    def close_idle(self) -> None:
        """Closes the directories, of whichever tree, that were not used for longest, and retired roots.

        Call between two operations only.
        """
        while _retired:
            root = _retired.popleft()()
            if root is not None and root.fd >= 0:
                deferred_close.close(root.fd)
                root.fd = -1
        if len(_open) <= min(OPEN_DIRECTORIES, _KEPT_OF_WAY):
            return
        most = min(OPEN_DIRECTORIES, descriptors.for_users() // 8)
        while len(_open) > most:
            inode = _open.popitem(last=False)[1]()
            if inode is not None and inode.parent is not None and inode.fd >= 0:
                deferred_close.close(inode.fd)
                inode.fd = -1

    def is_kept(self, number: int) -> bool:
        """Tells whether a number belongs to a place, or an inode, that it is not computed from."""
        return number in self._kept or number in self._taken

    def pinned(self, backing_ino: int) -> int | None:
        """Returns the number under which an inode is always shown; None if :meth:`settle` chose none."""
        return self._settled.get(backing_ino)

    def pin_number(self, backing_ino: int, number: int) -> None:
        """Shows an inode under this number as long as it exists, also in places that are found later.

        A file with several names needs this: the kernel may forget it between two looks, and who compares
        st_ino of the names (du, tar, rsync -H) would take one file for two.
        """
        if len(self._settled) < MOST_NUMBERS:
            self.unpin_number(backing_ino)
            self._settled[backing_ino] = number
            self._taken.add(number)

    def unpin_number(self, backing_ino: int) -> None:
        """Notes that an inode is gone: another file may get its number."""
        number = self._settled.pop(backing_ino, None)
        if number is not None:
            self._taken.discard(number)

    def pin(self, number: int, inode: BackingInode) -> None:
        """Notes that a place goes on being shown under a number, whatever its inode is."""
        self._kept[number] = inode

    def inherit(self, before: BackingInodes) -> None:
        """Notes that the places of another tree may be shown still, though their inodes are gone."""
        self._kept.update(before._kept)
        for inode in before.living():
            self._kept[inode.ino] = inode

    def renumber(self, inode: BackingInode, backing_ino: int) -> None:
        """Notes that another inode took the place of this one, under the same names."""
        self._kept[inode.ino] = inode
        self._known.pop(inode.backing_ino, None)
        if self.pinned(inode.backing_ino) is not None:
            self.unpin_number(inode.backing_ino)
            self.pin_number(backing_ino, inode.ino)
        inode.backing_ino = backing_ino
        self._known[backing_ino] = inode

    def before_unlink(self, parent: BackingInode, name: bytes) -> Unlinking | None:
        """Gets ready to hold what is about to lose `name`; None if there is no such entry.

        Call :meth:`Unlinking.done` after success, or :meth:`Unlinking.failed`.
        """
        try:
            fd = regular_files.hold_open(parent.directory(), name)
        except FileNotFoundError:
            return None
        return Unlinking(self, parent, name, fd)


class Unlinking:
    """An entry that is about to be removed, held by a descriptor."""

    def __init__(self, inodes: BackingInodes, parent: BackingInode, name: bytes, fd: int) -> None:
        self._places, self._parent, self._name, self._fd = inodes, parent, name, fd
        status = os.fstat(fd)
        self.backing_ino, self._owner = status.st_ino, status.st_uid
        self._last = stat.S_ISDIR(status.st_mode) or status.st_nlink <= 1
        self._place = inodes.known(self.backing_ino)

    def done(self) -> bool:
        """Notes that the name is gone; tells whether the file or directory is, too.

        Asks the backing filesystem nothing that it could refuse: the change has happened, and the answer to
        it must say so.
        """
        if self._place is None or self._place.remove_name(self._parent, self._name):
            deferred_close.close(self._fd)
        else:
            self._place.hold_unlinked(self._fd, self._owner)
        if self._last:
            self._places.unpin_number(self.backing_ino)
        return self._last

    def failed(self) -> None:
        os.close(self._fd)


def _stale() -> OSError:
    return OSError(errno.ESTALE, "the entry is no longer where it was")
