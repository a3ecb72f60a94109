"""Every way in which artfs says no, as one tree of exceptions.

::

    ArtfsError
    ├── InvalidName            a name that is not legal where it stands (ValueError)
    ├── InvalidCommand         a command, JSON document or option that is not legal (ValueError)
    │   └── NotJoined          a run that is to leave has not joined
    ├── TypeMismatch           a collection has versions of another type (ValueError)
    ├── CannotSeal             a tree with entries that a version can't hold (fifo, socket)
    ├── CommError              wandb's word for what a server would be asked for
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
    ├── UsageError             a call of the SDK that makes no sense where it stands (ValueError)
    │   └── UnsupportedError   a call that wandb knows and artfs does not
    ├── AlreadyExists          (FileExistsError)
    │   ├── AlreadyPending        the distributed id was started and not finished
    │   ├── AlreadyFinishedError  the distributed id has its version
    │   └── PathConflictError     another run brought other bytes under the path (ValueError)
    ├── Busy
    │   ├── OpenForWriting     files of the tree are open for writing
    │   ├── NotIdle            somebody works on what was to be discarded as forgotten
    │   ├── RunsJoined         runs have joined and not left
    │   ├── Sealing            a finish is under way
    │   ├── BeingFilled        another process is bringing files
    │   ├── TreeTouched        the base of a tree that is not untouched
    │   ├── HeldByAlias        an alias other than latest names the version
    │   └── NotEmpty           a collection or pending version that still holds something
    ├── ReadOnly               a change to something sealed, or to a volume mounted read-only
    │   ├── CutShort           a finish had decided, and did not come to its end
    │   └── ArtifactFinalizedError  a change to an artifact that was saved or handed over (AttributeError)
    ├── ArtifactNotLoggedError a question that only a saved artifact can answer (AttributeError)
    ├── NotPermitted           a change that nobody may make here (PermissionError)
    ├── NotStored              files show what a write cache holds and could not be stored
    ├── CrossTree              a rename or link from one tree to another
    ├── Collision              a patch whose base moved and whose changes collide
    ├── Interrupted            the caller of a waiting command was signalled
    ├── LostRace               another process changed what this one had read; read again
    ├── Damaged                a stored object is missing, short or has other bytes than its digest says
    ├── ReferenceFailed        the bytes that a reference stands for can't be used
    │   ├── Unreachable        they can't be had
    │   ├── Changed            they are not the recorded ones
    │   └── RemoteMissing      what fetches them is not installed
    └── MountError             the mount can't be made or taken away

Users see each class as ``artfs.NAME``. In parentheses stands the built-in that a class is as well, so that a
caller who knows nothing of artfs catches it. Three kinds have none on purpose:

- NotFound is no FileNotFoundError. The core answers a FileNotFoundError of a system call in many places, and
  must not take a missing collection for a missing file.
- ReadOnly, Busy and Collision are EROFS, EBUSY and ESTALE, for which Python has no class.
- Interrupted is no InterruptedError, and Unreachable no TimeoutError: callers retry those blindly.

AlreadyExists, NotPermitted and VolumeExists are OSErrors. So wherever a call can raise one of them, ``except
ArtfsError`` stands before ``except OSError``, and ``except FileExistsError`` encloses system calls alone.
The two errors about an artifact's state are AttributeErrors as wandb's are: properties raise them, and
``hasattr`` then tells that a draft has no version.

An exception carries the facts as fields; its text is one plain line that says what happened and, where
there is something to do about it, what. Exit codes belong to ``cli/``, and so do errnos to ``mount/``. What
the backing filesystem refuses stays an ``OSError`` with the errno it gave.
"""

from __future__ import annotations

import contextlib
import copyreg
import errno
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from artfs.printing import end_of
from artfs.printing import printable as printable  # noqa: PLC0414
from artfs.printing import printable_uri as printable_uri  # noqa: PLC0414


class ArtfsError(Exception):
    """The root: whatever artfs refuses on purpose.

    An exception survives pickling and copying with its text, fields and notes, whatever its constructor
    takes: they are its state, and the constructor is not called again.
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
    """Names the whole path in an OSError of the block, instead of its last part."""
    try:
        yield
    except ArtfsError:
        raise
    except OSError as error:
        raise OSError(error.errno, error.strerror, printable(path)) from None


class InvalidName(ArtfsError, ValueError):
    """A name that is not legal for what it shall name."""

    def __init__(self, what: str, name: bytes | str, rule: str) -> None:
        super().__init__(f"'{printable(name)}' can't name {what}: {rule}")
        self.what, self.name, self.rule = what, name, rule


class InvalidCommand(ArtfsError, ValueError):
    """A command or a value that is not legal; the text says which one is."""


class NotJoined(InvalidCommand):
    """A run that is to leave a pending version has not joined it."""

    def __init__(self, run: str) -> None:
        super().__init__(f"the run '{printable(run)}' has not joined")
        self.run = run


class CannotSeal(ArtfsError):
    """A tree holds entries that can't be part of a version; nothing was changed."""

    def __init__(self, entries: Sequence[tuple[bytes, str]]) -> None:
        shown = ", ".join(f"{end_of(path)} ({kind})" for path, kind in entries[:10])
        more = f" and {len(entries) - 10} more" if len(entries) > 10 else ""
        super().__init__(f"a version can't hold these, remove them first: {shown}{more}")
        self.entries = tuple(entries)


