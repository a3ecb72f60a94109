"""The entries of an artifact, and the manifest of all.

Owns how one entry is described and downloaded. An entry is a value: it stays as it was when it was read.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import IO, TYPE_CHECKING, Any

from artfs.sdk.paged_list import PagedList
from artfs.volume.version_references import uri_of

if TYPE_CHECKING:
    from artfs.sdk.artifact import Artifact


@dataclass(frozen=True)
class ArtifactManifestEntry:
    """One entry of an artifact.

    ``kind`` is ``file``, ``directory``, ``symlink`` or ``reference``. ``mode`` has the permission bits,
    ``mtime_ns`` is in nanoseconds since the epoch, ``target`` is a symlink's, ``run`` the one that added a
    file to a version of many runs, where that is known.

    Example:
        >>> entry = logged.get_entry("raw/a.csv")
        >>> entry.size, entry.digest
        (1024, 'xxh128:...')
    """

    path: str
    kind: str
    size: int
    mode: int | None
    mtime_ns: int
    target: str | None = None
    ref: str | None = None
    run: str | None = None
    _digest: str | Callable[[], str] | None = field(default=None, repr=False, compare=False)
    _artifact: Artifact | None = field(default=None, repr=False, compare=False)

    @property
    def name(self) -> str:
        """The same as ``path``."""
        return self.path

    @property
    def digest(self) -> str | None:
        """The digest of the bytes as text, like ``xxh128:...``; None for a symlink.

        The digest of a file that is not saved yet is computed by reading it.

        Example:
            >>> artifact.add_file("part-3.csv").digest
            'xxh128:...'
        """
        return self._digest() if callable(self._digest) else self._digest

    def ref_target(self) -> str:
        """Returns the URI of a reference. Raises ValueError for any other entry.

        Example:
            >>> artifact.add_reference("artfs://mnist:best/raw/a.csv")[0].ref_target()
            'artfs://mnist:v1/raw/a.csv'
        """
        if self.ref is None:
            raise ValueError(f"{self.path!r} is no reference: its bytes are in the artifact")
        return self.ref

    def ref_url(self) -> str:
        """Returns the URI by which another artifact can refer to this entry of a saved one.

        Raises ValueError if the artifact is not saved.

        Example:
            >>> logged.get_entry("raw/a.csv").ref_url()
            'artfs://mnist:v1/raw/a.csv'
        """
        if self.ref is not None:
            return self.ref
        assert self._artifact is not None
        state = self._artifact._state
        if state.draft is not None:
            raise ValueError(f"{self._artifact.name} is not saved: it has no version to refer to")
        return uri_of(state.collection, state.version("files"), os.fsencode(self.path))

    def open(self, mode: str = "rb", encoding: str | None = None) -> IO[Any]:
        """Opens the file for reading.

        Example:
            >>> with logged.get_entry("train.csv").open("r") as file:
            ...     header = file.readline()
        """
        assert self._artifact is not None
        return self._artifact.open(self.path, mode, encoding=encoding)

    def digest_algorithm(self) -> str:
        """Returns the algorithm of the digest: ``xxh128`` or ``sha256``; a reference may have another.

        Example:
            >>> logged.get_entry("train.csv").digest_algorithm()
            'xxh128'
        """
        return (self.digest or "").partition(":")[0]

    def parent_artifact(self) -> Artifact:
        """Returns the artifact of which this is an entry.

        Example:
            >>> logged.get_entry("train.csv").parent_artifact().name
            'mnist:v1'
        """
        assert self._artifact is not None
        return self._artifact

    def to_json(self) -> dict[str, Any]:
        """Returns it as JSON values.

        Example:
            >>> logged.get_entry("train.csv").to_json()["size"]
            1024
        """
        facts = {
            "path": self.path,
            "kind": self.kind,
            "size": self.size,
            "digest": self.digest,
            "ref": self.ref,
            "target": self.target,
        }
        return {key: value for key, value in facts.items() if value is not None}

    def download(
        self, root: str | os.PathLike[str] | None = None, skip_cache: bool | None = None, executor: Any = None
    ) -> str:
        """Copies this entry to below `root`, and returns its path; see ``Artifact.download``.

        `skip_cache` and `executor` change nothing.

        Example:
            >>> logged.get_entry("train.csv").download("copy")
            'copy/train.csv'
        """
        assert self._artifact is not None
        return os.path.join(self._artifact.download(root, path_prefix=self.path), self.path)


def entry_of(artifact: Artifact, path: str, facts: Mapping[str, Any]) -> ArtifactManifestEntry:
    """Makes the entry of a line of a version's manifest."""
    mode = facts.get("mode")
    return ArtifactManifestEntry(
        path=path,
        kind=facts["kind"],
        size=facts.get("size", 0),
        mode=None if mode is None else int(mode, 8),
        mtime_ns=facts["mtime"],
        target=facts.get("target"),
        ref=facts.get("uri"),
        run=facts.get("run"),
        _digest=facts.get("digest"),
        _artifact=artifact,
    )


