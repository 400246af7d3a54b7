"""The LightningModule with slots: a project says what network, loss and metrics are; the steps are written once."""

import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from lightning import LightningModule
from torch import Tensor, nn
from torch.optim import Optimizer

from shared.distributed.sharding import clip_norm, is_cut
from shared.metric_keys import metric_key
from shared.optim import build_optimizer, build_scheduler


class BaseModule(LightningModule):
    """Base of all modules.

    A subclass takes plain values only, calls `save_hyperparameters()`, sets `self.network` and fills `shared_step`.

    Args:
        optimizer: Name and values, see `shared.optim.build_optimizer`.
        scheduler: Name and values, see `shared.optim.build_scheduler`.
    """

    network: nn.Module

    loading_overrides: ClassVar[dict[str, Any]] = {}
    """Arguments that keep `load_run` from fetching first weights that the checkpoint replaces anyway."""

    def __init__(self, *, optimizer: Mapping[str, Any], scheduler: Mapping[str, Any]) -> None:
        super().__init__()
        self.optimizer_config = dict(optimizer)
        self.scheduler_config = dict(scheduler)

    @abstractmethod
    def shared_step(self, batch: dict[str, Tensor], stage: str) -> dict[str, Any]:
        """One forward pass.

        Args:
            batch: See CONTRACTS 'Batch and step'.
            stage: "train", "val", "test" or "predict".

        Returns:
            {"loss", "logits" or "prediction", "target", "sample_index"}, and "baselines" {name: logits} where the pass
            yields them. A network of classes that predicts numbers as well adds "heads" {name: {"prediction": (B, D) in
            [0, 1], "target": (B, D), "mask": (B, D) bool, True where there is a target}}, see `head_names`.
        """

    def module_groups(self) -> dict[str, tuple[str, ...]]:
        """Name -> parameter prefixes; each parameter and buffer belongs to exactly one."""
        return {"network": ("network.",)}

    def absent_groups(self) -> tuple[str, ...]:
        """Module groups that a network of this kind can have and this one, as configured, has not.

        Settings by group, such as callbacks.sweet_spot.deciding, may name them and are then left out.
        """
        return ()

    def findings(self) -> list[str]:
        """Warnings about the configured network and loss, for the report."""
        return []

    def describe(self) -> dict[str, str]:
        """Facts about the network for the report, such as where its first weights came from."""
        count = sum(parameter.numel() for parameter in self.parameters())
        return {"parameters": f"{count:,}"}

    def formula(self) -> str | None:
        """The loss in LaTeX, for the live page; None: nothing to typeset."""
        return None

    def curve_axes(self) -> dict[str, Any] | None:
        """What the outputs of a network that predicts curves mean; None for every other network.

        Returns:
            {"channels": [C names], "axis": {"name", "unit", "values": [L numbers]}}, where a prediction (B, ...) is
            (B, C, L) once its channel dimensions are laid out in one row. Such a module has the hyper-parameter
            `output_shape`: the shape of one prediction as the network gives it.
        """
        return None

    def head_names(self) -> dict[str, tuple[str, ...]]:
        """Head -> names of its D numbers, of every head that the steps return; none for most networks."""
        return {}

    def checks(self, prediction: Tensor) -> dict[str, Tensor]:
        """By how much predictions break what no target can break, such as a law of physics.

        Args:
            prediction: (N, ...) predictions or targets.

        Returns:
            Name of the check -> (N,) excess in the target's unit; 0 or below: kept.
        """
        return {}

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Any]:
        """Loss of one batch; its mean over the epoch is logged as train/loss by the run's own callback."""
        return self.shared_step(batch, "train")

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Any]:
        """Loss and metrics on val."""
        outputs = self.shared_step(batch, "val")
        size = len(outputs["target"])
        self.log(metric_key("val", "loss"), outputs["loss"], batch_size=size, prog_bar=True, sync_dist=True)
        return outputs

    def test_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Any]:
        """Outputs on test; the scores with their intervals are computed from all of them together."""
        return self.shared_step(batch, "test")

    def predict_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Any]:
        """Outputs without logging."""
        return self.shared_step(batch, "predict")

    def configure_optimizers(self) -> Any:
        """Optimiser and schedule by name."""
        optimizer = build_optimizer(self.named_parameters(), self.optimizer_config)
        total_steps = self.trainer.estimated_stepping_batches
        steps_per_epoch = math.ceil(self.trainer.num_training_batches / self.trainer.accumulate_grad_batches)
        schedule = build_scheduler(optimizer, self.scheduler_config, total_steps, steps_per_epoch)
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    def configure_gradient_clipping(
        self, optimizer: Optimizer, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Lightning's; where ranks hold parts of the weights, by the norm over all parts."""
        if not is_cut(self):
            super().configure_gradient_clipping(optimizer, gradient_clip_val, gradient_clip_algorithm)
        elif gradient_clip_val:
            clip_norm(self.parameters(), gradient_clip_val)

    def load_weights(self, state: Mapping[str, Tensor]) -> None:
        """Take the weights of a checkpoint of the same network.

        Raises:
            ValueError: If names or shapes differ.
        """
        own = self.state_dict()
        wrong = [name for name in own if name not in state or state[name].shape != own[name].shape]
        wrong += [name for name in state if name not in own]
        if wrong:
            raise ValueError(f"{len(wrong)} tensors do not fit this network, for example {wrong[0]}")
        with torch.no_grad():
            self.load_state_dict(dict(state))
