"""One pending version on disk: its tree, its labels, the runs that joined, the mark of a seal.

Owns the files of ``collections/NAME/pending/ID/``::

    tree/           the users' files, as they are
    draft.json      nonce, who started it and when; never changes
    settings.json   aliases, tags, description
    metadata.json   the user's JSON object
    runs/NAME       one file a run: when it joined, by which processes, when it left
    owners.json     the processes that it was made for, if it is private to them
    sealing         the mark of a seal between its first link and its end
    references      there may be references in the tree
    conflicts.json  the paths that both sides of a patch changed, as they were last shown

Must not know versions or FUSE. Blocking; any thread and several processes may call it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Annotated, TypeVar

import msgspec

from artfs.errors import BeingFilled, Damaged, DraftNotFoundError, InvalidName, Sealing
from artfs.model.names import is_private, parse_version
from artfs.pending.joined_runs import RUNS, JoinedRuns
from artfs.printing import printable
from artfs.store import documents, durable
from artfs.store.documents import nanoseconds, timestamp
from artfs.store.owners import Owner

PENDING = b"pending"  # the directory of pending versions in a collection
TREE = b"tree"
_DRAFT, _OWNERS, _SETTINGS, _METADATA, _MARK, _CONFLICTS, _REFERENCES = (
    b"draft.json",
    b"owners.json",
    b"settings.json",
    b"metadata.json",
    b"sealing",
    b"conflicts.json",
    b"references",
)

_EXCHANGING = 5.0  # seconds that two renames may take
_POLL = 0.01  # seconds between two looks

S = TypeVar("S", bound=msgspec.Struct)


class CreationRecord(msgspec.Struct, frozen=True):
    """What is fixed from the start of a pending version."""

    nonce: str
    created_at: str
    created_by: str

    @property
    def created_ns(self) -> int:
        return nanoseconds(self.created_at)


class PendingLabels(msgspec.Struct, frozen=True):
    """The labels that the version gets when it is sealed.

    ``link`` is the version of another collection that it is a link to, if its content is the same then.
    """

    aliases: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    description: str = ""
    link: str | None = None


class Owners(msgspec.Struct, frozen=True):
    """The processes for which a program made a private pending version, under a random id.

    ``collection`` is the type of the collection if that was made for it, too, and None otherwise.
    """

    processes: tuple[Owner, ...] = ()
    collection: str | None = None


class _Conflicts(msgspec.Struct, frozen=True):
    """The conflicts of the last finish or rebase: path as hex, and what identifies the other side's entry."""

    shown: list[tuple[str, str]]


class Mark(msgspec.Struct, frozen=True):
    """The mark of a seal: what is needed to finish or undo it after a crash.

    ``seal`` is the nonce in the version's record, ``lowest`` the lowest number that it can have.
    With ``version`` the tree was found equal to that version, and the mark itself is the decision.
    """

    seal: str
    aliases: tuple[str, ...] = ()
    version: str | None = None
    lowest: Annotated[int, msgspec.Meta(ge=0)] = 0


def start(
    pending_fd: int,
    name: bytes,
    *,
    mode: int,
    uid: int,
    gid: int,
    created_by: str,
    labels: PendingLabels,
    naming: Callable[[], AbstractContextManager[None]],
    owners: Owners | None = None,
) -> None:
    """Makes a pending version atomically. Raises FileExistsError if the name is taken.

    It gets its name within the context `naming`, which may refuse.
    """
    staging = durable.temp_name()
    os.mkdir(staging, 0o700, dir_fd=pending_fd)
    try:
        with durable.directory(pending_fd, staging) as fd:
            birth = CreationRecord(nonce=secrets.token_hex(16), created_at=timestamp(), created_by=created_by)
            durable.create(fd, _DRAFT, msgspec.json.encode(birth) + b"\n", label="start:draft")
            durable.create(fd, _SETTINGS, msgspec.json.encode(labels) + b"\n", label="start:settings")
            if owners is not None:
                durable.create(fd, _OWNERS, msgspec.json.encode(owners) + b"\n", label="start:owners")
            os.mkdir(RUNS, 0o700, dir_fd=fd)
            os.mkdir(TREE, 0o700, dir_fd=fd)
            os.chown(TREE, uid, gid, dir_fd=fd, follow_symlinks=False)
            with durable.directory(fd, TREE) as tree:
                os.fchmod(tree, mode)
            durable.sync_dir(fd, label="start")
        with naming():
            durable.move(pending_fd, staging, pending_fd, name, label="start")
    except BaseException:
        _remove_staging(pending_fd, staging)
        raise


def _remove_staging(pending_fd: int, staging: bytes) -> None:
    with contextlib.suppress(OSError), durable.directory(pending_fd, staging) as fd:
        for name in (_DRAFT, _SETTINGS, _OWNERS):
            with contextlib.suppress(OSError):
                os.unlink(name, dir_fd=fd)
        for name in (RUNS, TREE):
            with contextlib.suppress(OSError):
                os.rmdir(name, dir_fd=fd)
    with contextlib.suppress(OSError):
        os.rmdir(staging, dir_fd=pending_fd)


