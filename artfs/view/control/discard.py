"""`discard`: gives a pending version up, with all its files. The id can be started again."""

from __future__ import annotations

import contextlib

from artfs.errors import InvalidCommand, printable
from artfs.view.control.file import ControlFile
from artfs.view.control.place import PendingPlace
from artfs.view.node import Caller

_IDLE = b"--idle="
_YES = (b"", b"1", b"yes")  # as a shell, a user of cgroup files, and a careful person write it


class Discard(ControlFile[PendingPlace]):
    name, writable, waits = "discard", True, True

    def read(self, place: PendingPlace) -> str:
        return (
            "usage: echo > discard, or echo --idle=SECONDS > discard\n"
            "deletes this pending version and all its files; with --idle only if nothing in it has changed "
            "for so long, and no run has joined\n"
        )

    def write(self, place: PendingPlace, command: bytes, caller: Caller) -> str:
        idle = _idle(command.strip())
        if idle is None and command.strip() not in _YES:
            raise InvalidCommand("discard takes an empty line; it deletes all files of this pending version")
        place.view.volume.discard_tree(place.collection, place.tree, idle=idle)
        place.view.discarded(place.tree)
        return "discarded\n"


def _idle(word: bytes) -> float | None:
    if not word.startswith(_IDLE):
        return None
    with contextlib.suppress(ValueError):
        seconds = float(word.removeprefix(_IDLE))
        if seconds >= 0:
            return seconds
    raise InvalidCommand(f"--idle takes seconds, not '{printable(word.removeprefix(_IDLE))}'")
