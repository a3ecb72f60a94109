"""ultralytics: YOLO's own callback for wandb, on four tiny images.

torchvision is a stub with the one function that training needs.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import artfs

artfs.replace_wandb()
sys.path.insert(0, str(Path(__file__).parents[1] / "stubs"))
os.environ["YOLO_CONFIG_DIR"] = str(Path.cwd())
os.environ["YOLO_OFFLINE"] = "true"

import numpy
import PIL.Image
from ultralytics import YOLO, settings

settings.update({"wandb": True, "runs_dir": str(Path.cwd() / "runs")})
for kind in ("images", "labels"):
    Path("data", kind).mkdir(parents=True)
for number in range(4):
    pixels = numpy.full((32, 32, 3), 60 * number, dtype="uint8")
    PIL.Image.fromarray(pixels).save(f"data/images/{number}.png")
    Path(f"data/labels/{number}.txt").write_text("0 0.5 0.5 0.5 0.5\n")
Path("data.yaml").write_text(f"path: {Path.cwd()}/data\ntrain: images\nval: images\nnames: {{0: thing}}\n")
YOLO("yolo11n.yaml").train(
    data="data.yaml",
    epochs=1,
    imgsz=32,
    batch=4,
    workers=0,
    device="cpu",
    plots=True,
    amp=False,
    project="demo",
    name="tiny",
)
