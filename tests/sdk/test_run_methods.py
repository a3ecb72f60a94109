"""Runs as in wandb: config, summary, texts, environment, a second init, calls that keep nothing."""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import os
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest

import artfs as wandb
from artfs.catalog.runs import MAX_BYTES
from artfs.sdk import run_context
from tests.sdk.conftest import Place


def stored(run: wandb.Run) -> dict[str, Any]:
    return run._connection.client().run(run.id)


def versions(name: str) -> list[str]:
    return [artifact.version for artifact in wandb.Api().artifacts("model", name)]


def model(name: str, content: str = "x") -> wandb.Artifact:
    artifact = wandb.Artifact(name, "model")
    artifact.add(content, "content")
    return artifact


@pytest.fixture(autouse=True)
def _quiet_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in [*os.environ]:
        if variable.startswith("WANDB_") or (variable.startswith("ARTFS_") and variable != "ARTFS_VOLUME"):
            monkeypatch.delenv(variable)


# -- config and summary


def test_config_is_stored_as_it_is_set(place: Place) -> None:
    with wandb.init(config={"lr": 0.1, "model": {"layers": [1, 2]}, "seed": None}) as run:
        assert stored(run)["config"] == {"lr": 0.1, "model": {"layers": [1, 2]}, "seed": None}
        run.config.epochs = 3
        run.config["-batch-"] = 8
        assert stored(run)["config"]["epochs"] == 3
        assert (run.config.lr, run.config["epochs"], run.config.batch) == (0.1, 3, 8)
        assert run.config.get("missing", 7) == 7
        assert "missing" not in run.config
        assert not hasattr(run.config, "missing")
        assert dict(run.config) == run.config.as_dict() == dict(run.config.items())
        assert list(run.config) == list(run.config.keys()) == ["lr", "model", "seed", "epochs", "batch"]
        assert wandb.config is run.config
        run.config.setdefaults({"lr": 5, "extra": (1, 2)})
        assert (run.config.lr, run.config.extra) == (0.1, [1, 2])
    found = wandb.Api().run(run.id)
    assert found.config == run.config.as_dict()


@pytest.mark.ways(1)
def test_config_is_not_changed_by_accident(place: Place) -> None:
    with wandb.init(config={"lr": 0.1}) as run:
        run.config.lr = 0.1
        for change in (lambda: setattr(run.config, "lr", 1), lambda: run.config.update({"a": 1, "lr": 1})):
            with pytest.raises(wandb.UsageError, match=r"config\['lr'\] is 0\.1 already"):
                change()
        assert run.config.as_dict() == stored(run)["config"] == {"lr": 0.1}
        run.config.update({"lr": 1}, allow_val_change=True)
        assert stored(run)["config"] == {"lr": 1}
    with wandb.init(config={"lr": 0.1}, allow_val_change=True) as run:
        run.config.lr = 1


class Unknown:
    def __str__(self) -> str:
        return "an unknown"


def test_config_converts_any_value(place: Place) -> None:
    import numpy

    values = {
        "path": Path("/data"),
        "array": numpy.arange(3),
        "scalar": numpy.float32(0.5),
        "nan": float("nan"),
        "infinite": float("-inf"),
        "odd": Unknown(),
        "surrogate": "\udcff",
        3: "a number as key",
    }
    with wandb.init(config=values) as run:
        assert run.config.infinite == float("-inf")
        assert stored(run)["config"] == {
            "path": "/data",
            "array": [0, 1, 2],
            "scalar": 0.5,
            "nan": "NaN",
            "infinite": "-Infinity",
            "odd": "an unknown",
            "surrogate": "\\udcff",
            "3": "a number as key",
        }


