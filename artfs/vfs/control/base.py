"""`base` and `link`: the version that a pending one is a patch of, or a link to.

Writing either shows that version's content at once.
"""

from __future__ import annotations

from artfs.errors import InvalidCommand
from artfs.model import words
from artfs.seal.seal import Request
from artfs.vfs.callers import signalled
from artfs.vfs.control.control_file import ControlFile, decoded
from artfs.vfs.control.subject import AsOnTheWay, PendingPlace
from artfs.vfs.node import Caller


class Base(ControlFile[PendingPlace]):
    name, writable, waits = "base", True, True

    def read(self, place: PendingPlace) -> str:
        base = place.tree.base()
        return "" if base is None else f"{words.word(base.ref)}\n"

    def write(self, place: PendingPlace, command: bytes, caller: Caller) -> None:
        refs = words.read_list(command)
        if len(refs) > 1:
            raise InvalidCommand("base takes one word: a version, an alias, or either as COLLECTION:V")
        place.view.set_base(place.tree, "".join(refs), _request(place, caller))


class Link(ControlFile[PendingPlace]):
    name, writable, waits = "link", True, True

    def read(self, place: PendingPlace) -> str:
        link = place.tree.draft.settings().link
        return "" if link is None else f"{link}\n"

    def write(self, place: PendingPlace, command: bytes, caller: Caller) -> None:
        ref = decoded(command).strip()
        place.view.set_base(place.tree, ref, _request(place, caller), link=True)


def _request(place: PendingPlace, caller: Caller) -> Request:
    return Request(interrupted=lambda: place.view.stopping or signalled(caller.pid), admit=AsOnTheWay(caller))


__all__ = ["Base", "Link"]
