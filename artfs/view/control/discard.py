"""`discard`: gives a pending version up, with all its files. The id can be started again."""

from __future__ import annotations

from artfs.errors import InvalidCommand
from artfs.view.control.file import ControlFile
from artfs.view.control.place import PendingPlace
from artfs.view.node import Caller

_YES = (b"", b"1", b"yes")  # as a shell, a user of cgroup files, and a careful person write it


class Discard(ControlFile[PendingPlace]):
    name, writable, waits = "discard", True, True

    def read(self, place: PendingPlace) -> str:
        return "usage: echo > discard\ndeletes this pending version and all its files\n"

    def write(self, place: PendingPlace, command: bytes, caller: Caller) -> str:
        if command.strip() not in _YES:
            raise InvalidCommand("discard takes an empty line; it deletes all files of this pending version")
        place.view.volume.discard_tree(place.collection, place.tree)
        place.view.discarded(place.tree)
        return "discarded\n"
