"""A module of the redheart project small enough for many steps, and a Trainer around it without files."""

import warnings
from typing import Any

import lightning as L
import torch
from torch.utils.data import DataLoader, Dataset

from projects.redheart.module import RedHeartModule
from projects.redheart.tasks import EMOTIONS
from tests.fabricate.story_network import fabricated_batch, tiny_sizes

ADAMW = {"name": "adamw", "lr": 1e-3, "weight_decay": 0.01}
OFF = {
    "task_weighting": "fixed",
    "task_weights": None,
    "label_smoothing": 0.0,
    "rdrop_alpha": 0.0,
    "auxiliary_weight": 0.0,
    "layer_decay": 1.0,
    "analyzer_lr_scale": 1.0,
}
"""Every switch off."""


def without_dropout(node: Any) -> Any:
    """The same sizes with every dropout at 0."""
    if not isinstance(node, dict):
        return node
    return {key: 0.0 if key == "dropout" else without_dropout(value) for key, value in node.items()}


def story_module(*, dropout: bool = False, embedding_dim: int = 16, **changes: Any) -> RedHeartModule:
    """The tiny network on short embeddings, first weights seeded, every switch off unless changed."""
    torch.manual_seed(0)
    sizes = tiny_sizes()
    arguments: dict[str, Any] = {
        "sizes": sizes if dropout else without_dropout(sizes),
        "classes": EMOTIONS,
        "embedding_dim": embedding_dim,
        "encoder": "fabricated",
        "micro_batch": 64,
        "optimizer": ADAMW,
        "scheduler": {"name": "constant"},
        **OFF,
    }
    return RedHeartModule(**(arguments | changes))


class Batches(Dataset):
    """Whole batches, each fabricated from its number."""

    def __init__(self, sizes: list[int], embedding_dim: int = 16) -> None:
        self.batches = [
            fabricated_batch(size, parts=6, embedding_dim=embedding_dim, seed=seed) for seed, size in enumerate(sizes)
        ]

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, number: int) -> dict[str, Any]:
        return self.batches[number]


def train(module: L.LightningModule, sizes: list[int], *callbacks: L.Callback, **settings: Any) -> L.Trainer:
    """Fit on batches of these sizes, one epoch unless told otherwise, on the CPU."""
    loader = DataLoader(Batches(sizes), batch_size=None)
    given = {"max_epochs": 1, "logger": False, "enable_checkpointing": False, "accelerator": "cpu"}
    given |= {"enable_progress_bar": False, "enable_model_summary": False, "num_sanity_val_steps": 0} | settings
    resume = given.pop("ckpt_path", None)
    trainer = L.Trainer(callbacks=list(callbacks), **given)
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", "The '.*_dataloader' does not have many workers|.*LeafSpec.*|.*logging interval"
        )
        trainer.fit(module, loader, loader, ckpt_path=resume)
    return trainer
