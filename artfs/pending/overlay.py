"""A directory of a patch, which holds changes to a sealed one: its format on disk, and the single steps.

Owns the reserved names and targets in the tree of a patch::

    .artfs@lower     symlink: the tree object of the lower directory, and the number of this one's node
    .artfs@gone/     whiteouts: an empty file under the name of each removed lower entry
    .artfs@base      only in the root: the version that the patch is of (JSON)
    NAME             a symlink with a reserved target may be a stub: a lower file with another name or other
                     attributes, and the same bytes; its inode has the owner and the times

An entry of the directory covers a whiteout, and a whiteout the lower entry of its name. So each change that
users see is one system call. The steps before and after it are not visible, and a crash between any
two leaves the old state or the new one.

All functions take descriptors of directories. Must not know nodes or FUSE. Blocking; any thread, one change
of a directory at a time.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from typing import NamedTuple

import msgspec
import xxhash
from msgspec.structs import replace

from artfs.errors import Damaged
from artfs.linux import syscalls
from artfs.model import digest, names
from artfs.model.digest import TreeId
from artfs.model.entry import DirEntry, Entry, FileEntry, ReferenceEntry, SymlinkEntry, Xattrs
from artfs.model.tree import TreeReader
from artfs.printing import printable
from artfs.store import documents, durable, tree_removal

LOWER, WHITEOUTS, BASE = names.PRIVATE + b"lower", names.PRIVATE + b"gone", names.PRIVATE + b"base"
_RESERVED_TARGET = b".artfs-"  # the prefix of reserved targets; users' targets with it are escaped
_STUB, _ESCAPE = b".artfs-stub:", b".artfs-link:"

#: Set in the number of a lower entry's node, and in no inode number of the backing filesystem.
LOWER_BIT = 1 << 59


class Lower(NamedTuple):
    """The lower directory of a directory; `number` is that of its node, and seeds those of nodes below."""

    tree: TreeId
    number: int

    def number_of(self, entry: Entry) -> int:
        """Returns the node number of a lower entry: the same as long as it is in the same place.

        A file with other bytes has another number, since open files go on with the old bytes. A directory has
        the same number whatever is in it, since it may be a working directory. Two entries of one tree get
        the same number with a probability of some 2**-59 (XXH3, 64 bits).
        """
        if isinstance(entry, DirEntry):
            content = b""
        elif isinstance(entry, FileEntry):
            content = entry.blob
        elif isinstance(entry, SymlinkEntry):
            content = entry.target
        else:
            content = entry.uri + b"\0" + entry.checksum
        key = b"/".join((self.number.to_bytes(8, "big"), entry.name, content))
        return LOWER_BIT | xxhash.xxh3_64_intdigest(key) >> 5


class Base(msgspec.Struct, frozen=True):
    """The version that a patch is of.

    `ref` is what the user wrote: ``v3``, ``best``, ``other:latest``. It led to `version` of `collection`,
    whose root is `tree`.
    """

    ref: str
    collection: str
    version: str
    tree: str

    @property
    def tree_id(self) -> TreeId:
        return digest.parse_tree(self.tree)

    def name_in(self, collection: str) -> str:
        """Returns the version as a collection names it: ``v3``, and of another collection ``other:v3``."""
        return self.version if self.collection == collection else f"{self.collection}:{self.version}"

    @property
    def follows(self) -> bool:
        """Tells whether `ref` is an alias, whose moves the patch follows; a version is pinned."""
        return names.parse_version(names.split_reference(self.ref)[1]) is None


class Stub(NamedTuple):
    """A lower file, by its tree and its name there; `mode` is the present one."""

    tree: TreeId
    name: bytes
    mode: int


def is_reserved(name: bytes) -> bool:
    return name in (LOWER, WHITEOUTS, BASE)


# -- lower directories


def lower_of(dir_fd: int, name: bytes = b".") -> Lower | None:
    """Returns the lower directory; None if there are only own entries. Raises Damaged."""
    try:
        target = os.readlink(name + b"/" + LOWER, dir_fd=dir_fd)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        raise _damaged(name, ".artfs@lower is not a symlink") from None
    tree, _, number = target.partition(b" ")
    try:
        lower = Lower(digest.parse_tree(tree.decode("ascii")), int(number, 16))
    except ValueError as error:
        raise _damaged(name, str(error)) from None
    # 1 is the root of every mount (FUSE_ROOT_ID): a second node of that number would break the mount.
    if not 0 <= lower.number < 2 * LOWER_BIT or lower.number == 1 or _encode_lower(lower) != target:
        raise _damaged(name, f"'{printable(number)}' is not the number of a node")
    return lower


def set_lower(dir_fd: int, lower: Lower) -> None:
    os.symlink(_encode_lower(lower), LOWER, dir_fd=dir_fd)


def _encode_lower(lower: Lower) -> bytes:
    return b"%s %x" % (digest.text(lower.tree).encode(), lower.number)


def drop_lower(dir_fd: int, staging_fd: int) -> None:
    """Removes the lower directory and the whiteouts, so that the directory can be removed or replaced.

    Call it when no lower entry shows any more.
    """
    with contextlib.suppress(FileNotFoundError):  # a crash came between
        os.unlink(LOWER, dir_fd=dir_fd)
    # Only now: without a lower directory whiteouts mean nothing. There may be many, so one step moves them to
    # the staging directory; they are deleted with the pending version.
    with contextlib.suppress(FileNotFoundError):
        os.rename(WHITEOUTS, durable.temp_name(), src_dir_fd=dir_fd, dst_dir_fd=staging_fd)


def base_of(dir_fd: int) -> Base | None:
    """Returns the version that a root is a patch of; None if it is no patch. Raises Damaged."""
    what = "the base of a pending version (.artfs@base)"
    base = documents.load(dir_fd, BASE, Base, what)
    if base is not None:
        try:
            base.tree_id  # noqa: B018
        except ValueError as error:
            raise Damaged(what, str(error)) from None
        if names.parse_version(base.version) is None:
            raise Damaged(what, f"'{printable(base.version)}' is no version")
    return base


def set_base(dir_fd: int, base: Base) -> None:
    durable.replace(dir_fd, BASE, msgspec.json.encode(base) + b"\n", label="base:record")


def is_untouched(dir_fd: int) -> bool:
    """Tells whether a root shows its base unchanged, or nothing if it has none.

    After a rebase a root has no own entries either, but its lower directory has the changes.
    """
    if not set(map(os.fsencode, durable.names(dir_fd))) <= {LOWER, BASE}:
        return False
    base, lower = base_of(dir_fd), lower_of(dir_fd)
    return (base and base.tree_id) == (lower and lower.tree)


# -- whiteouts


def sync_directory(dir_fd: int) -> None:
    """Makes the entries and whiteouts of a directory durable."""
    with contextlib.suppress(FileNotFoundError), durable.directory(dir_fd, WHITEOUTS) as fd:
        os.fsync(fd)
    os.fsync(dir_fd)


def is_whited_out(dir_fd: int, name: bytes) -> bool:
    try:
        os.stat(WHITEOUTS + b"/" + name, dir_fd=dir_fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def whiteouts(dir_fd: int) -> set[bytes]:
    """Lists the whiteouts of a directory; own entries may have the same names. Raises Damaged."""
    try:
        with durable.directory(dir_fd, WHITEOUTS) as fd:
            return set(map(os.fsencode, os.listdir(fd)))
    except FileNotFoundError:
        return set()
    except OSError as error:
        raise documents.directory_error(error, "what is gone from a pending version (.artfs@gone)") from None


def looks_empty(dir_fd: int, lower_names: int) -> bool:
    """Tells whether a directory looks empty whose lower directory has `lower_names` names.

    Only lower entries are ever whited out, so counting is enough.
    """
    own = (name for name in map(os.fsencode, durable.names(dir_fd)) if not is_reserved(name))
    return next(own, None) is None and (lower_names == 0 or len(whiteouts(dir_fd)) >= lower_names)


def white_out(dir_fd: int, name: bytes) -> None:
    """Whites a lower entry out; users don't see that while an own entry has the name."""
    durable.step("overlay:hide")
    with contextlib.suppress(FileExistsError):
        try:
            _make_whiteout(dir_fd, name)
        except FileNotFoundError:
            # Another process may make it, too.
            with contextlib.suppress(FileExistsError), keeping_mtime(dir_fd):
                os.mkdir(WHITEOUTS, 0o700, dir_fd=dir_fd)
            _make_whiteout(dir_fd, name)


