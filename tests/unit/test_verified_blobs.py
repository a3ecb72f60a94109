"""Which blobs are verified before they are read, each of them once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from artfs.errors import Damaged
from artfs.model.digest import Algorithm, BlobId, blob_id
from artfs.store.verified_blobs import LARGEST, VerifiedBlobs
from tests.unit.stores import opened


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "blob"
    found.write_bytes(b"data")
    return found


@pytest.fixture
def fd(path: Path) -> Iterator[int]:
    with opened(path) as fd:
        yield fd


@pytest.fixture(params=list(Algorithm))
def algorithm(request: pytest.FixtureRequest) -> Algorithm:
    found: Algorithm = request.param
    return found


def named(algorithm: Algorithm, data: bytes) -> BlobId:
    return blob_id(algorithm, algorithm.digest(data))


def test_a_sound_blob_is_verified_once(algorithm: Algorithm, fd: int) -> None:
    verified, blob = VerifiedBlobs(algorithm), named(algorithm, b"data")
    assert verified.needs_check(blob, fd)
    verified.check(blob, fd)
    assert not verified.needs_check(blob, fd)


def test_bytes_already_read_are_verified_without_the_file(algorithm: Algorithm, fd: int) -> None:
    verified, blob = VerifiedBlobs(algorithm), named(algorithm, b"data")
    with pytest.raises(Damaged):
        verified.check(blob, fd, memoryview(b"dato"))
    assert verified.needs_check(blob, fd)
    verified.check(blob, fd, memoryview(b"data"))
    assert not verified.needs_check(blob, fd)


def test_a_damaged_blob_is_refused_each_time(algorithm: Algorithm, fd: int) -> None:
    verified, blob = VerifiedBlobs(algorithm), named(algorithm, b"other")
    for _ in range(2):
        with pytest.raises(Damaged):
            verified.check(blob, fd)
        assert verified.needs_check(blob, fd)


def test_a_changed_blob_is_verified_again(algorithm: Algorithm, fd: int, path: Path) -> None:
    verified, blob = VerifiedBlobs(algorithm), named(algorithm, b"data")
    verified.check(blob, fd)
    path.write_bytes(b"dat0")
    os.utime(path, ns=(1, 1))
    assert verified.needs_check(blob, fd)
    with pytest.raises(Damaged):
        verified.check(blob, fd)


def test_large_and_empty_blobs_need_no_check(algorithm: Algorithm, fd: int, path: Path) -> None:
    verified, blob = VerifiedBlobs(algorithm), named(algorithm, b"data")
    os.truncate(path, LARGEST)
    assert verified.needs_check(blob, fd)
    os.truncate(path, LARGEST + 1)
    assert not verified.needs_check(blob, fd)
    assert VerifiedBlobs(algorithm, largest=1 << 62).needs_check(blob, fd)
    os.truncate(path, 0)
    assert not verified.needs_check(blob, fd)
