"""FORMAT.md's pages: golden files hold the bytes, and the text shows them."""

from __future__ import annotations

from pathlib import Path

import pytest

from artfs.model.digest import Algorithm, ContentDigest, TreeId, blob_id
from artfs.model.entry import DirEntry, FileEntry, ReferenceEntry, Summary, SymlinkEntry
from artfs.model.pages import Index, Leaf, Page, decode
from artfs.store import layout

GOLDEN = Path(__file__).parent / "golden"
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
            Summary(b"m", TREE, CONTENT, 700, 701, 9, 10),
            Summary(b"z", TREE, CONTENT, 1, 5, 4, 3, 0o500, 7, -2),
        ],
    ),
}


@pytest.mark.parametrize("name", PAGES)
def test_the_bytes_of_a_page(name: str) -> None:
    data = (GOLDEN / name).read_bytes()
    assert PAGES[name].encode() == data
    assert decode(data).encode() == data
    dump = "\n".join("    " + data[i : i + 32].hex() for i in range(0, len(data), 32))
    assert dump in FORMAT, f"FORMAT.md should show\n{dump}"


def test_every_directory_and_file_of_a_volume_is_described() -> None:
    for name in (*layout.DIRECTORIES, layout.CONFIG, layout.SERIAL, layout.UNFINISHED):
        assert name.decode().rpartition("/")[2] in FORMAT
