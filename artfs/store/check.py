"""Check: reads every object that versions and patches need, and reports damage and the paths it affects.

Owns: verification and the report. Must not know versions and pending trees: it gets labels and roots.
Blocking, any thread; daemons and seals may run meanwhile. It holds the objects lock shared, so that gc does
not remove what was needed when the check began.

A page is verified by its digest, by its encoding (``model.pages`` refuses what is not a tree), and by its
sums: counts, sizes, reach and content digest must be what the entry or page above says. By induction the
content digest of a version's root is then that of its entries. A blob is verified by its digest and by the
size that each entry gives.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import NamedTuple

import msgspec

from artfs.errors import Damaged
from artfs.model.digest import BlobId, TreeId, digest_of, text
from artfs.model.entry import DirEntry, FileEntry, PageSummary
from artfs.model.pages import Index, Leaf, Page
from artfs.printing import printable
from artfs.store import gc
from artfs.store.gc import Progress, children, no_progress
from artfs.store.layout import Layout
from artfs.store.objects import ObjectStore
from artfs.store.repair import Repair

Root = tuple[str, DirEntry | TreeId]


class Touched(msgspec.Struct, frozen=True):
    """A path that can't be read as it was sealed, printable; ``""`` is the root.

    ``version`` is ``NAME:vN``, or ``NAME/ID`` of a pending version whose base is damaged.
    """

    version: str
    path: str


class Finding(msgspec.Struct, kw_only=True):
    """One damaged object (``blob``, ``tree``), or one version whose record disagrees with its tree."""

    kind: str
    id: str
    why: str
    touches: list[Touched] = []
    repaired: str = ""


class Report(msgspec.Struct, kw_only=True):
    """What a check found; ``msgspec.to_builtins`` makes JSON of it.

    ``roots`` counts versions. No root needs ``surplus`` objects: gc would remove them, or a seal needs them.
    """

    roots: int = 0
    trees: int = 0
    blobs: int = 0
    bytes: int = 0
    findings: list[Finding] = []
    surplus_trees: int = 0
    surplus_blobs: int = 0
    surplus_bytes: int = 0
    temps_removed: int = 0
    marks_removed: int = 0

    @property
    def sound(self) -> bool:
        """Whether no damage is left."""
        return all(finding.repaired == "replaced" for finding in self.findings)


def check(
    opened: Layout,
    store: ObjectStore,
    roots: Callable[[], Iterable[Root]],
    *,
    repair: bool = False,
    spare: Callable[[], Iterable[int]] = tuple,
    progress: Progress = no_progress,
) -> Report:
    """Verifies all objects that the roots reach.

    ``roots`` is called under the lock and returns a label (``model:v3``) and root entry for each version, and
    a label and tree for each base of a pending tree. ``progress`` is called by this thread alone, with phase,
    done and total: pages (total 0: unknown), then bytes of blobs.

    With ``repair``, a missing or damaged blob is replaced if its bytes are in another file of the store, or
    below one of the directories (descriptors, left open) that ``spare`` returns. Otherwise a damaged blob is
    marked: reading it fails from then on instead of returning wrong bytes. Marks of sound blobs and stale
    temps are removed. No damaged object is removed: its file may be all that is left.
    """
    with opened.objects_lock.shared():
        report = Report()
        known = list(roots())
        report.roots = sum(isinstance(root, DirEntry) for _, root in known)
        walk = _Walk(store, progress)
        walk.roots(known)
        blobs = _verify_blobs(store, walk, report, progress)
        report.trees = len(walk.pages)
        report.findings = list(_findings(store, walk, blobs, known))
        surplus = _count_surplus(store, walk, report)
        if repair:
            _repair(store, walk, blobs, surplus, spare, report)
    if repair:
        report.temps_removed = store.sweep_temps() + gc.sweep_temps(opened)
    return report


class _Walk:
    """All pages below some roots, each read once, children before parents."""

    def __init__(self, store: ObjectStore, progress: Progress) -> None:
        self._store, self._progress = store, progress
        #: The summary and level of each page; None if it is damaged.
        self.pages: dict[TreeId, tuple[PageSummary, int] | None] = {}
        self.parents: dict[TreeId, list[TreeId]] = {}
        self.faults: dict[TreeId, str] = {}
        #: The size of each blob as its first entry gives it, and the sizes of entries that disagree.
        self.sizes: dict[BlobId, int] = {}
        self.other_sizes: dict[BlobId, set[int]] = {}
        self.root_faults: list[tuple[str, str]] = []

    def roots(self, known: list[Root]) -> None:
        for label, root in known:
            if isinstance(root, DirEntry):
                self._descend(root.tree)
                if fault := self._fault_of_entry(root):
                    self.root_faults.append((label, fault))
            else:
                self._descend(root)

    def _descend(self, root: TreeId) -> None:
        # No recursion: directories may be deeper than the stack.
        path: list[tuple[TreeId, Page, Iterator[TreeId]]] = []
        self._enter(root, path)
        while path:
            tree, page, below = path[-1]
            child = next(below, None)
            if child is None:
                path.pop()
                self._leave(tree, page)
                continue
            self.parents.setdefault(child, []).append(tree)
            if child not in self.pages:
                self._enter(child, path)

    def _enter(self, tree: TreeId, path: list[tuple[TreeId, Page, Iterator[TreeId]]]) -> None:
        if tree in self.pages:
            return
        self.pages[tree] = None
        self._progress("trees", len(self.pages), 0)
        try:
            page = self._store.read_page(tree)
        except Damaged as error:
            self.faults[tree] = error.why
        except OSError as error:
            self.faults[tree] = f"it can't be read: {error.strerror}"
        else:
            path.append((tree, page, iter(children(page))))

    def _leave(self, tree: TreeId, page: Page) -> None:
        self.pages[tree] = page.summary(tree, self._store.algorithm), page.level
        if isinstance(page, Index):
            fault = next(filter(None, (self._fault_of_item(page, item) for item in page.items)), "")
        else:
            fault = self._fault_of_leaf(page)
        if fault:
            self.faults[tree] = fault

    def _fault_of_leaf(self, page: Leaf) -> str:
        fault = ""
        for entry in page.items:
            if type(entry) is FileEntry:
                if self.sizes.setdefault(entry.blob, entry.size) != entry.size:
                    self.other_sizes.setdefault(entry.blob, set()).add(entry.size)
            elif type(entry) is DirEntry:
                fault = fault or self._fault_of_entry(entry)
        return fault

    def _fault_of_entry(self, entry: DirEntry) -> str:
        found = self.pages[entry.tree]
        if found is None:  # that page has a finding of its own
            return ""
        summary, _ = found
        actual = summary.directory(entry.name, entry.mode, entry.uid, entry.gid, entry.mtime_ns, entry.xattrs)
        if actual == entry:
            return ""
        what = "content digest" if actual.content != entry.content else "counts"
        name = f"its entry '{printable(entry.name)}'" if entry.name else "its root"
        return f"{name} disagrees with the directory about the {what}"

    def _fault_of_item(self, page: Index, item: PageSummary) -> str:
        found = self.pages[item.tree]
        if found is None or found == (item, page.level - 1):
            return ""
        return f"its summary of page {text(item.tree)} disagrees with that page"


class _BadBlob(NamedTuple):
    """The actual digest (None if it can't be read) and size of a bad blob, and what is wrong with it."""

    digest: bytes | None
    size: int
    why: str


def _verify_blobs(
    store: ObjectStore, walk: _Walk, report: Report, progress: Progress
) -> dict[BlobId, _BadBlob]:
    bad: dict[BlobId, _BadBlob] = {}
    total = sum(walk.sizes.values())

    def verify(blob: BlobId) -> tuple[BlobId, bytes | None, int, str]:
        return blob, *store.verify_blob(blob)

    remaining = iter(walk.sizes)
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1), thread_name_prefix="artfs-check") as pool:
        # In batches: map() would make a future for each of a million blobs at once.
        while batch := list(islice(remaining, 1000)):
            for blob, digest, size, why in pool.map(verify, batch):
                report.blobs += 1
                report.bytes += size
                recorded = {walk.sizes[blob], *walk.other_sizes.get(blob, ())}
                if why:
                    bad[blob] = _BadBlob(digest, size, why)
                elif recorded != {size}:
                    sizes = ", ".join(map(str, sorted(recorded - {size})))
                    bad[blob] = _BadBlob(digest, size, f"it has {size} bytes, but entries say {sizes}")
                progress("blobs", report.bytes, total)
    return bad


