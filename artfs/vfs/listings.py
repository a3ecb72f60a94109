"""Open directories whose names are held, and looked up one by one as they are asked for.

Owns the listings of artfs's own directories, of directories of pending trees, and of those of patches. Event
loop's thread, but for `fsync`, and `rewind` where `blocks` says so.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from artfs.errors import Damaged, NotFound
from artfs.limits.limit import Holding
from artfs.limits.numbers import LISTED_NAMES
from artfs.model.digest import TreeId
from artfs.pending import deferred_close, overlay
from artfs.printing import printable
from artfs.vfs.node import Listed, Listing, Node

if TYPE_CHECKING:
    from artfs.vfs.patch_directory import PatchDirectory
    from artfs.vfs.pending_directory import PendingDirectory

log = logging.getLogger(__name__)

_LARGE_DIRECTORY = 1 << 18  # bytes of st_size: some thousand names, a few milliseconds
_NO_DESCRIPTORS = (errno.ENFILE, errno.EMFILE)  # no fault of the entry: all others would be missing, too


class EmptyListing(Listing):
    """An open directory that was removed."""

    def entries(self, offset: int) -> Iterator[Listed]:
        return iter(())

    def fsync(self, *, data_only: bool) -> None:
        pass


class _HeldNames(Listing):
    """Names that count, until `release`, among those that their user may hold."""

    def __init__(self, uid: int) -> None:
        self._names: Sequence[bytes] = ()
        self._held = Holding(LISTED_NAMES, uid)

    def _hold(self, names: Sequence[bytes]) -> None:
        if self._names:
            self._names = ()
            self._held.give_back()
        self._held.take(len(names))
        self._names = names

    def release(self) -> None:
        self._held.close()


class NamesListing(_HeldNames):
    """The names at `rewind`, each looked up when it is listed, since the kernel trusts what a listing says.

    A name that is gone by then is skipped. So is a damaged entry, which only a lookup reports.
    """

    def __init__(
        self,
        names: Callable[[], Sequence[bytes]],
        find: Callable[[bytes], Node | None],
        uid: int,
        *,
        blocks: bool = False,
    ) -> None:
        """`find` returns None for a name that is no longer listed. With `blocks`, `names` takes long."""
        super().__init__(uid)
        self._find_names, self._find, self.blocks = names, find, blocks

    def rewind(self) -> None:
        self._hold(self._find_names())

    def entries(self, offset: int) -> Iterator[Listed]:
        for index in range(offset, len(self._names)):
            name = self._names[index]
            try:
                node = self._find(name)
                if node is None:
                    continue
                attributes = node.attributes()
            except (NotFound, Damaged, OSError) as error:
                if isinstance(error, OSError) and error.errno in _NO_DESCRIPTORS:
                    raise
                log.debug("%s is not listed: %s", printable(name), error)
                continue
            yield Listed(name, node, attributes, index + 1)


class PendingListing(_HeldNames):
    """A directory of a pending tree. It goes on across a seal, with the entries of the version."""

    def __init__(self, directory: PendingDirectory, uid: int) -> None:
        super().__init__(uid)
        self._directory = directory
        self._sealed = False
        self._fd = -1
        self._open()
        self.blocks = self._fd >= 0 and directory.stat().st_size > _LARGE_DIRECTORY

    def _open(self) -> None:
        """Opens the directory, unless it is open or has no entries of its own."""
        above = self._directory.own_fd() if self._fd < 0 else -1
        if above >= 0:
            # An O_PATH descriptor lists nothing, and this one must outlive the directory's in the cache.
            self._fd = os.open(b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=above)

    def _own_names(self) -> Iterable[bytes]:
        return map(os.fsencode, os.listdir(self._fd)) if self._fd >= 0 else ()

    def _check_has_no_successor(self) -> None:
        if self._directory.mounted.tree.successor is not None:
            raise OSError(errno.ESTALE, "the pending version got another base")

    def rewind(self) -> None:
        self._check_has_no_successor()
        self._open()
        self._hold(list(self._own_names()))
        # Asked after the look: once a tree is sealed its files go from here, and the version has the names.
        self._sealed = self._directory.mounted.version_root is not None

    def entries(self, offset: int) -> Iterator[Listed]:
        self._check_has_no_successor()
        directory = self._directory
        if directory.removed:
            return
        if self._sealed:
            sealed = directory.sealed_node()
            if sealed is not None:
                yield from sealed.listing().entries(offset)
            return
        for index in range(offset, len(self._names)):
            name = self._names[index]
            try:
                status = os.stat(name, dir_fd=self._fd, follow_symlinks=False)
            except FileNotFoundError:
                status = None
            # Asked after the stat: a tree that is sealed has the same names, and its files go from here.
            sealed = directory.sealed_node()
            if sealed is not None:
                found = sealed.lookup(name)
                if found is not None:
                    yield Listed(name, found, found.attributes(), index + 1)
            elif status is not None:
                node = directory.mounted.node(status, directory, name)
                yield Listed(name, node, node.shown(status), index + 1)

    def fsync(self, *, data_only: bool) -> None:
        os.fsync(self._fd)

    def release(self) -> None:
        super().release()
        if self._fd >= 0:
            deferred_close.close(self._fd)


class PatchListing(PendingListing):
    """A directory of a patch: its own entries as they were at `rewind`, then the lower ones.

    An entry that stays is listed once, whatever happens to others meanwhile: own names are those of one
    moment, and lower ones are listed by their ordinals, each as it is at that time.
    """

    _directory: PatchDirectory

    def __init__(self, directory: PatchDirectory, uid: int) -> None:
        super().__init__(directory, uid)
        self._listed_before: frozenset[bytes] = frozenset()
        self._tree: TreeId | None = None

    def _own_names(self) -> Iterable[bytes]:
        return (name for name in super()._own_names() if not overlay.is_reserved(name))

    def rewind(self) -> None:
        self._listed_before = frozenset()
        super().rewind()
        self._listed_before = frozenset(self._names)
        lower = self._directory.lower
        self._tree = None if lower is None else lower.tree

    def entries(self, offset: int) -> Iterator[Listed]:
        yield from super().entries(offset)
        directory, own = self._directory, len(self._names)
        if self._tree is None or self._sealed or directory.removed:
            return
        for at, entry in directory.reader.entries(self._tree, max(offset - own, 0)):
            if entry.name in self._listed_before:
                continue
            node: Node | None = None
            with contextlib.suppress(OSError):
                node = directory.find(entry.name)
            sealed = directory.sealed_node()  # asked after the look, as above
            if sealed is not None:
                node = sealed.lookup(entry.name)
            if node is None:
                continue
            try:
                attributes = node.attributes()
            except OSError:
                continue  # it was removed just now
            yield Listed(entry.name, node, attributes, own + at + 1)

    def prepare_fsync(self, *, data_only: bool) -> Callable[[], None]:
        self._open()  # if it was materialized since it was opened
        return super().prepare_fsync(data_only=data_only)

    def fsync(self, *, data_only: bool) -> None:
        if self._fd >= 0:
            overlay.sync_directory(self._fd)
