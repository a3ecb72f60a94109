"""The exceptions that artfs raises, as one tree.

::

    ArtfsError
    ├── InvalidName            an illegal name (ValueError)
    ├── InvalidCommand         an illegal command, JSON document or option (ValueError)
    │   └── NotJoined          a run leaves that has not joined
    ├── TypeMismatch           a collection has versions of another type (ValueError)
    ├── CannotSeal             a tree with entries that a version can't hold (fifo, socket)
    ├── CommError              wandb's name for the failure of a request
    │   ├── NotFound           (LookupError)
    │   │   ├── CollectionNotFound
    │   │   ├── VersionNotFound
    │   │   ├── DraftNotFoundError
    │   │   ├── AliasNotFound
    │   │   ├── RunNotFound
    │   │   └── PathNotFound   (KeyError)
    │   └── VolumeError
    │       ├── NotAVolume
    │       ├── VolumeExists   (FileExistsError)
    │       ├── VolumeTooNew
    │       ├── VolumeInUse
    │       └── UnsupportedFilesystem  the filesystem lacks what a volume needs
    ├── UsageError             a call of the SDK that makes no sense at this point (ValueError)
    │   └── UnsupportedError   a call that wandb has and artfs has not
    ├── AlreadyExists          (FileExistsError)
    │   ├── AlreadyPending        the distributed id is pending
    │   ├── AlreadyFinishedError  the distributed id has its version
    │   └── PathConflictError     another run added other bytes under the path (ValueError)
    ├── Busy
    │   ├── OpenForWriting     files of the tree are open for writing
    │   ├── NotIdle            a pending version that was to be discarded as idle is in use
    │   ├── RunsJoined         runs have joined and not left
    │   ├── Sealing            a finish is under way
    │   ├── BeingFilled        another process is adding files
    │   ├── TreeTouched        the base of a tree that was changed already
    │   ├── HeldByAlias        an alias other than latest names the version
    │   └── NotEmpty           a collection or pending version that is not empty
    ├── ReadOnly               a change to a version, or to a volume mounted read-only
    │   ├── CutShort           a finish had decided and did not complete
    │   └── ArtifactFinalizedError  a change to an artifact that was saved or handed over (AttributeError)
    ├── ArtifactNotLoggedError an attribute that only a saved artifact has (AttributeError)
    ├── NotPermitted           a change that no user may make here (PermissionError)
    ├── NotStored              files whose cached writes could not be stored
    ├── CrossTree              a rename or link from one tree to another
    ├── Collision              a patch whose changes collide with those of a moved base
    ├── Interrupted            the caller of a waiting command was signalled
    ├── LostRace               another process changed what this one had read
    ├── Damaged                a stored object is missing, or does not match its digest
    ├── ReferenceFailed        the bytes of a reference can't be used
    │   ├── Unreachable        they can't be fetched
    │   ├── Changed            they are not the recorded ones
    │   └── RemoteMissing      what fetches them is not installed
    └── MountError             a mount can't be made or removed

Users see each class as ``artfs.NAME``. The built-in in parentheses is a base of the class, so that a caller
who knows nothing of artfs can catch it. Three kinds have none on purpose:

- NotFound is not a FileNotFoundError. The core handles the FileNotFoundError of a system call in many places,
  and must not mistake a missing collection for a missing file.
- ReadOnly, Busy and Collision are EROFS, EBUSY and ESTALE, for which Python has no class.
- Interrupted is not an InterruptedError, and Unreachable not a TimeoutError: callers retry those blindly.

AlreadyExists, NotPermitted and VolumeExists are OSErrors. Where a call can raise one of them, ``except
ArtfsError`` comes before ``except OSError``, and ``except FileExistsError`` encloses system calls alone.
The two errors about an artifact's state are AttributeErrors as in wandb: properties raise them, so
``hasattr`` tells that a draft has no version.

An exception has the facts as fields. Its text is one line that says what happened and what to do about it.
Exit codes belong to ``cli/``, errnos to ``fuse/``. An error of the backing filesystem stays an ``OSError``.
"""

from __future__ import annotations

import contextlib
import copyreg
import errno
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from artfs.printing import printable, printable_end, printable_uri


class ArtfsError(Exception):
    """The root of the tree.

    An exception keeps its text, fields and notes when it is pickled or copied: they are its state, and the
    constructor is not called again.
    """

    __module__ = "artfs"

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if cls.__module__ == __name__:
            cls.__module__ = "artfs"  # where users find it, so that tracebacks and pickles name that

    def __reduce__(self) -> tuple[Any, ...]:
        # BaseException's own would call the constructor with the text alone. Notes are among the attributes.
        return copyreg.__newobj__, (type(self),), {**vars(self), "args": self.args}  # type: ignore[attr-defined]


