"""Which volume a program uses, and the open client of it.

Owns the choice: `$ARTFS_VOLUME`, else the mount around the working directory, else `./.artfs-volume`, which
is made if it does not exist. A client is kept open; when the volume is mounted later, or unmounted, another
one is opened. Any thread; a forked process opens its own.
"""

from __future__ import annotations

import contextlib
import os
import threading
from dataclasses import dataclass
from pathlib import Path

from artfs.client.interface import Client
from artfs.client.open import DEFAULT, find_volume, open_client
from artfs.errors import VolumeExists
from artfs.store.layout import Layout

_lock = threading.Lock()
_kept: dict[tuple[int, Path], Client] = {}  # by process and path
_old: list[tuple[int, Client]] = []  # which other threads may still use


@dataclass(frozen=True)
class Connection:
    """One volume, by the path under which it was found."""

    path: Path

    def client(self) -> Client:
        """Returns an open client. Raises :class:`~artfs.errors.VolumeError`."""
        key = os.getpid(), self.path
        with _lock:
            kept = _kept.get(key)
            if kept is None or not kept.is_current():
                if kept is not None:
                    _old.append((key[0], kept))
                kept = _kept[key] = open_client(self.path)
            return kept


def connect() -> Connection:
    """Returns the volume to use now, which need not be reachable yet."""
    return Connection((find_volume() or _make_default()).absolute())


def forget() -> None:
    """Closes what is kept open, so that a mount can be unmounted; the next use opens it again."""
    with _lock:
        opened = [*_old, *((pid, client) for (pid, _), client in _kept.items())]
        _old.clear()
        _kept.clear()
        for pid, client in opened:
            if pid == os.getpid():
                client.close()


def _make_default() -> Path:
    with contextlib.suppress(VolumeExists):  # by another process, just now
        Layout.init(DEFAULT).close()
    return Path(DEFAULT)
