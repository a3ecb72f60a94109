"""`status` of the volume, a pending version and a version: one JSON object."""

from __future__ import annotations

import os
import time

from artfs.view.control.file import ControlFile, line
from artfs.view.control.place import PendingPlace, VersionPlace, VolumePlace, sees_all
from artfs.view.node import Caller


class VolumeStatus(ControlFile[VolumePlace]):
    name = "status"

    def read(self, place: VolumePlace) -> str:
        view = place.view
        mount = {
            "pid": os.getpid(),
            "uptime": round(time.time() - view.started, 3),
            "supervised": view.supervised(),
            "restarts": view.restarts,
            "write_cache": view.write_cache,
            "read_only": view.read_only,
            "references": sorted(view.volume.references.schemes),
        }
        return line(view.volume.describe() | mount)


class PendingStatus(ControlFile[PendingPlace]):
    name = "status"

    def read_for(self, place: PendingPlace, caller: Caller) -> str:
        volume, tree = place.view.volume, place.tree
        status = volume.describe_pending(tree)
        failed = volume.references.failures(tree.label)
        if failed and sees_all(place, volume.references_within_reach(tree)[1], caller):
            status["reference_errors"] = failed
        return line(status)


class UpdatedAt(ControlFile[VersionPlace]):
    """When the tags, description, metadata, ttl or users of a version were changed last."""

    name = "updated_at"

    def read(self, place: VersionPlace) -> str:
        updated = place.collection.notes(place.record.number).updated_at
        return f"{updated or place.record.created_at}\n"


class VersionStatus(ControlFile[VersionPlace]):
    name = "status"

    def read_for(self, place: VersionPlace, caller: Caller) -> str:
        status = place.collection.describe(place.record.number)
        failed = place.view.volume.references.failures(f"{place.collection.name}:{place.record.version}")
        if failed and sees_all(place, place.record.root.entry().reach, caller):
            status["reference_errors"] = failed
        return line(status)
