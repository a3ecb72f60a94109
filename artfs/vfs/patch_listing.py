"""An open directory of a patch: its own entries as they were when it was rewound, then the lower ones.

An entry that stays is told once, whatever becomes of others meanwhile: own names are told from one look, and
lower ones by their ordinals, each as it is when its turn comes. Event loop's thread, but for `fsync` and
`rewind` of a large directory.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from artfs.limits.numbers import LISTED_NAMES
from artfs.model.digest import TreeId
from artfs.pending import overlay
from artfs.vfs.node import Listed, Listing, Node
from artfs.vfs.open_files import LARGE_DIRECTORY, check_not_replaced, sealed_entries

if TYPE_CHECKING:
    from artfs.vfs.patch import PatchDirectory


class PatchListing(Listing):
    def __init__(self, directory: PatchDirectory) -> None:
        self._directory = directory
        self._names: list[bytes] = []
        self._told: frozenset[bytes] = frozenset()
        self._tree: TreeId | None = None
        self._sealed = False
        self._fd = -1
        if not directory.is_lower:
            self._open()
            self.blocks = directory.stat().st_size > LARGE_DIRECTORY

    def _open(self) -> None:
        # One of its own: it must outlive the directory's place in the cache, and an O_PATH one lists nothing.
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        self._fd = os.open(b".", flags, dir_fd=self._directory.directory())

    def rewind(self) -> None:
        directory = self._directory
        check_not_replaced(directory)
        if self._fd < 0 and not directory.is_lower:
            self._open()
        found = map(os.fsencode, os.listdir(self._fd)) if self._fd >= 0 else ()
        names = [name for name in found if not overlay.is_reserved(name)]
        LISTED_NAMES.give(self.uid, len(self._names))
        self._names, self._told = [], frozenset()
        LISTED_NAMES.take(self.uid, len(names))
        self._names, self._told = names, frozenset(names)
        self._tree = None if directory.lower is None else directory.lower.tree
        # Asked after the look: once a tree is sealed its files go from here, and the version has the names.
        self._sealed = directory.branch.sealed is not None

    def entries(self, offset: int) -> Iterator[Listed]:
        check_not_replaced(self._directory)
        if self._directory.removed:
            return
        if self._sealed:
            yield from sealed_entries(self._directory, offset)
            return
        own = len(self._names)
        for index in range(offset, own):
            found = self._listed(self._names[index], index + 1)
            if found is not None:
                yield found
        if self._tree is None:
            return
        for at, entry in self._directory.branch.reader.entries(self._tree, max(offset - own, 0)):
            if entry.name not in self._told:
                found = self._listed(entry.name, own + at + 1)
                if found is not None:
                    yield found

    def _listed(self, name: bytes, offset: int) -> Listed | None:
        """Returns what stands under a name now, None if nothing does."""
        node: Node | None = None
        with contextlib.suppress(OSError):
            node = self._directory.find(name)
        # Asked after the look: the files of a tree that is sealed go, and the version has what was in it.
        twin = self._directory.twin()
        if twin is not None:
            node = twin.lookup(name)
        if node is None:
            return None
        try:
            return Listed(name, node, node.attributes(), offset)
        except OSError:
            return None  # gone just now

    def syncing(self, *, data_only: bool) -> Callable[[], None]:
        if self._fd < 0 and not self._directory.is_lower:  # it was, when it was opened
            self._open()
        return super().syncing(data_only=data_only)

    def fsync(self, *, data_only: bool) -> None:
        if self._fd >= 0:
            overlay.sync(self._fd)

    def release(self) -> None:
        LISTED_NAMES.give(self.uid, len(self._names))
        if self._fd >= 0:
            os.close(self._fd)
