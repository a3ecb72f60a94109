"""The interface: what a program does with a volume.

Owns the values that go in and out, and what both implementations have to do before they differ: the checks
of names, ids that nobody gave. Blocking; one thread at a time may use an access.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from artfs.catalog import records
from artfs.client.transfer.tree_paths import parts
from artfs.errors import ArtfsError, CollectionNotFound, InvalidCommand, InvalidName, TreeTouched, printable
from artfs.model import names
from artfs.pending.pending_version import Owners
from artfs.store.owners import this_process

if TYPE_CHECKING:
    from artfs.client.writable_tree import ReferenceTarget, WritableTree
    from artfs.model.diff import Change
    from artfs.model.digest import Algorithm
    from artfs.model.scope import Scope
    from artfs.volume.volume import Volume

MOST_OBJECTS = 10_000_000
"""References that one directory or prefix may bring."""

DEFAULT_WAIT = 2.0
"""Seconds that a finish waits for closes that are on their way."""

_MAKING = 5.0  # seconds that others may take a collection away again in which something is to be started
_POLL = 0.05  # seconds between two tries

INHERIT = "inherit"
"""The ttl of a version that is its collection's."""

NOTHING: Mapping[str, Any] = MappingProxyType({})
"""What was read before, where that does not matter."""

Progress = Callable[[str, int, int], None]
"""Told phase, done and total (0: not known); bytes when copying."""


def silent(_phase: str, _done: int, _of: int) -> None:
    """The progress that nobody watches."""


def nothing(_copy: int) -> None:
    """The check of a copy that nobody could spoil."""


