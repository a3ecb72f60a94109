"""How files are added to an artifact, and removed from it, before it is saved.

Owns the checks of these methods' arguments.
"""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator, Sequence
from typing import IO, TYPE_CHECKING, Any, cast

from artfs.client.transfer.sources import Excludes, Sources
from artfs.client.transfer.symlink_policy import FollowSymlinks, describe_kept
from artfs.errors import InvalidCommand, InvalidName
from artfs.sdk import arguments, media, serializers
from artfs.sdk.arguments import StrPath
from artfs.sdk.artifact_state import ArtifactState
from artfs.sdk.draft_files import DraftFiles
from artfs.sdk.manifest_entries import ArtifactManifestEntry

if TYPE_CHECKING:
    from artfs.sdk.artifact import Artifact

_POLICIES = ("mutable", "immutable", None)


class ArtifactAdding:
    """The methods of an artifact that change its files; once it is saved, with ArtifactFinalizedError."""

    _state: ArtifactState

    def _open_files(self) -> DraftFiles:
        return DraftFiles(cast("Artifact", self), self._state.open_draft())

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

        Its bytes are stored when this returns, with mode, mtime and user xattrs; the local file may then
        change or go. A symlink is followed. `is_tmp`, `skip_cache` and `policy` change nothing: there is no
        cache.

        Raises PathConflictError if there is a file with other bytes under that name, unless `overwrite`.

        Example:
            >>> artifact.add_file("out/model-final.bin", name="model.bin")
        """
        _check_policy(policy)
        source = arguments.fspath("local_path", local_path)
        if not os.path.isfile(source):
            raise ValueError(f"local_path={source!r} is not a file")
        at = arguments.path("name", os.path.basename(source) if name is None else name)
        files = self._open_files()
        with files.copy(Sources([os.fsencode(source)], at=at), os.path.abspath(source), overwrite) as tree:
            self._state.added[os.path.abspath(source)] = os.fsdecode(b"/".join(at))
            return files.entry(tree, at)

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
        at any depth, ``logs/*.txt`` by path, ``cache/`` for directories only. A terminal shows progress.
        Raises PathConflictError if there is a file with other bytes under the same path, unless `overwrite`,
        or `merge`, which is wandb's word for it.

        A symlink to something in the directory stays a symlink. One that leads out of it, as in a snapshot of
        Hugging Face's hub, is replaced by the file or directory that it leads to; if that is not there, can't
        be read or holds the symlink itself, it stays a symlink, and a UserWarning names it. With
        ``follow_symlinks="never"``, or False, all stay symlinks; with ``"always"``, or True, all are
        followed, and one that can't be is an error.

        Example:
            >>> artifact.add_dir("data/", name="raw", exclude=["*.tmp", ".git/"])
        """
        _check_policy(policy)
        source = arguments.fspath("local_path", local_path)
        if not os.path.isdir(source):
            raise ValueError(f"local_path={source!r} is not a directory")
        at = () if name is None else arguments.path("name", name, directory=True)
        excludes = Excludes(arguments.words("exclude", exclude))
        sources = Sources([os.fsencode(source)], excludes, at=at, follow=_follow(follow_symlinks))
        with self._open_files().copy(sources, os.path.abspath(source), overwrite or merge):
            self._state.added[os.path.abspath(source)] = os.fsdecode(b"/".join(at))
        if kept := describe_kept(sources.kept):
            warnings.warn(kept, stacklevel=2)

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
        """Opens a new file of the artifact for writing; it is added if the block ends without an exception.

        `mode` is ``x`` or ``w``, with ``b`` for bytes; text is by default in UTF-8. Raises
        PathConflictError at the end of the block, as :meth:`add_file` does.

        Example:
            >>> with artifact.new_file("hello.txt") as file:
            ...     written = file.write("hello!")
        """
        _check_policy(policy)
        if mode not in ("x", "w", "xb", "wb", "xt", "wt", "bx", "bw"):
            raise ValueError(f"mode={mode!r} does not write: use 'w' or 'wb'")
        way, binary = arguments.path("name", name), "b" in mode
        encoding = encoding if binary else encoding or "utf-8"
        files = self._open_files()
        with files.new_file(way, binary=binary, encoding=encoding, overwrite=overwrite) as file:
            yield file

    def add(self, obj: Any, name: StrPath, overwrite: bool = False) -> ArtifactManifestEntry:
        """Adds an object: bytes, text, JSON values, or an object that its own library can write.

        numpy arrays become ``.npy``, tables of pandas, polars and pyarrow ``.parquet``, PIL images and
        matplotlib figures ``.png``, all else that JSON takes ``.json``; a missing suffix is added to `name`.
        Text under a name without a suffix becomes ``.txt``; bytes and other text keep their names.
        ``artfs.Table``, ``artfs.Image`` and their like become the files that wandb makes of them:
        ``NAME.table.json``, with what they hold in ``media/``. ``get`` returns the object.

        Raises TypeError for other types, which ``artfs.register_type`` adds, and PathConflictError as
        :meth:`add_file` does.

        Example:
            >>> artifact.add({"classes": ["cat", "dog"]}, "labels")  # labels.json
            >>> artifact.add(numpy.zeros((3, 3)), "weights")  # weights.npy
        """
        if isinstance(obj, media.MediaValue):
            name, obj = media.dumped(obj, os.fspath(name), self)
        *above, last = arguments.path("name", name)
        kind = serializers.kind_of(obj)
        last += serializers.missing_suffix(kind, os.fsdecode(last)).encode()
        return self._open_files().put((*above, last), kind.dump(obj), overwrite)

    def __setitem__(self, name: str, obj: Any) -> None:
        """Adds an object, as :meth:`add` does."""
        self.add(obj, name)

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

        With `checksum` the digest of the bytes is recorded, or the ETag or version of an object, and a read
        of other bytes fails. More than `max_objects` are refused. Object stores and http need
        ``pip install 'artfs[remote]'``.

        The same reference may be added again. Raises PathConflictError for a path that is taken by something
        else, unless `overwrite`, and ReferenceFailed if there is nothing at the URI.

        Example:
            >>> artifact.add_reference("artfs://mnist:best/raw", name="raw")
        """
        given: Any = uri
        given = arguments.uri("uri", given.ref_url() if isinstance(given, ArtifactManifestEntry) else given)
        most = None if max_objects is None else arguments.number("max_objects", max_objects)
        way = () if name is None else arguments.path("name", name, directory=True)
        draft = self._state.open_draft()
        try:
            found = draft.preview_references(b"/".join(way), given, checksum=bool(checksum), max_objects=most)
        except (InvalidCommand, InvalidName) as error:
            raise ValueError(f"uri: {error}") from None
        return self._open_files().refer(found, overwrite)

    def remove(self, item: StrPath | ArtifactManifestEntry) -> None:
        """Removes a file, a link or a whole directory.

        Raises FileNotFoundError if there is none.

        Example:
            >>> draft = api.artifact("mnist:latest").new_draft()
            >>> draft.remove("raw/b.csv")
            >>> draft.remove("raw/")
        """
        path = item.path if isinstance(item, ArtifactManifestEntry) else item
        way = arguments.path("item", path, directory=True)
        if not way:
            raise ValueError("item is empty: use a path within the artifact")
        try:
            self._open_files().remove(way)
        except (FileNotFoundError, NotADirectoryError):
            raise FileNotFoundError(f"the artifact has no {os.fspath(path)!r}") from None


def _follow(given: str | bool) -> FollowSymlinks:
    if isinstance(given, bool):
        return FollowSymlinks.ALWAYS if given else FollowSymlinks.NEVER
    try:
        return FollowSymlinks(given)
    except ValueError:
        raise ValueError(f"follow_symlinks={given!r} must be 'never', 'outside' or 'always'") from None


def _check_policy(policy: str | None) -> None:
    if policy not in _POLICIES:
        raise ValueError(f"policy={policy!r} must be 'mutable' or 'immutable'")
