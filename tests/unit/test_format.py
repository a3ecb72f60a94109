"""FORMAT.md's pages: golden files contain the bytes, and the text shows them."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest
from msgspec.structs import replace

from artfs.model.digest import Algorithm, ContentDigest, TreeId, blob_id
from artfs.model.entry import DirEntry, FileEntry, PageSummary, ReferenceEntry, SymlinkEntry
from artfs.model.pages import Index, Leaf, Page, decode
from artfs.pending.pending_version import Owners, PendingLabels, PendingVersion, start
from artfs.store import layout
from artfs.store.owners import Owner
from tests.unit.catalogs import GOLDEN, OWNER

FORMAT = Path(layout.__file__).with_name("FORMAT.md").read_text()

BLOB = blob_id(Algorithm.XXH128, bytes(range(16)), 3)
TREE = TreeId(b"\x01" + b"\xaa" * 16)
CONTENT = ContentDigest(b"\x01" + b"\xbb" * 16)
PAGES: dict[str, Page] = {
    "leaf.page": Leaf(
        [
            DirEntry(b"dir", 0o755, 1000, 100, -1, TREE, CONTENT, 7, 6, 5000, 0o555),
            FileEntry(b"file", 0o644, 1000, 100, 1_700_000_000_123_456_789, 5, BLOB, ((b"user.k", b"v"),)),
            SymlinkEntry(b"link", 0, 0, 0, b"../target"),
            ReferenceEntry(b"ref", 0o600, 0, 0, 0, 9, b"s3://bucket/key", b"etag"),
        ]
    ),
    "index.page": Index(
        1,
        [
            PageSummary(b"m", TREE, CONTENT, 700, 701, 9, 10),
            PageSummary(b"z", TREE, CONTENT, 1, 5, 4, 3, 0o500, 7, -2),
        ],
    ),
}


@pytest.mark.parametrize("name", PAGES)
def test_the_golden_pages_are_in_the_text(name: str) -> None:
    data = (GOLDEN / name).read_bytes()
    assert PAGES[name].encode() == data
    assert decode(data).encode() == data
    dump = "\n".join("    " + data[i : i + 32].hex() for i in range(0, len(data), 32))
    assert dump in FORMAT, f"FORMAT.md should show\n{dump}"


def test_the_golden_pending_labels_are_in_the_text(tmp_path: Path) -> None:
    owners = Owners((replace(OWNER, mountpoint="/mnt/art"), Owner(pid=9, host="other")), "dataset")
    labels = PendingLabels(("best",), ("a tag", "größer"), "two\nlines", "other:v3")
    pending_fd, name = os.open(tmp_path, os.O_RDONLY), b"sdk-0123456789abcdef"
    try:
        start(
            pending_fd,
            name,
            mode=0o755,
            uid=os.getuid(),
            gid=os.getgid(),
            created_by="ada",
            labels=labels,
            naming=contextlib.nullcontext,
            owners=owners,
        )
        with contextlib.closing(PendingVersion(pending_fd, "model", name)) as pending_version:
            assert (pending_version.owners(), pending_version.labels()) == (owners, labels)
    finally:
        os.close(pending_fd)
    for file in ("owners.json", "settings.json"):
        assert (tmp_path / os.fsdecode(name) / file).read_bytes() == (GOLDEN / file).read_bytes()


def test_every_directory_and_file_of_a_volume_is_described() -> None:
    for name in (*layout.DIRECTORIES, layout.CONFIG, layout.SERIAL, layout.UNFINISHED):
        assert name.decode().rpartition("/")[2] in FORMAT
