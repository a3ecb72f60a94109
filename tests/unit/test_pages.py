"""The bytes of a page, the cutting rule, and what decoding refuses."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from xxhash import xxh3_64_intdigest

from artfs.errors import Damaged
from artfs.model.digest import Algorithm, ContentDigest, TreeId, blob_id, content_digest, text, tree_id
from artfs.model.entry import MANY, MAX_INT, DirEntry, FileEntry, PageSummary, ReferenceEntry, SymlinkEntry
from artfs.model.pages import (
    INDEX_MAX,
    INDEX_MIN,
    LEAF_MAX,
    LEAF_MIN,
    MAX_LEVEL,
    Index,
    Leaf,
    cuts,
    decode,
    encode,
)

XXH128 = Algorithm.XXH128
BLOB = blob_id(XXH128, bytes(range(16)))
TREE = TreeId(b"\x01" + b"t" * 16)
CONTENT = ContentDigest(b"\x01" + b"c" * 16)

FILE = FileEntry(b"f", 0o644, 1000, 100, 1_700_000_000_000_000_001, 5, BLOB, ((b"user.k", b"v"),))
DIRECTORY = DirEntry(b"d", 0o755, 1000, 100, -1, TREE, CONTENT, 7, 6, 5000, 0o555)
LINK = SymlinkEntry(b"l", 0, 0, 0, b"../target")
REFERENCE = ReferenceEntry(b"r", 0o600, 0, 0, 0, 9, b"s3://bucket/key", b"etag")
LEAF = Leaf([DIRECTORY, FILE, LINK, REFERENCE])
INDEX = Index(
    1,
    [
        PageSummary(b"m", TREE, CONTENT, 700, 701, 9, 10),
        PageSummary(b"z", TREE, CONTENT, 1, 5, 4, 3, 0o500, 7, MANY),
    ],
)


def packed(*parts: Any) -> bytes:
    return msgspec.msgpack.encode(parts)


def test_a_leaf_has_the_bytes_of_the_format():
    xattrs = ((b"user.k", b"v"),)
    assert LEAF.encode() == packed(
        0,
        [
            [1, b"d", 0o755, 1000, 100, -1, TREE, CONTENT, 7, 6, 5000, 0o555, []],
            [0, b"f", 0o644, 1000, 100, 1_700_000_000_000_000_001, 5, BLOB, xattrs],
            [2, b"l", 0, 0, 0, b"../target"],
            [3, b"r", 0o600, 0, 0, 0, 9, b"s3://bucket/key", b"etag", []],
        ],
    )
    assert Leaf([]).encode().hex() == "920090"
    assert Leaf([LINK]).encode().hex() == "92009196" + "02c4016c000000" + "c409" + b"../target".hex()


def test_an_index_page_has_the_bytes_of_the_format():
    assert INDEX.encode() == packed(
        1,
        1,
        [
            [b"m", TREE, CONTENT, 700, 701, 9, 10, 0o555, -1, -1],
            [b"z", TREE, CONTENT, 1, 5, 4, 3, 0o500, 7, -2],
        ],
    )


def test_the_content_digest_covers_the_significant_fields():
    assert LEAF.content() == packed(
        0,
        [
            [1, b"d", CONTENT],
            [0, b"f", 0, BLOB],
            [2, b"l", b"../target"],
            [3, b"r", 9, b"s3://bucket/key", b"etag"],
        ],
    )
    assert INDEX.content() == packed(1, [CONTENT, CONTENT])


def test_the_example_in_format_md_is_correct():
    """FORMAT.md shows these bytes and digests; a change here is another format."""
    blob = blob_id(XXH128, XXH128.digest(b"best\n"))
    assert text(blob) == "xxh128:9ad4d7b1bb95b000a8c1fad74862c8bc"
    noon = 1_700_000_000_000_000_000
    leaf = Leaf(
        [FileEntry(b"a", 0o644, 1000, 1000, noon, 5, blob), SymlinkEntry(b"b", 1000, 1000, noon, b"a")]
    )
    data, summary = encode(leaf, XXH128)
    assert data == bytes.fromhex(
        "92 00 92"
        "99 00 c40161 cd01a4 cd03e8 cd03e8 cf17979cfe362a0000 05 c411019ad4d7b1bb95b000a8c1fad74862c8bc 90"
        "96 02 c40162 cd03e8 cd03e8 cf17979cfe362a0000 c40161"
    )
    assert leaf.content() == bytes.fromhex(
        "92 00 92 94 00 c40161 00 c411019ad4d7b1bb95b000a8c1fad74862c8bc 93 02 c40162 c40161"
    )
    assert text(summary.tree) == "xxh128:06bfe4ecf10c9f0abfcb8b7be19a4497"
    assert text(summary.content) == "xxh128:c0d1da9341de7ec3380318d5c0612f13"
    _, empty = encode(Leaf([]), XXH128)
    assert text(empty.tree) == text(empty.content) == "xxh128:8cfe108516fde656bcce7ed521e3f2ce"


def test_the_cuts_in_format_md_are_correct():
    """FORMAT.md shows these; a change here is another format."""
    assert cuts([b"n%04d" % i for i in range(1001)], 0) == [299, 551, 741, 884]
    assert cuts([b"n%04d" % i for i in range(1001)], 1) == [21, 376, 541]


def test_a_leaf_is_summarized():
    data, summary = encode(LEAF, XXH128)
    assert summary == PageSummary(
        b"r",
        tree_id(XXH128, data),
        content_digest(XXH128, LEAF.content()),
        4,
        4 + 7,
        6 + 2,
        5000 + 5 + 9,
        0o555,
        1000,
        100,
    )
    assert LEAF.offsets == [1, 9, 10, 11]


def test_an_index_page_is_summarized():
    _, summary = encode(INDEX, XXH128)
    assert (summary.last, summary.names, summary.entries, summary.files, summary.bytes) == (
        b"z",
        701,
        706,
        13,
        13,
    )
    assert (summary.reach, summary.uid, summary.gid) == (0o500, 7, MANY)
    assert (INDEX.starts, INDEX.ends, INDEX.total) == ([0, 701], [701, 706], 706)


def test_an_empty_directory_is_summarized():
    _, summary = encode(Leaf([]), XXH128)
    assert (summary.last, summary.names, summary.entries, summary.files, summary.bytes) == (b"", 0, 0, 0, 0)
    assert summary.directory(b"", 0o1777, 1, 2, 3).reach == 0o555


def test_sums_of_sizes_are_bounded():
    huge = [msgspec.structs.replace(REFERENCE, name=name, size=MAX_INT) for name in (b"a", b"b", b"c")]
    data, summary = encode(Leaf(huge), XXH128)
    assert summary.bytes == MAX_INT
    assert decode(data).items == tuple(huge)
    _, above = encode(Index(1, [summary, msgspec.structs.replace(summary, last=b"d")]), XXH128)
    assert above.bytes == MAX_INT


def directory(name: bytes, mode: int, uid: int, gid: int, reach: int) -> DirEntry:
    return DirEntry(name, mode, uid, gid, 0, TREE, CONTENT, 0, 0, 0, reach)


@pytest.mark.parametrize(
    ("children", "own", "reach"),
    [
        ([], (0o755, 1, 1), 0o555),
        ([], (0o1730, 1, 1), 0o510),
        ([(0o755, 1, 1, 0o555)], (0o755, 1, 1), 0o555),
        ([(0o755, 1, 1, 0o555)], (0o750, 1, 1), 0o550),
        ([(0o755, 1, 1, 0o555), (0o700, 1, 1, 0o500)], (0o755, 1, 1), 0o500),
        # Where owners differ, an owner of the one may be another user of the other.
        ([(0o755, 2, 1, 0o555)], (0o755, 1, 1), 0o055),
        ([(0o755, 1, 1, 0o555), (0o755, 2, 1, 0o555)], (0o755, 1, 1), 0o055),
        ([(0o755, 1, 1, 0o555), (0o755, 2, 1, 0o555), (0o755, 1, 1, 0o555)], (0o755, 2, 1), 0o055),
        ([(0o455, 2, 1, 0o455)], (0o755, 1, 1), 0o044),
        ([(0o055, 2, 1, 0o055)], (0o755, 1, 1), 0),
        ([(0o055, 1, 1, 0o055)], (0o755, 1, 1), 0o055),
        # The same applies to groups: 0705 excludes a group.
        ([(0o755, 1, 2, 0o555)], (0o755, 1, 1), 0o505),
        ([(0o705, 1, 2, 0o505)], (0o755, 1, 1), 0o500),
        ([(0o705, 1, 1, 0o505)], (0o755, 1, 1), 0o505),
        ([(0o705, 2, 2, 0o505)], (0o755, 1, 1), 0),
        ([(0o755, 2, 2, 0o555)], (0o755, 1, 1), 0o005),
        ([(0o755, 1, 2, 0o555), (0o755, 2, 3, 0o555), (0o700, 1, 2, 0o500)], (0o755, 1, 2), 0),
    ],
)
def test_reach_is_the_mask_of_users_who_list_every_directory(children, own, reach):
    mode, uid, gid = own
    entries = [directory(b"%d" % i, *child) for i, child in enumerate(children)]
    summaries = [encode(Leaf([entry]), XXH128)[1] for entry in entries]
    whole = encode(Leaf(entries), XXH128)[1]
    assert whole.directory(b"x", mode, uid, gid, 0).reach == reach
    if summaries:
        above = encode(Index(1, summaries), XXH128)[1]
        assert above.directory(b"x", mode, uid, gid, 0).reach == reach
        assert (above.reach, above.uid, above.gid) == (whole.reach, whole.uid, whole.gid)


@pytest.mark.parametrize("page", [Leaf([]), LEAF, INDEX])
def test_pages_round_trip(page):
    data, summary = encode(page, XXH128)
    again = decode(data)
    assert type(again) is type(page)
    assert list(again.items) == list(page.items)
    assert again.keys == page.keys
    assert encode(again, XXH128) == (data, summary)


def leaf_with(entry: Any) -> bytes:
    return Leaf([entry]).encode()


def changed(entry: Any, **fields: Any) -> bytes:
    return leaf_with(msgspec.structs.replace(entry, **fields))


ILLEGAL = {
    "nothing": b"",
    "not MessagePack": b"\xc1",
    "cut short": LEAF.encode()[:-1],
    "bytes behind it": LEAF.encode() + b"\x00",
    "no array": msgspec.msgpack.encode({"a": 1}),
    "deep": b"\x91" * 100_000,
    "huge": b"\xdd\xff\xff\xff\xff",
    "unknown kind of page": packed(2, []),
    "unknown kind of entry": packed(0, [[4, b"x"]]),
    "a leaf with something more": packed(0, [], 0),
    "a field too few": packed(0, [[2, b"l", 0, 0, 0]]),
    "a field too many": packed(0, [[2, b"l", 0, 0, 0, b"x", 0]]),
    "no xattrs field": packed(0, [[0, b"f", 0, 0, 0, 0, 5, BLOB]]),
    "a name that is text": packed(0, [[2, "l", 0, 0, 0, b"x"]]),
    "a number that is a float": packed(0, [[2, b"l", 0.0, 0, 0, b"x"]]),
    "a number that is a bool": packed(0, [[2, b"l", False, 0, 0, b"x"]]),
    "a number in too many bytes": bytes.fromhex("92009196" + "02c4016ccc000000c40178"),
    "no name": changed(FILE, name=b""),
    "dot": changed(FILE, name=b"."),
    "dot dot": changed(FILE, name=b".."),
    "slash": changed(FILE, name=b"a/b"),
    "NUL": changed(FILE, name=b"a\0"),
    "long name": changed(FILE, name=b"x" * 256),
    "reserved": changed(FILE, name=b".artfs"),
    "reserved with more": changed(FILE, name=b".artfs@x"),
    "unsorted": Leaf([FILE, DIRECTORY]).encode(),
    "twice": Leaf([FILE, FILE]).encode(),
    "setuid": changed(FILE, mode=0o4755),
    "setgid": changed(DIRECTORY, mode=0o2755),
    "kind in mode": changed(FILE, mode=0o100644),
    "negative mode": changed(FILE, mode=-1),
    "negative owner": changed(FILE, uid=-1),
    "owner over 32 bits": changed(FILE, gid=2**32),
    "negative size": changed(FILE, size=-1),
    "size over 63 bits": changed(FILE, size=2**63),
    "no blob": changed(FILE, blob=b""),
    "blob of an unknown algorithm": changed(FILE, blob=b"\x07" + bytes(16)),
    "blob of a short digest": changed(FILE, blob=BLOB[:-1]),
    "blob with counter 0": changed(FILE, blob=BLOB + b"\0"),
    "blob with too large a counter": changed(FILE, blob=BLOB + b"\x01\0\0\0\0"),
    "tree with counter": changed(DIRECTORY, tree=TREE + b"\x01"),
    "content with counter": changed(DIRECTORY, content=CONTENT + b"\x01"),
    "negative count": changed(DIRECTORY, entries=-1),
    "more files than entries": changed(DIRECTORY, files=8),
    "reach over mode": changed(DIRECTORY, mode=0o700),
    "reach with w": changed(DIRECTORY, mode=0o777, reach=0o200),
    "no target": changed(LINK, target=b""),
    "NUL in a target": changed(LINK, target=b"a\0b"),
    "long target": changed(LINK, target=b"x" * 4096),
    "no URI": changed(REFERENCE, uri=b""),
    "NUL in a URI": changed(REFERENCE, uri=b"a\0b"),
    "unsorted xattrs": changed(FILE, xattrs=((b"b", b""), (b"a", b""))),
    "xattr twice": changed(FILE, xattrs=((b"a", b""), (b"a", b""))),
    "xattr without name": changed(FILE, xattrs=((b"", b""),)),
    "long xattr": changed(DIRECTORY, xattrs=((b"a", b"x" * 65537),)),
    "xattrs of a reference": changed(REFERENCE, xattrs=((b"a\0", b""),)),
    "a leaf too long": Leaf(
        [msgspec.structs.replace(LINK, name=b"%05d" % i) for i in range(LEAF_MAX + 1)]
    ).encode(),
    "level 0 of an index": packed(1, 0, list(INDEX.items)),
    "level too high": packed(1, MAX_LEVEL + 1, list(INDEX.items)),
    "an index of nothing": packed(1, 1, []),
    "an unsorted index": packed(1, 1, INDEX.items[::-1]),
    "an index with illegal names": packed(1, 1, [msgspec.structs.replace(INDEX.items[0], last=b".")]),
    "an index without names": packed(1, 1, [msgspec.structs.replace(INDEX.items[0], names=0)]),
    "an index with fewer entries than names": packed(
        1, 1, [msgspec.structs.replace(INDEX.items[0], names=702)]
    ),
    "an index with more files than entries": packed(
        1, 1, [msgspec.structs.replace(INDEX.items[0], files=702)]
    ),
    "an index with a blob's id": packed(1, 1, [msgspec.structs.replace(INDEX.items[0], tree=TREE + b"\x01")]),
    "an index with w": packed(1, 1, [msgspec.structs.replace(INDEX.items[0], reach=0o200)]),
    "an index with an owner of nothing": packed(1, 1, [msgspec.structs.replace(INDEX.items[0], uid=1)]),
    "an index with a reach of nothing": packed(1, 1, [msgspec.structs.replace(INDEX.items[0], reach=0o500)]),
    "an index with an owner of no kind": packed(1, 1, [msgspec.structs.replace(INDEX.items[1], uid=-3)]),
    "an index over all bounds": packed(
        1, 1, [msgspec.structs.replace(INDEX.items[0], last=last, entries=MAX_INT) for last in (b"a", b"b")]
    ),
    "an index too long": packed(
        1, 1, [msgspec.structs.replace(INDEX.items[0], last=b"%05d" % i) for i in range(INDEX_MAX + 1)]
    ),
}


@pytest.mark.parametrize("data", ILLEGAL.values(), ids=ILLEGAL.keys())
def test_invalid_pages_are_refused(data):
    with pytest.raises(Damaged, match=r"tree xxh128:00 is damaged: .") as caught:
        decode(data, "tree xxh128:00")
    assert caught.value.what == "tree xxh128:00"


@pytest.mark.parametrize(
    "page",
    [
        Leaf([FILE, DIRECTORY]),
        Leaf([msgspec.structs.replace(FILE, mode=0o4755)]),
        Leaf([msgspec.structs.replace(FILE, mtime_ns=2**64)]),
        Leaf([msgspec.structs.replace(FILE, name=b".artfs")]),
        Index(MAX_LEVEL + 1, INDEX.items),
    ],
)
def test_entries_that_could_not_be_read_are_not_written(page):
    with pytest.raises(ValueError, match="not a legal page"):
        encode(page, XXH128)


def test_extreme_times_round_trip():
    for mtime_ns in (-(2**63), -1, 0, 2**63, 2**64 - 1):
        data, _ = encode(Leaf([msgspec.structs.replace(LINK, mtime_ns=mtime_ns)]), XXH128)
        (entry,) = decode(data).items
        assert entry == msgspec.structs.replace(LINK, mtime_ns=mtime_ns)


def names(level: int, cut: bool, count: int) -> list[bytes]:
    """Names after which the rule of a level cuts, or does not cut."""
    found: list[bytes] = []
    number = 0
    shift, bits = ((0, 9), (9, 7), (16, 7))[level]
    while len(found) < count:
        name = b"%07d" % number
        if ((xxh3_64_intdigest(name) >> shift) % 2**bits == 0) == cut:
            found.append(name)
        number += 1
    return found


@pytest.mark.parametrize(
    ("level", "least", "most"),
    [(0, LEAF_MIN, LEAF_MAX), (1, INDEX_MIN, INDEX_MAX), (2, INDEX_MIN, INDEX_MAX)],
)
class TestCuts:
    def test_names_that_never_cut_are_split_at_the_maximum(self, level, least, most):
        plain = names(level, False, 3 * most)
        assert cuts([], level) == []
        assert cuts(plain[: most - 1], level) == []
        # The page is full.
        assert cuts(plain[:most], level) == [most]
        assert cuts(plain, level) == [most, 2 * most, 3 * most]

    def test_pages_have_a_minimum_length(self, level, least, most):
        cutting = names(level, True, 3 * least + 1)
        assert cuts(cutting, level) == [least, 2 * least, 3 * least]

    def test_a_page_ends_after_a_cutting_name(self, level, least, most):
        plain, (cutting,) = names(level, False, 2 * most), names(level, True, 1)
        for position in (least - 1, least, most - 2, most - 1):
            assert cuts([*plain[:position], cutting, *plain[: most - 1]], level) == [position + 1]
        # Too early: the page would be too short.
        assert cuts([*plain[: least - 2], cutting, *plain[: most - least]], level) == []
        # The minimum counts from the end of a full page.
        assert cuts([*plain[: most + least - 1], cutting], level) == [most, most + least]
        assert cuts([*plain[: most + 1], cutting], level) == [most]
