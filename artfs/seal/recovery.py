"""Finishes or undoes what a crash left of a seal. Run when a volume is opened for writing.

A mark that stands without its version means that nothing was decided: the tree is pending and whole, and
stays marked, since some of its files may be blobs of the store already (``pending/unshare``). A mark whose
version stands is settled.
"""

from __future__ import annotations

import logging

from artfs.catalog.records import VersionRecord
from artfs.errors import Damaged, Sealing, VersionNotFound, printable
from artfs.pending.draft import Mark
from artfs.pending.tree import PendingTree
from artfs.seal.seal import Sealer

log = logging.getLogger(__name__)


def recover(sealer: Sealer, tree: PendingTree) -> bytes | None:
    """Settles a committed seal of `tree` and returns the trash name of its files; None if it is pending."""
    if tree.draft.mark() is None:
        return None
    try:
        with tree.draft.exclusively():
            mark = tree.draft.mark()
            record = _decided(sealer, mark) if mark is not None else None
            if record is None:
                return None
            log.warning("%s: finishing the seal of %s", record.version, printable(tree.name))
            return sealer.settle(tree, record)
    except Sealing:
        return None  # its sealer is alive


def _decided(sealer: Sealer, mark: Mark) -> VersionRecord | None:
    if mark.version is not None:
        try:
            return sealer.collection.record(sealer.collection.resolve(mark.version))
        except VersionNotFound:
            return None
    for number in reversed(sealer.collection.numbers()):
        try:
            record = sealer.collection.record(number)
        except (Damaged, VersionNotFound):
            continue  # check tells of it; the other versions are still worth a look
        if record.seal == mark.seal:
            return record
    return None
