"""Runs: `runs` of a pending version (who joined), `used_by` of a version, `runs/` of the volume."""

from __future__ import annotations

import json

import msgspec

from artfs.catalog.runs import MAX_BYTES, Run, check_run_id
from artfs.errors import InvalidCommand
from artfs.vfs.control.control_file import ControlFile, decoded, line
from artfs.vfs.control.control_nodes import ControlNode
from artfs.vfs.control.metadata import json_object
from artfs.vfs.control.owners import owner
from artfs.vfs.control.subject import PendingPlace, VersionPlace, VolumePlace
from artfs.vfs.names_listing import NamesListing
from artfs.vfs.node import Attributes, Caller, Handle, Listing, Node, virtual


class PendingRuns(ControlFile[PendingPlace]):
    """`+NAME` joins and `-NAME` leaves; finish waits for who has joined.

    With a JSON object behind the name, which describes the process that writes, it is that process alone that
    joins or leaves.
    """

    name, writable = "runs", True

    def read(self, place: PendingPlace) -> str:
        return "".join(line(msgspec.to_builtins(run)) for run in place.tree.draft.runs())

    def write(self, place: PendingPlace, command: bytes, caller: Caller) -> None:
        word, _, description = decoded(command).strip().partition(" ")
        if word[:1] not in ("+", "-") or not word[1:]:
            raise InvalidCommand("write +NAME to join or -NAME to leave")
        run = check_run_id(word[1:])
        process = owner(json_object("a process", description.encode()), caller) if description else None
        with place.tree.gate.long_change():
            if word[0] == "+":
                place.tree.draft.join(run, process)
            else:
                place.tree.draft.leave(run, process)


class UsedBy(ControlFile[VersionPlace]):
    """The runs that read the version, a line each; `+NAME` adds one."""

    name, writable = "used_by", True

    def read(self, place: VersionPlace) -> str:
        return "".join(f"{run}\n" for run in place.collection.notes(place.record.number).used_by)

    def write(self, place: VersionPlace, command: bytes, caller: Caller) -> None:
        word = decoded(command).strip()
        if word[:1] != "+" or not word[1:]:
            raise InvalidCommand("write +NAME to note that a run read the version")
        place.view.volume.record_use(place.collection, place.record.number, word[1:])


class RunsDirectory(ControlFile[VolumePlace]):
    """`runs`: what jobs read and wrote."""

    name = "runs"

    def node(self, place: VolumePlace) -> Node:
        return _Runs(place)


class _RunFile(ControlFile[VolumePlace]):
    """One run: its JSON; what is written is merged into it. That is for who made it here, and for root.

    Its mode says nothing of that: it would have to be read for each look at it.
    """

    writable = True
    document = MAX_BYTES

    def __init__(self, run: str) -> None:
        self.run = run

    name = ""

    def read(self, place: VolumePlace) -> str:
        return line(msgspec.to_builtins(place.view.volume.runs.read(self.run)))

    def write(self, place: VolumePlace, command: bytes, caller: Caller) -> None:
        try:
            document = json.loads(command)
        except (ValueError, RecursionError) as error:
            raise InvalidCommand(f"a run must be a JSON object: {error}") from None
        if not isinstance(document, dict):
            raise InvalidCommand("a run must be a JSON object")
        process = document.pop("process", None)
        known = None if process is None else owner(process, caller)
        place.view.volume.runs.apply(self.run, document, by=caller.uid, process=known)


class _Runs(Node):
    __slots__ = ("ino", "place")

    blocks = frozenset({"create"})

    def __init__(self, place: VolumePlace) -> None:
        self.place, self.ino = place, virtual(b"control", *place.key, b"runs")

    def attributes(self) -> Attributes:
        attributes = self.place.owner()
        attributes.ino, attributes.entry_timeout, attributes.attr_timeout = self.ino, 0, 0
        return attributes

    def lookup(self, name: bytes) -> Node | None:
        try:
            run = name.decode()
        except UnicodeDecodeError:
            return None
        return self._node(run) if self.place.view.volume.runs.exists(run) else None

    def _node(self, run: str) -> Node:
        ino = virtual(b"control", *self.place.key, b"runs", run.encode())
        return ControlNode(self.place, _RunFile(run), ino)

    def create(self, name: bytes, flags: int, mode: int, caller: Caller) -> tuple[Node, Handle]:
        run = decoded(name)
        self.place.view.volume.runs.create(Run(id=run, owner=caller.uid))
        node = self._node(run)
        return node, node.open(flags, caller)

    def listing(self) -> Listing:
        return NamesListing(self._names, self.lookup, blocks=True)

    def _names(self) -> list[bytes]:
        return [run.encode() for run in self.place.view.volume.runs.ids()]


__all__ = ["PendingRuns", "RunsDirectory", "UsedBy"]