def _findings(
    store: ObjectStore, walk: _Walk, blobs: dict[BlobId, _BadBlob], known: list[Root]
) -> Iterator[Finding]:
    for label, why in walk.root_faults:
        yield Finding(kind="version", id=label, why=why, touches=[Touched(label, "")])
    if not walk.faults and not blobs:
        return
    of_trees: dict[TreeId, list[Touched]] = {tree: [] for tree in walk.faults}
    of_blobs: dict[BlobId, list[Touched]] = {blob: [] for blob in blobs}
    tainted = _tainted(store, walk, of_trees.keys(), of_blobs.keys())
    for label, root in known:
        todo = [(b"", root.tree if isinstance(root, DirEntry) else root)]
        while todo:
            path, tree = todo.pop()
            if tree not in tainted:
                continue
            if tree in of_trees:
                of_trees[tree].append(Touched(label, printable(path)))
            if walk.pages[tree] is None:
                continue
            page = store.page(tree)
            if isinstance(page, Index):
                todo += [(path, item.tree) for item in page.items]
                continue
            for entry in page.items:
                if type(entry) is FileEntry and entry.blob in of_blobs:
                    bad = blobs[entry.blob]
                    if bad.digest == digest_of(entry.blob) and bad.size == entry.size:
                        continue  # the blob is sound; another of its entries is not
                    of_blobs[entry.blob].append(Touched(label, printable(_join(path, entry.name))))
                elif type(entry) is DirEntry and entry.tree in tainted:
                    todo.append((_join(path, entry.name), entry.tree))
    for tree, touches in of_trees.items():
        yield Finding(kind="tree", id=text(tree), why=walk.faults[tree], touches=_ordered(touches))
    for blob, touches in of_blobs.items():
        yield Finding(kind="blob", id=text(blob), why=blobs[blob].why, touches=_ordered(touches))


