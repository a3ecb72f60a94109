"""`versions` of a collection: a line of JSON for each version, oldest first."""

from __future__ import annotations

from artfs.vfs.control.control_file import ControlFile, line
from artfs.vfs.control.subject import CollectionPlace


class Versions(ControlFile[CollectionPlace]):
    name = "versions"

    def read(self, place: CollectionPlace) -> str:
        return "".join(map(line, place.collection.describe_all()))
