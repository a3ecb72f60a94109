"""Which symlinks of a source are followed, and which stay symlinks.

Owns that decision, and that what is copied is what was decided on. Knows neither volumes nor trees. Each
object belongs to one thread.

A source is walked twice, first to check it and then to copy it. The first walk decides on each symlink, and
records the inode that it leads to. The second opens that inode or fails: a symlink that was created or
changed in between is refused.
"""

from __future__ import annotations

import enum
import errno
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field

from artfs.client.file_attributes import user_xattrs
from artfs.errors import Busy, naming
from artfs.linux.walk import DIRECTORY, DirectoryStack, Identity, identity, identity_of
from artfs.printing import printable

READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_SHOWN = 3  # symlinks that a message names


class FollowSymlinks(enum.StrEnum):
    """Which symlinks are followed."""

    NEVER = "never"
    OUTSIDE = "outside"
    """Those that lead out of the source to a file or directory that can be read."""
    ALWAYS = "always"
    """All; one that leads nowhere, or to a directory above it, is an error."""


@dataclass(slots=True)
class LinkDecisions:
    """By path of a symlink the inode that it is followed to; None if it stays a symlink."""

    targets: dict[bytes, Identity | None] = field(default_factory=dict)
    complete: bool = False


@dataclass(frozen=True, slots=True)
class _Base:
    """A directory that is copied as a whole: the source, or what a followed symlink led to.

    A symlink in it to something in it means the same in the version. `above` are the directories that hold
    it.
    """

    depth: int
    path: bytes
    above: frozenset[Identity]


