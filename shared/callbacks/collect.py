"""Gathers what `test_step` or `predict_step` returns, on the CPU."""

from typing import Any

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer
from numpy.typing import NDArray

from shared.errors import TrainingError


class CollectOutputs(Callback):
    """Keeps probabilities of the network and of its baselines, targets and sample rows of one pass.

    Works with any module whose `test_step` returns {"logits", "target", "sample_index"} and optionally
    "baselines" {name: logits}.
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
        self._keep("logits/", outputs["logits"])
        for name, logits in outputs.get("baselines", {}).items():
            self._keep(f"logits/{name}", logits)

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

    def probabilities(self) -> dict[str, NDArray[np.float64]]:
        """Softmax of the logits, (N, C), under "" for the network and under its name for each baseline.

        Raises:
            TrainingError: If a logit is not finite.
        """
        found = {}
        for key, parts in self._parts.items():
            if not key.startswith("logits/"):
                continue
            logits = torch.cat(parts).double()
            if not torch.isfinite(logits).all():
                raise TrainingError(
                    f"the network's {key.removeprefix('logits/') or 'own'} logits are not finite on test"
                )
            found[key.removeprefix("logits/")] = np.asarray(torch.softmax(logits, dim=1).numpy())
        return found
