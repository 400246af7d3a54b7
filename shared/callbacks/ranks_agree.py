"""What the ranks of a fit must have in common, so that all callbacks behind see one and the same fit."""

from typing import Any

from lightning import Callback, LightningModule, Trainer

from shared.distributed.collectives import largest_over_ranks, mean_over_ranks


class OneLoss(Callback):
    """The training loss that callbacks see is that of the whole batch, not of this rank's rows; stands first."""

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Take the mean over the ranks, whose parts of a batch are of one size; all hooks get the same `outputs`."""
        outputs["loss"] = mean_over_ranks(outputs["loss"].detach())


class OneStop(Callback):
    """A fit that a callback of one rank ends is ended on all, at the end of the epoch; stands last."""

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Ask the others."""
        trainer.should_stop = bool(largest_over_ranks([int(trainer.should_stop)])[0])
