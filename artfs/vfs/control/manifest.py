"""`manifest.json` of a version: every entry by its path, one a line."""

from __future__ import annotations

import json
from collections.abc import Iterator

from artfs.model.manifest import describe, walk
from artfs.vfs.control.control_file import ControlFile, text
from artfs.vfs.control.subject import VersionPlace, can_list


class Manifest(ControlFile[VersionPlace]):
    name, computes = "manifest.json", True

    def readable(self, place: VersionPlace) -> int:
        return can_list(place.record.root.entry())

    def read(self, place: VersionPlace) -> Iterator[str]:
        before = "{\n"
        for path, entry in walk(place.view.volume.store.reader, place.record.root.entry()):
            yield f"{before}{json.dumps(text(path))}: {json.dumps(describe(entry))}"
            before = ",\n"
        yield "{\n\n}\n" if before == "{\n" else "\n}\n"
