"""Repair: searches other files for the bytes of damaged blobs, and marks what stays damaged.

Owns: where to search, and when equal digests are enough. Must not know versions. For one thread, which holds
the objects lock shared.

The bytes are always copied, never linked: a file of a pending tree may still be written. Nothing is removed
but the damaged file that a sound copy replaces.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterable, Iterator, Mapping

from artfs.errors import LostRace
from artfs.model.digest import Algorithm, BlobId, digest_of, text
from artfs.store import durable, regular_files
from artfs.store.objects import ObjectStore
from artfs.store.shards import blob_path


class Repair:
    """One attempt to repair some blobs: call the searches, then :meth:`finish`."""

    def __init__(self, store: ObjectStore, damaged: Mapping[BlobId, int], needed: Collection[BlobId]) -> None:
        """``damaged`` are missing or damaged blobs with their sizes, ``needed`` all that versions need."""
        self._store, self._since = store, store.begin()
        self._damaged = dict(damaged)
        self._open = {digest_of(b): b for b in damaged if not self._ambiguous(b, needed)}
        self._replaced: list[BlobId] = []

    def from_store(self, actual: Mapping[BlobId, bytes], surplus: Iterable[BlobId]) -> None:
        """Searches damaged blobs, whose ``actual`` digests are known, and surplus blobs."""
        # All are opened before one is replaced: two may have each other's bytes.
        with contextlib.ExitStack() as stack:
            found = []
            for holder, digest in actual.items():
                blob = self._open.get(digest)
                if blob is not None and blob != holder:
                    with contextlib.suppress(OSError):
                        fd = regular_files.open_regular(self._store.blobs_fd, blob_path(holder))
                        stack.callback(os.close, fd)
                        found.append((blob, fd))
            for blob, fd in found:
                self._try(blob, fd)
        sizes = self._sizes()
        for holder in surplus:
            if self._open and self._store.blob_size(holder) in sizes:
                with contextlib.suppress(OSError):
                    self._look(regular_files.open_regular(self._store.blobs_fd, blob_path(holder)), sizes)

    def from_trees(self, directories: Iterable[int]) -> None:
        """Searches the files below some directories. The caller closes their descriptors."""
        sizes = self._sizes()
        if not self._open:
            return
        for root in directories:
            for dir_fd, name in _regular_files(root, sizes):
                with contextlib.suppress(OSError):
                    self._look(regular_files.open_regular(dir_fd, name), sizes)
                if not self._open:
                    return

    def finish(self) -> dict[str, str]:
        """Makes the copies durable, removes their marks, marks the rest; returns what was done, by text id.

        A missing blob is not marked: reading it fails anyway, and storing its bytes again repairs it.
        """
        if self._replaced:
            self._store.sync(since=self._since)
        done = {}
        for blob in self._replaced:
            self._store.damaged_blobs.remove(blob)
            done[text(blob)] = "replaced"
        for blob in self._damaged.keys() - set(self._replaced):
            if self._store.blob_size(blob) is not None:
                self._store.damaged_blobs.add(blob)
                done[text(blob)] = "marked"
        return done

    def _ambiguous(self, blob: BlobId, needed: Collection[BlobId]) -> bool:
        """Tells whether other bytes may have the same digest: another blob collides with this one."""
        if self._store.algorithm is Algorithm.SHA256:
            return False
        plain = BlobId(blob[: 1 + self._store.algorithm.size])
        others = (plain, BlobId(plain + b"\1"))
        return any(o != blob and (o in needed or self._store.blob_size(o) is not None) for o in others)

    def _sizes(self) -> set[int]:
        return {self._damaged[blob] for blob in self._open.values()}

    def _look(self, fd: int, sizes: set[int]) -> None:
        with durable.closing(fd):
            if os.fstat(fd).st_size in sizes:
                blob = self._open.get(self._store.hash_fd(fd))
                if blob is not None:
                    self._try(blob, fd)

    def _try(self, blob: BlobId, fd: int) -> None:
        if os.fstat(fd).st_size != self._damaged[blob]:
            return
        with contextlib.suppress(LostRace):  # the file was changed after it was hashed
            self._store.replace_blob(blob, fd)
            del self._open[digest_of(blob)]
            self._replaced.append(blob)


def _regular_files(root: int, sizes: set[int]) -> Iterator[tuple[int, bytes]]:
    """Yields the files of some sizes: a directory descriptor, valid until the next step, and a name.

    Holds one descriptor per level, and skips what is deeper than there are descriptors.
    """
    stack: list[tuple[int, list[bytes]]] = [(root, [b"."])]
    try:
        while stack:
            above, names = stack[-1]
            if not names:
                stack.pop()
                if stack:
                    os.close(above)
                continue
            try:
                fd = durable.open_directory(above, names.pop())
            except OSError:
                continue
            below: list[bytes] = []
            stack.append((fd, below))
            with os.scandir(fd) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        below.append(os.fsencode(entry.name))
                    elif entry.is_file(follow_symlinks=False):
                        with contextlib.suppress(FileNotFoundError):
                            if entry.stat(follow_symlinks=False).st_size in sizes:
                                yield fd, os.fsencode(entry.name)
    finally:
        for fd, _ in stack[1:]:
            os.close(fd)