Error = ArtfsError
"""wandb's name for the root."""


@contextlib.contextmanager
def naming(path: bytes) -> Iterator[None]:
    """Puts the whole path into an OSError that the block raises, instead of its last part."""
    try:
        yield
    except ArtfsError:
        raise
    except OSError as error:
        raise OSError(error.errno, error.strerror, printable(path)) from None


class InvalidName(ArtfsError, ValueError):
    """A name that is illegal for what it is to name."""

    def __init__(self, what: str, name: bytes | str, rule: str) -> None:
        super().__init__(f"'{printable(name)}' can't name {what}: {rule}")
        self.what, self.name, self.rule = what, name, rule


class InvalidCommand(ArtfsError, ValueError):
    """An illegal command or value; the text says what is legal."""


class NotJoined(InvalidCommand):
    """A run leaves a pending version that it has not joined."""

    def __init__(self, run: str) -> None:
        super().__init__(f"the run '{printable(run)}' has not joined")
        self.run = run


class CannotSeal(ArtfsError):
    """A tree has entries that a version can't hold; nothing was changed."""

    def __init__(self, entries: Sequence[tuple[bytes, str]]) -> None:
        shown = ", ".join(f"{printable_end(path)} ({kind})" for path, kind in entries[:10])
        more = f" and {len(entries) - 10} more" if len(entries) > 10 else ""
        super().__init__(f"a version can't hold these, remove them first: {shown}{more}")
        self.entries = tuple(entries)


class CommError(ArtfsError):
    """wandb's name for the failure of a request: its object does not exist or can't be reached."""


class UsageError(ArtfsError, ValueError):
    """A call of the SDK that makes no sense at this point; the text says why."""


class UnsupportedError(UsageError):
    """wandb has this and artfs has not; the text names the alternative."""


class NotFound(CommError, LookupError):
    """No object has this name."""


class CollectionNotFound(NotFound):
    def __init__(self, name: str) -> None:
        super().__init__(f"there is no collection '{printable(name)}'")
        self.name = name


class VersionNotFound(NotFound):
    def __init__(self, collection: str, version: str) -> None:
        super().__init__(f"'{printable(collection)}' has no version or alias '{printable(version)}'")
        self.collection, self.version = collection, version


class DraftNotFoundError(NotFound):
    def __init__(self, collection: str, distributed_id: bytes) -> None:
        super().__init__(f"'{printable(collection)}' has no pending version '{printable(distributed_id)}'")
        self.collection, self.distributed_id = collection, distributed_id


class AliasNotFound(NotFound):
    def __init__(self, collection: str, alias: str) -> None:
        super().__init__(f"'{printable(collection)}' has no alias '{printable(alias)}'")
        self.collection, self.alias = collection, alias


class RunNotFound(NotFound):
    def __init__(self, run: str) -> None:
        super().__init__(f"there is no run '{printable(run)}'")
        self.run = run


class PathNotFound(NotFound, KeyError):
    """A version has no such entry. It is a KeyError, as paths are the keys of a manifest."""

    __str__ = Exception.__str__  # KeyError's would quote the text

    def __init__(self, where: str, path: bytes) -> None:
        super().__init__(f"{where} has no '{printable(path)}'")
        self.where, self.path = where, path


class AlreadyExists(ArtfsError, FileExistsError):
    """The name is taken."""

    errno = errno.EEXIST


class AlreadyPending(AlreadyExists):
    def __init__(self, collection: str, distributed_id: bytes) -> None:
        super().__init__(f"'{printable(distributed_id)}' of '{collection}' is pending already")
        self.collection, self.distributed_id = collection, distributed_id


class AlreadyFinishedError(AlreadyExists):
    """The distributed id was finished and has its version."""

    def __init__(self, collection: str, distributed_id: bytes, version: str) -> None:
        super().__init__(
            f"'{printable(distributed_id)}' of '{collection}' is finished: it is {version}; start another id"
        )
        self.collection, self.distributed_id, self.version = collection, distributed_id, version


class PathConflictError(AlreadyExists, ValueError):
    """A file or link differs from what another run added under its path; nothing was changed.

    ``path`` is text, as in the SDK. ``run`` is None if it is not known which run added it.
    """

    def __init__(self, path: bytes, run: str | None) -> None:
        who = f": run '{printable(run)}' added it" if run else ""
        super().__init__(f"'{printable(path)}' exists with other content{who}; overwrite=True replaces it")
        self.path, self.run = path.decode("utf-8", "surrogateescape"), run


