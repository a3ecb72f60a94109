"""Scenarios of the crash tests: what is done to a volume, and the visible state that is compared.

A scenario runs many times, each time in a fresh volume, so that the same durable steps follow;
:mod:`tests.crash.faults` makes them fail. Lost unsynced writes are the subject of tests/power, so fsync is
skipped where it only takes time.
"""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from msgspec import structs

from artfs.catalog.collection import Collection
from artfs.model.digest import TreeId
from artfs.model.entry import DirEntry, FileEntry, SymlinkEntry
from artfs.pending.gate import State as GateState
from artfs.pending.pending_tree import PendingTree
from artfs.pending.pending_version import Owners, PendingLabels
from artfs.seal.seal import Answer, Request
from artfs.store.owners import Owner, this_process
from artfs.vfs.node import ROOT, Node
from artfs.vfs.view import View
from artfs.volume.pending_trees import pending_names
from artfs.volume.volume import Volume
from tests.conformance.helpers import write
from tests.conformance.view import Kernel, ViewFilesystem
from tests.crash.faults import join_threads, remove

NAME = "model"
PRIVATE = b"sdk-0123456789abcdef"
UNKNOWN = Owner(pid=1, host="elsewhere", boot="another one")
DEAD = structs.replace(this_process(), ticks=this_process().ticks + 1)
OLD = 981_173_106 * 10**9 + 123_456_789
RECENT = 1 << 62  # replaces each time since the tests began, so that states of two trials are comparable


@dataclass(frozen=True)
class Entry:
    """An entry of a tree, pending or sealed."""

    kind: int
    mode: int
    mtime: int
    content: bytes = b""
    xattrs: tuple[tuple[bytes, bytes], ...] = ()
    #: The first of the file's names, if it has several in a patch.
    one_with: bytes = b""


Tree = dict[bytes, Entry]


@dataclass
class State:
    """All that users see of a collection, except for times of creation."""

    type: str
    versions: dict[str, tuple[Tree, Any]]
    aliases: dict[str, str]
    ids: dict[bytes, str]
    pending: dict[bytes, tuple[Tree, Any]]
    #: The collection's own metadata and the volume's runs.
    details: Any = None


