"""Removal of what is no longer used: idle and abandoned pending versions, versions whose ttl has passed.

Owns what counts as idle and as expired. Blocking; any thread.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from artfs.catalog.records import has_expired
from artfs.client.interface import Client
from artfs.errors import AlreadyFinishedError, Busy, CollectionNotFound, HeldByAlias, NotFound

T = TypeVar("T")


def discard_idle(client: Client, seconds: float, *, dry_run: bool = False) -> list[tuple[str, bytes]]:
    """Discards every pending version in which nothing changed for that long; returns collections and ids.

    Not those with a file open for writing or a joined run, nor those that are being sealed. With `dry_run`
    they are only returned.
    """
    found = []
    for name, distributed_id in _each(client, client.pending_names):
        with contextlib.suppress(NotFound, AlreadyFinishedError, Busy):
            status = client.pending_status(name, distributed_id)
            if status["open_for_write"] or status["runs"] or status["state"] != "pending":
                continue
            if time.time() - client.last_change(name, distributed_id) < seconds:
                continue
            if not dry_run:
                client.discard(name, distributed_id, idle=seconds)
            found.append((name, distributed_id))
    return found


def discard_abandoned(client: Client, *, dry_run: bool = False) -> list[tuple[str, bytes]]:
    """Discards the private pending versions of dead processes; returns collections and ids.

    With `dry_run` they are only returned.
    """
    found = []
    for name, distributed_id in _each(client, client.abandoned_ids):
        with contextlib.suppress(NotFound, AlreadyFinishedError, Busy):
            if not dry_run:
                client.discard(name, distributed_id, abandoned=True)
            found.append((name, distributed_id))
    return found


def remove_expired(client: Client, *, dry_run: bool = False) -> list[tuple[str, str]]:
    """Removes every version whose ttl has passed since it was made; returns collections and versions.

    Never one that an alias other than ``latest`` holds, even if that is set at the same moment, and none
    whose ttl is changed meanwhile. With `dry_run` they are only returned.
    """
    now = time.time()
    found = []
    for name, status in _each(client, client.versions):
        version = str(status["version"])
        if not has_expired(status["created_at"], status["ttl"], now):
            continue
        with contextlib.suppress(NotFound, HeldByAlias):
            if dry_run:
                gone = not client.holding_aliases(name, version)
            else:
                gone = client.remove_expired(name, version, now)
            if gone:
                found.append((name, version))
    return found


def _each(client: Client, listed: Callable[[str], list[T]]) -> Iterator[tuple[str, T]]:
    """Yields what `listed` returns for each collection, with its name; skips those removed meanwhile."""
    for collection in client.collections():
        name = str(collection["name"])
        with contextlib.suppress(CollectionNotFound):
            yield from ((name, found) for found in listed(name))
