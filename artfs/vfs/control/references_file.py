"""`references` of a pending version: files whose bytes live at a URI.

`PATH URI` looks what is there and adds it, or all that is below; what the file reads as, lines of JSON, adds
just that, unlooked.
"""

from __future__ import annotations

import errno
import json
import os
import threading
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any, Self

from artfs.errors import ArtfsError, Interrupted, InvalidCommand, printable
from artfs.limits.numbers import FOUND_OBJECTS
from artfs.model import names
from artfs.references import FoundObject, Requester
from artfs.vfs.control.control_file import ControlFile, Elsewhere, line
from artfs.vfs.control.snapshot import Snapshot
from artfs.vfs.control.subject import CLOSED_TO_SOME, PendingSubject, sees_all
from artfs.vfs.node import Caller
from artfs.volume.volume_references import References, describe_reference

_AT_ONCE = 100  # references made before others have their turn
_LARGEST = 1 << 63
_DIGITS = 19  # of a number on a command line

#: Paths in the tree, what shall stand there, and the run that brings it, if that is known.
_Objects = list[tuple[bytes, FoundObject, bytes]]


class PendingReferences(ControlFile[PendingSubject]):
    """It tells every name, and so is for who can list every directory. The answer tells what was added."""

    name, writable, waits, stepped, computes = "references", True, True, True, True

    def read_for(self, subject: PendingSubject, caller: Caller) -> Iterator[str]:
        found, reach = subject.view.volume.references_within_reach(subject.tree)
        may = sees_all(subject, reach, caller)
        for reference in found:  # who may not is told that there is none
            if not may:
                raise PermissionError(errno.EACCES, CLOSED_TO_SOME)
            yield line(reference)

    def steps(
        self, subject: PendingSubject, command: bytes, caller: Caller
    ) -> Generator[Callable[[], Any], Any, str | Snapshot | None]:
        references, dry_run = subject.view.volume.references, False
        with Room(caller) as room:
            objects = _recorded(command, references)
            if objects is None:
                wanted = Wanted.parse(command)
                dry_run = wanted.dry_run
                objects = yield Elsewhere(
                    lambda step: wanted.look(references, room, Requester(caller.uid, lambda: step.given_up))
                )
            # Before anything is made: it may be more than the caller may have.
            answer: Snapshot = yield lambda: subject.snapshot(_told(objects) if objects else "ok\n", caller)
            try:
                if not dry_run:
                    yield from self._make(subject, objects, caller)
            except BaseException:
                answer.close()
                raise
        return answer

    def _make(
        self, subject: PendingSubject, objects: _Objects, caller: Caller
    ) -> Generator[Callable[[], Any], Any, None]:
        while not subject.tree.has_references:
            yield subject.tree.expect_references
        refused: Exception | None = None
        made: list[tuple[int, bytes]] = []

        def forget() -> None:
            # The kernel may have looked for these names before, and remembers that there was nothing.
            subject.view.forget_names(subject.tree, made)
            made.clear()

        try:
            for path, object_, run in objects:
                made += subject.view.refer(subject.tree, path.split(b"/"), object_, caller, run)
                if len(made) >= _AT_ONCE:
                    yield forget
        except (ArtfsError, OSError) as error:
            refused = error
        yield forget
        if refused is not None:
            raise refused


class _NoRoomError(Exception):
    def __init__(self, why: OSError) -> None:
        self.why = why


