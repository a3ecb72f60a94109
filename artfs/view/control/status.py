"""`status` of the volume, a pending version and a version: one JSON object."""

from __future__ import annotations

import os
import time

from artfs.view.control.file import ControlFile, line
from artfs.view.control.place import PendingPlace, VersionPlace, VolumePlace


class VolumeStatus(ControlFile[VolumePlace]):
    name = "status"

    def read(self, place: VolumePlace) -> str:
        view = place.view
        mount = {
            "pid": os.getpid(),
            "uptime": round(time.time() - view.started, 3),
            "write_cache": view.write_cache,
            "read_only": view.read_only,
        }
        return line(view.volume.describe() | mount)


class PendingStatus(ControlFile[PendingPlace]):
    name = "status"

    def read(self, place: PendingPlace) -> str:
        return line(place.view.volume.describe_pending(place.tree))


class VersionStatus(ControlFile[VersionPlace]):
    name = "status"

    def read(self, place: VersionPlace) -> str:
        return line(place.collection.describe(place.record.number))
