"""Makes a version of files in one go, or adds them to a pending version.

Owns the order of the steps, and that nothing is left of what is refused. Knows no implementation of `Client`.
Blocking; any thread.

A file that is in the tree already under the same path is replaced by a new inode: a reader of the old one
keeps it, and of two processes that write the same path one wins whole.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

from artfs.client.interface import Client
from artfs.client.transfer.sources import Sources
from artfs.client.transfer.tree_writer import TreeWriter, WritePolicy
from artfs.client.values import Progress, silent
from artfs.errors import AlreadyPending, ArtfsError
from artfs.model import names


def put(
    client: Client,
    sources: Sources,
    name: str,
    *,
    kind: str | None = None,
    base: str | None = None,
    aliases: Sequence[str] = (),
    progress: Progress = silent,
) -> dict[str, Any]:
    """Makes a version of the sources, or of `base` with the sources written into it.

    Returns the answer of its finish with ``collection``. After a refusal or an interrupt no pending version
    is left, nor a collection that was made for it. If the process is killed they stay until a `gc`.
    """
    for word in aliases:
        if word != names.LATEST:
            names.check_alias(word)
    names.check_collection(name)
    sources.check(client.is_volume)
    draft = names.private_id()
    try:
        client.new(name, draft, kind=kind, base=base, private=True)
        with client.open_tree(name, draft) as tree:
            sources.copy(TreeWriter(tree, WritePolicy(replace=True, shared=False), sources.size, progress))
        progress("finish", 0, 0)
        answer = client.finish(name, draft, aliases)
    except BaseException:
        with contextlib.suppress(ArtfsError, OSError):
            client.discard(name, draft)
        raise
    return {"collection": name, **answer}


def add(
    client: Client,
    sources: Sources,
    name: str,
    distributed_id: bytes,
    *,
    kind: str | None = None,
    base: str | None = None,
    aliases: Sequence[str] = (),
    progress: Progress = silent,
) -> dict[str, Any]:
    """Adds the sources to the pending version of an id, which is started if it does not exist.

    Returns its status. The aliases are those that it gets once it is finished. `base` must be the one that it
    has, or becomes that of an untouched one; else :class:`~artfs.errors.TreeTouched` is raised.
    """
    for word in aliases:
        names.check_alias(word)
    sources.check(client.is_volume)
    try:
        client.new(name, distributed_id, kind=kind, base=base)
    except AlreadyPending:
        if base is not None and client.pending_status(name, distributed_id)["base"] != base:
            client.set_base(name, distributed_id, base)
    if aliases:
        client.relabel_pending(name, distributed_id, aliases=aliases)
    with client.open_tree(name, distributed_id) as tree:
        sources.copy(TreeWriter(tree, WritePolicy(replace=True), sources.size, progress))
    return client.pending_status(name, distributed_id)