class TypeMismatch(ArtfsError, ValueError):
    """A collection has versions of another type. All versions of a collection are of one type."""

    def __init__(self, collection: str, type: str, wanted: str) -> None:  # noqa: A002
        held, use = (f"of the type '{printable(type)}'", "that type") if type else ("without a type", "none")
        super().__init__(
            f"'{printable(collection)}' has versions {held}: its type can't be '{printable(wanted)}';"
            f" use {use}, or another collection"
        )
        self.collection, self.type, self.wanted = collection, type, wanted


class Busy(ArtfsError):
    """Something is in use; the same call may succeed later."""


@dataclass(frozen=True, slots=True)
class Writer:
    """A process that has a file of a pending tree open for writing.

    ``path`` is relative to the tree; ``pid`` is that of the thread group, 0 if it is not known.
    """

    path: bytes
    pid: int
    command: str


class OpenForWriting(Busy):
    def __init__(self, writers: Sequence[Writer]) -> None:
        shown = ", ".join(f"{printable(w.path)} (pid {w.pid} {printable(w.command)})" for w in writers[:5])
        more = f" and {len(writers) - 5} more" if len(writers) > 5 else ""
        super().__init__(
            f"files are open for writing: {shown}{more}; close them, or finish with --wait=SECONDS or --force"
        )
        self.writers = tuple(writers)


class NotStored(ArtfsError):
    """The backing filesystem refused to store what the kernel's write cache holds for files."""

    def __init__(self, paths: Sequence[bytes]) -> None:
        shown = ", ".join(map(printable_end, paths[:5]))
        more = f" and {len(paths) - 5} more" if len(paths) > 5 else ""
        super().__init__(
            f"what was written to these files could not be stored: {shown}{more};"
            " write it again, or truncate or remove them"
        )
        self.paths = tuple(paths)


class NotIdle(Busy):
    """A pending version is not idle, so it is not discarded: it changed lately, or a run has joined it."""

    def __init__(self) -> None:
        super().__init__("it is in use: it changed lately, or a run has joined it")


class RunsJoined(Busy):
    """``killed`` are the runs whose process is known to be dead, each with that process."""

    def __init__(self, runs: Sequence[str], killed: Sequence[str] = ()) -> None:
        text = f"runs have joined and not left: {', '.join(printable(run) for run in runs)}"
        if killed:
            text += (
                f"; killed: {', '.join(printable(run) for run in killed)}: run it again, write -RUN to"
                " .artfs/runs if its files are complete, or finish with --force"
            )
        super().__init__(text)
        self.runs, self.killed = tuple(runs), tuple(killed)


class Sealing(Busy):
    def __init__(self) -> None:
        super().__init__("a finish is under way: nothing can be changed until it ends")


class BeingFilled(Busy):
    def __init__(self) -> None:
        super().__init__("another process is adding files to it: wait until that ends")


class TreeTouched(Busy):
    def __init__(self) -> None:
        super().__init__("the tree was changed already: set its base before you change anything")


class HeldByAlias(Busy):
    def __init__(self, version: str, aliases: Sequence[str]) -> None:
        super().__init__(f"{version} is held by: {', '.join(aliases)}; move or remove the alias first")
        self.version, self.aliases = version, tuple(aliases)


class NotEmpty(Busy):
    """A directory that is not empty: rmdir's ENOTEMPTY."""

    @classmethod
    def collection(cls, name: str, *, pending: bool, versions: int) -> NotEmpty:
        """Says what a collection that is to be removed still has."""
        if pending:
            return cls(f"'{printable(name)}' has pending versions: finish or discard them first")
        return cls(f"'{printable(name)}' has versions ({versions}): remove them first")


class ReadOnly(ArtfsError):
    """A change to a version, or to a volume that is mounted read-only."""

    def __init__(self, what: str = "a sealed version never changes") -> None:
        super().__init__(what)


class CutShort(ReadOnly):
    """The pending version is a version already, but its finish did not complete."""

    def __init__(self) -> None:
        super().__init__("it is a version already, but its finish did not complete: finish it again")


class ArtifactFinalizedError(ReadOnly, AttributeError):
    """An artifact of the SDK was saved or handed over, so that its files can't be changed any more."""

    def __init__(self, artifact: str) -> None:
        super().__init__(f"the artifact '{printable(artifact)}' was saved: change its new_draft() instead")
        self.artifact = artifact


class ArtifactNotLoggedError(ArtfsError, AttributeError):
    """An artifact of the SDK is not a version yet, and lacks what only a version has."""

    def __init__(self, artifact: str, what: str) -> None:
        super().__init__(f"the artifact '{printable(artifact)}' has no {what} before it is logged or saved")
        self.artifact, self.what = artifact, what


