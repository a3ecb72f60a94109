"""The numbered records of one collection: each is committed once, never changed, and at last a tombstone.

Owns ``versions/``. Must not know aliases, labels and ids. Blocking; any thread may call it, and several
processes work on the same directory.

Numbers have no gaps, since a commit needs its predecessor and a tombstone keeps the number. So the highest
one is found by a look for the next file, without listing thousands. Decoded records are cached, and valid
only while the file under the name is the same one. Metadata and description of long records are not cached:
decoded metadata may take fifty times the bytes of its file.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, suppress

from artfs.catalog import records, small_files
from artfs.catalog.collection_directory import CollectionDirectory
from artfs.catalog.records import Labels, Tombstone, VersionRecord
from artfs.errors import Damaged, VersionNotFound
from artfs.model.names import parse_version, version_name
from artfs.store import durable
from artfs.store.documents import timestamp

SUFFIX = ".json"

_SHORT = 1 << 14  # bytes of a record's file up to which all of it is cached

MOST_MISSING = 1000
"""The most missing records below the highest number for which that number is plausible."""


class Versions:
    """Its records lack metadata and description if these are long: see :meth:`initial_labels`."""

    def __init__(self, directory: CollectionDirectory) -> None:
        self._directory = directory
        self._highest = -1
        self._decoded: dict[int, tuple[small_files.Identity, VersionRecord | None]] = {}

    def next_number(self) -> int:
        with self._opened() as fd:
            return self._find_highest(fd) + 1

    def numbers(self) -> list[int]:
        """Returns the numbers of all versions that are not deleted. Damaged records count as versions."""
        with self._opened() as fd:
            return [n for n in range(self._find_highest(fd) + 1) if not self._deleted(fd, n)]

    def all(self) -> list[VersionRecord]:
        """Returns the records, oldest first. Raises Damaged if one is damaged or missing.

        So a caller that relies on all versions, such as gc, never misses one.
        """
        with self._opened() as fd:
            found = (self._load(fd, n) for n in range(self._find_highest(fd) + 1))
            return [record for record in found if record is not None]

    def newest(self) -> VersionRecord | None:
        with self._opened() as fd:
            for n in range(self._find_highest(fd), -1, -1):
                if record := self._load(fd, n):
                    return record
        return None

    def record(self, number: int) -> VersionRecord:
        """Raises VersionNotFound if the version does not exist or was deleted."""
        with self._opened() as fd:
            if small_files.identity(fd, _file(number)) is None and number > self._find_highest(fd):
                raise self._not_found(number)
            record = self._load(fd, number)
        if record is None:
            raise self._not_found(number)
        return record

    def initial_labels(self, number: int) -> Labels:
        """Returns the labels that a version was committed with. Raises VersionNotFound, Damaged."""
        with self._opened() as fd:
            decoded = self._read(fd, number)[1]
        if isinstance(decoded, Tombstone):
            raise self._not_found(number)
        return records.initial_labels(decoded)

    def exists(self, number: int) -> bool:
        try:
            self.record(number)
        except VersionNotFound:
            return False
        return True

    def commit(self, record: VersionRecord) -> bool:
        """Creates the version, in one atomic step. False if its number is taken, or not the next one."""
        data = records.encode(record)
        number = record.number
        with self._opened() as fd:
            if number > 0 and small_files.identity(fd, _file(number - 1)) is None:
                return False
            return durable.create(fd, _file(number), data, label="commit")

    def delete(self, number: int) -> None:
        """Replaces a record, even a damaged one, by a tombstone. Raises VersionNotFound.

        The caller excludes that aliases to it are set.
        """
        tombstone = records.encode(Tombstone(version=version_name(number), deleted_at=timestamp()))
        with self._opened() as fd:
            raw = self._read_undeleted(fd, number)
            durable.replace_if_unchanged(fd, _file(number), raw, tombstone, label="tombstone")

    def problems(self) -> Iterator[Damaged]:
        """Yields the damage of records, and files that don't belong there."""
        with self._opened() as fd:
            numbers: Iterable[int] = ()
            try:
                numbers = range(self._find_highest(fd) + 1)
            except Damaged as error:
                yield error
                numbers = sorted(_numbers(fd))
            for number in numbers:
                try:
                    self._load(fd, number)
                except Damaged as error:
                    yield error
            for name in sorted(os.fsencode(entry) for entry in os.listdir(fd)):
                if _number(name) is None and not small_files.is_internal(name):
                    yield Damaged(self._what(name), "no such file belongs there")

    # --- inside ---

    def _opened(self) -> AbstractContextManager[int]:
        return self._directory.opened(b"versions")

    def _find_highest(self, fd: int) -> int:
        """Returns the highest number that was ever used; -1 if none was.

        Raises Damaged for an implausible one, since loops over all lower numbers would not end.
        """
        highest = self._highest
        # The file is missing: the collection was removed and made again.
        if highest < 0 or small_files.identity(fd, _file(highest)) is None:
            numbers = _numbers(fd)
            highest = max(numbers, default=-1)
            missing = highest + 1 - len(numbers)
            if missing > MOST_MISSING:
                why = f"{missing} versions before it are missing, and a version is never made without them"
                raise Damaged(self._what(_file(highest)), why)
        while small_files.identity(fd, _file(highest + 1)) is not None:
            highest += 1
        self._highest = highest
        return highest

    def _load(self, fd: int, number: int) -> VersionRecord | None:
        """Returns the record; None for a tombstone. Raises Damaged, also if the file is missing."""
        name = _file(number)
        kept = self._decoded.get(number)
        if kept is not None and kept[0] == small_files.identity(fd, name):
            return kept[1]
        identity, decoded = self._read(fd, number)
        record = decoded if isinstance(decoded, VersionRecord) else None
        if record is not None and identity[-1] > _SHORT:
            record = records.lightened(record)
        self._decoded[number] = identity, record
        return record

    def _read(self, fd: int, number: int) -> tuple[small_files.Identity, VersionRecord | Tombstone]:
        name = _file(number)
        found = small_files.read_with_identity(fd, name, self._what(name))
        if found is None:
            raise self._directory.missing(b"versions", name)
        return found[0], records.decode_version(found[1], number, self._what(name))

    def _deleted(self, fd: int, number: int) -> bool:
        try:
            return self._load(fd, number) is None
        except Damaged:
            return False

    def _read_undeleted(self, fd: int, number: int) -> bytes | None:
        """Returns the bytes of a record; None if it is missing. Raises VersionNotFound if never used."""
        name = _file(number)
        raw = small_files.read(fd, name, self._what(name))
        if raw is None and number > self._find_highest(fd):
            raise self._not_found(number)
        if raw is not None:
            with suppress(Damaged):
                if isinstance(records.decode_version(raw, number, self._what(name)), Tombstone):
                    raise self._not_found(number)
        return raw

    def _not_found(self, number: int) -> VersionNotFound:
        return VersionNotFound(self._directory.name, version_name(number))

    def _what(self, name: bytes) -> str:
        return self._directory.what(b"versions", name)


def _file(number: int) -> bytes:
    return f"{version_name(number)}{SUFFIX}".encode()


def _numbers(fd: int) -> set[int]:
    found = (_number(os.fsencode(name)) for name in os.listdir(fd))
    return {number for number in found if number is not None}


def _number(name: bytes) -> int | None:
    text = name.decode("ascii", "replace")
    return parse_version(text.removesuffix(SUFFIX)) if text.endswith(SUFFIX) else None
