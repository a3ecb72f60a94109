"""The inodes of a pending tree on the backing filesystem, and how to reach them without a path.

An inode is reached by its parent and its name, which follow renames; an inode that lost its last known name
is held by a descriptor. The kernel asks for a file with several names by its inode number alone, so all names
that were looked up are remembered. All access is by directory descriptors and O_NOFOLLOW: no path is ever
built, so depth is unlimited and no symlink leads out of the tree.

Only the thread of the event loop may use inodes, except for :meth:`BackingInodes.retire` and
:meth:`BackingInodes.living`. A directory descriptor that an inode returns stays open until
:meth:`BackingInodes.close_idle`, which is called between two operations.
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
_KEPT_OF_CHAIN = 64  # directories that stay open, of those that one operation descends through
MOST_NUMBERS = 1 << 20  # inodes of one tree whose number is remembered without a BackingInode


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
        self._nameless_of: int | None = None  # the user whose limit counts the descriptor of an unlinked file
        self._others: dict[tuple[BackingInode, bytes], None] | None = None  # more names of the same file

    def directory(self) -> int:
        """Returns an O_PATH descriptor of this directory, valid until :meth:`BackingInodes.close_idle`."""
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
        # Of a long chain only some stay open, evenly spread: it must not use up all descriptors, and a caller
        # that goes up level by level must not descend the whole chain each time.
        step = len(chain) // _KEPT_OF_CHAIN + 1
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
        """Opens this directory from its parent; the caller closes it."""
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
        """Closes the descriptor now; only the caller may use it."""
        if self.fd >= 0 and self.parent is not None:
            self.inodes.closed(self)
            os.close(self.fd)
            self.fd = -1

    def _nameless(self) -> int:
        """Returns the descriptor of the root, or of an unlinked inode."""
        if self.fd < 0:
            raise _stale()
        return self.fd

    @property
    def gone(self) -> bool:
        """Tells whether no name in the tree leads to this inode any more.

        An inode that lost its known names may have others, so the link count decides.
        """
        if self.parent is not None or self is self.inodes.root:
            return False
        if self.fd < 0:
            return True
        try:
            return os.fstat(self.fd).st_nlink == 0
        except OSError as error:
            # Filesystems in userspace forget an inode that is held by O_PATH alone, as a directory is.
            if error.errno not in (errno.ENOENT, errno.ESTALE):
                raise
            return True

    def stat(self) -> os.stat_result:
        """Returns its present status. ESTALE if another inode has its name."""
        if self.parent is None:
            return os.fstat(self._nameless())
        status = os.stat(self.name, dir_fd=self.parent.directory(), follow_symlinks=False)
        if status.st_ino != self.backing_ino:
            raise _stale()
        return status

    def descriptor(self, flags: int) -> int:
        """Opens the inode itself, never the target of a symlink; the caller closes it."""
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
        """Returns the path within the tree, for people; "(deleted)" if it has no name.

        If the path is longer than PATH_MAX, its end.
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
        """Returns the names on the path from the root of the tree; None if it has no path any more."""
        names: list[bytes] = []
        inode = self
        while inode.parent is not None:
            names.append(inode.name)
            inode = inode.parent
        return names[::-1] if inode is self.inodes.root else None

    def add_name(self, parent: BackingInode, name: bytes) -> None:
        """Records one more name of this inode."""
        if self.parent is None:
            # Found again: its descriptor counts among those of directories from now on.
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
        """Forgets a name; False if it is the last one known: then :meth:`hold_unlinked` must follow."""
        if (self.parent, self.name) != (parent, name):
            if self._others is not None:
                self._others.pop((parent, name), None)
            return True
        if not self._others:
            return False
        (self.parent, self.name), _ = self._others.popitem()
        return True

    def move_name(self, parent: BackingInode, name: bytes, to_parent: BackingInode, to_name: bytes) -> None:
        """Records that one name of this inode was replaced by another."""
        if self.remove_name(parent, name):
            self.add_name(to_parent, to_name)
        else:
            self.parent, self.name = to_parent, to_name

    def detach(self) -> None:
        """Forgets all names and the directory descriptor."""
        self.close_directory()
        self.parent, self._others = None, None

    def hold_unlinked(self, fd: int, owner: int) -> None:
        """Records that no name is left: from now on `fd`, from :func:`.regular_files.hold_open`, reaches it.

        `owner` is the file's. A user at the limit of unlinked files gets ESTALE for one more, except through
        descriptors open for reading or writing: a user decides how long the kernel knows such files, and
        could otherwise use up the descriptors of all.
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

#: Directories with an open descriptor, by id(), the ones used last at the end; a finalizer removes them.
# Not an LRUCache: a dropped item has a descriptor to close, and each request has a hit.
_open: OrderedDict[int, ref[BackingInode]] = OrderedDict()

#: Owners of unlinked files that are no longer held. A finalizer, which may run at any point, takes no lock.
_given_back: deque[int] = deque()

#: Roots of trees that have ended, to be closed. Other threads append to it.
_retired: deque[ref[BackingInode]] = deque()


class BackingInodes:
    """All known inodes of one pending tree, and the descriptors that they hold."""

    def __init__(self) -> None:
        self._known: WeakValueDictionary[int, BackingInode] = WeakValueDictionary()
        #: By node number, nodes that are shown under another number than their backing inode gives. A file
        #: that gets such a number from its backing inode is shown under another one while they live.
        self._kept: WeakValueDictionary[int, BackingInode] = WeakValueDictionary()
        #: By backing inode number, the numbers that :meth:`pin_number` chose, and all of them.
        self._pinned: dict[int, int] = {}
        self._pinned_numbers: set[int] = set()
        # Weak, as all references to inodes are here, so that no descriptor waits for the garbage collector.
        self._root: ref[BackingInode] | None = None

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
        """Yields the known inodes. Any thread."""
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
        """Lists the numbers under which the known inodes are shown."""
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
        """Makes the next :meth:`close_idle` of any tree close the root. Any thread."""
        if self._root is not None:
            _retired.append(self._root)

    def close_idle(self) -> None:
        """Closes the least recently used directories of all trees, and retired roots.

        Call it only between two operations.
        """
        while _retired:
            root = _retired.popleft()()
            if root is not None and root.fd >= 0:
                deferred_close.close(root.fd)
                root.fd = -1
        if len(_open) <= min(OPEN_DIRECTORIES, _KEPT_OF_CHAIN):
            return
        most = min(OPEN_DIRECTORIES, descriptors.for_users() // 8)
        while len(_open) > most:
            inode = _open.popitem(last=False)[1]()
            if inode is not None and inode.parent is not None and inode.fd >= 0:
                deferred_close.close(inode.fd)
                inode.fd = -1

    def is_kept(self, number: int) -> bool:
        """Tells whether a node has this number though its backing inode does not give it."""
        return number in self._kept or number in self._pinned_numbers

    def pinned(self, backing_ino: int) -> int | None:
        """Returns the number under which an inode is always shown; None if none is pinned."""
        return self._pinned.get(backing_ino)

    def pin_number(self, backing_ino: int, number: int) -> None:
        """Shows an inode under this number as long as it exists, even if the kernel forgets its node.

        A file with several names needs this: the kernel may forget it between two lookups, and programs that
        compare st_ino of the names (du, tar, rsync -H) would take one file for two.
        """
        if len(self._pinned) < MOST_NUMBERS:
            self.unpin_number(backing_ino)
            self._pinned[backing_ino] = number
            self._pinned_numbers.add(number)

    def unpin_number(self, backing_ino: int) -> None:
        """Forgets the number of an inode that is gone: another file may get the same backing inode number."""
        number = self._pinned.pop(backing_ino, None)
        if number is not None:
            self._pinned_numbers.discard(number)

    def pin(self, number: int, inode: BackingInode) -> None:
        """Keeps a node shown under a number, whatever its backing inode is."""
        self._kept[number] = inode

    def keep_numbers_of(self, before: BackingInodes) -> None:
        """Keeps the numbers of the nodes of another tree: the kernel may still know them."""
        self._kept.update(before._kept)
        for inode in before.living():
            self._kept[inode.ino] = inode

    def renumber(self, inode: BackingInode, backing_ino: int) -> None:
        """Records that another backing inode replaced this one, under the same names."""
        self._kept[inode.ino] = inode
        self._known.pop(inode.backing_ino, None)
        if self.pinned(inode.backing_ino) is not None:
            self.unpin_number(inode.backing_ino)
            self.pin_number(backing_ino, inode.ino)
        inode.backing_ino = backing_ino
        self._known[backing_ino] = inode

    def before_unlink(self, parent: BackingInode, name: bytes) -> Unlinking | None:
        """Prepares to hold the inode that is about to lose `name`; None if there is no such entry.

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
        self._inodes, self._parent, self._name, self._fd = inodes, parent, name, fd
        status = os.fstat(fd)
        self.backing_ino, self._owner = status.st_ino, status.st_uid
        self._last = stat.S_ISDIR(status.st_mode) or status.st_nlink <= 1
        self._inode = inodes.known(self.backing_ino)

    def done(self) -> bool:
        """Records that the name is removed; tells whether that was the last name.

        It makes no system call that could fail: the change has happened, and the answer must say so.
        """
        if self._inode is None or self._inode.remove_name(self._parent, self._name):
            deferred_close.close(self._fd)
        else:
            self._inode.hold_unlinked(self._fd, self._owner)
        if self._last:
            self._inodes.unpin_number(self.backing_ino)
        return self._last

    def failed(self) -> None:
        os.close(self._fd)


def _stale() -> OSError:
    return OSError(errno.ESTALE, "the entry is no longer where it was")
