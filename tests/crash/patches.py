"""Scenarios of the crash tests of patches: a base, stories of changes to a patch of it, larger operations.

A story is a list of changes, each of them one system call to the user. Each change crashes and fails at each
of its steps, after those before it succeeded.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from artfs.errors import Collision
from artfs.seal.seal import Request
from artfs.volume.pending_trees import pending_names
from tests.conformance.driver import RENAME_EXCHANGE, RENAME_NOREPLACE
from tests.conformance.helpers import write
from tests.conformance.view import ViewFilesystem
from tests.crash.harness import (
    NAME,
    OLD,
    Case,
    Entry,
    Scenario,
    State,
    Tree,
    put,
    settle_times,
    settled,
    small,
)

JOB = b"job"
RESERVED = b".artfs-stub:644:xxh128:00:name"

Op = Callable[[ViewFilesystem], object]


def layered(root: Path) -> None:
    """A base with entries for each change, many of them some directories down."""
    put(root, "plain", b"plain")
    put(root, "large", bytes(range(251)) * 200)
    put(root, "empty", b"")
    put(root, "marked", b"marked")
    put(root, "dir/program", b"#!/bin/sh\n#", 0o755)
    put(root, "dir/deeper/same", b"same")
    put(root, "dir/deeper/deepest/file", b"far down")
    put(root, "other/one", b"one")
    put(root, "other/two", b"two")
    put(root, "other/below/three", b"three")
    put(root, "single/one", b"the only one")
    put(root, "pair/one", b"first")
    put(root, "pair/two", b"second")
    (root / "hollow").mkdir(mode=0o700)
    os.symlink("dir/program", root / "link")
    os.symlink(RESERVED, root / "odd")
    os.setxattr(root / "marked", "user.key", b"value")
    os.setxattr(root / "dir/deeper", "user.of", b"a directory")
    settle_times(root)


def moved(root: Path) -> None:
    """The next version of the base's alias, which changes other files than :func:`edit`."""
    layered(root)
    put(root, "other/two", b"two of the new base")
    put(root, "fresh", b"new in the new base")
    (root / "pair/two").unlink()
    settle_times(root)


def last(root: Path) -> None:
    """The version of the alias after :func:`moved`."""
    moved(root)
    put(root, "other/below/three", b"three of the last base")
    settle_times(root)


def colliding(root: Path) -> None:
    """The next version of the base's alias, which conflicts with :func:`edit`."""
    moved(root)
    put(root, "plain", b"plain of the new base")
    (root / "dir/program").unlink()
    settle_times(root)


def edit(fs: ViewFilesystem) -> None:
    """Changes a patch of :func:`layered` in all ways."""
    write(fs, b"plain", b"changed")
    put_at(fs, b"dir/program", b"#!/bin/true")
    fs.chmod(b"dir/deeper/same", 0o600)
    fs.rename(b"dir/deeper/deepest", b"other/elsewhere")
    fs.unlink(b"pair/one")
    fs.unlink(b"single/one")
    fs.rmdir(b"single")
    write(fs, b"single", b"now a file")
    fs.mkdir(b"added")
    write(fs, b"added/new", b"new")
    fs.link(b"added/new", b"added/second")
    settle(fs)


def settle(fs: ViewFilesystem) -> None:
    """Gives changed entries the time that all others have."""
    todo = [b""]
    while todo:
        path = todo.pop()
        status = fs.stat(path)
        if stat.S_ISDIR(status.mode):
            todo += [path + b"/" + name if path else name for name in fs.listdir(path)]
        if status.mtime != OLD:
            fs.utimens(path, OLD, OLD, follow=False)


# Changes


def put_at(fs: ViewFilesystem, path: bytes, data: bytes, offset: int = 0) -> None:
    with fs.open(path, os.O_RDWR) as file:
        file.pwrite(data, offset)


def put_in(path: bytes, data: bytes, offset: int = 0) -> Op:
    return lambda fs: put_at(fs, path, data, offset)


