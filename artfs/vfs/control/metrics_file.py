"""`metrics` of the volume, in the text format of Prometheus (version 0.0.4)."""

from __future__ import annotations

import time

from artfs.vfs.control.control_file import ControlFile
from artfs.vfs.control.subject import VolumeSubject
from artfs.volume.status import describe


class MetricsFile(ControlFile[VolumeSubject]):
    name = "metrics"

    def read(self, subject: VolumeSubject) -> str:
        view = subject.view
        known = describe(view.volume)
        figures = [
            ("artfs_collections", "gauge", "Collections in the volume", known["collections"]),
            ("artfs_pending_versions", "gauge", "Pending versions in the volume", known["pending"]),
            ("artfs_sealed_versions", "gauge", "Sealed versions in the volume", known["sealed"]),
            ("artfs_sealed_bytes", "gauge", "Total size of the sealed versions", known["bytes"]),
            ("artfs_available_bytes", "gauge", "Bytes free on the backing filesystem", known["available"]),
            ("artfs_uptime_seconds", "gauge", "Seconds since the daemon started", time.time() - view.started),
            ("artfs_restarts_total", "counter", "Times that the daemon was started again", view.restarts),
        ]
        return "".join(
            f"# HELP {name} {text}\n# TYPE {name} {kind}\n{name} {value}\n"
            for name, kind, text, value in figures
        )
