"""`discard`: gives a pending version up, with all its files. The id can be started again."""

from __future__ import annotations

from artfs.errors import InvalidCommand
from artfs.vfs.control.control_file import ControlFile, decoded, seconds
from artfs.vfs.control.subject import PendingSubject
from artfs.vfs.node import Caller

_YES = ("", "1", "yes")  # as a shell, a user of cgroup files, and a careful person write it


class Discard(ControlFile[PendingSubject]):
    name, writable, waits = "discard", True, True

    def read(self, subject: PendingSubject) -> str:
        return (
            "usage: echo > discard, echo --idle=SECONDS > discard, or echo --abandoned > discard\n"
            "deletes this pending version and all its files; with --idle only if nothing in it has changed "
            "for so long, and no run has joined; with --abandoned only if the process that made it for "
            "itself is dead\n"
        )

    def write(self, subject: PendingSubject, command: bytes, caller: Caller) -> str:
        word = decoded(command).strip()
        idle = seconds(word) if word.startswith("--idle=") else None
        abandoned = word == "--abandoned"
        if idle is None and not abandoned and word not in _YES:
            raise InvalidCommand("discard takes an empty line; it deletes all files of this pending version")
        subject.view.volume.discard_tree(subject.collection, subject.tree, idle=idle, abandoned=abandoned)
        subject.view.discarded(subject.tree)
        return "discarded\n"
