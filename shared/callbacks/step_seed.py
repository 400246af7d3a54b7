"""Reseeds all generators before each training batch, so that a resumed run draws the same dropout masks."""

from typing import Any

from lightning import Callback, LightningModule, Trainer

from shared.seeding import derive_seed, seed_all


class StepSeed(Callback):
    """Random state from (seed, epoch, batch); Lightning restores no generator on resume.

    Args:
        seed: Base seed of the run.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Seed by the micro-batch, so that accumulated micro-batches of one step differ as well, and so do ranks."""
        rank = (trainer.global_rank,) if trainer.world_size > 1 else ()
        seed_all(derive_seed(self.seed, trainer.current_epoch, batch_idx, *rank))