class CommError(ArtfsError):
    """wandb's word for what a server says no to: what is asked for is not there, or can't be reached."""


class UsageError(ArtfsError, ValueError):
    """A call of the SDK that makes no sense where it stands; the text says why."""


class UnsupportedError(UsageError):
    """wandb has this and artfs has not; the text says what does the like."""


class NotFound(CommError, LookupError):
    """Something that was asked for by name is not there."""


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
    """A version has no such entry; a KeyError too, as a path is the key of a manifest."""

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
    """The distributed id was finished: its version stands."""

    def __init__(self, collection: str, distributed_id: bytes, version: str) -> None:
        super().__init__(
            f"'{printable(distributed_id)}' of '{collection}' is finished: it is {version}; start another id"
        )
        self.collection, self.distributed_id, self.version = collection, distributed_id, version


class PathConflictError(AlreadyExists, ValueError):
    """What was to come under a path differs from what another run brought there; nothing was changed.

    ``path`` is text, as the SDK has paths. ``run`` is None where it isn't known who brought it.
    """

    def __init__(self, path: bytes, run: str | None) -> None:
        who = f": run '{printable(run)}' brought it" if run else ""
        super().__init__(f"'{printable(path)}' is there with other content{who}; overwrite=True replaces it")
        self.path, self.run = path.decode("utf-8", "surrogateescape"), run


class TypeMismatch(ArtfsError, ValueError):
    """A collection holds versions of one type, which stays."""

    def __init__(self, collection: str, type: str, wanted: str) -> None:  # noqa: A002
        held, use = (f"of the type '{printable(type)}'", "that type") if type else ("without a type", "none")
        super().__init__(
            f"'{printable(collection)}' has versions {held}: '{printable(wanted)}' can't be its type;"
            f" use {use}, or another name"
        )
        self.collection, self.type, self.wanted = collection, type, wanted


class Busy(ArtfsError):
    """Something is in use; trying again later may work."""


@dataclass(frozen=True, slots=True)
class Writer:
    """One process that holds a file of a pending tree open for writing.

    ``path`` is relative to the tree; ``pid`` is a thread group's, 0 where it is not known.
    """

    path: bytes
    pid: int
    command: str


class OpenForWriting(Busy):
    def __init__(self, writers: Sequence[Writer]) -> None:
        shown = ", ".join(f"{printable(w.path)} (pid {w.pid} {printable(w.command)})" for w in writers[:5])
        more = f" and {len(writers) - 5} more" if len(writers) > 5 else ""
        super().__init__(
            f"files are open for writing: {shown}{more}; close them (a finish can also wait, or --force)"
        )
        self.writers = tuple(writers)


class NotStored(ArtfsError):
    """Files show what the kernel's write cache holds and the backing filesystem refused to store."""

    def __init__(self, paths: Sequence[bytes]) -> None:
        shown = ", ".join(map(end_of, paths[:5]))
        more = f" and {len(paths) - 5} more" if len(paths) > 5 else ""
        super().__init__(
            f"what was written to these files could not be stored: {shown}{more};"
            " write it again, or truncate or remove them"
        )
        self.paths = tuple(paths)


class NotIdle(Busy):
    """What was to be discarded as forgotten is not: it changed, or a run has joined it."""

    def __init__(self) -> None:
        super().__init__("somebody works on it: it has changed lately, or a run has joined it")


class RunsJoined(Busy):
    """``killed`` names those whose process is known to be dead, each with its process."""

    def __init__(self, runs: Sequence[str], killed: Sequence[str] = ()) -> None:
        text = f"runs have joined and not left: {', '.join(printable(run) for run in runs)}"
        if killed:
            text += (
                f"; killed: {', '.join(printable(run) for run in killed)}: let it run again, write -RUN to"
                " .artfs/runs if its files are whole, or finish with --force"
            )
        super().__init__(text)
        self.runs, self.killed = tuple(runs), tuple(killed)


