"""`base`: the version that a pending one is a patch of. Writing it shows that version's content at once."""

from __future__ import annotations

from artfs.errors import InvalidCommand
from artfs.model import words
from artfs.seal.seal import Request
from artfs.view.control.file import ControlFile
from artfs.view.control.place import AsOnTheWay, PendingPlace
from artfs.view.node import Caller
from artfs.view.process import signalled


class Base(ControlFile[PendingPlace]):
    name, writable, waits = "base", True, True

    def read(self, place: PendingPlace) -> str:
        base = place.tree.base()
        return "" if base is None else f"{words.line(base.ref)}\n"

    def write(self, place: PendingPlace, command: bytes, caller: Caller) -> None:
        refs = words.read_lines(command)
        if len(refs) > 1:
            raise InvalidCommand("base takes one line: a version, an alias, or either as COLLECTION:V")
        request = Request(
            interrupted=lambda: place.view.stopping or signalled(caller.pid), admit=AsOnTheWay(caller)
        )
        place.view.set_base(place.tree, "".join(refs), request)


__all__ = ["Base"]
