"""transformers: Trainer with its WandbCallback, which logs checkpoints and the final model."""

from __future__ import annotations

import os

import artfs

artfs.replace_wandb()
os.environ["WANDB_LOG_MODEL"] = "checkpoint"

import torch
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

config = GPT2Config(
    vocab_size=16, n_positions=8, n_embd=8, n_layer=1, n_head=1, bos_token_id=0, eos_token_id=0
)
rows = [{"input_ids": torch.arange(8), "labels": torch.arange(8)} for _ in range(8)]
arguments = TrainingArguments(
    output_dir="out",
    run_name="tiny",
    report_to="wandb",
    max_steps=4,
    save_steps=2,
    logging_steps=1,
    per_device_train_batch_size=2,
    use_cpu=True,
    disable_tqdm=True,
)
Trainer(model=GPT2LMHeadModel(config), args=arguments, train_dataset=rows).train()
artfs.finish()
