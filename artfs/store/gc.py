"""Garbage collection: removes the objects that no tree needs, and what crashes left behind.

Owns: mark and sweep. Must not know versions and pending trees: the caller supplies their roots. Blocking, any
thread; daemons and seals may run in other processes, which hold the objects lock shared from their first
access to the store to their commit.

Marking reads all pages twice: first without the lock, which takes long, then under it, which is quick as
pages never change and most are known. Sweeping holds the lock. Open files stay readable after their names
are removed.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable

import msgspec

from artfs.errors import Damaged
from artfs.model.digest import BlobId, TreeId
from artfs.model.entry import DirEntry, FileEntry
from artfs.model.pages import Leaf, Page
from artfs.store import durable, layout, tree_removal
from artfs.store.layout import Layout
from artfs.store.objects import ObjectStore


class Collected(msgspec.Struct, frozen=True, kw_only=True):
    """What was removed, or would be with ``dry_run``. ``bytes`` is the sum of the objects' sizes.

    The space of a blob that also has a name in a pending tree is freed only when that name is removed.
    """

    dry_run: bool
    blobs: int
    trees: int
    bytes: int
    kept_blobs: int
    kept_trees: int
    temps: int
    trash: int


Roots = Callable[[], Iterable[TreeId]]
Progress = Callable[[str, int, int], None]


def no_progress(_phase: str, _done: int, _of: int) -> None:
    """Ignores the progress."""


def collect(
    opened: Layout,
    store: ObjectStore,
    roots: Roots,
    *,
    pending: Callable[[], bool] = lambda: True,
    dry_run: bool = False,
    progress: Progress = no_progress,
) -> Collected:
    """Removes every object that can't be reached from the roots.

    ``roots`` is called twice, the second time under the exclusive lock, and returns the trees of all versions
    and the bases of all pending trees. ``progress`` is called with phase, done and total (0: unknown).
    Clears a recorded flush failure if ``pending`` returns False: it concerns the files of pending versions
    too.

    Raises Damaged, and has removed no object, if a needed page can't be read: what it needs is unknown then.
    Waits for seals that are under way.
    """
    seen = Reachable()
    complete = False
    with contextlib.suppress(Damaged):
        seen.add(store, roots(), progress)
        complete = True
    with opened.objects_lock.exclusive():
        needed = seen if complete else Reachable()
        needed.add(store, roots(), progress)
        blobs, trees, size = _sweep(store, needed, dry_run, progress)
        temps = store.sweep_temps(any_age=True, dry_run=dry_run)
        if not dry_run and store.failed_flush.refresh() and not pending():
            store.failed_flush.clear()
    temps += sweep_temps(opened, dry_run=dry_run)
    with opened.directory(layout.TRASH) as fd:
        discarded = tree_removal.empty_trash(fd, dry_run=dry_run)
    return Collected(
        dry_run=dry_run,
        blobs=blobs,
        trees=trees,
        bytes=size,
        kept_blobs=len(needed.blobs),
        kept_trees=len(needed.trees),
        temps=temps,
        trash=discarded,
    )


def sweep_temps(opened: Layout, *, dry_run: bool = False) -> int:
    """Removes temps of small files and half-made pending versions that dead processes left."""
    count = 0
    for path in layout.catalog_directories(opened):
        with contextlib.suppress(FileNotFoundError), opened.directory(path) as fd:
            pending = path.endswith(b"/pending")
            # The root may have one of store/probe.py; the catalog removes half-made collections.
            count += tree_removal.sweep_temps(fd, dry_run=dry_run, directories=pending or path == b".")
            if pending:
                count += _sweep_pending(fd, dry_run=dry_run)
    return count


def _sweep_pending(fd: int, *, dry_run: bool) -> int:
    """Removes what dead processes left beside the trees of pending versions."""
    count = 0
    for name in map(os.fsencode, os.listdir(fd)):
        if not name.startswith(b"."):
            with contextlib.suppress(OSError), durable.directory(fd, name) as staging:
                count += tree_removal.sweep_temps(staging, dry_run=dry_run)
    return count


class Reachable:
    """The ids of all pages and blobs that some roots reach."""

    def __init__(self) -> None:
        self.trees: set[TreeId] = set()
        self.blobs: set[BlobId] = set()

    def add(self, store: ObjectStore, roots: Iterable[TreeId], progress: Progress) -> None:
        """Adds all that the roots reach. Raises Damaged: then the sets are incomplete and of no use."""
        todo = list(roots)
        while todo:
            tree = todo.pop()
            if tree in self.trees:
                continue
            page = store.read_page(tree)
            self.trees.add(tree)
            todo += children(page)
            if isinstance(page, Leaf):
                self.blobs.update(e.blob for e in page.items if type(e) is FileEntry)
            progress("mark", len(self.trees), 0)


def children(page: Page) -> list[TreeId]:
    """Returns the pages that a page names: the directories of a leaf, the pages below an index page."""
    if isinstance(page, Leaf):
        return [entry.tree for entry in page.items if type(entry) is DirEntry]
    return [item.tree for item in page.items]


def _sweep(store: ObjectStore, needed: Reachable, dry_run: bool, progress: Progress) -> tuple[int, int, int]:
    blobs = trees = size = 0
    # Pages first: no page may remain whose objects are gone.
    for tree in store.trees():
        if tree not in needed.trees:
            size += store.tree_size(tree) or 0
            trees += 1
            if not dry_run:
                store.remove_tree(tree)
            progress("sweep", trees, 0)
    for blob in store.blobs():
        if blob not in needed.blobs:
            size += store.blob_size(blob) or 0
            blobs += 1
            if not dry_run:
                store.remove_blob(blob)
            progress("sweep", trees + blobs, 0)
    return blobs, trees, size