@dataclass
class Case:
    """The collection of a scenario, in an open volume."""

    volume: Volume
    view: View = field(init=False)
    kernel: Kernel = field(init=False)

    def __post_init__(self) -> None:
        self._seen: dict[DirEntry, Tree] = {}
        self.kernel = Kernel()
        self.view = View(self.volume, self.kernel)

    @property
    def collection(self) -> Collection:
        return self.volume.catalog.collection(NAME)

    def start(self, name: bytes, files: Callable[[Path], None], **labels: Any) -> PendingTree:
        tree = self.volume.start(self.collection, name, labels=PendingLabels(**labels))
        files(self.tree(name))
        return tree

    def finish(self, name: bytes, *aliases: str) -> Answer:
        return self.volume.finish(self.collection, name, Request(aliases, wait=0, by="tester"))

    def discard(self, name: bytes, *, abandoned: bool = False) -> None:
        self.volume.discard(self.collection, self.volume.trees.get(NAME, name), abandoned=abandoned)

    def commit(self, name: bytes, files: Callable[[Path], None], *aliases: str) -> Answer:
        self.start(name, files)
        return self.finish(name, *aliases)

    def tree(self, name: bytes) -> Path:
        return self.volume.path / "collections" / NAME / "pending" / os.fsdecode(name) / "tree"

    def mounted(self, name: bytes) -> ViewFilesystem:
        """The pending tree as a mount shows it."""
        return ViewFilesystem(self.kernel, self.root(name), self.volume)

    def root(self, name: bytes) -> Node:
        return self.view.pending(self.volume.trees.get(NAME, name))

    # The visible state

    def state(self) -> State:
        collection = self.collection
        labels = {record.version: collection.labels(record.number) for record in collection.versions()}
        names = os.listdir(self.volume.path / "collections" / NAME / "ids")
        ids = {os.fsencode(name): collection.finished(os.fsencode(name)) for name in names if name[0] != "."}
        return State(
            type=collection.type,
            versions={
                record.version: (
                    self._settled(record.root.entry()),
                    (record.runs, record.id, _without_time(labels[record.version])),
                )
                for record in collection.versions()
            },
            aliases=collection.aliases(),
            ids={name: f"v{number}" for name, number in ids.items() if number is not None},
            pending={name: self.pending(name) for name in pending_names(collection)},
            details=(collection.description, collection.tags, collection.ttl, collection.scope, self.runs()),
        )

    def runs(self) -> dict[str, Any]:
        """The volume's runs without their times."""
        runs = [self.volume.runs.read(name) for name in self.volume.runs.ids()]
        return {run.id: (run.state, bool(run.ended_at), run.inputs, run.outputs) for run in runs}

    def pending(self, name: bytes) -> tuple[Tree, Any]:
        tree = self.volume.trees.get(NAME, name)
        pending_version, base = tree.pending_version, tree.base()
        shown = settled(self.entries(name))
        return shown, (
            pending_version.labels(),
            pending_version.metadata(),
            pending_version.runs.names(),
            pending_version.abandoned(),
            base,
        )

    def entries(self, name: bytes) -> Tree:
        """Reads a patch through the view, any other pending tree directly from the disk."""
        if self.volume.trees.get(NAME, name).lower is None:
            return self.below(self.tree(name))
        return self.shown(name)

    def shown(self, name: bytes) -> Tree:
        """Reads a pending tree through the view, whose cache keeps what was seen before."""
        found: Tree = {}
        names: dict[int, list[bytes]] = {}
        todo: list[tuple[bytes, Node]] = [(b"", self.root(name))]
        while todo:
            path, node = todo.pop()
            attributes = node.attributes()
            kind, content = stat.S_IFMT(attributes.mode), b""
            if kind == stat.S_IFREG:
                handle = node.open(os.O_RDONLY, ROOT)
                content = handle.read(0, attributes.size + 1)
                handle.release()
            elif kind == stat.S_IFLNK:
                content = node.target()
            else:
                listed = _listed(node)
                assert len(set(listed)) == len(listed), path
                for below in listed:
                    entry = self.kernel.lookup(node, below)
                    assert entry is not None, (path, below)
                    todo.append((path + b"/" + below if path else below, entry))
            if kind != stat.S_IFDIR:
                assert len(content) == attributes.size, path
                names.setdefault(node.ino, []).append(path)
            keys = [] if kind == stat.S_IFLNK else sorted(node.xattrs())
            xattrs = tuple((key, node.xattr(key)) for key in keys)
            mode = stat.S_IMODE(attributes.mode)
            found[path] = Entry(kind, mode, attributes.mtime_ns, content, xattrs)
        for paths in names.values():
            if len(paths) > 1:
                for path in paths:
                    found[path] = replace(found[path], one_with=min(paths))
        return found

    def below(self, root: Path) -> Tree:
        """Reads a pending tree from the disk, without artfs."""
        found: Tree = {}
        todo = [b""]
        top = os.fsencode(root)
        while todo:
            path = todo.pop()
            full = os.path.join(top, path) if path else top
            status = os.lstat(full)
            kind = stat.S_IFMT(status.st_mode)
            content = b""
            xattrs: tuple[tuple[bytes, bytes], ...] = ()
            if kind == stat.S_IFREG:
                with open(full, "rb") as file:
                    content = file.read()
            elif kind == stat.S_IFLNK:
                content = os.readlink(full)
            else:
                todo += [os.path.join(path, name) for name in os.listdir(full)]
            if kind != stat.S_IFLNK:
                names = sorted(os.fsencode(name) for name in os.listxattr(full) if name.startswith("user."))
                xattrs = tuple((name, os.getxattr(full, name)) for name in names)
            mode = 0o777 if kind == stat.S_IFLNK else stat.S_IMODE(status.st_mode)
            found[path] = Entry(kind, mode, status.st_mtime_ns, content, xattrs)
        return found

    def sealed(self, root: DirEntry) -> Tree:
        """Reads a version from the store."""
        found: Tree = {b"": Entry(stat.S_IFDIR, root.mode, root.mtime_ns, xattrs=root.xattrs)}

        def descend(path: bytes, tree: TreeId) -> None:
            for _, entry in self.volume.store.reader.entries(tree):
                below = path + b"/" + entry.name if path else entry.name
                if isinstance(entry, DirEntry):
                    found[below] = Entry(stat.S_IFDIR, entry.mode, entry.mtime_ns, xattrs=entry.xattrs)
                    descend(below, entry.tree)
                elif isinstance(entry, SymlinkEntry):
                    found[below] = Entry(stat.S_IFLNK, 0o777, entry.mtime_ns, entry.target)
                else:
                    assert isinstance(entry, FileEntry)
                    fd = self.volume.store.open_blob(entry.blob, entry.size)
                    with open(fd, "rb") as file:
                        content = file.read()
                    found[below] = Entry(stat.S_IFREG, entry.mode, entry.mtime_ns, content, entry.xattrs)

        descend(b"", root.tree)
        return found

    def _settled(self, root: DirEntry) -> Tree:
        # Read once: check_sound finds changed objects.
        if root not in self._seen:
            self._seen[root] = settled(self.sealed(root))
        return self._seen[root]

    def version(self, ref: str) -> Tree:
        """Reads the version of an alias or version name."""
        return self.sealed(self.collection.record(self.collection.resolve(ref)).root.entry())

    # Invariants

    def check_sound(self) -> None:
        """Asserts that no version misses an object, and that no blob, needed or not, was modified."""
        report = self.volume.maintenance.check()
        assert report.sound, report.findings
        for blob in self.volume.store.blobs():
            assert not self.volume.store.verify_blob(blob)[2], blob

    @property
    def is_committed(self) -> bool:
        """Whether a version exists whose finish has not completed."""
        names = pending_names(self.collection)
        return any(self.volume.trees.get(NAME, name).gate.state is GateState.COMMITTED for name in names)

    def write_to_all(self, name: bytes) -> None:
        """Changes each file of a pending tree through the view: in place, by truncation, or completely."""
        fs = self.mounted(name)
        files = [path for path, entry in self.entries(name).items() if entry.kind == stat.S_IFREG]
        for index, path in enumerate(sorted(files)):
            if index % 3 == 0:
                with fs.open(path, os.O_RDWR) as file:
                    file.pwrite(b"written in place", 0)
            elif index % 3 == 1:
                fs.truncate(path, 3)
            else:
                write(fs, path, b"wholly new")

    def finish_all(self) -> None:
        """Finishes each pending version, and compares the version with the pending tree."""
        for name in pending_names(self.collection):
            tree = self.entries(name)
            self.check_finished(name, tree, self.finish(name))

    def check_finished(self, name: bytes, tree: Tree, answer: Answer) -> None:
        """Asserts that the id became a version whose entries are those of ``tree``."""
        assert self.collection.finished(name) == int(answer.version[1:])
        tree = {path: replace(entry, one_with=b"") for path, entry in tree.items()}
        sealed = self.version(answer.version)
        if answer.unchanged:
            tree = {path: _content_only(entry) for path, entry in tree.items()}
            sealed = {path: _content_only(entry) for path, entry in sealed.items()}
        assert sealed == tree
        assert name not in pending_names(self.collection)


