"""The collections of a volume, and the counter of serial numbers.

Owns ``collections/`` and ``serial``. Must not know the content of a collection, but whether it is empty.
Blocking; any thread may call it, and several processes work on the same volume.
"""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TypeVar

from artfs.catalog import records, small_files
from artfs.catalog.collection import Collection
from artfs.errors import AlreadyExists, CollectionNotFound, Damaged, InvalidName, NotEmpty
from artfs.model.names import check_collection
from artfs.printing import printable
from artfs.store import durable, reserve, tree_removal

_INSIDE = (b"versions", b"notes", b"aliases", b"ids")
_PENDING = b"pending"
T = TypeVar("T")


class Catalog:
    def __init__(self, root_fd: int) -> None:
        """``root_fd`` is the volume's directory; it must stay open while this is used."""
        self._root_fd = root_fd
        self._fd = small_files.open_directory(root_fd, b"collections", "collections")
        self._collections: dict[str, Collection] = {}
        self._counting = threading.Lock()

    def close(self) -> None:
        """Closes its descriptor. Its collections can't be used any more."""
        os.close(self._fd)

    def names(self) -> list[str]:
        """Returns the names of all collections, sorted. Anything else in the directory is left out."""
        # Lists as durable.names does, without a stat of each entry.
        with durable.directory(self._fd, b".") as fd, os.scandir(fd) as entries:
            return sorted(e.name for e in entries if _legal(e.name) and e.is_dir(follow_symlinks=False))

    def collection(self, name: str) -> Collection:
        """Raises CollectionNotFound, also for an illegal name, and Damaged."""
        if not _legal(name):
            raise CollectionNotFound(name)
        try:
            status = os.stat(name, dir_fd=self._fd, follow_symlinks=False)
        except FileNotFoundError:
            self._collections.pop(name, None)
            raise CollectionNotFound(name) from None
        if not stat.S_ISDIR(status.st_mode):
            raise Damaged(small_files.shown(b"collections", name.encode()), "it is not a directory")
        return self._collections.get(name) or self._collections.setdefault(name, Collection(self._fd, name))

    def collections(self) -> list[Collection]:
        """Returns all collections, sorted by name."""
        return self.each(lambda collection: collection)

    def each(self, value_of: Callable[[Collection], T]) -> list[T]:
        """Returns the result for each collection, sorted by name, without those removed meanwhile."""
        found = []
        for name in self.names():
            with suppress(CollectionNotFound):
                found.append(value_of(self.collection(name)))
        return found

    def unexpected_entries(self) -> Iterator[Damaged]:
        """Yields entries of the directory that are no collections, such as one that was moved or renamed."""
        for name in sorted(map(os.fsencode, durable.names(self._fd))):
            what = small_files.shown(b"collections", name)
            with suppress(FileNotFoundError):
                is_directory = stat.S_ISDIR(os.stat(name, dir_fd=self._fd, follow_symlinks=False).st_mode)
                if small_files.is_internal(name):
                    continue
                if not _legal(os.fsdecode(name)):
                    yield Damaged(what, "no collection has such a name")
                elif not is_directory:
                    yield Damaged(what, "it is not a directory")

    def problems(self) -> Iterator[Damaged]:
        """Yields what is wrong with the volume's own small files, and between collections."""
        yield from self.unexpected_entries()
        serials: dict[int, str] = {}
        for collection in self.collections():
            # The collection itself reports its damage; or it was removed meanwhile.
            with suppress(Damaged, CollectionNotFound):
                for record in collection.versions():
                    name = f"{collection.name}:{record.version}"
                    if record.serial in serials:
                        why = f"it has the serial number of {serials[record.serial]}, {record.serial}"
                        yield Damaged(name, why)
                    serials[record.serial] = name
        try:
            last = _serial(small_files.read(self._root_fd, b"serial", "serial"))
        except Damaged as error:
            yield error
        else:
            if serials and max(serials) > last:
                yield Damaged(
                    "serial", f"{serials[max(serials)]} has a greater one: it would be assigned again"
                )

    def create(
        self,
        name: str,
        mode: int = 0o755,
        uid: int | None = None,
        gid: int | None = None,
        *,
        collection_type: str = "",
    ) -> Collection:
        """Makes a collection durably and atomically. Owner and group are the process's by default.

        Raises InvalidName, AlreadyExists, InvalidCommand for the type.
        """
        check_collection(name)
        records.check_type(collection_type)
        if small_files.identity(self._fd, name.encode()) is not None:
            raise AlreadyExists(f"the collection '{name}' exists already")
        temp = durable.temp_name()
        os.mkdir(temp, 0o700, dir_fd=self._fd)
        try:
            self._fill(temp, mode, uid, gid, collection_type)
            durable.move(self._fd, temp, self._fd, name.encode(), label="collection")
        except FileExistsError:
            self._purge(temp)
            raise AlreadyExists(f"the collection '{name}' exists already") from None
        except Exception:
            self._purge(temp)
            raise
        return self.collection(name)

    def keep_reserve(self) -> None:
        """Reserves the space that deleting a version takes on a full disk."""
        reserve.ensure(self._fd)

    def remove(self, name: str) -> None:
        """Removes a collection without versions and pending versions. Raises NotEmpty for any other.

        A new collection of the name begins at v0 again; serial numbers are never used again. Nothing can be
        added between the check and the removal, and nothing is hidden before the check has passed.
        """
        self._remove(name, _refuse_unless_empty)

    def remove_unused(self, name: str, collection_type: str) -> None:
        """Removes a collection that has nothing but the type it was made with. Raises NotEmpty for any other.

        The scope does not count: a program that makes a collection for a draft sets it automatically.
        """

        def refuse_unless_unused(collection: Collection) -> None:
            _refuse_unless_empty(collection)
            labels = collection.type, collection.description, collection.ttl, collection.tags
            if labels != (collection_type, "", None, []):
                raise NotEmpty(f"'{name}' was given a description, tags, a ttl or another type")

        self._remove(name, refuse_unless_unused)

    def _remove(self, name: str, refuse: Callable[[Collection], None]) -> None:
        collection = self.collection(name)
        temp = durable.temp_name()
        refuse(collection)  # also before the lock: a seal may hold it for long
        with collection.committing():
            refuse(collection)
            try:
                durable.move(self._fd, name.encode(), self._fd, temp, label="collection-removal")
            except OSError:
                # The removal is not known to be durable, so the collection is restored before the error is
                # raised.
                with suppress(OSError):
                    durable.rename_noreplace(self._fd, temp, self._fd, name.encode())
                raise
        self._collections.pop(name, None)
        self._purge(temp)

    def sweep(self) -> None:
        """Deletes what dead processes left half made or half removed, but nothing that has a version."""
        tree_removal.sweep_temps(self._fd, keep=self._holds_versions)

    def _holds_versions(self, temp: bytes) -> bool:
        """Tells whether a temp has versions: earlier versions of artfs removed collections in another way."""
        with (
            suppress(FileNotFoundError, NotADirectoryError),
            durable.directory(self._fd, temp + b"/versions") as fd,
        ):
            return bool(os.listdir(fd))
        return False

    def next_serial(self) -> int:
        """Returns a number that no call in any process ever returned. They begin at 1 and may have gaps."""
        serial = 0

        def count(raw: bytes | None) -> bytes:
            nonlocal serial
            serial = _serial(raw) + 1
            if serial >= 1 << records.SERIAL_BITS:
                raise Damaged("serial", "there is no greater number: no more versions can be made")
            return b"%d\n" % serial

        with self._counting:
            small_files.update(self._root_fd, b"serial", "serial", count, label="serial")
        return serial

    # --- inside ---

    def _fill(self, temp: bytes, mode: int, uid: int | None, gid: int | None, collection_type: str) -> None:
        with durable.directory(self._fd, temp) as fd:
            for sub in _INSIDE:
                os.mkdir(sub, 0o700, dir_fd=fd)
            if collection_type:
                durable.create(fd, b"type", f"{collection_type}\n".encode(), label="collection-type")
            uid, gid = -1 if uid is None else uid, -1 if gid is None else gid
            os.mkdir(_PENDING, 0o700, dir_fd=fd)
            with durable.directory(fd, _PENDING) as pending_fd:
                _show(pending_fd, mode, uid, gid)
            _show(fd, mode, uid, gid)

    def _purge(self, temp: bytes) -> None:
        with suppress(OSError):
            tree_removal.remove_tree(self._fd, temp)


