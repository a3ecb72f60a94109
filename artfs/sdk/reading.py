"""What reads an artifact: a version, or the draft of one as it stands.

Owns the difference between the two for all that only looks. Nothing is copied but by what says so.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from artfs.client.version_tree import no_file
from artfs.client.writable_tree import ReferenceTarget, TreeCursor
from artfs.errors import InvalidCommand, PathNotFound, VolumeError
from artfs.linux.walk import walk
from artfs.sdk import arguments, media, objects, outside, scopes
from artfs.sdk.arguments import StrPath
from artfs.sdk.core import Core
from artfs.sdk.entries import ArtifactFile, ArtifactFiles, ArtifactManifest, ArtifactManifestEntry, entry_of
from artfs.sdk.settings import artifact_dir


class Reading(Core):
    """The half of an artifact that reads it. None of it needs a run, or a download."""

    _manifest: ArtifactManifest | None = None  # of a version, which never changes

    @property
    def path(self) -> Path:
        """The directory of the version, or of the draft, on the mount: for any tool that reads files.

        Raises VolumeError where there is no mount: there :meth:`open` and :meth:`download` do.

        Example:
            >>> shutil.copy(logged.path / "train.csv", "copy.csv")
        """
        draft = self._draft
        if draft is None:
            found = self._access().version_directory(self._collection, self._version("directory"))
        else:
            found = draft.start().pending_directory(draft.name, draft.id)
        if found is None:
            raise VolumeError(
                f"'{self._collection}' has no directory without a mount: use open() or download(),"
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
        if self._draft is not None:
            self._look_whether_finished()
        if self._draft is None:
            if self._manifest is None:
                facts = self._access().manifest(self._collection, self._version("manifest"))
                entries = ((path, entry_of(self, path, line)) for path, line in facts.items())
                self._manifest = ArtifactManifest(dict(entries))
            return self._manifest
        if not self._draft.started and self._draft.base is None:
            return ArtifactManifest({})
        with self._draft.tree() as tree, tree.cursor() as at:
            found = [draft_entry(self, at, step.name, step.status) for step in walk(at) if not step.leaving]
        by_path = {entry.path: entry for entry in found}
        for line in self._draft.references():
            if (entry := by_path.get(line["path"])) is not None:  # others may fill it
                by_path[entry.path] = replace(
                    entry, kind="reference", size=line["size"], ref=line["uri"], _digest=line["checksum"]
                )
        return ArtifactManifest(by_path)

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
            raise PathNotFound(self._shown(), way)
        return entry

    def get_path(self, name: StrPath) -> ArtifactManifestEntry:
        """Returns an entry by its path: wandb's older name for :meth:`get_entry`.

        Example:
            >>> logged.get_path("raw/a.csv").download("copy")
        """
        return self.get_entry(name)

    def open(self, name: StrPath, mode: str = "rb", *, encoding: str | None = None) -> IO[Any]:
        """Opens a file for reading, with or without a mount. Symlinks are followed within the artifact.

        `mode` is ``r`` for text or ``rb``.

        Example:
            >>> with logged.open("train.csv", "r") as file:
            ...     header = file.readline()
        """
        if mode not in ("r", "rb", "rt", "br"):
            raise ValueError(f"mode={mode!r} is none for reading: use 'r' or 'rb'; new_file() writes")
        way = arguments.path("name", name)
        if self._draft is None:
            fd = self._access().open_file(self._collection, self._version("files"), b"/".join(way))
        else:
            fd = self._open_in_draft(way)
        if "b" in mode:
            return open(fd, "rb")
        return open(fd, encoding=encoding or "utf-8")

    def _open_in_draft(self, way: tuple[bytes, ...]) -> int:
        assert self._draft is not None
        with self._draft.tree() as tree, tree.cursor() as at:
            try:
                at.go_to(b"/".join(way[:-1]))
                return at.open(way[-1])
            except (FileNotFoundError, NotADirectoryError):
                raise PathNotFound(self._shown(), b"/".join(way)) from None
            except OSError as error:
                kind = {errno.EINVAL: "directory", errno.ELOOP: "symlink"}.get(error.errno or 0)
                if kind is None:
                    raise
                raise no_file(b"/".join(way), kind) from None

    def get(self, name: str) -> Any:
        """Returns an object that :meth:`add` put in, or any file by its suffix; bytes if none is known.

        The suffix need not be given.

        Example:
            >>> artifact.add({"a": 1}, "settings")
            >>> artifact.save()
            >>> artifact.get("settings")
            {'a': 1}
        """
        name = _shown_path(name)
        found = None
        for suffix in ("", *objects.suffixes(), *media.suffixes()):
            try:
                with self.open(name + suffix) as file:
                    found, data = name + suffix, file.read()
                    break
            except (PathNotFound, InvalidCommand):
                continue
        if found is None:
            raise PathNotFound(self._shown(), os.fsencode(name))
        value = media.loaded(found, data, self)
        return objects.load(found, data) if value is None else value

    def __getitem__(self, name: str) -> Any:
        """Returns an object, as :meth:`get` does."""
        return self.get(name)

    def files(
        self, names: Iterable[str] | str | None = None, per_page: int = 50, start: str | None = None
    ) -> ArtifactFiles:
        """Lists the files and links, by path; `names` picks some, `start` says where to begin.

        The answer is a list that wandb's code can page through: its ``cursor`` is a path.

        Example:
            >>> [file.name for file in logged.files()]
            ['raw/a.csv', 'raw/b.csv', 'train.csv']
        """
        wanted = None if names is None else {_shown_path(name) for name in arguments.words("names", names)}
        found = [
            entry
            for path, entry in sorted(self.manifest.entries.items())
            if entry.kind != "directory"
            and (wanted is None or path in wanted)
            and (start is None or path >= start)
        ]
        return ArtifactFiles(found, ArtifactFile.of, lambda entry: str(entry.path), per_page)

    def file(self, root: StrPath | None = None) -> str:
        """Downloads the only file of an artifact, and returns where it is then.

        Raises ValueError if there are more.

        Example:
            >>> api.artifact("mnist-cnn:best").file()
            '.../artifacts/mnist-cnn:v1/model.bin'
        """
        found = self.files()
        if len(found) != 1:
            raise ValueError(f"{self._shown()} has {len(found)} files, not one: use download()")
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
        ``./artifacts``; it is returned. Each file appears whole or not at all;
        one that is there already is replaced, and other files stay. No symlink below `root` is followed, and
        nothing is a hard link: whoever changes a copy changes nothing else. The bytes of references are
        brought from where they are; with `allow_missing_references` those that can't be had are left out.
        The other arguments are wandb's and change nothing here.

        Example:
            >>> logged.download("copy", path_prefix="raw")
            'copy'
        """
        del skip_cache, multipart
        target = self._root(root)
        prefix = b"/".join(arguments.path("path_prefix", path_prefix or "", directory=True))
        may_miss = {
            os.fsencode(path)
            for path, entry in (self.manifest.all.items() if allow_missing_references else ())
            if entry.kind == "reference"
        }
        version = self._version("files")
        outside.download(self._access(), self._collection, version, target, prefix, may_miss)
        return target

    def checkout(self, root: StrPath | None = None) -> str:
        """Makes a directory hold the version and nothing else, and returns it.

        By default that is ``NAME`` where :meth:`download` has ``NAME:vN``. What is in it and not in the
        version is deleted; no symlink is followed on the way.

        Example:
            >>> logged.checkout("copy")
            'copy'
        """
        target = self._root(root, with_version=False)
        version = self._version("files")
        outside.prune(self._access().manifest(self._collection, version), target)
        outside.download(self._access(), self._collection, version, target)
        return target

    def verify(self, root: StrPath | None = None) -> None:
        """Reads a downloaded version again and compares it with the manifest.

        Raises ValueError, which names what is missing, differs or doesn't belong there. No symlink is
        followed.

        Example:
            >>> logged.verify(logged.download())
        """
        version = self._version("manifest")
        outside.verify(self._access().manifest(self._collection, version), self._root(root))

    def _root(self, root: StrPath | None, *, with_version: bool = True) -> str:
        if root is not None:
            return arguments.fspath("root", root)
        collection, version = self._source()
        name = scopes.short(collection) + (f":{version}" if with_version else "")
        return os.path.join(artifact_dir(), name)

    def _number(self) -> str:
        if self._draft is not None:
            raise ValueError(f"{self._shown()} is not saved: it has no version to refer to")
        return self._version("files")

    def _shown(self) -> str:
        name = scopes.short(self._collection)
        return name if self._draft is not None else f"{name}:{self._status['version']}"


