"""Labels of a pending version: changed while it is pending, and given to the version that it equals.

Owns what becomes of tags, description and metadata between the two. Blocking; any thread may call it.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from typing import Any

from msgspec import to_builtins
from msgspec.structs import replace

from artfs.catalog import records
from artfs.catalog.collection import Collection
from artfs.catalog.records import Notes, VersionRecord
from artfs.model import names
from artfs.model.labels import ADDING, merged
from artfs.pending.draft import Draft, Settings
from artfs.seal.base import Admission

_KEPT = ("description", "metadata", "tags")


def metadata_of(draft: Draft) -> dict[str, Any]:
    """Returns the metadata of a pending version. Raises :class:`~artfs.errors.Damaged`."""
    return records.load_metadata(draft.metadata(), draft.what(b"metadata.json"))


def change(draft: Draft, changes: Mapping[str, Any], since: Mapping[str, Any] = ADDING) -> None:
    """Changes ``aliases``, ``tags``, ``description`` and ``metadata`` of a pending version, all at once.

    `since` is what :func:`~artfs.model.labels.merged` takes it for: by default nothing is removed. What other
    processes change at the same time stays. The caller keeps the pending version from being sealed. Raises
    InvalidCommand, InvalidName and :class:`~artfs.errors.Damaged`.
    """

    def changed(settings: Settings, metadata: bytes) -> tuple[Settings, bytes]:
        known = metadata_of(draft) if "metadata" in changes else {}
        now = to_builtins(settings) | {"metadata": known}
        after = merged(changes, since, now)
        if "metadata" in after and after["metadata"] != known:
            metadata = records.dump(records.check_metadata(after["metadata"])).encode()
        words = settings if "aliases" not in after else replace(settings, aliases=_aliases(after["aliases"]))
        if "tags" in after:
            words = replace(words, tags=records.check_tags(after["tags"]))
        if "description" in after:
            words = replace(words, description=records.check_description(after["description"]))
        return words, metadata

    draft.annotate(changed)


def _aliases(aliases: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(map(names.check_alias, aliases)))


def check(collection: Collection, record: VersionRecord, draft: Draft, admit: Admission) -> None:
    """Looks whether a version can be given the labels of a pending version that equals it.

    Raises PermissionError if `admit` does not let the caller change them, and what :func:`give` does.
    """
    before = collection.notes(record.number)
    changed = _differing(before, _with(before, draft))
    try:
        if changed:
            admit.relabel(collection)
    except PermissionError:
        why = (
            f"nothing differs from {collection.name}:{record.version}, and its {', '.join(changed)} can be"
            " changed by whoever may write in the collection's directory: remove what was given here, or ask"
            " them to finish it"
        )
        raise PermissionError(errno.EACCES, why) from None


def give(collection: Collection, number: int, draft: Draft) -> tuple[str, ...]:
    """Adds the labels of a pending version to those of the version that it equals; returns what that changed.

    Tags are added, keys of the metadata are added or replaced, a description replaces the one there is. Again
    with the same labels: nothing changes. Raises VersionNotFound, InvalidCommand, and
    :class:`~artfs.errors.Damaged`.
    """
    if not _given(draft):
        return ()
    changed: tuple[str, ...] = ()

    def added(before: Notes) -> Notes:
        nonlocal changed
        after = _with(before, draft)
        changed = _differing(before, after)
        return after

    collection.change_notes(number, added)
    return changed


def _given(draft: Draft) -> dict[str, Any]:
    """Returns the labels that a pending version has; aliases are not among them."""
    settings = draft.settings()
    found = {"description": settings.description, "metadata": metadata_of(draft), "tags": settings.tags}
    return {key: value for key, value in found.items() if value}


def _with(notes: Notes, draft: Draft) -> Notes:
    return records.check_notes(replace(notes, **merged(_given(draft), ADDING, to_builtins(notes))))


def _differing(before: Notes, after: Notes) -> tuple[str, ...]:
    return tuple(key for key in _KEPT if getattr(after, key) != getattr(before, key))
