"""Which names are valid where."""

from __future__ import annotations

import pytest

from artfs.errors import InvalidName
from artfs.model import names


@pytest.mark.parametrize("name", ["m", "model", "7b", "_x", "a.b-c_D", "v", "v1x", "x" * 128, "CON", "a..b"])
def test_valid_names_of_collections_and_aliases_are_accepted(name):
    assert names.check_collection(name) == name
    assert names.check_alias(name) == name


@pytest.mark.parametrize(
    "name", ["-x", "x y", "a\n", "é", "a:v1", "٣", "acc=0.9", "a%20b", "x" * 127 + "é", "\u3000", "v1 "]
)
def test_some_names_are_valid_for_aliases_only(name):
    name = name.encode()[-names.MAX_ALIAS :].decode()
    assert names.check_alias(name) == name
    with pytest.raises(InvalidName):
        names.check_collection(name)


@pytest.mark.parametrize("name", ["", ".", "..", ".artfs", ".x", "x" * 129, "é" * 65, "a/b", "a\0", "\udc80"])
def test_invalid_names_of_collections_and_aliases_are_refused(name):
    for check in (names.check_collection, names.check_alias):
        with pytest.raises(InvalidName) as caught:
            check(name)
        assert caught.value.name == name


@pytest.mark.parametrize("name", ["pending", "v0", "v1", "v01", "v123456789012345678901234567890"])
def test_versions_and_pending_are_no_aliases(name):
    assert names.check_collection(name) == name
    with pytest.raises(InvalidName):
        names.check_alias(name)


@pytest.mark.parametrize(
    ("ref", "split"),
    [
        ("v3", ("", "v3")),
        ("m:v3", ("m", "v3")),
        ("m:a:b", ("m", "a:b")),
        ("m:", ("m", "")),
        (":b", ("", "b")),
    ],
)
def test_references_are_split_at_the_first_colon(ref, split):
    assert names.split_reference(ref) == split


def test_latest_is_an_alias_name():
    assert names.check_alias(names.LATEST) == "latest"


@pytest.mark.parametrize("name", [b"job-42", b"a%2Fb", b"\xff\xfe", b"a b", b"v0", b"~", b"x" * 255, b"a\n"])
def test_valid_distributed_ids_are_accepted(name):
    assert names.check_distributed_id(name) == name


@pytest.mark.parametrize("name", [b"", b".", b"..", b".x", b".artfs", b"a/b", b"/", b"a\0", b"x" * 256])
def test_invalid_distributed_ids_are_refused(name):
    with pytest.raises(InvalidName):
        names.check_distributed_id(name)


@pytest.mark.parametrize(
    "name",
    [
        b"a",
        b".a",
        b"...",
        b".art",
        b".ARTFS",
        b"x.artfs",
        b".artfs-lower",
        b".artfsx",
        b"\xff",
        b" ",
        b"x" * 255,
    ],
)
def test_valid_names_of_entries_are_accepted(name):
    assert names.check_entry_name(name) == name


@pytest.mark.parametrize(
    "name", [b"", b".", b"..", b".artfs", b".artfs@", b".artfs@x", b"a/b", b"\0", b"x" * 256]
)
def test_invalid_names_of_entries_are_refused(name):
    with pytest.raises(InvalidName):
        names.check_entry_name(name)


def test_each_version_has_one_name():
    for number in (0, 1, 9, 10, 10**17):
        assert names.parse_version(names.version_name(number)) == number
    for name in (
        "",
        "v",
        "0",
        "v01",
        "v00",
        "V1",
        "v-1",
        "v+1",
        "v1 ",
        "v1\n",
        "v1_0",
        "v٣",
        "v" + "9" * 5000,
    ):
        assert names.parse_version(name) is None
    with pytest.raises(ValueError):
        names.version_name(-1)