def _listed(directory: Node) -> list[bytes]:
    listing = directory.listing()
    try:
        listing.rewind()
        return [entry.name for entry in listing.entries(0)]
    finally:
        listing.release()


def settled(tree: Tree) -> Tree:
    """Replaces the times of changes since the tests began by one value."""
    return {
        path: entry if entry.mtime == OLD else replace(entry, mtime=RECENT) for path, entry in tree.items()
    }


def _without_time(labels: Any) -> Any:
    return {name: getattr(labels, name) for name in labels.__struct_fields__ if name != "updated_at"}


def _content_only(entry: Entry) -> Entry:
    return Entry(entry.kind, 0, 0, entry.content)


# Files


def put(root: Path, path: str, content: bytes, mode: int = 0o644) -> Path:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    file.chmod(mode)
    return file


def settle_times(root: Path) -> None:
    """Gives every entry the same fixed time."""
    for directory, names, files in os.walk(root, topdown=False):
        for name in [*names, *files]:
            os.utime(os.path.join(directory, name), ns=(OLD, OLD), follow_symlinks=False)
    os.utime(root, ns=(OLD, OLD))


def many(root: Path) -> None:
    """Makes a tree with one entry of every kind that a version can hold."""
    put(root, "plain", b"plain")
    put(root, "dir/program", b"#!/bin/sh\n#", 0o755)
    put(root, "dir/deeper/same", b"same")
    put(root, "dir/deeper/same again", b"same")
    put(root, "dir/unreadable", b"secret", 0o000)
    put(root, "empty", b"")
    put(root, "other/large", bytes(range(200)) * 2_000)
    os.link(root / "plain", root / "other" / "a second name")
    (root / "empty directory").mkdir(mode=0o700)
    os.symlink("dir/program", root / "link")
    os.setxattr(root / "plain", "user.key", b"value")
    os.setxattr(root / "dir", "user.of", b"a directory")
    settle_times(root)


