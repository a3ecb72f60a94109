"""`error`: why the last command at this place was refused, until one is accepted."""

from __future__ import annotations

from artfs.vfs.control.control_file import ControlFile
from artfs.vfs.control.subject import Place


class Error(ControlFile[Place]):
    name = "error"

    def read(self, place: Place) -> str:
        return f"{place.refused or 'ok'}\n"