def _no_bytes() -> int:
    raise InvalidName("a file", b"", "it has no bytes to read")


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a sealed version.

    ``path`` is relative to the version's root. ``kind`` is ``file``, ``directory`` or ``symlink``; a
    reference is a file, whose bytes are brought when it is opened or read. ``xattrs`` gives those of the
    user, ``open`` opens a file for reading, whose descriptor the caller closes; ``check`` is given a copy
    that was made of it, and raises :class:`~artfs.errors.ReferenceFailed` if others changed the bytes
    meanwhile. All only while the iterator that gave the entry stands at it.
    """

    path: bytes
    kind: str
    mode: int
    uid: int
    gid: int
    size: int
    mtime_ns: int
    target: bytes = b""
    xattrs: Callable[[], Sequence[tuple[bytes, bytes]]] = field(default=tuple, compare=False, repr=False)
    open: Callable[[], int] = field(default=_no_bytes, compare=False, repr=False)
    check: Callable[[int], None] = field(default=nothing, compare=False, repr=False)

    @property
    def name(self) -> bytes:
        return self.path.rpartition(b"/")[2]


@dataclass(frozen=True, slots=True)
class NewPending:
    """A pending version that was just started; ``path`` is its directory where there is a mount."""

    collection: str
    distributed_id: bytes
    path: Path | None


class Client(ABC):
    """A volume, as programs use it. Close it, or use it in a ``with`` statement.

    Collections, versions and aliases are text, distributed ids and paths in trees are bytes. Dictionaries
    have the keys of the ``status`` of the same thing on a mount. Whatever is refused is an
    :class:`~artfs.errors.ArtfsError` with the same text from both implementations, or an ``OSError``.
    """

    @abstractmethod
    def close(self) -> None: ...

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @abstractmethod
    def is_current(self) -> bool:
        """Tells whether this is still the way to the volume: no mount of it has come or gone. Quick."""

    # -- the volume

    @abstractmethod
    def volume_status(self) -> dict[str, Any]:
        """Returns the volume's ``status``."""

    @abstractmethod
    def algorithm(self) -> Algorithm:
        """Returns the hash algorithm of the volume's digests."""

    @abstractmethod
    def volume(self) -> AbstractContextManager[Volume]:
        """Opens the volume itself, for check and gc; one that a daemon serves too.

        Raises :class:`~artfs.errors.VolumeError` where only the mount can be seen.
        """

    # -- collections and versions

    @abstractmethod
    def collections(self) -> list[dict[str, Any]]:
        """Returns name, type, description, tags, numbers of versions, pending and abandoned, ``latest``."""

    @abstractmethod
    def collection(self, name: str) -> dict[str, Any]:
        """Returns the same of one collection. Raises :class:`~artfs.errors.CollectionNotFound`."""

    @abstractmethod
    def set_collection_description(self, name: str, description: str) -> None:
        """Sets the description of a collection."""

    @abstractmethod
    def set_collection_tags(self, name: str, tags: Sequence[str]) -> None:
        """Replaces the tags of a collection."""

    @abstractmethod
    def collection_ttl(self, name: str) -> int | None:
        """Returns how many seconds the versions live that have no ttl of their own; None: for ever."""

    @abstractmethod
    def set_collection_ttl(self, name: str, seconds: int | None) -> None:
        """Sets that."""

    @abstractmethod
    def scope(self, name: str) -> Scope:
        """Returns the entity and project that a collection belongs to, as far as they are known.

        Raises :class:`~artfs.errors.CollectionNotFound`.
        """

    @abstractmethod
    def claim(self, name: str, scope: Scope) -> None:
        """Notes in which scope something is logged to a collection, which has that one from then on.

        Raises :class:`~artfs.errors.InvalidCommand` if it has another one.
        """

    @abstractmethod
    def remove_collection(self, name: str) -> None:
        """Removes a collection that has no versions and nothing pending, else :class:`NotEmpty`."""

    @abstractmethod
    def versions(self, name: str) -> list[dict[str, Any]]:
        """Returns the ``status`` of every version, oldest first."""

    @abstractmethod
    def version(self, name: str, ref: str) -> dict[str, Any]:
        """Returns the ``status`` of a version, given by number or alias, with its ``description`` and
        ``metadata``."""

    @abstractmethod
    def version_directory(self, name: str, ref: str) -> Path | None:
        """Returns the directory of a version where there is a mount, by its number; None without one."""

    def relabel(
        self, name: str, ref: str, changes: Mapping[str, Any], since: Mapping[str, Any] = NOTHING
    ) -> None:
        """Sets what is no part of a version's content: ``description``, ``tags``, ``metadata``, ``ttl``.

        Each that is given is replaced whole; but of tags and metadata for which `since` says what was read
        before, what others changed meanwhile stays (:mod:`artfs.model.label_changes`). A ttl is seconds,
        ``none`` for ever, or :data:`INHERIT`. Raises :class:`~artfs.errors.InvalidCommand`.
        """
        records.check_fields(changes)
        ttl = changes.get("ttl")
        records.check_labels(records.Labels(**{**changes, "ttl": None if ttl == INHERIT else ttl}))
        self._relabel(name, ref, changes, since)

    @abstractmethod
    def _relabel(self, name: str, ref: str, changes: Mapping[str, Any], since: Mapping[str, Any]) -> None: ...

    @abstractmethod
    def updated_at(self, name: str, ref: str) -> str:
        """Returns when any of that was changed last; when the version was made if nothing was."""

    @abstractmethod
    def manifest(self, name: str, ref: str) -> dict[str, Any]:
        """Returns every entry of a version by its path."""

    @abstractmethod
    def diff(self, name: str, old: str, new: str) -> list[Change]:
        """Returns what differs between two versions, given by number or alias, as a diff of their trees does.

        :func:`artfs.model.diff.diff` says what that is. Reads only where the versions differ. `new` may be of
        another collection, ``other:v3``. Raises :class:`~artfs.errors.NotFound`.
        """

    @abstractmethod
    def list_directory(self, name: str, ref: str, path: bytes) -> list[Entry]:
        """Lists a directory of a version, by name; of anything else itself alone.

        Raises :class:`~artfs.errors.PathNotFound`.
        """

    @abstractmethod
    def walk(self, name: str, ref: str, prefix: bytes = b"") -> Iterator[Entry]:
        """Yields the entry at a path, the directories that lead to it, and all that is below it, in preorder.

        The first is the version's root, with an empty path. Raises :class:`~artfs.errors.PathNotFound`.
        """

    @abstractmethod
    def open_file(self, name: str, ref: str, path: bytes) -> int:
        """Opens a file of a version for reading; symlinks are followed as long as they stay in its tree.

        The caller closes the descriptor. Raises :class:`~artfs.errors.PathNotFound`.
        """

    def read_failure(self, name: str, ref: str, path: bytes) -> Exception | None:  # noqa: ARG002
        """Tells why a file can't be read, if that is not told by who reads it."""
        return None

    def alias(self, name: str, ref: str, aliases: Sequence[str]) -> None:
        """Makes each alias name the version, wherever it pointed before; all of them are checked first."""
        for word in aliases:
            _check_settable(word)
        self._alias(name, ref, aliases)

    @abstractmethod
    def _alias(self, name: str, ref: str, aliases: Sequence[str]) -> None: ...

    def unalias(self, name: str, aliases: Sequence[str]) -> None:
        """Removes aliases. Raises :class:`~artfs.errors.AliasNotFound`."""
        for word in aliases:
            _check_settable(word)
        self._unalias(name, aliases)

    @abstractmethod
    def _unalias(self, name: str, aliases: Sequence[str]) -> None: ...

    def tag(self, name: str, ref: str, tags: Sequence[str]) -> list[str]:
        """Adds tags to those that a version has; returns all."""
        return self._tag(name, ref, records.check_tags(tags))

    @abstractmethod
    def _tag(self, name: str, ref: str, tags: Sequence[str]) -> list[str]: ...

    @abstractmethod
    def remove(self, name: str, ref: str) -> str:
        """Deletes a version and returns its number's name. Raises :class:`~artfs.errors.HeldByAlias`."""

    @abstractmethod
    def remove_expired(self, name: str, ref: str, now: float) -> bool:
        """Deletes a version if it has outlived its ttl at that moment; False if it has not.

        The ttl is looked at again. Without a mount none is missed that is set at the same time. Raises
        :class:`~artfs.errors.HeldByAlias`.
        """

    @abstractmethod
    def holding_aliases(self, name: str, ref: str) -> list[str]:
        """Returns the aliases that keep a version from being removed: those that don't follow ``latest``."""

    # -- runs

    @abstractmethod
    def run(self, run: str) -> dict[str, Any]:
        """Returns what is known of a run. Raises :class:`~artfs.errors.RunNotFound`."""

    @abstractmethod
    def runs(self) -> list[str]:
        """Returns the ids of all runs, sorted."""

    @abstractmethod
    def record_run(self, run: str, document: Mapping[str, Any], *, here: bool = False) -> None:
        """Makes or updates what is known of a run, as :meth:`artfs.catalog.runs.Runs.apply` does.

        A document `here` says that the run goes on in this process, or by any other state that it ends here:
        it ends when it has ended in all of them.

        Where only a part of a mount can be seen, this does nothing: there runs are known by their ids, and
        by what versions say of them.
        """

    @abstractmethod
    def record_use(self, name: str, ref: str, run: str) -> None:
        """Notes that a run read a version, with both."""

    @abstractmethod
    def join(self, name: str, distributed_id: bytes, run: str) -> None:
        """Notes that a run works on a pending version, which is not finished until the run has left.

        It does so in this process: that another process of the run leaves does not count for this one.

        The version will say that the run produced it, and the run that the version is its output.
        """

    @abstractmethod
    def leave(self, name: str, distributed_id: bytes, run: str) -> None: ...

    # -- pending versions

    @abstractmethod
    def pending_names(self, name: str) -> list[bytes]:
        """Lists the distributed ids that are pending in a collection."""

    @abstractmethod
    def abandoned_ids(self, name: str) -> list[bytes]:
        """Lists those of them that processes made for themselves which are known to be dead."""

    @abstractmethod
    def pending_status(self, name: str, distributed_id: bytes) -> dict[str, Any]:
        """Returns how a pending version stands. Raises :class:`~artfs.errors.DraftNotFoundError`."""

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
        """Starts a pending version, in a collection that is made if it is not there.

        `kind` is the collection's type, `base` the version or alias that it is a patch of, which may be of
        another collection, ``other:v3``. With `link` it is a link to that version. Without an id it gets one
        of its own. One that is `private` is this process's own, with an id of
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
        deadline = time.monotonic() + _MAKING
        while True:
            try:
                made = kind if self._need_collection(name, kind) else None
                path = self._start(name, distributed_id, Owners((this_process(),), made) if private else None)
                break
            except CollectionNotFound:  # removed just now, with the last of what was there
                if time.monotonic() > deadline:
                    raise
                time.sleep(_POLL)
        started = NewPending(name, distributed_id, path)
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
        return started

    def _set_first_base(self, name: str, distributed_id: bytes, base: str) -> None:
        try:
            self.set_base(name, distributed_id, base)
        except TreeTouched:
            # Others who wanted the same have set it, and brought something, before this came to it.
            if self.pending_status(name, distributed_id)["base"] != base:
                raise

    @abstractmethod
    def _need_collection(self, name: str, kind: str) -> bool:
        """Sees that there is a collection of this type; tells whether it made it."""

    @abstractmethod
    def _start(self, name: str, distributed_id: bytes, owners: Owners | None) -> Path | None: ...

    @abstractmethod
    def add_owner(self, name: str, distributed_id: bytes) -> None:
        """Makes a private pending version this process's own, too: a fork of the one that started it."""

    @abstractmethod
    def set_base(self, name: str, distributed_id: bytes, ref: str) -> None:
        """Makes a pending version a patch of `ref`: any while it is untouched, and where its base has moved.

        Written again once it is touched, the alias that is its base rebases it. Raises
        :class:`~artfs.errors.TreeTouched`, :class:`~artfs.errors.Collision`, and
        :class:`~artfs.errors.NotFound` for what is not there.
        """

    @abstractmethod
    def set_link(self, name: str, distributed_id: bytes, ref: str) -> None:
        """Makes an untouched pending version a link to ``other:v3``. Raises what :meth:`set_base` does."""

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

        `path` is that of the file, or of the directory below which they come. If it is empty, a single object
        stands at the top under its own name, and what is in a directory directly there.

        With `checksum` it is noted which bytes they are now, and others are never shown. Raises
        :class:`~artfs.errors.ReferenceFailed`, :class:`~artfs.errors.InvalidCommand`,
        :class:`~artfs.errors.AlreadyExists`.
        """
        self._add_reference(name, distributed_id, *_look_at(path, uri, max_objects), checksum)

    @abstractmethod
    def _add_reference(
        self, name: str, distributed_id: bytes, path: bytes, uri: str, most: int, checksum: bool
    ) -> None: ...

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

        The pending version must be there. Raises what that does.
        """
        return self._preview_references(name, distributed_id, *_look_at(path, uri, max_objects), checksum)

    @abstractmethod
    def _preview_references(
        self, name: str, distributed_id: bytes, path: bytes, uri: str, most: int, checksum: bool
    ) -> list[tuple[bytes, ReferenceTarget]]: ...

    @abstractmethod
    def changes(self, name: str, distributed_id: bytes) -> list[Change]:
        """Returns what a pending version has changed since its base, or since nothing if it has none."""

    @abstractmethod
    def open_tree(self, name: str, distributed_id: bytes) -> AbstractContextManager[WritableTree]:
        """Opens the tree of a pending version to put files into it, and keeps it from being sealed meanwhile.

        Several may fill one tree at once. Raises :class:`~artfs.errors.DraftNotFoundError`,
        :class:`~artfs.errors.AlreadyFinishedError`, :class:`~artfs.errors.Sealing`.
        """

    @abstractmethod
    def is_volume(self, status: os.stat_result) -> bool:
        """Tells whether a directory is this volume or the mount of it, into which nothing can copy itself."""

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
        """Adds to what the version will be called and described as: aliases, tags and keys of the metadata.

        A description that is given replaces the one there is. Several may do so at once.
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

    @abstractmethod
    def pending_directory(self, name: str, distributed_id: bytes) -> Path | None:
        """Returns the directory of a pending version where there is a mount; None without one."""

    @abstractmethod
    def last_change(self, name: str, distributed_id: bytes) -> float:
        """Returns when anything in the tree of a pending version changed last, in seconds since the epoch."""

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

        A finished id gets the aliases, and gives its version again. Where nothing differs from the newest
        version, that one gets the labels of the pending version; ``updated`` names those that this changed.
        Raises
        :class:`~artfs.errors.DraftNotFoundError`, :class:`~artfs.errors.Busy`,
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
        """Gives a pending version up, with all its files.

        With `idle` only if no run has joined it and nothing in it has changed for so many seconds, with
        `abandoned` only if :meth:`abandoned_ids` lists it, else :class:`~artfs.errors.Busy`.
        """

    @abstractmethod
    def _discard_untouched(self, name: str, distributed_id: bytes) -> None:
        """Discards a pending version that was just started, unless others have brought something into it."""


def _look_at(path: bytes, uri: str, max_objects: int | None) -> tuple[bytes, str, int]:
    if "://" not in uri:
        raise InvalidCommand(f"'{printable(uri)}' is no URI")
    return b"/".join(parts(path)), uri, MOST_OBJECTS if max_objects is None else max_objects


def _check_settable(alias: str) -> None:
    if names.check_alias(alias) == names.LATEST:
        raise InvalidName("an alias", alias, "it always names the newest version by itself")