def append(path: bytes, data: bytes) -> Op:
    def act(fs: ViewFilesystem) -> None:
        with fs.open(path, os.O_WRONLY | os.O_APPEND) as file:
            file.append(data)

    return act


def opened(path: bytes, flags: int) -> Op:
    return lambda fs: fs.open(path, flags).close()


def create(path: bytes) -> Op:
    return opened(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)


def truncate(path: bytes, size: int) -> Op:
    return lambda fs: fs.truncate(path, size)


def chmod(path: bytes, mode: int) -> Op:
    return lambda fs: fs.chmod(path, mode)


def utimens(path: bytes, seconds: int = 10**9) -> Op:
    return lambda fs: fs.utimens(path, OLD - seconds, OLD - seconds, follow=False)


def setxattr(path: bytes, value: bytes = b"given") -> Op:
    return lambda fs: fs.setxattr(path, b"user.key", value)


def removexattr(path: bytes, name: bytes = b"user.key") -> Op:
    return lambda fs: fs.removexattr(path, name)


def link(old: bytes, new: bytes) -> Op:
    return lambda fs: fs.link(old, new)


def symlink(target: bytes, path: bytes) -> Op:
    return lambda fs: fs.symlink(target, path)


def mkdir(path: bytes) -> Op:
    return lambda fs: fs.mkdir(path)


def rename(old: bytes, new: bytes, flags: int = 0) -> Op:
    return lambda fs: fs.rename(old, new, flags)


def exchange(one: bytes, other: bytes) -> Op:
    return rename(one, other, RENAME_EXCHANGE)


def unlink(path: bytes) -> Op:
    return lambda fs: fs.unlink(path)


def rmdir(path: bytes) -> Op:
    return lambda fs: fs.rmdir(path)


@dataclass(frozen=True)
class Story:
    """Changes of a patch, after others that are made before."""

    ops: list[Op]
    before: list[Op] = field(default_factory=list)

    def prepare(self, case: Case) -> None:
        case.commit(b"base", layered, "best")
        fs = patch(case, JOB, "v0")
        for op in self.before:
            op(fs)
        settle(fs)

    def act(self, case: Case) -> None:
        for op in self.ops:
            op(case.mounted(JOB))

    @property
    def scenario(self) -> Scenario:
        return Scenario(self.prepare, self.act)


