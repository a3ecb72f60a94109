"""The base of a patch: looked up, followed when its alias moves, and merged with the version it moved to.

Owns the meaning of a base's name. Must not know the layout of a pending tree. Blocking; any thread.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from artfs.catalog.collection import Collection
from artfs.catalog.records import VersionRecord
from artfs.errors import Collision, NotFound
from artfs.model import merge
from artfs.model.digest import TreeId
from artfs.model.entry import DirEntry
from artfs.model.names import split_reference
from artfs.pending.overlay import Base
from artfs.pending.pending_version import PendingVersion
from artfs.store.objects import ObjectStore

#: Finds a collection by its name; raises :class:`~artfs.errors.CollectionNotFound`.
Find = Callable[[str], Collection]


class Admission:
    """Decides which versions a caller may use as a base. This one admits all."""

    def enter(self, collection: Collection) -> None:
        """Raises PermissionError if the caller may not list the collection."""

    def see(self, collection: Collection, record: VersionRecord) -> None:
        """Raises PermissionError if the caller may not read the root of a version."""

    def relabel(self, collection: Collection) -> None:
        """Raises PermissionError if the caller may not change labels of the versions of a collection."""


EVERYBODY = Admission()


def record_of(
    find: Find, collection: str, ref: str, admit: Admission = EVERYBODY
) -> tuple[Collection, VersionRecord]:
    """Finds the version of a reference: ``v3``, an alias, or either of another collection, ``other:v3``.

    Raises :class:`NotFound`, InvalidCommand for a loop of aliases, and what `admit` does.
    """
    other, word = split_reference(ref)
    found = find(other or collection)
    admit.enter(found)
    record = found.record(found.resolve(word))
    admit.see(found, record)
    return found, record


def look_up(find: Find, collection: str, ref: str, admit: Admission = EVERYBODY) -> Base:
    """Returns what a reference names now, as a base. Raises what :func:`record_of` and `admit` do.

    A patch shows the content of its base below its own root, so the modes of the base's root and collection
    no longer apply: they are checked here.
    """
    found, record = record_of(find, collection, ref, admit)
    return _base(ref, found, record)


def _base(ref: str, found: Collection, record: VersionRecord) -> Base:
    return Base(ref, found.name, record.version, record.root.tree)


def root_of(find: Find, base: Base) -> DirEntry:
    """Returns the root of a base that was just looked up. Raises :class:`NotFound`."""
    found = find(base.collection)
    return found.record(found.resolve(base.version)).root.entry()


def moved(find: Find, base: Base, collection: str, admit: Admission = EVERYBODY) -> Base | None:
    """Returns the version that a base's alias leads to now; None if it is the same, or there is none.

    Raises what `admit` does for that version.
    """
    if not base.follows:
        return None
    with suppress(NotFound):
        found, record = record_of(find, collection, base.ref)  # the caller may not pass the old one
        if (found.name, record.version) != (base.collection, base.version):
            admit.see(found, record)
            return _base(base.ref, found, record)
    return None


def rebased(
    store: ObjectStore,
    pending_version: PendingVersion,
    base: Base,
    ours: DirEntry,
    onto: Base,
    *,
    ours_wins: Callable[[merge.Conflict], bool] = merge.never,
) -> DirEntry:
    """Returns `ours`, a changed `base`, with the changes that led from there to `onto`.

    The root keeps its own attributes. Raises :class:`Collision`, and records the conflicts in
    `pending_version`, so that conflicts that were shown before are known. A conflict that ours wins stays
    recorded, since the merge is repeated if another one refuses it.
    """
    met: list[merge.Conflict] = []

    def asked(conflict: merge.Conflict) -> bool:
        met.append(conflict)
        return ours_wins(conflict)

    def root(tree: TreeId) -> DirEntry:
        summary = store.reader.summary(tree)
        return summary.directory(b"", ours.mode, ours.uid, ours.gid, ours.mtime_ns, ours.xattrs)

    result = merge.merge(
        store.reader, root(base.tree_id), ours, root(onto.tree_id), store.put, ours_wins=asked
    )
    if result.conflicts:
        pending_version.note_conflicts((conflict.path, conflict.entry) for conflict in met)
        paths = [(conflict.path, conflict.ours, conflict.theirs) for conflict in result.conflicts]
        raise Collision.between(base.ref, onto.name_in(pending_version.collection), paths)
    return result.root