class SourceDirectories(DirectoryStack):
    """The directories of a source, from its root down to the current one."""

    def __init__(
        self,
        root_fd: int,
        follow: FollowSymlinks,
        decisions: LinkDecisions,
        is_volume: Callable[[os.stat_result], bool] = lambda _: False,
    ) -> None:
        """Owns `root_fd` from now on, also after a failure. A symlink to what `is_volume` is not followed."""
        super().__init__(root_fd)
        self._entered = set(self._identities)
        self._follow, self._decisions, self._is_volume = follow, decisions, is_volume
        self._bases = [self._base()] if follow is FollowSymlinks.OUTSIDE else []
        self._target: tuple[bytes, Identity] | None = None
        #: Why the last symlink that :meth:`find` returned stays one though it leads to nothing in the source.
        self.kept: str | None = None
        #: The user xattrs of the directory that was left last.
        self.left_xattrs: list[tuple[bytes, bytes]] = []

    def find(self, name: bytes) -> os.stat_result | None:
        """Returns the status of an entry, for a followed symlink that of its target; None if it is gone.

        Raises :class:`Busy` if it is not what it was when the source was checked.
        """
        self._target = self.kept = None
        status = super().find(name)
        if status is None or not stat.S_ISLNK(status.st_mode) or self._follow is FollowSymlinks.NEVER:
            return status
        path = self.below(name)
        decisions = self._decisions
        if decisions.complete and decisions.targets.get(path, status) is None:
            return status
        target = self._decide(name, path)
        found = None if target is None else identity_of(target)
        if not decisions.complete:
            decisions.targets[path] = found
        elif decisions.targets.get(path) != found:
            raise self._changed(name)
        if found is not None:
            self._target = name, found
        return target or status

    def enter(self, name: bytes) -> None:
        """Goes down into the directory that :meth:`find` returned last, or another that is no symlink.

        Raises OSError (ELOOP) for one that holds the current directory.
        """
        if not self._is_followed(name):
            super().enter(name)
            return
        fd = self._open_target(name, DIRECTORY & ~os.O_NOFOLLOW)
        self._push(fd, name)
        if self._follow is FollowSymlinks.OUTSIDE:
            self._bases.append(self._base())

    def _push(self, fd: int, name: bytes) -> None:
        if self._follow is not FollowSymlinks.NEVER and identity(fd) in self._entered:
            os.close(fd)
            raise OSError(errno.ELOOP, "the symlink leads to a directory that holds it", name)
        super()._push(fd, name)
        self._entered.add(self._identities[-1])

    def leave(self) -> None:
        self.left_xattrs = user_xattrs(self.fd)
        if self._bases and self._bases[-1].depth == len(self._names) > 0:
            self._bases.pop()
        self._entered.discard(self._identities[-1])
        super().leave()

    def open(self, name: bytes) -> int:
        """Opens the file that :meth:`find` returned last, or another that is no symlink, for reading."""
        if self._is_followed(name):
            return self._open_target(name, READ & ~os.O_NOFOLLOW)
        return os.open(name, READ, dir_fd=self.fd)

    # -- inside

    def _is_followed(self, name: bytes) -> bool:
        return self._target is not None and self._target[0] == name

    def _open_target(self, name: bytes, flags: int) -> int:
        assert self._target is not None
        fd = os.open(name, flags, dir_fd=self.fd)
        if identity(fd) != self._target[1]:
            os.close(fd)
            raise self._changed(name)
        return fd

    def _changed(self, name: bytes) -> Busy:
        return Busy(f"'{printable(self.below(name))}' changed while it was being added; try again")

    def _decide(self, name: bytes, path: bytes) -> os.stat_result | None:
        """Returns the status of what a symlink leads to if it is followed."""
        if self._follow is FollowSymlinks.ALWAYS:
            with naming(path):
                return os.stat(name, dir_fd=self.fd)
        try:
            fd = os.open(name, os.O_PATH | os.O_CLOEXEC, dir_fd=self.fd)
        except OSError as error:
            self.kept = "nothing is there" if isinstance(error, FileNotFoundError) else error.strerror
            return None
        try:
            return self._decide_on(name, fd)
        finally:
            os.close(fd)

    def _decide_on(self, name: bytes, fd: int) -> os.stat_result | None:
        """Returns the status of the target `fd` of a symlink that leads out and can be followed."""
        if self._stays_inside(os.readlink(name, dir_fd=self.fd), _real_path(fd)):
            return None
        status = os.fstat(fd)
        wanted = os.R_OK
        if stat.S_ISDIR(status.st_mode):
            wanted |= os.X_OK
            if self._is_volume(status):
                self.kept = "it leads to the volume"
            elif self._holds_current(identity_of(status)):
                self.kept = "it leads to a directory that holds it"
        elif not stat.S_ISREG(status.st_mode):
            self.kept = "it leads to neither a file nor a directory"
        if self.kept is None and not os.access(b"/proc/self/fd/%d" % fd, wanted, effective_ids=True):
            self.kept = "what it leads to can't be read"
        return None if self.kept is not None else status

    def _stays_inside(self, target: bytes, real: bytes) -> bool:
        """Tells whether a symlink leads to something in the same base, wherever that is copied to.

        An absolute symlink, or one by way of a directory above the base, leads to where the source is now.
        """
        base = self._bases[-1]
        depth = len(self._names) - base.depth
        if target.startswith(b"/"):
            return False
        for part in target.split(b"/"):
            depth += {b"": 0, b".": 0, b"..": -1}.get(part, 1)
            if depth < 0:
                return False
        return (real + b"/").startswith(base.path.rstrip(b"/") + b"/")

    def _holds_current(self, directory: Identity) -> bool:
        return directory in self._entered or any(directory in base.above for base in self._bases)

    def _base(self) -> _Base:
        """Returns the current directory as a base."""
        above, here, way = set[Identity](), identity(self.fd), b".."
        while True:
            try:
                found = identity_of(os.stat(way, dir_fd=self.fd))
            except OSError:  # can't be searched: no symlink in it leads further up
                break
            if found == here:
                break
            above.add(found)
            here, way = found, way + b"/.."
        return _Base(len(self._names), _real_path(self.fd), frozenset(above))


def describe_kept(kept: list[tuple[bytes, str]]) -> str:
    """Returns a line that names symlinks that stay so though they lead to nothing in the source."""
    if not kept:
        return ""
    named = ", ".join(f"'{printable(path)}' ({why})" for path, why in kept[:_SHOWN])
    more = f" and {len(kept) - _SHOWN} more" if len(kept) > _SHOWN else ""
    return f"kept as a symlink: {named}{more}"


def _real_path(fd: int) -> bytes:
    return os.readlink(b"/proc/self/fd/%d" % fd)
