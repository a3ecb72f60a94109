"""References to S3, with a server: credentials, endpoints, and keys."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from artfs.errors import Changed, InvalidCommand, Unreachable
from artfs.model.digest import Algorithm
from artfs.references import Resolver, Timeouts
from artfs.references.remote_store import ObjectInfo
from tests.s3_server import S3Server, environment, s3_server

_numbers = itertools.count(1)

QUICK = Timeouts(connect=2, read=5, answer=5, retries=0)


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with s3_server() as server:
        yield server


@pytest.fixture(autouse=True)
def no_aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An environment without the user's settings: credentials in a file, and no endpoint."""
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name, value in environment(tmp_path / ".aws", None).items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def remote() -> Iterator[Resolver]:
    remote = Resolver(None, algorithm=Algorithm.XXH128, world_readable_only=False, timeouts=QUICK)
    yield remote
    remote.close()


@pytest.fixture
def bucket(server: S3Server, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    monkeypatch.setenv("AWS_S3_ENDPOINT_URL", server.base)
    return server.bucket(
        f"bucket-{next(_numbers)}", versions=request.function is test_object_versions_are_recorded_and_read
    )


def read(remote: Resolver, uri: str, size: int, checksum: bytes) -> bytes:
    fd = remote.open(uri, size, checksum)
    assert isinstance(fd, int)
    with open(fd, "rb") as file:
        return file.read()


# ---- credentials and endpoints ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "variable", ["AWS_S3_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"]
)
def test_a_configured_endpoint_may_be_http(
    variable: str, server: S3Server, bucket: str, remote: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.put(bucket, "a")
    monkeypatch.delenv("AWS_S3_ENDPOINT_URL")
    monkeypatch.setenv(variable, server.base)
    assert [item.name for item in remote.list_objects(f"s3://{bucket}/a")] == [b"a"]


@pytest.mark.parametrize("how", ["files", "home", "environment", "unsigned"])
def test_credentials_are_found(
    how: str, server: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    server.put(bucket, "a")
    aws = tmp_path / ".aws"
    monkeypatch.delenv("AWS_S3_ENDPOINT_URL")
    (aws / "credentials").write_text("[other]\naws_access_key_id=A\naws_secret_access_key=B\n")
    (aws / "config").write_text(f"[profile other]\nregion=eu-west-1\nendpoint_url={server.base}\n")
    if how == "home":
        monkeypatch.delenv("AWS_SHARED_CREDENTIALS_FILE")
        monkeypatch.delenv("AWS_CONFIG_FILE")
    if how in ("files", "home"):
        monkeypatch.setenv("AWS_PROFILE", "other")
    else:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.base)
    if how == "environment":
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "A")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "B")
    if how == "unsigned":
        monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
        server.client.put_object_acl(Bucket=bucket, Key="a", ACL="public-read")
    remote = Resolver(None, algorithm=Algorithm.XXH128, world_readable_only=False, timeouts=QUICK)
    [found] = remote.list_objects(f"s3://{bucket}/a")
    assert read(remote, found.uri, found.size, found.checksum) == b"data"
    remote.close()


def test_credentials_added_later_are_found(
    server: S3Server, bucket: str, remote: Resolver, tmp_path: Path
) -> None:
    server.put(bucket, "a")
    file = tmp_path / ".aws" / "credentials"
    text = file.read_text()
    file.write_text("")
    with pytest.raises(Unreachable, match="no credentials for it: set AWS_ACCESS_KEY_ID"):
        remote.list_objects(f"s3://{bucket}/a")
    file.write_text(text)
    assert remote.list_objects(f"s3://{bucket}/a")


