"""The three-way merge of a directory: both sides' changes in one directory, and their conflicts.

Reads pages through a reader and writes them through a ``put``; must not know where they are stored, nor what
the sides are. Any thread that may use both.

*Significant* in an entry are its kind, its content (blob, target, URI with checksum and size, the entries of
a directory), its permission bits and its xattrs. Owner, group, mtime and the xattr ``user.artfs.run`` are
merged, but never conflict. Of a symlink only the target is significant.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from operator import attrgetter
from typing import NamedTuple, TypeAlias, TypeVar

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from artfs.model.diff import differing_entries
from artfs.model.digest import Algorithm, algorithm_of, text
from artfs.model.entry import (
    RUN,
    DirEntry,
    Entry,
    FileEntry,
    PageSummary,
    ReferenceEntry,
    SymlinkEntry,
    Xattrs,
    kind_of,
)
from artfs.model.tree import Put, TreeReader, build


class Conflict(Struct, frozen=True):
    """One path that the two sides changed in different ways.

    ``path`` is from the root; ``b""`` is the root itself, whose mode and xattrs can collide. ``ours`` and
    ``theirs`` describe what each side did: "added", "changed", "mode changed", "xattrs changed",
    "removed", "replaced by a directory" (file, symlink, reference); of directories that both sides added,
    "added with another mode" or "added with other xattrs".

    ``entry`` identifies their entry at the path; ``""`` if there is none. It is equal if and only if all that
    is significant is equal, so that a conflict can be recognized later. If only the mode or xattrs of a
    directory conflict, it does not cover the entries in it.
    """

    path: bytes
    ours: str
    theirs: str
    entry: str


class Merged(NamedTuple):
    """The result of a merge. If there are conflicts, ``root`` is meaningless and its pages may be missing."""

    root: DirEntry
    conflicts: list[Conflict]


def never(_: Conflict, /) -> bool:
    """Lets ours win no conflict."""
    return False


def merge(
    reader: TreeReader,
    base: DirEntry,
    ours: DirEntry,
    theirs: DirEntry,
    put: Put,
    *,
    ours_wins: Callable[[Conflict], bool] = never,
) -> Merged:
    """Makes the directory with the changes of both sides since ``base``, and lists the conflicts by path.

    A change of one side is taken, and so is an equal change of both. Different changes are a conflict, but
    directories that both changed (or added) are merged name by name, and their own mode and xattrs together
    as one value. If one side removed a directory, each path in it that the other changed is a conflict.
    ``ours_wins`` is asked once about each conflict, in the order of paths, name by name. If it returns true,
    ours is taken and the conflict is not listed: of a directory that theirs removed, what ours changed then
    stays, with the directories above it.

    Insignificant attributes are taken from the side that differs from the base, from ours if both do. But
    mtime and run go with the entry if one side alone changed it, and of two new mtimes of a directory the
    later one is taken. (For these, any difference in a directory counts as a change of it.)

    Reads only directories that both sides changed, and there the pages in which a side differs from the base,
    and those above them. A directory that conflicts as a whole, with a file say, is read as a whole to
    identify it. The pages are exactly those that :func:`build` would make of the result. Memory holds the
    differences; depth is not limited. ``reader`` must read what was put. Raises Damaged.
    """
    merging = _Merge(reader, put, algorithm_of(base.tree), ours_wins)
    root = _performed(merging.entry(base, ours, theirs))
    assert isinstance(root, DirEntry)
    return Merged(root, merging.conflicts)


# A method that yields another call of its kind and is sent its result: recursion of any depth.
_Steps: TypeAlias = Generator["_Steps", Entry | None, Entry | None]
_T = TypeVar("_T")


def _performed(steps: _Steps) -> Entry | None:
    stack, value = [steps], None
    while stack:
        try:
            stack.append(stack[-1].send(value))
            value = None
        except StopIteration as end:
            stack.pop()
            value = end.value
    return value


class _Attributes(NamedTuple):
    """The significant attributes of an entry."""

    mode: int
    xattrs: Xattrs


class _Rest(NamedTuple):
    """The insignificant attributes of an entry."""

    uid: int
    gid: int
    mtime_ns: int
    run: bytes | None


class _Differing(NamedTuple):
    """The entries in which two sides of a directory differ from its base, by name.

    ``base`` has the entries of the names that both sides changed; a name that it lacks is not in the base.
    """

    base: dict[bytes, Entry]
    ours: dict[bytes, Entry | None]
    theirs: dict[bytes, Entry | None]


class _Merge:
    """One merge, which is at one path at a time."""

    def __init__(
        self, reader: TreeReader, put: Put, algorithm: Algorithm, ours_wins: Callable[[Conflict], bool]
    ) -> None:
        self._reader, self._put, self._algorithm, self._ours_wins = reader, put, algorithm, ours_wins
        self._way: list[bytes] = []
        self.conflicts: list[Conflict] = []

    def entry(self, base: Entry | None, ours: Entry | None, theirs: Entry | None) -> _Steps:
        """Merges the entries at one path; None means no entry."""
        if isinstance(ours, DirEntry) and isinstance(theirs, DirEntry):
            if base is None or isinstance(base, DirEntry):
                return (yield self._directory(base, ours, theirs))
        elif isinstance(base, DirEntry):
            if ours is None and isinstance(theirs, DirEntry):
                return (yield self._removed(base, theirs, by_ours=True))
            if theirs is None and isinstance(ours, DirEntry):
                return (yield self._removed(base, ours, by_ours=False))
        return self._whole(base, ours, theirs)

    def _whole(self, base: Entry | None, ours: Entry | None, theirs: Entry | None) -> Entry | None:
        """Takes one side's entry as a whole, if possible."""
        by_ours, by_theirs = self._differ(base, ours), self._differ(base, theirs)
        if by_ours and by_theirs and self._differ(ours, theirs):
            self._wins(_change_of(base, ours), _change_of(base, theirs), self._identity(theirs))
            return ours
        taken = theirs if by_theirs and not by_ours else ours
        if taken is None or ours is None or theirs is None:
            return taken
        rest = _rest(base, ours, theirs, alone=taken if by_ours != by_theirs else None)
        return self._with_attributes(taken, _attributes(taken), rest)

    def _directory(self, base: DirEntry | None, ours: DirEntry, theirs: DirEntry) -> _Steps:
        """Merges a directory that both sides have, and that the base has or has no entry for."""
        attributes = self._merged_attributes(base, ours, theirs)
        alone = None
        if base is not None:
            by_ours, by_theirs = (
                side.tree != base.tree or _attributes(side) != _attributes(base) for side in (ours, theirs)
            )
            if by_ours != by_theirs:
                alone = ours if by_ours else theirs
        rest = _rest(base, ours, theirs, alone)
        if ours.tree == theirs.tree or (base is not None and theirs.tree == base.tree):
            return self._with_attributes(ours, attributes, rest)
        if base is not None and ours.tree == base.tree:
            return self._with_attributes(theirs, attributes, rest)
        differing = self._differing(base, ours, theirs)
        settled: dict[bytes, Entry | None] = {}
        for name in sorted(differing.ours.keys() & differing.theirs.keys()):
            self._way.append(name)
            settled[name] = yield self.entry(
                differing.base.get(name), differing.ours[name], differing.theirs[name]
            )
            self._way.pop()
        if self.conflicts:
            return ours
        # The smaller set of changes is applied to the side with the larger one.
        if len(differing.theirs) <= len(differing.ours):
            start, there, changes = ours, differing.ours, differing.theirs | settled
        else:
            start, there, changes = theirs, differing.theirs, differing.ours | settled
        changes = {
            name: entry for name, entry in changes.items() if name not in there or there[name] != entry
        }
        if not changes:
            return self._with_attributes(start, attributes, rest)
        return _directory_of(self._reader.update(start.tree, changes, self._put), ours.name, attributes, rest)

    def _merged_attributes(self, base: DirEntry | None, ours: DirEntry, theirs: DirEntry) -> _Attributes:
        one, other = _attributes(ours), _attributes(theirs)
        before = None if base is None else _attributes(base)
        if one == before:
            return other
        if other not in (one, before):
            entry = self._with_digest("directory", theirs)
            if before is None:
                word = "added with another mode" if one.mode != other.mode else "added with other xattrs"
                self._wins(word, word, entry)
            else:
                self._wins(_attribute_change(before, one), _attribute_change(before, other), entry)
        return one

    def _differing(self, base: DirEntry | None, ours: DirEntry, theirs: DirEntry) -> _Differing:
        found = _Differing({}, {}, {})
        if base is None:
            # Equal sides need no listing.
            for one, other in differing_entries(self._reader, ours.tree, theirs.tree):
                if one is not None:
                    found.ours[one.name] = one
                if other is not None:
                    found.theirs[other.name] = other
            return found
        for side, into in ((ours, found.ours), (theirs, found.theirs)):
            for before, after in differing_entries(self._reader, base.tree, side.tree):
                if before is not None:
                    into[before.name] = after
                    found.base[before.name] = before
                elif after is not None:
                    into[after.name] = after
        return found

    def _removed(self, base: DirEntry, changed: DirEntry, *, by_ours: bool) -> _Steps:
        """Finds what one side changed in a directory that the other removed.

        Returns what remains of it: only what ours changed, where ours wins.
        """

        def wins(did: str, entry: str) -> bool:
            return self._wins("removed", did, entry) if by_ours else self._wins(did, "removed", "")

        before, after = _attributes(base), _attributes(changed)
        stays = before != after and wins(
            _attribute_change(before, after), self._with_digest("directory", changed)
        )
        left: list[Entry] = []
        for old, new in differing_entries(self._reader, base.tree, changed.tree):
            if new is None:
                continue
            self._way.append(new.name)
            if isinstance(old, DirEntry) and isinstance(new, DirEntry):
                kept = yield self._removed(old, new, by_ours=by_ours)
                if kept is not None:
                    left.append(kept)
            elif self._differ(old, new) and wins(
                _change_of(old, new), self._identity(new) if by_ours else ""
            ):
                left.append(new)
            self._way.pop()
        if by_ours or not (stays or left) or self.conflicts:
            return None
        rest = _Rest(changed.uid, changed.gid, changed.mtime_ns, _run(changed))
        return _directory_of(build(left, self._algorithm, self._put), changed.name, after, rest)

    def _wins(self, ours: str, theirs: str, entry: str) -> bool:
        """Tells whether ours wins the conflict at this path; if not, lists it."""
        conflict = Conflict(b"/".join(self._way), ours, theirs, entry)
        if self._ours_wins(conflict):
            return True
        self.conflicts.append(conflict)
        return False

    def _differ(self, one: Entry | None, other: Entry | None) -> bool:
        """Tells whether two entries differ significantly; reads directories as far as necessary."""
        todo = [(one, other)]
        while todo:
            one, other = todo.pop()
            if one is None or other is None:
                if one is not other:
                    return True
            elif type(one) is not type(other) or _attributes(one) != _attributes(other):
                return True
            elif isinstance(one, DirEntry) and isinstance(other, DirEntry):
                # Content digests cover a part of what is significant, and nothing else.
                if one.content != other.content:
                    return True
                todo += differing_entries(self._reader, one.tree, other.tree)
            elif _content(one) != _content(other):
                return True
        return False

    def _with_attributes(self, entry: Entry, attributes: _Attributes, rest: _Rest) -> Entry:
        """Returns an entry of the same content with other attributes."""
        if isinstance(entry, SymlinkEntry):
            return replace(entry, uid=rest.uid, gid=rest.gid, mtime_ns=rest.mtime_ns)
        wanted = attributes.mode, rest.uid, rest.gid
        if isinstance(entry, DirEntry) and wanted != (entry.mode, entry.uid, entry.gid):
            # The reach follows from these and from the entries of the directory.
            return _directory_of(self._reader.summary(entry.tree), entry.name, attributes, rest)
        return replace(
            entry,
            mode=attributes.mode,
            uid=rest.uid,
            gid=rest.gid,
            mtime_ns=rest.mtime_ns,
            xattrs=_xattrs(attributes, rest),
        )

    # -- identities

    def _identity(self, entry: Entry | None) -> str:
        """Formats the significant attributes of an entry."""
        if entry is None:
            return ""
        if isinstance(entry, FileEntry):
            return self._with_digest(f"file {text(entry.blob)}", entry)
        if isinstance(entry, DirEntry):
            return self._with_digest(f"directory {self._digest_below(entry)}", entry)
        digest = self._algorithm.digest(_encoder.encode(_content(entry))).hex()
        if isinstance(entry, SymlinkEntry):
            return f"symlink {digest}"
        return self._with_digest(f"reference {digest}", entry)

    def _with_digest(self, described: str, entry: Entry) -> str:
        attributes = _attributes(entry)
        described = f"{described} {attributes.mode:04o}"
        if not attributes.xattrs:
            return described
        return f"{described} {self._algorithm.digest(_encoder.encode(attributes.xattrs)).hex()}"

    def _digest_below(self, directory: DirEntry) -> str:
        """Hashes all that is significant below a directory: the id of its tree would change with an mtime."""
        hasher = self._algorithm.hasher()
        stack = [self._reader.entries(directory.tree)]
        while stack:
            found = next(stack[-1], None)
            if found is None:
                stack.pop()
                hasher.update(_END)
                continue
            entry = found[1]
            hasher.update(_encoder.encode((kind_of(entry), entry.name, _content(entry), _attributes(entry))))
            if isinstance(entry, DirEntry):
                stack.append(self._reader.entries(entry.tree))
        return hasher.digest().hex()


