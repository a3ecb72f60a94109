"""The collections of a volume, and the counter of serial numbers.

Owns ``collections/`` and ``serial``. Must not know what is in a collection beyond whether it is empty.
Blocking; any thread may call it, and several processes work on the same volume.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import threading
from collections.abc import Iterator
from contextlib import suppress

from artfs.catalog import files, records, reserve
from artfs.catalog.collection import Collection
from artfs.errors import (
    AlreadyExists,
    CollectionNotFound,
    Damaged,
    InvalidName,
    LostRace,
    NotEmpty,
    printable,
)
from artfs.model.names import check_collection
from artfs.store import durable

_INSIDE = (b"versions", b"notes", b"aliases", b"ids")
_PENDING = b"pending"


class Catalog:
    def __init__(self, root_fd: int) -> None:
        """``root_fd`` is the volume's directory; it must stay open while this is used. See ``close``."""
        self._root_fd = root_fd
        self._fd = files.open_directory(root_fd, b"collections", "collections")
        self._kept: dict[str, Collection] = {}
        self._counting = threading.Lock()

    def close(self) -> None:
        """Closes the one descriptor that it holds. Collections got from it can't be used any more."""
        os.close(self._fd)

    def names(self) -> list[str]:
        """Returns the names of all collections, sorted. What is no collection is passed over."""
        # As durable.names does, and asks nothing of each one besides.
        with durable.directory(self._fd, b".") as fd, os.scandir(fd) as entries:
            return sorted(e.name for e in entries if _legal(e.name) and e.is_dir(follow_symlinks=False))

    def collection(self, name: str) -> Collection:
        """Raises CollectionNotFound, also for a name that none can have; Damaged."""
        if not _legal(name):
            raise CollectionNotFound(name)
        try:
            status = os.stat(name, dir_fd=self._fd, follow_symlinks=False)
        except FileNotFoundError:
            self._kept.pop(name, None)
            raise CollectionNotFound(name) from None
        if not stat.S_ISDIR(status.st_mode):
            raise Damaged(files.shown(b"collections", name.encode()), "it is not a directory")
        return self._kept.get(name) or self._kept.setdefault(name, Collection(self._fd, name))

    def collections(self) -> list[Collection]:
        """Returns all collections, sorted by name."""
        found = []
        for name in self.names():
            with suppress(CollectionNotFound):  # Removed since.
                found.append(self.collection(name))
        return found

    def hidden(self) -> list[Collection]:
        """Returns the collections that are on their way to removal; those that hold something come back."""
        names = map(os.fsencode, durable.names(self._fd))
        return [Collection(self._fd, os.fsdecode(name)) for name in names if _hidden_name(name) is not None]

    def strangers(self) -> Iterator[Damaged]:
        """Yields what stands beside the collections and is none; it may be one that was moved or renamed."""
        for name in sorted(map(os.fsencode, durable.names(self._fd))):
            what = files.shown(b"collections", name)
            with suppress(FileNotFoundError):
                is_directory = stat.S_ISDIR(os.stat(name, dir_fd=self._fd, follow_symlinks=False).st_mode)
                if files.is_internal(name):
                    continue
                if not _legal(os.fsdecode(name)):
                    yield Damaged(what, "no collection has such a name")
                elif not is_directory:
                    yield Damaged(what, "it is not a directory")

    def problems(self) -> Iterator[Damaged]:
        """Yields what is wrong with the volume's own small files, and between collections."""
        yield from self.strangers()
        serials: dict[int, str] = {}
        for collection in self.collections():
            with suppress(Damaged):  # the collection tells
                for record in collection.versions():
                    name = f"{collection.name}:{record.version}"
                    if record.serial in serials:
                        why = f"it has the serial number of {serials[record.serial]}, {record.serial}"
                        yield Damaged(name, why)
                    serials[record.serial] = name
        try:
            last = _serial(files.read(self._root_fd, b"serial", "serial"))
        except Damaged as error:
            yield error
        else:
            if serials and max(serials) > last:
                yield Damaged("serial", f"{serials[max(serials)]} has a greater one: it would be used again")

    def create(
        self,
        name: str,
        mode: int = 0o755,
        uid: int | None = None,
        gid: int | None = None,
        *,
        collection_type: str = "",
    ) -> Collection:
        """Makes a collection, durably and whole or not at all. Owner and group are the process's by default.

        Raises InvalidName, AlreadyExists, InvalidCommand for the type.
        """
        check_collection(name)
        records.check_type(collection_type)
        if files.identity(self._fd, name.encode()) is not None:
            raise AlreadyExists(f"there is a collection '{name}' already")
        temp = durable.temp_name()
        os.mkdir(temp, 0o700, dir_fd=self._fd)
        try:
            self._fill(temp, mode, uid, gid, collection_type)
            durable.move(self._fd, temp, self._fd, name.encode(), label="collection")
        except FileExistsError:
            self._purge(temp)
            raise AlreadyExists(f"there is a collection '{name}' already") from None
        except Exception:
            self._purge(temp)
            raise
        return self.collection(name)

    def keep_reserve(self) -> None:
        """Sees to the room that deleting a version takes on a full disk."""
        reserve.keep(self._fd)

    def remove(self, name: str) -> None:
        """Removes a collection that has no version and nothing pending; else NotEmpty.

        Its numbers begin at v0 again if it is made anew; serial numbers are never used again. For the
        instant in which it is looked through for the last time, others don't find it.
        """
        self._refuse_unless_empty(self.collection(name), name)
        # The name is kept in the temp's, so that `sweep` can give back what a crash left hidden.
        temp = durable.temp_name() + b"." + name.encode()
        try:
            durable.move(self._fd, name.encode(), self._fd, temp, label="collection-removal")
        except FileNotFoundError:
            raise CollectionNotFound(name) from None
        except OSError:
            # Not known to be durable: whoever is told so finds it as it was. Hidden under the name of a
            # living process nobody would sweep it, nor find what another one started in it just now.
            with suppress(OSError):
                durable.rename_noreplace(self._fd, temp, self._fd, name.encode())
            raise
        self._kept.pop(name, None)
        self._finish_removal(temp, name)

    def sweep(self) -> None:
        """Ends or undoes what processes that died left half made or half removed."""
        for entry in map(os.fsencode, durable.names(self._fd)):
            with suppress(FileNotFoundError):
                status = os.stat(entry, dir_fd=self._fd, follow_symlinks=False)
                if not stat.S_ISDIR(status.st_mode) or not durable.is_stale_temp(entry, status.st_ctime):
                    continue
                if (name := _hidden_name(entry)) is not None:
                    with suppress(NotEmpty, Damaged):
                        self._finish_removal(entry, name)
                else:
                    self._purge(entry)

    def next_serial(self) -> int:
        """Returns a number that no call ever returned before, in any process. Begins at 1; may leave gaps."""
        with self._counting:
            while True:
                raw = files.read(self._root_fd, b"serial", "serial")
                serial = _serial(raw) + 1
                if serial >= 1 << records.SERIAL_BITS:
                    raise Damaged("serial", "there is no greater number: no more versions can be made")
                try:
                    data = b"%d\n" % serial
                    durable.replace_if_unchanged(self._root_fd, b"serial", raw, data, label="serial")
                    return serial
                except LostRace:
                    continue

    # --- inside ---

    def _fill(self, temp: bytes, mode: int, uid: int | None, gid: int | None, collection_type: str) -> None:
        with durable.directory(self._fd, temp) as fd:
            for sub in _INSIDE:
                os.mkdir(sub, 0o700, dir_fd=fd)
            if collection_type:
                durable.create(fd, b"type", f"{collection_type}\n".encode(), label="collection-type")
            uid, gid = -1 if uid is None else uid, -1 if gid is None else gid
            _make_pending(fd, mode, uid, gid)
            _show(fd, mode, uid, gid)

    def _finish_removal(self, temp: bytes, name: str) -> None:
        """Deletes a collection that was moved aside, or gives it its name back and raises NotEmpty.

        Once `pending` is removed nothing can be started, and so nothing committed; what was committed until
        then is looked for after it. A second call goes on where the first one was cut short.
        """
        hidden = Collection(self._fd, os.fsdecode(temp))
        with hidden.opened() as fd:
            status = os.fstat(fd)
            mode = stat.S_IMODE(status.st_mode)
            try:
                if files.identity(fd, _PENDING) is not None:
                    self._refuse_unless_empty(hidden, name)
                    os.fchmod(fd, mode | stat.S_IWUSR)
                    _remove_pending(fd, name)
                if files.identity(fd, b"versions") is not None:
                    _refuse_versions(hidden, name)
            except Exception:
                if files.identity(fd, _PENDING) is None:
                    _make_pending(fd, mode, status.st_uid, status.st_gid)
                os.fchmod(fd, mode)
                with suppress(FileExistsError):
                    durable.move(self._fd, temp, self._fd, name.encode(), label="collection-removal")
                raise
        self._purge(temp)

    def _refuse_unless_empty(self, collection: Collection, name: str) -> None:
        _refuse_versions(collection, name)
        with collection.opened(_PENDING) as fd:
            if any(not files.is_internal(os.fsencode(entry)) for entry in os.listdir(fd)):
                raise _pending_left(name)

    def _purge(self, temp: bytes) -> None:
        # A mode without w or x would keep an ordinary user from emptying it.
        with suppress(OSError):
            os.chmod(temp, 0o700, dir_fd=self._fd)
        shutil.rmtree(temp, ignore_errors=True, dir_fd=self._fd)


