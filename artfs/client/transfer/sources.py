"""What is to be written into a tree: the user's files and directories, first checked and then copied.

Owns what of a source becomes part of a tree, and under which path. Knows neither volumes nor write policies.
Blocking; any thread.

Sources are checked before anything is changed, so that what can't be part of a version refuses the whole.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from artfs.client.transfer.directory_copy import DirectoryCopy
from artfs.client.transfer.symlink_policy import READ, FollowSymlinks, LinkDecisions, SourceDirectories
from artfs.client.transfer.tree_writer import TreeWriter
from artfs.client.writable_tree import TreeCursor
from artfs.errors import CannotSeal, InvalidCommand, naming
from artfs.linux.walk import ROOT, walk
from artfs.model import names
from artfs.printing import printable
from artfs.seal.ingest import SPECIAL

if TYPE_CHECKING:
    from pathspec import PathSpec
    from pathspec.pattern import Pattern


class Excludes:
    """Patterns of .gitignore: `*.tmp` by name at any depth, `a/*.tmp` by path, `cache/` for directories.

    A directory that is left out takes all that is in it along. Raises :class:`InvalidCommand`.
    """

    def __init__(self, patterns: Sequence[str] = ()) -> None:
        self._files: PathSpec[Any] | None = None
        # In reverse: the last one that matches decides.
        self._directories: Sequence[tuple[Pattern, str]] = ()
        lines = [line for line in patterns if line]
        if lines:
            from pathspec import GitIgnoreSpec  # its import takes 20 ms

            try:
                self._files = spec = GitIgnoreSpec.from_lines(lines)
            except ValueError as error:
                raise InvalidCommand(f"cannot exclude {lines}: {error}") from None
            ends = ["/" * line.rstrip().endswith("/") for line in lines]
            self._directories = list(zip(spec.patterns, ends, strict=True))[::-1]

    def match(self, path: bytes, *, directory: bool) -> bool:
        """Whether a path is left out whose parents are not.

        pathspec only answers for files: by it `a/**` matches `a/`, and `!*/` restores no directory.
        """
        name = os.fsdecode(path)
        if not directory:
            return self._files is not None and self._files.match_file(name)
        for pattern, end in self._directories:
            if pattern.include is not None and pattern.match_file(name + end):
                return pattern.include
        return False


@dataclass(slots=True)
class Sources:
    """The content of directories, and files under their own names.

    With `at`, a path in the tree, a file gets that path and the content of a directory goes below it; that
    directory gets the attributes of the source's, of the last one's if there are several. `follow` tells
    which symlinks in directories are followed, and `kept` then has those that stay symlinks though they
    lead to nothing in the source, with the reason.
    """

    paths: Sequence[bytes]
    excludes: Excludes = field(default_factory=Excludes)
    at: Sequence[bytes] | None = None
    follow: FollowSymlinks = FollowSymlinks.OUTSIDE
    files: int = 0
    size: int = 0
    kept: list[tuple[bytes, str]] = field(default_factory=list)
    _decisions: dict[bytes, LinkDecisions] = field(default_factory=dict)

    def check(self, is_volume: Callable[[os.stat_result], bool]) -> None:
        """Counts files and bytes, and refuses what can't be copied; `is_volume` recognizes the volume itself.

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
                with SourceDirectories(
                    os.open(source, ROOT), self.follow, decisions, is_volume
                ) as directories:
                    if is_volume(status):
                        raise InvalidCommand(f"cannot copy '{printable(source)}': it is the volume itself")
                    for entry in walk(directories, self.wanted):
                        if entry.leaving:
                            continue
                        if entry.is_directory and is_volume(entry.status):
                            what, where = printable(source), printable(entry.path)
                            raise InvalidCommand(
                                f"cannot copy '{what}': '{where}' in it is the volume itself; exclude it"
                            )
                        self._check_entry(source, entry.path, entry.status, special, taken)
                        if directories.kept is not None:
                            self.kept.append((entry.path, directories.kept))
                decisions.complete = True
                self._decisions[source] = decisions
            elif not self.excludes.match(_base(source), directory=False):
                name = _base(source) if self.at is None else self.at[-1]
                self._check_entry(source, name, status, special, taken)
        if special:
            raise CannotSeal(sorted(special))

    def _check_entry(
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
                raise InvalidCommand(
                    f"cannot copy '{printable(path)}' twice: '{printable(source)}' has it too"
                )

    def copy(self, writer: TreeWriter) -> None:
        """Copies everything into the writer's tree."""
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
        *directory, name = [_base(source)] if self.at is None else self.at
        writer.go_to(at, b"/".join(directory))
        fd = os.open(source, READ & ~os.O_NOFOLLOW)
        try:
            writer.file(at, name, fd)
        finally:
            os.close(fd)

    def _copy_directory(self, source: bytes, writer: TreeWriter, copy: DirectoryCopy) -> None:
        writer.go_to(copy.at, b"/".join(self.at or ()))
        decisions = self._decisions.get(source, LinkDecisions())
        with SourceDirectories(os.open(source, ROOT), self.follow, decisions) as directories:
            copy.start_top(os.fstat(directories.fd))
            for entry in walk(directories, self.wanted):
                kind = stat.S_IFMT(entry.status.st_mode)
                names.check_entry_name(entry.name)
                if entry.leaving:
                    copy.leave(entry, directories.left_xattrs)
                elif kind == stat.S_IFDIR:
                    if writer.tree.is_root(entry.status):
                        path = printable(entry.path)
                        raise InvalidCommand(f"cannot copy '{path}': it is the pending version itself")
                    with naming(entry.path):
                        copy.enter(entry.name)
                elif kind == stat.S_IFLNK:
                    with naming(entry.path):
                        target = os.readlink(entry.name, dir_fd=directories.fd)
                        writer.symlink(copy.at, entry.name, target, entry.status.st_mtime_ns)
                else:
                    copy.file(directories, entry)
            copy.leave_top(directories.fd)

    def wanted(self, path: bytes, status: os.stat_result) -> bool:
        return not self.excludes.match(path, directory=stat.S_ISDIR(status.st_mode))


def _base(source: bytes) -> bytes:
    return os.path.basename(os.path.abspath(source))
