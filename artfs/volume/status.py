"""The `status` of a volume and of a pending version, as values of JSON. Blocking; any thread may call it."""

from __future__ import annotations

import os
from typing import Any

from artfs.pending.census import count
from artfs.pending.gate import State
from artfs.pending.pending_tree import PendingTree
from artfs.version import __version__
from artfs.volume.pending_trees import pending_names
from artfs.volume.volume import Volume


def describe(volume: Volume) -> dict[str, Any]:
    """Describes a volume. `bytes` is the sum of what its versions show."""
    pending = volume.catalog.each(lambda collection: len(pending_names(collection)))
    abandoned = volume.catalog.each(lambda collection: len(volume.trees.abandoned(collection)))
    versions = volume.catalog.each(lambda collection: collection.versions())
    space = os.fstatvfs(volume.layout.fd)
    return {
        "version": __version__,
        "format": volume.layout.config.format,
        "id": volume.layout.config.id,
        "hash": volume.layout.config.hash,
        "store": str(volume.path.absolute()),
        "collections": len(versions),
        "pending": sum(pending),
        "abandoned": sum(abandoned),
        "sealed": sum(map(len, versions)),
        "bytes": sum(record.size for records in versions for record in records),
        "available": max(0, space.f_bavail) * space.f_frsize,
    }


def describe_pending(volume: Volume, tree: PendingTree) -> dict[str, Any]:
    """Describes a pending version, or its version if it was sealed meanwhile."""
    collection = volume.catalog.collection(tree.collection)
    if tree.gate.state is State.SEALED:
        finished = collection.finished(tree.name)
        if finished is not None:
            return collection.describe(finished)
    root = tree.open_root()
    try:
        census = count(root, volume.store.reader, patched=tree.lower is not None)
    finally:
        os.close(root)
    base = tree.base()
    pending_version = tree.pending_version
    labels = pending_version.labels()
    return {
        "state": "pending" if tree.gate.state is State.PENDING else "sealing",
        "collection": tree.collection,
        "distributed_id": os.fsdecode(tree.name),
        "base": None if base is None else base.ref,
        "base_version": None if base is None else base.name_in(tree.collection),
        "runs": pending_version.runs.names(),
        "files": census.files,
        "bytes": census.bytes,
        "open_for_write": [
            {"path": os.fsdecode(writer.path), "pid": writer.pid, "command": writer.command}
            for writer in tree.gate.writers()
        ],
        "progress": {"files": tree.progress.files, "of": census.own},
        "aliases": list(labels.aliases),
        "tags": list(labels.tags),
        "abandoned": pending_version.abandoned(),
        "created_at": pending_version.birth.created_at,
        "created_by": pending_version.birth.created_by,
    }
