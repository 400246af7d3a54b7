"""Gathers what `test_step` or `predict_step` returns, on the CPU."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer
from numpy.typing import NDArray

from shared.errors import TrainingError

HEAD_PARTS = ("prediction", "target", "mask")


class HeadPass(NamedTuple):
    """What one head said in a pass: D numbers in [0, 1] of each sample.

    Attributes:
        prediction: (N, D).
        target: (N, D), anything where masked.
        mask: (N, D) bool, True where there is a target.
    """

    prediction: NDArray[np.float64]
    target: NDArray[np.float64]
    mask: NDArray[np.bool_]


class CollectOutputs(Callback):
    """Keeps outputs of the network and of its baselines, targets, domains and sample rows of one pass.

    Works with any module whose step returns {"logits" or "prediction", "target", "sample_index"} and optionally
    "baselines" {name: the same} and "heads" {name: {"prediction", "target", "mask"}}, numbers in [0, 1] that it says
    beside the main classes, see `BaseModule.shared_step`. The domain is taken from the batch.

    Attributes:
        seconds: Time spent in the steps, without loading; on an accelerator the kernels still running are waited for.
    """

    def __init__(self) -> None:
        self._parts: dict[str, list[torch.Tensor]] = {}
        self._began = 0.0
        self.seconds = 0.0

    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget an earlier pass."""
        self._parts, self.seconds = {}, 0.0

    def on_test_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Start the clock."""
        self._began = time.perf_counter()

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        """Keep this batch."""
        kind = "logits" if "logits" in outputs else "prediction"
        self._keep(f"{kind}/", outputs[kind])  # copies to the CPU, so the network is done by now
        self.seconds += time.perf_counter() - self._began
        self._keep("target", outputs["target"])
        self._keep("sample_index", outputs["sample_index"])
        self._keep("domain", batch.get("domain", torch.zeros_like(outputs["sample_index"])))
        for name, values in outputs.get("baselines", {}).items():
            self._keep(f"{kind}/{name}", values)
        for name, head in outputs.get("heads", {}).items():
            for part in HEAD_PARTS:
                self._keep(f"head/{name}/{part}", head[part])

    def on_predict_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget an earlier pass."""
        self._parts, self.seconds = {}, 0.0

    def on_predict_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Start the clock."""
        self._began = time.perf_counter()

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
    def is_curves(self) -> bool:
        """Whether the network predicts numbers, not logits of classes."""
        return "prediction/" in self._parts

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Shape of one sample's target."""
        return tuple(self._parts["target"][0].shape[1:])

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
        return self._outputs("logits")

    def curves(self, channels: int) -> tuple[dict[str, NDArray[np.float64]], NDArray[np.float64]]:
        """Predictions (N, C, L) under "" for the network and under its name for each baseline, and the target.

        Args:
            channels: C; all dimensions between the first and the last are laid out in one row.

        Raises:
            TrainingError: If a prediction is not finite.
        """
        target = torch.cat(self._parts["target"]).double()
        predictions = self._outputs("prediction")
        shape = (len(target), channels, -1)
        return {name: values.reshape(shape).numpy() for name, values in predictions.items()}, target.reshape(
            shape
        ).numpy()

    def heads(self) -> dict[str, HeadPass]:
        """What the heads beside the main classes said, by name; empty where there are none.

        Raises:
            TrainingError: If a prediction is not a number in [0, 1], or a head was not in every batch.
        """
        names = dict.fromkeys(key.split("/")[1] for key in self._parts if key.startswith("head/"))
        found = {}
        for name in names:
            parts = {part: torch.cat(self._parts[f"head/{name}/{part}"]) for part in HEAD_PARTS}
            said = parts["prediction"].double()
            if len(said) != len(self.rows):
                raise TrainingError(f"the head {name} spoke of {len(said)} of {len(self.rows)} samples; all are needed")
            if not ((said >= 0.0) & (said <= 1.0)).all():  # NaN is not between them either
                raise TrainingError(f"the head {name} predicts numbers outside of 0 to 1, or none")
            found[name] = HeadPass(said.numpy(), parts["target"].double().numpy(), parts["mask"].bool().numpy())
        return found

    def _outputs(self, kind: str) -> dict[str, torch.Tensor]:
        found = {}
        for key, parts in self._parts.items():
            if not key.startswith(f"{kind}/"):
                continue
            name = key.removeprefix(f"{kind}/")
            found[name] = torch.cat(parts).double()
            if not torch.isfinite(found[name]).all():
                words = "predictions" if kind == "prediction" else kind
                raise TrainingError(f"the network's {name or 'own'} {words} are not finite")
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
