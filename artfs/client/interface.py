"""The interface: what a program does with a volume.

:mod:`~artfs.client.version_operations` and :mod:`~artfs.client.pending_operations` are its two large parts.
Blocking; one thread at a time may use a client.
"""

from __future__ import annotations

import os
from abc import abstractmethod
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from artfs.client.pending_operations import PendingOperations
from artfs.client.version_operations import VersionOperations

if TYPE_CHECKING:
    from artfs.model.digest import Algorithm
    from artfs.volume.volume import Volume


class Client(VersionOperations, PendingOperations):
    """A volume, as programs use it. Close it, or use it in a ``with`` statement.

    Collections, versions and aliases are text, distributed ids and paths in trees are bytes. Dictionaries
    have the keys of the ``status`` of the same thing on a mount. Refusals are
    :class:`~artfs.errors.ArtfsError`\\ s with the same text from both implementations, or ``OSError``\\ s.
    """

    @abstractmethod
    def close(self) -> None: ...

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @abstractmethod
    def is_current(self) -> bool:
        """Returns whether the volume is still reached this way: no mount of it appeared or went. Quick."""

    @abstractmethod
    def volume_status(self) -> dict[str, Any]:
        """Returns the volume's ``status``."""

    @abstractmethod
    def algorithm(self) -> Algorithm:
        """Returns the hash algorithm of the volume's digests."""

    @abstractmethod
    def volume(self) -> AbstractContextManager[Volume]:
        """Opens the volume itself, for check and gc, also while a daemon serves it.

        Raises :class:`~artfs.errors.VolumeError` where only the mount can be seen.
        """

    @abstractmethod
    def is_volume(self, status: os.stat_result) -> bool:
        """Returns whether a directory is this volume or its mount, which can't be copied into itself."""
