"""Keras: wandb's own WandbModelCheckpoint and WandbMetricsLogger, over artfs."""

from __future__ import annotations

import artfs

artfs.replace_wandb()

import numpy
import tensorflow
from wandb.integration.keras import WandbMetricsLogger, WandbModelCheckpoint

with artfs.init(project="demo", config={"epochs": 2}) as run:
    model = tensorflow.keras.Sequential([tensorflow.keras.Input((2,)), tensorflow.keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    model.fit(
        numpy.ones((8, 2)),
        numpy.zeros((8, 1)),
        epochs=run.config.epochs,
        verbose=0,
        callbacks=[WandbMetricsLogger(), WandbModelCheckpoint("models/{epoch}.keras")],
    )
