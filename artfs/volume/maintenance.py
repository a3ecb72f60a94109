"""Maintenance of a volume: check and gc over everything in it.

Owns what counts as needed and as a problem, in all parts of a volume. Blocking; any thread may call it,
also while daemons and seals run.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Container, Iterator
from dataclasses import dataclass

from msgspec.structs import replace

from artfs.catalog import records
from artfs.catalog.catalog import Catalog
from artfs.catalog.collection import Collection
from artfs.catalog.records import VersionRecord
from artfs.catalog.runs import RunCatalog
from artfs.errors import ArtfsError, CollectionNotFound, Damaged, DraftNotFoundError, VersionNotFound
from artfs.model import manifest
from artfs.model.digest import TreeId
from artfs.model.entry import ReferenceEntry
from artfs.pending import inspection, overlay
from artfs.pending.pending_version import PENDING, TREE, PendingVersion
from artfs.printing import printable, printable_uri
from artfs.store import check, gc
from artfs.store.check import Finding, Touched
from artfs.store.layout import Layout
from artfs.store.objects import ObjectStore
from artfs.volume.pending_trees import pending_names
from artfs.volume.volume_references import References


@dataclass(frozen=True, slots=True)
class Maintenance:
    """The parts of a volume, which the caller closes."""

    layout: Layout
    store: ObjectStore
    catalog: Catalog
    runs: RunCatalog
    references: References

    def check(self, *, repair: bool = False, progress: gc.Progress = gc.no_progress) -> check.Report:
        """Verifies what versions and patches need, and the catalog's files. Others may use the volume."""

        def roots() -> Iterator[check.Root]:
            # Patches first: one that is sealed meanwhile is then found as a version.
            for collection, name in self._readable_pending():
                label = f"{collection.name}/{printable(name)}"
                with contextlib.suppress(Damaged):  # reported among its problems
                    yield from ((label, tree) for tree in self._trees_below(collection, name))
            for collection, record in self.sound_records():
                yield f"{collection.name}:{record.version}", record.root.entry()

        report = check.check(
            self.layout, self.store, roots, repair=repair, spare=self._pending_roots, progress=progress
        )
        report.findings += [
            check.Finding(kind="file", id=found.what, why=found.why) for found in self._problems()
        ]
        return report

    def _problems(self) -> Iterator[Damaged]:
        """Yields what is wrong with everything except objects."""
        yield from self.catalog.problems()
        for collection in self.catalog.collections():
            with contextlib.suppress(CollectionNotFound):
                yield from collection.problems()
        yield from self.runs.problems()
        for collection, name in self._readable_pending():
            try:
                yield from self._problems_of_pending(collection, name)
            except (DraftNotFoundError, CollectionNotFound):  # it was sealed or discarded just now
                continue
            except Damaged as error:
                yield error

    def _problems_of_pending(self, collection: Collection, name: bytes) -> list[Damaged]:
        with collection.opened(PENDING) as fd:
            opened = PendingVersion(fd, collection.name, name)
            with contextlib.closing(opened):
                found = list(inspection.problems(opened, self.store.reader))
                try:
                    records.load_metadata(opened.metadata(), opened.what(b"metadata.json"))
                except Damaged as error:
                    found.append(error)
                return found if opened.has_name_in(fd) else []

    def check_references(self, *, progress: gc.Progress = gc.no_progress) -> list[Finding]:
        """Compares the bytes of references with what was recorded; returns a finding for each bad URI."""
        where: dict[ReferenceEntry, list[Touched]] = {}
        for collection, record in self.sound_records():
            for path, entry in manifest.walk(self.store.reader, record.root.entry()):
                if isinstance(entry, ReferenceEntry):
                    same = replace(entry, name=b"", mode=0, uid=0, gid=0, mtime_ns=0, xattrs=())
                    touched = Touched(f"{collection.name}:{record.version}", printable(path))
                    where.setdefault(same, []).append(touched)
        found = []
        for done, (entry, touches) in enumerate(where.items(), 1):
            try:
                self.references.verify(entry)
            except ArtfsError as error:
                uri = printable_uri(os.fsdecode(entry.uri))
                found.append(Finding(kind="reference", id=uri, why=str(error), touches=touches))
            progress("references", done, len(where))
        return found

    def preview_gc(
        self, gone: Container[tuple[str, str | bytes]] = (), *, progress: gc.Progress = gc.no_progress
    ) -> gc.Collected:
        """Returns what :meth:`gc` would remove. Raises as that does.

        `gone` are versions (by name) and pending versions (by id) of collections that count as removed.
        """
        return gc.collect(
            self.layout, self.store, lambda: self._needed_trees(gone), dry_run=True, progress=progress
        )

    def gc(self, *, progress: gc.Progress = gc.no_progress) -> gc.Collected:
        """Removes what no version and no pending version needs. Daemons and seals may run meanwhile.

        Raises :class:`~artfs.errors.Damaged`, and has removed no object, if it can't tell what is needed.
        """

        def pending() -> bool:
            return next(self._all_pending(), None) is not None

        collected = gc.collect(
            self.layout, self.store, self._needed_trees, pending=pending, progress=progress
        )
        self.catalog.keep_reserve()
        return collected

    def _needed_trees(self, gone: Container[tuple[str, str | bytes]] = ()) -> list[TreeId]:
        """Lists the roots of all versions, and of the bases of pending versions.

        Raises :class:`~artfs.errors.Damaged` if something that may need more objects can't be read.
        """
        for unexpected in self.catalog.unexpected_entries():
            raise unexpected
        # Pending ones first: one that is sealed meanwhile is then found as a version.
        found = [
            tree
            for collection, name in self._all_pending()
            if (collection.name, name) not in gone
            for tree in self._trees_below(collection, name)
        ]
        for collection, records_ in self.catalog.each(lambda one: (one, one.versions())):
            found += [
                record.root.entry().tree
                for record in records_
                if (collection.name, record.version) not in gone
            ]
        return found

    def _trees_below(self, collection: Collection, name: bytes) -> set[TreeId]:
        """Returns the base and the lower tree of a pending version; nothing if it no longer exists."""
        # From the files, not from this process's memory: another process may have rebased it.
        found = set()
        removed = contextlib.suppress(DraftNotFoundError, CollectionNotFound)
        with removed, self._pending_root(collection, name) as root:
            if base := overlay.base_of(root):
                found.add(base.tree_id)
            if lower := overlay.lower_of(root):
                found.add(lower.tree)
        return found

    def sound_records(self) -> Iterator[tuple[Collection, VersionRecord]]:
        # Damaged ones are reported among the collection's problems.
        for collection in self.catalog.collections():
            numbers: list[int] = []
            with contextlib.suppress(Damaged, CollectionNotFound):
                numbers = collection.numbers()
            for number in numbers:
                with contextlib.suppress(Damaged, VersionNotFound, CollectionNotFound):
                    yield collection, collection.record(number)

    def _all_pending(self, *ignored: type[ArtfsError]) -> Iterator[tuple[Collection, bytes]]:
        for collection in self.catalog.collections():
            names: list[bytes] = []
            with contextlib.suppress(CollectionNotFound, *ignored):
                names = pending_names(collection)
            yield from ((collection, name) for name in names)

    def _readable_pending(self) -> Iterator[tuple[Collection, bytes]]:
        return self._all_pending(Damaged)  # which is reported among the collection's problems

    def _pending_roots(self) -> Iterator[int]:
        for collection, name in self._all_pending():
            with contextlib.suppress(ArtfsError), self._pending_root(collection, name) as root:
                yield root

    @contextlib.contextmanager
    def _pending_root(self, collection: Collection, name: bytes) -> Iterator[int]:
        """Opens the root of a pending tree's files on disk. Raises :class:`DraftNotFoundError`."""
        with collection.opened(PENDING) as fd:
            pending_version = PendingVersion(fd, collection.name, name)
        try:
            root = pending_version.open_tree()
            try:
                yield root
            finally:
                os.close(root)
        except FileNotFoundError:
            with collection.opened(PENDING) as fd:
                if pending_version.has_name_in(fd):
                    raise Damaged(pending_version.what(TREE), "it is missing") from None
            raise DraftNotFoundError(collection.name, name) from None  # it was sealed or discarded just now
        finally:
            pending_version.close()
