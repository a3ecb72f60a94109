"""Lightning: Trainer with WandbLogger(log_model="all"), and its download_artifact and use_artifact."""

from __future__ import annotations

import artfs

artfs.replace_wandb()

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import WandbLogger


class Tiny(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.save_hyperparameters({"rate": 0.1})
        self.layer = torch.nn.Linear(2, 1)

    def training_step(self, batch: torch.Tensor, index: int) -> torch.Tensor:
        loss = self.layer(batch).pow(2).mean()
        self.log("loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


logger = WandbLogger(project="demo", name="tiny", log_model="all")
trainer = Trainer(
    max_epochs=2,
    logger=logger,
    callbacks=[ModelCheckpoint(monitor="loss", save_top_k=-1)],
    enable_progress_bar=False,
    log_every_n_steps=1,
    accelerator="cpu",
)
data = torch.utils.data.DataLoader(torch.ones(4, 2), batch_size=2)
trainer.fit(Tiny(), data)
logger.log_table("samples", columns=["a"], data=[[1]])
name = f"model-{logger.experiment.id}:latest"
directory = logger.download_artifact(name, save_dir="found", use_artifact=True)
Tiny.load_from_checkpoint(f"{directory}/model.ckpt")
artfs.finish()
