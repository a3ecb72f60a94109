"""A client that works through a mount.

It uses nothing but files and directories, so it works where only the mount can be seen. Must not know the
volume behind it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from artfs.client.interface import Client
from artfs.client.mounted.control_files import read_document
from artfs.client.mounted.mounted_pending import MountedPending
from artfs.client.mounted.mounted_versions import MountedVersions
from artfs.errors import ArtfsError, VolumeError, VolumeInUse
from artfs.linux.walk import Identity, identity, identity_of
from artfs.model.digest import Algorithm

if TYPE_CHECKING:
    from artfs.volume.volume import Volume


class MountedClient(MountedVersions, MountedPending, Client):
    """Works on the mount at `root`; owns nothing but a descriptor of that."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self._volume_directories: set[Identity] | None = None

    def close(self) -> None:
        os.close(self._fd)

    def is_current(self) -> bool:
        try:
            return os.path.samestat(os.fstat(self._fd), os.stat(self.root))
        except OSError:
            return False

    def volume_status(self) -> dict[str, Any]:
        status: dict[str, Any] = read_document(self._fd, b".artfs/status")
        return status

    def algorithm(self) -> Algorithm:
        return Algorithm.named(self.volume_status()["hash"])

    @contextlib.contextmanager
    def volume(self) -> Iterator[Volume]:
        from artfs.volume.volume import Volume

        status = self.volume_status()
        volume: Volume | None
        try:
            volume = Volume.open(status["store"])
        except VolumeInUse:
            raise  # a daemon of an older artfs uses it
        except (VolumeError, OSError):
            volume = None
        if volume is None or volume.layout.config.id != status["id"]:
            if volume is not None:
                volume.close()
            raise VolumeError(
                f"this works on the volume itself, which can't be seen through the mount {self.root}:"
                f" run it where {status['store']} is, as its owner"
            )
        with volume:
            yield volume

    def is_volume(self, status: os.stat_result) -> bool:
        if self._volume_directories is None:
            self._volume_directories = {identity(self._fd)}
            with contextlib.suppress(ArtfsError, OSError):
                self._volume_directories.add(identity_of(os.stat(self.volume_status()["store"])))
        return identity_of(status) in self._volume_directories