@pytest.mark.ways(1)
def test_config_is_read_from_arguments_and_files(place: Place, tmp_path: Path) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--lr", type=float, default=0.1)
    with wandb.init(config=parser.parse_args(["--lr", "0.2"])) as run:
        assert run.config.as_dict() == {"lr": 0.2}
        run.config.update(argparse.Namespace(epochs=2))
        assert run.config.epochs == 2
    (tmp_path / "config.yaml").write_text("wandb_version: 1\nlr:\n  desc: null\n  value: 0.3\nname: plain\n")
    (tmp_path / "config.json").write_text('{"lr": {"value": 0.4}, "skip": 1}')
    (tmp_path / "config-defaults.yaml").write_text("lr: {value: 9}\nseed: {value: 1}\n")
    with wandb.init(config="config.yaml") as run:
        assert run.config.as_dict() == {"lr": 0.3, "seed": 1, "name": "plain"}
    with wandb.init(config=str(tmp_path / "config.json"), config_exclude_keys=["skip"]) as run:
        assert run.config.as_dict() == {"lr": 0.4, "seed": 1}
    (tmp_path / "list.json").write_text("[1]")
    for wrong in ("missing.yaml", "list.json"):
        with pytest.raises(wandb.UsageError, match=wrong):
            wandb.init(config=wrong)
    with pytest.raises(wandb.UsageError, match="not both"):
        wandb.init(config={}, config_include_keys=["a"], config_exclude_keys=["b"])
    assert run_context.run() is None


def test_an_artifact_in_the_config_is_used(place: Place, name: str) -> None:
    model(name).save()
    with wandb.init() as run:
        run.config.data = wandb.Api().artifact(name)
        assert isinstance(run.config.data, wandb.Artifact)
    record = wandb.Api().run(run.id)
    assert record.config == {"data": f"{name}:v0"}
    assert [one.name for one in record.used_artifacts()] == [f"{name}:v0"]


