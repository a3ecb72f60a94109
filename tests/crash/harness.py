"""What the crash tests share: things to do to a volume, what is to be seen of it, and the crashes.

A scenario is prepared and acted many times, each time in a fresh volume, so that each time the same durable
steps come. A crash is the end of a forked process: no handler runs, nothing is cleaned up, and the kernel
drops its locks. What a power failure does to unsynced writes is not tried here; so fsync is left out, where
it only takes time.
"""

from __future__ import annotations

import os
import shutil
import stat
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from artfs.catalog.collection import Collection
from artfs.model.digest import TreeId
from artfs.model.entry import DirEntry, FileEntry, SymlinkEntry
from artfs.pending.draft import Settings
from artfs.pending.tree import PendingTree
from artfs.seal.seal import Answer, Request
from artfs.store import durable
from artfs.view.view import View
from artfs.volume import Volume
from tests.conformance.helpers import write
from tests.conformance.view import Kernel, ViewFilesystem

NAME = "model"
OLD = 981_173_106 * 10**9 + 123_456_789
_CRASHED = 77

Step = Callable[[str], None]


@dataclass(frozen=True)
class Entry:
    """An entry of a tree, pending or sealed."""

    kind: int
    mode: int
    mtime: int
    content: bytes = b""
    xattrs: tuple[tuple[bytes, bytes], ...] = ()


Tree = dict[bytes, Entry]


@dataclass
class State:
    """All that users see of a collection, but for times of creation."""

    type: str
    versions: dict[str, tuple[Tree, Any]]
    aliases: dict[str, str]
    ids: dict[bytes, str]
    pending: dict[bytes, tuple[Tree, Any]]


@dataclass
class Case:
    """The collection of a scenario, in an open volume."""

    volume: Volume
    view: View = field(init=False)
    kernel: Kernel = field(init=False)

    def __post_init__(self) -> None:
        self.kernel = Kernel()
        self.view = View(self.volume, self.kernel)

    @property
    def collection(self) -> Collection:
        return self.volume.catalog.collection(NAME)

    def start(self, name: bytes, files: Callable[[Path], None], **settings: Any) -> PendingTree:
        tree = self.volume.start(self.collection, name, settings=Settings(**settings))
        files(self.tree(name))
        return tree

    def finish(self, name: bytes, *aliases: str) -> Answer:
        return self.volume.finish(self.collection, name, Request(aliases, wait=0, by="tester"))

    def commit(self, name: bytes, files: Callable[[Path], None], *aliases: str) -> Answer:
        self.start(name, files)
        return self.finish(name, *aliases)

    def tree(self, name: bytes) -> Path:
        return self.volume.path / "collections" / NAME / "pending" / os.fsdecode(name) / "tree"

    def mounted(self, name: bytes) -> ViewFilesystem:
        """The pending tree as a mount shows it."""
        root = self.view.pending(self.volume.pending(NAME, name))
        return ViewFilesystem(self.kernel, root, self.volume)

    # What is to be seen

    def state(self) -> State:
        collection = self.collection
        notes = {record.version: collection.notes(record.number) for record in collection.versions()}
        names = os.listdir(self.volume.path / "collections" / NAME / "ids")
        ids = {os.fsencode(name): collection.finished(os.fsencode(name)) for name in names if name[0] != "."}
        return State(
            type=collection.type,
            versions={
                record.version: (
                    self.sealed(record.root.entry()),
                    (record.runs, record.id, _without_time(notes[record.version])),
                )
                for record in collection.versions()
            },
            aliases=collection.aliases(),
            ids={name: f"v{number}" for name, number in ids.items() if number is not None},
            pending={name: self.pending(name) for name in self.volume.pending_names(collection)},
        )

    def pending(self, name: bytes) -> tuple[Tree, Any]:
        draft = self.volume.pending(NAME, name).draft
        tree = self.below(self.tree(name))
        if len(tree) == 1:
            tree = {path: replace(entry, mtime=0) for path, entry in tree.items()}  # that of its start
        return tree, (draft.settings(), draft.metadata(), draft.joined())

    def below(self, root: Path) -> Tree:
        """Reads a pending tree behind the back of artfs."""
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

    # What must hold whatever happened

    def check_sound(self) -> None:
        """No version misses anything, and no stored blob, also of those that none needs, was written to."""
        report = self.volume.check()
        assert report.sound, report.findings
        for blob in self.volume.store.blobs():
            assert not self.volume.store.verify_blob(blob)[2], blob

    def write_to_all(self, name: bytes) -> None:
        """Changes each file of a pending tree, by way of the view: in place, by a truncation, wholly."""
        fs = self.mounted(name)
        files = [path for path, entry in self.below(self.tree(name)).items() if entry.kind == stat.S_IFREG]
        for index, path in enumerate(sorted(files)):
            if index % 3 == 0:
                with fs.open(path, os.O_RDWR) as file:
                    file.pwrite(b"written in place", 0)
            elif index % 3 == 1:
                fs.truncate(path, 3)
            else:
                write(fs, path, b"wholly new")

    def finish_all(self) -> None:
        """Each pending version becomes one whose tree is the pending one, entry by entry."""
        for name in self.volume.pending_names(self.collection):
            tree = self.below(self.tree(name))
            answer = self.finish(name)
            number = int(answer.version[1:])
            assert self.collection.finished(name) == number
            sealed = self.sealed(self.collection.record(number).root.entry())
            if answer.unchanged:
                tree = {path: _content_only(entry) for path, entry in tree.items()}
                sealed = {path: _content_only(entry) for path, entry in sealed.items()}
            assert sealed == tree
            assert name not in self.volume.pending_names(self.collection)


