"""fastai: a tabular learner with WandbCallback, which logs the dataset and the model."""

from __future__ import annotations

from pathlib import Path

import artfs

artfs.replace_wandb()

import pandas
from fastai.callback.tracker import SaveModelCallback
from fastai.callback.wandb import WandbCallback
from fastai.tabular.all import TabularDataLoaders, tabular_learner

Path("data").mkdir()
frame = pandas.DataFrame({"a": [0.1 * n for n in range(64)], "b": [n % 2 for n in range(64)]})
frame.to_csv("data/rows.csv", index=False)
with artfs.init(project="demo", name="tiny"):
    loaders = TabularDataLoaders.from_df(frame, path="data", y_names="b", cont_names=["a"], bs=16)
    learner = tabular_learner(loaders, layers=[4])
    callbacks = [
        SaveModelCallback(monitor="valid_loss"),
        WandbCallback(log_preds=False, log_model=True, log_dataset=True),
    ]
    with learner.no_bar(), learner.no_logging():
        learner.fit(1, cbs=callbacks)
