"""The same calls in a real directory and in a pending tree, and their effects on both.

Owns how the two are filled, called and compared. A real directory on the filesystem that backs the volume
is right by definition. Does not know the calls, which are in the tables of ``single_calls``,
``pair_calls`` and ``handle_calls``.

A table works in *slots*, directories of its own, each filled by a builder in two stages: what a version may
hold, and what only a pending tree has (fifos, hard links, setuid bits). So the pending tree comes in these
*makes*::

    plain    nothing below: both stages are work of the tree itself
    based    a patch: the first stage is what shows through from its base
    lifted   a patch whose attributes were all set once: the files of the base are stubs
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from tests.conformance.driver import OsFilesystem
from tests.conformance.helpers import OLD, tick
from tests.thorough import THOROUGH

MAKES = ("plain", "based", "lifted")

OWNER, MEMBER, OTHER, TEAM, FOREIGN = 2001, 2002, 2003, 3001, 3002


@dataclass(frozen=True)
class User:
    """A caller."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()


#: The owner of what builders make, a member of its group, and a stranger. Each also has a group of their own.
USERS = {
    "root": User(0, 0),
    "owner": User(OWNER, OWNER, (TEAM,)),
    "member": User(MEMBER, MEMBER, (FOREIGN, TEAM)),
    "other": User(OTHER, OTHER, (FOREIGN,)),
}
MAY_BE_OTHERS = os.geteuid() == 0


@contextlib.contextmanager
def acting(user: User) -> Iterator[None]:
    """Runs as another user, with their groups and without capabilities."""
    if not MAY_BE_OTHERS:
        yield
        return
    before = User(os.getuid(), os.getgid(), tuple(os.getgroups()))
    _become(user)
    try:
        yield
    finally:
        _become(before)


def _become(user: User) -> None:
    os.setresuid(0, 0, 0)
    os.setgroups(user.groups)
    os.setresgid(user.gid, user.gid, 0)
    os.setresuid(user.uid, user.uid, 0)


def give(fs: OsFilesystem, path: bytes, uid: int = OWNER, gid: int = TEAM) -> None:
    """Changes the owner, if this is root."""
    if MAY_BE_OTHERS:
        fs.chown(path, uid, gid, follow=False)


# -- calls


def turns(
    cases: Iterable[str], users: Sequence[str] = tuple(USERS), *, each: int = 1
) -> list[tuple[str, str, str]]:
    """Returns the makes, users and cases to test together: each n-th case with the next make and user.

    With ``ARTFS_THOROUGH`` these are all combinations.
    """
    users = users if MAY_BE_OTHERS else ["root"]
    if THOROUGH:
        return list(itertools.product(MAKES, users, dict.fromkeys(cases)))
    makes_and_users = itertools.cycle(itertools.product(users, MAKES))
    return [
        (make, user, case) for (user, make), case in zip(makes_and_users, list(cases)[::each], strict=False)
    ]


def twice(cases: Sequence[str]) -> list[tuple[str, str, str]]:
    """Returns the turns if each case has two: with a user who may do most calls, and with another."""
    chosen = [*turns(cases, ["root", "owner"]), *turns([*cases[1:], cases[0]], ["member", "other"])]
    return turns(cases) if THOROUGH or not MAY_BE_OTHERS else chosen


Result = str
Record = dict[str, Result]


def outcome(call: Callable[[], object]) -> Result:
    """Returns the result of a call, or the name of its errno."""
    try:
        value = call()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    return "ok" if value is None else repr(value)


# -- effects


@dataclass(frozen=True)
class Seen:
    """An entry as users see it, without the fields in which all filesystems differ.

    Times are "moved" if they are later than the builders' work, else "kept", or the given number.
    """

    kind: str
    mode: str
    owner: tuple[int, int]
    links: int
    twin: bytes
    size: int
    content: bytes
    xattrs: tuple[tuple[bytes, bytes], ...]
    mtime: str
    ctime: str
    atime: str


GIVEN = (OLD, OLD + 1, OLD + 2 * 10**9)  # the times that calls set


def _moved(time: int, start: int) -> str:
    return str(time) if time in GIVEN else "moved" if time > start else "kept"


