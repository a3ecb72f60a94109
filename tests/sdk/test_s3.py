"""References to S3 from Python: credentials in a file, odd keys, versions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import artfs as wandb
from artfs.errors import ArtfsError, ReferenceFailed
from tests.s3_server import S3Server, environment, s3_server

pytestmark = pytest.mark.usefixtures("place")


@pytest.fixture(scope="module", autouse=True)
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A server that is in the environment before a daemon starts."""
    with s3_server() as server, pytest.MonkeyPatch.context() as patch:
        for key, value in environment(tmp_path_factory.mktemp("aws"), server.base).items():
            patch.setenv(key, value)
        yield server


@pytest.fixture(scope="module")
def bucket(server: S3Server) -> str:
    return server.bucket("bucket", versions=True)


def test_an_object_a_version_and_a_prefix_are_references(
    name: str, artifact: wandb.Artifact, server: S3Server, bucket: str, tmp_path: Path
) -> None:
    first = server.put(bucket, f"{name}/odd//a", b"first")
    server.put(bucket, f"{name}/odd//a", b"second")
    server.put(bucket, f"{name}/odder", b"odder")
    artifact.add_reference(f"s3://{bucket}/{name}/odd//a", name="one")
    artifact.add_reference(f"s3://{bucket}/{name}/odd//a?versionId={first}", name="old")
    found = artifact.add_reference(f"s3://{bucket}/{name}/odd", name="all")
    assert [item.path for item in found] == ["all/a"]
    found = artifact.add_reference(f"s3://{bucket}/{name}/od", name="partial")
    assert [item.path for item in found] == ["partial/odd/a", "partial/odder"]
    artifact.save()
    server.put(bucket, f"{name}/odd//a", b"the newest")
    saved = wandb.Api().artifact(name)
    for path, data in {"one": b"second", "old": b"first", "partial/odder": b"odder"}.items():
        with saved.open(path) as file:
            assert file.read() == data
    with pytest.raises(ReferenceFailed, match="odd//a"):  # a listing has no versions, and it changed
        saved.download(str(tmp_path / "down"))


def test_missing_objects_are_named(name: str, artifact: wandb.Artifact, bucket: str) -> None:
    for uri, why in {
        f"s3://{bucket}/{name}/none": f"s3://{bucket}/{name}/none can't be fetched: there is no such object",
        "s3://no-such-bucket/a": "s3://no-such-bucket/a can't be fetched: there is no such bucket",
    }.items():
        with pytest.raises(ArtfsError, match=why):
            artifact.add_reference(uri)
    artifact.save()  # leaves no draft