class NotPermitted(ArtfsError, PermissionError):
    """A change that no user can make here."""

    errno = errno.EPERM


class CrossTree(ArtfsError):
    def __init__(self) -> None:
        super().__init__("a rename or link can't cross from one tree to another: copy instead")


class Collision(ArtfsError):
    """The base of a patch moved, and both sides changed the same paths in different ways.

    ``paths`` has each path with what either side did: (path, ours, theirs).
    """

    def __init__(self, text: str, paths: Sequence[tuple[bytes, str, str]] = ()) -> None:
        super().__init__(text)
        self.paths = tuple(paths)

    @classmethod
    def between(cls, base: str, onto: str, paths: Sequence[tuple[bytes, str, str]]) -> Collision:
        """Says what collides with `onto`, the version that `base` names now."""
        shown = "; ".join(
            f"{printable(path) or 'the root'} ({ours} here, {theirs} there)" for path, ours, theirs in paths
        )
        return cls(
            f"'{base}' is {onto} now, and both sides changed: {shown}; make each path what you want, then"
            f" write '{base}' to .artfs/base again (artfs rebase), which keeps your changes, and finish",
            paths,
        )


class Interrupted(ArtfsError):
    def __init__(self) -> None:
        super().__init__("interrupted by a signal; nothing was changed")


class LostRace(ArtfsError):
    """A file that was to be replaced has changed since it was read."""


class Damaged(ArtfsError):
    """A stored object is missing, unreadable, or differs from what its name says."""

    def __init__(self, what: str, why: str) -> None:
        super().__init__(f"{what} is damaged: {why}; 'artfs check' shows what is affected")
        self.what, self.why = what, why


class ReferenceFailed(ArtfsError):
    """The bytes of a reference can't be used. The text hides the secrets of the URI."""

    uri: str


class Unreachable(ReferenceFailed):
    """The bytes at a URI can't be fetched; ``why`` is one line."""

    def __init__(self, uri: str, why: str) -> None:
        super().__init__(f"{printable_uri(uri)} can't be fetched: {why}")
        self.uri, self.why = uri, why


class Changed(ReferenceFailed):
    """The bytes at a URI are not the recorded ones: another size, ETag, version or digest."""

    def __init__(self, uri: str, expected: str, found: str) -> None:
        expected, found = printable(expected), printable(found)
        super().__init__(f"{printable_uri(uri)} has changed: recorded: {expected}; found: {found}")
        self.uri, self.expected, self.found = uri, expected, found


class RemoteMissing(ReferenceFailed):
    def __init__(self, uri: str) -> None:
        super().__init__(f"{printable_uri(uri)} needs more libraries: pip install 'artfs[remote]'")
        self.uri = uri


class VolumeError(CommError):
    """A volume can't be opened or made."""


class NotAVolume(VolumeError):
    def __init__(self, path: str, why: str = "it has no artfs.json; 'artfs init' makes a volume") -> None:
        super().__init__(f"{path} is not an artfs volume: {why}")
        self.path = path


class VolumeExists(VolumeError, FileExistsError):
    errno = errno.EEXIST

    def __init__(self, path: str, why: str) -> None:
        super().__init__(f"can't make a volume at {path}: {why}")
        self.path = path


class VolumeTooNew(VolumeError):
    def __init__(self, path: str, found: int, known: int) -> None:
        super().__init__(
            f"{path} has volume format {found}, this artfs knows up to {known}: use a newer artfs"
        )
        self.path, self.found, self.known = path, found, known


class VolumeInUse(VolumeError):
    def __init__(self, path: str, owner: str) -> None:
        super().__init__(f"{path} is in use by {owner}")
        self.path, self.owner = path, owner


class UnsupportedFilesystem(VolumeError):
    """The filesystem lacks what a volume requires; ``missing`` has one requirement an item."""

    def __init__(self, path: str, filesystem: str, missing: Sequence[str], *, exists: bool) -> None:
        refused = "cannot be used there" if exists else "cannot hold a volume"
        kind = f"its filesystem ({printable(filesystem)})" if filesystem else "its filesystem"
        more = f" and {len(missing) - 3} more ('artfs doctor' lists them all)" if len(missing) > 3 else ""
        way_out = "move the volume to" if exists else "choose a directory on"
        super().__init__(
            f"{printable(path)} {refused}: {kind} lacks {', '.join(missing[:3])}{more};"
            f" {way_out} a local filesystem such as ext4, xfs or btrfs"
        )
        self.path, self.filesystem, self.missing, self.exists = path, filesystem, tuple(missing), exists


class MountError(ArtfsError):
    """A mount can't be made or removed; the text says what to do."""
