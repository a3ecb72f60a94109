"""Garbage collection: removes the objects that no tree needs, and what crashes left behind.

Owns: mark and sweep. Must not know versions and pending trees: their roots are asked for. Blocking, any
thread; safe beside daemons and seals in other processes, since those hold the objects lock shared from
their first look into the store to their commit.

Marking goes over all pages twice: without the lock, which takes long, then under it, which is quick as
pages never change and most were seen. Sweeping is under the lock. Files that are open stay readable
after their names are gone.
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
    """What was removed, or would be with ``dry_run``. ``bytes`` is what the objects' files hold.

    A blob whose file also has a name in a pending tree gives its bytes back only when that is gone.
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


def silent(_phase: str, _done: int, _of: int) -> None:
    """The progress that nobody watches."""


def collect(
    opened: Layout,
    store: ObjectStore,
    roots: Roots,
    *,
    pending: Callable[[], bool] = lambda: True,
    dry_run: bool = False,
    progress: Progress = silent,
) -> Collected:
    """Removes every object that can't be reached from the roots.

    ``roots`` is called twice, the second time under the exclusive lock, and gives the trees of all versions
    and all that pending trees lie over or name. ``progress`` is told phase, done and total (0: not known).
    Ends doubt, if ``pending`` says that there are no pending versions: their files may be in it too.

    Raises Damaged, and has removed no object, if a page that is needed can't be read: what it needs is not
    known then. Waits for seals that are under way.
    """
    seen = Needed()
    with contextlib.suppress(Damaged):
        seen.add(store, roots(), progress)
        seen.whole = True
    with opened.objects_lock.exclusive():
        needed = seen if seen.whole else Needed()
        needed.add(store, roots(), progress)
        blobs, trees, size = _sweep(store, needed, dry_run, progress)
        temps = store.sweep_temps(any_age=True, dry_run=dry_run)
        if not dry_run and store.failed_flush.refresh() and not pending():
            store.failed_flush.clear()
    temps += sweep_temps(opened, dry_run=dry_run)
    with opened.directory(layout.TRASH) as fd:
        thrown = tree_removal.empty_trash(fd, dry_run=dry_run)
    return Collected(
        dry_run=dry_run,
        blobs=blobs,
        trees=trees,
        bytes=size,
        kept_blobs=len(needed.blobs),
        kept_trees=len(needed.trees),
        temps=temps,
        trash=thrown,
    )


def sweep_temps(opened: Layout, *, dry_run: bool = False) -> int:
    """Removes temps of small files that dead processes left, and pending versions they had half made."""
    count = 0
    for path in layout.catalog_directories(opened):
        with contextlib.suppress(FileNotFoundError), opened.directory(path) as fd:
            count += durable.sweep_temps(fd, dry_run=dry_run)
            if path == b".":
                count += tree_removal.sweep_stale_directories(fd, dry_run=dry_run)  # of store/probe.py
            if path.endswith(b"/pending"):
                count += tree_removal.sweep_stale_directories(fd, dry_run=dry_run)
                count += _sweep_pending(fd, dry_run=dry_run)
    return count


def _sweep_pending(fd: int, *, dry_run: bool) -> int:
    """Removes what was being made beside the trees of pending versions by processes that died."""
    count = 0
    for name in map(os.fsencode, os.listdir(fd)):
        if not name.startswith(b"."):
            with contextlib.suppress(OSError), durable.directory(fd, name) as staging:
                count += sweep_staging(staging, dry_run=dry_run)
    return count


def sweep_staging(fd: int, *, any_age: bool = False, dry_run: bool = False) -> int:
    """Removes temps, files and directories, beside the tree of one pending version."""
    return durable.sweep_temps(fd, any_age=any_age, dry_run=dry_run) + tree_removal.sweep_stale_directories(
        fd, any_age=any_age, dry_run=dry_run
    )


class Needed:
    """The ids of all pages and blobs that some roots reach."""

    def __init__(self) -> None:
        self.trees: set[TreeId] = set()
        self.blobs: set[BlobId] = set()
        self.whole = False

    def add(self, store: ObjectStore, roots: Iterable[TreeId], progress: Progress) -> None:
        """Raises Damaged; then pages count as seen whose children were not, and this is of no more use."""
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
    """Returns the pages that a page names: of directories in a leaf, below it for an index page."""
    if isinstance(page, Leaf):
        return [entry.tree for entry in page.items if type(entry) is DirEntry]
    return [item.tree for item in page.items]


def _sweep(store: ObjectStore, needed: Needed, dry_run: bool, progress: Progress) -> tuple[int, int, int]:
    blobs = trees = size = 0
    # Pages first: a page that is left alone must not seem to be whole.
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