def _make_whiteout(dir_fd: int, name: bytes) -> None:
    os.mknod(WHITEOUTS + b"/" + name, stat.S_IFREG | 0o600, dir_fd=dir_fd)


# -- reserved symlink targets


def encode_stub(stub: Stub) -> bytes:
    return b"%s%o:%s:%s" % (_STUB, stub.mode, digest.text(stub.tree).encode(), stub.name)


def entry_of_stub(reader: TreeReader, stub: Stub, **changes: int) -> FileEntry | ReferenceEntry:
    """Returns the lower entry of a stub, with the stub's mode and other `changes`. Raises Damaged."""
    found = reader.find(stub.tree, stub.name)
    if found is None or not isinstance(found[1], FileEntry | ReferenceEntry):
        raise Damaged(f"a stub for '{printable(stub.name)}'", "its tree has no such file")
    return replace(found[1], mode=stub.mode, **changes)


def escape_target(target: bytes) -> bytes:
    """Returns the target to store for a user's symlink."""
    return _ESCAPE + target if target.startswith(_RESERVED_TARGET) else target


def decode_target(stored: bytes) -> Stub | bytes:
    """Decodes a stored target: a stub, or the user's target. Raises Damaged."""
    if not stored.startswith(_RESERVED_TARGET):
        return stored
    if stored.startswith(_ESCAPE):
        target = stored[len(_ESCAPE) :]
        if not target.startswith(_RESERVED_TARGET):
            raise Damaged(
                f"the link to '{printable(stored)}' of a pending version",
                "its target is escaped without need",
            )
        return target
    try:
        if not stored.startswith(_STUB):
            raise ValueError("its target is unknown")
        mode, algorithm, hexes, name = stored[len(_STUB) :].split(b":", 3)
        tree = digest.parse_tree((algorithm + b":" + hexes).decode("ascii"))
        stub = Stub(tree, name, int(mode, 8))
        if not 0 <= stub.mode <= 0o7777 or encode_stub(stub) != stored:
            raise ValueError(f"'{printable(mode)}' is not a mode")
        return stub
    except ValueError as error:
        raise Damaged(f"the stub '{printable(stored)}' of a pending version", str(error)) from None


