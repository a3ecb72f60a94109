"""Labels of a pending version: changed while it is pending, and added to the version that it is equal to.

Owns how tags, description and metadata pass from one to the other. Blocking; any thread may call it.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from typing import Any

from msgspec import to_builtins
from msgspec.structs import replace

from artfs.catalog import records
from artfs.catalog.collection import Collection
from artfs.catalog.records import Labels, VersionRecord
from artfs.model import names
from artfs.model.label_changes import ADDING, merged
from artfs.pending.pending_version import PendingLabels, PendingVersion
from artfs.seal.patch_base import Admission

_KEPT = ("description", "metadata", "tags")


def metadata_of(pending_version: PendingVersion) -> dict[str, Any]:
    """Returns the metadata of a pending version. Raises :class:`~artfs.errors.Damaged`."""
    return records.load_metadata(pending_version.metadata(), pending_version.what(b"metadata.json"))


def change(
    pending_version: PendingVersion, changes: Mapping[str, Any], since: Mapping[str, Any] = ADDING
) -> None:
    """Changes ``aliases``, ``tags``, ``description`` and ``metadata`` of a pending version, all at once.

    `since` is what :func:`~artfs.model.label_changes.merged` takes it for: by default nothing is removed.
    Changes of other processes are kept. The caller excludes a seal of the pending version. Raises
    InvalidCommand, InvalidName and :class:`~artfs.errors.Damaged`.
    """

    def changed(labels: PendingLabels, metadata: bytes) -> tuple[PendingLabels, bytes]:
        known = metadata_of(pending_version) if "metadata" in changes else {}
        now = to_builtins(labels) | {"metadata": known}
        after = merged(changes, since, now)
        if "metadata" in after and after["metadata"] != known:
            metadata = records.dump(records.check_metadata(after["metadata"])).encode()
        words = labels if "aliases" not in after else replace(labels, aliases=_aliases(after["aliases"]))
        if "tags" in after:
            words = replace(words, tags=records.check_tags(after["tags"]))
        if "description" in after:
            words = replace(words, description=records.check_description(after["description"]))
        return words, metadata

    pending_version.annotate(changed)


def _aliases(aliases: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(map(names.check_alias, aliases)))


def check(
    collection: Collection, record: VersionRecord, pending_version: PendingVersion, admit: Admission
) -> None:
    """Checks that the labels of a pending version can be added to the version that it is equal to.

    Raises PermissionError if `admit` refuses that, and what :func:`give` raises.
    """
    before = collection.labels(record.number)
    changed = _differing(before, _with(before, pending_version))
    try:
        if changed:
            admit.relabel(collection)
    except PermissionError:
        why = (
            f"nothing differs from {collection.name}:{record.version}, and its {', '.join(changed)} can be"
            " changed only by users who may write in the collection's directory: remove your labels, or ask"
            " one of them to finish it"
        )
        raise PermissionError(errno.EACCES, why) from None


def give(collection: Collection, number: int, pending_version: PendingVersion) -> tuple[str, ...]:
    """Adds the labels of a pending version to the version that it is equal to; returns which ones changed.

    Tags are added, keys of the metadata are added or replaced, a description is replaced. The same labels
    again change nothing. Raises VersionNotFound, InvalidCommand, and
    :class:`~artfs.errors.Damaged`.
    """
    if not _given(pending_version):
        return ()
    changed: tuple[str, ...] = ()

    def added(before: Labels) -> Labels:
        nonlocal changed
        after = _with(before, pending_version)
        changed = _differing(before, after)
        return after

    collection.change_labels(number, added)
    return changed


def _given(pending_version: PendingVersion) -> dict[str, Any]:
    """Returns the labels that a pending version has, without aliases."""
    labels = pending_version.labels()
    found = {"description": labels.description, "metadata": metadata_of(pending_version), "tags": labels.tags}
    return {key: value for key, value in found.items() if value}


def _with(labels: Labels, pending_version: PendingVersion) -> Labels:
    return records.check_labels(
        replace(labels, **merged(_given(pending_version), ADDING, to_builtins(labels)))
    )


def _differing(before: Labels, after: Labels) -> tuple[str, ...]:
    return tuple(key for key in _KEPT if getattr(after, key) != getattr(before, key))
