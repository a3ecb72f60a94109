"""The values that go into and out of a client: entries, new pending versions, progress. Pure; any thread."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from artfs.errors import InvalidName

MOST_OBJECTS = 10_000_000
"""References that one directory or prefix may add."""

DEFAULT_WAIT = 2.0
"""Seconds that a finish waits for files that are about to be closed."""

INHERIT = "inherit"
"""The ttl of a version that is its collection's."""

NOTHING_READ: Mapping[str, Any] = MappingProxyType({})
"""The labels that were read before a change, where that does not matter."""

Progress = Callable[[str, int, int], None]
"""Called with phase, done and total (0: unknown), in bytes when copying."""


def silent(_phase: str, _done: int, _total: int) -> None:
    """The progress that is not shown."""


def unchecked(_copy: int) -> None:
    """The check of a copy whose source can't change."""


def _no_bytes() -> int:
    raise InvalidName("a file", b"", "it has no bytes to read")


@dataclass(frozen=True, slots=True)
class VersionEntry:
    """One entry of a sealed version.

    ``path`` is relative to the version's root. ``kind`` is ``file``, ``directory`` or ``symlink``; a
    reference is a file, whose bytes are fetched when it is opened or read. ``xattrs`` returns those of the
    user; ``open`` opens a file for reading, and the caller closes the descriptor; ``check`` raises
    :class:`~artfs.errors.ReferenceFailed` if the bytes changed while the given copy was made. The three
    work until the iterator that yielded the entry goes on.
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
    check: Callable[[int], None] = field(default=unchecked, compare=False, repr=False)

    @property
    def name(self) -> bytes:
        return self.path.rpartition(b"/")[2]


@dataclass(frozen=True, slots=True)
class NewPending:
    """A pending version that was just started; ``path`` is its directory where there is a mount."""

    collection: str
    distributed_id: bytes
    path: Path | None


class ReferenceRequest(NamedTuple):
    """References to add at a path: those of a URI, at most so many, with their checksums or without."""

    path: bytes
    uri: str
    max_objects: int
    checksum: bool