# -- materializing: making a lower entry an own one, which users don't see


@contextlib.contextmanager
def keeping_mtime(dir_fd: int) -> Iterator[None]:
    """Keeps a directory's mtime, if it can, over steps that users must not see."""
    before = os.stat(b".", dir_fd=dir_fd)
    yield
    with contextlib.suppress(OSError):
        syscalls.utimensat(dir_fd, b".", None, before.st_mtime_ns)


def place(staging_fd: int, staged: bytes, dir_fd: int, name: bytes, *, step: str) -> int:
    """Moves a staged entry to its name, unseen by users; returns its inode number.

    If that fails, the staged entry is removed.
    """
    with _removed_on_failure(staging_fd, staged):
        durable.step(f"overlay:{step}")
        with keeping_mtime(dir_fd):
            os.rename(staged, name, src_dir_fd=staging_fd, dst_dir_fd=dir_fd)
    return os.stat(name, dir_fd=dir_fd, follow_symlinks=False).st_ino


def place_directory(staging_fd: int, staged: bytes, dir_fd: int, name: bytes) -> int:
    """Does as :func:`place`, but never replaces anything. Raises FileExistsError."""
    with _removed_on_failure(staging_fd, staged), keeping_mtime(dir_fd):
        durable.step("overlay:lift")
        durable.rename_noreplace(staging_fd, staged, dir_fd, name)
    return os.stat(name, dir_fd=dir_fd, follow_symlinks=False).st_ino


def stage_directory(staging_fd: int, entry: DirEntry, lower: Lower) -> bytes:
    """Stages a directory that looks like its lower one; returns its name in the staging directory."""
    staged = durable.temp_name()
    os.mkdir(staged, 0o700, dir_fd=staging_fd)
    with _removed_on_failure(staging_fd, staged), durable.directory(staging_fd, staged) as fd:
        set_lower(fd, lower)
        set_xattrs(fd, entry.xattrs)
        set_owner(staging_fd, staged, entry.uid, entry.gid)
        os.fchmod(fd, entry.mode)
        syscalls.futimens(fd, None, entry.mtime_ns)
    return staged


def stage_symlink(staging_fd: int, entry: SymlinkEntry) -> bytes:
    """Stages a user's symlink that looks like a sealed one."""
    times = entry.mtime_ns, entry.mtime_ns
    return _stage_link(staging_fd, escape_target(entry.target), entry.uid, entry.gid, times)


def stage_stub(staging_fd: int, stub: Stub, uid: int, gid: int, times: tuple[int, int]) -> bytes:
    """Stages a stub; `times` are atime and mtime in nanoseconds."""
    return _stage_link(staging_fd, encode_stub(stub), uid, gid, times)


def _stage_link(staging_fd: int, target: bytes, uid: int, gid: int, times: tuple[int, int]) -> bytes:
    staged = durable.temp_name()
    os.symlink(target, staged, dir_fd=staging_fd)
    with _removed_on_failure(staging_fd, staged):
        set_owner(staging_fd, staged, uid, gid)
        syscalls.utimensat(staging_fd, staged, *times)
    return staged


@contextlib.contextmanager
def _removed_on_failure(staging_fd: int, staged: bytes) -> Iterator[None]:
    try:
        yield
    except Exception:
        with contextlib.suppress(OSError):
            tree_removal.remove_tree(staging_fd, staged)
        raise


def set_owner(dir_fd: int, name: bytes, uid: int, gid: int) -> None:
    """Sets the owner of a new entry, as far as a daemon that is not root may: it serves one user."""
    if (uid, gid) == (os.geteuid(), os.getegid()):
        return
    try:
        os.chown(name, uid, gid, dir_fd=dir_fd, follow_symlinks=False)
    except PermissionError:
        if os.geteuid() == 0:
            raise


def set_xattrs(fd: int, xattrs: Xattrs) -> None:
    for name, value in xattrs:
        os.setxattr(fd, name, value)


def _damaged(name: bytes, why: str) -> Damaged:
    return Damaged(f"the directory '{printable(name)}' of a pending version", why)