def _show(fd: int, mode: int, uid: int, gid: int) -> None:
    """Sets the owner and mode that the mount shows of a directory, durably."""
    if (uid, gid) != (-1, -1):
        os.fchown(fd, uid, gid)  # Before the mode: chown(2) clears some of its bits.
    os.fchmod(fd, mode)
    durable.sync_dir(fd, label="collection")


def _refuse_unless_empty(collection: Collection) -> None:
    # Pending versions first: one that is sealed meanwhile is then found as a version.
    with collection.opened(_PENDING) as fd:
        # A temp was not reported to any caller yet: its maker finds that the collection is gone.
        if any(not small_files.is_internal(os.fsencode(entry)) for entry in os.listdir(fd)):
            raise NotEmpty.collection(collection.name, pending=True, versions=0)
    if numbers := collection.numbers():
        raise NotEmpty.collection(collection.name, pending=False, versions=len(numbers))


def _serial(raw: bytes | None) -> int:
    text = b"0" if raw is None else raw.removesuffix(b"\n")
    if not text.isdigit() or len(text) > 18:
        raise Damaged("serial", f"it holds no number: '{printable(text[:40])}'")
    return int(text)


def _legal(name: str) -> bool:
    try:
        check_collection(name)
    except InvalidName:
        return False
    return True
