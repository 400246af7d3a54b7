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
    """A fit that a callback of one rank ends is ended on all, at the same place; stands last.

    Some callbacks are there on rank 0 only, those of a sweep's point for example. Lightning looks at `should_stop`
    behind each of these hooks, and a rank that ends alone leaves the others waiting for it.
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A resumed fit that has been given up does not go on."""
        self._ask(trainer)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A stop before the first batch."""
        self._ask(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """A stop in mid-epoch; one number over the CPU's group, no GPU is waited for."""
        self._ask(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A stop by what was measured there."""
        self._ask(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A stop by the whole epoch."""
        self._ask(trainer)

    def _ask(self, trainer: Trainer) -> None:
        trainer.should_stop = bool(largest_over_ranks([int(trainer.should_stop)])[0])