class ArtifactFile(ArtifactManifestEntry):
    """A file or link of an artifact, as ``Artifact.files`` returns it; it is downloaded as wandb's File is.

    Example:
        >>> with logged.files()[0].download("copy", replace=True) as file:
        ...     header = file.readline()
    """

    @classmethod
    def of(cls, entry: ArtifactManifestEntry) -> ArtifactFile:
        """Makes the file of an entry.

        Example:
            >>> ArtifactFile.of(logged.get_entry("train.csv")).name
            'train.csv'
        """
        return cls(**{one.name: getattr(entry, one.name) for one in fields(entry)})

    @property
    def path_uri(self) -> str:
        """The URI of a reference; empty for a file whose bytes are in the artifact."""
        return self.ref or ""

    def download(  # type: ignore[override]  # wandb's File and its entry differ in this
        self,
        root: str | os.PathLike[str] = ".",
        replace: bool = False,
        exist_ok: bool = False,
        api: Any = None,
    ) -> IO[str]:
        """Copies this file to its path below `root`, and opens it there for reading text.

        Raises ValueError if the path exists, unless `replace` replaces it, or `exist_ok` leaves it as it is.

        Example:
            >>> with logged.files()[0].download("copy") as file:
            ...     file.name
            'copy/raw/a.csv'
        """
        at = os.path.join(root, self.path)
        if os.path.lexists(at) and not replace:
            if not exist_ok:
                raise ValueError(f"{at!r} exists: replace=True replaces it, exist_ok=True opens it as it is")
        else:
            super().download(root)
        return open(at, encoding="utf-8")


class ArtifactFiles(PagedList[ArtifactFile]):
    """Files of an artifact, by path."""


class ArtifactManifest:
    """All entries of an artifact by path; of directories only those that are empty.

    Example:
        >>> for path, entry in logged.manifest.entries.items():
        ...     print(path, entry.size)
    """

    def __init__(self, entries: Mapping[str, ArtifactManifestEntry]) -> None:
        self._all = dict(entries)
        full = {path.rpartition("/")[0] for path in self._all}
        self._entries = {
            path: entry for path, entry in self._all.items() if entry.kind != "directory" or path not in full
        }

    @property
    def all(self) -> dict[str, ArtifactManifestEntry]:
        """Every entry, by path."""
        return self._all

    @property
    def entries(self) -> dict[str, ArtifactManifestEntry]:
        """Every entry but directories that are not empty, by path."""
        return self._entries

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __contains__(self, path: object) -> bool:
        return path in self.all

    def get_entry_by_path(self, path: str) -> ArtifactManifestEntry | None:
        """Returns the entry of a path, None if there is none.

        Example:
            >>> logged.manifest.get_entry_by_path("missing") is None
            True
        """
        return self.all.get(path)

    def get_entries_in_directory(self, directory: str) -> list[ArtifactManifestEntry]:
        """Returns the files and links at any depth below a directory.

        Example:
            >>> [entry.path for entry in logged.manifest.get_entries_in_directory("raw")]
            ['raw/a.csv', 'raw/b.csv']
        """
        below = directory.rstrip("/") + "/"
        return [entry for path, entry in self.entries.items() if path.startswith(below)]

    def size(self) -> int:
        """Returns the bytes of all files.

        Example:
            >>> logged.manifest.size()
            3072
        """
        return sum(entry.size for entry in self.all.values() if entry.kind in ("file", "reference"))

    def to_manifest_json(self) -> dict[str, Any]:
        """Returns it as JSON values.

        Example:
            >>> sorted(logged.manifest.to_manifest_json()["contents"])
            ['raw/a.csv', 'raw/b.csv', 'train.csv']
        """
        found = {
            path: {key: value for key, value in entry.to_json().items() if key not in ("path", "target")}
            for path, entry in self.entries.items()
        }
        return {"version": 1, "contents": found}