def test_a_missing_profile_is_reported(
    bucket: str, remote: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(Unreachable, match="has the profile that AWS_PROFILE names"):
        remote.list_objects(f"s3://{bucket}/a")


@pytest.mark.parametrize(
    ("endpoint", "why"),
    [
        ("http://127.0.0.1:1", "connection refused"),
        ("http://no.such.host.invalid", "the name of its server is not known"),
        ("no address", "is not a legal address"),
    ],
)
def test_unreachable_servers_are_reported(
    endpoint: str, why: str, remote: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "S3_ENDPOINT_URL": endpoint,
        "ACCESS_KEY_ID": "KEYID",
        "SECRET_ACCESS_KEY": "SECRET",
    }.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    with pytest.raises(Unreachable, match=f"s3://bucket/some/key can't be fetched: .*{why}") as failed:
        remote.list_objects("s3://bucket/some/key")
    assert type(failed.value) is Unreachable
    assert not any(secret in repr(failed.value) for secret in ("KEYID", "SECRET"))


# ---- keys -------------------------------------------------------------------------------------------------


def test_empty_components_of_keys_are_dropped_from_names(
    server: S3Server, bucket: str, remote: Resolver
) -> None:
    """The request uses the key as it is."""
    for key in ("odd//b", "/top", "odd//deep///c"):
        server.put(bucket, key, key.encode())
    [one] = remote.list_objects(f"s3://{bucket}/odd//b")
    assert (one.name, one.uri) == (b"b", f"s3://{bucket}/odd//b")
    for uri, expected in {
        f"s3://{bucket}": [b"odd/b", b"odd/deep/c", b"top"],
        f"s3://{bucket}/odd/": [b"b", b"deep/c"],
        f"s3://{bucket}/odd//": [b"b", b"deep/c"],
        f"s3://{bucket}//": [b"top"],
    }.items():
        found = remote.list_objects(uri)
        assert [item.name for item in found] == expected
        for item in found:
            data = item.uri.removeprefix(f"s3://{bucket}/").encode()
            assert read(remote, item.uri, item.size, item.checksum) == data
    with pytest.raises(Unreachable, match="no such object"):
        remote.list_objects(f"s3://{bucket}/odd/b")
    server.put(bucket, "odd/b")
    with pytest.raises(
        InvalidCommand, match=rf"s3://{bucket}/odd/b and s3://{bucket}/odd//b would have the same name"
    ):
        remote.list_objects(f"s3://{bucket}/odd/")


@pytest.mark.parametrize("key", ["set/../up", "set/./here", "set/end//"])
def test_a_key_that_cannot_be_in_a_tree_is_named(
    key: str, server: S3Server, bucket: str, remote: Resolver
) -> None:
    server.put(bucket, key)
    with pytest.raises(InvalidCommand, match=f"'s3://{bucket}/{key}' can't be in a tree"):
        remote.list_objects(f"s3://{bucket}/set/")
    if not key.endswith("/"):
        with pytest.raises(InvalidCommand, match=f"'s3://{bucket}/{key}': its key must not have"):
            remote.list_objects(f"s3://{bucket}/{key}")


def test_keys_may_have_any_characters(server: S3Server, bucket: str, remote: Resolver) -> None:
    keys = ["a b", "a%20b", "q?x=1", "h#y", "ä/ö", "plus+", "&amp;"]
    for key in keys:
        server.put(bucket, key, key.encode())
    found = remote.list_objects(f"s3://{bucket}/")
    assert {item.name.decode() for item in found} == set(keys)
    for item in found:
        if "\n" not in item.uri:  # which no URI may contain
            assert read(remote, item.uri, item.size, item.checksum) == item.name
            assert remote.list_objects(item.uri)[0][1:] == item[1:]


def test_a_prefix_may_end_within_a_name(server: S3Server, bucket: str, remote: Resolver) -> None:
    for key in ("dir/part-1", "dir/part-2/x", "dir/other", "party"):
        server.put(bucket, key, key.encode())
    found = remote.list_objects(f"s3://{bucket}/dir/part")
    assert [item.name for item in found] == [b"part-1", b"part-2/x"]
    assert [item.uri for item in found] == [f"s3://{bucket}/dir/part-1", f"s3://{bucket}/dir/part-2/x"]
    assert [item.name for item in remote.list_objects(f"s3://{bucket}/part")] == [b"party"]
    # If a directory has that name, only objects below it are listed.
    server.put(bucket, "dir/part/y")
    for marker in ("dir/part/", "dir/part/sub/"):
        server.put(bucket, marker, b"")
    assert [item.name for item in remote.list_objects(f"s3://{bucket}/dir/part")] == [b"y"]
    for uri in (f"s3://{bucket}/dir/part-/", f"s3://{bucket}/dir/x"):
        with pytest.raises(
            Unreachable, match=f"{uri} can't be fetched: there is no such object, and no object below"
        ):
            remote.list_objects(uri)


def test_a_listing_may_have_several_pages(server: S3Server, bucket: str, remote: Resolver) -> None:
    for number in range(1005):
        server.put(bucket, f"many/{number:04}", b"")
    assert len(remote.list_objects(f"s3://{bucket}/many")) == 1005
    with pytest.raises(InvalidCommand, match="more than 1000 objects"):
        remote.list_objects(f"s3://{bucket}/many", max_objects=1000)


def test_object_versions_are_recorded_and_read(server: S3Server, bucket: str, remote: Resolver) -> None:
    first = server.put(bucket, "dir/a", b"one")
    second = server.put(bucket, "dir/a", b"second")
    [old] = remote.list_objects(f"s3://{bucket}/dir/a?versionId={first}")
    assert old == (b"a", f"s3://{bucket}/dir/a?versionId={first}", 3, b"version:" + first.encode())
    [new] = remote.list_objects(f"s3://{bucket}/dir/a")
    assert (new.uri, new.checksum) == (f"s3://{bucket}/dir/a", b"version:" + second.encode())
    etag = server.client.head_object(Bucket=bucket, Key="dir/a")["ETag"].strip('"').encode()
    assert read(remote, new.uri, 6, b"etag:" + etag) == b"second"
    server.put(bucket, "dir/a", b"latest")
    with pytest.raises(Changed):
        remote.verify(new.uri, 6, b"etag:" + etag)
    server.client.delete_object(Bucket=bucket, Key="dir/a")
    for item, data in ((old, b"one"), (new, b"second")):
        assert read(remote, item.uri, item.size, item.checksum) == data
        remote.verify(item.uri, item.size, item.checksum)
    [unsure] = remote.list_objects(old.uri, checksum=False)
    assert read(remote, unsure.uri, unsure.size, b"") == b"one"
    with pytest.raises(Unreachable, match="no such object"):
        remote.list_objects(f"s3://{bucket}/dir/a")
    with pytest.raises(Unreachable, match="dir/a") as failed:
        remote.list_objects(f"s3://{bucket}/dir/a?versionId=none")
    assert type(failed.value) is Unreachable
    with pytest.raises(Unreachable, match="no such"):
        remote.verify(new.uri, 6, b"version:none")
    for uri in (f"s3://{bucket}/?versionId=x", f"s3://{bucket}/dir/?versionId=x"):
        with pytest.raises(InvalidCommand, match="names a version, but no object"):
            remote.list_objects(uri)


def test_an_object_from_before_the_versions_of_its_bucket_has_an_etag() -> None:
    assert ObjectInfo.of(4, '"tag"', "null").checksum == b"etag:tag"


def test_a_changed_object_is_reported(server: S3Server, bucket: str, remote: Resolver) -> None:
    server.put(bucket, "big", os.urandom(5_000_000))
    [found] = remote.list_objects(f"s3://{bucket}/big")
    assert len(read(remote, found.uri, found.size, found.checksum)) == 5_000_000
    server.put(bucket, "big", b"small")
    with pytest.raises(Changed):
        remote.verify(found.uri, found.size, found.checksum)
    with pytest.raises(Changed):
        remote.open(found.uri, found.size, found.checksum)
    server.client.delete_object(Bucket=bucket, Key="big")
    with pytest.raises(Unreachable, match=f"s3://{bucket}/big can't be fetched: there is no such object"):
        remote.open(found.uri, found.size, found.checksum)


def test_a_missing_bucket_is_reported(bucket: str, remote: Resolver) -> None:
    with pytest.raises(Unreachable, match="s3://no-such-bucket/a can't be fetched: there is no such bucket"):
        remote.list_objects("s3://no-such-bucket/a")
