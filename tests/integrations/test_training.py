"""Training libraries over artfs in wandb's place: a training step of each, and the versions that it leaves.

Each program in ``training/`` runs in a process of the environment that ``scripts/test-integrations`` makes,
on a volume and over a mount.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import artfs
from artfs.sdk import connection
from tests.mount.mounting import REPOSITORY, mounted_volume, must

PYTHON = REPOSITORY / ".venv-integrations" / "bin" / "python"
PROGRAMS = Path(__file__).parent / "training"

pytestmark = pytest.mark.skipif(not PYTHON.exists(), reason="scripts/test-integrations makes the environment")


@dataclass(frozen=True)
class Left:
    """What a program leaves in one collection; `*` in names stands for the id of its run."""

    collection: str
    type: str
    aliases: list[set[str]]  # of each version
    files: set[str]  # of the newest one


LEFT = {
    "transformers_trainer": [
        Left(
            "model-tiny",
            "model",
            [
                {"base_model"},
                {"epoch_0.5", "checkpoint_global_step_2"},
                {"epoch_1.0", "checkpoint_global_step_4"},
                {"final_model", "latest"},
            ],
            {"config.json", "model.safetensors", "model_architecture.txt"},
        )
    ],
    "lightning_logger": [Left("model-*", "model", [set(), {"latest", "best"}], {"model.ckpt"})],
    "keras_checkpoint": [Left("run_*_model", "model", [{"epoch_0"}, {"epoch_1", "latest"}], {"2.keras"})],
    "ultralytics_yolo": [Left("run_*_model", "model", [{"best", "latest"}], {"best.pt"})],
    "accelerate_tracker": [
        Left("state", "model", [{"last", "latest"}], {"model.safetensors", "optimizer.bin"})
    ],
    "fastai_learner": [
        Left("data", "dataset", [{"latest"}], {"rows.csv"}),
        Left("model", "model", [{"latest"}], {"model.pth"}),
    ],
}


@pytest.fixture(params=["direct", pytest.param("mounted", marks=pytest.mark.fuse)])
def volume(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    if request.param == "mounted":
        with mounted_volume() as mounted:
            yield mounted.point
    else:
        must("init", tmp_path / "volume")
        yield tmp_path / "volume"
        must("--volume", tmp_path / "volume", "check")
    connection.forget()


@pytest.mark.parametrize("program", LEFT)
def test_a_training_step(program: str, volume: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARTFS_VOLUME", str(volume))
    work = tmp_path / "work"
    work.mkdir()
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("WANDB_", "PYTEST_"))
    }
    environment |= {"PYTHONPATH": str(REPOSITORY), "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [PYTHON, PROGRAMS / f"{program}.py"]
    done = subprocess.run(
        command, cwd=work, env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    collections = {found["name"]: found for found in connection.connect().client().collections()}
    assert not any(found["pending"] for found in collections.values())
    runs = artfs.Api().runs()
    assert [run.state for run in runs] == ["finished"]
    for left in LEFT[program]:
        check(left, runs[0])


def check(left: Left, run: Any) -> None:
    name = left.collection.replace("*", run.id)
    if left.collection != name and not artfs.Api().artifact_collection_exists(name, left.type):
        name = left.collection.replace("*", run.name)
    versions = sorted(artfs.Api().artifacts(left.type, name), key=lambda one: int(one.version[1:]))
    assert [set(one.aliases) for one in versions] == left.aliases
    assert left.files <= {entry.path for entry in versions[-1].files()}
    producer = versions[-1].logged_by()
    assert producer is not None
    assert producer.id == run.id
