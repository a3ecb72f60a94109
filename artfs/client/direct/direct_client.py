"""A client that works on a volume directly, without a mount."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

from artfs.client.direct.direct_pending import DirectPending
from artfs.client.direct.direct_versions import DirectVersions
from artfs.client.interface import Client
from artfs.model.digest import Algorithm
from artfs.volume.status import describe
from artfs.volume.volume import Volume


class DirectClient(DirectVersions, DirectPending, Client):
    """Owns `volume` and closes it."""

    def close(self) -> None:
        self._volume.close()

    def is_current(self) -> bool:
        return self._volume.layout.mount_lock.read_owner() is None

    def volume_status(self) -> dict[str, Any]:
        return describe(self._volume)

    def algorithm(self) -> Algorithm:
        return self._volume.layout.algorithm

    @contextlib.contextmanager
    def volume(self) -> Iterator[Volume]:
        yield self._volume

    def is_volume(self, status: os.stat_result) -> bool:
        own = os.fstat(self._volume.layout.fd)
        return (own.st_dev, own.st_ino) == (status.st_dev, status.st_ino)
