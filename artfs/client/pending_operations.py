"""The interface to pending versions.

Owns the checks that both implementations share, ids that the caller left out, and the steps that start a
pending version. Blocking; one thread at a time may use an object.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from artfs.catalog import records
from artfs.client.values import DEFAULT_WAIT, MOST_OBJECTS, NewPending, ReferenceRequest
from artfs.client.version_tree import parts
from artfs.errors import ArtfsError, CollectionNotFound, InvalidCommand, TreeTouched
from artfs.model import names
from artfs.pending.pending_version import Owners
from artfs.printing import printable
from artfs.store.owners import this_process

if TYPE_CHECKING:
    from artfs.client.writable_tree import ReferenceTarget, WritableTree
    from artfs.model.diff import Change

_RETRY = 5.0  # seconds during which a collection that others remove is made again
_POLL = 0.05  # seconds between two tries


class PendingOperations(ABC):
    """What a program does with pending versions."""

    @abstractmethod
    def pending_names(self, name: str) -> list[bytes]:
        """Lists the distributed ids that are pending in a collection."""

    @abstractmethod
    def abandoned_ids(self, name: str) -> list[bytes]:
        """Lists those of them that are private to processes which are known to be dead."""

    @abstractmethod
    def pending_status(self, name: str, distributed_id: bytes) -> dict[str, Any]:
        """Returns the ``status`` of a pending version. Raises :class:`~artfs.errors.DraftNotFoundError`."""

    @abstractmethod
    def pending_directory(self, name: str, distributed_id: bytes) -> Path | None:
        """Returns the directory of a pending version on the mount; None without a mount."""

    @abstractmethod
    def last_change(self, name: str, distributed_id: bytes) -> float:
        """Returns when anything in the tree of a pending version changed last, in seconds since the epoch."""

    @abstractmethod
    def changes(self, name: str, distributed_id: bytes) -> list[Change]:
        """Returns what a pending version has changed since its base, or all of it if it has none."""

    # -- start

    def new(
        self,
        name: str,
        distributed_id: bytes | None = None,
        *,
        kind: str | None = None,
        base: str | None = None,
        link: bool = False,
        private: bool = False,
    ) -> NewPending:
        """Starts a pending version, in a collection that is made if it does not exist.

        `kind` is the collection's type, `base` the version or alias that it is a patch of, which may be of
        another collection, ``other:v3``. With `link` it is a link to that version. Without an id it gets one
        of its own. A `private` one belongs to this process, with an id of
        :func:`~artfs.model.names.private_id`: once the process is dead `gc` discards it, and the collection
        too if that was made for it. Raises :class:`~artfs.errors.AlreadyPending`,
        :class:`~artfs.errors.AlreadyFinishedError`, :class:`~artfs.errors.VersionNotFound`, and
        :class:`~artfs.errors.TypeMismatch` if the collection has versions of another type.
        """
        names.check_collection(name)
        if distributed_id is None:
            distributed_id = secrets.token_hex(6).encode()
        names.check_distributed_id(distributed_id)
        kind = records.check_type(kind or "")
        deadline = time.monotonic() + _RETRY
        while True:
            try:
                made = kind if self._need_collection(name, kind) else None
                path = self._start(name, distributed_id, Owners((this_process(),), made) if private else None)
                break
            except CollectionNotFound:  # removed just now, as it was empty
                if time.monotonic() > deadline:
                    raise
                time.sleep(_POLL)
        if base is not None:
            try:
                if link:
                    self.set_link(name, distributed_id, base)
                else:
                    self._set_first_base(name, distributed_id, base)
            except BaseException:
                with contextlib.suppress(ArtfsError, OSError):
                    self._discard_untouched(name, distributed_id)
                raise
        return NewPending(name, distributed_id, path)

    def _set_first_base(self, name: str, distributed_id: bytes, base: str) -> None:
        try:
            self.set_base(name, distributed_id, base)
        except TreeTouched:
            # Another process that wanted the same has set it, and written to the tree, before this did.
            if self.pending_status(name, distributed_id)["base"] != base:
                raise

    @abstractmethod
    def _need_collection(self, name: str, kind: str) -> bool:
        """Makes a collection of this type if there is none; returns whether it did."""

    @abstractmethod
    def _start(self, name: str, distributed_id: bytes, owners: Owners | None) -> Path | None: ...

    @abstractmethod
    def _discard_untouched(self, name: str, distributed_id: bytes) -> None:
        """Discards a pending version that was just started, unless others have written to it."""

    @abstractmethod
    def add_owner(self, name: str, distributed_id: bytes) -> None:
        """Adds this process, a fork of the one that started it, to a private pending version's owners."""

    @abstractmethod
    def set_base(self, name: str, distributed_id: bytes, ref: str) -> None:
        """Makes a pending version a patch of `ref`: any while it is untouched, and where its base has moved.

        Later the alias that is its base, set again, rebases it. Raises :class:`~artfs.errors.TreeTouched`,
        :class:`~artfs.errors.Collision`, and :class:`~artfs.errors.NotFound` for what does not exist.
        """

    @abstractmethod
    def set_link(self, name: str, distributed_id: bytes, ref: str) -> None:
        """Makes an untouched pending version a link to ``other:v3``. Raises what :meth:`set_base` does."""

    @abstractmethod
    def join(self, name: str, distributed_id: bytes, run: str) -> None:
        """Records that a run works on a pending version, which is not finished until the run has left.

        It works in this process: when another process of the run leaves, this one has not. The version will
        record the run as its producer, and the run the version as its output.
        """

    @abstractmethod
    def leave(self, name: str, distributed_id: bytes, run: str) -> None: ...

    # -- content

    @abstractmethod
    def open_tree(self, name: str, distributed_id: bytes) -> AbstractContextManager[WritableTree]:
        """Opens the tree of a pending version for writing, and keeps it from being sealed meanwhile.

        Several processes may write to one tree at once. Raises :class:`~artfs.errors.DraftNotFoundError`,
        :class:`~artfs.errors.AlreadyFinishedError`, :class:`~artfs.errors.Sealing`.
        """

    @abstractmethod
    def references(self, name: str, distributed_id: bytes) -> list[dict[str, Any]]:
        """Returns ``path``, ``uri``, ``size`` and ``checksum`` of each reference in a pending version."""

    def add_reference(
        self,
        name: str,
        distributed_id: bytes,
        path: bytes,
        uri: str,
        *,
        checksum: bool = True,
        max_objects: int | None = None,
    ) -> None:
        """Makes a file in a pending version whose bytes stay where they are; of a directory or prefix, many.

        `path` is that of the file, or of the directory for the files. If it is empty, a single object gets
        its own name at the top, and so does what is in a directory.

        With `checksum` it is recorded which bytes they are now, and others are never shown. Raises
        :class:`~artfs.errors.ReferenceFailed`, :class:`~artfs.errors.InvalidCommand`,
        :class:`~artfs.errors.AlreadyExists`.
        """
        self._add_references(name, distributed_id, _reference_request(path, uri, max_objects, checksum))

    @abstractmethod
    def _add_references(self, name: str, distributed_id: bytes, wanted: ReferenceRequest) -> None: ...

    def preview_references(
        self,
        name: str,
        distributed_id: bytes,
        path: bytes,
        uri: str,
        *,
        checksum: bool = True,
        max_objects: int | None = None,
    ) -> list[tuple[bytes, ReferenceTarget]]:
        """Returns the references that :meth:`add_reference` would make, by path, and makes none.

        The pending version must exist. Raises what that does.
        """
        wanted = _reference_request(path, uri, max_objects, checksum)
        return self._preview_references(name, distributed_id, wanted)

    @abstractmethod
    def _preview_references(
        self, name: str, distributed_id: bytes, wanted: ReferenceRequest
    ) -> list[tuple[bytes, ReferenceTarget]]: ...

    def relabel_pending(
        self,
        name: str,
        distributed_id: bytes,
        *,
        aliases: Sequence[str] = (),
        tags: Sequence[str] = (),
        description: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        """Adds labels that the version will have: aliases, tags and keys of the metadata.

        A description that is given replaces the present one. Several processes may do so at once.
        """
        for word in aliases:
            names.check_alias(word)
        more = {
            "aliases": list(aliases),
            "tags": list(records.check_tags(tags)),
            "description": records.check_description(description or ""),
            "metadata": records.check_metadata({**metadata} if metadata else {}),
        }
        if given := {key: value for key, value in more.items() if value}:
            self._relabel_pending(name, distributed_id, given)

    @abstractmethod
    def _relabel_pending(self, name: str, distributed_id: bytes, more: Mapping[str, Any]) -> None: ...

    # -- end

    def finish(
        self,
        name: str,
        distributed_id: bytes,
        aliases: Sequence[str] = (),
        *,
        wait: float | None = None,
        force: bool = False,
    ) -> dict[str, Any]:
        """Turns a pending version into a version and returns the answer: version, unchanged, digest.

        A finished id gets the aliases, and the answer is its version again. If nothing differs from the
        newest version, that one gets the labels of the pending version; ``updated`` names those that this
        changed. Raises :class:`~artfs.errors.DraftNotFoundError`, :class:`~artfs.errors.Busy`,
        :class:`~artfs.errors.CannotSeal`.
        """
        for word in aliases:
            if word != names.LATEST:
                names.check_alias(word)
        return self._finish(name, distributed_id, aliases, DEFAULT_WAIT if wait is None else wait, force)

    @abstractmethod
    def _finish(
        self, name: str, distributed_id: bytes, aliases: Sequence[str], wait: float, force: bool
    ) -> dict[str, Any]: ...

    @abstractmethod
    def discard(
        self, name: str, distributed_id: bytes, *, idle: float | None = None, abandoned: bool = False
    ) -> None:
        """Discards a pending version with all its files.

        With `idle` only if no run has joined it and nothing in it has changed for so many seconds, with
        `abandoned` only if :meth:`abandoned_ids` lists it, else raises :class:`~artfs.errors.Busy`.
        """


def _reference_request(path: bytes, uri: str, most: int | None, checksum: bool) -> ReferenceRequest:
    if "://" not in uri:
        raise InvalidCommand(f"cannot refer to '{printable(uri)}': a URI begins with a scheme, like s3://")
    return ReferenceRequest(b"/".join(parts(path)), uri, MOST_OBJECTS if most is None else most, checksum)
