"""Gathers what `test_step` or `predict_step` returns, on the CPU."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer
from numpy.typing import NDArray

from shared.errors import TrainingError


class CollectOutputs(Callback):
    """Keeps logits of the network and of its baselines, targets, domains and sample rows of one pass.

    Works with any module whose step returns {"logits", "target", "sample_index"} and optionally "baselines"
    {name: logits}. The domain is taken from the batch.
    """

    def __init__(self) -> None:
        self._parts: dict[str, list[torch.Tensor]] = {}

    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget an earlier pass."""
        self._parts = {}

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        """Keep this batch."""
        self._keep("target", outputs["target"])
        self._keep("sample_index", outputs["sample_index"])
        self._keep("domain", batch.get("domain", torch.zeros_like(outputs["sample_index"])))
        self._keep("logits/", outputs["logits"])
        for name, logits in outputs.get("baselines", {}).items():
            self._keep(f"logits/{name}", logits)

    def on_predict_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget an earlier pass."""
        self._parts = {}

    def on_predict_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        """Keep this batch."""
        self.on_test_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def _keep(self, key: str, value: torch.Tensor) -> None:
        self._parts.setdefault(key, []).append(value.detach().cpu())

    @property
    def target(self) -> NDArray[np.int64]:
        """Classes, (N,)."""
        return np.asarray(torch.cat(self._parts["target"]).numpy(), dtype=np.int64)

    @property
    def rows(self) -> NDArray[np.int64]:
        """Rows of the sample index, (N,)."""
        return np.asarray(torch.cat(self._parts["sample_index"]).numpy(), dtype=np.int64)

    @property
    def domain(self) -> torch.Tensor:
        """Domain codes, (N,) int64; 0 for all where the batches have none."""
        return torch.cat(self._parts["domain"])

    def logits(self) -> dict[str, torch.Tensor]:
        """Logits (N, C) as float64, under "" for the network and under its name for each baseline.

        Raises:
            TrainingError: If a logit is not finite.
        """
        found = {}
        for key, parts in self._parts.items():
            if not key.startswith("logits/"):
                continue
            name = key.removeprefix("logits/")
            found[name] = torch.cat(parts).double()
            if not torch.isfinite(found[name]).all():
                raise TrainingError(f"the network's {name or 'own'} logits are not finite")
        return found

    def probabilities(self) -> dict[str, NDArray[np.float64]]:
        """Softmax of `logits`."""
        return {name: np.asarray(torch.softmax(logits, dim=1).numpy()) for name, logits in self.logits().items()}


@contextmanager
def collecting(trainer: Trainer) -> Iterator[CollectOutputs]:
    """Gather the outputs of the one pass that the block makes with this trainer."""
    collected = CollectOutputs()
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]  # set by Lightning's connector
    callbacks.append(collected)
    try:
        yield collected
    finally:
        callbacks.remove(collected)