STORIES = {
    "write in place, far down": Story([put_in(b"dir/deeper/deepest/file", b"NEAR")]),
    "append": Story([append(b"large", b"more")]),
    "write into an empty file": Story([put_in(b"empty", b"no more")]),
    "open to truncate": Story([opened(b"dir/program", os.O_WRONLY | os.O_TRUNC)]),
    "truncate": Story(
        [truncate(b"large", 1000), truncate(b"dir/deeper/same", 0), truncate(b"other/one", 50)]
    ),
    "write to a stub": Story([put_in(b"other/one", b"ONE")], [chmod(b"other/one", 0o600)]),
    "second names": Story(
        [
            link(b"dir/deeper/same", b"second"),
            put_in(b"second", b"SAME"),
            truncate(b"dir/deeper/same", 1),
            link(b"link", b"dir/link"),
            unlink(b"dir/deeper/same"),
        ]
    ),
    "symlinks to what looks like a stub": Story(
        [
            link(b"odd", b"dir/odd"),
            utimens(b"odd"),
            symlink(RESERVED, b"single/odd"),
            rename(b"odd", b"moved"),
        ]
    ),
    "xattrs": Story(
        [
            setxattr(b"dir/deeper/same"),
            removexattr(b"marked"),
            setxattr(b"dir/deeper/deepest"),
            removexattr(b"dir/deeper", b"user.of"),
        ]
    ),
    "xattrs of stubs": Story(
        [setxattr(b"other/one"), removexattr(b"marked")],
        [chmod(b"other/one", 0o600), chmod(b"marked", 0o600)],
    ),
    "modes": Story(
        [
            chmod(b"dir/deeper/deepest/file", 0o600),
            chmod(b"dir/deeper/deepest/file", 0o640),
            chmod(b"other/below", 0o700),
            chmod(b"", 0o700),
        ]
    ),
    "times of files": Story(
        [utimens(b"dir/deeper/same"), utimens(b"dir/deeper/same", 5), utimens(b"link"), utimens(b"plain")]
    ),
    "times of directories": Story([utimens(b"dir/deeper/deepest"), utimens(b"other"), utimens(b"")]),
    "new entries": Story(
        [
            create(b"dir/deeper/deepest/new"),
            mkdir(b"other/below/new"),
            create(b"other/below/new/file"),
            symlink(b"anywhere", b"pair/symlink"),
        ]
    ),
    "rename a file": Story(
        [
            rename(b"plain", b"dir/deeper/deepest/moved"),
            rename(b"dir/deeper/deepest/moved", b"other/moved"),
            rename(b"other/moved", b"plain"),
            rename(b"link", b"dir/link"),
            rename(b"dir/program", b"program", RENAME_NOREPLACE),
        ]
    ),
    "rename a directory": Story(
        [
            rename(b"dir/deeper", b"other/below/deeper"),
            rename(b"other/below/deeper/same", b"dir/same"),
            rename(b"other/below", b"below"),
            rename(b"below/deeper", b"dir/deeper"),
            create(b"dir/deeper/deepest/new"),
        ]
    ),
    "rename over a file": Story(
        [rename(b"plain", b"other/one"), rename(b"own", b"large"), rename(b"other/two", b"own 2")],
        [create(b"own"), create(b"own 2")],
    ),
    "rename over a file of the patch that covers one": Story(
        [rename(b"other/two", b"plain"), unlink(b"plain"), create(b"plain")], [put_in(b"plain", b"changed")]
    ),
    "rename over an empty directory": Story([rename(b"other", b"hollow"), unlink(b"hollow/one")]),
    "rename over an empty directory of the patch": Story([rename(b"other", b"own")], [mkdir(b"own")]),
    "rename over an emptied directory": Story(
        [rename(b"other/below", b"single"), unlink(b"single/three"), rmdir(b"single"), mkdir(b"single")],
        [unlink(b"single/one")],
    ),
    "rename a directory of the patch over an emptied one": Story(
        [rename(b"own", b"single"), rmdir(b"single")], [unlink(b"single/one"), mkdir(b"own")]
    ),
    "exchange": Story(
        [
            exchange(b"plain", b"other/one"),
            exchange(b"large", b"dir/deeper"),
            exchange(b"own", b"link"),
            exchange(b"pair", b"hollow"),
            exchange(b"plain", b"dir"),
        ],
        [create(b"own")],
    ),
    "unlink": Story(
        [
            unlink(b"plain"),
            unlink(b"large"),
            unlink(b"other/one"),
            unlink(b"link"),
            unlink(b"dir/deeper/deepest/file"),
        ],
        [put_in(b"large", b"own"), chmod(b"other/one", 0o600)],
    ),
    "remove directories": Story(
        [rmdir(b"hollow"), rmdir(b"single"), rmdir(b"own"), rmdir(b"renamed"), rmdir(b"other/below")],
        [
            unlink(b"single/one"),
            mkdir(b"own"),
            rename(b"pair", b"renamed"),
            unlink(b"renamed/one"),
            unlink(b"renamed/two"),
            chmod(b"other/below", 0o700),
            rename(b"other/below/three", b"three"),
        ],
    ),
    "a file becomes a directory and one again": Story(
        [
            unlink(b"plain"),
            mkdir(b"plain"),
            create(b"plain/file"),
            unlink(b"plain/file"),
            rmdir(b"plain"),
            create(b"plain"),
        ]
    ),
    "a directory becomes a file and one again": Story(
        [
            unlink(b"single/one"),
            rmdir(b"single"),
            create(b"single"),
            unlink(b"single"),
            mkdir(b"single"),
            create(b"single/one"),
        ]
    ),
    "remove all of a directory and make it anew": Story(
        [
            unlink(b"dir/program"),
            unlink(b"dir/deeper/same"),
            unlink(b"dir/deeper/deepest/file"),
            rmdir(b"dir/deeper/deepest"),
            rmdir(b"dir/deeper"),
            rmdir(b"dir"),
            mkdir(b"dir"),
            create(b"dir/program"),
            mkdir(b"dir/deeper"),
            rename(b"plain", b"dir/deeper/same"),
        ]
    ),
}


