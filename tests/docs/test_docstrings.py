"""Every example in the docstrings of the SDK runs, and prints what it shows; so does Python in the documents.

Each runs on a volume of its own, with the names that `_names` gives it: `artifact` is new and `logged` is
logged, `run` is under way and `record` has ended. An example without output may return something.
"""

from __future__ import annotations

import doctest
import importlib
import os
import pkgutil
import re
import shutil
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy
import PIL.Image
import pytest

import artfs
import artfs.sdk
from artfs.linux import syscalls
from artfs.sdk import connection
from tests.mount.mounting import REPOSITORY, must


def _tests() -> Iterator[doctest.DocTest]:
    finder = doctest.DocTestFinder(exclude_empty=True)
    for module in pkgutil.walk_packages(artfs.sdk.__path__, "artfs.sdk."):
        for test in finder.find(importlib.import_module(module.name), module.name.removeprefix("artfs.sdk.")):
            if test.examples:
                yield test


#: What this environment does not have.
_NEEDS = {"get_dataframe": "pandas", "replace_wandb": "lightning"}
_ON_A_MOUNT = (".path",)


class _Checker(doctest.OutputChecker):
    def check_output(self, want: str, got: str, optionflags: int) -> bool:
        return not want or super().check_output(want, got, optionflags)


def _files(base: Path) -> None:
    """Makes the files that examples read, in the working directory."""
    names = (
        "data/train.csv",
        "data/raw/a.csv",
        "data/raw/b.csv",
        "out/model-final.bin",
        "model.bin",
        "part-3.csv",
    )
    for path in names:
        (base / path).parent.mkdir(parents=True, exist_ok=True)
        (base / path).write_bytes(b"label,score\n".ljust(1024, b"."))
    PIL.Image.new("RGB", (8, 4)).save(base / "photo.jpg")


def _log(name: str, kind: str, *aliases: str, **options: Any) -> None:
    artifact = artfs.Artifact(name, kind, **options)
    if kind == "dataset":
        artifact.add_dir("data")
    else:
        artifact.add_file("model.bin")
    artfs.log_artifact(artifact, aliases=list(aliases))


@pytest.fixture(scope="module")
def volume(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A volume with a dataset, a model, a registry, and the runs that made and used them."""
    base = tmp_path_factory.mktemp("docstrings")
    must("init", base / "volume")
    _files(base)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(base)
        patch.setenv("ARTFS_VOLUME", str(base / "volume"))
        with artfs.init(id="k3v9x0ab", group="nightly", config={"lr": 0.1}) as run:
            _log("mnist", "dataset", metadata={"rows": 10000})
            run.use_artifact("mnist:v0")
            (base / "data" / "train.csv").write_bytes(b"more".ljust(1024))
            _log("mnist", "dataset", "best", metadata={"rows": 60000}, description="Digits")
            _log("scratch", "dataset")
            _log("mnist-cnn", "model")
            (base / "model.bin").write_text("better")
            _log("mnist-cnn", "model", "best", "candidate")
            run.link_artifact(
                artfs.Api().artifact("mnist-cnn:v1"), "wandb-registry-model/digits", ["production"]
            )
        for number in (1, 2):
            with artfs.init(id=f"part-{number}", group="job-41") as run:
                part = artfs.Artifact("predictions", "predictions")
                part.add({"part": number}, f"part-{number}")
                run.upsert_artifact(part)
            with artfs.init(id=f"eval-{number}") as run:
                run.use_artifact("mnist:best")
        with artfs.init(id="finish", group="job-41") as run:
            run.finish_artifact(artfs.Artifact("predictions", "predictions"))
        with pytest.raises(KeyError), artfs.init(id="part-3", group="job-42") as run:
            raise KeyError
        collection = artfs.Api().artifact_collection("model", "wandb-registry-model/digits")
        collection.tags.append("gold")
        collection.save()
        connection.forget()
    return base / "volume"


def _names() -> dict[str, Any]:
    api = artfs.Api()
    table = artfs.Table(columns=["id", "label"], data=[[1, "cat"], [2, "dog"]])
    images = artfs.Table(columns=["id"], data=[["a"], ["b"]])
    return {
        "artfs": artfs,
        "numpy": numpy,
        "shutil": shutil,
        "timedelta": timedelta,
        "Decimal": Decimal,
        "api": api,
        "run": artfs.init(id="train-7", config={"lr": 0.1}),
        "record": api.run("k3v9x0ab"),
        "artifact": artfs.Artifact("predictions", "predictions"),
        "logged": api.artifact("mnist:best"),
        "collection": api.artifact_collection("dataset", "mnist"),
        "registry": api.registry("model"),
        "settings": artfs.Settings(),
        "model": object(),
        "table": table,
        "predictions": artfs.Table(columns=["image_id", "score"], data=[["a", 0.5], ["b", 0.7]]),
        "images": images,
        "classes": artfs.Classes([{"id": 0, "name": "cat"}]),
        "image": artfs.Image("photo.jpg"),
    }


def _blocks() -> Iterator[Any]:
    for document in (REPOSITORY / "README.md", *sorted((REPOSITORY / "artfs" / "docs").glob("*.md"))):
        for block in re.findall(r"^```python\n(.*?)^```$", document.read_text(), re.MULTILINE | re.DOTALL):
            yield pytest.param(block, id=document.name)


@pytest.mark.parametrize("block", list(_blocks()))
def test_a_python_block_runs(block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ARTFS_VOLUME", str(tmp_path / "volume"))
    must("init", "volume")
    _files(tmp_path)
    (tmp_path / "data" / "raw" / "broken.csv").touch()
    with artfs.init():
        _log("mnist", "dataset")
    exec(block, {})
    connection.forget()


def _example(test: doctest.DocTest) -> Any:
    mounted = test.name.endswith(_ON_A_MOUNT)
    return pytest.param(test, mounted, id=test.name, marks=pytest.mark.fuse if mounted else ())


@pytest.mark.parametrize(("test", "mounted"), [_example(test) for test in _tests()])
def test_an_example_prints_what_it_shows(
    test: doctest.DocTest, mounted: bool, volume: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if need := _NEEDS.get(test.name.rpartition(".")[2]):
        pytest.skip(f"the example needs {need}")
    shutil.copytree(volume, tmp_path / "volume", symlinks=True)
    _files(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ARTFS_VOLUME", str(tmp_path / "volume"))
    # What an example prints does not depend on the disk.
    monkeypatch.setattr(os, "fsync", lambda fd: None)
    monkeypatch.setattr(syscalls, "syncfs", lambda fd: None)
    report: list[str] = []
    try:
        if mounted:
            (tmp_path / "mnt").mkdir()
            must("mount", "volume", "mnt")
            monkeypatch.setenv("ARTFS_VOLUME", str(tmp_path / "mnt"))
        test.globs |= _names()
        doctest.DocTestRunner(_Checker(), optionflags=doctest.ELLIPSIS).run(test, out=report.append)
    finally:
        artfs.finish()
        connection.forget()
        if mounted:
            must("umount", "mnt")
    if report:
        pytest.fail("".join(report), pytrace=False)
