"""Discards pending versions that nobody works on any more.

Owns what counts as idle. Blocking; any thread.
"""

from __future__ import annotations

import contextlib
import time

from artfs.access.access import Access
from artfs.errors import AlreadyFinished, Busy, NotFound


def discard_idle(access: Access, seconds: float, *, dry_run: bool = False) -> list[tuple[str, bytes]]:
    """Discards every pending version in which nothing changed for that long; returns collection and id of
    each.

    Not those that somebody has open for writing, that a run has joined or that are being sealed. With
    `dry_run` they are only returned.
    """
    found = []
    for collection in access.collections():
        name = str(collection["name"])
        for distributed_id in access.pending_names(name):
            with contextlib.suppress(NotFound, AlreadyFinished, Busy):
                status = access.pending_status(name, distributed_id)
                if status["open_for_write"] or status["runs"] or status["state"] != "pending":
                    continue
                if time.time() - access.last_change(name, distributed_id) < seconds:
                    continue
                if not dry_run:
                    access.discard(name, distributed_id)
                found.append((name, distributed_id))
    return found
