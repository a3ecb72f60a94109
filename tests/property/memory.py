"""A patch in memory: nodes of the view without FUSE, as a mount would show them."""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
from collections.abc import Iterator
from pathlib import Path

from artfs.catalog.collection import Collection
from artfs.errors import ArtfsError, Collision
from artfs.fuse.errnos import errno_of
from artfs.pending.pending_tree import PendingTree
from artfs.seal.seal import Request
from artfs.store import durable
from artfs.vfs.node import Node
from artfs.vfs.view import View
from artfs.volume.status import describe_pending
from artfs.volume.volume import Volume
from tests.conformance.driver import Filesystem, OpenFile
from tests.conformance.view import Kernel, ViewFile, ViewFilesystem, ready
from tests.property.worlds import Finished, Seat


def _emptied() -> None:
    """Waits for the threads that empty the trash."""
    for thread in threading.enumerate():
        if thread.name == "artfs-trash":
            thread.join()


class _Kernel(Kernel):
    """Forgets a removed directory, whose inode number may be reused."""

    def removed_directory(self, ino: int) -> None:
        for key in [key for key in self._names if key[0] == ino]:
            del self._names[key]


class _Filesystem(ViewFilesystem):
    _kernel: _Kernel

    def at(self, path: bytes) -> Node:
        return self._at(path, follow=False)

    def rmdir(self, path: bytes) -> None:
        node = self._walk(path, follow=False).node
        super().rmdir(path)
        assert node is not None
        self._kernel.removed_directory(node.ino)

    def rename(self, old: bytes, new: bytes, flags: int = 0) -> None:
        nodes: list[Node | None] = []
        with contextlib.suppress(OSError):
            nodes += [self._walk(path, follow=False).node for path in (old, new)]
        super().rename(old, new, flags)
        source, target = nodes
        assert source is not None
        if target is not None and not flags and source.ino != target.ino:
            self._kernel.removed_directory(target.ino)


class ViewWorld:
    """A patch without a mount, as a mount would show it."""

    restarts = True
    fs: _Filesystem
    _collided: list[bytes] | None = None

    def __init__(self, place: Path) -> None:
        self._path = place / "volume"
        self._volume = Volume.init(self._path)
        self._volume.catalog.create("model")
        self._numbers = itertools.count()
        self._mount()
        self.start(None)

    def _mount(self) -> None:
        self._kernel = _Kernel()
        self._view = View(self._volume, self._kernel)

    @property
    def _collection(self) -> Collection:
        return self._volume.catalog.collection("model")

    def start(self, base: str | None) -> None:
        self._name, self._base = self._started(base), base
        self._show()

    def _started(self, base: str | None) -> bytes:
        name = b"job-%d" % next(self._numbers)
        pending = self._volume.start(self._collection, name)
        if base is not None:
            self._volume.set_base(self._collection, pending, base, Request())
        return name

    def _show(self) -> None:
        self._tree = self._volume.trees.get("model", self._name)
        self.fs = _Filesystem(self._kernel, self._view.pending(self._tree), self._volume)

    def finish(self, *, force: bool = False) -> Finished:
        return self._finished(self._tree, force=force)

    def elsewhere(self, base: str | None) -> Filesystem:
        self._other = self._volume.trees.get("model", self._started(base))
        return _Filesystem(self._kernel, self._view.pending(self._other), self._volume)

    def finish_elsewhere(self) -> Finished:
        return self._finished(self._other)

    def rebase(self) -> None:
        assert self._base is not None
        with self._refusals():
            self._view.set_base(self._tree, self._base, Request(wait=0))
        _emptied()
        self._show()

    def collided(self) -> list[bytes] | None:
        return self._collided

    @contextlib.contextmanager
    def _refusals(self) -> Iterator[None]:
        try:
            yield
        except ArtfsError as error:
            self._collided = [path for path, _, _ in error.paths] if isinstance(error, Collision) else None
            code = errno_of(error)
            assert code is not None
            raise OSError(code, str(error)) from error

    def _finished(self, tree: PendingTree, *, force: bool = False) -> Finished:
        with self._refusals():
            answer = self._volume.finish_tree(self._collection, tree, Request(wait=0, force=force))
        report = self._volume.maintenance.check()
        assert report.sound, report.findings
        _emptied()
        return Finished(answer.version, answer.unchanged)

    def version(self, name: str) -> Filesystem:
        collection = self._collection
        version = self._view.sealed(collection, collection.record(int(name[1:])))
        return ViewFilesystem(Kernel(), version.root, self._volume)

    def delete(self, name: str) -> None:
        self._collection.delete_version(int(name[1:]))

    def restart(self) -> None:
        self._close()
        self._volume = Volume.open(self._path)
        self._volume.recover()
        self._mount()
        self._show()

    def forget(self) -> None:
        self._kernel.forget_all()

    def gc(self) -> None:
        self._volume.maintenance.gc()

    def seat(self, path: bytes) -> Seat:
        node = self.fs.at(path)
        return Seat(_Filesystem(self._kernel, node, self._volume), listing=node.listing)

    def reopen(self, file: OpenFile, flags: int) -> OpenFile:
        assert isinstance(file, ViewFile)
        with self.fs.as_daemon():
            return ViewFile(self.fs, file._node, ready(file._node.open, flags, self.fs.caller), flags)

    @contextlib.contextmanager
    def cold(self) -> Iterator[Filesystem]:
        with Volume.open(self._path) as volume:
            view, pending = View(volume), volume.trees.get("model", self._name)
            try:
                yield ViewFilesystem(Kernel(), view.pending(pending), volume)
            finally:
                view.drop(pending)

    def counted(self) -> tuple[int, int]:
        told = describe_pending(self._volume, self._tree)
        return told["files"], told["bytes"]

    def left(self) -> list[bytes]:
        """Lists staged files; the directories are whiteouts, which are removed with the pending version."""
        with durable.directory(self._tree.pending_version.fd, b".") as fd, os.scandir(fd) as found:
            files = [os.fsencode(entry.name) for entry in found if not entry.is_dir(follow_symlinks=False)]
        return [name for name in files if name.startswith(durable.TEMP_PREFIX)]

    def _close(self) -> None:
        self._kernel.forget_all()
        self._view.drop(self._tree)  # breaks reference cycles
        self._volume.close()

    def close(self) -> None:
        self._close()
        _emptied()
