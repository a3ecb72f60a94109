"""The JSON of versions: golden bytes, what is refused on reading, what users may write."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from artfs.catalog import records
from artfs.catalog.records import Labels, Tombstone, VersionRecord
from artfs.catalog.runs import RecordedRun
from artfs.errors import Damaged, InvalidCommand
from artfs.store.documents import timestamp
from tests.unit.catalogs import GOLDEN, OWNER, root_entry

RECORD = VersionRecord.make(
    number=3,
    serial=17,
    root=root_entry(),
    distributed_id=b"j\xc3\xb6b 100%\xff",
    seal="5f0c",
    created_by="ada",
    created_at="2024-02-29T23:59:59.000001Z",
    base="other:v1",
    link="other:v1",
    runs=["run-1", "run-2"],
    aliases=["best"],
    tags=["größer"],
    description="two\nlines",
    metadata={"epochs": 3, "loss": 0.25, "big": 2**80, "nested": {"é": [None, True]}},
)
NOTES = Labels(
    description="ein Käfer",
    tags=("a", "b"),
    ttl=3600,
    metadata={"k": "v"},
    used_by=("run-9",),
    runs=("run-3",),
    updated_at="2024-03-01T00:00:00.000000Z",
)
RUN = RecordedRun(
    id="run-1",
    project="p",
    group="g",
    job_type="train",
    host="h",
    started_at="2024-02-29T00:00:00.000000Z",
    inputs=("data:v1",),
    outputs=("model:v3",),
    owner=1000,
    processes=(OWNER,),
    name="calm river",
    notes="two\nlines",
    tags=("a tag",),
    config={"lr": 0.1, "layers": [1, 2]},
    summary={"best": None},
)
TOMBSTONE = Tombstone(version="v3", deleted_at="2024-03-02T00:00:00.000000Z")

GOLDENS = {"version.json": RECORD, "notes.json": NOTES, "run.json": RUN, "tombstone.json": TOMBSTONE}


@pytest.mark.parametrize("name", GOLDENS)
def test_records_have_the_bytes_of_the_golden_files(name):
    path, value = GOLDEN / name, GOLDENS[name]
    if os.environ.get("ARTFS_WRITE_GOLDEN"):
        path.write_bytes(records.encode(value))
    assert records.encode(value) == path.read_bytes()
    assert records.decode(path.read_bytes(), type(value), name) == value


def test_a_root_entry_round_trips():
    found = records.decode_version(records.encode(RECORD), 3, "x")
    assert isinstance(found, VersionRecord)
    assert found.root.entry() == root_entry()
    assert found.id == b"j\xc3\xb6b 100%\xff"
    assert found.metadata["big"] == 2**80


def test_unknown_keys_are_ignored():
    document = {**json.loads(records.encode(RECORD)), "future": 1}
    assert records.decode_version(json.dumps(document).encode(), 3, "x") == RECORD


def changed(**changes):
    document = json.loads(records.encode(RECORD))
    for key, value in changes.items():
        if key.startswith("root_"):
            document["root"][key.removeprefix("root_")] = value
        else:
            document[key] = value
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        records.encode(RECORD)[:-20],
        b"\xff" + records.encode(RECORD),
        b"[" * 200_000,
        changed(version="v4"),
        changed(version="v03"),
        changed(version=3),
        changed(serial=-1),
        changed(serial=True),
        changed(serial=1.5),
        changed(size=4097),
        changed(file_count=4),
        changed(digest="xxh128:" + "0" * 32),
        changed(digest=None),
        changed(root_mode="0999"),
        changed(root_mode="4755"),
        changed(root_reach="0755"),
        changed(root_tree="xxh128:0"),
        changed(root_tree="md5:" + "0" * 32),
        changed(root_entries=-1),
        changed(root_uid=2**32),
        changed(root_mtime_ns=2**63),
        changed(root_xattrs=[["zz", ""]]),
        changed(distributed_id="%zz"),
        changed(distributed_id="%61"),
        changed(tags=[1]),
        changed(metadata=[]),
        changed(metadata="NAN").replace(b'"NAN"', b'{"a": NaN}'),
    ],
)
def test_an_invalid_record_is_damaged_and_named(data):
    with pytest.raises(Damaged, match="the file") as caught:
        records.decode_version(data, 3, "the file")
    assert caught.value.what == "the file"


def test_tombstones_are_no_records():
    found = records.decode_version(records.encode(TOMBSTONE), 3, "x")
    assert found == TOMBSTONE
    with pytest.raises(Damaged):
        records.decode_version(records.encode(TOMBSTONE), 4, "x")


def test_a_version_is_shown_with_all_fields():
    seen = records.describe(
        RECORD, NOTES, ["best", "latest"], collection="model", collection_type="checkpoint"
    )
    assert seen == {
        "state": "sealed",
        "version": "v3",
        "collection": "model",
        "type": "checkpoint",
        "digest": RECORD.digest,
        "size": 4096,
        "file_count": 3,
        "created_at": "2024-02-29T23:59:59.000001Z",
        "created_by": "ada",
        "distributed_id": "jöb 100%\udcff",
        "base": "other:v1",
        "link": "other:v1",
        "runs": ["run-1", "run-2", "run-3"],
        "used_by": ["run-9"],
        "aliases": ["best", "latest"],
        "tags": ["a", "b"],
        "ttl": 3600,
    }
    json.dumps(seen)


def test_a_versions_ttl_precedes_its_collections():
    labels = records.Labels()
    assert records.effective_ttl(labels, None) is None
    assert records.effective_ttl(labels, 60) == 60
    assert records.effective_ttl(replace(labels, ttl=5), 60) == 5
    assert records.effective_ttl(replace(labels, ttl="none"), 60) is None


@given(st.binary(min_size=1, max_size=255))
def test_ids_round_trip_through_json(distributed_id):
    text = records.encode_id(distributed_id)
    assert text.encode().decode() == text
    assert text.isprintable()
    assert records.decode_id(text) == distributed_id


def test_plain_ids_are_stored_readably():
    assert records.encode_id("größe 1.0-x".encode()) == "größe 1.0-x"
    assert records.encode_id(b"100%") == "100%25"
    assert records.encode_id(b"a\nb\xff") == "a%0Ab%FF"


@pytest.mark.parametrize("text", ["100%", "%", "%6", "%61", "%ff", "a\nb", "%C3%B6"])
def test_other_spellings_of_ids_are_refused(text):
    with pytest.raises(ValueError):
        records.decode_id(text)


@pytest.mark.parametrize(
    "tag", ["", "a\n", "\t", "a\0", "a\x7f", "a\u0085", "a\u2028b", "\udcff", "x" * 257, "é" * 129, "\n"]
)
def test_invalid_tags_are_refused(tag):
    with pytest.raises(InvalidCommand):
        records.check_tags([tag])


def test_tags_are_deduplicated():
    assert records.check_tags(["b", "a:1/2", "b", "é" * 128]) == ("b", "a:1/2", "é" * 128)


def test_descriptions_are_bounded():
    for text in ("", "a\nb\n", "\u2028", "\x1b"):
        assert records.check_description(text) == text
    for text in ("a\0", "\udcff", "x" * (records.TEXT_LIMIT + 1)):
        with pytest.raises(InvalidCommand):
            records.check_description(text)


def test_ttls_are_parsed():
    for ttl in (None, 0, 10**9):
        assert records.check_ttl(ttl) == ttl
    wrong: Any
    for wrong in (-1, 1.5, True, "3", 2**63):
        with pytest.raises(InvalidCommand):
            records.check_ttl(wrong)


def test_metadata_must_be_a_bounded_json_object():
    assert records.check_metadata({"a": [1, 2**100, {"b": None}]})
    wrong: Any
    deep: dict[str, object] = {}
    for _ in range(100_000):
        deep = {"a": deep}
    for wrong in (
        [],
        None,
        {1: 2},
        {"a": float("nan")},
        {"a": "\ud800"},
        {"\ud800": 1},
        {"a": b""},
        {"a": "x" * 2**24},
        deep,
    ):
        with pytest.raises(InvalidCommand):
            records.check_metadata(wrong)


def test_timestamps_sort_and_have_microseconds():
    first, second = timestamp(), timestamp()
    assert first <= second
    assert len(first) == len("2024-02-29T23:59:59.000001Z")
    assert first.endswith("Z")