def _without_time(notes: Any) -> Any:
    return {name: getattr(notes, name) for name in notes.__struct_fields__ if name != "updated_at"}


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
    """Gives every entry a time that is the same in each run."""
    for directory, names, files in os.walk(root, topdown=False):
        for name in [*names, *files]:
            os.utime(os.path.join(directory, name), ns=(OLD, OLD), follow_symlinks=False)
    os.utime(root, ns=(OLD, OLD))


def many(root: Path) -> None:
    """A tree with one of everything that a version can hold."""
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
    """Shares most of its files with ``many``."""
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
    """Something that is done to a collection: what is there before, and what is done."""

    prepare: Callable[[Case], object]
    act: Callable[[Case], object]
    #: What is done consists of two changes, each of them whole.
    two: bool = False


def _prepare_seal(case: Case) -> None:
    case.start(b"job", many, aliases=("best", "stable"), tags=("t",), description="told").draft.set_metadata(
        b'{"accuracy": 0.5}'
    )


def _prepare_second(case: Case) -> None:
    case.commit(b"first", many, "best")
    case.start(b"job", changed)


def _prepare_unchanged(case: Case) -> None:
    case.commit(b"first", many, "best")
    draft = case.start(b"job", many, aliases=("again",)).draft
    draft.join("run-1")
    draft.leave("run-1")


def _prepare_alias(case: Case) -> None:
    case.commit(b"first", small, "best")
    case.commit(b"second", many)


def _prepare_delete(case: Case) -> None:
    _prepare_alias(case)
    case.collection.update_notes(1, description="soon gone")


def _prepare_gc(case: Case) -> None:
    _prepare_delete(case)
    case.collection.delete_version(1)


def _start(case: Case) -> None:
    case.volume.start(case.collection, b"job", settings=Settings(aliases=("a",)))


SCENARIOS = {
    "start": Scenario(lambda case: None, _start),
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
        _prepare_alias, lambda case: case.collection.rename_alias("best", "better"), two=True
    ),
    "remove an alias": Scenario(_prepare_alias, lambda case: case.collection.remove_alias("best")),
    "delete a version": Scenario(_prepare_delete, lambda case: case.collection.delete_version(1)),
    "discard": Scenario(
        lambda case: case.start(b"job", many), lambda case: case.volume.discard(case.collection, b"job")
    ),
    "gc": Scenario(_prepare_gc, lambda case: case.volume.gc()),
}


@contextmanager
def prepared(path: Path, scenario: Scenario) -> Iterator[Case]:
    """A fresh volume in which a scenario can be acted."""
    with Volume.init(path) as volume:
        volume.catalog.create(NAME)
        case = Case(volume)
        scenario.prepare(case)
        yield case
        join_threads()


# Crashes and errors


@contextmanager
def steps(hook: Step) -> Iterator[None]:
    """Has each durable step announced to ``hook``, until it ends."""
    durable.step = hook
    try:
        yield
    finally:
        durable.step = durable._nothing


def worth_trying(labels: list[str]) -> list[int]:
    """Returns the numbers of the steps, but of many that are alike, one after the other, the ends only.

    The number after the last one is among them: no step is stopped then.
    """
    around = [None, *labels, None]
    return [
        number
        for number in range(len(labels) + 1)
        if number == len(labels) or {around[number], around[number + 2]} != {labels[number]}
    ]


def crash(number: int, action: Callable[[], object]) -> str | None:
    """Runs an action in a process that ends before its durable step of that number; the step's label.

    None if the action came to its end before.
    """
    join_threads()
    labels, ours = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads
        child = os.fork()
    if child == 0:
        left = number

        def count(label: str) -> None:
            nonlocal left
            if left == 0:
                os.write(ours, label.encode())
                os._exit(_CRASHED)
            left -= 1

        try:
            with steps(count):
                action()
                os._exit(0)
        finally:
            os._exit(1)
    os.close(ours)
    with open(labels, "rb") as told:
        label = told.read().decode()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, _CRASHED), f"the action failed: {status}"
    return label if status else None


def remove(path: Path) -> None:
    """Deletes a volume that nobody uses any more."""
    join_threads()
    shutil.rmtree(path)


def join_threads() -> None:
    """Waits for those that empty the trash."""
    for thread in threading.enumerate():
        if thread.name == "artfs-trash":
            thread.join()