def _ordered(touches: list[Touched]) -> list[Touched]:
    return sorted(set(touches), key=lambda touched: (touched.version, touched.path))


def _tainted(
    store: ObjectStore, walk: _Walk, trees: Iterable[TreeId], blobs: Iterable[BlobId]
) -> set[TreeId]:
    """Returns the pages from which a damaged object can be reached, damaged pages included."""
    todo, bad = list(trees), set(blobs)
    if bad:
        for tree, found in walk.pages.items():
            if found is not None and found[1] == 0:
                page = store.page(tree)
                if any(type(e) is FileEntry and e.blob in bad for e in page.items):
                    todo.append(tree)
    tainted: set[TreeId] = set()
    while todo:
        tree = todo.pop()
        if tree not in tainted:
            tainted.add(tree)
            todo += walk.parents.get(tree, ())
    return tainted


def _join(path: bytes, name: bytes) -> bytes:
    return path + b"/" + name if path else name


def _count_surplus(store: ObjectStore, walk: _Walk, report: Report) -> list[BlobId]:
    for tree in store.trees():
        if tree not in walk.pages:
            report.surplus_trees += 1
            report.surplus_bytes += store.tree_size(tree) or 0
    surplus = [blob for blob in store.blobs() if blob not in walk.sizes]
    report.surplus_blobs = len(surplus)
    report.surplus_bytes += sum(store.blob_size(blob) or 0 for blob in surplus)
    return surplus


def _repair(
    store: ObjectStore,
    walk: _Walk,
    blobs: dict[BlobId, _BadBlob],
    surplus: list[BlobId],
    spare: Callable[[], Iterable[int]],
    report: Report,
) -> None:
    # A sound blob whose entry has a wrong size needs no replacement.
    unsound = {blob: bad for blob, bad in blobs.items() if bad.digest != digest_of(blob)}
    repair = Repair(store, {blob: walk.sizes[blob] for blob in unsound}, walk.sizes.keys())
    actual_digests = {blob: bad.digest for blob, bad in unsound.items() if bad.digest is not None}
    repair.from_store(actual_digests, surplus)
    repair.from_trees(spare())
    replaced = repair.finish()
    for finding in report.findings:
        if finding.kind == "blob":
            finding.repaired = replaced.get(finding.id, "")
    for blob in store.damaged_blobs.all():
        if blob in unsound:  # finish() has marked or replaced these
            continue
        sound = blob in walk.sizes or not store.verify_blob(blob)[2]
        if sound or store.blob_size(blob) is None:
            store.damaged_blobs.remove(blob)
            report.marks_removed += 1
