"""A volume to be modified: sound at first, with what each craft needs, and ways to make objects that artfs
never makes.

``Crafted`` is one volume on disk. The crafts modify the collection ``bad``, and ``good`` must keep working.
Objects are written without the encoders: their digests are right, and their content is not.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from artfs.catalog.records import VersionRecord, encode
from artfs.model.digest import Algorithm, BlobId, ContentDigest, TreeId, content_digest, tree_id
from artfs.model.entry import DirEntry
from artfs.seal.seal import Request
from artfs.store.shards import blob_path, tree_path
from artfs.volume.volume import Volume

GOOD = {b"file": b"good bytes", b"dir/below": b"more good bytes"}
BAD = {
    b"file": b"the first",
    b"dir/below": b"the second",
    b"dir/deep/er": b"the third",
    b"old": b"the fourth",
}
SECRET = b"SECRET: root:x:0:0"
ALGORITHM = Algorithm.XXH128


def request() -> Request:
    return Request(by="ada")


def fill(root: Path, files: dict[bytes, bytes]) -> None:
    for path, data in files.items():
        at = root / os.fsdecode(path)
        at.parent.mkdir(parents=True, exist_ok=True)
        at.write_bytes(data)


def make(base: Path) -> None:
    """Makes the sound volume that every craft starts with: ``base/volume``, and ``base/outside``."""
    outside = base / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(SECRET)
    with Volume.init(base / "volume") as volume:
        for name, files in (("bad", BAD), ("good", GOOD)):
            collection = volume.catalog.create(name, collection_type="model")
            for number in range(2):
                tree = volume.start(collection, b"job-%d" % number)
                fill(base / f"volume/collections/{name}/pending/job-{number}/tree", files)
                if number:
                    fill(base / f"volume/collections/{name}/pending/job-{number}/tree", {b"new": b"newer"})
                else:
                    tree.pending_version.runs.join("run-1")
                    tree.pending_version.runs.leave("run-1")
                    os.symlink("file", base / f"volume/collections/{name}/pending/job-{number}/tree/link")
                volume.finish(collection, b"job-%d" % number, request())
            collection.set_alias("best", "v0")
            collection.set_alias("first", "best")
            collection.update_labels(0, description="noted", tags=("a-tag",), metadata={"accuracy": 0.9})
            tree = volume.start(collection, b"next")
            fill(base / f"volume/collections/{name}/pending/next/tree", {b"added": b"what is added"})
            tree.pending_version.change(tags=("tagged",))
            tree.pending_version.set_metadata(b'{"a": 1}')
            tree.pending_version.runs.join("run-2")
            tree.pending_version.runs.leave("run-2")
            tree = volume.start(collection, b"patch")
            volume.set_base(collection, tree, "v0", request())
            fill(base / f"volume/collections/{name}/pending/patch/tree", {b"changed": b"in the patch"})
            (base / f"volume/collections/{name}/pending/patch/tree/.artfs@gone").mkdir()
            (base / f"volume/collections/{name}/pending/patch/tree/.artfs@gone/old").touch()
        volume.record_use(volume.catalog.collection("good"), 0, "run-9")


class Crafted:
    """A copy of that volume, and its modifications."""

    def __init__(self, template: Path, base: Path) -> None:
        shutil.copytree(template, base, symlinks=True)
        self.base, self.path, self.outside = base, base / "volume", base / "outside"
        self.bad = self.path / "collections/bad"
        self.objects = self.object_files()

    def object_files(self) -> set[str]:
        """Returns the names of all objects, found without artfs."""
        return {
            str(path.relative_to(self.path))
            for path in (self.path / "objects").rglob("*")
            if not path.is_dir() or path.is_symlink()
        }

    # -- parts

    @property
    def record(self) -> Path:
        return self.bad / "versions/v0.json"

    def read_record(self, number: int = 0, collection: str = "bad") -> dict[str, Any]:
        found: dict[str, Any] = json.loads(
            (self.path / f"collections/{collection}/versions/v{number}.json").read_bytes()
        )
        return found

    def change_record(self, change: Callable[[dict[str, Any]], None], number: int = 0) -> None:
        document = self.read_record(number)
        change(document)
        (self.bad / f"versions/v{number}.json").write_text(json.dumps(document, indent=2))

    def tree_file(self, tree: TreeId) -> Path:
        return self.path / "objects/trees" / tree_path(tree).decode()

    def blob_file(self, blob: BlobId) -> Path:
        return self.path / "objects/blobs" / blob_path(blob).decode()

    def root(self, number: int = 0) -> TreeId:
        with Volume.open(self.path) as volume:
            return volume.catalog.collection("bad").record(number).root.entry().tree

    def blob_of(self, name: bytes) -> BlobId:
        with Volume.open(self.path) as volume:
            found = volume.store.reader.find(self.root(), name)
            assert found is not None
            return found[1].blob  # type: ignore[union-attr]

    # -- objects that artfs never makes

    def put(self, page: object) -> TreeId:
        """Stores any value, as MessagePack or plain bytes, under its right name."""
        data = page if isinstance(page, bytes) else msgspec.msgpack.encode(page)
        tree = tree_id(ALGORITHM, data)
        path = self.tree_file(tree)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        return tree

    def commit(self, tree: TreeId, *, content: ContentDigest | None = None, **changes: Any) -> None:
        """Makes a version ``bad:v2`` of any tree; `changes` overrides the counts."""
        known = {"mode": 0o755, "uid": 0, "gid": 0, "mtime_ns": 0, "entries": 1, "files": 1, "bytes": 0}
        content = content or content_digest(ALGORITHM, b"nothing")
        root = DirEntry(**{"name": b"", "tree": tree, "content": content, "reach": 0o555, **known, **changes})
        serial = int((self.path / "serial").read_bytes()) + 1
        (self.path / "serial").write_bytes(b"%d\n" % serial)
        record = VersionRecord.make(
            number=2,
            serial=serial,
            root=root,
            distributed_id=b"crafted",
            seal="crafted",
            created_by="mallory",
        )
        (self.bad / "versions/v2.json").write_bytes(encode(record))


def file_entry(name: bytes, **changes: Any) -> list[Any]:
    """A file's entry as the list that MessagePack encodes."""
    blob = b"\x01" + ALGORITHM.digest(b"")
    known = {"mode": 0o644, "uid": 0, "gid": 0, "mtime_ns": 0, "size": 0, "blob": blob, "xattrs": []}
    return [0, name, *{**known, **changes}.values()]