def changed(root: Path) -> None:
    """Makes a tree that shares most of its files with :func:`many`."""
    many(root)
    put(root, "plain", b"changed")
    put(root, "dir/new", b"new")
    (root / "empty").unlink()
    settle_times(root)


def small(root: Path) -> None:
    put(root, "small", b"small")
    settle_times(root)


# Scenarios


@dataclass(frozen=True)
class Scenario:
    """An operation on a collection, and what it needs to exist before."""

    prepare: Callable[[Case], object]
    act: Callable[[Case], object]
    #: The state between the two changes of which the operation consists.
    between: Callable[[Case], object] | None = None
    #: Whether its errors are only logged, so that they do not fail other operations.
    forgives: bool = False


def _prepare_seal(case: Case) -> None:
    case.start(
        b"job", many, aliases=("best", "stable"), tags=("t",), description="details"
    ).pending_version.set_metadata(b'{"accuracy": 0.5}')


def _prepare_second(case: Case) -> None:
    case.commit(b"first", many, "best")
    case.start(b"job", changed)


def _prepare_unchanged(case: Case) -> None:
    case.start(b"first", many, tags=("old",), description="before").pending_version.set_metadata(
        b'{"a": 1, "b": 1}'
    )
    case.finish(b"first", "best")
    pending_version = case.start(
        b"job", many, aliases=("again",), tags=("new",), description="after"
    ).pending_version
    pending_version.set_metadata(b'{"b": 2, "c": 3}')
    pending_version.runs.join("run-1")
    pending_version.runs.leave("run-1")


def _prepare_alias(case: Case) -> None:
    case.commit(b"first", small, "best")
    case.commit(b"second", many)


def _prepare_delete(case: Case) -> None:
    _prepare_alias(case)
    case.collection.update_labels(1, description="soon gone")


def _prepare_gc(case: Case) -> None:
    _prepare_delete(case)
    case.collection.delete_version(1)


def _start(case: Case) -> None:
    case.volume.start(case.collection, b"job", labels=PendingLabels(aliases=("a",)))


def _start_for_a_process(case: Case) -> None:
    case.volume.start(case.collection, PRIVATE, owners=Owners((DEAD,)))


SCENARIOS = {
    "start": Scenario(lambda case: None, _start),
    "start for a process": Scenario(lambda case: None, _start_for_a_process),
    "discard what is abandoned": Scenario(
        _start_for_a_process, lambda case: case.discard(PRIVATE, abandoned=True)
    ),
    "own what another process started": Scenario(
        _start_for_a_process, lambda case: case.volume.trees.get(NAME, PRIVATE).pending_version.own(UNKNOWN)
    ),
    "seal": Scenario(_prepare_seal, lambda case: case.finish(b"job", "extra")),
    "seal an empty tree": Scenario(
        lambda case: case.start(b"job", settle_times),
        lambda case: case.finish(b"job"),
    ),
    "seal with files that are stored": Scenario(
        _prepare_second, lambda case: case.finish(b"job", "best", "newest")
    ),
    "seal what is unchanged": Scenario(_prepare_unchanged, lambda case: case.finish(b"job", "best", "more")),
    "finish again": Scenario(_prepare_alias, lambda case: case.finish(b"second", "best")),
    "move an alias": Scenario(_prepare_alias, lambda case: case.collection.set_alias("best", "v1")),
    "rename an alias": Scenario(
        _prepare_alias,
        lambda case: case.collection.rename_alias("best", "better"),
        between=lambda case: case.collection.set_alias("better", "v0"),
    ),
    "remove an alias": Scenario(_prepare_alias, lambda case: case.collection.remove_alias("best")),
    "delete a version": Scenario(_prepare_delete, lambda case: case.collection.delete_version(1)),
    "discard": Scenario(lambda case: case.start(b"job", many), lambda case: case.discard(b"job")),
    "gc": Scenario(_prepare_gc, lambda case: case.volume.maintenance.gc()),
}


@contextmanager
def prepared(path: Path, scenario: Scenario) -> Iterator[Case]:
    """A fresh volume in which a scenario can be run."""
    with Volume.init(path) as volume:
        volume.catalog.create(NAME)
        case = Case(volume)
        scenario.prepare(case)
        yield case
        join_threads()


@contextmanager
def cloned(original: Path, path: Path) -> Iterator[Case]:
    """A copy of a closed volume with its hard links, deleted unless the trial fails."""
    subprocess.run(["cp", "-a", original, path], check=True)
    with Volume.open(path) as volume:
        yield Case(volume)
        join_threads()
    remove(path)
