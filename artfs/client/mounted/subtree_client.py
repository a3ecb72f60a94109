"""A subtree of a mount: all that a container sees that was given one collection, pending version or version.

Owns how a subtree is identified, and that nothing else can be reached. The rest is as with a whole mount.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from artfs.client.mounted.control_files import read_control, read_document
from artfs.client.mounted.mounted_client import MountedClient
from artfs.client.mounted.mounted_version_tree import version_at
from artfs.errors import AlreadyFinishedError, AlreadyPending, VolumeError
from artfs.model.digest import Algorithm
from artfs.pending.pending_version import Owners
from artfs.printing import printable


def subtree_around(path: Path) -> SubtreeClient | None:
    """Returns a client of the outermost subtree of a mount around a path; None if there is none."""
    path = Path(os.path.realpath(path))
    for root in (*reversed(path.parents), path):
        with contextlib.suppress(OSError, ValueError):
            if (root / ".artfs" / "error").is_file():
                return SubtreeClient(root)
    return None


class SubtreeClient(MountedClient):
    """Works on one subtree of a mount."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        try:
            try:
                status = read_document(self._fd, b".artfs/status")
            except FileNotFoundError:
                status = {"collection": self._collection_name()}
        except BaseException:
            self.close()
            raise
        self._name = str(status["collection"])
        self._version_name = status.get("version")
        self._id = os.fsencode(status["distributed_id"]) if "distributed_id" in status else None
        self._refs = {self._version_name, *status.get("aliases", ())} if self._version_name else set()

    def is_current(self) -> bool:
        """Not once the pending version was finished: then a version is what can be seen."""
        if self._id is None or self._version_name:
            return super().is_current()
        try:
            status = read_document(self._fd, b".artfs/status")
        except (OSError, ValueError):
            return False
        return super().is_current() and "version" not in status

    def _collection_name(self) -> str:
        """Returns the collection's name as its content records it; for an empty one the directory's name."""
        for line in read_control(self._fd, b".artfs/versions").splitlines():
            return str(json.loads(line)["collection"])
        with os.scandir(self.root / "pending") as found:
            for entry in found:
                status = json.loads(Path(entry.path, ".artfs", "status").read_bytes())
                return str(status["collection"])
        return self.root.name

    @property
    def _is_collection(self) -> bool:
        return self._id is None

    def _not_visible(self) -> VolumeError:
        what = f"the collection '{self._name}'"
        if self._version_name:
            what = f"{self._name}:{self._version_name}"
        elif self._id is not None:
            what = f"{self._name}/{printable(self._id)}"
        return VolumeError(f"nothing but {what} can be seen here, at {printable(str(self.root))}")

    def volume_status(self) -> NoReturn:
        raise self._not_visible()

    def volume(self) -> NoReturn:
        raise self._not_visible()

    def algorithm(self) -> Algorithm:
        for line in read_control(self._fd, b".artfs/versions").splitlines() if self._is_collection else ():
            return Algorithm.named(str(json.loads(line)["digest"]).partition(":")[0])
        return Algorithm.XXH128

    def runs(self) -> NoReturn:
        raise self._not_visible()

    def run(self, run: str) -> NoReturn:  # noqa: ARG002
        raise self._not_visible()

    def record_run(self, run: str, read_document: Mapping[str, Any], *, here: bool = False) -> None:
        pass

    def version_directory(self, name: str, ref: str) -> Path | None:
        with self._version(name, ref) as fd:
            return self.root / version_at(fd) if self._is_collection else self.root

    def collections(self) -> list[dict[str, Any]]:
        with self._collection(self._name) as fd:
            return [self._summary(self._name, fd)]

    @contextlib.contextmanager
    def _collection(self, name: str) -> Iterator[int]:
        if not self._is_collection or name != self._name:
            raise self._not_visible()
        yield self._fd

    @contextlib.contextmanager
    def _version(self, name: str, ref: str) -> Iterator[int]:
        if self._is_collection:
            with super()._version(name, ref) as fd:
                yield fd
        elif name == self._name and ref in self._refs:
            yield self._fd
        else:
            raise self._not_visible()

    @contextlib.contextmanager
    def _pending(self, name: str, distributed_id: bytes, *, finished_too: bool = False) -> Iterator[int]:
        if self._is_collection:
            with super()._pending(name, distributed_id, finished_too=finished_too) as fd:
                yield fd
        elif (name, distributed_id) != (self._name, self._id):
            raise self._not_visible()
        elif self._version_name and not finished_too:
            raise AlreadyFinishedError(name, distributed_id, self._version_name)
        else:
            yield self._fd

    def pending_names(self, name: str) -> list[bytes]:
        if self._is_collection or name != self._name:
            return super().pending_names(name)
        return [] if self._version_name or self._id is None else [self._id]

    def pending_directory(self, name: str, distributed_id: bytes) -> Path | None:
        with self._pending(name, distributed_id):
            return self.root / "pending" / os.fsdecode(distributed_id) if self._is_collection else self.root

    def remove_collection(self, name: str) -> NoReturn:  # noqa: ARG002
        raise self._not_visible()

    def _need_collection(self, name: str, kind: str) -> bool:
        if name != self._name:
            raise self._not_visible()
        return self._is_collection and super()._need_collection(name, kind)

    def _make_collection(self, name: str) -> bool:  # noqa: ARG002
        return False

    def _start(self, name: str, distributed_id: bytes, owners: Owners | None) -> Path | None:
        if self._is_collection:
            super()._start(name, distributed_id, owners)
            return self.root / "pending" / os.fsdecode(distributed_id)
        with self._pending(name, distributed_id):
            raise AlreadyPending(name, distributed_id)
