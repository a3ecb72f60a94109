"""Sets the base of a pending version: any base while it is untouched, later the version its alias moved to.

Owns the order of the steps. A new root is built next to the tree and exchanged with it. This is the one
atomic step, so a crash leaves the tree with the old base or with the new one. Blocking; runs on a worker
thread.

The rebase of a changed tree is like a seal: its changed files become blobs, and the merge of the tree with
the moved base becomes the lower tree of the new root. The changes since the new base are then found as
always, by comparison with it.
"""

from __future__ import annotations

import os
import secrets
import stat
from functools import partial

from artfs.errors import CutShort, DraftNotFoundError, TreeTouched
from artfs.model.digest import TreeId
from artfs.model.entry import DirEntry
from artfs.pending import overlay
from artfs.pending.gate import State
from artfs.pending.overlay import Base, Lower
from artfs.pending.pending_tree import PendingTree
from artfs.pending.pending_version import TREE, Mark
from artfs.pending.unshare import complete_copies
from artfs.seal import patch_base as bases
from artfs.seal.seal import Request, Sealer, decided
from artfs.store import durable

_NUMBER_BITS = overlay.LOWER_BIT.bit_length() - 1


def set_base(
    sealer: Sealer, tree: PendingTree, ref: str, request: Request, number: int | None
) -> bytes | None:
    """Makes `tree` a patch of `ref`; returns the trash name of its files, None if it was one already.

    An empty `ref` removes the base of an untouched tree. A change ends `tree`, and another
    :class:`PendingTree` replaces it. Its root gets the node number `number`, that of the old root, since it
    may be the working directory of a process. Waits for files to be closed as a finish does.

    Raises :class:`TreeTouched`, :class:`~artfs.errors.NotFound`, :class:`~artfs.errors.Collision`,
    :class:`~artfs.errors.Busy`, :class:`~artfs.errors.NotStored`, and what `request.admit` does; then nothing
    has changed.
    """
    tree.gate.close(request.wait, unwritten=tree.unwritten.paths, interrupted=request.interrupted)
    state = State.PENDING
    try:
        with sealer.alone(tree, request.interrupted):
            if decided(sealer.collection, tree.pending_version.mark()) is not None:
                state = State.COMMITTED
                raise CutShort
            with sealer.objects_in_use():
                number = number or overlay.LOWER_BIT | secrets.randbits(_NUMBER_BITS)
                trash = _set_base(sealer, tree, ref, number, request.admit)
                state = State.PENDING if trash is None else State.REPLACED
            return trash
    except DraftNotFoundError:  # another process sealed or discarded it
        state = State.DISCARDED
        raise
    except BaseException:
        # The error may be of the sync after the exchange.
        if not tree.has_own_files():
            state = State.REPLACED
        raise
    finally:
        tree.gate.settle(state)


def _set_base(
    sealer: Sealer, tree: PendingTree, ref: str, number: int, admit: bases.Admission
) -> bytes | None:
    root = tree.open_root()
    try:
        had, untouched = overlay.base_of(root), overlay.is_untouched(root)
        if not ref:
            if not untouched:
                raise TreeTouched
            return None if had is None else _plant(sealer, tree, root, None)
        base = bases.look_up(sealer.find, tree.collection, ref, admit)
        if not untouched and (had is None or not had.follows or had.ref != ref):
            raise TreeTouched
        if base == had:
            return None
        lower, like = base.tree_id, None
        if had is not None and not untouched:
            lower = sealer.again(partial(_rebase, sealer, tree, had, base))
        else:
            like = bases.root_of(sealer.find, base)
        trash = _plant(sealer, tree, root, base, Lower(lower, number), like)
    finally:
        os.close(root)
    tree.pending_version.forget_conflicts()
    # The new tree shares no inode with the store.
    tree.pending_version.clear_mark()
    return trash


def _rebase(sealer: Sealer, tree: PendingTree, base: Base, onto: Base) -> TreeId:
    """Stores the merge of the tree with its moved base. Ours wins conflicts that were shown before."""
    since = sealer.store.begin()
    ingested = sealer.ingest(tree)
    known = tree.pending_version.conflicts()
    result = bases.rebased(
        sealer.store,
        tree.pending_version,
        base,
        ingested.root,
        onto,
        ours_wins=lambda conflict: (conflict.path, conflict.entry) in known,
    )
    # From here on inodes of the tree may be blobs, as in a seal, but this one never commits.
    tree.pending_version.set_mark(Mark(secrets.token_hex(16), lowest=sealer.collection.next_number()))
    tree.shares_blobs = True
    sealer.link(tree, ingested)
    sealer.store.sync(since=since)
    return result.tree


def _plant(
    sealer: Sealer,
    tree: PendingTree,
    root: int,
    base: Base | None,
    lower: Lower | None = None,
    like: DirEntry | None = None,
) -> bytes:
    """Exchanges the tree for an empty one over `lower`; returns the trash name of the old one.

    Its root has the attributes of the old one, the users' xattrs of `like`, the root of the base, and no r
    and x bits for group and others that `like` lacks, so that a private base stays private.
    """
    complete_copies(tree)  # all other files beside the tree belong to this one
    old, directory = os.fstat(root), tree.pending_version.fd
    staged = durable.temp_name()
    durable.step("base:plant")
    os.mkdir(staged, 0o700, dir_fd=directory)
    with durable.directory(directory, staged) as fd:
        if base is not None and lower is not None:
            overlay.set_lower(fd, lower)
            overlay.set_base(fd, base)
        mode = stat.S_IMODE(old.st_mode)
        if like is not None:
            overlay.set_xattrs(fd, like.xattrs)
            mode &= like.mode | ~0o055
        for name in map(os.fsencode, os.listxattr(root)):
            os.setxattr(fd, name, os.getxattr(root, name))
        overlay.set_owner(directory, staged, old.st_uid, old.st_gid)
        os.fchmod(fd, mode)
        durable.sync_dir(fd, label="base")
    durable.exchange(directory, staged, TREE, label="base")
    trash = durable.temp_name()
    os.rename(staged, trash, src_dir_fd=directory, dst_dir_fd=sealer.trash_fd)
    return trash
