"""`discard`: deletes a pending version with all its files. The id can be started again."""

from __future__ import annotations

from typing import Any

from artfs.errors import InvalidCommand
from artfs.printing import printable
from artfs.vfs.control.control_file import ControlFile, decoded, option, seconds
from artfs.vfs.control.subject import PendingSubject
from artfs.vfs.node import Caller

_YES = ("", "1", "yes")  # echo >, as for cgroup files, and in words
_OPTIONS = {"--idle=SECONDS": seconds, "--abandoned": None}


class DiscardFile(ControlFile[PendingSubject]):
    name, writable, waits = "discard", True, True

    def read(self, subject: PendingSubject) -> str:
        return (
            "usage: echo > discard, echo --idle=SECONDS > discard, or echo --abandoned > discard\n"
            "deletes this pending version and all its files; with --idle only if nothing in it has changed "
            "for so long and no run has joined; with --abandoned only if the process that made it for "
            "itself has ended\n"
        )

    def write(self, subject: PendingSubject, command: bytes, caller: Caller) -> str:
        word = decoded(command).strip()
        given: dict[str, Any] = {}
        if word.startswith("-"):
            name, value = option("discard", word, _OPTIONS)
            given[name.removeprefix("--")] = value
        elif word not in _YES:
            raise InvalidCommand(
                f"cannot read '{printable(word)}'; write an empty line to delete the pending version"
            )
        subject.view.volume.discard(subject.collection, subject.tree, **given)
        subject.view.discarded(subject.tree)
        return "discarded\n"
