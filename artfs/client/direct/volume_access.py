"""What the parts of a direct client share: the open volume, its collections and the lock against mounts.

Owns the lock that a daemon would need, held while pending versions change, so that no daemon mounts a
half-made change. Blocking.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from artfs.catalog.collection import Collection
from artfs.catalog.records import VersionRecord
from artfs.errors import Busy, VolumeInUse
from artfs.store import probe
from artfs.volume.volume import Volume


class VolumeAccess:
    """An open volume, which stays the caller's."""

    def __init__(self, volume: Volume) -> None:
        self._volume = volume
        self._filesystem_checked = False

    def _collection(self, name: str) -> Collection:
        return self._volume.catalog.collection(name)

    def _record(self, name: str, ref: str) -> tuple[Collection, VersionRecord]:
        collection = self._collection(name)
        return collection, collection.record(collection.resolve(ref))

    @contextlib.contextmanager
    def _unmounted(self) -> Iterator[None]:
        lock = self._volume.layout.mount_lock
        try:
            held = lock.shared(blocking=False)
        except Busy:
            raise VolumeInUse(str(self._volume.path), str(lock.owner())) from None
        with held:
            self._check_filesystem()
            yield

    def _check_filesystem(self) -> None:
        """Raises UnsupportedFilesystem. Filesystems of types that are known to work are not tried."""
        if not self._filesystem_checked:
            layout = self._volume.layout
            if not probe.is_known(layout.fd):
                layout.check_filesystem()
            self._filesystem_checked = True