def picture(root: bytes, start: int, *, patch: bool) -> dict[bytes, Seen]:
    """Returns everything at and below a directory, by path, for a patch or for the reference of one."""
    found: dict[bytes, Seen] = {}
    first: dict[int, bytes] = {}
    todo = [b""]
    while todo:
        path = todo.pop()
        full = os.path.join(root, path) if path else root
        status = os.lstat(full)
        kind = stat.S_IFMT(status.st_mode)
        content = b""
        links, size, twin = status.st_nlink, status.st_size, b""
        if kind == stat.S_IFDIR:
            names = os.listdir(full)
            assert len(set(names)) == len(names), f"{path!r} lists {sorted(names)}"
            todo += sorted((os.path.join(path, name) for name in names), reverse=True)
            size = 0
            links = 1 if patch else links  # a patch doesn't count its directories
        else:
            twin = first.setdefault(status.st_ino, path)
        if kind == stat.S_IFREG:
            with open(full, "rb") as file:
                content = file.read(10_000)
        elif kind == stat.S_IFLNK:
            content = os.readlink(full)
        xattrs: list[tuple[bytes, bytes]] = []
        if kind in (stat.S_IFREG, stat.S_IFDIR):
            names = sorted(map(os.fsencode, os.listxattr(full)))
            xattrs = [(name, os.getxattr(full, name)) for name in names if name.startswith(b"user.")]
        found[path] = Seen(
            kind=stat.filemode(kind)[0],
            mode=f"{stat.S_IMODE(status.st_mode):04o}",
            owner=(status.st_uid, status.st_gid),
            links=links,
            twin=twin,
            size=size,
            content=content,
            xattrs=tuple(xattrs),
            mtime=_moved(status.st_mtime_ns, start),
            ctime=_moved(status.st_ctime_ns, start),
            atime=str(status.st_atime_ns) if status.st_atime_ns in GIVEN else "",
        )
    return found


def differences(expected: Mapping[Any, Any], got: Mapping[Any, Any]) -> list[str]:
    """Returns the differences of two records or pictures, a line each."""
    lines = []
    for key in [*expected, *(key for key in got if key not in expected)]:
        one, other = expected.get(key), got.get(key)
        if one == other:
            continue
        if isinstance(one, Seen) and isinstance(other, Seen):
            for field in fields(Seen):
                before, after = getattr(one, field.name), getattr(other, field.name)
                if before != after:
                    lines.append(f"{key!r}: {field.name} is {after!r} instead of {before!r}")
        else:
            lines.append(f"{key!r}: {other!r} instead of {one!r}")
    return lines


# -- slots


Builder = Callable[[OsFilesystem, bool], None]
"""Fills a slot: called with True for what a version may hold, with False for what only a pending tree has."""


class Slot:
    """One slot, in the reference and in the pending tree."""

    def __init__(self, reference: bytes, subject: bytes, *, patch: bool) -> None:
        self.sides = (OsFilesystem(reference), OsFilesystem(subject))
        self.patch = patch

    def compare(self, user: User, run: Callable[[OsFilesystem], Record]) -> int:
        """Makes the same calls on both sides and fails with the differences; returns the number of calls."""
        starts = []
        for fs in self.sides:
            tick(fs)
            # The tick's scratch file was created before all that follows.
            starts.append(os.stat(fs.path()).st_ctime_ns)
            tick(fs)
        records = []
        for fs in self.sides:
            with acting(user):
                records.append(run(fs))
        pictures = [
            picture(fs.path(), start, patch=self.patch) for fs, start in zip(self.sides, starts, strict=True)
        ]
        if self.patch:
            _forgive_times(*pictures)
        found = differences(*records) + differences(*pictures)
        assert not found, "\n".join(found)
        return len(records[0])


def _forgive_times(expected: dict[bytes, Seen], got: dict[bytes, Seen]) -> None:
    """Accepts times of a patch that move without a change by users.

    A ctime moves when an entry of the base gets an inode of its own. An atime moves when the daemon reads the
    symlink that stores it, which happens again after the kernel has forgotten the file.
    """
    for path, seen in expected.items():
        if path not in got:
            continue
        if (seen.ctime, got[path].ctime) == ("kept", "moved"):
            got[path] = replace(got[path], ctime="kept")
        if not got[path].atime:
            got[path] = replace(got[path], atime=seen.atime)


def lift_everything(fs: OsFilesystem) -> None:
    """Sets the attributes of all entries to their present values."""
    for directory, directories, files in os.walk(fs.path()):
        for name in (*directories, *files):
            path = os.path.join(directory, name)
            status = os.lstat(path)
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns), follow_symlinks=False)
