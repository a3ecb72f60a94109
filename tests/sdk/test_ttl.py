"""Time to live of versions and collections; gc honours it, and a dry run says what it would delete."""

from __future__ import annotations

import json
import time
from datetime import timedelta

import pytest

import artfs as wandb
from tests.mount.mounting import artfs, must
from tests.sdk.conftest import Place, version_of

SOON = timedelta(seconds=1)


def versions_of(name: str) -> list[str]:
    return [one.version for one in reversed(wandb.Api().artifacts("dataset", name))]


def collect(place: Place, *words: str) -> list[str]:
    """Runs gc and returns the versions that it deleted."""
    found = json.loads(must("--volume", place.path, "gc", "--json", *words))
    return [f"{one['collection']}:{one['version']}" for one in found["expired"]]


def test_a_ttl_is_set_inherited_and_removed(place: Place, name: str) -> None:
    own = version_of(name, "own", ttl=timedelta(days=30))
    other = version_of(name, "other")
    never = version_of(name, "never", ttl=None)
    assert (own.ttl, other.ttl, never.ttl) == (timedelta(days=30), None, None)
    collection = own.collection
    assert collection.ttl is None
    collection.ttl = timedelta(days=7)
    assert own.collection.ttl == timedelta(days=7)
    ttls = [one.ttl for one in wandb.Api().artifacts("dataset", name)]
    assert ttls == [None, timedelta(days=7), timedelta(days=30)]
    own.ttl = wandb.ArtifactTTL.INHERIT
    never.ttl = timedelta(hours=1)
    other.ttl = None
    for one in (own, other, never):
        one.save()
    ttls = [one.ttl for one in wandb.Api().artifacts("dataset", name)]
    assert ttls == [timedelta(hours=1), None, timedelta(days=7)]
    collection.ttl = None
    assert wandb.Api().artifact(f"{name}:v0").ttl is None
    with pytest.raises(TypeError, match="ttl"):
        collection.ttl = 7  # type: ignore[assignment]


def test_gc_deletes_expired_versions(place: Place, name: str) -> None:
    version_of(name, "goes", ttl=SOON)
    version_of(name, "stays")
    version_of(name, "held", ttl=SOON, aliases=["best"])
    version_of(name, "later", ttl=timedelta(days=1))
    version_of(f"{name}-only", "newest", ttl=SOON)
    version_of(f"{name}-follows", "followed", ttl=SOON)
    must("--volume", place.path, "alias", f"{name}-follows:latest", "held-by-number")
    time.sleep(1.1)
    if artfs("--volume", place.path, "gc", "--dry-run").returncode == 1:
        pytest.skip("gc works on the volume, which is hidden here")
    expected = [f"{name}:v0", f"{name}-only:v0"]
    assert sorted(collect(place, "--dry-run")) == sorted(expected)
    assert versions_of(name) == ["v0", "v1", "v2", "v3"]
    said = must("--volume", place.path, "gc", "--dry-run")
    assert f"{name}:v0, whose ttl has passed: would be removed" in said
    assert sorted(collect(place)) == sorted(expected)
    assert versions_of(name) == ["v1", "v2", "v3"]
    assert versions_of(f"{name}-only") == []
    assert versions_of(f"{name}-follows") == ["v0"]
    wandb.Api().artifact(f"{name}:best").aliases = []
    assert collect(place) == []


def test_gc_uses_the_ttl_of_the_collection(place: Place, name: str) -> None:
    first = version_of(name, "first")
    version_of(name, "never", ttl=None)
    first.collection.ttl = SOON
    time.sleep(1.1)
    if artfs("--volume", place.path, "gc", "--dry-run").returncode == 1:
        pytest.skip("gc works on the volume, which is hidden here")
    would = json.loads(must("--volume", place.path, "gc", "--json", "--dry-run"))
    assert would["blobs"] >= 1  # what only that version needs
    assert collect(place) == [f"{name}:v0"]
    assert versions_of(name) == ["v1"]