_encoder = msgspec.msgpack.Encoder()
_END = _encoder.encode(None)


# -- entries


def _content(entry: Entry) -> tuple[object, ...]:
    """The significant content of anything but a directory."""
    if isinstance(entry, FileEntry):
        return (entry.blob,)
    if isinstance(entry, SymlinkEntry):
        return (entry.target,)
    if isinstance(entry, ReferenceEntry):
        return entry.uri, entry.checksum, entry.size
    return ()


def _attributes(entry: Entry) -> _Attributes:
    if isinstance(entry, SymlinkEntry):
        return _Attributes(0o777, ())
    return _Attributes(entry.mode, tuple(pair for pair in entry.xattrs if pair[0] != RUN))


def _run(entry: Entry) -> bytes | None:
    return None if isinstance(entry, SymlinkEntry) else dict(entry.xattrs).get(RUN)


def _rest(base: Entry | None, ours: Entry, theirs: Entry, alone: Entry | None) -> _Rest:
    """Merges the insignificant attributes; ``alone`` is the side that changed the entry, if only one did."""

    def either(field: Callable[[Entry], _T]) -> _T:
        return field(ours) if base is None or field(ours) != field(base) else field(theirs)

    uid, gid = either(attrgetter("uid")), either(attrgetter("gid"))
    if alone is not None:
        return _Rest(uid, gid, alone.mtime_ns, _run(alone))
    mtime_ns = either(attrgetter("mtime_ns"))
    if isinstance(ours, DirEntry) and (base is None or theirs.mtime_ns != base.mtime_ns):
        mtime_ns = max(mtime_ns, theirs.mtime_ns)
    return _Rest(uid, gid, mtime_ns, either(_run))


def _xattrs(attributes: _Attributes, rest: _Rest) -> Xattrs:
    if rest.run is None:
        return attributes.xattrs
    return tuple(sorted((*attributes.xattrs, (RUN, rest.run))))


def _directory_of(summary: PageSummary, name: bytes, attributes: _Attributes, rest: _Rest) -> DirEntry:
    return summary.directory(
        name, attributes.mode, rest.uid, rest.gid, rest.mtime_ns, _xattrs(attributes, rest)
    )


def _change_of(before: Entry | None, after: Entry | None) -> str:
    """Describes the change of an entry."""
    if before is None:
        return "added"
    if after is None:
        return "removed"
    if type(before) is not type(after):
        return f"replaced by a {kind_of(after)}"
    one, other = _attributes(before), _attributes(after)
    if isinstance(before, DirEntry) and isinstance(after, DirEntry):
        same = before.content == after.content
    else:
        same = _content(before) == _content(after)
    # The directory itself is the same: modes or xattrs below it differ.
    return _attribute_change(one, other) if same and one != other else "changed"


def _attribute_change(before: _Attributes, after: _Attributes) -> str:
    return "mode changed" if before.mode != after.mode else "xattrs changed"
