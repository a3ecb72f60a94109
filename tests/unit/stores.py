"""Helpers of the tests of the store: a volume, trees made of plain dicts, another user, crashes."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from artfs.model.digest import Algorithm, BlobId
from artfs.model.entry import DirEntry, Entry, FileEntry
from artfs.model.tree import build
from artfs.store import durable
from artfs.store.layout import Layout
from artfs.store.objects import ObjectStore
from artfs.store.shards import blob_path

Result = TypeVar("Result")
Files = Mapping[str, "bytes | Files"]


class Volume:
    """A layout and its store."""

    def __init__(self, path: Path, algorithm: Algorithm = Algorithm.XXH128) -> None:
        self.path = path
        self.layout = Layout.init(path, algorithm)
        self.store = ObjectStore(self.layout.fd, self.layout.algorithm)

    def close(self) -> None:
        self.store.close()
        self.layout.close()

    def blob_file(self, blob: BlobId) -> Path:
        return self.path / "objects/blobs" / blob_path(blob).decode()

    def add(self, data: bytes) -> BlobId:
        """Stores bytes in a linked file, as a seal does."""
        source = self.path / "collections" / f"source-{os.urandom(4).hex()}"
        source.write_bytes(data)
        with opened(source) as fd:
            blob, stored = self.store.identify(self.store.hash_fd(fd), fd)
        if not stored:
            with directory(source.parent) as parent:
                self.store.link(blob, parent, source.name.encode())
        source.unlink()
        return blob

    def tree(self, files: Files, name: bytes = b"") -> DirEntry:
        """Stores a tree and returns its root entry."""
        entries: list[Entry] = []
        for key, value in files.items():
            if isinstance(value, bytes):
                entries.append(FileEntry(key.encode(), 0o644, 0, 0, 0, len(value), self.add(value)))
            else:
                entries.append(self.tree(value, key.encode()))
        entries.sort(key=lambda entry: entry.name)
        summary = build(entries, self.store.algorithm, self.store.put)
        return summary.directory(name, 0o755, 0, 0, 0)


@contextmanager
def opened(path: Path, flags: int = os.O_RDONLY) -> Iterator[int]:
    fd = os.open(path, flags)
    try:
        yield fd
    finally:
        os.close(fd)


def directory(path: Path):
    return opened(path, os.O_RDONLY | os.O_DIRECTORY)


def as_nobody(function: Callable[[Path], None]) -> None:
    """Runs a function as an ordinary user, in a directory of its own. Root forks a child for it."""
    place = Path(tempfile.mkdtemp(prefix="artfs-test-", dir="/tmp"))  # pytest's own is closed to others
    try:
        if os.geteuid() != 0:
            function(place)
            return
        os.chown(place, 65534, 65534)
        child = os.fork()
        if child == 0:
            status = 1
            try:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
                function(place)
                status = 0
            except BaseException:  # noqa: BLE001
                traceback.print_exc()
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0
    finally:
        shutil.rmtree(place)


def in_threads(count: int, function: Callable[[int], Result]) -> list[Result]:
    """Calls a function with 0, 1, ... in threads that begin together; returns the results in this order."""
    ready = threading.Barrier(count)

    def run(number: int) -> Result:
        ready.wait(10)
        return function(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


def crash_points(action: Callable[[], None]) -> list[str]:
    """Runs an action and returns the labels of its durable steps."""
    labels: list[str] = []
    durable.step = labels.append
    try:
        action()
    finally:
        durable.step = durable._nothing
    return labels


def crash_at(number: int, action: Callable[[], None]) -> None:
    """Runs an action in a child that dies before the durable step of that number."""
    child = os.fork()
    if child == 0:
        left = [number]

        def step(_label: str) -> None:
            if left[0] == 0:
                os._exit(77)
            left[0] -= 1

        durable.step = step
        try:
            action()
        finally:
            os._exit(1)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status == 77, status
