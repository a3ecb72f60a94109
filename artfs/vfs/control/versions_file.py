"""`versions` of a collection: a line of JSON for each version, oldest first."""

from __future__ import annotations

from artfs.vfs.control.control_file import ControlFile, line
from artfs.vfs.control.subject import CollectionSubject


class VersionsFile(ControlFile[CollectionSubject]):
    name = "versions"

    def read(self, subject: CollectionSubject) -> str:
        return "".join(map(line, subject.collection.describe_all()))
