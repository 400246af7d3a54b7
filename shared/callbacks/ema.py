"""An exponential moving average of the weights beside the network: a row of the report, never in the network's place.

Lightning's `WeightAveraging` keeps and updates the average. Four of its habits are not taken over:

* it validates and saves the average instead of the network, also while the average has never been updated (its issue
  21724), so a monitor may choose weights that are still the initial ones. Here the network itself is validated, saved
  and chosen, and `averaged_state` has nothing to give before the first update;
* it puts the average under `state_dict`, so a run resumed without the callback goes on from averaged weights without
  a word. Here `state_dict` stays the network's own, and the average stands beside it under `ema`;
* a constant decay of 0.999 hardly moves in a short run. Here the decay follows the number of steps, and rises from 0.1;
* integer buffers, such as the batch counter of batch normalisation, are averaged. Here the newest is taken;
* the average has the type of the weights. In bfloat16 a thousandth of a difference is rounded away, and the average
  stops where it began. Here that of half-precision weights is kept, blended and saved in float32.
"""

from collections.abc import Mapping
from itertools import chain
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

CHECKPOINT_KEY = "ema"
LONGEST_DECAY = 0.999  # the usual value of runs of many thousand steps
HALF = (torch.bfloat16, torch.float16)
WINDOW_SHARE = 0.1  # of all steps: the average forgets what is older than about this


class EmaWeights(WeightAveraging):
    """Keeps an exponential moving average of all weights and floating-point buffers, updated behind optimiser steps.

    The average of bfloat16 and float16 weights is in float32, twice their memory; others keep their type.

    With n updates done, a weight moves by 1 - d(n) towards the network's, d(n) = min(decay, (1 + n) / (10 + n)).

    Args:
        decay: In [0, 1); None: 1 - 1 / (a tenth of the run's updates), at most 0.999.
        update_every_n_steps: Optimiser steps between updates, at least 1.

    Raises:
        ValueError: If a value is out of its range.

    Source: the warm-up is that of `tf.train.ExponentialMovingAverage` (num_updates).
    """

    def __init__(self, decay: float | None = None, update_every_n_steps: int = 1) -> None:
        if decay is not None and not 0.0 <= decay < 1.0:
            raise ValueError(f"decay is {decay}; it must lie in [0, 1), or be null to follow the number of steps")
        if update_every_n_steps < 1:
            raise ValueError(f"update_every_n_steps is {update_every_n_steps}; at least 1 is needed")
        super().__init__(use_buffers=True, multi_avg_fn=self._blend)
        self.decay = decay
        self.update_every_n_steps = update_every_n_steps
        self._decay = decay

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Make the average, in float32 where the weights are of half precision."""
        super().setup(trainer, pl_module, stage)
        if stage == "fit" and self._average_model is not None:
            for tensor in chain(self._average_model.module.parameters(), self._average_model.module.buffers()):
                if tensor.dtype in HALF:
                    tensor.data = tensor.data.float()

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        """Behind every n-th optimiser step."""
        return step_idx is not None and (step_idx + 1) % self.update_every_n_steps == 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Choose the decay now that the number of steps is known."""
        if self.decay is None:
            updates = float(trainer.estimated_stepping_batches) / self.update_every_n_steps
            self._decay = min(LONGEST_DECAY, 1.0 - 1.0 / max(1.0, WINDOW_SHARE * updates))

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the network in place: what is validated is what is saved and chosen."""

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the network in place."""

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the network in place."""

    @property
    def num_updates(self) -> int:
        """Updates so far."""
        return 0 if self._average_model is None else int(self._average_model.n_averaged)

    def averaged_state(self) -> dict[str, Tensor] | None:
        """The average by the names of the module's own state, or None as long as it was never updated.

        In float32 where the module's weights are of half precision.
        """
        if self._average_model is None or self.num_updates == 0:
            return None
        return dict(self._average_model.module.state_dict())

    def state_dict(self) -> dict[str, Any]:
        """Nothing: Lightning asks for it before `on_save_checkpoint`, when an update may still be to come."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Nothing; see `on_load_checkpoint`."""

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add the average beside the network's own weights.

        A callback that stands before this one may save behind a step whose update is still to come: it is made first.
        """
        if self._average_model is not None:
            self.on_train_batch_end(trainer, pl_module, None, None, 0)  # does nothing where the step was counted before
            average = self._average_model.module.state_dict()
            checkpoint[CHECKPOINT_KEY] = {
                "num_updates": self.num_updates, "latest_update_step": self._latest_update_step, "decay": self._decay,
                "state": average,
            }  # fmt: skip

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Go on with the average of a resumed fit."""
        if self._average_model is None:  # not a fit
            return
        saved = checkpoint.get(CHECKPOINT_KEY)
        if saved is None:
            rank_zero_warn("the checkpoint holds no moving average; it starts anew from the resumed weights")
            self._average_model.module.load_state_dict(checkpoint["state_dict"])
            return
        self._average_model.module.load_state_dict(saved["state"])
        self._average_model.n_averaged.fill_(int(saved["num_updates"]))
        self._latest_update_step = int(saved["latest_update_step"])

    def _blend(self, averaged: list[Tensor], current: list[Tensor], num_averaged: Tensor | int) -> None:
        """Move the average, tensors of one device and type at a time."""
        if not averaged[0].is_floating_point():
            torch._foreach_copy_(averaged, current)
            return
        assert self._decay is not None
        count = int(num_averaged)
        weight = 1.0 - min(self._decay, (1 + count) / (10 + count))
        if all(new.dtype == old.dtype for old, new in zip(averaged, current, strict=True)):
            torch._foreach_lerp_(averaged, current, weight)
            return
        for old, new in zip(averaged, current, strict=True):  # one by one: no float32 copy of the whole network
            old.lerp_(new.to(old.dtype), weight)


def ema_of_checkpoint(content: Mapping[str, Any]) -> dict[str, Tensor] | None:
    """The moving average that a checkpoint holds; None without one, or where it was never updated."""
    saved = content.get(CHECKPOINT_KEY)
    return None if saved is None or saved["num_updates"] == 0 else dict(saved["state"])
