"""`owners`: the processes for which a program made a pending version, under an id that it drew itself.

`gc` discards the version once all of them have ended. A program that starts one writes a description of
itself.
"""

from __future__ import annotations

from typing import Any

import msgspec

from artfs.catalog import records
from artfs.linux.procfs import process_of
from artfs.pending.pending_version import Owners
from artfs.store.owners import Owner, process
from artfs.vfs.control.control_file import ControlFile, converted, json_object, line
from artfs.vfs.control.subject import PendingSubject
from artfs.vfs.node import Caller


def owner(description: Any, caller: Caller) -> Owner:
    """Returns the process that describes itself: as this daemon sees it, or as described if it sees none.

    In another pid namespace a process has a pid that means nothing to this daemon. Raises
    :class:`~artfs.errors.InvalidCommand`.
    """
    said = converted("a process", description, Owner)
    if caller.pid:
        seen = process(process_of(caller.pid)[0])
        if seen.ticks:
            return seen
    return said


class _OwnersCommand(msgspec.Struct, forbid_unknown_fields=True):
    process: Any
    collection: str | None = None


class OwnersFile(ControlFile[PendingSubject]):
    name, writable = "owners", True

    def read(self, subject: PendingSubject) -> str:
        pending_version = subject.tree.pending_version
        known = msgspec.to_builtins(pending_version.owners() or Owners())
        return line({"abandoned": pending_version.abandoned(), **known})

    def write(self, subject: PendingSubject, command: bytes, caller: Caller) -> None:
        given = converted("an owner", json_object("an owner", command), _OwnersCommand)
        process_, made = owner(given.process, caller), given.collection
        with subject.tree.gate.long_change():
            subject.tree.pending_version.own(process_, None if made is None else records.check_type(made))
