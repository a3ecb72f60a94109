"""The finished ids of one collection: one small file each, with the name of the version that the id became.

Owns ``ids/``. An id whose version was deleted counts as not finished. Blocking; any thread may call it, and
several processes work on the same directory.
"""

from __future__ import annotations

import os

from artfs.catalog import small_files
from artfs.catalog.collection_directory import CollectionDirectory
from artfs.catalog.versions import Versions
from artfs.errors import AlreadyFinishedError, Damaged, LostRace
from artfs.model.names import check_distributed_id, parse_version, version_name
from artfs.store import durable


class FinishedIds:
    def __init__(self, directory: CollectionDirectory, versions: Versions) -> None:
        self._directory, self._versions = directory, versions

    def version(self, distributed_id: bytes) -> int | None:
        """Returns the number of the version of an id; None if it was not finished, or the version deleted."""
        check_distributed_id(distributed_id)
        with self._directory.opened(b"ids") as fd:
            what = self._what(distributed_id)
            number = _parse(small_files.read(fd, distributed_id, what), what)
        return number if number is not None and self._versions.exists(number) else None

    def record(self, distributed_id: bytes, number: int) -> None:
        """Records durably that an id was finished as a version. The same version again changes nothing.

        Raises AlreadyFinishedError if the id has another version, and VersionNotFound if the version was
        deleted meanwhile: then nothing is recorded, and the caller keeps the pending tree.
        """
        check_distributed_id(distributed_id)
        what = self._what(distributed_id)

        def change(raw: bytes | None) -> bytes | None:
            before = _parse(raw, what)
            if before == number:
                return raw
            if before is not None and self._versions.exists(before):
                raise AlreadyFinishedError(self._directory.name, distributed_id, version_name(before))
            return f"{version_name(number)}\n".encode()

        with self._directory.opened(b"ids") as fd:
            small_files.update(fd, distributed_id, what, change, label="finished-id")
        # A deletion drops ids after its tombstone: it has seen this one, or this sees the tombstone.
        self._versions.record(number)

    def drop(self, number: int) -> None:
        """Removes the ids of a deleted version."""
        with self._directory.opened(b"ids") as fd:
            for distributed_id in map(os.fsencode, os.listdir(fd)):
                if small_files.is_internal(distributed_id):
                    continue
                what = self._what(distributed_id)
                try:
                    raw = small_files.read(fd, distributed_id, what)
                    if _parse(raw, what) == number:
                        durable.replace_if_unchanged(fd, distributed_id, raw, None, label="finished-id")
                except Damaged:
                    continue  # `check_file` reports it
                except LostRace:
                    continue  # finished again

    def check_file(self, fd: int, name: bytes) -> None:
        """Raises Damaged, InvalidName."""
        what = self._what(check_distributed_id(name))
        number = _parse(small_files.read(fd, name, what), what)
        if number is not None and number >= self._versions.next_number():
            raise Damaged(what, f"there never was a {version_name(number)}")

    def _what(self, distributed_id: bytes) -> str:
        return self._directory.what(b"ids", distributed_id)


def _parse(raw: bytes | None, what: str) -> int | None:
    if raw is None:
        return None
    number = parse_version(raw.removesuffix(b"\n").decode("ascii", "replace"))
    if number is None or not raw.endswith(b"\n"):
        raise Damaged(what, "it names no version")
    return number
