"""What a finish would make of a pending tree that is still being changed: its root and its pages.

Stores nothing: new pages are kept in memory. Blocking; any thread.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

from artfs.errors import Busy
from artfs.model import manifest, pages
from artfs.model.diff import Change, diff
from artfs.model.digest import BlobId, TreeId, blob_id
from artfs.model.entry import DirEntry, ReferenceEntry
from artfs.model.tree import TreeReader, build
from artfs.pending.pending_tree import PendingTree
from artfs.seal.ingest import ingest
from artfs.store.objects import ObjectStore

_ATTEMPTS = 5  # against files that disappear while they are read
# The errors for an entry that has disappeared or become of another kind.
_REPLACED = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EINVAL, errno.ENXIO)


class Preview:
    """Receives pages and blobs as a store does, and keeps the pages that the store does not have."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._pages: dict[TreeId, pages.Page] = {}
        self.algorithm, self.reader = store.algorithm, TreeReader(self._page)

    def hash_fd(self, fd: int) -> bytes:
        return self._store.hash_fd(fd)

    def identify(self, digest: bytes, fd: int) -> tuple[BlobId, bool]:
        return self._store.identify(digest, fd)

    def put(self, tree: TreeId, data: bytes) -> None:
        self._pages[tree] = pages.decode(data)

    def _page(self, tree: TreeId) -> pages.Page:
        page = self._pages.get(tree)
        return self._store.page(tree) if page is None else page


class _Names(Preview):
    """Gives all files the same blob, for callers that need only their names."""

    def hash_fd(self, fd: int) -> bytes:  # noqa: ARG002
        return bytes(self.algorithm.size)

    def identify(self, digest: bytes, fd: int) -> tuple[BlobId, bool]:  # noqa: ARG002
        return blob_id(self.algorithm, digest), True


def changes(tree: PendingTree) -> tuple[Iterator[Change], int]:
    """Returns the changes of a pending tree since its base, or since nothing if it has none, and their reach.

    The reach is the mask of users who may list every directory of both sides. Each file counts as it is when
    it is read. Raises :class:`~artfs.errors.CannotSeal` as a finish would, and Busy if files keep
    disappearing while they are read.
    """
    sink, root = _preview(tree)
    base = tree.base()
    before = build((), sink.algorithm, sink.put) if base is None else sink.reader.summary(base.tree_id)
    old = before.directory(b"", root.mode, root.uid, root.gid, root.mtime_ns)
    return diff(sink.reader, old, root), old.reach & root.reach


def references(tree: PendingTree) -> tuple[Iterator[tuple[bytes, ReferenceEntry]], int]:
    """Returns the references in a pending tree, by path, and its reach. No file is read.

    Raises as :func:`changes` does.
    """
    if tree.lower is None and not tree.pending_version.has_references():
        return iter(()), 0o555
    sink, root = _preview(tree, _Names)
    found = manifest.walk(sink.reader, root)
    return ((path, entry) for path, entry in found if isinstance(entry, ReferenceEntry)), root.reach


def _preview(tree: PendingTree, kind: type[Preview] = Preview) -> tuple[Preview, DirEntry]:
    for _ in range(_ATTEMPTS):
        sink = kind(tree.store)
        root = tree.open_root()
        try:
            return sink, ingest(tree, root, sink, lambda: None).root
        except OSError as error:
            if error.errno not in _REPLACED:
                raise
        finally:
            os.close(root)
    raise Busy("the pending version is changing all the time: try again later")