# Operations


def patch(case: Case, name: bytes, ref: str, *edits: Op) -> ViewFilesystem:
    """Starts a patch and changes it."""
    case.start(name, lambda _: None)
    set_base(case, ref, name)
    fs = case.mounted(name)
    for op in edits:
        op(fs)
    return fs


def set_base(case: Case, ref: str, name: bytes = JOB) -> None:
    case.volume.set_base(case.collection, case.volume.trees.get(NAME, name), ref, Request(wait=0))


def finish(case: Case) -> None:
    case.finish(JOB)


def rebase(case: Case) -> None:
    set_base(case, "best")


def colliding_rebase(case: Case) -> None:
    """The first rebase is refused and reports the collisions; the next one succeeds."""
    with contextlib.suppress(Collision):
        rebase(case)


def refused(act: Callable[[Case], object]) -> Callable[[Case], None]:
    """Wraps an operation that raises Collision."""

    def acts(case: Case) -> None:
        with pytest.raises(Collision):
            act(case)

    return acts


def _prepare_started(case: Case) -> None:
    case.commit(b"base", layered, "best")
    case.start(JOB, lambda _: None)


def _prepare_untouched(case: Case) -> None:
    case.commit(b"base", layered)
    case.commit(b"next", moved)
    patch(case, JOB, "v0", settle)


def _prepare_pinned(case: Case) -> None:
    case.commit(b"base", layered, "best")
    case.commit(b"next", moved, "best")
    patch(case, JOB, "v0", edit)


def _prepare_followed(case: Case) -> None:
    case.commit(b"base", layered, "best")
    patch(case, JOB, "best", edit)


def _prepare_moved(case: Case) -> None:
    _prepare_followed(case)
    case.commit(b"next", moved, "best")


def _prepare_colliding(case: Case) -> None:
    _prepare_followed(case)
    case.commit(b"next", colliding, "best")


def _prepare_shown(case: Case) -> None:
    _prepare_colliding(case)
    refused(finish)(case)


def _prepare_gc(case: Case) -> None:
    """Patches of deleted versions: pinned, untouched, with a base that moved, and rebased."""
    case.commit(b"base", layered, "best")
    patch(case, b"followed", "best", edit)
    patch(case, b"pinned", "v0", edit)
    patch(case, b"rebased", "best", edit)
    patch(case, b"untouched", "v0", settle)
    case.commit(b"next", moved, "best")
    set_base(case, "best", b"rebased")
    put_at(case.mounted(b"rebased"), b"large", b"written after the rebase")
    settle(case.mounted(b"rebased"))
    case.commit(b"last", last, "best")
    case.commit(b"garbage", small)
    for number in (0, 1, 3):
        case.collection.delete_version(number)


def _prepare_link(case: Case) -> None:
    other = case.volume.catalog.create("zoo")
    case.volume.start(other, b"base")
    layered(case.volume.path / "collections/zoo/pending/base/tree")
    case.volume.finish(other, b"base", Request(wait=0))
    case.start(JOB, lambda _: None)


def make_link(case: Case) -> None:
    case.volume.set_link(case.collection, case.volume.trees.get(NAME, JOB), "zoo:v0", Request(wait=0))


