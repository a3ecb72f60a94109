"""The protocol between a mount and what it shows: nodes, handles, listings, attributes and callers.

A node answers for one inode number. It refuses what it does not override, as a place does where nothing can
be made. Methods run on the event loop's thread and must not wait, unless `Node.blocks` names them or they
belong to a handle or listing whose `blocks` is true; those run on a worker thread.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from dataclasses import KW_ONLY, dataclass
from enum import Enum, auto
from typing import Any, NamedTuple, TypeAlias

import xxhash

from artfs.errors import ArtfsError, NotPermitted
from artfs.model import names
from artfs.pending import overlay

#: Bits of inode numbers that tell the kind of a node. Numbers without any belong to pending trees.
SEALED = 1 << 62
VIRTUAL = 1 << 61
FRESH = 1 << 60
LOWER = overlay.LOWER_BIT
ROOT_INO = 1  # FUSE_ROOT_ID

#: Seconds for which the kernel may cache what never changes without its knowledge.
FOREVER = 1e9

BLOCK_SIZE = 1 << 20  # st_blksize: the size of writes by stdio, Python and cp, each of which is a request


def virtual(*key: bytes) -> int:
    """Returns the inode number of a node without a backing inode: always the same for the same key."""
    return VIRTUAL | xxhash.xxh3_64_intdigest(b"\0".join(key)) >> 4


class Caller(NamedTuple):
    """The process behind a request. `pid` is that of a thread; 0 if it lives in another pid namespace."""

    uid: int
    gid: int
    pid: int


ROOT = Caller(0, 0, 0)


@dataclass(slots=True)
class Attributes:
    """What stat(2) shows, and the seconds for which the kernel may cache it."""

    ino: int
    mode: int
    _: KW_ONLY
    nlink: int = 1
    uid: int = 0
    gid: int = 0
    rdev: int = 0
    size: int = 0
    blocks: int = 0
    atime_ns: int = 0
    mtime_ns: int = 0
    ctime_ns: int = 0
    entry_timeout: float = FOREVER
    attr_timeout: float = FOREVER

    @classmethod
    def of(
        cls, ino: int, st: os.stat_result, *, entry_timeout: float = FOREVER, attr_timeout: float = FOREVER
    ) -> Attributes:
        """Copies a status of the backing filesystem."""
        self = cls.__new__(cls)
        self.ino, self.mode, self.nlink = ino, st.st_mode, st.st_nlink
        self.uid, self.gid, self.rdev = st.st_uid, st.st_gid, st.st_rdev
        self.size, self.blocks = st.st_size, st.st_blocks
        self.atime_ns, self.mtime_ns, self.ctime_ns = st.st_atime_ns, st.st_mtime_ns, st.st_ctime_ns
        self.entry_timeout, self.attr_timeout = entry_timeout, attr_timeout
        return self


class AttributeChanges(NamedTuple):
    """What setattr changes; None leaves a value as it is. Times are in nanoseconds."""

    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    size: int | None = None
    atime_ns: int | None = None
    mtime_ns: int | None = None

    @property
    def none(self) -> bool:
        """Tells whether no value changes: chown(2) to (-1, -1), which moves the ctime and drops setuid bits.

        The kernel sends the same before it writes to a file with setuid bits (file_remove_privs), for any
        writer: that must neither fail nor change anything if the caller is not the owner.
        """
        return self == _NO_CHANGES

    @property
    def chowns(self) -> bool:
        """Tells whether this is a chown(2)."""
        return self.uid is not None or self.gid is not None or self.none


_NO_CHANGES = AttributeChanges()


class Work(Enum):
    """What a call does that can't be done at once, and so on which worker threads it runs."""

    DISK = auto()  # waits for the backing filesystem
    VERIFYING = auto()  # compares a file with its digest first
    COMMAND = auto()  # reads or commands a control file, or changes a directory outside of trees
    COMPUTING = auto()  # the same, and takes the interpreter for long
    WAITING = auto()  # waits for the effect of other commands


#: Reads from the page cache of a descriptor, at an offset, so many bytes; None if that has to wait.
CachedRead: TypeAlias = Callable[[int, int, int], memoryview | None]


class Handle:
    """An open file. The kernel never asks for what the handle was not opened for (EBADF)."""

    __slots__ = ()

    keep_cache = True
    direct_io = False
    writing: Work | None = None  # what write does; None if it ends within microseconds

    def read_at_once(self, offset: int, size: int, cached: CachedRead) -> bytes | memoryview | None:
        """Returns what can be read without waiting; None if :meth:`read` must be called on a thread.

        ``cached`` reads from the page cache.
        """
        return None

    def reading(self, offset: int) -> Work:
        """Returns what :meth:`read` does there."""
        return Work.DISK

    def read(self, offset: int, size: int) -> bytes:
        """Returns fewer than `size` bytes only at the end of the file. Runs on a worker thread."""
        raise NotImplementedError

    def write(self, offset: int, data: bytes) -> int:
        raise NotImplementedError

    def fsync(self, *, data_only: bool) -> None:
        """Makes what was written durable. Runs on a worker thread."""

    def prepare_fsync(self, *, data_only: bool) -> Callable[[], None]:
        """Returns :meth:`fsync` as it is to be done now."""
        return functools.partial(self.fsync, data_only=data_only)

    def release(self) -> None:
        """The last descriptor and mapping is gone. Never raises, never waits."""


