"""`error`: why the last command in this directory was refused, until one is accepted."""

from __future__ import annotations

from artfs.vfs.control.control_file import ControlFile
from artfs.vfs.control.subject import Subject


class ErrorFile(ControlFile[Subject]):
    name = "error"

    def read(self, subject: Subject) -> str:
        return f"{subject.refused or 'ok'}\n"
