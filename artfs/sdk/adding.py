"""What puts files into an artifact, and takes them out again, before it is saved.

Owns the checks of these methods' arguments. The bytes go to where they will stay at once: into the tree of a
pending version.
"""

from __future__ import annotations

import contextlib
import io
import os
import stat
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import IO, Any

from artfs.client.transfer.sources import Excludes, Sources
from artfs.client.transfer.symlink_policy import FollowSymlinks, describe_kept
from artfs.client.transfer.tree_writer import TreeWriter, make_writable
from artfs.client.values import Progress, silent
from artfs.client.writable_tree import ReferenceTarget, TreeCursor, WritableTree
from artfs.errors import InvalidCommand, InvalidName
from artfs.linux.walk import walk
from artfs.sdk import arguments, current, media, objects, progress
from artfs.sdk.arguments import StrPath
from artfs.sdk.draft import Draft
from artfs.sdk.entries import ArtifactManifestEntry
from artfs.sdk.reading import Reading, draft_entry

_POLICIES = ("mutable", "immutable", None)


class Adding(Reading):
    """The half of an artifact that changes it; once it is saved, with ``ArtifactFinalizedError``."""

    _added: dict[str, str] | None = None  # by the local path that the user gave

    def get_added_local_path_name(self, local_path: StrPath) -> str | None:
        """Returns the path within the artifact of a file that was added from `local_path`, None if none was.

        Of a directory that was added each file counts, by the directory's path and its own in there.

        Example:
            >>> artifact.add_file("out/model-final.bin", name="model.bin")
            >>> artifact.get_added_local_path_name("out/model-final.bin")
            'model.bin'
        """
        wanted = os.path.abspath(arguments.fspath("local_path", local_path))
        for source, at in (self._added or {}).items():
            if wanted == source:
                return at or None
            below = os.path.relpath(wanted, source)
            if not below.startswith("..") and os.path.join(at, below) in self.manifest:
                return os.path.join(at, below)
        return None

    def add_file(
        self,
        local_path: StrPath,
        name: StrPath | None = None,
        is_tmp: bool | None = False,
        skip_cache: bool | None = False,
        policy: str | None = "mutable",
        overwrite: bool = False,
    ) -> ArtifactManifestEntry:
        """Adds a file, under `name` or its own name.

        Its bytes are stored when this returns, with mode, mtime and user xattrs; the file may change or go
        then. A symlink means what it leads to. `is_tmp`, `skip_cache` and `policy` are wandb's and change
        nothing here: there is no cache.

        Raises PathConflictError if there is one with other bytes under that name, unless `overwrite`.

        Example:
            >>> artifact.add_file("out/model-final.bin", name="model.bin")
        """
        del is_tmp, skip_cache
        _check_policy(policy)
        source = arguments.fspath("local_path", local_path)
        if not os.path.isfile(source):
            raise ValueError(f"local_path={source!r} is not a file")
        at = arguments.path("name", os.path.basename(source) if name is None else name)
        sources = Sources([os.fsencode(source)], at=at)
        with self._bringing(sources, source, at, overwrite) as tree:
            return self._entry(tree, at)

    def add_dir(
        self,
        local_path: StrPath,
        name: StrPath | None = None,
        skip_cache: bool | None = False,
        policy: str | None = "mutable",
        merge: bool = False,
        *,
        exclude: Sequence[str] | str = (),
        follow_symlinks: str | bool = "outside",
        overwrite: bool = False,
    ) -> None:
        """Adds all that is in a directory, at the top or below `name`.

        Empty directories, modes, mtimes and user xattrs are kept, those of the directory itself too, as
        ``cp -a local_path/.`` keeps them. `exclude` has patterns like those of .gitignore: ``*.tmp`` by name
        at any depth, ``logs/*.txt`` by path, ``cache/`` for directories only. `merge` is wandb's word for
        `overwrite`: what stands under the same path with other bytes is replaced; else it is a
        PathConflictError. On a terminal progress is shown.

        A symlink to something in the directory stays a symlink. One that leads out of it, as in a snapshot of
        Hugging Face's hub, is taken for the file or directory that it leads to; if that is not there, can't
        be read or holds the symlink itself, it stays a symlink, and a UserWarning names it. With
        ``follow_symlinks="never"``, or False, all stay symlinks; with ``"always"``, or True, all are
        followed, and one that can't be is an error.

        Example:
            >>> artifact.add_dir("data/", name="raw", exclude=["*.tmp", ".git/"])
        """
        del skip_cache
        _check_policy(policy)
        source = arguments.fspath("local_path", local_path)
        if not os.path.isdir(source):
            raise ValueError(f"local_path={source!r} is not a directory")
        at = () if name is None else arguments.path("name", name, directory=True)
        excludes = Excludes(arguments.words("exclude", exclude))
        sources = Sources([os.fsencode(source)], excludes, at=at, follow=_follow(follow_symlinks))
        with self._bringing(sources, source, at, overwrite or merge):
            pass
        if kept := describe_kept(sources.kept):
            warnings.warn(kept, stacklevel=2)

    @contextlib.contextmanager
    def _bringing(
        self, sources: Sources, shown: str, at: Sequence[bytes], overwrite: bool
    ) -> Iterator[WritableTree]:
        """Brings the sources, and gives the tree in which they are then."""
        draft = self._open_draft()
        sources.check(self._access().is_volume)
        with (
            progress.shown(f"adding {os.path.basename(os.path.abspath(shown))}") as tell,
            self._writer(draft, overwrite, sources.size, tell) as writer,
        ):
            sources.copy(writer)
            self._added = {**(self._added or {}), os.path.abspath(shown): os.fsdecode(b"/".join(at))}
            yield writer.tree

    def _writer(
        self, draft: Draft, overwrite: bool, total: int = 0, tell: Progress = silent
    ) -> AbstractContextManager[TreeWriter]:
        return draft.writer(replace=overwrite, run=current.run_id(), total=total, progress=tell)

    @contextlib.contextmanager
    def new_file(
        self,
        name: StrPath,
        mode: str = "x",
        encoding: str | None = None,
        policy: str | None = "mutable",
        *,
        overwrite: bool = False,
    ) -> Iterator[IO[Any]]:
        """Opens a new file of the artifact for writing; it is added when the block ends well.

        `mode` is ``x`` or ``w``, with ``b`` for bytes. After an exception nothing is added.

        Example:
            >>> with artifact.new_file("hello.txt") as file:
            ...     written = file.write("hello!")
        """
        _check_policy(policy)
        if mode not in ("x", "w", "xb", "wb", "xt", "wt", "bx", "bw"):
            raise ValueError(f"mode={mode!r} is none for writing: use 'w' or 'wb'")
        *way, last = arguments.path("name", name)
        if encoding is None and "b" not in mode:
            encoding = "utf-8"
        with self._writer(self._open_draft(), overwrite) as writer, writer.tree.cursor() as at:
            writer.go_to(at, b"/".join(way))
            with writer.new(at, last) as raw:
                # Around the object, not its descriptor: once that is closed, and its number another file's,
                # nothing that is still in the buffer is written there.
                buffer = io.BufferedWriter(raw)
                file: IO[Any] = buffer if "b" in mode else io.TextIOWrapper(buffer, encoding=encoding)
                yield file
                if not file.closed:
                    file.flush()

    def add(self, obj: Any, name: StrPath, overwrite: bool = False) -> ArtifactManifestEntry:
        """Adds an object: bytes, text, what JSON can say, or what a library of the object knows to write.

        numpy arrays become ``.npy``, tables of pandas, polars and pyarrow ``.parquet``, PIL images and
        matplotlib figures ``.png``, all else that JSON takes ``.json``; the suffix is added to `name` if it
        is not there. Text under a name without a suffix becomes ``.txt``; bytes and other text stay as they
        are named. ``artfs.Table``, ``artfs.Image`` and what belongs to them become the files that wandb makes
        of them: ``NAME.table.json``, with what they hold in ``media/``. ``get`` gives the object back.

        Raises TypeError for what nobody knows to write; ``artfs.register_type`` adds more.

        Example:
            >>> artifact.add({"classes": ["cat", "dog"]}, "labels")  # labels.json
            >>> artifact.add(numpy.zeros((3, 3)), "weights")  # weights.npy
        """
        if isinstance(obj, media.MediaValue):
            name, obj = media.dumped(obj, os.fspath(name), self)
        *way, last = arguments.path("name", name)
        kind = objects.kind_of(obj)
        last += objects.missing_suffix(kind, os.fsdecode(last)).encode()
        data = kind.dump(obj)
        with self._writer(self._open_draft(), overwrite) as writer, writer.tree.cursor() as at:
            writer.go_to(at, b"/".join(way))
            writer.data(at, last, data)
            return self._entry(writer.tree, (*way, last))

    def add_reference(
        self,
        uri: str | ArtifactManifestEntry,
        name: StrPath | None = None,
        checksum: bool = True,
        max_objects: int | None = None,
        *,
        overwrite: bool = False,
    ) -> Sequence[ArtifactManifestEntry]:
        """Adds files whose bytes stay where they are, and returns their entries.

        `uri` is ``file://``, ``http(s)://``, ``s3://``, ``gs://``, ``az://`` or
        ``artfs://COLLECTION:V/PATH``; or an entry of another saved artifact, of whose file this becomes
        another name. Of a single object `name` is its path, by default the last part of the URI; of a
        directory or prefix all objects are added, below `name`, by default at the top. Symlinks and empty
        directories in a directory are left out.

        With `checksum` it is noted which bytes they are (a digest, or the ETag or version of an object), and
        a read that would give others fails. More than `max_objects` are refused. Object stores and http need
        ``pip install 'artfs[remote]'``.

        The same reference again agrees. Raises PathConflictError for a path that is taken by something else,
        unless `overwrite`, and ReferenceFailed if there is nothing at the URI.

        Example:
            >>> artifact.add_reference("artfs://mnist:best/raw", name="raw")
        """
        given: Any = uri
        given = arguments.uri("uri", given.ref_url() if isinstance(given, ArtifactManifestEntry) else given)
        most = None if max_objects is None else arguments.number("max_objects", max_objects)
        way: tuple[bytes, ...] = () if name is None else arguments.path("name", name, directory=True)
        draft = self._open_draft()
        try:
            found = draft.look(b"/".join(way), given, checksum=bool(checksum), max_objects=most)
        except (InvalidCommand, InvalidName) as error:
            raise ValueError(f"uri: {error}") from None
        with self._writer(draft, overwrite) as writer, writer.tree.cursor() as at:
            writer.references(found)
            return [self._referred(writer, at, path, origin) for path, origin in found]

    def _referred(
        self, writer: TreeWriter, at: TreeCursor, path: bytes, origin: ReferenceTarget
    ) -> ArtifactManifestEntry:
        way, _, name = path.rpartition(b"/")
        writer.go_to(at, way)
        return draft_entry(self, at, name, at.status(name), origin)

    def __setitem__(self, name: str, obj: Any) -> None:
        """Adds an object, as :meth:`add` does."""
        self.add(obj, name)

    def remove(self, item: StrPath | ArtifactManifestEntry) -> None:
        """Takes a file, a link or a whole directory out.

        Raises FileNotFoundError if there is none.

        Example:
            >>> draft = api.artifact("mnist:latest").new_draft()
            >>> draft.remove("raw/b.csv")
            >>> draft.remove("raw/")
        """
        named = item.path if isinstance(item, ArtifactManifestEntry) else item
        way = arguments.path("item", named, directory=True)
        if not way:
            raise ValueError("item is empty: it is a path within the artifact")
        draft = self._open_draft()
        if not draft.started and draft.base is None:
            raise FileNotFoundError(f"the artifact has no {os.fspath(named)!r}")
        with draft.tree() as tree, tree.cursor() as at:
            make_writable(tree)
            try:
                at.go_to(b"/".join(way[:-1]))
                _remove(at, way[-1])
            except (FileNotFoundError, NotADirectoryError):
                raise FileNotFoundError(f"the artifact has no {os.fspath(named)!r}") from None

    def _entry(self, tree: WritableTree, way: Sequence[bytes]) -> ArtifactManifestEntry:
        with tree.cursor() as at:
            at.go_to(b"/".join(way[:-1]))
            return draft_entry(self, at, way[-1], at.status(way[-1]))


def _follow(given: str | bool) -> FollowSymlinks:
    if isinstance(given, bool):
        return FollowSymlinks.ALWAYS if given else FollowSymlinks.NEVER
    try:
        return FollowSymlinks(given)
    except ValueError:
        raise ValueError(f"follow_symlinks={given!r} is none of 'never', 'outside' and 'always'") from None


def _check_policy(policy: str | None) -> None:
    if policy not in _POLICIES:
        raise ValueError(f"policy={policy!r} is neither 'mutable' nor 'immutable'")


def _remove(at: TreeCursor, name: bytes) -> None:
    """Removes an entry with all that is in it."""
    if stat.S_ISDIR(at.status(name).st_mode):
        at.enter(name)
        for step in walk(at):
            if step.leaving or not step.is_directory:
                at.remove(step.name)
        at.leave()
    at.remove(name)