class Room:
    """The memory of what one command found, until that is no longer needed. Any thread."""

    def __init__(self, caller: Caller) -> None:
        self._uid, self._taken, self._ended = caller.uid, 0, False
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def take(self, size: int) -> None:
        """Raises _NoRoomError, also for a look that nobody waits for any more."""
        with self._lock:
            try:
                if self._ended:
                    raise Interrupted
                FOUND_OBJECTS.take(self._uid, size)
            except OSError as error:
                raise _NoRoomError(error) from None
            self._taken += size

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._ended = True
            FOUND_OBJECTS.give(self._uid, self._taken)
            self._taken = 0


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a command asks for."""

    path: bytes
    uri: str
    checksum: bool = True
    max_objects: int = 10_000_000
    dry_run: bool = False

    @classmethod
    def parse(cls, command: bytes) -> Wanted:
        """Reads ``PATH URI [--no-checksum] [--max-objects=N] [--dry-run]``, or the same as JSON.

        The path may hold blanks, a URI has none. ``.`` is the root: a single object then has its own name.
        Raises InvalidCommand, InvalidName.
        """
        read = _object(command)
        if read is None:
            words = os.fsdecode(command).split(" ")
            read = {}
            while words and words[-1].startswith("--"):
                option, equals, value = words.pop()[2:].partition("=")
                number = value.isdigit() and value.isascii() and len(value) <= _DIGITS
                read[option.replace("-", "_")] = int(value) if number else not equals or value
            if len(words) < 2 or "://" not in words[-1]:
                raise InvalidCommand(
                    "write PATH URI, like: echo 'images/a.png s3://bucket/a.png' > references"
                )
            read |= {"path": " ".join(words[:-1]), "uri": words[-1]}
        return cls._checked(**{"path": None, "uri": None} | read)

    @classmethod
    def _checked(
        cls,
        path: Any,
        uri: Any,
        no_checksum: Any = False,
        max_objects: Any = 10_000_000,
        dry_run: Any = False,
        **others: Any,
    ) -> Wanted:
        for option in others:
            shown = printable(option.replace("_", "-"))
            raise InvalidCommand(f"'--{shown}': there are --no-checksum, --max-objects=N and --dry-run")
        kinds = ((path, str), (uri, str), (no_checksum, bool), (max_objects, int), (dry_run, bool))
        if any(type(value) is not kind for value, kind in kinds) or max_objects < 0:
            raise InvalidCommand("path and uri are texts, max-objects is a number, the others take no value")
        where = b"" if path == "." else _path(os.fsencode(path))
        return cls(where, uri, not no_checksum, max_objects, dry_run)

    def look(self, references: References, room: Room, requester: Requester) -> _Objects:
        """Blocking. Raises OSError (ENOMEM) too."""
        try:
            found = references.list_objects(
                self.uri,
                self.path,
                checksum=self.checksum,
                max_objects=self.max_objects,
                charge=room.take,
                requester=requester,
            )
        except _NoRoomError as error:
            raise error.why from None
        return [(path, object_, b"") for path, object_ in found]


def _recorded(command: bytes, references: References) -> _Objects | None:
    """Reads lines of JSON with ``path``, ``uri``, ``size`` and ``checksum``; None if it is a question.

    There may be ``run`` too, which is noted as on other files.
    """
    objects: _Objects = []
    for document in command.splitlines():
        read = _object(document)
        if read is None or "size" not in read:
            if objects:
                raise InvalidCommand(f"'{printable(document[:100])}' has no size")
            return None
        path, uri, size, checksum = (read.pop(key, None) for key in ("path", "uri", "size", "checksum"))
        run = read.pop("run", "")
        texts = all(isinstance(text, str) for text in (path, uri, checksum, run))
        if read or not texts or type(size) is not int or not 0 <= size < _LARGEST:
            raise InvalidCommand("a reference has path, uri and checksum, which are texts, and a size")
        references.check(uri)
        found = FoundObject(b"", uri, size, os.fsencode(checksum))
        objects.append((_path(os.fsencode(path)), found, os.fsencode(run)))
    return objects or None


def _object(document: bytes) -> dict[str, Any] | None:
    """Reads a JSON object; None for what doesn't look like one."""
    if not document.startswith(b"{"):
        return None
    try:
        read = json.loads(document)
        for value in read.values():
            if isinstance(value, str):
                os.fsencode(value)
    except (ValueError, RecursionError):
        raise InvalidCommand(f"'{printable(document[:100])}' is no JSON object of text and numbers") from None
    return dict(read)


def _told(objects: _Objects) -> Iterator[str]:
    return (line(describe_reference(path, object_)) for path, object_, _ in objects)


def _path(path: bytes) -> bytes:
    path = path.strip(b"/")
    for name in path.split(b"/"):
        names.check_entry_name(name)
    return path


__all__ = ["PendingReferences", "Room", "Wanted"]
