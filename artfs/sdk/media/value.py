"""Values that an artifact keeps as a JSON file with a kind: tables, images, and their parts.

Owns the names of such files (``NAME.KIND.json``) and the registry of kinds. A value knows how it becomes
JSON, and which other files it needs; it reaches an artifact by its public methods alone. Any thread.

The layout is wandb's: see ``wandb/sdk/data_types`` of its Python package.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, ClassVar, Protocol, Self


class AddedEntry(Protocol):
    """What a value needs of an entry that was added."""

    @property
    def path(self) -> str: ...

    @property
    def digest(self) -> str | None: ...


class Files(Protocol):
    """What a value needs of an artifact that it is read from."""

    def get(self, name: str) -> Any: ...

    def open(self, name: str) -> IO[Any]: ...


class NewFiles(Protocol):
    """What a value needs of an artifact that it is added to."""

    def add(self, obj: Any, name: str) -> AddedEntry: ...

    def add_file(self, local_path: str, name: str) -> AddedEntry: ...

    def add_reference(self, uri: str, name: str) -> object: ...


class MediaValue(ABC):
    """A value that an artifact keeps as ``NAME.KIND.json``."""

    #: What the JSON names the type: the key ``_type``, and a part of the file's name.
    kind: ClassVar[str]
    _by_kind: ClassVar[dict[str, type[MediaValue]]] = {}

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "kind" in cls.__dict__:
            MediaValue._by_kind[cls.kind] = cls

    @abstractmethod
    def to_json(self, artifact: NewFiles) -> dict[str, Any]:
        """Returns the value as a JSON object, once it has added the files that belong to it."""

    @classmethod
    @abstractmethod
    def from_json(cls, found: dict[str, Any], artifact: Files) -> Self:
        """Returns the value of a JSON object, whose files are in the artifact."""


def suffixes() -> list[str]:
    """Returns the suffixes that ``add`` appends to names."""
    return [f".{kind}.json" for kind in MediaValue._by_kind]


def dumped(value: MediaValue, name: str, artifact: NewFiles) -> tuple[str, bytes]:
    """Adds the files of a value; returns the name and the bytes of its own file."""
    suffix = f".{value.kind}.json"
    data = json.dumps(value.to_json(artifact), sort_keys=True).encode()
    return name if name.endswith(suffix) else name + suffix, data


def loaded(name: str, data: bytes, artifact: Files) -> MediaValue | None:
    """Returns the value of a file; None if the file is not of a known kind."""
    kind = next((kind for kind in MediaValue._by_kind if name.endswith(f".{kind}.json")), None)
    if kind is None:
        return None
    found = json.loads(data)
    if not isinstance(found, dict) or found.get("_type") != kind:
        return None  # another JSON file that happens to have such a name
    return MediaValue._by_kind[kind].from_json(found, artifact)


def value_in(found: Any, artifact: Files) -> Any:
    """Returns the value of a table's cell, as it is unless it is of a known kind."""
    if isinstance(found, dict) and (kind := MediaValue._by_kind.get(found.get("_type", ""))) is not None:
        return kind.from_json(found, artifact)
    return found


class Content:
    """The bytes of one file: in memory, in a local file, in an artifact, or named by a URI.

    Nothing is read before it is needed: a table of ten thousand images is made, and looked at, without them
    in memory.
    """

    def __init__(
        self, name: str | None, opener: Callable[[], IO[bytes]], *, local: str | None = None
    ) -> None:
        #: The file's name within the artifact that it came from, or None.
        self._name, self._open, self._local = name, opener, local
        self._sha256: str | None = None
        self.uri: str | None = None

    @classmethod
    def of_bytes(cls, data: bytes) -> Content:
        return cls(None, lambda: io.BytesIO(data))

    @classmethod
    def of_path(cls, path: str | Path) -> Content:
        """Returns the content of a local file. Raises OSError if it can't be opened."""
        local = os.fspath(path)
        open(local, "rb").close()
        return cls(None, lambda: open(local, "rb"), local=local)

    @classmethod
    def of_artifact(cls, name: str, artifact: Files) -> Content:
        return cls(name, lambda: artifact.open(name))

    @classmethod
    def of_uri(cls, uri: str) -> Content:
        def refuse() -> IO[bytes]:
            raise ValueError(
                f"the bytes of {uri!r} are read through an artifact: add the value to one, and get it"
            )

        made = cls(None, refuse)
        made.uri = uri
        return made

    def open(self) -> IO[bytes]:
        return self._open()

    def read(self) -> bytes:
        with self._open() as file:
            return file.read()

    @property
    def sha256(self) -> str:
        """The hash of the bytes, in hexadecimal; of a URI, that of its text, as wandb has it."""
        if self._sha256 is None:
            if self.uri is not None:
                self._sha256 = hashlib.sha256(self.uri.encode()).hexdigest()
            else:
                with self._open() as file:
                    digest = hashlib.sha256()
                    while chunk := file.read(1 << 20):
                        digest.update(chunk)
                    self._sha256 = digest.hexdigest()
        return self._sha256

    def added(self, artifact: NewFiles, directory: str, suffix: str) -> str:
        """Adds the file to an artifact, and returns its path there.

        The path follows from the bytes, so that equal values make equal artifacts. A file of another artifact
        keeps its path, and a local file its name below the hash.
        """
        if self._name is not None:
            path = self._name
        elif self._local is not None or self.uri is not None:
            last = os.path.basename(self._local or str(self.uri).partition("?")[0])
            path = f"{directory}/{self.sha256[:20]}/{last}"
        else:
            path = f"{directory}/{self.sha256[:20]}{suffix}"
        if self.uri is not None:
            artifact.add_reference(self.uri, path)
        elif self._local is not None:
            artifact.add_file(self._local, path)
        else:
            artifact.add(self.read(), path)
        return path
