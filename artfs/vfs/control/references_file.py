"""`references` of a pending version: files whose bytes live at a URI.

`PATH URI` looks up what is there, and adds it or all that is below. Lines of JSON, as the file reads, add
just those references without a look.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Callable, Generator, Iterator
from typing import Annotated, Any

from msgspec import Meta, Struct
from msgspec.structs import replace

from artfs.errors import ArtfsError, InvalidCommand
from artfs.limits.limit import Holding
from artfs.limits.numbers import FOUND_OBJECTS
from artfs.model import names
from artfs.model.entry import RUN
from artfs.pending import reference_files
from artfs.printing import printable
from artfs.references import FoundObject, Requester
from artfs.store.regular_files import unlink_quietly
from artfs.vfs.control.control_file import ControlFile, RemoteStep, converted, line, option
from artfs.vfs.control.snapshot import Snapshot
from artfs.vfs.control.subject import CLOSED_TO_SOME, PendingSubject, check_may, sees_all
from artfs.vfs.node import Caller, Node
from artfs.vfs.pending_directory import PendingDirectory
from artfs.vfs.permissions import CHANGE, PASS
from artfs.volume.volume_references import References, describe_reference, new_reference_entry, path_taken

_AT_ONCE = 100  # references made before other requests have their turn
_DIGITS = 19  # of a number on a command line
_DIRECTORY_MODE = 0o755

#: Paths in the tree, the references to make there, and the run that adds each, empty if unknown.
_Objects = list[tuple[bytes, FoundObject, bytes]]


class ReferencesFile(ControlFile[PendingSubject]):
    """For users who can list every directory, since it lists every name. The answer is what was added."""

    name, writable, waits, stepped, computes = "references", True, True, True, True

    def read_for(self, subject: PendingSubject, caller: Caller) -> Iterator[str]:
        found, reach = subject.view.volume.references_in(subject.tree)
        may = sees_all(subject, reach, caller)
        for reference in found:  # if there is none, everybody may know that
            if not may:
                raise PermissionError(errno.EACCES, CLOSED_TO_SOME)
            yield line(reference)

    def steps(
        self, subject: PendingSubject, command: bytes, caller: Caller
    ) -> Generator[Callable[[], Any], Any, str | Snapshot | None]:
        references, dry_run = subject.view.volume.references, False
        with Holding(FOUND_OBJECTS, caller.uid) as memory:
            objects = parse_lines(command, references)
            if objects is None:
                look = ReferenceQuery.parse(command)
                dry_run = look.dry_run
                objects = yield RemoteStep(
                    lambda step: look.run(references, memory, Requester(caller.uid, lambda: step.given_up))
                )
            # Before anything is made, since it may be more than the caller may have.
            lines = (line(describe_reference(path, object_)) for path, object_, _ in objects)
            answer: Snapshot = yield lambda: subject.snapshot(lines if objects else "ok\n", caller)
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
            # The kernel may have looked these names up before, and remembers that they are absent.
            subject.view.forget_names(subject.tree, made)
            made.clear()

        try:
            for path, object_, run in objects:
                root = subject.view.pending(subject.tree)
                made += [(at.ino, name) for at, name in _make_one(root, path, object_, caller, run)]
                if len(made) >= _AT_ONCE:
                    yield forget
        except (ArtfsError, OSError) as error:
            refused = error
        yield forget
        if refused is not None:
            raise refused


def _make_one(
    root: PendingDirectory, path: bytes, found: FoundObject, caller: Caller, run: bytes
) -> list[tuple[PendingDirectory, bytes]]:
    """Makes one reference and the directories above it, as the caller may; returns the names that are new.

    Makes nothing if the same reference is there already. Raises AlreadyExists, NotADirectoryError,
    PermissionError.
    """
    at, made = root, list[tuple[PendingDirectory, bytes]]()
    *above, last = path.split(b"/")
    for depth, name in enumerate(above, 1):
        below: Node | None = at.find(name)
        if below is None:
            _check_may(caller, at, path, CHANGE)
            below = at.mkdir(name, _DIRECTORY_MODE, caller)
            made.append((at, name))
        if not isinstance(below, PendingDirectory):
            shown = printable(b"/".join(above[:depth]))
            raise NotADirectoryError(
                errno.ENOTDIR, f"cannot create '{printable(path)}': '{shown}' is not a directory"
            )
        at = below
        _check_may(caller, at, path, PASS)
    _check_may(caller, at, path, CHANGE)
    attributes, owner = at.attributes(), (os.geteuid(), os.getegid())
    if at.mounted.mount.as_root:
        owner = caller.uid, attributes.gid if attributes.mode & stat.S_ISGID else caller.gid
    entry = new_reference_entry(found, last, *owner)
    if run:
        entry = replace(entry, xattrs=((RUN, run),))
    staging = at.mounted.tree.pending_version.fd
    staged = reference_files.stage(staging, entry)
    try:
        at.adopt(last, staged)
    except BaseException as error:
        unlink_quietly(staging, staged)
        if not isinstance(error, FileExistsError):
            raise
        present = at.find(last)
        same = present.reference() if present is not None else None
        if same is None or (same.uri, same.size, same.checksum) != (entry.uri, entry.size, entry.checksum):
            raise path_taken(path) from None
        return made
    return [*made, (at, last)]


def _check_may(caller: Caller, directory: PendingDirectory, path: bytes, bits: int) -> None:
    why = f"cannot create '{printable(path)}': you may not make files in its directory"
    check_may(caller, directory.attributes(), bits, why)


class ReferenceQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """A command to look up what is at a URI, as its JSON has it."""

    path: str
    uri: str
    no_checksum: bool = False
    max_objects: Annotated[int, Meta(ge=0)] = 10_000_000
    dry_run: bool = False

    @classmethod
    def parse(cls, command: bytes) -> ReferenceQuery:
        """Reads ``PATH URI [--no-checksum] [--max-objects=N] [--dry-run]``, or the same as JSON.

        The path may contain blanks, the URI none. ``.`` is the root: a single object then keeps its own name.
        Raises InvalidCommand, InvalidName.
        """
        read = _json_object(command)
        if read is None:
            words, read = os.fsdecode(command).split(" "), {}
            while words and words[-1].startswith("--"):
                name, value = option("references", words.pop(), _OPTIONS)
                read[name.removeprefix("--").replace("-", "_")] = value
            if len(words) < 2 or "://" not in words[-1]:
                raise InvalidCommand(
                    "write PATH URI, like: echo 'images/a.png s3://bucket/a.png' > references"
                )
            read |= {"path": " ".join(words[:-1]), "uri": words[-1]}
        look = converted("a reference", read, cls)
        return replace(look, path="" if look.path == "." else os.fsdecode(_checked(look.path)))

    def run(self, references: References, memory: Holding, requester: Requester) -> _Objects:
        """Blocking. Raises LimitExceededError too."""
        found = references.list_objects(
            self.uri,
            os.fsencode(self.path),
            checksum=not self.no_checksum,
            max_objects=self.max_objects,
            charge=memory.take,
            requester=requester,
        )
        return [(path, object_, b"") for path, object_ in found]


def _count(word: str) -> int:
    name, _, digits = word.partition("=")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= _DIGITS):
        raise InvalidCommand(f"{name} takes a number, not '{printable(digits)}'")
    return int(digits)


_OPTIONS = {"--no-checksum": None, "--max-objects=N": _count, "--dry-run": None}


class _Line(Struct, forbid_unknown_fields=True):
    path: str
    uri: str
    size: Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]
    checksum: str
    run: str = ""


def parse_lines(command: bytes, references: References) -> _Objects | None:
    """Reads lines of JSON, as the file reads; None for a command to look something up.

    ``run`` is recorded as on other files.
    """
    objects: _Objects = []
    for document in command.splitlines():
        read = _json_object(document)
        if read is None or "size" not in read:
            if objects:
                raise InvalidCommand(f"'{printable(document[:100])}' has no size")
            return None
        given = converted("a reference", read, _Line)
        references.check(given.uri)
        found = FoundObject(b"", given.uri, given.size, os.fsencode(given.checksum))
        objects.append((_checked(given.path), found, os.fsencode(given.run)))
    return objects or None


def _json_object(document: bytes) -> dict[str, Any] | None:
    """Reads a JSON object; None for what does not look like one."""
    if not document.startswith(b"{"):
        return None
    try:
        read = json.loads(document)
        for text in (*read, *read.values()):
            if isinstance(text, str):
                os.fsencode(text)
    except (ValueError, RecursionError):
        raise InvalidCommand(
            f"'{printable(document[:100])}' is not a JSON object of text and numbers"
        ) from None
    return dict(read)


def _checked(path: str) -> bytes:
    names_ = os.fsencode(path).strip(b"/").split(b"/")
    return b"/".join(map(names.check_entry_name, names_))
