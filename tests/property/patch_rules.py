"""A pending version and a real directory that get the same operations: what is compared, and when.

A real directory is right by definition. The operations are those of ``patch_machine.py``.
"""

from __future__ import annotations

import errno
import itertools
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import note
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant

from artfs.vfs.node import Listing
from tests.conformance.driver import Filesystem, OpenFile, OsFilesystem, When
from tests.conformance.helpers import read_all
from tests.property.looking import Seen, Tree, content_of, expect_same, joined, look, sealed
from tests.property.rebasing import Collision, Merged, merged
from tests.property.worlds import Seat, World, reopened

T = TypeVar("T")

AS_ROOT = os.geteuid() == 0
_SEALED_MODE = 0o1777


@dataclass(eq=False)
class Pair:
    """The tree under test and the reference, or a held directory in both."""

    ours: Filesystem
    reference: OsFilesystem
    seats: tuple[Seat, ...] = ()

    def __repr__(self) -> str:
        return "a seat" if self.seats else "the tree"

    def leave(self) -> None:
        for seat in self.seats:
            seat.leave()


@dataclass(eq=False)
class Opened:
    """A file that is open in both."""

    number: int
    ours: OpenFile
    reference: OpenFile
    flags: int
    outlived: bool = False  # the seal of its tree, after which it has no name

    def __repr__(self) -> str:
        return f"file {self.number}"

    @property
    def reads(self) -> bool:
        return self.flags & os.O_ACCMODE != os.O_WRONLY

    @property
    def writes(self) -> bool:
        return self.flags & os.O_ACCMODE != os.O_RDONLY

    @property
    def has_a_name(self) -> bool:
        return self.reference.stat().nlink > 0

    def close(self) -> None:
        self.ours.close()
        self.reference.close()


@dataclass(eq=False)
class Cursor:
    """A listing in progress. ``fd`` is the directory in the reference."""

    listing: Listing
    fd: int
    stayed: set[bytes]
    ever: set[bytes]
    offset: int = 0
    told: list[bytes] = field(default_factory=list)
    _offsets: list[int] = field(default_factory=list)

    @classmethod
    def of(cls, listing: Listing, reference: bytes) -> Cursor:
        fd = os.open(reference, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        names = set(map(os.fsencode, os.listdir(fd)))
        listing.rewind()
        return cls(listing, fd, names, set(names))

    def watch(self) -> None:
        now = set(map(os.fsencode, os.listdir(self.fd)))
        self.stayed &= now
        self.ever |= now

    def go_on(self, count: int) -> bool:
        """Reads so many entries; returns False at the end."""
        for entry in itertools.islice(self.listing.entries(self.offset), count):
            assert entry.offset > self.offset
            self.offset = entry.offset
            self.told.append(entry.name)
            self._offsets.append(entry.offset)
            count -= 1
        return count == 0

    def go_back(self, count: int) -> None:
        """Seeks to the position after so many entries."""
        del self.told[count:], self._offsets[count:]
        self.offset = self._offsets[-1] if count else 0
        if not count:
            self.listing.rewind()  # as a mount does at offset 0

    def end(self) -> None:
        """Reads the rest; asserts that permanent entries came once, and no entry that never existed."""
        while self.go_on(1000):
            pass
        self.close()
        for name in self.stayed:
            assert self.told.count(name) == 1, f"{name!r} was told {self.told.count(name)} times: {self.told}"
        assert set(self.told) <= self.ever, f"{self.told}, but {self.ever} were ever there"

    def close(self) -> None:
        self.listing.release()
        os.close(self.fd)


def outcome(call: Callable[[], T]) -> tuple[str, T | None]:
    """Returns "ok" and the result, or the errno."""
    try:
        return "ok", call()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error.errno)), None


def agree(expected: object, got: object, what: str) -> None:
    assert got == expected, f"{what}\n  expected {expected}\n  got      {got}"


