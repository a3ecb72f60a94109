"""Finishes or undoes what a crash left of a seal. Run when a volume is opened for writing.

A mark without its version means that nothing was decided: the tree is pending and complete. It stays marked,
since some of its files may be blobs of the store (``pending/unshare``, whose interrupted steps are completed
here). A mark whose version exists is settled.
"""

from __future__ import annotations

import logging

from artfs.errors import Busy
from artfs.pending.gate import State
from artfs.pending.pending_tree import PendingTree
from artfs.pending.unshare import complete_copies
from artfs.printing import printable
from artfs.seal.seal import Sealer, decided

log = logging.getLogger(__name__)


def recover(sealer: Sealer, tree: PendingTree) -> bytes | None:
    """Settles a committed seal of `tree` and returns the trash name of its files; None if it is pending."""
    if tree.pending_version.mark() is None:
        return None
    try:
        with tree.pending_version.exclusively():
            if not tree.pending_version.has_name_in(sealer.pending_fd):
                tree.gate.settle(State.DISCARDED)  # its sealer was alive, and has completed
                return None
            record = decided(sealer.collection, tree.pending_version.mark())
            if record is None:
                complete_copies(tree)
                return None
            log.warning("%s: finishing the seal of %s", record.version, printable(tree.name))
            trash = sealer.resume(tree, record).trash
            tree.gate.settle(State.SEALED)
            return trash
    except Busy:
        return None  # its sealer is alive, or another process is adding files
