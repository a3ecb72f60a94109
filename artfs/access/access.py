"""The interface: what a program does with a volume.

Owns the values that go in and out, and what both implementations have to do before they differ: the checks
of names, ids that nobody gave. Blocking; one thread at a time may use an access.
"""

from __future__ import annotations

import os
import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from artfs.catalog import records
from artfs.errors import InvalidName
from artfs.model import names

if TYPE_CHECKING:
    from artfs.access.trees import Tree
    from artfs.model.diff import Change
    from artfs.volume import Volume

DEFAULT_WAIT = 2.0
"""Seconds that a finish waits for closes that are on their way."""

Progress = Callable[[str, int, int], None]
"""Told phase, done and total (0: not known); bytes when copying."""


def silent(_phase: str, _done: int, _of: int) -> None:
    """The progress that nobody watches."""


def _no_bytes() -> int:
    raise InvalidName("a file", b"", "it has no bytes to read")


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a sealed version.

    ``path`` is relative to the version's root. ``kind`` is ``file``, ``directory``, ``symlink`` or
    ``reference``. ``xattrs`` gives those of the user, ``open`` opens a file for reading, whose descriptor the
    caller closes; both only while the iterator that gave the entry stands at it.
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

    @property
    def name(self) -> bytes:
        return self.path.rpartition(b"/")[2]


@dataclass(frozen=True, slots=True)
class NewPending:
    """A pending version that was just started; ``path`` is its directory where there is a mount."""

    collection: str
    distributed_id: bytes
    path: Path | None


class Access(ABC):
    """A volume, as programs use it. Close it, or use it in a ``with`` statement.

    Collections, versions and aliases are text, distributed ids and paths in trees are bytes. Dictionaries
    have the keys of the ``status`` of the same thing on a mount. Whatever is refused is an
    :class:`~artfs.errors.ArtfsError` with the same text from both implementations, or an ``OSError``.
    """

    @abstractmethod
    def close(self) -> None: ...

    def __enter__(self) -> Access:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- the volume

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Returns the volume's ``status``."""

    @abstractmethod
    def volume(self) -> AbstractContextManager[Volume]:
        """Opens the volume itself, for check and gc; one that a daemon serves too.

        Raises :class:`~artfs.errors.VolumeError` where only the mount can be seen.
        """

    # -- collections and versions

    @abstractmethod
    def collections(self) -> list[dict[str, Any]]:
        """Returns name, type, description, number of versions and pending ones, and ``latest`` of each."""

    @abstractmethod
    def versions(self, name: str) -> list[dict[str, Any]]:
        """Returns the ``status`` of every version, oldest first."""

    @abstractmethod
    def version(self, name: str, ref: str) -> dict[str, Any]:
        """Returns the ``status`` of a version, given by number or alias, with its ``description`` and
        ``metadata``."""

    @abstractmethod
    def manifest(self, name: str, ref: str) -> dict[str, Any]:
        """Returns every entry of a version by its path."""

    @abstractmethod
    def diff(self, name: str, old: str, new: str) -> list[Change]:
        """Returns what differs between two versions, given by number or alias, as a diff of their trees does.

        :func:`artfs.model.diff.diff` says what that is. Directly it reads only where the versions differ;
        over a mount, where trees can't be read, both manifests whole. Raises
        :class:`~artfs.errors.VersionNotFound`.
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

    # -- pending versions

    @abstractmethod
    def pending_names(self, name: str) -> list[bytes]:
        """Lists the distributed ids that are pending in a collection."""

    @abstractmethod
    def pending_status(self, name: str, distributed_id: bytes) -> dict[str, Any]:
        """Returns how a pending version stands. Raises :class:`~artfs.errors.PendingNotFound`."""

    def new(self, name: str, distributed_id: bytes | None = None, *, kind: str | None = None) -> NewPending:
        """Starts a pending version, in a collection that is made if it is not there.

        `kind` is the collection's type. Without an id it gets one of its own. Raises
        :class:`~artfs.errors.AlreadyPending`, :class:`~artfs.errors.AlreadyFinished`, and
        :class:`~artfs.errors.Busy` if the collection has versions of another type.
        """
        names.check_collection(name)
        if distributed_id is None:
            distributed_id = secrets.token_hex(6).encode()
        names.check_distributed_id(distributed_id)
        self._need_collection(name, records.check_type(kind or ""))
        return NewPending(name, distributed_id, self._start(name, distributed_id))

    @abstractmethod
    def _need_collection(self, name: str, kind: str) -> None: ...

    @abstractmethod
    def _start(self, name: str, distributed_id: bytes) -> Path | None: ...

    @abstractmethod
    def filling(self, name: str, distributed_id: bytes) -> AbstractContextManager[Tree]:
        """Opens the tree of a pending version to put files into it, and keeps it from being sealed meanwhile.

        Several may fill one tree at once. Raises :class:`~artfs.errors.PendingNotFound`,
        :class:`~artfs.errors.AlreadyFinished`, :class:`~artfs.errors.Sealing`.
        """

    @abstractmethod
    def holds(self, status: os.stat_result) -> bool:
        """Tells whether a directory is this volume or the mount of it, into which nothing can copy itself."""

    @abstractmethod
    def remember_aliases(self, name: str, distributed_id: bytes, aliases: Sequence[str]) -> None:
        """Adds to the aliases that the pending version will have once it is finished."""

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

        A finished id gets the aliases, and gives its version again. Raises
        :class:`~artfs.errors.PendingNotFound`, :class:`~artfs.errors.Busy`,
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
    def discard(self, name: str, distributed_id: bytes) -> None:
        """Gives a pending version up, with all its files."""


def _check_settable(alias: str) -> None:
    if names.check_alias(alias) == names.LATEST:
        raise InvalidName("an alias", alias, "it always names the newest version by itself")
