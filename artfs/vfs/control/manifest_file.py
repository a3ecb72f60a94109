"""`manifest.json` of a version: every entry by its path, one a line."""

from __future__ import annotations

import json
from collections.abc import Iterator

from artfs.model.manifest import describe, walk
from artfs.vfs.control.control_file import ControlFile, text
from artfs.vfs.control.subject import VersionSubject, can_list


class ManifestFile(ControlFile[VersionSubject]):
    name, computes = "manifest.json", True

    def readable(self, subject: VersionSubject) -> int:
        return can_list(subject.record.root.entry())

    def read(self, subject: VersionSubject) -> Iterator[str]:
        before = "{\n"
        for path, entry in walk(subject.view.volume.store.reader, subject.record.root.entry()):
            yield f"{before}{json.dumps(text(path))}: {json.dumps(describe(entry))}"
            before = ",\n"
        yield "{\n\n}\n" if before == "{\n" else "\n}\n"
