"""Digests and ids: their bytes, their text, and that each has one spelling only."""

from __future__ import annotations

import hashlib

import pytest

from artfs.model.digest import (
    Algorithm,
    ContentDigest,
    TreeId,
    algorithm_of,
    blob_id,
    content_digest,
    counter_of,
    digest_of,
    is_blob_id,
    is_plain_id,
    parse_blob,
    parse_content,
    parse_tree,
    text,
    tree_id,
)

ALGORITHMS = list(Algorithm)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_digest_in_pieces_is_the_digest_of_the_whole(algorithm):
    hasher = algorithm.hasher()
    hasher.update(b"some ")
    hasher.update(memoryview(b"bytes"))
    assert hasher.digest() == algorithm.digest(b"some bytes")
    assert len(hasher.digest()) == algorithm.size


def test_digests_are_those_of_the_published_algorithms():
    # The first is the XXH3-128 test vector for empty input with seed 0.
    assert Algorithm.XXH128.digest(b"").hex() == "99aa06d3014798d86001c324468d497f"
    assert Algorithm.SHA256.digest(b"x") == hashlib.sha256(b"x").digest()


def test_an_algorithm_is_found_by_its_label_only():
    assert Algorithm.named("xxh128") is Algorithm.XXH128
    assert Algorithm.named("sha256") is Algorithm.SHA256
    for label in ("XXH128", "md5", ""):
        with pytest.raises(ValueError, match="xxh128, sha256"):
            Algorithm.named(label)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("counter", [0, 1, 3, 255, 256, 65536, 2**32 - 1])
def test_a_blob_id_round_trips_through_text(algorithm, counter):
    digest = algorithm.digest(b"bytes")
    blob = blob_id(algorithm, digest, counter)
    assert is_blob_id(blob)
    assert (algorithm_of(blob), digest_of(blob), counter_of(blob)) == (algorithm, digest, counter)
    assert text(blob) == f"{algorithm.label}:{digest.hex()}" + (f"-{counter}" if counter else "")
    assert parse_blob(text(blob)) == blob


def test_a_blob_id_has_the_bytes_of_the_format():
    digest = bytes(range(16))
    assert blob_id(Algorithm.XXH128, digest) == b"\x01" + digest
    assert blob_id(Algorithm.XXH128, digest, 3) == b"\x01" + digest + b"\x03"
    assert blob_id(Algorithm.XXH128, digest, 256) == b"\x01" + digest + b"\x01\x00"
    assert blob_id(Algorithm.SHA256, digest * 2) == b"\x02" + digest * 2


def test_a_blob_id_needs_a_whole_digest_and_a_valid_counter():
    for digest, counter in ((b"short", 0), (bytes(16), -1), (bytes(16), 2**32)):
        with pytest.raises(ValueError):
            blob_id(Algorithm.XXH128, digest, counter)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_tree_and_content_ids_round_trip_through_text(algorithm):
    tree, content = tree_id(algorithm, b"page"), content_digest(algorithm, b"page")
    assert is_plain_id(tree)
    assert is_plain_id(content)
    assert parse_tree(text(tree)) == tree
    assert parse_content(text(content)) == content


@pytest.mark.parametrize(
    "spelled",
    [
        "",
        "xxh128",
        "xxh128:",
        "xxh128:" + "0" * 31,
        "xxh128:" + "0" * 33,
        "xxh128:" + "0" * 64,
        "xxh128:" + "A" * 32,
        "XXH128:" + "0" * 32,
        "md5:" + "0" * 32,
        " xxh128:" + "0" * 32,
        "xxh128:" + "0" * 32 + "\n",
        "xxh128:" + "0" * 32 + "-",
        "xxh128:" + "0" * 32 + "-0",
        "xxh128:" + "0" * 32 + "-03",
        "xxh128:" + "0" * 32 + "--3",
        "xxh128:" + "0" * 32 + "-4294967296",
        "xxh128:" + "0" * 32 + "-٣",
    ],
)
def test_other_spellings_of_ids_are_refused(spelled):
    for parse in (parse_blob, parse_tree, parse_content):
        with pytest.raises(ValueError):
            parse(spelled)


def test_only_a_blob_has_a_collision_counter():
    spelled = "xxh128:" + "0" * 32 + "-3"
    assert counter_of(parse_blob(spelled)) == 3
    for parse in (parse_tree, parse_content):
        with pytest.raises(ValueError, match="collision counter"):
            parse(spelled)


def test_invalid_bytes_of_ids_are_refused():
    digest = bytes(16)
    illegal = (b"", b"\x00" + digest, b"\x03" + digest, b"\x01", b"\x01" + digest[1:], b"\x02" + digest)
    for raw in illegal:
        assert not is_blob_id(raw)
        assert not is_plain_id(raw)
    for counter in (b"\x00", b"\x00\x01", b"\x01\x00\x00\x00\x00"):
        assert not is_blob_id(b"\x01" + digest + counter)
    assert not is_plain_id(b"\x01" + digest + b"\x01")
    for unknown in (TreeId(b""), ContentDigest(b"\x09" + digest)):
        with pytest.raises(ValueError):
            text(unknown)
