"""How the files of an artifact are read: those of a version, or of a draft as they are now.

Owns the difference between the two, and the checks of these methods' arguments. Nothing is copied but by
``download`` and ``checkout``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from operator import attrgetter
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from artfs.errors import InvalidCommand, PathNotFound, VolumeError
from artfs.sdk import arguments, download, media, serializers
from artfs.sdk.arguments import StrPath
from artfs.sdk.artifact_draft import ArtifactDraft
from artfs.sdk.artifact_state import ArtifactState
from artfs.sdk.draft_files import DraftFiles
from artfs.sdk.manifest_entries import (
    ArtifactFile,
    ArtifactFiles,
    ArtifactManifest,
    ArtifactManifestEntry,
    entry_of,
)
from artfs.sdk.qualified_names import short
from artfs.sdk.settings import artifact_dir

if TYPE_CHECKING:
    from artfs.sdk.artifact import Artifact


class ArtifactReading:
    """The methods of an artifact that read its files. None needs a run, or a download."""

    _state: ArtifactState
    _manifest: ArtifactManifest | None = None  # of a version, which never changes

    def _draft_files(self, draft: ArtifactDraft) -> DraftFiles:
        return DraftFiles(cast("Artifact", self), draft)

    @property
    def path(self) -> Path:
        """The directory of the version, or of the draft, on the mount: for any tool that reads files.

        Raises VolumeError where there is no mount: there :meth:`open` and :meth:`download` work.

        Example:
            >>> shutil.copy(logged.path / "train.csv", "copy.csv")
        """
        state = self._state
        if state.draft is not None:
            found = self._draft_files(state.draft).directory()
        else:
            found = state.client().version_directory(state.collection, state.version("directory"))
        if found is None:
            raise VolumeError(
                f"'{state.collection}' has no directory without a mount: use open() or download(),"
                " or mount the volume"
            )
        return found

    @property
    def manifest(self) -> ArtifactManifest:
        """All entries by path.

        Example:
            >>> sorted(logged.manifest.entries)
            ['raw/a.csv', 'raw/b.csv', 'train.csv']
        """
        if (draft := self._state.settled_draft()) is not None:
            return self._draft_files(draft).manifest()
        if self._manifest is None:
            artifact = cast("Artifact", self)
            entries = {path: entry_of(artifact, path, line) for path, line in self._lines().items()}
            self._manifest = ArtifactManifest(entries)
        return self._manifest

    def _lines(self) -> dict[str, Any]:
        """Returns the manifest of the version as the volume has it."""
        return self._state.client().manifest(self._state.collection, self._state.version("manifest"))

    def get_entry(self, name: StrPath) -> ArtifactManifestEntry:
        """Returns an entry by its path.

        Raises PathNotFound, which is a KeyError too.

        Example:
            >>> logged.get_entry("raw/a.csv").size
            1024
        """
        way = b"/".join(arguments.path("name", name, directory=True))
        entry = self.manifest.all.get(os.fsdecode(way))
        if entry is None:
            raise PathNotFound(self._state.location().name, way)
        return entry

    def get_path(self, name: StrPath) -> ArtifactManifestEntry:
        """Returns an entry by its path: wandb's older name for :meth:`get_entry`.

        Example:
            >>> logged.get_path("raw/a.csv").download("copy")
        """
        return self.get_entry(name)

    def open(self, name: StrPath, mode: str = "rb", *, encoding: str | None = None) -> IO[Any]:
        """Opens a file for reading, with or without a mount. Symlinks are followed within the artifact.

        `mode` is ``r`` for text, by default in UTF-8, or ``rb``. Raises PathNotFound, and ValueError for
        another mode.

        Example:
            >>> with logged.open("train.csv", "r") as file:
            ...     header = file.readline()
        """
        if mode not in ("r", "rb", "rt", "br"):
            raise ValueError(f"mode={mode!r} does not read: use 'r' or 'rb'; new_file() writes")
        way, state = arguments.path("name", name), self._state
        if state.draft is not None:
            fd = self._draft_files(state.draft).open(way)
        else:
            fd = state.client().open_file(state.collection, state.version("files"), b"/".join(way))
        if "b" in mode:
            return open(fd, "rb")
        return open(fd, encoding=encoding or "utf-8")

    def get(self, name: str) -> Any:
        """Returns an object that :meth:`add` stored, or any file by its suffix; bytes for an unknown suffix.

        The suffix need not be given. Raises PathNotFound.

        Example:
            >>> artifact.add({"a": 1}, "settings")
            >>> artifact.save()
            >>> artifact.get("settings")
            {'a': 1}
        """
        name = _normal_path(name)
        for suffix in ("", *serializers.suffixes(), *media.suffixes()):
            try:
                with self.open(name + suffix) as file:
                    found, data = name + suffix, file.read()
            except (PathNotFound, InvalidCommand):
                continue
            value = media.loaded(found, data, self)
            return serializers.load(found, data) if value is None else value
        raise PathNotFound(self._state.location().name, os.fsencode(name))

    def __getitem__(self, name: str) -> Any:
        """Returns an object, as :meth:`get` does."""
        return self.get(name)

    def files(
        self, names: Iterable[str] | str | None = None, per_page: int = 50, start: str | None = None
    ) -> ArtifactFiles:
        """Lists the files and links, by path; `names` selects some, `start` says where to begin.

        The answer is a list that wandb's code can page through: its ``cursor`` is a path.

        Example:
            >>> [file.name for file in logged.files()]
            ['raw/a.csv', 'raw/b.csv', 'train.csv']
        """
        wanted = None if names is None else {_normal_path(name) for name in arguments.words("names", names)}
        found = [
            entry
            for path, entry in sorted(self.manifest.entries.items())
            if entry.kind != "directory"
            and (wanted is None or path in wanted)
            and (start is None or path >= start)
        ]
        return ArtifactFiles(found, ArtifactFile.of, attrgetter("path"), per_page)

    def file(self, root: StrPath | None = None) -> str:
        """Downloads the only file of an artifact, and returns its local path.

        Raises ValueError if there are more.

        Example:
            >>> api.artifact("mnist-cnn:best").file()
            '.../artifacts/mnist-cnn:v1/model.bin'
        """
        found = self.files()
        if len(found) != 1:
            name = self._state.location().name
            raise ValueError(f"{name} has {len(found)} files, not one: use download()")
        return self.get_entry(found[0].path).download(root)

    def download(
        self,
        root: StrPath | None = None,
        allow_missing_references: bool = False,
        skip_cache: bool | None = None,
        path_prefix: StrPath | None = None,
        multipart: bool | None = None,
    ) -> str:
        """Copies the version, or what is at and below the path `path_prefix`, to the directory `root`.

        By default that is ``NAME:vN`` in `$ARTFS_ARTIFACT_DIR`, else in `$WANDB_ARTIFACT_DIR`, else in
        ``./artifacts``; it is returned. Each file appears whole or not at all; one that is there already is
        replaced, and other files stay. No symlink below `root` is followed, and nothing is a hard link: a
        change of a copy changes nothing else. The bytes of references are fetched from their URIs; with
        `allow_missing_references` those that can't be fetched are left out. `skip_cache` and `multipart`
        change nothing.

        Example:
            >>> logged.download("copy", path_prefix="raw")
            'copy'
        """
        target = self._root(root)
        prefix = b"/".join(arguments.path("path_prefix", path_prefix or "", directory=True))
        may_miss = {
            os.fsencode(path)
            for path, entry in (self.manifest.all.items() if allow_missing_references else ())
            if entry.kind == "reference"
        }
        self._download(target, prefix, may_miss)
        return target

    def _download(self, target: str, prefix: bytes = b"", may_miss: Iterable[bytes] = ()) -> None:
        state = self._state
        download.download(
            state.client(), state.collection, state.version("files"), target, prefix, set(may_miss)
        )

    def checkout(self, root: StrPath | None = None) -> str:
        """Makes a directory hold the version and nothing else, and returns it.

        By default that is ``NAME`` where :meth:`download` has ``NAME:vN``. What is in it and not in the
        version is deleted; no symlink is followed on the way.

        Example:
            >>> logged.checkout("copy")
            'copy'
        """
        target = self._root(root, with_version=False)
        download.prune(self._lines(), target)
        self._download(target)
        return target

    def verify(self, root: StrPath | None = None) -> None:
        """Compares a downloaded version with the manifest; all files are read.

        Raises ValueError, which names what is missing, differs or does not belong there. No symlink is
        followed.

        Example:
            >>> logged.verify(logged.download())
        """
        download.verify(self._lines(), self._root(root))

    def _root(self, root: StrPath | None, *, with_version: bool = True) -> str:
        if root is not None:
            return arguments.fspath("root", root)
        collection, version = self._state.source()
        name = short(collection) + (f":{version}" if with_version else "")
        return os.path.join(artifact_dir(), name)

    def get_added_local_path_name(self, local_path: StrPath) -> str | None:
        """Returns the path within the artifact of a file that was added from `local_path`, None if none was.

        A file within a directory that was added counts, too.

        Example:
            >>> artifact.add_file("out/model-final.bin", name="model.bin")
            >>> artifact.get_added_local_path_name("out/model-final.bin")
            'model.bin'
        """
        wanted = os.path.abspath(arguments.fspath("local_path", local_path))
        for source, at in self._state.added.items():
            if wanted == source:
                return at or None
            below = os.path.relpath(wanted, source)
            if not below.startswith("..") and os.path.join(at, below) in self.manifest:
                return os.path.join(at, below)
        return None


def _normal_path(name: str) -> str:
    """Returns a path as the manifest has it. Raises ValueError for one that leads out of the artifact."""
    return os.fsdecode(b"/".join(arguments.path("name", name)))
