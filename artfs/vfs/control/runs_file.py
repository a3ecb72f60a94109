"""Runs: `runs` of a pending version (that joined it), `used_by` of a version, `runs/` of the volume."""

from __future__ import annotations

import json

import msgspec

from artfs.catalog.runs import MAX_BYTES, RecordedRun, check_run_id
from artfs.errors import InvalidCommand
from artfs.printing import printable
from artfs.vfs.control.control_file import ControlFile, decoded, json_object, line
from artfs.vfs.control.control_nodes import ControlNode
from artfs.vfs.control.owners_file import owner
from artfs.vfs.control.subject import PendingSubject, VersionSubject, VolumeSubject
from artfs.vfs.listings import NamesListing
from artfs.vfs.node import Attributes, Caller, Handle, Listing, Node, virtual


class PendingRunsFile(ControlFile[PendingSubject]):
    """`+NAME` joins and `-NAME` leaves; finish waits until all that have joined leave.

    With a JSON object after the name, which describes the writing process, only that process joins or leaves.
    """

    name, writable = "runs", True

    def read(self, subject: PendingSubject) -> str:
        return "".join(line(msgspec.to_builtins(run)) for run in subject.tree.pending_version.runs.all())

    def write(self, subject: PendingSubject, command: bytes, caller: Caller) -> None:
        word, _, description = decoded(command).strip().partition(" ")
        if word[:1] not in ("+", "-") or not word[1:]:
            raise InvalidCommand(f"cannot read '{printable(word)}'; write +NAME to join, -NAME to leave")
        run = check_run_id(word[1:])
        process = owner(json_object("a process", description.encode()), caller) if description else None
        with subject.tree.gate.long_change():
            if word[0] == "+":
                subject.tree.pending_version.runs.join(run, process)
            else:
                subject.tree.pending_version.runs.leave(run, process)


class UsedByFile(ControlFile[VersionSubject]):
    """The runs that read the version, a line each; `+NAME` adds one."""

    name, writable = "used_by", True

    def read(self, subject: VersionSubject) -> str:
        return "".join(f"{run}\n" for run in subject.collection.labels(subject.record.number).used_by)

    def write(self, subject: VersionSubject, command: bytes, caller: Caller) -> None:
        word = decoded(command).strip()
        if word[:1] != "+" or not word[1:]:
            raise InvalidCommand(
                f"cannot read '{printable(word)}'; write +NAME to record that a run read the version"
            )
        subject.view.volume.record_use(subject.collection, subject.record.number, word[1:])


class RunsDirectory(ControlFile[VolumeSubject]):
    """`runs`: what the runs of the volume read and wrote."""

    name = "runs"

    def node(self, subject: VolumeSubject) -> Node:
        return _Runs(subject)


class _RunFile(ControlFile[VolumeSubject]):
    """One run as JSON. What its creator or root writes is merged into it.

    Its mode does not show that, since each stat(2) would have to read it.
    """

    writable = True
    document = MAX_BYTES

    def __init__(self, run: str) -> None:
        self.run = run

    name = ""

    def read(self, subject: VolumeSubject) -> str:
        return line(msgspec.to_builtins(subject.view.volume.runs.read(self.run)))

    def write(self, subject: VolumeSubject, command: bytes, caller: Caller) -> None:
        try:
            document = json.loads(command)
        except (ValueError, RecursionError) as error:
            raise InvalidCommand(f"a run must be a JSON object: {error}") from None
        if not isinstance(document, dict):
            raise InvalidCommand("a run must be a JSON object")
        process = document.pop("process", None)
        known = None if process is None else owner(process, caller)
        subject.view.volume.runs.apply(self.run, document, by=caller.uid, process=known)


class _Runs(Node):
    __slots__ = ("ino", "subject")

    blocks = frozenset({"create"})

    def __init__(self, subject: VolumeSubject) -> None:
        self.subject, self.ino = subject, virtual(b"control", *subject.key, b"runs")

    def attributes(self) -> Attributes:
        attributes = self.subject.owner()
        attributes.ino, attributes.entry_timeout, attributes.attr_timeout = self.ino, 0, 0
        return attributes

    def lookup(self, name: bytes) -> Node | None:
        try:
            run = name.decode()
        except UnicodeDecodeError:
            return None
        return self._node(run) if self.subject.view.volume.runs.exists(run) else None

    def _node(self, run: str) -> Node:
        ino = virtual(b"control", *self.subject.key, b"runs", run.encode())
        return ControlNode(self.subject, _RunFile(run), ino)

    def create(self, name: bytes, flags: int, mode: int, caller: Caller) -> tuple[Node, Handle]:
        run = decoded(name)
        self.subject.view.volume.runs.create(RecordedRun(id=run, owner=caller.uid))
        node = self._node(run)
        return node, node.open(flags, caller)

    def listing(self, uid: int = 0) -> Listing:
        return NamesListing(self._names, self.lookup, uid, blocks=True)

    def _names(self) -> list[bytes]:
        return [run.encode() for run in self.subject.view.volume.runs.ids()]
