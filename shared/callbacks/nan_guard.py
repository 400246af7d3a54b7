"""Stops a fit whose loss is not finite, before the bad weights reach a checkpoint."""

from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer

from shared.errors import TrainingError
from shared.metric_keys import metric_key


class NanGuard(Callback):
    """Check the training loss after each batch (on a GPU every `gpu_interval` batches, since a check waits for it).

    Args:
        gpu_interval: Batches between checks on a GPU.
    """

    def __init__(self, gpu_interval: int = 20) -> None:
        self.gpu_interval = gpu_interval
        self._sum: torch.Tensor | None = None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Raise on NaN or infinity; a sum of losses stays not finite once one of them was."""
        loss = outputs["loss"].detach()
        self._sum = loss if self._sum is None else self._sum + loss
        if (
            loss.is_cuda
            and (batch_idx + 1) % self.gpu_interval
            and not trainer.fit_loop.epoch_loop.batch_progress.is_last_batch
        ):
            return
        finite, self._sum = bool(torch.isfinite(self._sum)), None
        if not finite:
            rate = trainer.optimizers[0].param_groups[0]["lr"]
            raise TrainingError(
                f"the training loss is not finite at epoch {trainer.current_epoch}, batch {batch_idx} "
                f"(optimizer.lr is {rate:g} there): lower optimizer.lr, set trainer.gradient_clip_val or look for "
                "broken samples; a checkpoint on disk, if there is one, is from before"
            )

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Weights that the epoch's last step broke show here, before the epoch's checkpoint."""
        loss = trainer.callback_metrics.get(metric_key("val", "loss"))
        if loss is not None and not bool(torch.isfinite(loss)):
            raise TrainingError(
                f"the validation loss is not finite at epoch {trainer.current_epoch}: lower optimizer.lr or set "
                "trainer.gradient_clip_val; a checkpoint on disk, if there is one, is from before"
            )
