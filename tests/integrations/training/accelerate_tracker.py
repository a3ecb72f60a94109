"""accelerate: Accelerator(log_with="wandb"), and an artifact of the weights that it saves."""

from __future__ import annotations

import artfs

artfs.replace_wandb()

import torch
from accelerate import Accelerator

accelerator = Accelerator(log_with="wandb", cpu=True)
accelerator.init_trackers("demo", config={"rate": 0.1}, init_kwargs={"wandb": {"name": "tiny"}})
model = torch.nn.Linear(2, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
data = torch.utils.data.DataLoader(torch.ones(4, 2), batch_size=2)
model, optimizer, data = accelerator.prepare(model, optimizer, data)
for step, batch in enumerate(data):
    loss = model(batch).pow(2).mean()
    accelerator.backward(loss)
    optimizer.step()
    accelerator.log({"loss": loss.item()}, step=step)
accelerator.save_state("state")
tracker = accelerator.get_tracker("wandb", unwrap=True)
artifact = artfs.Artifact("state", "model")
artifact.add_dir("state")
tracker.log_artifact(artifact, aliases=["last"])
accelerator.end_training()