BASES = {
    "set a base": Scenario(_prepare_started, lambda case: set_base(case, "v0")),
    "set another base": Scenario(_prepare_untouched, lambda case: set_base(case, "v1")),
    "take the base away": Scenario(_prepare_untouched, lambda case: set_base(case, "")),
    # Between its two steps it is a plain patch of the same version.
    "make a link": Scenario(_prepare_link, make_link, between=lambda case: set_base(case, "zoo:v0")),
    "rebase": Scenario(_prepare_moved, rebase),
    "rebase that collides": Scenario(_prepare_colliding, colliding_rebase),
    "rebase after a collision": Scenario(_prepare_shown, rebase),
}

FINISHES = {
    "finish a patch": Scenario(_prepare_pinned, lambda case: case.finish(JOB, "best")),
    "finish an untouched patch": Scenario(_prepare_untouched, lambda case: case.finish(JOB, "best")),
    "finish with the alias that is the base": Scenario(
        _prepare_followed, lambda case: case.finish(JOB, "best", "more")
    ),
    "finish onto a base that moved": Scenario(_prepare_moved, lambda case: case.finish(JOB, "best")),
    "finish that collides": Scenario(_prepare_colliding, refused(finish)),
}

GC = {"gc": Scenario(_prepare_gc, lambda case: case.volume.maintenance.gc())}


def finish_all(case: Case) -> dict[bytes, Tree]:
    """Finishes all pending versions, the patch winning each collision; returns the resulting trees."""
    found: dict[bytes, Tree] = {}
    for name in pending_names(case.collection):
        base = case.volume.trees.get(NAME, name).base()
        shown = case.entries(name)
        moved = base is not None and base.follows and f"v{case.collection.resolve(base.ref)}" != base.version
        try:
            answer = case.finish(name)
        except Collision as error:
            paths = error.paths
            with pytest.raises(Collision) as again:
                case.finish(name)
            assert again.value.paths == paths
            set_base(case, "best", name)
            moved, shown = False, case.entries(name)
            answer = case.finish(name)
        found[name] = settled(case.version(answer.version))
        if not moved:
            case.check_finished(name, shown, answer)
    assert pending_names(case.collection) == []
    return found


def write_all(case: Case) -> None:
    """Changes each file of the pending versions; asserts that nothing else changes, nor a version."""
    versions = case.state().versions
    for name in pending_names(case.collection):
        before = case.entries(name)
        case.write_to_all(name)
        after = case.entries(name)
        assert after.keys() == before.keys()
        for path, entry in after.items():
            wanted = before[path]
            if entry.kind == stat.S_IFREG:
                wanted = replace(wanted, content=entry.content, mtime=entry.mtime)
            assert entry == wanted, path
    case.check_sound()
    assert case.state().versions == versions


def check_one_of(state: State, allowed: list[State], at: str) -> None:
    """Fails with the paths that differ, since a whole state is too large to read."""
    if state in allowed:
        return
    lines = [at]
    for number, wanted in enumerate(allowed):
        lines.append(f"differs from allowed state {number}:")
        if replace(state, pending={}) != replace(wanted, pending={}):
            lines.append("    in versions, aliases and ids")
        for name in state.pending.keys() | wanted.pending.keys():
            one, other = (found.pending.get(name, ({}, None)) for found in (state, wanted))
            if one[1] != other[1]:
                lines.append(f"    {name!r}: {one[1]} instead of {other[1]}")
            paths = sorted(one[0].keys() | other[0].keys())
            pairs = ((path, one[0].get(path), other[0].get(path)) for path in paths)
            lines += [f"    {name!r}/{path!r}: {a} instead of {b}" for path, a, b in pairs if a != b]
    pytest.fail("\n".join(lines))


def timeless(state: State) -> State:
    """Drops the times of pending directories, which invisible steps change and restore."""
    pending = {
        name: ({path: _timeless_entry(entry) for path, entry in tree.items()}, about)
        for name, (tree, about) in state.pending.items()
    }
    return replace(state, pending=pending)


def _timeless_entry(entry: Entry) -> Entry:
    return replace(entry, mtime=0) if stat.S_ISDIR(entry.kind) else entry
