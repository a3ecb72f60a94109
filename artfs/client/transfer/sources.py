"""What shall be brought into a tree: files and directories of the user's, looked through and then copied.

Owns what of a source becomes part of a tree, and under which path. Knows neither volumes nor on what terms
files come. Blocking; any thread.

Sources are looked through before anything is changed, so that what can't be part of a version refuses the
whole.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from artfs.client.transfer.directory_copy import DirectoryCopy
from artfs.client.transfer.symlink_policy import READ, FollowSymlinks, LinkDecisions, SourceDirectories
from artfs.client.transfer.tree_paths import Excludes
from artfs.client.transfer.tree_writer import TreeWriter
from artfs.client.writable_tree import TreeCursor
from artfs.errors import CannotSeal, InvalidCommand, naming, printable
from artfs.linux.walk import walk
from artfs.model import names
from artfs.seal.ingest import SPECIAL

_ROOT = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


@dataclass(slots=True)
class Sources:
    """The content of directories, and files under their own names.

    With `at`, a path in the tree, a file comes to that path and the content of a directory below it; where
    that comes to gets the attributes of the directory itself, the last one's if there are several. `follow`
    tells which symlinks in directories are taken for what they lead to, and `kept` then has those that stay
    links though they lead to nothing in the source, with the reason.
    """

    paths: Sequence[bytes]
    excludes: Excludes = field(default_factory=lambda: Excludes(()))
    at: Sequence[bytes] | None = None
    follow: FollowSymlinks = FollowSymlinks.OUTSIDE
    files: int = 0
    size: int = 0
    kept: list[tuple[bytes, str]] = field(default_factory=list)
    _decisions: dict[bytes, LinkDecisions] = field(default_factory=dict)

    def look_through(self, holds: Callable[[os.stat_result], bool]) -> None:
        """Counts, and refuses what can't be brought; `holds` tells a directory that is the volume itself.

        Raises :class:`InvalidCommand`, :class:`~artfs.errors.InvalidName`, :class:`CannotSeal`, OSError.
        """
        self.files = self.size = 0
        self.kept.clear()
        self._decisions.clear()
        special: list[tuple[bytes, str]] = []
        taken: dict[bytes, bytes] = {}
        for source in self.paths:
            status = os.stat(source)
            if stat.S_ISDIR(status.st_mode):
                decisions = LinkDecisions()
                with SourceDirectories(os.open(source, _ROOT), self.follow, decisions, holds) as directories:
                    if holds(status):
                        raise InvalidCommand(f"'{printable(source)}' is the volume itself")
                    for found in walk(directories, self.wanted):
                        if found.leaving:
                            continue
                        if found.is_directory and holds(found.status):
                            raise InvalidCommand(
                                f"'{printable(source)}' holds the volume itself, at"
                                f" '{printable(found.path)}': exclude it"
                            )
                        self._look_at(source, found.path, found.status, special, taken)
                        if directories.kept is not None:
                            self.kept.append((found.path, directories.kept))
                decisions.complete = True
                self._decisions[source] = decisions
            elif not self.excludes.match(_base(source), directory=False):
                name = _base(source) if self.at is None else self.at[-1]
                self._look_at(source, name, status, special, taken)
        if special:
            raise CannotSeal(sorted(special))

    def _look_at(
        self,
        source: bytes,
        path: bytes,
        status: os.stat_result,
        special: list[tuple[bytes, str]],
        taken: dict[bytes, bytes],
    ) -> None:
        names.check_entry_name(path.rpartition(b"/")[2])
        kind = stat.S_IFMT(status.st_mode)
        if kind in SPECIAL:
            special.append((path, SPECIAL[kind]))
        if kind == stat.S_IFREG:
            self.files += 1
            self.size += status.st_size
        if len(self.paths) > 1:
            other = taken.setdefault(path, b"" if kind == stat.S_IFDIR else source)
            if other is not source and (other or kind != stat.S_IFDIR):
                raise InvalidCommand(f"'{printable(path)}' is there twice: '{printable(source)}' has it too")

    def copy(self, writer: TreeWriter) -> None:
        """Copies everything into the copier's tree."""
        for source in self.paths:
            if os.path.isdir(source):
                with DirectoryCopy(writer) as copy:
                    self._copy_directory(source, writer, copy)
                    copy.finish()
            elif not self.excludes.match(_base(source), directory=False):
                with writer.tree.cursor() as at, naming(source):
                    self._copy_file(source, writer, at)

    def _copy_file(self, source: bytes, writer: TreeWriter, at: TreeCursor) -> None:
        """Copies a file that was named itself: a symlink means what it points to."""
        *way, name = [_base(source)] if self.at is None else self.at
        for part in way:
            writer.enter(at, part, mode=0o777)
        fd = os.open(source, READ & ~os.O_NOFOLLOW)
        try:
            writer.file(at, name, fd)
        finally:
            os.close(fd)

    def _copy_directory(self, source: bytes, writer: TreeWriter, copy: DirectoryCopy) -> None:
        at = copy.at
        for part in self.at or ():
            writer.enter(at, part, mode=0o777)
        decisions = self._decisions.get(source, LinkDecisions())
        with SourceDirectories(os.open(source, _ROOT), self.follow, decisions) as directories:
            copy.start_top(os.fstat(directories.fd))
            for found in walk(directories, self.wanted):
                kind = stat.S_IFMT(found.status.st_mode)
                names.check_entry_name(found.name)
                if found.leaving:
                    copy.leave(found, directories.left_xattrs)
                elif kind == stat.S_IFDIR:
                    if writer.tree.is_root(found.status):
                        raise InvalidCommand(f"'{printable(found.path)}' is the pending version itself")
                    with naming(found.path):
                        copy.enter(found.name)
                elif kind == stat.S_IFLNK:
                    with naming(found.path):
                        target = os.readlink(found.name, dir_fd=directories.fd)
                        writer.symlink(at, found.name, target, found.status.st_mtime_ns)
                else:
                    copy.file(directories, found)
            copy.leave_top(directories.fd)

    def wanted(self, path: bytes, status: os.stat_result) -> bool:
        return not self.excludes or not self.excludes.match(path, directory=stat.S_ISDIR(status.st_mode))


def _base(source: bytes) -> bytes:
    return os.path.basename(os.path.abspath(source))
