"""Digests learned while files are written count only for exactly those bytes."""

from __future__ import annotations

import os
from pathlib import Path

from artfs.model.digest import Algorithm
from artfs.pending.hashes import Hashes


def test_a_learned_digest_counts_until_the_file_changes(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"bytes")
    hashes = Hashes(Algorithm.XXH128)
    digest = Algorithm.XXH128.digest(b"bytes")
    hashes.learned(os.stat(path), digest)
    assert hashes.take(os.stat(path)) == digest
    before = os.stat(path)
    while os.stat(path).st_ctime_ns == before.st_ctime_ns:
        path.write_bytes(b"other")
    assert os.stat(path).st_ino == before.st_ino
    assert hashes.take(os.stat(path)) is None


def test_a_learned_digest_is_dropped_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"bytes")
    hashes = Hashes(Algorithm.XXH128)
    hashes.learned(os.stat(path), b"digest")
    hashes.forget(os.stat(path).st_ino)
    assert hashes.take(os.stat(path)) is None
