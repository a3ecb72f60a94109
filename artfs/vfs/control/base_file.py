"""`base` and `link`: the version that a pending one is a patch of, or a link to.

A write to either shows that version's content at once.
"""

from __future__ import annotations

from artfs.errors import InvalidCommand
from artfs.model import words
from artfs.vfs.control.control_file import ControlFile, decoded
from artfs.vfs.control.subject import PendingSubject, request_of
from artfs.vfs.node import Caller


class BaseFile(ControlFile[PendingSubject]):
    name, writable, waits = "base", True, True

    def read(self, subject: PendingSubject) -> str:
        base = subject.tree.base()
        return "" if base is None else f"{words.word(base.ref)}\n"

    def write(self, subject: PendingSubject, command: bytes, caller: Caller) -> None:
        refs = words.read_list(command)
        if len(refs) > 1:
            raise InvalidCommand(
                "cannot set several bases; write one version or alias, of another collection as COLLECTION:V"
            )
        subject.view.set_base(subject.tree, "".join(refs), request_of(subject, caller))


class LinkFile(ControlFile[PendingSubject]):
    name, writable, waits = "link", True, True

    def read(self, subject: PendingSubject) -> str:
        link = subject.tree.pending_version.labels().link
        return "" if link is None else f"{link}\n"

    def write(self, subject: PendingSubject, command: bytes, caller: Caller) -> None:
        ref = decoded(command).strip()
        subject.view.set_base(subject.tree, ref, request_of(subject, caller), link=True)