def _shown_path(name: str) -> str:
    """Returns a path as the manifest has it. Raises ValueError for what is none within an artifact."""
    return os.fsdecode(b"/".join(arguments.path("name", name)))


def draft_entry(
    artifact: Reading,
    at: TreeCursor,
    name: bytes,
    status: os.stat_result,
    origin: ReferenceTarget | None = None,
) -> ArtifactManifestEntry:
    """Returns an entry of a draft, where a cursor stands; `origin` is what a reference stands for."""
    path = os.fsdecode(at.below(name))
    kind = {stat.S_IFDIR: "directory", stat.S_IFLNK: "symlink"}.get(stat.S_IFMT(status.st_mode), "file")

    def digest() -> str:
        with artifact.open(path) as file:
            return outside.digest_of(file.fileno(), artifact._access().algorithm())

    if origin is not None:
        return ArtifactManifestEntry(
            path=path,
            kind="reference",
            size=origin.size,
            mode=stat.S_IMODE(status.st_mode),
            mtime_ns=status.st_mtime_ns,
            ref=origin.uri,
            _digest=origin.checksum,
            _artifact=artifact,
        )
    return ArtifactManifestEntry(
        path=path,
        kind=kind,
        size=status.st_size if kind == "file" else 0,
        mode=None if kind == "symlink" else stat.S_IMODE(status.st_mode),
        mtime_ns=status.st_mtime_ns,
        target=os.fsdecode(at.symlink_target(name)) if kind == "symlink" else None,
        _digest=digest if kind == "file" else None,
        _artifact=artifact,
    )
