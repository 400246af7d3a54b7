"""A dress rehearsal: the whole path on a few batches with learning rate 0, and the proof that no weight has moved."""

from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torch.optim import Optimizer

from shared.errors import TrainingError

EPOCHS = 6
"""As many snapshots as the choice of sweet spots needs, so that it, the crossover and the calibration really run."""
BATCHES = 4

LIMITS = {
    "max_epochs": EPOCHS, "limit_train_batches": BATCHES, "limit_val_batches": BATCHES, "limit_test_batches": BATCHES,
    "limit_predict_batches": BATCHES,
}  # fmt: skip
"""What the trainer is given in place of the configured values."""


class Rehearsal(Callback):
    """Sets every learning rate to 0 before each optimiser step and compares all parameters at the end, bit by bit.

    Buffers, such as the statistics of batch normalisation, do change in a rehearsal.

    Attributes:
        num_parameters: Parameter tensors compared, 0 before the end of the fit.
        num_steps: Optimiser steps done with learning rate 0.
    """

    def __init__(self) -> None:
        self.num_parameters = 0
        self.num_steps = 0
        self._before: dict[str, Tensor] = {}

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep a copy of the parameters."""
        self._before = {name: value.detach().cpu().clone() for name, value in pl_module.named_parameters()}

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer, *arguments: Any
    ) -> None:
        """Learning rate 0, whatever the schedule has just set; decoupled weight decay is 0 with it."""
        for group in optimizer.param_groups:
            group["lr"] = torch.zeros_like(group["lr"]) if isinstance(group["lr"], Tensor) else 0.0
        self.num_steps += 1

    def findings(self) -> list[str]:
        """That this was a rehearsal, and what it has proved, for the report."""
        if self.num_parameters == 0:
            return []
        return [
            f"this was a rehearsal: {self.num_steps} steps with learning rate 0 left all {self.num_parameters} "
            "parameter tensors as they were, bit by bit; its scores are those of the first weights, on parts of the "
            "folds"
        ]

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compare.

        Raises:
            TrainingError: Naming the first parameter that has changed.
        """
        changed = [
            name
            for name, value in pl_module.named_parameters()
            if not torch.equal(value.detach().cpu(), self._before[name])
        ]
        if changed:
            raise TrainingError(
                f"the rehearsal changed {len(changed)} of {len(self._before)} parameters though the learning rate was "
                f"0, the first {changed[0]}: something other than the optimiser writes into the weights"
            )
        self.num_parameters, self._before = len(self._before), {}