def dir_entry(name: bytes, tree: bytes, **changes: Any) -> list[Any]:
    known = {"mode": 0o755, "uid": 0, "gid": 0, "mtime_ns": 0, "tree": tree, "content": b"\x01" + bytes(16)}
    counts = {"entries": 0, "files": 0, "bytes": 0, "reach": 0o555, "xattrs": []}
    return [1, name, *{**known, **counts, **changes}.values()]


def symlink_entry(name: bytes, target: bytes) -> list[Any]:
    return [2, name, 0, 0, 0, target]


def item(last: bytes, tree: bytes, **changes: Any) -> list[Any]:
    known = {"names": 1, "entries": 1, "files": 0, "bytes": 0, "reach": 0o555, "uid": -1, "gid": -1}
    return [last, tree, b"\x01" + bytes(16), *{**known, **changes}.values()]


def in_place_of(path: Path, what: str, outside: Path) -> None:
    """Puts another file in place of a file or directory; a symlink leads to the original."""
    moved = outside / f"moved-{path.name}"
    if path.is_dir() and not path.is_symlink():
        shutil.copytree(path, moved, symlinks=True)
        shutil.rmtree(path)
    elif os.path.lexists(path):
        shutil.copy(path, moved, follow_symlinks=False)
        path.unlink()
    if what == "symlink":
        path.symlink_to(moved)
    elif what == "dangling":
        path.symlink_to(outside / "nowhere")
    elif what == "secret":
        path.symlink_to(outside / "secret")
    elif what == "directory":
        path.mkdir()
    elif what == "file":
        path.write_bytes(b"")
    elif what == "fifo":
        os.mkfifo(path)
    elif what == "socket":
        here = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            with socket.socket(socket.AF_UNIX) as made:  # by a short path: sun_path has 108 bytes
                made.bind(f"/proc/self/fd/{here}/{path.name}")
        finally:
            os.close(here)
    elif what == "device":
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 5))  # /dev/zero
    elif what == "huge":
        with path.open("wb") as file:
            file.truncate(1 << 40)
    else:
        assert what == "missing", what