class Sealing(Busy):
    def __init__(self) -> None:
        super().__init__("a finish is under way: nothing can be changed until it ends")


class BeingFilled(Busy):
    def __init__(self) -> None:
        super().__init__("another process is putting files into it: wait until it ends")


class TreeTouched(Busy):
    def __init__(self) -> None:
        super().__init__("the tree was changed already: its base can be set only while it is untouched")


class HeldByAlias(Busy):
    def __init__(self, version: str, aliases: Sequence[str]) -> None:
        super().__init__(f"{version} is held by: {', '.join(aliases)}; move or remove the alias first")
        self.version, self.aliases = version, tuple(aliases)


class NotEmpty(Busy):
    """A directory that still holds something: rmdir's ENOTEMPTY."""

    @classmethod
    def collection(cls, name: str, *, pending: bool, versions: int) -> NotEmpty:
        """Tells what a collection holds that is to be removed."""
        if pending:
            return cls(f"'{printable(name)}' has pending versions: finish or discard them first")
        return cls(f"'{printable(name)}' has versions ({versions}): remove them first")


class ReadOnly(ArtfsError):
    """A change to what is sealed for good, or to a volume that is mounted read-only."""

    def __init__(self, what: str = "a sealed version never changes") -> None:
        super().__init__(what)


class CutShort(ReadOnly):
    """The pending version is a version already, but what finished it did not come to its end."""

    def __init__(self) -> None:
        super().__init__("it is a version already, but its finish could not end: finish it again")


class ArtifactFinalizedError(ReadOnly, AttributeError):
    """An artifact of the SDK takes no files any more: it was saved, or handed over to be finished."""

    def __init__(self, artifact: str) -> None:
        super().__init__(f"the artifact '{printable(artifact)}' was saved: its new_draft() can be changed")
        self.artifact = artifact


class ArtifactNotLoggedError(ArtfsError, AttributeError):
    """An artifact of the SDK is no version yet, so that it has none of what comes with being one."""

    def __init__(self, artifact: str, what: str) -> None:
        super().__init__(f"the artifact '{printable(artifact)}' has no {what} before it is logged or saved")
        self.artifact, self.what = artifact, what


class NotPermitted(ArtfsError, PermissionError):
    """A change that is possible for nobody at this place."""

    errno = errno.EPERM


class CrossTree(ArtfsError):
    def __init__(self) -> None:
        super().__init__("a rename or link can't lead from one tree to another: copy instead")


class Collision(ArtfsError):
    """The base of a patch moved, and both sides changed the same paths in different ways.

    ``paths`` has each with what was done here and there.
    """

    def __init__(self, text: str, paths: Sequence[tuple[bytes, str, str]] = ()) -> None:
        super().__init__(text)
        self.paths = tuple(paths)

    @classmethod
    def between(cls, base: str, onto: str, paths: Sequence[tuple[bytes, str, str]]) -> Collision:
        """Tells what collides with `onto`, which `base` names now."""
        shown = "; ".join(
            f"{printable(path) or 'the root'} ({ours} here, {theirs} there)" for path, ours, theirs in paths
        )
        return cls(
            f"'{base}' is {onto} now, and both sides changed: {shown}; make each path what it shall be, then"
            f" write '{base}' to .artfs/base again (artfs rebase), which keeps yours, and finish",
            paths,
        )


class Interrupted(ArtfsError):
    def __init__(self) -> None:
        super().__init__("interrupted by a signal; nothing was changed")


class LostRace(ArtfsError):
    """The file that was to be replaced is no longer as it was read."""


class Damaged(ArtfsError):
    """A stored object can't be what its name says: missing, of a wrong size, of other bytes, unreadable."""

    def __init__(self, what: str, why: str) -> None:
        super().__init__(f"{what} is damaged: {why}; 'artfs check' tells what it touches")
        self.what, self.why = what, why


class ReferenceFailed(ArtfsError):
    """The bytes that a reference stands for can't be used. The text shows no secret of the URI."""

    uri: str


class Unreachable(ReferenceFailed):
    """The bytes at a URI can't be had; ``why`` is one line."""

    def __init__(self, uri: str, why: str) -> None:
        super().__init__(f"{printable_uri(uri)} can't be had: {why}")
        self.uri, self.why = uri, why


class Changed(ReferenceFailed):
    """The bytes at a URI are not the recorded ones: another size, ETag, version or digest."""

    def __init__(self, uri: str, expected: str, found: str) -> None:
        expected, found = printable(expected), printable(found)
        super().__init__(f"{printable_uri(uri)} has changed: {expected} was recorded, {found} is there")
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
    """The mount can't be made or taken away; the text says what to do."""
