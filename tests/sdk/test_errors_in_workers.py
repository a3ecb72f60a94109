"""An exception of a worker process reaches the process that waits for it, whole and soon."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import pytest

import artfs
from tests.sdk.conftest import Place

pytestmark = pytest.mark.usefixtures("place")

_PATIENCE = 60  # seconds; a pool waits for ever for an exception that can't be unpickled


def _missing(name: str) -> None:
    artfs.Api().artifact(f"{name}:v9")


def _conflict(name: str) -> None:
    for number in range(2):
        with artfs.init(id=f"{name}-run-{number}") as run:
            artifact = artfs.Artifact(name, "dataset")
            with artifact.new_file("same.txt") as file:
                file.write(f"made by {number}")
            run.upsert_artifact(artifact, distributed_id="job")


def test_a_pool_raises_the_error_of_its_worker(place: Place, name: str) -> None:
    pool = multiprocessing.get_context("spawn").Pool(1)
    try:
        with pytest.raises(artfs.PathConflictError) as conflict:
            pool.apply_async(_conflict, (name,)).get(_PATIENCE)
        assert (conflict.value.path, conflict.value.run) == ("same.txt", f"{name}-run-0")
        assert "_conflict" in str(conflict.value.__cause__)  # the worker's traceback
        with pytest.raises(artfs.CollectionNotFound):
            pool.apply_async(_missing, (f"{name}-none",)).get(_PATIENCE)
        pool.close()
        pool.join()  # the worker discards its draft
    finally:
        pool.terminate()
    with artfs.init() as run:  # nothing stays pending
        run.finish_artifact(artfs.Artifact(name, "dataset"), distributed_id="job")


def test_an_executor_raises_the_error_of_its_worker(name: str) -> None:
    artfs.Artifact(name, "dataset").save()
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as executor:
        with pytest.raises(artfs.VersionNotFound) as missing:
            executor.submit(_missing, name).result(_PATIENCE)
        assert (missing.value.collection, missing.value.version) == (name, "v9")
        assert executor.submit(len, "it goes on").result(_PATIENCE) == 10