def test_a_record_over_its_limit_is_refused(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    with wandb.init(config={"lr": 0.1}) as run:
        with pytest.raises(ValueError, match=f"at most {MAX_BYTES} bytes"):
            run.config.big = "x" * MAX_BYTES
        assert run.config.as_dict() == stored(run)["config"] == {"lr": 0.1}
        with pytest.raises(ValueError, match=f"at most {MAX_BYTES} bytes"):
            run.summary.update({"big": "x" * MAX_BYTES})
        run.config.small = "x"
    assert "its summary is not kept" in caplog.text
    with pytest.raises(ValueError, match=f"at most {MAX_BYTES} bytes"):
        wandb.init(id=f"{run.id}-next", config={"big": "x" * MAX_BYTES})
    assert run_context.run() is None
    assert wandb.Api().run(f"{run.id}-next").state == "failed"
    found = wandb.Api().run(run.id)
    assert (found.state, found.config) == ("finished", {"lr": 0.1, "small": "x"})


TOGETHER = """
import artfs, sys
with artfs.init(id=sys.argv[1], config={sys.argv[2]: 1}) as run:
    run.summary[sys.argv[2]] = 1
"""


@pytest.mark.ways(2)
def test_processes_with_one_id_keep_what_each_knows(place: Place, name: str) -> None:
    with wandb.init(id=name, config={"mine": 1}) as run:
        run.summary.update({"mine": 1})
        for rank in ("a", "b"):
            subprocess.run([sys.executable, "-c", TOGETHER, name, rank], check=True)
        run.config.more = run.summary["more"] = 1
    found = wandb.Api().run(name)
    assert found.config == {"mine": 1, "a": 1, "b": 1, "more": 1}
    assert found.summary == {"mine": 1, "a": 1, "b": 1, "more": 1}


def test_a_summary_is_stored_at_the_end(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    run = wandb.init()
    assert wandb.summary is run.summary
    run.summary["best"] = 0.5
    run.summary.nested = {"a": 1}
    assert stored(run)["summary"] == {}
    run.summary.update({"loss": float("nan")})
    assert stored(run)["summary"] == {"best": 0.5, "nested": {"a": 1}, "loss": "NaN"}
    keeps: list[dict[str, Any]] = []
    with monkeypatch.context() as patch:
        patch.setattr(type(run), "_keep", lambda _run, document: keeps.append(document))
        for step in range(100):
            run.summary.update({"step": step})
            run.log({"loss": step})
    assert keeps == []
    run.summary["nested"]["a"] = 2
    del run.summary["best"]
    assert not hasattr(run.summary, "best")
    assert run.summary.get("best") is None
    run.finish()
    assert wandb.Api().run(run.id).summary == {"nested": {"a": 2}, "loss": 99, "step": 99}


# -- texts, and their sources


@pytest.mark.ways(1)
def test_a_run_has_the_properties_of_wandb(place: Place, tmp_path: Path) -> None:
    with wandb.init(
        "anna", "demo", name="calm river", notes="two\nlines", tags=["a", "b"], group="g", job_type="train"
    ) as run:
        assert (run.name, run.notes, run.tags) == ("calm river", "two\nlines", ("a", "b"))
        assert (run.entity, run.project, run.group, run.job_type) == ("anna", "demo", "g", "train")
        assert run.path == f"anna/demo/{run.id}"
        assert (run.url, run.project_url, run.resumed, run.offline, run.disabled) == (None, None) + (
            False,
        ) * 3
        assert (run.step, run.starting_step, run.settings.run_id) == (0, 0, run.id)
        assert run.dir == str(tmp_path / "artfs-runs" / run.id)
        assert os.path.isdir(run.dir)
        run.name, run.notes = "other", "none"
        run.tags += ("c",)
    found = wandb.Api().run(run.path)
    assert (found.name, found.notes, found.tags) == ("other", "none", ["a", "b", "c"])
    assert (found.entity, found.path, found.url) == ("anna", ["anna", "demo", run.id], None)
    with wandb.init() as run:
        assert (run.name, run.notes, run.tags, run.group, run.path) == (run.id, None, (), "", run.id)


def test_a_run_that_ended_can_be_described(place: Place) -> None:
    with wandb.init(config={"lr": 0.1}) as run:
        pass
    found = wandb.Api().run(run.id)
    found.notes, found.name = "too high", "first try"
    found.tags.append("bad")
    found.config["lr"] = 0.2
    found.summary["verdict"] = "no"
    found.update()
    again = wandb.Api().run(run.id)
    assert (again.notes, again.name, again.tags) == ("too high", "first try", ["bad"])
    assert (again.config, again.summary, again.state) == ({"lr": 0.2}, {"verdict": "no"}, "finished")
    del again.summary["verdict"]
    again.update()
    assert wandb.Api().run(run.id).summary == again.summary == {}
    del again.config["lr"]
    with pytest.raises(wandb.UnsupportedError, match="'lr'"):
        again.update()
    found.name = "dropped"
    assert found.load()["name"] == found.name == "first try"


@pytest.mark.ways(1)
def test_variables_are_read(place: Place, name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for variable, value in {
        "WANDB_RUN_ID": f"{name}-run",
        "WANDB_PROJECT": "p",
        "WANDB_ENTITY": "e",
        "WANDB_NAME": "n",
        "WANDB_NOTES": "o",
        "WANDB_TAGS": "a, b",
        "WANDB_RUN_GROUP": "theirs",
        "ARTFS_RUN_GROUP": "ours",
        "WANDB_JOB_TYPE": "j",
        "WANDB_DIR": str(tmp_path / "dir"),
        "WANDB_MODE": "offline",
    }.items():
        monkeypatch.setenv(variable, value)
    with wandb.init(job_type="given") as run:
        assert (run.id, run.project, run.entity, run.name, run.notes) == (f"{name}-run", "p", "e", "n", "o")
        assert (run.tags, run.group, run.job_type, run.offline) == (("a", "b"), "ours", "given", True)
        assert run.dir.startswith(str(tmp_path / "dir"))
        assert run.upsert_artifact(model(name)).distributed_id == "ours"
        assert run.finish_artifact(wandb.Artifact(name, "model")).version == "v0"
    monkeypatch.setenv("WANDB_MODE", "nonsense")
    with pytest.raises(wandb.UsageError, match="mode='nonsense'"):
        wandb.init()


@pytest.mark.ways(1)
def test_artifacts_are_downloaded_below_one_directory(
    place: Place, name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    artifact = model(name)
    artifact.save()
    down, out = artifact.download(), artifact.checkout()
    assert (down, out) == (f"{tmp_path}/artifacts/{name}:v0", f"{tmp_path}/artifacts/{name}")
    monkeypatch.setenv("WANDB_ARTIFACT_DIR", "elsewhere")
    assert artifact.download() == f"{tmp_path}/elsewhere/{name}:v0"
    assert artifact.get_entry("content.txt").download() == f"{tmp_path}/elsewhere/{name}:v0/content.txt"
    artifact.verify()
    assert artifact.checkout() == f"{tmp_path}/elsewhere/{name}"


# -- a second init


@pytest.mark.ways(1)
def test_a_second_init_returns_the_current_run(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    first = wandb.init(config={"lr": 0.1})
    assert wandb.init(config={"lr": 0.2}) is wandb.init(reinit="return_previous") is wandb.init(reinit=False)
    assert caplog.text.count("ignores its arguments") == 3
    assert first.config.lr == 0.1
    with pytest.raises(wandb.UsageError, match="resume='must'"):
        wandb.init(resume="must")
    with pytest.raises(wandb.UsageError, match="reinit='nonsense'"):
        wandb.init(reinit="nonsense")  # type: ignore[arg-type]
    wandb.finish()
    assert wandb.run is None
    assert wandb.Api().run(first.id).state == "finished"


@pytest.mark.ways(1)
@pytest.mark.parametrize("reinit", [True, "finish_previous"])
def test_a_second_init_may_finish_the_first(place: Place, reinit: Any) -> None:
    runs = [wandb.init(reinit=reinit) for _ in range(3)]
    assert wandb.run is runs[-1]
    wandb.finish()
    assert {wandb.Api().run(run.id).state for run in runs} == {"finished"}
    assert wandb.run is None


@pytest.mark.ways(1)
def test_in_a_notebook_a_second_init_finishes_the_first(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    shell = type("ZMQInteractiveShell", (), {})()
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
    first, second = wandb.init(), wandb.init()
    assert first is not second
    assert wandb.Api().run(first.id).state == "finished"
    second.finish()


def test_a_run_may_be_made_beside_the_current_one(place: Place, name: str) -> None:
    first = wandb.init()
    second = wandb.init(reinit="create_new")
    assert wandb.run is first
    second.log_artifact(model(name))
    second.finish()
    assert wandb.run is first
    first.finish()
    made_by = wandb.Api().artifact(name).logged_by()
    assert made_by is not None
    assert made_by.id == second.id
    with wandb.init(reinit="create_new"):
        assert wandb.run is None


def test_a_known_id_is_resumed(place: Place, name: str) -> None:
    with pytest.raises(wandb.UsageError, match="there is no run"):
        wandb.init(id=name, resume="must")
    with wandb.init(id=name, config={"lr": 0.1, "seed": 1}, tags=["a"], resume="never") as run:
        run.summary["best"] = 1
        assert not run.resumed
    with pytest.raises(wandb.UsageError, match="there is a run"):
        wandb.init(id=name, resume="never")
    with wandb.init(id=name, config={"lr": 0.2}, resume="must") as run:
        assert run.resumed
        assert (run.config.as_dict(), run.tags) == ({"lr": 0.2, "seed": 1}, ("a",))
        run.summary["last"] = 2
    assert wandb.Api().run(name).summary == {"best": 1, "last": 2}
    with pytest.raises(wandb.UnsupportedError, match="fork_from"):
        wandb.init(fork_from=f"{name}?_step=1")


def _in_a_child(parent: str, answers: Any) -> None:
    with wandb.init() as run:
        answers.put((run.id != parent, wandb.run is run))


@pytest.mark.ways(1)
def test_a_forked_process_begins_a_run_of_its_own(place: Place) -> None:
    context = multiprocessing.get_context("fork")
    with wandb.init() as run:
        answers = context.Queue()
        child = context.Process(target=_in_a_child, args=(run.id, answers))
        child.start()
        assert answers.get(timeout=60) == (True, True)
        child.join()
        assert wandb.run is run
        assert wandb.Api().run(run.id).state == "running"


# -- calls that keep nothing


@pytest.mark.ways(1)
def test_metrics_are_accepted_with_one_warning(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    import numpy

    with wandb.init() as run:
        for step in range(3):
            wandb.log({"loss": 1 / (step + 1), "image": object(), "array": numpy.zeros(3)})
        run.log({"accuracy": numpy.float32(0.5), "word": "x" * 2000})
        assert run.step == 4
        run.log({"loss": 0.1}, step=10)
        run.log({"loss": 0.2}, commit=True)
        assert run.step == 11
        metric = run.define_metric("loss", step_metric=run.define_metric("epoch"))
        assert (metric.name, metric.step_metric) == ("loss", "epoch")
        wandb.watch(object())
        wandb.unwatch()
        wandb.alert("title", "text")
        assert wandb.save("*.h5") == []
        for wrong in ([1], {1: 2}):
            with pytest.raises(ValueError, match=r"^data"):
                run.log(wrong)  # type: ignore[arg-type]
    assert caplog.text.count("metrics are not kept") == 1
    assert wandb.Api().run(run.id).summary == {"loss": 0.2, "accuracy": 0.5}


@pytest.mark.ways(1)
def test_metrics_are_an_error_if_asked_for(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    with wandb.init(settings=wandb.Settings(metrics="error", start_method="thread")) as run:
        assert run.settings.start_method == "thread"  # type: ignore[attr-defined]
        for call in (lambda: run.log({"a": 1}), lambda: run.define_metric("a"), lambda: run.save("*")):
            with pytest.raises(wandb.UsageError, match="not metrics"):
                call()
    monkeypatch.setenv("ARTFS_METRICS", "error")
    with wandb.init() as run, pytest.raises(wandb.UsageError):
        run.log({"a": 1})
    monkeypatch.setenv("ARTFS_METRICS", "nonsense")
    with pytest.raises(wandb.UsageError, match="metrics='nonsense'"):
        wandb.init()


@pytest.mark.ways(1)
def test_metrics_may_be_ignored(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    with wandb.init(settings={"metrics": "ignore"}) as run:
        run.log({"a": 1})
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.ways(1)
def test_a_summary_of_what_is_logged_is_bounded(place: Place) -> None:
    with wandb.init(settings={"metrics": "ignore"}) as run:
        for number in range(1500):
            run.log({f"name-{number}": number})
        run.log({"name-0": "known"})
        run.summary["one more"] = 1
    assert len(run.summary) == 1001
    assert run.summary["name-0"] == "known"


def test_a_disabled_run_leaves_nothing(place: Place, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model(name).save()
    before = wandb.Api().runs()
    monkeypatch.setenv("WANDB_MODE", "disabled")
    with wandb.init(group="g", config={"lr": 1}) as run:
        assert run.disabled
        assert (run.config.lr, run.group) == (1, "g")
        run.config.lr2 = run.summary["x"] = 1
        run.log_artifact(model(name, "other")).wait().download()
        run.upsert_artifact(model(name, "other"))
        run.finish_artifact(wandb.Artifact(name, "model"))
        draft = model(name, "other")
        draft.save()
        assert run.use_artifact(draft).is_draft()
        assert run.use_artifact(name).get("content") == "x"
        run.log_model("nothing")
        run.link_model("nothing", "x")
        assert run.link_artifact(draft, "a/b").wait() is not None
        run.log_code()
        run.log({"a": 1})
        draft = model(name)
    del draft
    assert versions(name) == ["v0"]
    assert [run.id for run in before] == [run.id for run in wandb.Api().runs()]
    assert wandb.Api().artifact(name).used_by() == []


# -- module-level functions


@pytest.mark.ways(1)
def test_functions_of_the_module_are_those_of_the_run(place: Place, name: str, tmp_path: Path) -> None:
    early = wandb.config
    for call in (lambda: wandb.log({}), lambda: wandb.log_artifact("x"), lambda: wandb.use_model("x")):
        with pytest.raises(wandb.UsageError, match=r"call artfs\.init\(\) first"):
            call()
    with pytest.raises(wandb.UsageError, match=r"artfs\.config\.lr needs a run"):
        wandb.config.lr = 1
    with pytest.raises(wandb.UsageError, match=r"artfs\.summary"):
        wandb.summary["x"]
    (tmp_path / "file").write_text("x")
    with wandb.init(group=name, config={"lr": 1}) as run:
        assert early.lr == wandb.config["lr"] == 1
        early.epochs = 2
        assert dict(run.config) == {"lr": 1, "epochs": 2}
        assert wandb.log_artifact("file", name=name, type="model").version == "v0"
        assert wandb.use_artifact(f"{name}:v0").version == "v0"
        assert wandb.upsert_artifact(model(name, "more")).distributed_id == name
        assert wandb.finish_artifact(wandb.Artifact(name, "model")).version == "v1"
        assert wandb.link_artifact(wandb.use_artifact(name), f"{name}-linked").version == "v0"
    assert repr(early) == "<artfs.config>"
    vars(wandb)["config"] = {"lr": 3}  # as old examples of wandb assign to it
    with wandb.init(config={"lr": 4}) as run:
        assert wandb.config is run.config


def test_models_and_code_are_logged(place: Place, name: str, tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_text("weights")
    (tmp_path / "code" / "sub").mkdir(parents=True)
    for path in ("main.py", "sub/more.py", "requirements.txt", "data.csv"):
        (tmp_path / "code" / path).write_text(path)
    with wandb.init(project=name) as run:
        run.log_model("model.bin", name=name, aliases=["best"])
        path = wandb.use_model(f"{name}:best")
        assert path == f"{tmp_path}/artifacts/{name}:v0/model.bin"
        run.log_model(tmp_path / "code", name=name)
        assert sorted(os.listdir(run.use_model(f"{name}:v1"))) == [
            "data.csv",
            "main.py",
            "requirements.txt",
            "sub",
        ]
        data = wandb.Artifact(f"{name}-data", "dataset")
        data.add("x", "x")
        run.log_artifact(data)
        for call in (
            lambda: run.use_model(f"{name}-data"),
            lambda: run.link_model("model.bin", "x", name=f"{name}-data"),
            lambda: run.link_model("model.bin", "registry/x"),
        ):
            with pytest.raises(ValueError):
                call()
        linked = wandb.link_model("model.bin", f"{name}-registered", name=name, aliases=["staging"])
        assert linked is not None
        assert (linked.type, linked.get("model.bin")) == ("model", b"weights")
        assert linked.qualified_name == f"wandb-registry-model/{name}-registered:v0"
        assert linked.source_name == f"{name}:v2"
        assert f"{name}-registered" in [one.name for one in wandb.Api().registry("model").collections()]
        code = run.log_code("code")
        assert code is not None
        assert (code.type, sorted(code.manifest.entries)) == (
            "code",
            ["main.py", "requirements.txt", "sub/more.py"],
        )
        assert run.log_code("code", include_fn=lambda path, root: path.startswith("nowhere" + root)) is None
        run.log_code("code", name=f"{name}-code", include_fn=lambda path: path.endswith(".csv"))
    assert sorted(wandb.Api().artifact(f"{name}-code").manifest.entries) == ["data.csv"]
    with pytest.raises(wandb.UsageError, match="has ended"):
        run.log_artifact("model.bin")


SCRIPT = """
import importlib, sys, artfs
sys.modules["wandb"] = artfs
import wandb, wandb.errors
from wandb.errors import CommError, UsageError
from wandb import Artifact
from wandb.sdk.artifacts.artifact import Artifact as Same
import artfs.errors
assert wandb.errors is artfs.errors is sys.modules["wandb.errors"]
assert CommError is artfs.CommError and Same is Artifact is artfs.Artifact
assert artfs.errors.__spec__.name == "artfs.errors"
for name in ("nothing", "cli", "sdk.artifact"):  # modules of artfs alone
    try:
        importlib.import_module(f"wandb.{name}")
    except ModuleNotFoundError:
        pass
    else:
        raise AssertionError(name)
try:
    wandb.Api().artifact("missing:latest")
except wandb.errors.CommError as error:
    assert isinstance(error, LookupError)
print("well")
"""


@pytest.mark.ways(1)
def test_artfs_can_take_the_place_of_wandb(place: Place) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("well\n", "")


@pytest.mark.ways(1)
def test_the_warning_about_metrics_is_on_stderr(place: Place) -> None:
    code = "import artfs\nwith artfs.init(id='told'):\n for i in range(3): artfs.log({'x': i})\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    [line] = done.stderr.splitlines()
    assert line.startswith("artfs: run 'told': log() is accepted, but metrics are not kept")


def test_the_mount_shows_what_a_run_was_given(place: Place, name: str) -> None:
    if not place.mounted:
        pytest.skip("there is a mount to look at")
    with wandb.init(id=f"{name}-run", config={"lr": 0.1}):
        pass
    shown = json.loads((place.path / ".artfs" / "runs" / f"{name}-run").read_text())
    assert shown["config"] == {"lr": 0.1}
