"""The syntax of URIs, the names that they imply, and the URIs that errors show."""

from __future__ import annotations

import pytest

from artfs.errors import Changed, InvalidCommand, RemoteMissing, Unreachable
from artfs.printing import printable_uri
from artfs.references import uris
from tests.unit.test_local_files import resolver


@pytest.mark.parametrize(
    ("uri", "parts", "directory"),
    [
        ("file:///a/b", (b"a", b"b"), False),
        ("FILE://localhost//a/./b/", (b"a", b"b"), True),
        ("file:///", (), True),
        ("file:///a%20b/%FF%2Fc", (b"a b", b"\xff", b"c"), False),
        ("file:///100%/\u00e4", (b"100%", b"\xc3\xa4"), False),
        ("file:///\udcff", (b"\xff",), False),
        ("file:///a%3Fb%23", (b"a?b#",), False),
    ],
)
def test_file_uris_are_percent_decoded_to_bytes(uri: str, parts: tuple[bytes, ...], directory: bool) -> None:
    assert uris.scheme_of(uri) == "file"
    path = uris.file_path(uri)
    assert path == (parts, directory)
    canonical = uris.file_uri(parts)
    assert canonical.isascii()
    assert uris.file_path(canonical).parts == parts


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "a/b",
        "/a/b",
        "file:/a",
        "file://",
        "file://host/a",
        "file:///a/../b",
        "file:///a/%2e%2E",
        "file:///a%00",
        "file:///a?b",
        "file:///a#b",
        "file:///a\nb",
        "ftp://host/a",
        "artfs://model:v0/a",
        "s3://",
        "s3:///key",
        "s3://b@d/key",
        "gs://bucket/a//b",
        "s3://bucket/a/../b",
        "s3://bucket/a/?versionId=v",
        "gs://bucket/../b",
        "az://bucket/./b",
        "s3://bucket/\udcff",
        "http://",
        "https:///path",
        "http://[::1/x",
        "http://host:port/x",
        "http://host/" + 65536 * "x",
    ],
)
def test_other_uris_are_refused(uri: str) -> None:
    with pytest.raises(InvalidCommand) as refused:
        resolver().list_objects(uri)
    assert "\n" not in str(refused.value)
    # If it is recorded anyway, reading fails with EIO, not with the EINVAL of a command.
    with pytest.raises(Unreachable):
        resolver().open(uri, 1, b"etag:x")
    with pytest.raises(Unreachable):
        resolver().verify(uri, 1, b"etag:x")


def test_an_unknown_scheme_names_the_known_ones() -> None:
    with pytest.raises(InvalidCommand, match="file://, http://, https://, s3://, gs://, az://"):
        resolver().list_objects("ftp://host/a")


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("http://host/a/b.bin", b"b.bin"),
        ("http://host/a%20b?token=x#y", b"a b"),
        ("http://host/a/", b"a"),
        ("http://host", b"host"),
        ("http://host/%2e%2e", b"host"),
        ("http://host/a%2Fb%FF", b"b\xff"),
        ("http://host/a/%00", b"host"),
    ],
)
def test_an_address_implies_one_name(uri: str, name: bytes) -> None:
    assert uris.http_name(uri) == name


def test_an_address_is_split_only_if_it_stays_the_same() -> None:
    assert uris.http_address("http://h:1/a/b.bin") == ("http://h:1", "a/b.bin")
    for whole in (
        "http://h/a%20b",
        "http://h/a?b",
        "http://h/a/",
        "http://h/a//b",
        "http://h/a/.b",
        "http://h",
    ):
        assert uris.http_address(whole) == (whole, "")


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("https://me:secret@host/a?X-Amz-Signature=secret#secret", "https://host/a?..."),
        ("https://me:sec?ret@host/a", "https://host/a?..."),
        ("s3://bucket/a@b", "s3://bucket/a@b"),
        ("file:///a\nb", "file:///a\\nb"),
        ("nothing", "nothing"),
    ],
)
def test_a_printed_uri_has_no_secrets(uri: str, shown: str) -> None:
    assert printable_uri(uri) == shown
    for error in (Unreachable(uri, "why"), Changed(uri, "a", "b"), RemoteMissing(uri)):
        assert str(error).startswith(shown)
        assert error.uri == uri


def test_a_uri_names_its_object_in_any_spelling() -> None:
    for uri, found, itself in (
        ("file:///a//b/./c", "file:///a/b/c", True),
        ("file://localhost/a%62", "file:///ab", True),
        ("file:///a//b", "file:///a/b/c", False),
        ("http://host/a/", "http://host/a/", True),
        ("s3://bucket/a", "s3://bucket/a", True),
        ("s3://bucket/a", "s3://bucket/a/a", False),
        ("s3://bucket", "s3://bucket/a", False),
    ):
        assert uris.names_object(uri, found) is itself, uri