def _show(fd: int, mode: int, uid: int, gid: int) -> None:
    """Gives a directory what the mount shows of it, durably."""
    if (uid, gid) != (-1, -1):
        os.fchown(fd, uid, gid)  # Before the mode: chown(2) clears bits of it.
    os.fchmod(fd, mode)
    durable.sync_dir(fd, label="collection")


def _make_pending(fd: int, mode: int, uid: int, gid: int) -> None:
    os.mkdir(_PENDING, 0o700, dir_fd=fd)
    with durable.directory(fd, _PENDING) as pending_fd:
        _show(pending_fd, mode, uid, gid)


def _remove_pending(fd: int, name: str) -> None:
    with durable.directory(fd, _PENDING) as pending_fd:
        _remove_stale(pending_fd)
    try:
        os.rmdir(_PENDING, dir_fd=fd)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            raise _pending_left(name) from None
        raise


def _refuse_versions(collection: Collection, name: str) -> None:
    if numbers := collection.numbers():
        raise NotEmpty(f"'{name}' has versions ({len(numbers)}): remove them first")


def _pending_left(name: str) -> NotEmpty:
    return NotEmpty(f"'{name}' has pending versions: finish or discard them first")


def _remove_stale(dir_fd: int) -> None:
    """Removes temps, also directories, of processes that died, and nothing else."""
    for entry in map(os.fsencode, os.listdir(dir_fd)):
        with suppress(FileNotFoundError):
            status = os.stat(entry, dir_fd=dir_fd, follow_symlinks=False)
            if not durable.is_stale_temp(entry, status.st_ctime) and entry != durable.LOCK_FILE:
                continue
            if stat.S_ISDIR(status.st_mode):
                shutil.rmtree(entry, ignore_errors=True, dir_fd=dir_fd)
            else:
                os.unlink(entry, dir_fd=dir_fd)


def _hidden_name(entry: bytes) -> str | None:
    """Returns the name of a collection that was moved aside; None for anything else."""
    if not entry.startswith(durable.TEMP_PREFIX):
        return None
    name = os.fsdecode(entry[len(durable.TEMP_PREFIX) :]).split(".", 2)[2:]
    return name[0] if name and _legal(name[0]) else None


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