class Listed(NamedTuple):
    """One entry of a listing; `offset` is where the listing continues after it."""

    name: bytes
    node: Node
    attributes: Attributes
    offset: int


class Listing:
    """An open directory."""

    blocks = False  # rewind may take long: it runs on a worker thread

    def rewind(self) -> None:
        """Reads the names; called before the first entry is read, and after each rewinddir(3)."""

    def entries(self, offset: int) -> Iterator[Listed]:
        """Yields the entries after `offset`; 0 is the beginning."""
        raise NotImplementedError

    def fsync(self, *, data_only: bool) -> None:
        """Makes the names durable. Runs on a worker thread."""

    def prepare_fsync(self, *, data_only: bool) -> Callable[[], None]:
        """Returns :meth:`fsync` as it is to be done now."""
        return functools.partial(self.fsync, data_only=data_only)

    def release(self) -> None:
        """The directory was closed."""


class Node:
    """One inode. By default nothing can be made or changed here."""

    __slots__ = ()

    ino: int

    def current(self) -> Node:
        """Returns the node that answers for this one now. Raises ESTALE if there is none."""
        return self

    #: Names of methods that may wait and so run on a worker thread.
    blocks: frozenset[str] = frozenset()

    def refusal(self) -> ArtfsError:
        """Returns the error for every change that this node does not support."""
        return NotPermitted("nothing can be made or changed here")

    # -- every node

    def attributes(self) -> Attributes:
        raise NotImplementedError

    def change_attributes(
        self, changes: AttributeChanges, handle: Handle | None, caller: Caller
    ) -> Attributes:
        raise self.refusal()

    def xattr(self, name: bytes) -> bytes:
        """Returns the value. Raises :class:`NoSuchAttribute`."""
        raise NoSuchAttribute

    def xattrs(self) -> list[bytes]:
        return []

    def set_xattr(self, name: bytes, value: bytes) -> None:
        raise self.refusal()

    def remove_xattr(self, name: bytes) -> None:
        raise self.refusal()

    # -- files and links

    handles: set[Any] | None  # those that have it open, in a slot of nodes that record them

    def opened(self, handle: Handle) -> None:
        """Records that a handle has it open, until :meth:`closed`."""
        if self.handles is None:
            self.handles = set()  # type: ignore[misc]
        self.handles.add(handle)

    def closed(self, handle: Handle) -> None:
        if self.handles is not None:
            self.handles.discard(handle)

    def open(self, flags: int, caller: Caller) -> Handle:
        raise self.refusal()

    def target(self) -> bytes:
        raise NotImplementedError

    # -- directories

    def lookup(self, name: bytes) -> Node | None:
        """Returns an entry's node; None if there is none."""
        return None

    def listing(self, uid: int = 0) -> Listing:
        """Opens the directory for a user, who is charged for the names that the listing holds."""
        raise NotADirectoryError

    @property
    def absent_timeout(self) -> float:
        """Seconds for which the kernel may cache that a name is absent."""
        return 0

    def create(self, name: bytes, flags: int, mode: int, caller: Caller) -> tuple[Node, Handle]:
        raise self.refusal()

    def mkdir(self, name: bytes, mode: int, caller: Caller) -> Node:
        raise self.refusal()

    def mknod(self, name: bytes, mode: int, rdev: int, caller: Caller) -> Node:
        raise self.refusal()

    def symlink(self, name: bytes, target: bytes, caller: Caller) -> Node:
        raise self.refusal()

    def link(self, node: Node, name: bytes, caller: Caller) -> Node:
        """Gives `node` another name in this directory."""
        raise self.refusal()

    def unlink(self, name: bytes, caller: Caller) -> None:
        raise self.refusal()

    def rmdir(self, name: bytes, caller: Caller) -> None:
        raise self.refusal()

    def rename(self, name: bytes, target: Node, new_name: bytes, flags: int, caller: Caller) -> None:
        """Renames an entry of this directory into the directory `target`."""
        raise self.refusal()


def check_no_control(name: bytes) -> None:
    """Raises NotPermitted for the control directory's name, which can't be removed, renamed or linked."""
    if name == names.CONTROL:
        raise NotPermitted("cannot change '.artfs': it is a control directory")


class NeedsWork(Exception):
    """Raised by a method that first needs something that takes long.

    The caller runs ``prepare`` on a worker thread, and then calls the method again from its beginning: so
    whatever changed meanwhile is looked at again. What ``prepare`` raises is the answer.

    Work for a ``waiter`` waits for another machine, as long as that caller waits. When it gives up,
    ``abandon`` is called with the reason, which it raises, or makes the method raise when it is called again.
    Other work is always done.
    """

    def __init__(
        self,
        prepare: Callable[[], None],
        *,
        waiter: Caller | None = None,
        abandon: Callable[[Exception], None] | None = None,
    ) -> None:
        self.prepare, self.waiter, self.abandon = prepare, waiter, abandon or _raise


def _raise(error: Exception) -> None:
    raise error


class NoSuchAttribute(Exception):
    """There is no extended attribute of that name."""


def writes(flags: int) -> bool:
    """Tells whether open(2) flags need the right to write."""
    return flags & os.O_ACCMODE != os.O_RDONLY or bool(flags & os.O_TRUNC)


def may_write(flags: int) -> bool:
    """Tells whether a file opened with these flags can be written: not with Linux's access mode 3."""
    return flags & os.O_ACCMODE in (os.O_WRONLY, os.O_RDWR)
