"""`owners`: the processes that a program made a pending version for, under an id that it drew itself.

`gc` discards it once all of them are dead. A program that starts one writes who it is.
"""

from __future__ import annotations

from typing import Any

import msgspec

from artfs.catalog import records
from artfs.errors import InvalidCommand
from artfs.linux.procfs import process_of
from artfs.pending.pending_version import Owners
from artfs.store.owners import Owner, process
from artfs.vfs.control.control_file import ControlFile, line
from artfs.vfs.control.metadata_file import json_object
from artfs.vfs.control.subject import PendingSubject
from artfs.vfs.node import Caller


def owner(description: Any, caller: Caller) -> Owner:
    """Returns the process that describes itself: as it is seen here, or as it says if it can't be seen.

    Its own number of it means nothing to this daemon if it is in another pid namespace. Raises
    :class:`~artfs.errors.InvalidCommand`.
    """
    try:
        said = msgspec.convert(description, Owner)
    except msgspec.ValidationError as error:
        raise InvalidCommand(f"a process: {error}") from None
    if caller.pid:
        seen = process(process_of(caller.pid)[0])
        if seen.ticks:
            return seen
    return said


class _Given(msgspec.Struct, forbid_unknown_fields=True):
    process: Any
    collection: str | None = None


class PendingOwners(ControlFile[PendingSubject]):
    name, writable = "owners", True

    def read(self, subject: PendingSubject) -> str:
        pending_version = subject.tree.pending_version
        known = msgspec.to_builtins(pending_version.owners() or Owners())
        return line({"abandoned": pending_version.abandoned(), **known})

    def write(self, subject: PendingSubject, command: bytes, caller: Caller) -> None:
        try:
            given = msgspec.convert(json_object("an owner", command), _Given)
        except msgspec.ValidationError as error:
            raise InvalidCommand(f"an owner: {error}") from None
        process_, made = owner(given.process, caller), given.collection
        with subject.tree.gate.long_change():
            subject.tree.pending_version.own(process_, None if made is None else records.check_type(made))


__all__ = ["PendingOwners", "owner"]