class PendingVersion:
    """The files of one pending version. Holds a descriptor of its directory until :meth:`close`."""

    def __init__(self, pending_fd: int, collection: str, name: bytes) -> None:
        self.collection, self.name = collection, name
        try:
            self.fd = durable.open_directory(pending_fd, name)
        except FileNotFoundError:
            raise DraftNotFoundError(collection, name) from None
        except OSError as error:
            raise documents.directory_error(error, self.what()) from None
        try:
            birth = self._load(_DRAFT, CreationRecord)
            if birth is None:
                if self.has_name_in(pending_fd):  # else it was sealed or discarded meanwhile
                    raise Damaged(self.what(_DRAFT), "it is missing")
                raise DraftNotFoundError(collection, name)
            try:
                birth.created_ns  # noqa: B018
            except (ValueError, OverflowError):
                raise Damaged(self.what(_DRAFT), "it was made at no time") from None
        except BaseException:
            self.close()
            raise
        self.birth: CreationRecord = birth

    @property
    def runs(self) -> JoinedRuns:
        return JoinedRuns(self)  # not kept: a cycle would delay __del__

    def what(self, *names: bytes) -> str:
        """Names the pending version, or a file of it, in an error."""
        path = b"/".join((b"collections", self.collection.encode(), b"pending", self.name, *names))
        return printable(path)

    def close(self) -> None:
        """Closes the descriptor; the second call does nothing."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        # Nodes and control files may use a tree that has ended, and none of them knows which is the last.
        if getattr(self, "fd", -1) >= 0:
            self.close()

    def open_tree(self) -> int:
        """Opens the root of the users' tree; the caller closes it.

        Where directories can't be exchanged atomically, this waits while another process sets a base. Raises
        :class:`Sealing` if that takes long, and FileNotFoundError if the tree is missing.
        """
        deadline = time.monotonic() + _EXCHANGING
        while True:
            try:
                return self._open_tree()
            except FileNotFoundError:
                # Within an exchange, or after an interrupted one, which the holder of the lock completes.
                try:
                    with self.together():
                        return self._open_tree()
                except Sealing:
                    if time.monotonic() > deadline:
                        raise
            time.sleep(_POLL)

    def _open_tree(self) -> int:
        try:
            return durable.open_directory(self.fd, TREE)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise documents.directory_error(error, self.what(TREE)) from None

    # -- labels and metadata

    def labels(self) -> PendingLabels:
        return self._load(_SETTINGS, PendingLabels) or PendingLabels()

    def change(self, **changes: object) -> PendingLabels:
        """Changes some of the labels durably; concurrent changes of others are kept."""
        with durable.directory_lock(self.fd):
            labels = msgspec.structs.replace(self.labels(), **changes)
            self._store(labels)
            return labels

    def _store(self, labels: PendingLabels) -> None:
        durable.replace(self.fd, _SETTINGS, msgspec.json.encode(labels) + b"\n", label="settings")

    def metadata(self) -> bytes:
        """Returns the bytes of the user's JSON object, ``{}`` if there is none. They are not checked."""
        found = documents.read(self.fd, _METADATA, self.what(_METADATA))
        return b"{}\n" if found is None else found

    def set_metadata(self, document: bytes) -> None:
        durable.replace(self.fd, _METADATA, document.rstrip(b"\n") + b"\n", label="metadata")

    def annotate(self, change: Callable[[PendingLabels, bytes], tuple[PendingLabels, bytes]]) -> None:
        """Replaces labels and metadata by what `change` makes of them, under a lock."""
        with durable.directory_lock(self.fd):
            labels, metadata = self.labels(), self.metadata()
            new_settings, new_metadata = change(labels, metadata)
            if new_metadata != metadata:
                self.set_metadata(new_metadata)
            if new_settings != labels:
                self._store(new_settings)
            else:
                durable.confirm(self.fd, label="settings")

    # -- owners

    def owners(self) -> Owners | None:
        """Returns the processes that it was made for; None if it has no owners."""
        return self._load(_OWNERS, Owners)

    def own(self, process: Owner, collection: str | None = None) -> None:
        """Adds a process to the owners. Raises InvalidName for an id that a user gave.

        Owners that are known to be dead are dropped, so that forks don't make the list grow for ever.
        `collection` is the type of the collection, if that was made for it.
        """
        if not is_private(self.name):
            raise InvalidName(
                "an id of one process",
                self.name,
                "only random ids of programs have owners; they begin with 'sdk-'",
            )
        with durable.directory_lock(self.fd):
            before = self.owners() or Owners()
            others = tuple(
                known for known in before.processes if not known.same(process) and known.alive() is not False
            )
            made = before.collection if collection is None else collection
            after = Owners((*others, process), made)
            durable.replace(self.fd, _OWNERS, msgspec.json.encode(after) + b"\n", label="owners")

    def abandoned(self) -> bool:
        """Tells whether all owners are known to be dead.

        False for an id that a user gave, and if the file of the owners is damaged.
        """
        try:
            owners = self.owners() if is_private(self.name) else None
        except Damaged:
            return False
        if owners is None or not owners.processes:
            return False
        return all(process.alive() is False for process in owners.processes)

    # -- the mark of a seal

    def mark(self) -> Mark | None:
        mark = self._load(_MARK, Mark)
        if mark is not None and mark.version is not None and parse_version(mark.version) is None:
            raise Damaged(self.what(_MARK), f"'{printable(mark.version)}' is not a version")
        return mark

    def set_mark(self, mark: Mark) -> None:
        durable.replace(self.fd, _MARK, msgspec.json.encode(mark) + b"\n", label="seal:mark")

    def clear_mark(self) -> None:
        """Removes the mark of a seal that was not decided and never will be."""
        with contextlib.suppress(FileNotFoundError):
            durable.remove(self.fd, _MARK, label="mark")

    # -- references

    def has_references(self) -> bool:
        """Tells whether the tree may hold references."""
        try:
            os.stat(_REFERENCES, dir_fd=self.fd)
        except FileNotFoundError:
            return False
        return True

    def expect_references(self) -> None:
        """Records that the tree may have references. Call it before the first one is made."""
        durable.create(self.fd, _REFERENCES, b"", label="references")

    # -- conflicts with a moved base

    def conflicts(self) -> set[tuple[bytes, str]]:
        """Returns the path of each conflict that was shown, and what identifies the other side's entry."""
        found = self._load(_CONFLICTS, _Conflicts)
        try:
            return set() if found is None else {(bytes.fromhex(path), entry) for path, entry in found.shown}
        except ValueError as error:
            raise Damaged(self.what(_CONFLICTS), str(error)) from None

    def note_conflicts(self, shown: Iterable[tuple[bytes, str]]) -> None:
        found = _Conflicts(sorted((path.hex(), entry) for path, entry in shown))
        durable.replace(self.fd, _CONFLICTS, msgspec.json.encode(found) + b"\n", label="conflicts")

    def forget_conflicts(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            durable.remove(self.fd, _CONFLICTS, label="conflicts")

    # -- locks against other processes

    @contextlib.contextmanager
    def exclusively(self) -> Iterator[None]:
        """Excludes that other processes seal, discard or fill this pending version.

        Raises :class:`Sealing` or :class:`BeingFilled` if one does.
        """
        with self._locked(fcntl.LOCK_EX):
            yield

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Excludes that others seal or discard this pending version; several may fill it at once.

        Raises :class:`Sealing`. The pending version may have ended before the lock was taken: see
        :meth:`has_name_in`.
        """
        with self._locked(fcntl.LOCK_SH):
            yield

    @contextlib.contextmanager
    def _locked(self, how: int) -> Iterator[None]:
        try:
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            fd = os.open(_DRAFT, flags, dir_fd=self.fd)
        except FileNotFoundError:  # another process ended it and deletes its files
            raise DraftNotFoundError(self.collection, self.name) from None
        except OSError as error:
            raise documents.file_error(error, self.what(_DRAFT)) from None
        try:
            try:
                fcntl.flock(fd, how | fcntl.LOCK_NB)
            except BlockingIOError:
                if how == fcntl.LOCK_EX:
                    # Only a sealer excludes shared holders, too.
                    with contextlib.suppress(BlockingIOError):
                        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
                        raise BeingFilled from None
                raise Sealing from None
            holder = os.getpid()
            try:
                # Under the exclusive lock, so that no process is exchanging.
                durable.end_exchange(self.fd, TREE)
                yield
            finally:
                durable.unlock(fd, holder)
        finally:
            os.close(fd)

    def has_name_in(self, pending_fd: int) -> bool:
        """Tells whether the pending version still has its name in the directory of pending versions."""
        try:
            found = os.stat(self.name, dir_fd=pending_fd, follow_symlinks=False)
        except FileNotFoundError:
            return False
        own = os.fstat(self.fd)
        return (found.st_dev, found.st_ino) == (own.st_dev, own.st_ino)

    def problems(self) -> Iterator[Damaged]:
        """Yields damage of the files beside the tree. The content of metadata.json is not checked."""
        looks = (
            self.labels,
            self.metadata,
            self.runs.all,
            self.owners,
            self.mark,
            self.conflicts,
            self.open_tree,
        )
        for look in looks:
            try:
                found = look()
            except (FileNotFoundError, DraftNotFoundError):  # unless it was sealed or discarded meanwhile
                yield Damaged(self.what(TREE if look == self.open_tree else RUNS), "it is missing")
            except Damaged as error:
                yield error
            else:
                if isinstance(found, int):
                    os.close(found)

    def _load(self, name: bytes, kind: type[S]) -> S | None:
        return documents.load(self.fd, name, kind, self.what(name))
