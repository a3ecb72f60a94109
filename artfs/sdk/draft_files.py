"""The files of a draft: how an artifact that is not saved yet is read and changed.

Owns that the bytes go at once to where they stay: into the tree of the pending version. The caller has
checked the arguments.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from artfs.client.transfer.sources import Sources
from artfs.client.transfer.tree_writer import TreeWriter, make_writable
from artfs.client.values import Progress, silent
from artfs.client.version_tree import no_file
from artfs.client.writable_tree import ReferenceTarget, TreeCursor, WritableTree
from artfs.errors import PathNotFound
from artfs.linux.walk import walk
from artfs.sdk import run_context
from artfs.sdk.artifact_draft import ArtifactDraft
from artfs.sdk.download import digest_of, progress_of
from artfs.sdk.manifest_entries import ArtifactManifest, ArtifactManifestEntry

if TYPE_CHECKING:
    from artfs.sdk.artifact import Artifact

Way = Sequence[bytes]
"""The parts of a path."""


class DraftFiles:
    """The files of one draft, for its artifact."""

    def __init__(self, artifact: Artifact, draft: ArtifactDraft) -> None:
        self._artifact, self._draft = artifact, draft

    # -- reading

    def directory(self) -> Path | None:
        return self._draft.start().pending_directory(self._draft.name, self._draft.id)

    def manifest(self) -> ArtifactManifest:
        if not self._draft.has_tree():
            return ArtifactManifest({})
        with self._draft.tree() as tree, tree.cursor() as at:
            found = [self._entry(at, step.name, step.status) for step in walk(at) if not step.leaving]
        by_path = {entry.path: entry for entry in found}
        for line in self._draft.references():
            if (entry := by_path.get(line["path"])) is not None:  # others may fill it
                by_path[entry.path] = replace(
                    entry, kind="reference", size=line["size"], ref=line["uri"], _digest=line["checksum"]
                )
        return ArtifactManifest(by_path)

    def open(self, way: Way) -> int:
        """Opens a file for reading. The caller closes the descriptor. Raises PathNotFound."""
        with self._draft.tree() as tree, tree.cursor() as at:
            try:
                at.go_to(b"/".join(way[:-1]))
                return at.open(way[-1])
            except (FileNotFoundError, NotADirectoryError):
                raise PathNotFound(self._artifact.name, b"/".join(way)) from None
            except OSError as error:
                kind = {errno.EINVAL: "directory", errno.ELOOP: "symlink"}.get(error.errno or 0)
                if kind is None:
                    raise
                raise no_file(b"/".join(way), kind) from None

    def _entry(
        self,
        at: TreeCursor,
        name: bytes,
        status: os.stat_result,
        reference_target: ReferenceTarget | None = None,
    ) -> ArtifactManifestEntry:
        """Returns the entry at a cursor; `reference_target` is that of a reference."""
        path, artifact = os.fsdecode(at.below(name)), self._artifact
        mode = stat.S_IMODE(status.st_mode)
        entry = partial(ArtifactManifestEntry, path, mtime_ns=status.st_mtime_ns, _artifact=artifact)
        if reference_target is not None:
            size, uri, checksum = reference_target.size, reference_target.uri, reference_target.checksum
            return entry(kind="reference", size=size, mode=mode, ref=uri, _digest=checksum)
        if stat.S_ISDIR(status.st_mode):
            return entry(kind="directory", size=0, mode=mode)
        if stat.S_ISLNK(status.st_mode):
            target = os.fsdecode(at.symlink_target(name))
            return entry(kind="symlink", size=0, mode=None, target=target)

        def digest() -> str:
            with artifact.open(path) as file:
                return digest_of(file.fileno(), self._draft.connection.client().algorithm())

        return entry(kind="file", size=status.st_size, mode=mode, _digest=digest)

    # -- changing

    def _writer(
        self, overwrite: bool, total: int = 0, tell: Progress = silent
    ) -> AbstractContextManager[TreeWriter]:
        return self._draft.writer(replace=overwrite, run=run_context.run_id(), total=total, progress=tell)

    @contextlib.contextmanager
    def _entered(self, way: Way, overwrite: bool) -> Iterator[tuple[TreeWriter, TreeCursor]]:
        """Opens the directory of a path, which is made if it is not there."""
        with self._writer(overwrite) as writer, writer.tree.cursor() as at:
            writer.go_to(at, b"/".join(way[:-1]))
            yield writer, at

    @contextlib.contextmanager
    def copy(self, sources: Sources, shown: str, overwrite: bool) -> Iterator[WritableTree]:
        """Copies local files in, with the progress on a terminal; gives the tree in which they are then."""
        sources.check(self._draft.connection.client().is_volume)
        with (
            progress_of(f"adding {os.path.basename(shown)}") as tell,
            self._writer(overwrite, sources.size, tell) as writer,
        ):
            sources.copy(writer)
            yield writer.tree

    def entry(self, tree: WritableTree, way: Way) -> ArtifactManifestEntry:
        with tree.cursor() as at:
            at.go_to(b"/".join(way[:-1]))
            return self._entry(at, way[-1], at.status(way[-1]))

    @contextlib.contextmanager
    def new_file(self, way: Way, *, binary: bool, encoding: str | None, overwrite: bool) -> Iterator[IO[Any]]:
        """Opens a new file for writing, which gets its name if the block ends without an exception."""
        with self._entered(way, overwrite) as (writer, at), writer.new(at, way[-1]) as raw:
            # The buffer holds the object, not its descriptor: once that is closed, and its number another
            # file's, nothing that is still in the buffer is written there.
            buffer = io.BufferedWriter(raw)
            file: IO[Any] = buffer if binary else io.TextIOWrapper(buffer, encoding=encoding)
            yield file
            if not file.closed:
                file.flush()

    def put(self, way: Way, data: bytes, overwrite: bool) -> ArtifactManifestEntry:
        with self._entered(way, overwrite) as (writer, at):
            writer.data(at, way[-1], data)
            return self._entry(at, way[-1], at.status(way[-1]))

    def refer(
        self, found: Sequence[tuple[bytes, ReferenceTarget]], overwrite: bool
    ) -> list[ArtifactManifestEntry]:
        """Adds references by path."""
        entries = []
        with self._writer(overwrite) as writer, writer.tree.cursor() as at:
            writer.references(found)
            for path, reference_target in found:
                directory, _, name = path.rpartition(b"/")
                writer.go_to(at, directory)
                entries.append(self._entry(at, name, at.status(name), reference_target))
        return entries

    def remove(self, way: Way) -> None:
        """Removes an entry with all that is in it. Raises FileNotFoundError or NotADirectoryError."""
        if not self._draft.has_tree():
            raise FileNotFoundError
        with self._draft.tree() as tree, tree.cursor() as at:
            make_writable(tree)
            at.go_to(b"/".join(way[:-1]))
            if stat.S_ISDIR(at.status(way[-1]).st_mode):
                at.enter(way[-1])
                for step in walk(at):
                    if step.leaving or not step.is_directory:
                        at.remove(step.name)
                at.leave()
            at.remove(way[-1])
