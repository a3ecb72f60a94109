"""`references` of a pending version: files whose bytes live at a URI; `PATH URI` adds one, or a directory."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Generator
from typing import Any

from artfs.errors import ArtfsError, InvalidCommand, printable
from artfs.model import names
from artfs.references import placed
from artfs.remote import Found
from artfs.view.control.file import ControlFile, line
from artfs.view.control.place import PendingPlace, sees_all
from artfs.view.node import Caller

_AT_ONCE = 100  # references made before others have their turn
_PATIENCE = 30.0  # seconds that the kernel may take to forget a name


class PendingReferences(ControlFile[PendingPlace]):
    """To be read by who can list every directory, since it tells names."""

    name, writable, waits, stepped = "references", True, True, True

    def read_for(self, place: PendingPlace, caller: Caller) -> str:
        found, reach = place.view.volume.references_within_reach(place.tree)
        if not sees_all(place, reach, caller):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return "".join(map(line, found))

    def steps(
        self, place: PendingPlace, command: bytes, caller: Caller
    ) -> Generator[Callable[[], Any], Any, str | None]:
        path, uri, options = parsed(command)
        volume = place.view.volume
        found: list[Found] = yield lambda: volume.references.look(uri, **options)
        yield place.tree.expect_references
        refused: Exception | None = None
        made: list[tuple[int, bytes]] = []

        def forget() -> None:
            # The kernel may have looked for these names before, and remembers that there was nothing.
            for directory, name in made:
                place.view.kernel.forget_entry(directory, name, _PATIENCE)
            made.clear()

        try:
            for path_below, object_ in placed(path, uri, found):
                made += place.view.refer(place.tree, path_below.split(b"/"), object_, caller)
                if len(made) >= _AT_ONCE:
                    yield forget
        except (ArtfsError, OSError) as error:
            refused = error
        yield forget
        if refused is not None:
            raise refused
        return None


def parsed(command: bytes) -> tuple[bytes, str, dict[str, Any]]:
    """Reads ``PATH URI [--no-checksum] [--max-objects=N]``; the path may hold blanks, a URI has none.

    ``.`` is the root: a single object then has its own name.

    Raises InvalidCommand, InvalidName.
    """
    words = os.fsdecode(command).split(" ")
    options: dict[str, Any] = {}
    while words and words[-1].startswith("--"):
        option, _, value = words.pop().partition("=")
        if option == "--no-checksum" and not value:
            options["checksum"] = False
        elif option == "--max-objects" and value.isdigit():
            options["max_objects"] = int(value)
        else:
            raise InvalidCommand(f"'{printable(option)}': there are --no-checksum and --max-objects=N")
    if len(words) < 2 or "://" not in words[-1]:
        raise InvalidCommand("write PATH URI, like: echo 'images/a.png s3://bucket/a.png' > references")
    path = os.fsencode(" ".join(words[:-1])).strip(b"/")
    if path == b".":
        return b"", words[-1], options
    for name in path.split(b"/"):
        names.check_entry_name(name)
    return path, words[-1], options


__all__ = ["PendingReferences", "parsed"]