class Comparison(RuleBasedStateMachine):
    """Applies the same operations to both sides and compares them; a subclass has the rules."""

    def __init__(self, make: Callable[[Path], World]) -> None:
        super().__init__()
        self.place = Path(tempfile.mkdtemp(prefix="artfs-patch-"))
        (self.place / "reference").mkdir(0o755)
        self.reference = OsFilesystem(self.place / "reference")
        self.world = make(self.place)
        self.seats: list[Pair] = []
        self.files: list[Opened] = []
        self.cursors: list[Cursor] = []
        self.versions: list[str] = []
        self.contents: dict[str, Tree] = {}
        #: The base of the tree: its reference, and the version.
        self.base = ""
        self.base_version = ""
        self.base_tree: Tree = {}
        #: The collisions that were reported last.
        self.shown: tuple[Collision, ...] = ()
        #: Whether each step compares everything, with filled caches ("warm") or empty ones.
        self.looks = "seldom"
        self._numbers = itertools.count()

    def teardown(self) -> None:
        try:
            if sys.exc_info()[0] is None:
                self.compare_all()
                self.end_listings()
        finally:
            self.let_go(readers=True)
            for cursor in self.cursors:
                cursor.close()
            self.world.close()
            shutil.rmtree(self.place)

    @staticmethod
    def say(line: str) -> None:
        """Adds a line to the report of a failure."""
        note("    " + line)

    # -- applying operations to both

    @property
    def top(self) -> Pair:
        return Pair(self.world.fs, self.reference)

    def both(self, method: str, *arguments: Any, on: Pair | None = None) -> bool:
        """Calls a method of both filesystems; returns whether it succeeded."""
        pair = on or self.top
        what = f"{method}({', '.join(map(_short, arguments))})"
        self.say(f"{what} in a seat" if pair.seats else what)
        expected = outcome(lambda: getattr(pair.reference, method)(*arguments))
        agree(expected, outcome(lambda: getattr(pair.ours, method)(*arguments)), what)
        self._watch()
        return expected[0] == "ok"

    def of_both(self, file: Opened, call: Callable[[OpenFile], Any], what: str) -> None:
        """Calls a function on both sides of an open file."""
        self.say(f"{file}: {what}")
        agree(outcome(lambda: call(file.reference)), outcome(lambda: call(file.ours)), f"{file}: {what}")

    def opened(self, pair: Pair, path: bytes, flags: int, mode: int = 0o644) -> Opened | None:
        """Opens a file in both; returns None if that was refused, or cannot be tried."""
        if not can_be_opened(pair, path):
            return None
        what = f"open({_short(path)}, {flags_in_words(flags)}, 0o{mode:o})"
        return self._opened(
            f"{what} in a seat" if pair.seats else what,
            flags,
            lambda: pair.reference.open(path, flags, mode),
            lambda: pair.ours.open(path, flags, mode),
        )

    def opened_again(self, file: Opened, flags: int) -> Opened | None:
        return self._opened(
            f"{file}: open again, {flags_in_words(flags)}",
            flags,
            lambda: reopened(file.reference, flags),
            lambda: self.world.reopen(file.ours, flags),
        )

    def _opened(
        self, what: str, flags: int, reference: Callable[[], OpenFile], ours: Callable[[], OpenFile]
    ) -> Opened | None:
        number = next(self._numbers)
        self.say(f"{what} -> file {number}")
        expected, there = outcome(reference)
        got, here = outcome(ours)
        if there is None or here is None:
            for file in filter(None, (there, here)):
                file.close()
            agree(expected, got, what)
            return None
        return Opened(number, here, there, flags)

    def put(self, file: Opened, offset: int, data: bytes) -> None:
        """Writes to both; the offset is used unless the file is open for appending."""
        if not data:
            return  # the kernel sends no request
        if file.flags & os.O_APPEND:
            self.of_both(file, lambda of: of.append(data), f"append({_short(data)})")
        else:
            self.of_both(file, lambda of: of.pwrite(data, offset), f"pwrite({_short(data)}, {offset})")

    def write(self, pair: Pair, path: bytes, flags: int, offset: int, data: bytes, mode: int) -> None:
        """Opens a file in both, writes to it and closes it."""
        file = self.opened(pair, path, flags, mode)
        if file is not None:
            self.put(file, offset, data)
            file.close()

    def remove(self, pair: Pair, path: bytes) -> list[bytes]:
        """Removes the entry at a path, as rm -rf; returns the removed directories, from the top."""
        full = pair.reference.path(path)
        if os.path.islink(full) or not os.path.isdir(full):
            self.both("unlink", path, on=pair)
            return []
        directories = [path]
        if not self.both("rmdir", path, on=pair):
            for name in sorted(map(os.fsencode, os.listdir(full))):
                directories += self.remove(pair, joined(path, name))
            self.both("rmdir", path, on=pair)
        return directories

    def age(self, moment: int) -> None:
        """Sets a fixed time where the clock's is, so that a later change is visible."""
        self.say(f"age by {moment}")
        for path, seen in sorted(look(self.reference).items(), reverse=True):
            if seen.mtime is None and path:
                for fs in (self.reference, self.world.fs):
                    fs.utimens(path, When.OMIT, moment, False)

    # -- seals

    @property
    def newest(self) -> str:
        return self.versions[-1]

    @property
    def moved(self) -> bool:
        """Whether the base's alias now names another version."""
        return self.base == "latest" and bool(self.versions) and self.newest != self.base_version

    def merge(self, shown: Iterable[Collision] = ()) -> Merged:
        """Returns the expected tree after its base has moved."""
        ours = look(self.world.fs, exact=True)
        return merged(self.base_tree, ours, self.contents[self.newest], shown)

    def seal(self, data: st.DataObject, *, force: bool = False) -> bool:
        """Finishes the tree and starts the next one; returns False if changes of others collide with it."""
        self.let_go(readers=False, writers=not force)
        due = sealed(look(self.reference))
        merge = self.merge() if self.moved else None
        if merge is not None and merge.refused:
            self._collide(lambda: self.world.finish(force=force), merge)
            return False
        if merge is not None:
            self.end_listings()  # they no longer return entries that others removed
        done = self.world.finish(force=force)
        self.say(f"finish: {done}")
        got = look(self.world.version(done.version), exact=merge is not None)
        due = due if merge is None else merge.tree
        same = bool(self.versions) and content_of(due) == content_of(self.contents[self.newest])
        agree(same, done.unchanged, "whether nothing was changed")
        if done.unchanged:
            agree(content_of(due), content_of(got), f"what is unchanged since {done.version}")
        else:
            expect_same(due, got, f"{done.version} is not what was sealed")
            self.record_version(done.version)
        if force:
            self._expect_fenced()
        if merge is None:
            self.compare_contents()
        self._end_with_the_tree()
        agree(got, look(self.world.version(done.version), exact=merge is not None), "what was sealed")
        base = data.draw(st.sampled_from([done.version, "latest", "latest", None]), label="base")
        self.start(base, done.version)
        return True

    def start(self, base: str | None, version: str) -> None:
        """Starts a patch of a version, or an empty tree."""
        self.world.start(base)
        tree: Tree = {}
        self.base = base or ""
        if base is not None:
            self.base_version = self.newest if base == "latest" else version
            self.base_tree = self.contents[self.base_version]
            tree = self.base_tree
        # The root is the tree's own, except for the base's xattrs and restrictions.
        below = tree.get(b"", Seen(stat.S_IFDIR, 0o755, (0, 0), None))
        mode = 0o755 & (below.mode | ~0o055)
        owner = (os.geteuid(), os.getegid())
        self._become(tree | {b"": Seen(stat.S_IFDIR, mode, owner, None, xattrs=below.xattrs)})
        self.shown = ()

    def rebase(self) -> bool:
        """Sets the base again; returns False if changes collide whose collision was not reported before."""
        self.let_go(readers=False)
        merge = self.merge(self.shown)
        if merge.refused:
            self._collide(self.world.rebase, merge)
            return False
        self.say(f"rebase onto {self.newest}, keeping {sorted(path for path, _ in merge.all)}")
        root = look(self.reference)[b""]
        self.end_listings()
        self.world.rebase()
        got = look(self.world.fs, exact=True)
        if self.moved:
            # Replacing the root gives it a new time.
            expect_same(
                {**merge.tree, b"": replace(merge.tree[b""], mtime=None, mode=root.mode)},
                {**got, b"": replace(got[b""], mtime=None)},
                "the rebased patch is not what is due",
            )
            self._end_with_the_tree()
            self._become(got | {b"": replace(root, mtime=None)})
            self.base_version, self.base_tree = self.newest, self.contents[self.newest]
            self.shown = ()
        return True

    def _collide(self, call: Callable[[], object], merge: Merged) -> None:
        paths = [path for path, _ in merge.refused]
        self.say(f"collides at {paths}")
        agree("ESTALE", outcome(call)[0], f"what collides at {paths}")
        told = self.world.collided()
        if told is not None:
            agree(paths, told, "the paths that were told")
        self.shown = merge.all

    def record_version(self, name: str) -> None:
        """Records the content of a new version, which is the newest one."""
        self.contents[name] = look(self.world.version(name), exact=True)
        self.versions.append(name)

    def _end_with_the_tree(self) -> None:
        """Closes what was open in an ended tree."""
        self.end_listings()
        for file in list(self.files):
            if file.has_a_name:
                self.files.remove(file)
                file.close()
            file.outlived = True

    def _expect_fenced(self) -> None:
        """Asserts that old write handles cannot change the file, nor read what was never sealed."""
        for file in [file for file in self.files if file.writes and file.has_a_name]:
            for refused in (
                outcome(lambda: file.ours.pwrite(b"late", 0)),  # noqa: B023
                outcome(lambda: file.ours.truncate(1)),  # noqa: B023
            ):
                assert refused[0] in ("EROFS", "EBADF"), f"{file}: {refused}"
            if file.reads:
                due = "ok", read_all(file.reference)
                assert outcome(lambda: read_all(file.ours)) in (due, ("EIO", None))  # noqa: B023
            self.files.remove(file)
            file.close()

    def _become(self, tree: Tree) -> None:
        """Makes the reference equal to a tree without changes."""
        top = self.reference
        for path in sorted(look(top), reverse=True):
            if path:
                full = top.path(path)
                (os.rmdir if os.path.isdir(full) and not os.path.islink(full) else os.unlink)(full)
        for path, seen in sorted(tree.items()):
            if seen.kind == stat.S_IFLNK:
                assert seen.content is not None
                top.symlink(seen.content, path)
            elif seen.kind == stat.S_IFREG:
                assert seen.content is not None
                with top.open(path, os.O_WRONLY | os.O_CREAT) as file:
                    file.pwrite(seen.content, 0)
            elif path:
                top.mkdir(path)
        for path, seen in sorted(tree.items(), reverse=True):
            self._give(path, seen)

    def _give(self, path: bytes, seen: Seen) -> None:
        top = self.reference
        if AS_ROOT:
            top.chown(path, *seen.owner, False)
        if seen.kind != stat.S_IFLNK:
            top.chmod(path, seen.mode)
        for name in top.listxattr(path):
            if name.startswith(b"user."):
                top.removexattr(path, name)
        for name, value in seen.xattrs:
            top.setxattr(path, name, value)
        top.utimens(path, When.OMIT, When.NOW if seen.mtime is None else seen.mtime, False)

    def let_go(self, *, readers: bool, writers: bool = True) -> None:
        """Releases all held directories, and closes the files that block a seal, or all files."""
        for file in list(self.files):
            if readers or (writers and file.writes and file.has_a_name):
                self.files.remove(file)
                file.close()
        for seat in self.seats:
            seat.leave()
        self.seats.clear()

    # -- invariants

    @invariant()
    def both_are_alike(self) -> None:
        for seat in list(self.seats):
            if seat.reference.stat(b"").nlink == 0:
                self.seats.remove(seat)
                expected, got = seat.reference.stat(b""), seat.ours.stat(b"")
                for what in ("mode", "uid", "gid", "nlink"):
                    agree(getattr(expected, what), getattr(got, what), f"{what} of a removed directory")
                seat.leave()
        self._watch()
        self.compare_files()
        if self.looks == "warm":
            expect_same(look(self.reference), look(self.world.fs), "the patch is another")
        elif self.looks == "cold":
            self._compare_cold()

    def _watch(self) -> None:
        """Updates what listings may and must return, except in removed directories."""
        for cursor in list(self.cursors):
            if os.fstat(cursor.fd).st_nlink:
                cursor.watch()
            else:
                self.cursors.remove(cursor)
                cursor.close()

    def end_listings(self) -> None:
        self._watch()
        while self.cursors:
            self.cursors.pop().end()

    def compare_files(self) -> None:
        """Compares open files and their attributes."""
        for file in self.files:
            expected, got = file.reference.stat(), file.ours.stat()
            for what in ("mode", "uid", "gid", "size", "nlink"):
                agree(getattr(expected, what), getattr(got, what), f"{what} of {file}")
        self.compare_contents()

    def compare_contents(self) -> None:
        for file in self.files:
            if file.reads:
                agree(read_all(file.reference), read_all(file.ours), f"the content of {file}")

    def _compare_cold(self) -> None:
        with self.world.cold() as fs:
            expect_same(look(self.reference), look(fs), "the patch is another, seen for the first time")

    def compare_all(self) -> None:
        expected = look(self.reference)
        expect_same(expected, look(self.world.fs), "the patch is another")
        self._compare_cold()
        sizes = [len(seen.content or b"") for seen in expected.values() if seen.kind == stat.S_IFREG]
        agree((len(sizes), sum(sizes)), self.world.counted(), "files and bytes of the status")
        agree([], self.world.left(), "what was left behind")


def can_be_opened(pair: Pair, path: bytes) -> bool:
    """Whether a path can be opened: a fifo would wait for its other end.

    Nor can a symlink to a reserved name, which a real directory would create.
    """
    full = pair.reference.path(path)
    try:
        return not stat.S_ISFIFO(os.stat(full).st_mode)
    except OSError:
        return b"/.artfs@" not in os.path.realpath(full)


def _short(value: object) -> str:
    if isinstance(value, bytes) and len(value) > 40:
        return (
            f"{value[:1]!r} * {len(value)}" if len(set(value)) == 1 else f"{value[:9]!r}... of {len(value)}"
        )
    return repr(value)


def flags_in_words(flags: int) -> str:
    names = [["O_RDONLY", "O_WRONLY", "O_RDWR"][flags & os.O_ACCMODE]]
    others = ("O_CREAT", "O_EXCL", "O_TRUNC", "O_APPEND", "O_NOFOLLOW", "O_DIRECTORY")
    return "|".join(names + [name for name in others if flags & getattr(os, name)])
